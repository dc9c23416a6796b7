//! After the end of a migration: routers forget what they were told when they are reloaded, and then send to a
//! source that stands still. What a migration that is done has switched is read back, and put right while the
//! owner record still says the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Runner;
use super::context::Context;
use super::drive::{routed, weights};
use crate::drivers::Probe;
use crate::fleet::{Phase, Share, WorkloadId};
use crate::migrate::owner::{Owner, owner_key};
use crate::migrate::state::State;
use crate::state::read_stored;

/// The longest that one workload's routers are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A workload whose traffic a migration has switched for good.
pub struct Kept {
    context: Arc<Context>,
    state: Arc<State>,
}

/// What came of looking after one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Keeping {
    /// All routers send as they should, or the workload is not ours to look after now.
    Stands,
    /// They did not, and do again; why not.
    PutRight(String),
    /// They do not, or cannot be asked; which and why.
    Not(String),
}

impl Runner {
    /// The workloads whose traffic the newest migration of each has switched, and that nothing moves now. None
    /// while everything is stopped, or another engine leads.
    pub fn routes(&self) -> Vec<Kept> {
        if self.stopped.is_some() || self.draining || self.context.is_deposed() {
            return Vec::new();
        }
        let mut newest: BTreeMap<&WorkloadId, &Arc<State>> = BTreeMap::new();
        for slot in self.slots.values() {
            let under_way = newest.get(&slot.state.plan.workload).is_some_and(|s| !s.phase.is_end());
            // What ended without a change of the owner says nothing of the traffic.
            if !under_way && (slot.state.switched || !slot.state.phase.is_end()) {
                newest.insert(&slot.state.plan.workload, &slot.state);
            }
        }
        newest
            .into_values()
            .filter(|state| state.phase == Phase::Done && state.plan.routed)
            .map(|state| Kept { context: Arc::clone(&self.context), state: Arc::clone(state) })
            .collect()
    }
}

impl Kept {
    /// The workload.
    pub fn workload(&self) -> &WorkloadId {
        &self.state.plan.workload
    }

    /// Reads back what the routers send, and puts it right where they do not send all of it to the owner.
    pub async fn keep(&self) -> Keeping {
        let looked = tokio::time::timeout(PATIENCE, self.look()).await;
        looked.unwrap_or_else(|_| Keeping::Not("its routers did not answer in time".to_string()))
    }

    async fn look(&self) -> Keeping {
        let plan = &self.state.plan;
        let wanted = weights(plan, Share::MAX);
        let found = match self.context.sent(plan).await {
            None => return Keeping::Stands,
            Some(Ok(found)) => match routed(&found, &wanted) {
                Probe::Applied { .. } => return Keeping::Stands,
                _ => {
                    let shares = found.iter().map(|w| format!("{} to {}", w.share, w.partition));
                    format!("its routers sent {}", shares.collect::<Vec<_>>().join(", "))
                }
            },
            Some(Err(error)) => error.to_string(),
        };
        // Looked at last, so that nothing of a move that has begun since is overwritten.
        if !self.is_ours().await {
            return Keeping::Stands;
        }
        match self.context.send(plan, &wanted).await {
            None | Some(Ok(())) => Keeping::PutRight(found),
            Some(Err(error)) => Keeping::Not(error.to_string()),
        }
    }

    /// Whether the owner is still who the migration made it, and no other works on it.
    async fn is_ours(&self) -> bool {
        let plan = &self.state.plan;
        let Ok(Some(entry)) = self.context.get(&owner_key(&plan.workload)).await else { return false };
        read_stored::<Owner>(&entry.value).is_ok_and(|owner| {
            owner.owner == plan.destination
                && owner.generation == plan.next_generation()
                && owner.migration.is_none()
                && !self.context.is_deposed()
        })
    }
}
