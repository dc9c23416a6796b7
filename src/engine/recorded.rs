//! What a replay of recorded history needs of the engine beside samples and cycles: records of failures
//! as their time comes, the proposals that wait after a cycle, what it held, and which of them count as carried out.

use std::collections::BTreeSet;

use super::core::Core;
use super::failures::Failure;
use crate::fleet::PartitionId;
use crate::plan::{Hold, Proposal, Ranked};
use crate::state::StoreError;

impl Core {
    /// Takes a record of the failure history, from whatever origin; predictions learn of it at once.
    /// Whoever replays hands it over when its time has come, not before.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn learn_failure(&mut self, failure: Failure) -> Result<(), StoreError> {
        let store = self.store.clone();
        self.failures.add(&*store, failure).await.map(|_| ())
    }

    /// These partitions, and no others, count as emptied from the next cycle on: their state goes on as
    /// after an evacuation that worked. Nothing is moved, and what stands where stays.
    pub fn assume_emptied(&mut self, partitions: BTreeSet<PartitionId>) {
        self.assumed = partitions;
    }

    /// What the last cycle would have moved and could not, each with the one reason.
    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }

    /// Partitions over their thresholds in the last cycle.
    pub fn ranking(&self) -> &[Ranked] {
        &self.ranking
    }

    /// The proposals that wait for a decision, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &Proposal> {
        self.book.waiting().map(|entry| &entry.proposal)
    }
}
