//! What lies about in the systems and no running migration knows: found by name alone, so that it is found
//! also where the journal is lost, and taken away only when a person asks for it.

use std::collections::BTreeSet;

use super::Runner;
use crate::drivers::{Answer, Artifact, DriverError};
use crate::migrate::ledger::Ledger;
use crate::migrate::state::Progress;
use crate::state::{Entry, StoreError};

/// What one class of systems holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// The class.
    pub class: String,
    /// Artifacts of ours that no running migration knows; or why nobody can say.
    pub leaks: Result<Vec<Artifact>, DriverError>,
}

/// Whether a running migration made it, or holds it.
fn belongs(artifact: &Artifact, known: &BTreeSet<Artifact>) -> bool {
    known.contains(artifact)
        || artifact.kind == Artifact::FENCE && known.iter().any(|made| made.name == artifact.name)
}

impl Runner {
    /// Everything of ours that no running migration of this journal knows. The record of an artifact is
    /// durable before it exists, so what is in no ledger belongs to nothing that runs here.
    ///
    /// # Errors
    /// Where the store does not answer, or holds a running migration that cannot be read: then nothing
    /// is certain.
    pub async fn leaks(&self) -> Result<Vec<Found>, StoreError> {
        let mut all = Vec::new();
        for (class, leaks) in self.context.scan().await {
            let leaks = match leaks {
                Ok(found) => Ok(self.unknown(found).await?),
                Err(error) => Err(error),
            };
            all.push(Found { class, leaks });
        }
        Ok(all)
    }

    /// Of what was found in the systems, that which no running migration knows. What is running is read
    /// now, after the systems were looked at, so what began in between is known.
    ///
    /// # Errors
    /// As [`Runner::leaks`].
    pub async fn unknown(&self, mut found: Vec<Artifact>) -> Result<Vec<Artifact>, StoreError> {
        let known = self.known().await?;
        found.retain(|artifact| artifact.is_ours() && !belongs(artifact, &known));
        Ok(found)
    }

    /// Takes one of them away. Asked again it goes on.
    ///
    /// # Errors
    /// `Permanent` where it belongs to a running migration or a person has to decide.
    pub async fn reap(&self, class: &str, artifact: &Artifact) -> Result<Answer, DriverError> {
        let refuse = |why: String| {
            let doing = format!("removing {} {}", artifact.kind, artifact.name);
            DriverError::new(crate::drivers::Retry::Permanent, class, doing, why)
        };
        let known = self.known().await.map_err(|e| refuse(e.to_string()))?;
        if belongs(artifact, &known) || !artifact.is_ours() {
            return Err(refuse("it belongs to a migration that runs, or is none of ours".to_string()));
        }
        self.context
            .reap(class, artifact)
            .await
            .unwrap_or_else(|| Err(refuse("no driver of this class is set up".to_string())))
    }

    /// What the ledgers of running migrations name.
    async fn known(&self) -> Result<BTreeSet<Artifact>, StoreError> {
        let mut known = BTreeSet::new();
        for entry in self.context.list("/running/").await? {
            let Some(id) = entry.key.strip_prefix("/running/") else { continue };
            let Some(ledger) = self.ledger(id).await? else {
                return Err(StoreError::Corrupt {
                    place: self.context.place(),
                    key: format!("/migrations/{id}/state"),
                    detail:
                        "expected the state and the ledger of a running migration; its artifacts cannot be \
                             told"
                            .into(),
                });
            };
            known.extend(ledger.lines.iter().map(|l| l.artifact.clone()));
            known.extend(ledger.foreseen.iter().map(|f| f.artifact.clone()));
        }
        Ok(known)
    }

    /// The ledger of a migration as the store has it; `None` where that cannot be read. It is read until
    /// state and ledger were read as of one moment: the ledger does not change without the state.
    async fn ledger(&self, id: &str) -> Result<Option<Ledger>, StoreError> {
        let prefix = format!("/migrations/{id}/");
        let mut state = self.context.get(&format!("{prefix}state")).await?;
        loop {
            let ledger = self.context.get(&format!("{prefix}ledger")).await?;
            let again = self.context.get(&format!("{prefix}state")).await?;
            if state != again {
                state = again;
                continue;
            }
            let read = |state: &Entry| Progress::read(&state.value).ok();
            let Some(mut progress) = state.as_ref().and_then(read) else { return Ok(None) };
            let taken = progress.ledger.take(ledger.as_ref().map(|e| e.value.as_slice()));
            return Ok(taken.is_ok().then_some(progress.ledger));
        }
    }
}
