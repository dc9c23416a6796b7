//! The cleanup ledger: everything that a migration makes in a system is named here, durably, before
//! it exists, and stays until it is known to be gone. The idea is Citus' `pg_dist_cleanup`
//! (`shard_cleaner.c`): after any crash the ledger says what may be lying about.

use std::fmt;
use std::sync::Arc;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::act::Side;
use super::stored;
use crate::drivers::{Artifact, CleanupPolicy};

/// An artifact that an action will make, known before the action is asked for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Foreseen {
    /// Name of the action that makes it.
    pub step: String,
    /// Of which direction.
    pub side: Side,
    /// What.
    pub artifact: Artifact,
    /// When it is to be removed.
    pub policy: CleanupPolicy,
}

/// One line of the ledger.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// What.
    pub artifact: Artifact,
    /// When it is to be removed.
    pub policy: CleanupPolicy,
    /// It is gone.
    pub done: bool,
}

/// The ledger of one migration. It changes seldom, so the store has it under a key of its own, written in
/// the transaction that changes it; the state names how much it holds, so that one that was lost is found.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// All artifacts that an action may make.
    pub foreseen: Arc<Vec<Foreseen>>,
    /// Those that may exist, in the order in which they were made.
    pub lines: Arc<Vec<Line>>,
    /// What a state that was read names, until the ledger itself is read.
    #[serde(skip)]
    named: Option<Holds>,
}

/// How much a ledger holds: artifacts foreseen, lines, and lines whose artifact is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Holds(usize, usize, usize);

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} artifacts foreseen, {} lines, {} of them done", self.0, self.1, self.2)
    }
}

impl Holds {
    /// Artifacts foreseen, lines, and lines whose artifact is gone.
    pub(super) fn counts(self) -> [u64; 3] {
        [self.0, self.1, self.2].map(|n| n as u64)
    }
}

impl Ledger {
    /// One that is to be taken from the store and holds so much ([`Holds::counts`]).
    pub(super) fn named([foreseen, lines, done]: [u64; 3]) -> Self {
        let count = |n| usize::try_from(n).unwrap_or(usize::MAX);
        Self { named: Some(Holds(count(foreseen), count(lines), count(done))), ..Self::default() }
    }

    /// How much it holds.
    pub fn holds(&self) -> Holds {
        Holds(self.foreseen.len(), self.lines.len(), self.lines.iter().filter(|l| l.done).count())
    }

    /// Whether nothing was ever entered or foreseen.
    pub fn is_empty(&self) -> bool {
        self.foreseen.is_empty() && self.lines.is_empty()
    }

    /// Whether it was not changed since it was cloned from `other`. What was changed and changed back counts
    /// as changed.
    pub fn is_still(&self, other: &Ledger) -> bool {
        Arc::ptr_eq(&self.foreseen, &other.foreseen) && Arc::ptr_eq(&self.lines, &other.lines)
            || self.is_empty() && other.is_empty()
    }

    /// The bytes of it that are stored.
    pub fn bytes(&self) -> Vec<u8> {
        stored::ledger_bytes(self)
    }

    /// Takes what is stored under the ledger's own key into the place of what the state named. Tells whether
    /// there was anything: states of earlier versions hold the ledger itself.
    ///
    /// # Errors
    /// In words, where it is not what the state names.
    pub fn take(&mut self, stored: Option<&[u8]>) -> Result<bool, String> {
        let Some(bytes) = stored else {
            return match self.named {
                Some(named) => Err(format!("expected {named}, there is none")),
                None => Ok(false),
            };
        };
        let named = self.named.unwrap_or_else(|| self.holds());
        let ledger = stored::ledger_of(bytes).map_err(|e| e.to_string())?;
        if ledger.holds() != named {
            return Err(format!("expected {named}, got {}", ledger.holds()));
        }
        *self = ledger;
        Ok(true)
    }

    /// Enters what the action `step` of `side` will make; returns what was not there yet.
    pub fn enter(&mut self, step: &str, side: Side) -> Vec<Line> {
        let mut fresh = Vec::new();
        for foreseen in self.foreseen.iter().filter(|f| f.step == step && f.side == side) {
            let at = self.lines.iter().position(|l| l.artifact == foreseen.artifact);
            match at {
                Some(at) if !self.lines[at].done => {}
                Some(at) => {
                    let line = &mut Arc::make_mut(&mut self.lines)[at];
                    line.done = false;
                    fresh.push(line.clone());
                }
                None => {
                    let line =
                        Line { artifact: foreseen.artifact.clone(), policy: foreseen.policy, done: false };
                    Arc::make_mut(&mut self.lines).push(line.clone());
                    fresh.push(line);
                }
            }
        }
        fresh
    }

    /// What is to be removed when the migration is undone: everything, last made first.
    pub fn on_failure(&self) -> Vec<Artifact> {
        self.lines.iter().rev().filter(|l| !l.done).map(|l| l.artifact.clone()).collect()
    }

    /// What is to be removed on success: all but the workload's new home, last made first.
    pub fn on_success(&self) -> Vec<Artifact> {
        self.lines
            .iter()
            .rev()
            .filter(|l| !l.done && l.policy != CleanupPolicy::OnFailure)
            .map(|l| l.artifact.clone())
            .collect()
    }

    /// Notes that an artifact is gone.
    pub fn gone(&mut self, artifact: &Artifact) {
        for line in Arc::make_mut(&mut self.lines).iter_mut().filter(|l| &l.artifact == artifact) {
            line.done = true;
        }
    }
}

/// What the state names of its ledger.
pub(super) fn name<S: Serializer>(ledger: &Ledger, serializer: S) -> Result<S::Ok, S::Error> {
    ledger.holds().serialize(serializer)
}

/// Reads it; of a state of an earlier version the ledger itself.
pub(super) fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ledger, D::Error> {
    struct Either;

    impl<'de> Visitor<'de> for Either {
        type Value = Ledger;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("how much the ledger holds, or the ledger")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Ledger, A::Error> {
            Ok(Ledger::named(Holds::deserialize(SeqAccessDeserializer::new(access))?.counts()))
        }

        fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Ledger, A::Error> {
            Ledger::deserialize(MapAccessDeserializer::new(access))
        }
    }

    deserializer.deserialize_any(Either)
}
