//! Where migrations stand that are being driven through more than one effect: people see them at a fence
//! while it holds, not when it is over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::fleet::MigrationId;
use crate::migrate::state::State;

/// States that the runner has not looked at yet, the newest of each migration.
#[derive(Default)]
pub(super) struct UnderWay {
    states: Mutex<BTreeMap<MigrationId, Arc<State>>>,
    changed: Notify,
}

impl UnderWay {
    /// Shows where a migration stands now.
    pub(super) fn show(&self, state: &Arc<State>) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.insert(state.plan.id, Arc::clone(state));
        drop(states);
        self.changed.notify_one();
    }

    /// Takes what was shown.
    pub(super) fn take(&self) -> BTreeMap<MigrationId, Arc<State>> {
        std::mem::take(&mut *self.states.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what was shown of one; it is back, and newer.
    pub(super) fn forget(&self, migration: MigrationId) {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).remove(&migration);
    }

    /// Waits until something is shown.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}
