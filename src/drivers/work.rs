//! What a driver has under way for each job; a restart of the engine loses it and nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// By the job's key. The lock is never held over a wait: one of the runtime's can be given to a call that
/// nobody polls just then, and everybody else waits for ever.
pub(super) struct Works<W>(Mutex<HashMap<String, W>>);

impl<W> Default for Works<W> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<W: Default> Works<W> {
    fn all(&self) -> MutexGuard<'_, HashMap<String, W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with what is under way for a job.
    pub(super) fn with<T>(&self, key: String, then: impl FnOnce(&mut W) -> T) -> T {
        then(self.all().entry(key).or_default())
    }

    /// Ends what is under way for a job.
    pub(super) fn end(&self, key: &str) {
        self.all().remove(key);
    }
}
