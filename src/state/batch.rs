//! Transactions of the embedded store that share one commit: each is checked against what those before it
//! left, and made or refused as a whole.

use std::collections::HashMap;
use std::path::Path;

use redb::{ReadableTable, Table};

use super::redb::{REVISIONS, encode, entry, split, unavailable};
use super::store::{Change, Compare, Entry, Op, StoreError, Txn, TxnOutcome};
use crate::fleet::Revision;

/// When an entry was made and last changed.
type Revisions = (Revision, Revision);

/// Transactions that share one commit.
pub(super) struct Batch<'a> {
    entries: Table<'a, &'static str, &'static [u8]>,
    /// Keys that a transaction of this batch compared, as they are now: the leader's is compared by every one,
    /// and a state is put by whoever compared it.
    known: HashMap<String, Option<Revisions>>,
    /// The newest revision.
    revision: Revision,
    changes: Vec<Change>,
    place: &'a Path,
}

impl<'a> Batch<'a> {
    /// A batch that begins after `revision`.
    pub(super) fn new(
        entries: Table<'a, &'static str, &'static [u8]>,
        revision: u64,
        place: &'a Path,
    ) -> Self {
        Self { entries, known: HashMap::new(), revision: Revision(revision), changes: Vec::new(), place }
    }

    /// The newest revision and everything that was changed, in order.
    pub(super) fn end(self) -> (u64, Vec<Change>) {
        (self.revision.0, self.changes)
    }

    /// Checks the compares of a transaction and makes its changes.
    pub(super) fn apply(&mut self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        for compare in txn.compares {
            if !self.holds(&compare)? {
                let found = entry(&self.entries, compare.key(), self.place)?;
                return Ok(TxnOutcome::Conflict { compare, found });
            }
        }
        let next = Revision(self.revision.0 + 1);
        let before = self.changes.len();
        for op in txn.ops {
            match op {
                Op::Put(key, value) => self.put(key, value, next)?,
                Op::Delete(key) => self.delete(key, next)?,
            }
        }
        if self.changes.len() > before {
            self.revision = next;
        }
        Ok(TxnOutcome::Committed(self.revision))
    }

    /// Whether a compare holds. A value is read only where it is what is compared.
    fn holds(&mut self, compare: &Compare) -> Result<bool, StoreError> {
        if let Compare::Value(key, _) = compare {
            return Ok(compare.holds(entry(&self.entries, key, self.place)?.as_ref()));
        }
        let found = match self.known.get(compare.key()) {
            Some(known) => *known,
            None => {
                let found = self.read(compare.key())?;
                self.known.insert(compare.key().to_string(), found);
                found
            }
        };
        Ok(compare.holds_of(found.map(|(created, modified)| (created, modified, [].as_slice()))))
    }

    fn read(&self, key: &str) -> Result<Option<Revisions>, StoreError> {
        let found = self.entries.get(key).map_err(|e| unavailable(self.place, e.to_string()))?;
        let revisions = found.map(|bytes| split(key, bytes.value(), self.place).map(|(c, m, _)| (c, m)));
        revisions.transpose()
    }

    fn put(&mut self, key: String, value: Vec<u8>, next: Revision) -> Result<(), StoreError> {
        let mut entry = Entry { key: key.clone(), value, created: next, modified: next };
        match self.known.get_mut(&key) {
            Some(known) => {
                entry.created = known.map_or(next, |(created, _)| created);
                *known = Some((entry.created, next));
                self.write(&entry)?;
            }
            // Most are records, which are new: what was there before is told by the put itself.
            None => {
                let mut bytes = vec![0; REVISIONS + entry.value.len()];
                encode(&entry, &mut bytes);
                let was = self.entries.insert(key.as_str(), bytes.as_slice());
                let was = was.map_err(|e| unavailable(self.place, e.to_string()))?;
                let created =
                    was.map(|was| split(&key, was.value(), self.place).map(|(created, ..)| created));
                if let Some(created) = created.transpose()? {
                    entry.created = created;
                    self.write(&entry)?;
                }
            }
        }
        self.changes.push(Change { key, entry: Some(entry), revision: next });
        Ok(())
    }

    fn write(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let mut room = self
            .entries
            .insert_reserve(entry.key.as_str(), REVISIONS + entry.value.len())
            .map_err(|e| unavailable(self.place, e.to_string()))?;
        encode(entry, room.as_mut());
        Ok(())
    }

    fn delete(&mut self, key: String, next: Revision) -> Result<(), StoreError> {
        let was = self.entries.remove(key.as_str()).map_err(|e| unavailable(self.place, e.to_string()))?;
        if was.is_some() {
            drop(was);
            if let Some(known) = self.known.get_mut(&key) {
                *known = None;
            }
            self.changes.push(Change { key, entry: None, revision: next });
        }
        Ok(())
    }
}
