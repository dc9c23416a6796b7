//! What a replay of recorded history needs of the engine beside samples and cycles: records of failures
//! as their time comes, and the proposals that wait after a cycle.

use super::core::Core;
use super::failures::Failure;
use crate::plan::Proposal;
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

    /// The proposals that wait for a decision, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &Proposal> {
        self.book.waiting().map(|entry| &entry.proposal)
    }
}
