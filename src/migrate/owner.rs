//! The owner record: who owns a workload, at which generation. Every decision after a crash reads
//! it; it changes in one compare-and-set transaction and nowhere else.

use serde::{Deserialize, Serialize};

use crate::fleet::{Generation, MigrationId, PartitionId, WorkloadId};

/// What the owner does with the workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerMode {
    /// Serves it.
    Active,
    /// Serves it while it is being moved.
    Migrating,
}

/// Who owns a workload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Owner {
    /// The owner.
    pub owner: PartitionId,
    /// Grows by one with every change of the owner.
    pub generation: Generation,
    /// What it does with it.
    pub mode: OwnerMode,
    /// The migration that works on it; no other may begin.
    pub migration: Option<MigrationId>,
}

impl Owner {
    /// In words, that the workload's system says that `other` owns it.
    pub fn disputed_by(&self, other: &PartitionId) -> String {
        format!(
            "our record says that {} owns it ({}), its system says {other}: nothing of it is moved until both agree",
            self.owner, self.generation
        )
    }
}

/// The key of a workload's owner record.
pub fn owner_key(workload: &WorkloadId) -> String {
    ["/owners/", workload.as_str()].concat()
}
