//! The cleanup ledger: everything that a migration makes in a system is named here, durably, before
//! it exists, and stays until it is known to be gone. The idea is Citus' `pg_dist_cleanup`
//! (`shard_cleaner.c`): after any crash the ledger says what may be lying about.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::state::Side;
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

/// The ledger of one migration.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// All artifacts that an action may make.
    pub foreseen: Arc<Vec<Foreseen>>,
    /// Those that may exist, in the order in which they were made.
    pub lines: Arc<Vec<Line>>,
}

impl Ledger {
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
