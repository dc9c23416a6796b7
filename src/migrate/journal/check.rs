//! Whether a journal is whole: nothing of it was changed, taken away, added or cut off.

use thiserror::Error;

use super::{Head, Record, RecordHash, SEQ_DIGITS, push_journal};
use crate::fleet::{MigrationId, digits};
use crate::migrate::stored;
use crate::state::Entry;

/// Where a journal is broken.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Broken {
    /// A record is not readable.
    #[error("{key}: expected a journal record, got: {detail}")]
    Unreadable {
        /// Its key.
        key: String,
        /// What is wrong.
        detail: String,
    },
    /// The state, which names the end of the journal, is not readable.
    #[error("{key}: expected the state of a migration, got: {detail}; where its journal ends is not known")]
    State {
        /// Its key.
        key: String,
        /// What is wrong.
        detail: String,
    },
    /// A record is missing or in the wrong place.
    #[error("{key}: expected record {expected} here, got {got}: records were taken away or added")]
    Missing {
        /// The key that was found.
        key: String,
        /// The expected number.
        expected: u64,
        /// The number found.
        got: u64,
    },
    /// A record before this one was changed.
    #[error("{key}: the record before it was changed (its hash is {got}, expected {expected})")]
    Changed {
        /// The key of the record that names the hash.
        key: String,
        /// The hash that it names.
        expected: RecordHash,
        /// The hash of what is there.
        got: RecordHash,
    },
    /// The end is not the one that the state names.
    #[error(
        "{migration}: the journal ends at record {got}, but the state names {expected} records: its end was cut off or changed"
    )]
    End {
        /// The migration.
        migration: MigrationId,
        /// Records that the state names.
        expected: u64,
        /// Records there are.
        got: u64,
    },
}

/// Checks the chain of one migration's records up to `head`, without making the records: what a
/// restart needs. A record begins with its number and the hash of the one before; what follows need not be
/// read, the hash that the next record or the state names vouches for every byte of it.
///
/// # Errors
/// The first place where it is broken.
pub fn check(migration: MigrationId, entries: &[Entry], head: Option<&Head>) -> Result<(), Broken> {
    let mut walk = Walk::new(migration);
    for entry in entries {
        let (seq, prev) = stored::record_front(&entry.value).map_err(|e| unreadable(entry, &e))?;
        walk.step(entry, seq, prev)?;
    }
    walk.end(head)
}

fn unreadable(entry: &Entry, error: &stored::Unreadable) -> Broken {
    Broken::Unreadable { key: entry.key.clone(), detail: error.to_string() }
}

/// Follows a chain.
struct Walk {
    migration: MigrationId,
    seen: Head,
    /// The key that the next record has to have.
    key: String,
    /// The length of what all keys begin with.
    prefix: usize,
}

impl Walk {
    fn new(migration: MigrationId) -> Self {
        let mut key = String::with_capacity(48);
        push_journal(&mut key, migration);
        Self { migration, seen: Head::default(), prefix: key.len(), key }
    }

    fn step(&mut self, entry: &Entry, seq: u64, prev: RecordHash) -> Result<(), Broken> {
        self.key.truncate(self.prefix);
        digits::push_number(&mut self.key, seq, SEQ_DIGITS);
        let Head { next, hash } = self.seen;
        if seq != next || entry.key != self.key {
            return Err(Broken::Missing { key: entry.key.clone(), expected: next, got: seq });
        }
        if prev != hash {
            return Err(Broken::Changed { key: entry.key.clone(), expected: prev, got: hash });
        }
        self.seen = Head { next: next + 1, hash: RecordHash::of(&entry.value) };
        Ok(())
    }

    fn end(self, head: Option<&Head>) -> Result<(), Broken> {
        match head {
            Some(head) if *head != self.seen => {
                Err(Broken::End { migration: self.migration, expected: head.next, got: self.seen.next })
            }
            _ => Ok(()),
        }
    }
}

/// Reads the records of one migration and checks the chain up to `head`.
///
/// # Errors
/// The first place where it is broken.
pub fn verify(migration: MigrationId, entries: &[Entry], head: Option<&Head>) -> Result<Vec<Record>, Broken> {
    let mut walk = Walk::new(migration);
    let mut records = Vec::with_capacity(entries.len());
    for entry in entries {
        let record = Record::read(&entry.value).map_err(|e| unreadable(entry, &e))?;
        walk.step(entry, record.seq, record.prev)?;
        records.push(record);
    }
    walk.end(head).map(|()| records)
}
