//! The audit log: every act that was asked for, also the refused ones, hash-chained in the store so
//! that it cannot be rewritten unseen.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::fleet::Timestamp;
use crate::protocol::AuditView;
use crate::state::{Compare, Op, Store, StoreError, Txn, TxnOutcome};

/// Where the entries stand in the store.
pub const PREFIX: &str = "/audit/";
/// How many of the newest are held for the screens.
const SHOWN: usize = 200;

/// One entry as it is stored.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its number, from 1.
    pub seq: u64,
    /// BLAKE3 of the entry before, in hex; empty for the first.
    pub prev: String,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What was asked.
    pub act: String,
    /// What came of it.
    pub outcome: String,
}

/// The log.
#[derive(Debug, Default)]
pub struct Audit {
    seq: u64,
    last: String,
    recent: VecDeque<AuditView>,
}

impl Audit {
    /// Reads the log from the store.
    ///
    /// # Errors
    /// As every call of the store; [`StoreError::Corrupt`] names the first broken entry.
    pub async fn load(store: &dyn Store) -> Result<Self, StoreError> {
        let mut audit = Self::default();
        for entry in store.list(PREFIX).await? {
            let corrupt =
                |detail: String| StoreError::Corrupt { place: store.place(), key: entry.key.clone(), detail };
            let record: Record = serde_json::from_slice(&entry.value).map_err(|e| corrupt(e.to_string()))?;
            if record.prev != audit.last || record.seq != audit.seq + 1 {
                return Err(corrupt(format!(
                    "entry {} does not follow entry {}: the audit log was changed outside the engine",
                    record.seq, audit.seq
                )));
            }
            audit.take(record, &entry.value);
        }
        Ok(audit)
    }

    /// Appends one entry; durable when it returns.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn append(
        &mut self,
        store: &dyn Store,
        at: Timestamp,
        actor: &str,
        act: String,
        outcome: String,
    ) -> Result<(), StoreError> {
        let record =
            Record { seq: self.seq + 1, prev: self.last.clone(), at, actor: actor.to_string(), act, outcome };
        let key = format!("{PREFIX}{:012}", record.seq);
        let value = serde_json::to_vec(&record).expect("plain data serialises");
        let txn = Txn {
            compares: vec![Compare::Absent(key.clone())],
            ops: vec![Op::Put(key.clone(), value.clone())],
        };
        match store.txn(txn).await? {
            TxnOutcome::Committed(_) => {
                self.take(record, &value);
                Ok(())
            }
            TxnOutcome::Conflict { .. } => Err(StoreError::Unavailable {
                place: store.place(),
                detail: format!("{key} exists already: another engine writes to this store"),
            }),
        }
    }

    /// The newest entries, newest first.
    pub fn recent(&self) -> Vec<AuditView> {
        self.recent.iter().cloned().collect()
    }

    fn take(&mut self, record: Record, value: &[u8]) {
        self.seq = record.seq;
        self.last = blake3::hash(value).to_hex().to_string();
        self.recent.push_front(AuditView {
            at: record.at,
            actor: record.actor,
            act: record.act,
            outcome: record.outcome,
        });
        self.recent.truncate(SHOWN);
    }
}
