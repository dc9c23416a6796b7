//! The failure history: every failure with time, subject, cause and label. The label of what was
//! moved away in time is `mitigated`: nobody knows what would have been, and it is never learnt
//! from as if it had survived.

use crate::fleet::Topology;
use crate::predict::{Outcome, PastFailure, Subject};
pub use crate::protocol::failure::{Failure, Label, Origin};
use crate::state::{Compare, Entry, Op, Store, StoreError, Txn, TxnOutcome};

/// Where the records stand in the store.
pub const PREFIX: &str = "/failures/";

/// The record as predictions take it; what the topology does not know as a partition or a workload is
/// taken for a host.
pub fn as_past(record: &Failure, topology: &Topology) -> PastFailure {
    let name = record.subject.as_str();
    let subject = if topology.partition(&name.into()).is_some() || name.contains('/') {
        Subject::Partition(name.into())
    } else if topology.workload(&name.into()).is_some() {
        Subject::Workload(name.into())
    } else {
        Subject::Host(name.into())
    };
    let outcome = match record.label {
        Label::Failed => Outcome::Failed,
        Label::Survived => Outcome::Survived,
        Label::Mitigated => Outcome::MitigatedUnknown,
    };
    PastFailure { subject, at: record.at, outcome }
}

/// The history.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    records: Vec<Failure>,
}

impl Failures {
    /// Reads the history.
    ///
    /// # Errors
    /// As every call of the store; a record that cannot be read is named by its key.
    pub async fn load(store: &dyn Store) -> Result<Self, StoreError> {
        Self::of_entries(&store.list(PREFIX).await?, &store.place())
    }

    /// The history in these entries of the store at `place`.
    ///
    /// # Errors
    /// A record that cannot be read is named by its key.
    pub fn of_entries(entries: &[Entry], place: &str) -> Result<Self, StoreError> {
        let read = |entry: &Entry| {
            serde_json::from_slice(&entry.value).map_err(|e| StoreError::Corrupt {
                place: place.to_string(),
                key: entry.key.clone(),
                detail: e.to_string(),
            })
        };
        Ok(Self { records: entries.iter().map(read).collect::<Result<_, _>>()? })
    }

    /// All records, oldest number first.
    pub fn records(&self) -> &[Failure] {
        &self.records
    }

    /// Records that name the subject.
    pub fn of<'a>(&'a self, subject: &'a str) -> impl Iterator<Item = &'a Failure> {
        self.records.iter().filter(move |f| f.subject == subject)
    }

    /// Adds a record, numbered by the history.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn add(&mut self, store: &dyn Store, failure: Failure) -> Result<u64, StoreError> {
        self.add_all(store, vec![failure]).await?;
        Ok(self.records.last().map_or(0, |f| f.number))
    }

    /// Adds records in one transaction, numbered by the history: all of them or none.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn add_all(&mut self, store: &dyn Store, mut added: Vec<Failure>) -> Result<(), StoreError> {
        let last = self.records.last().map_or(0, |f| f.number);
        let (mut compares, mut ops) = (Vec::new(), Vec::new());
        for (number, failure) in (last + 1..).zip(&mut added) {
            failure.number = number;
            compares.push(Compare::Absent(key(number)));
            let value = serde_json::to_vec(failure).expect("plain data serialises");
            ops.push(Op::Put(key(number), value));
        }
        match store.txn(Txn { compares, ops }).await? {
            TxnOutcome::Committed(_) => {
                self.records.append(&mut added);
                Ok(())
            }
            TxnOutcome::Conflict { .. } => Err(StoreError::Unavailable {
                place: store.place(),
                detail: format!("{} exists already: another process writes to this store", key(last + 1)),
            }),
        }
    }

    /// Changes the label and, where given, the cause of a record; `false` where there is none of
    /// that number.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn correct(
        &mut self,
        store: &dyn Store,
        number: u64,
        label: Label,
        cause: Option<String>,
    ) -> Result<bool, StoreError> {
        let Some(record) = self.records.iter_mut().find(|f| f.number == number) else {
            return Ok(false);
        };
        let mut changed = record.clone();
        changed.label = label;
        if let Some(cause) = cause {
            changed.cause = cause;
        }
        let value = serde_json::to_vec(&changed).expect("plain data serialises");
        store.txn(Txn { compares: Vec::new(), ops: vec![Op::Put(key(number), value)] }).await?;
        *record = changed;
        Ok(true)
    }
}

fn key(number: u64) -> String {
    format!("{PREFIX}{number:010}")
}
