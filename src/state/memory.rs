//! The store in memory, for simulation and tests: the same rules as the real ones, the same answers
//! for the same calls, and faults where a test asks for them. It keeps nothing when the process
//! ends, so no engine runs on it outside a simulation.

use std::sync::Mutex;

use async_trait::async_trait;

use super::history::History;
use super::shelf::Shelf;
use super::store::{Change, Compare, Entry, Op, Store, StoreError, Txn, TxnOutcome, Watch};
use crate::fleet::Revision;

/// Which call of the store a fault may hit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreCall {
    /// `get`, `list`, `revision` or `watch`.
    Read,
    /// `txn`.
    Transaction,
}

/// A fault of one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreFault {
    /// The call never arrives: `Unavailable`, certainly not done.
    BeforeSend,
    /// The call is lost on the way: `Ambiguous`, not done.
    Lost,
    /// It is done, the answer is lost: `Ambiguous`.
    AnswerLost,
}

/// What a test hangs into a store: decides on faults before each call, sees each durable change.
pub trait StoreHook: Send + Sync {
    /// The fault of the call that comes now, if any.
    fn fault(&self, call: StoreCall) -> Option<StoreFault>;

    /// Changes became durable as one.
    fn committed(&self, changes: &[Change]);
}

/// The store in memory.
#[derive(Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
    hook: Option<Box<dyn StoreHook>>,
}

#[derive(Default)]
struct Inner {
    entries: Shelf,
    revision: u64,
    history: History,
}

impl MemoryStore {
    /// An empty store that never fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store with a hook.
    pub fn with_hook(hook: Box<dyn StoreHook>) -> Self {
        Self { hook: Some(hook), ..Self::default() }
    }

    /// A transaction without faults, for simulations that make millions of them: `seen` is told the
    /// changes and their revision before they are taken in. No watch tells what it changed.
    pub fn commit(&self, txn: Txn, seen: impl FnOnce(&[Op], Revision)) -> TxnOutcome {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(conflict) = inner.conflict(&txn.compares) {
            return conflict;
        }
        let next = Revision(inner.revision + 1);
        seen(&txn.ops, next);
        inner.revision = next.0;
        for op in txn.ops {
            match op {
                Op::Put(key, value) => {
                    inner.entries.put(&key, value, next);
                }
                Op::Delete(key) => {
                    inner.entries.remove(&key);
                }
            }
        }
        TxnOutcome::Committed(next)
    }

    fn fault(&self, call: StoreCall) -> Option<StoreFault> {
        self.hook.as_ref().and_then(|h| h.fault(call))
    }

    fn read<T>(&self, read: impl FnOnce(&mut Inner) -> T) -> Result<T, StoreError> {
        if self.fault(StoreCall::Read).is_some() {
            return Err(StoreError::Unavailable {
                place: self.place(),
                detail: "injected: the read never arrived".to_string(),
            });
        }
        Ok(read(&mut self.inner.lock().unwrap_or_else(|e| e.into_inner())))
    }
}

impl Inner {
    /// The first compare that does not hold.
    fn conflict(&self, compares: &[Compare]) -> Option<TxnOutcome> {
        let compare = compares.iter().find(|compare| !self.entries.holds(compare))?;
        Some(TxnOutcome::Conflict { compare: compare.clone(), found: self.entries.get(compare.key()) })
    }

    fn apply(&mut self, txn: Txn) -> (TxnOutcome, Vec<Change>) {
        if let Some(conflict) = self.conflict(&txn.compares) {
            return (conflict, Vec::new());
        }
        let next = Revision(self.revision + 1);
        let mut changes = Vec::with_capacity(txn.ops.len());
        for op in txn.ops {
            match op {
                Op::Put(key, value) => {
                    let created = self.entries.put(&key, value.clone(), next);
                    let entry = Entry { key: key.clone(), value, created, modified: next };
                    changes.push(Change { key, entry: Some(entry), revision: next });
                }
                Op::Delete(key) => {
                    if self.entries.remove(&key) {
                        changes.push(Change { key, entry: None, revision: next });
                    }
                }
            }
        }
        if !changes.is_empty() {
            self.revision = next.0;
        }
        (TxnOutcome::Committed(Revision(self.revision)), changes)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn place(&self) -> String {
        "memory".to_string()
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.read(|inner| Revision(inner.revision))
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.read(|inner| inner.entries.get(key))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.read(|inner| inner.entries.list(prefix))
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        let fault = self.fault(StoreCall::Transaction);
        let ambiguous = || StoreError::Ambiguous {
            place: "memory".to_string(),
            detail: "injected: the answer never came".to_string(),
        };
        match fault {
            Some(StoreFault::BeforeSend) => {
                return Err(StoreError::Unavailable {
                    place: self.place(),
                    detail: "injected: the call never arrived".to_string(),
                });
            }
            Some(StoreFault::Lost) => return Err(ambiguous()),
            Some(StoreFault::AnswerLost) | None => {}
        }
        let outcome = {
            let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
            let (outcome, changes) = inner.apply(txn);
            if let Some(hook) = self.hook.as_ref().filter(|_| !changes.is_empty()) {
                hook.committed(&changes);
            }
            for change in changes {
                inner.history.push(change);
            }
            outcome
        };
        if fault.is_some() { Err(ambiguous()) } else { Ok(outcome) }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StoreError> {
        let place = self.place();
        self.read(|inner| inner.history.watch(prefix, after))?
            .map_err(|detail| StoreError::Unavailable { place, detail })
    }
}
