//! The port to the engine's durable state: a small, revisioned key-value store, in the manner of
//! etcd v3. Every key has the revision that last changed it; a transaction compares and puts as
//! one; a watch tells every change once and in order.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::fleet::Revision;

/// A key with its value, as it was at one revision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The key; `/`-separated text: `/migrations/M-12/journal/00000003`.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision that made the key.
    pub created: Revision,
    /// The revision that last changed it.
    pub modified: Revision,
}

/// A condition of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Compare {
    /// The key does not exist.
    Absent(String),
    /// The key was last changed at that revision.
    Modified(String, Revision),
    /// The key was made at that revision (leadership: the fencing revision).
    Created(String, Revision),
    /// The key has that value.
    Value(String, Vec<u8>),
}

impl Compare {
    /// The key it looks at.
    pub fn key(&self) -> &str {
        match self {
            Compare::Absent(key)
            | Compare::Modified(key, _)
            | Compare::Created(key, _)
            | Compare::Value(key, _) => key,
        }
    }

    /// Whether it holds for the entry of its key.
    pub fn holds(&self, found: Option<&Entry>) -> bool {
        self.holds_of(found.map(|entry| (entry.created, entry.modified, entry.value.as_slice())))
    }

    /// The same for what an entry holds: when it was made and last changed, and its value.
    pub(super) fn holds_of(&self, found: Option<(Revision, Revision, &[u8])>) -> bool {
        match (self, found) {
            (Compare::Absent(_), found) => found.is_none(),
            (Compare::Modified(_, revision), Some((_, modified, _))) => modified == *revision,
            (Compare::Created(_, revision), Some((created, ..))) => created == *revision,
            (Compare::Value(_, value), Some((.., found))) => found == value,
            (_, None) => false,
        }
    }
}

/// A change that a transaction makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Sets a key.
    Put(String, Vec<u8>),
    /// Removes a key; removing a key that is not there changes nothing.
    Delete(String),
}

/// Compares and changes that happen as one or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// What is done then, in order; the later of two puts of one key wins.
    pub ops: Vec<Op>,
}

/// What became of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TxnOutcome {
    /// All compares held; durable at this revision.
    Committed(Revision),
    /// The first compare that did not hold, with the entry as it is.
    Conflict {
        /// Which compare.
        compare: Compare,
        /// The entry it looked at; `None` where there is none.
        found: Option<Entry>,
    },
}

/// One change as a watch tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The entry now; `None` = removed.
    pub entry: Option<Entry>,
    /// The revision of the change.
    pub revision: Revision,
}

/// A running watch. Dropping it ends it. Bounded: a watcher that falls more than 4,096 changes
/// behind is closed, and must list and watch anew from the revision it saw last.
#[derive(Debug)]
pub struct Watch {
    /// The changes, in order, each once.
    pub changes: mpsc::Receiver<Change>,
}

/// Why the store could not do it.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// It does not answer or its disk refused; certainly not done.
    #[error("the store at {place} cannot be used: {detail}")]
    Unavailable {
        /// File or address.
        place: String,
        /// What it said.
        detail: String,
    },
    /// Nobody knows whether it was done: read before anything else.
    #[error("the store at {place} did not say whether it was done: {detail}")]
    Ambiguous {
        /// File or address.
        place: String,
        /// What it said.
        detail: String,
    },
    /// What is in it cannot be understood.
    #[error("the store at {place} holds something broken at key {key}: {detail}")]
    Corrupt {
        /// File or address.
        place: String,
        /// The key.
        key: String,
        /// Expected and got.
        detail: String,
    },
}

/// The port.
#[async_trait]
pub trait Store: Send + Sync {
    /// File or address, without secrets.
    fn place(&self) -> String;

    /// The newest revision.
    ///
    /// # Errors
    /// As every call of the store.
    async fn revision(&self) -> Result<Revision, StoreError>;

    /// The entry of a key.
    ///
    /// # Errors
    /// As every call of the store.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// All entries whose keys begin with `prefix`, sorted by key, as of one revision.
    ///
    /// # Errors
    /// As every call of the store.
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError>;

    /// Compares and changes as one; durable (on disk) before it answers `Committed`.
    ///
    /// # Errors
    /// `Ambiguous` where nobody knows whether it was done.
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError>;

    /// Every change of keys that begin with `prefix`, from the one after `after` on.
    ///
    /// # Errors
    /// As every call of the store; also where `after` is older than the history that is kept.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StoreError>;
}
