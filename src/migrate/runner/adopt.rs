//! Follows a system whose owner changed without us (its own failover, a person's hand): the record says
//! so one generation later. Without that, every plan for the workload would be stale for ever.

use super::Runner;
use super::drive::json;
use crate::fleet::{Epoch, Generation, HostId, PartitionId, Timestamp, WorkloadId};
use crate::migrate::owner::{Owner, OwnerMode, owner_key};
use crate::state::{Compare, Op, StoreError, TxnOutcome, claims, read_stored};

impl Runner {
    /// The epoch under which it acts.
    pub fn epoch(&self) -> Epoch {
        self.context.epoch
    }

    /// Records that `to` on `host` owns the workload, and the claim with it, where the record still is `seen`
    /// and no migration holds it. The new generation, or `None` where the record is another by now. A system
    /// may have changed the owner more than once meanwhile: where it counts further (`at_least`), so does the
    /// record, or the next move would ask for a generation that the system has had already.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn adopt(
        &self,
        workload: &WorkloadId,
        seen: &Owner,
        to: (&PartitionId, &HostId),
        at_least: Generation,
        now: Timestamp,
    ) -> Result<Option<Generation>, StoreError> {
        let (to, host) = to;
        let context = &self.context;
        let key = owner_key(workload);
        let Some(entry) = context.get(&key).await? else { return Ok(None) };
        let stands = read_stored::<Owner>(&entry.value).is_ok_and(|owner| owner == *seen);
        if !stands || seen.migration.is_some() {
            return Ok(None);
        }
        let generation = Generation(seen.generation.0 + 1).max(at_least);
        let owner = Owner { owner: to.clone(), generation, mode: OwnerMode::Active, migration: None };
        let claim = context.get(&claims::claim_key(workload)).await?;
        let (claimed, claim) = claims::transfer_within(workload, claim.as_ref(), host, generation, now);
        let compares = [Compare::Modified(key.clone(), entry.modified), claimed];
        match context.set(compares, vec![Op::Put(key, json(&owner)), claim]).await? {
            TxnOutcome::Committed(_) => Ok(Some(generation)),
            TxnOutcome::Conflict { .. } => Ok(None),
        }
    }
}
