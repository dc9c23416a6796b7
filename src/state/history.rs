//! The newest changes of a store, kept in memory, and those who watch them. Both adapters that run
//! in this process use it: a watch first gets what it missed, then every change, each once and in
//! order.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::store::{Change, Watch};
use crate::fleet::Revision;

/// How far a watcher may fall behind before its watch is closed.
pub const WATCH_CAPACITY: usize = 4096;
/// How many changes are kept for watches that begin in the past.
pub const HISTORY_CAPACITY: usize = 16_384;

/// The newest changes and the running watches of one store.
#[derive(Debug, Default)]
pub(super) struct History {
    changes: VecDeque<Change>,
    /// Every change after this revision is in `changes`.
    complete_after: Revision,
    watchers: Vec<(String, mpsc::Sender<Change>)>,
}

impl History {
    /// A history that begins after `revision`.
    pub(super) fn after(revision: Revision) -> Self {
        Self { complete_after: revision, ..Self::default() }
    }

    /// Keeps a change and tells the watchers; one that is too far behind is closed.
    pub(super) fn push(&mut self, change: Change) {
        self.watchers.retain(|(prefix, sender)| {
            if change.key.starts_with(prefix.as_str()) {
                sender.try_send(change.clone()).is_ok()
            } else {
                !sender.is_closed()
            }
        });
        self.changes.push_back(change);
        while self.changes.len() > HISTORY_CAPACITY {
            if let Some(dropped) = self.changes.pop_front() {
                self.complete_after = self.complete_after.max(dropped.revision);
            }
        }
    }

    /// A watch of `prefix` from the change after `after` on.
    ///
    /// # Errors
    /// In words, where the history does not reach back that far or too much was missed.
    pub(super) fn watch(&mut self, prefix: &str, after: Revision) -> Result<Watch, String> {
        if after < self.complete_after {
            return Err(format!(
                "changes after {after} were asked for, but only those after {} are kept: list the keys \
                 and watch from the newest revision",
                self.complete_after
            ));
        }
        let (sender, changes) = mpsc::channel(WATCH_CAPACITY);
        for change in self.changes.iter().filter(|c| c.revision > after && c.key.starts_with(prefix)) {
            if sender.try_send(change.clone()).is_err() {
                return Err(format!(
                    "more than {WATCH_CAPACITY} changes were missed since {after}: list the keys and watch \
                     from the newest revision"
                ));
            }
        }
        self.watchers.push((prefix.to_string(), sender));
        Ok(Watch { changes })
    }
}
