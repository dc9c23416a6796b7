//! Leadership: who may act. The leader's key lives in the store; its created revision is the epoch,
//! which only grows. Every transaction of a leader compares it, so a deposed leader changes nothing
//! even if it does not know yet.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::store::{Compare, Op, Store, StoreError, Txn, TxnOutcome};
use crate::fleet::{Epoch, Revision};

/// The key that holds the leader's name.
pub const LEADER_KEY: &str = "/leader";

/// Who leads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Leader {
    /// Its name.
    pub name: String,
    /// Its fencing revision.
    pub epoch: Epoch,
}

/// The compare that every transaction of the leader of `epoch` carries.
pub fn guard(epoch: Epoch) -> Compare {
    Compare::Created(LEADER_KEY.to_string(), Revision(epoch.0))
}

/// The port.
#[async_trait]
pub trait Leadership: Send + Sync {
    /// Becomes the leader and yields the new epoch, greater than every one before.
    ///
    /// # Errors
    /// As every call of the store; after `Ambiguous` campaign again, the epoch grows anyway.
    async fn campaign(&self, name: &str) -> Result<Epoch, StoreError>;

    /// Gives leadership up, if `epoch` still has it; otherwise nothing happens.
    ///
    /// # Errors
    /// As every call of the store.
    async fn resign(&self, epoch: Epoch) -> Result<(), StoreError>;

    /// Who leads now.
    ///
    /// # Errors
    /// As every call of the store.
    async fn leader(&self) -> Result<Option<Leader>, StoreError>;
}

/// Leadership where one process owns the store (the embedded file, which it has locked): whoever
/// starts takes over, and the epoch grows with each start.
pub struct Single {
    store: Arc<dyn Store>,
}

impl Single {
    /// Leadership over `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Leadership for Single {
    async fn campaign(&self, name: &str) -> Result<Epoch, StoreError> {
        let txn = Txn {
            compares: Vec::new(),
            ops: vec![
                Op::Delete(LEADER_KEY.to_string()),
                Op::Put(LEADER_KEY.to_string(), name.as_bytes().to_vec()),
            ],
        };
        match self.store.txn(txn).await? {
            TxnOutcome::Committed(revision) => Ok(Epoch(revision.0)),
            TxnOutcome::Conflict { compare, .. } => Err(StoreError::Corrupt {
                place: self.store.place(),
                key: LEADER_KEY.to_string(),
                detail: format!("a transaction without compares was refused over {compare:?}"),
            }),
        }
    }

    async fn resign(&self, epoch: Epoch) -> Result<(), StoreError> {
        let txn = Txn { compares: vec![guard(epoch)], ops: vec![Op::Delete(LEADER_KEY.to_string())] };
        self.store.txn(txn).await.map(|_| ())
    }

    async fn leader(&self) -> Result<Option<Leader>, StoreError> {
        Ok(self.store.get(LEADER_KEY).await?.map(|entry| Leader {
            name: String::from_utf8_lossy(&entry.value).into_owned(),
            epoch: Epoch(entry.created.0),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::memory::MemoryStore;

    #[tokio::test]
    async fn a_deposed_leader_changes_nothing() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let leadership = Single::new(Arc::clone(&store));
        let old = leadership.campaign("one").await.unwrap();
        let new = leadership.campaign("two").await.unwrap();
        assert!(new > old);
        let put = |epoch| Txn {
            compares: vec![guard(epoch)],
            ops: vec![Op::Put("/k".to_string(), epoch.to_string().into_bytes())],
        };
        assert!(matches!(store.txn(put(old)).await.unwrap(), TxnOutcome::Conflict { .. }));
        assert!(matches!(store.txn(put(new)).await.unwrap(), TxnOutcome::Committed(_)));
        leadership.resign(old).await.unwrap();
        assert_eq!(leadership.leader().await.unwrap().map(|l| l.name), Some("two".to_string()));
        leadership.resign(new).await.unwrap();
        assert_eq!(leadership.leader().await.unwrap(), None);
    }
}
