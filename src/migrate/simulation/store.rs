//! The store as one incarnation of the engine sees it: every call may be hit by a fault, and a dead
//! incarnation's calls do nothing any more. What is committed is shown to the checks at once.

use std::sync::Arc;

use async_trait::async_trait;

use super::checks::{Seen, migration_of};
use super::faults::Point;
use super::outside::{Hands, Outside};
use crate::fleet::{Epoch, Revision, WorkloadId};
use crate::migrate::journal::Record;
use crate::state::{Entry, MemoryStore, Op, Store, StoreError, Txn, TxnOutcome, Watch};

/// The store as one incarnation sees it.
pub(super) struct SimStore {
    pub(super) inner: Arc<MemoryStore>,
    pub(super) hands: Hands,
}

impl SimStore {
    fn unavailable(&self) -> StoreError {
        StoreError::Unavailable { place: "simulated".to_string(), detail: "injected".to_string() }
    }

    fn ambiguous(&self) -> StoreError {
        StoreError::Ambiguous { place: "simulated".to_string(), detail: "injected".to_string() }
    }

    fn may_read(&self) -> Result<(), StoreError> {
        let mut outside = self.hands.lock();
        match self.hands.is_dead(&outside) || outside.faults.read_fails() {
            true => Err(self.unavailable()),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Store for SimStore {
    fn place(&self) -> String {
        "simulated".to_string()
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.may_read()?;
        self.inner.revision().await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.may_read()?;
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.may_read()?;
        self.inner.list(prefix).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        let migration = txn.ops.iter().find_map(|op| match op {
            Op::Put(key, _) => migration_of(key).map(|(id, _)| id),
            Op::Delete(_) => None,
        });
        let point = {
            let mut outside = self.hands.lock();
            if self.hands.is_dead(&outside) {
                return Err(self.unavailable());
            }
            let point = outside.hit(&Point::STORE, migration, "a commit");
            match point {
                Some(Point::StoreBeforeSend) => return Err(self.unavailable()),
                Some(Point::StoreAfterSend) => return Err(self.ambiguous()),
                Some(Point::StoreDeathBefore) => {
                    outside.dead[self.hands.incarnation] = true;
                    return Err(self.ambiguous());
                }
                point => point,
            }
        };
        let mut outside = self.hands.lock();
        let outcome = self.inner.commit(txn, |ops, revision| {
            committed(&mut outside, ops, self.hands.incarnation, revision);
        });
        match point {
            Some(Point::StoreBeforeAnswer) => Err(self.ambiguous()),
            Some(Point::StoreDeathAfter) => {
                outside.dead[self.hands.incarnation] = true;
                Err(self.ambiguous())
            }
            _ => Ok(outcome),
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StoreError> {
        self.inner.watch(prefix, after).await
    }
}

fn committed(outside: &mut Outside, ops: &[Op], incarnation: usize, revision: Revision) {
    outside.commits += 1;
    let leads = ops.iter().any(|op| matches!(op, Op::Put(key, _) if key == "/leader"));
    if leads {
        outside.checks.lead(Epoch(revision.0));
        outside.epochs[incarnation] = Epoch(revision.0);
        outside.say(|| format!("engine {incarnation} leads with e{}", revision.0));
        return;
    }
    if outside.trace.is_some() {
        for op in ops {
            if let Op::Put(key, value) = op
                && key.contains("/journal/")
                && let Ok(record) = Record::read(value)
            {
                outside.say(|| format!("{} [{}] {:?}", record.migration, record.phase.word(), record.note));
            }
        }
    }
    let epoch = outside.epochs[incarnation];
    let Outside { checks, unknown, failing, limits, topology, system, .. } = outside;
    checks.committed(ops, epoch, &Seen { unknown, failing, limits, topology, system });
    for op in ops {
        if let Op::Put(key, _) = op
            && let Some(workload) = key.strip_prefix("/owners/")
        {
            let id = WorkloadId::from(workload);
            if let Some(owner) = checks.owners.get(&id)
                && let Ok(i) = topology.workloads.binary_search_by(|w| w.id.cmp(&id))
            {
                let workload = &mut topology.workloads[i];
                if workload.partition != owner.owner || workload.generation != owner.generation {
                    workload.partition = owner.owner.clone();
                    workload.generation = owner.generation;
                    outside.topology_changed = true;
                }
            }
        }
    }
}
