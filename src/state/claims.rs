//! The permission store: which host may run which workload. One holder per workload per generation;
//! every change is a compare-and-set on the workload's one key, so at no revision do two hosts hold
//! a claim. A new grant goes to the requesting host with the lowest failure risk.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::store::{Compare, Entry, Op, Store, StoreError, Txn, TxnOutcome};
use super::stored::read_stored;
use crate::fleet::{Generation, HostId, Probability, Timestamp, WorkloadId};

/// How often a compare-and-set is tried again when somebody else was faster.
const TRIES: usize = 8;

/// What is recorded for one workload.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Claim {
    /// The host that may run it; `None` = nobody now.
    pub holder: Option<HostId>,
    /// Grows with every new holder.
    pub generation: Generation,
    /// Held since.
    pub since: Timestamp,
    /// Renewed at.
    pub renewed: Timestamp,
    /// Hosts that ask for it, in the order in which they asked.
    pub requests: Vec<Request>,
}

/// A host asks for a workload.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Who.
    pub host: HostId,
    /// Since.
    pub at: Timestamp,
}

/// What is recorded for one host.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HostEntry {
    /// The host.
    pub host: HostId,
    /// Failure Risk Score; `None` = unknown, which counts as the highest.
    pub risk: Option<Probability>,
    /// Where its work should go, if it has to.
    pub preferred_target: Option<HostId>,
    /// As of.
    pub at: Timestamp,
}

/// Why a claim was not changed.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// Another host holds it.
    #[error(
        "{workload} is held by {holder} since generation {generation}; it must release or transfer it first"
    )]
    Held {
        /// The workload.
        workload: WorkloadId,
        /// Who holds it.
        holder: HostId,
        /// Since which generation.
        generation: Generation,
    },
    /// The one who asks does not hold it.
    #[error("{host} does not hold {workload}: nothing was changed")]
    NotHeld {
        /// The workload.
        workload: WorkloadId,
        /// Who asked.
        host: HostId,
    },
    /// Nobody asks for it.
    #[error("nobody asks for {workload}: a host must request it first")]
    NoRequest {
        /// The workload.
        workload: WorkloadId,
    },
    /// Others were faster each time.
    #[error("the claim of {workload} changed {TRIES} times while it was being changed: try again")]
    Contended {
        /// The workload.
        workload: WorkloadId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The key of a workload's claim.
pub fn claim_key(workload: &WorkloadId) -> String {
    ["/claims/", workload.as_str()].concat()
}

/// The key of a host's entry.
pub fn host_key(host: &HostId) -> String {
    ["/hosts/", host.as_str()].concat()
}

/// The claims over a store. `guard` is the leader's compare; it goes into every transaction.
pub struct Claims {
    store: Arc<dyn Store>,
    guard: Option<Compare>,
}

impl Claims {
    /// Claims over `store`, each change under `guard`.
    pub fn new(store: Arc<dyn Store>, guard: Option<Compare>) -> Self {
        Self { store, guard }
    }

    /// The claim of a workload with the entry it was read from.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn get(&self, workload: &WorkloadId) -> Result<(Claim, Option<Entry>), StoreError> {
        let entry = self.store.get(&claim_key(workload)).await?;
        Ok((read_claim(entry.as_ref(), &self.store.place())?, entry))
    }

    /// `host` asks for a workload; asking twice is asking once.
    ///
    /// # Errors
    /// As every change of a claim.
    pub async fn request(
        &self,
        workload: &WorkloadId,
        host: &HostId,
        now: Timestamp,
    ) -> Result<(), ClaimError> {
        self.change(workload, |claim| {
            if !claim.requests.iter().any(|r| &r.host == host) {
                claim.requests.push(Request { host: host.clone(), at: now });
            }
            Ok(())
        })
        .await
        .map(|_| ())
    }

    /// Grants a free workload to the host with the lowest failure risk of those that ask; of equal
    /// risk to who asked first.
    ///
    /// # Errors
    /// `Held` where somebody has it, `NoRequest` where nobody asks.
    pub async fn grant(&self, workload: &WorkloadId, now: Timestamp) -> Result<HostId, ClaimError> {
        let risks: Vec<HostEntry> = self.hosts().await?;
        let claim = self
            .change(workload, |claim| {
                if let Some(holder) = &claim.holder {
                    return Err(held(workload, holder, claim.generation));
                }
                let best = claim
                    .requests
                    .iter()
                    .min_by(|a, b| risk_of(&risks, &a.host).total_cmp(&risk_of(&risks, &b.host)))
                    .ok_or_else(|| ClaimError::NoRequest { workload: workload.clone() })?
                    .host
                    .clone();
                *claim = granted(claim, best, Generation(claim.generation.0 + 1), now);
                Ok(())
            })
            .await?;
        claim.holder.ok_or_else(|| ClaimError::NoRequest { workload: workload.clone() })
    }

    /// The holder says that it still holds it.
    ///
    /// # Errors
    /// `NotHeld` where `host` does not hold it.
    pub async fn renew(
        &self,
        workload: &WorkloadId,
        host: &HostId,
        now: Timestamp,
    ) -> Result<(), ClaimError> {
        self.change(workload, |claim| {
            held_by(workload, claim, host)?;
            claim.renewed = now;
            Ok(())
        })
        .await
        .map(|_| ())
    }

    /// The holder gives it up.
    ///
    /// # Errors
    /// `NotHeld` where `host` does not hold it.
    pub async fn release(&self, workload: &WorkloadId, host: &HostId) -> Result<(), ClaimError> {
        self.change(workload, |claim| {
            held_by(workload, claim, host)?;
            claim.holder = None;
            Ok(())
        })
        .await
        .map(|_| ())
    }

    /// The holder hands it to another host at the next generation.
    ///
    /// # Errors
    /// `NotHeld` where `from` does not hold it.
    pub async fn transfer(
        &self,
        workload: &WorkloadId,
        from: &HostId,
        to: &HostId,
        now: Timestamp,
    ) -> Result<Generation, ClaimError> {
        let claim = self
            .change(workload, |claim| {
                held_by(workload, claim, from)?;
                *claim = granted(claim, to.clone(), Generation(claim.generation.0 + 1), now);
                Ok(())
            })
            .await?;
        Ok(claim.generation)
    }

    /// Writes hosts' entries (risk and preferred target), all as one.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn record_hosts(&self, entries: &[HostEntry]) -> Result<(), StoreError> {
        let ops = entries.iter().map(|e| Op::Put(host_key(&e.host), json(e))).collect();
        self.store.txn(Txn { compares: self.guard.iter().cloned().collect(), ops }).await.map(|_| ())
    }

    /// The entries of all hosts, sorted by name.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn hosts(&self) -> Result<Vec<HostEntry>, StoreError> {
        let place = self.store.place();
        self.store.list("/hosts/").await?.iter().map(|entry| parse(entry, &place)).collect()
    }

    async fn change(
        &self,
        workload: &WorkloadId,
        change: impl Fn(&mut Claim) -> Result<(), ClaimError>,
    ) -> Result<Claim, ClaimError> {
        for _ in 0..TRIES {
            let (mut claim, entry) = self.get(workload).await?;
            let before = claim.clone();
            change(&mut claim)?;
            if claim == before {
                return Ok(claim);
            }
            let key = claim_key(workload);
            let mut compares: Vec<Compare> = self.guard.iter().cloned().collect();
            compares.push(match &entry {
                Some(entry) => Compare::Modified(key.clone(), entry.modified),
                None => Compare::Absent(key.clone()),
            });
            let txn = Txn { compares, ops: vec![Op::Put(key.clone(), json(&claim))] };
            match self.store.txn(txn).await? {
                TxnOutcome::Committed(_) => return Ok(claim),
                TxnOutcome::Conflict { compare, .. } if compare.key() == key => {}
                TxnOutcome::Conflict { .. } => {
                    return Err(StoreError::Unavailable {
                        place: self.store.place(),
                        detail: "this engine no longer leads; nothing was changed".to_string(),
                    }
                    .into());
                }
            }
        }
        Err(ClaimError::Contended { workload: workload.clone() })
    }
}

/// The compare and the put that move a claim to `to` at `generation`, to be part of a greater
/// transaction (the change of ownership). `entry` is the claim as it was read.
pub fn transfer_within(
    workload: &WorkloadId,
    entry: Option<&Entry>,
    to: &HostId,
    generation: Generation,
    now: Timestamp,
) -> (Compare, Op) {
    let key = claim_key(workload);
    let before = entry.and_then(|e| read_stored::<Claim>(&e.value).ok()).unwrap_or_default();
    let compare = match entry {
        Some(entry) => Compare::Modified(key.clone(), entry.modified),
        None => Compare::Absent(key.clone()),
    };
    (compare, Op::Put(key, json(&granted(&before, to.clone(), generation, now))))
}

fn granted(before: &Claim, to: HostId, generation: Generation, now: Timestamp) -> Claim {
    let mut requests = before.requests.clone();
    requests.retain(|r| r.host != to);
    Claim { holder: Some(to), generation, since: now, renewed: now, requests }
}

fn held(workload: &WorkloadId, holder: &HostId, generation: Generation) -> ClaimError {
    ClaimError::Held { workload: workload.clone(), holder: holder.clone(), generation }
}

fn held_by(workload: &WorkloadId, claim: &Claim, host: &HostId) -> Result<(), ClaimError> {
    if claim.holder.as_ref() == Some(host) {
        Ok(())
    } else {
        Err(ClaimError::NotHeld { workload: workload.clone(), host: host.clone() })
    }
}

/// Unknown risk counts as certain failure: new grants go elsewhere.
fn risk_of(hosts: &[HostEntry], host: &HostId) -> f64 {
    hosts.iter().find(|e| &e.host == host).and_then(|e| e.risk).map_or(1.0, Probability::get)
}

fn read_claim(entry: Option<&Entry>, place: &str) -> Result<Claim, StoreError> {
    entry.map_or_else(|| Ok(Claim::default()), |entry| parse(entry, place))
}

fn parse<T: serde::de::DeserializeOwned>(entry: &Entry, place: &str) -> Result<T, StoreError> {
    read_stored(&entry.value).map_err(|e| StoreError::Corrupt {
        place: place.to_string(),
        key: entry.key.clone(),
        detail: e.to_string(),
    })
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data serialises")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::memory::MemoryStore;

    fn entry(host: &str, risk: f64) -> HostEntry {
        HostEntry {
            host: host.into(),
            risk: Probability::new(risk).ok(),
            preferred_target: None,
            at: Timestamp(0),
        }
    }

    #[tokio::test]
    async fn a_grant_goes_to_the_host_with_the_lowest_risk() {
        let claims = Claims::new(Arc::new(MemoryStore::new()), None);
        let workload = WorkloadId::from("orders-1");
        claims.record_hosts(&[entry("a", 0.4), entry("b", 0.1)]).await.unwrap();
        for host in ["unknown", "a", "b", "a"] {
            claims.request(&workload, &host.into(), Timestamp(1)).await.unwrap();
        }
        assert_eq!(claims.grant(&workload, Timestamp(2)).await.unwrap(), HostId::from("b"));
        assert!(matches!(claims.grant(&workload, Timestamp(3)).await, Err(ClaimError::Held { .. })));
        assert_eq!(claims.get(&workload).await.unwrap().0.requests.len(), 2);
    }

    #[tokio::test]
    async fn only_the_holder_can_renew_release_or_transfer() {
        let claims = Claims::new(Arc::new(MemoryStore::new()), None);
        let (workload, a, b) = (WorkloadId::from("w"), HostId::from("a"), HostId::from("b"));
        claims.request(&workload, &a, Timestamp(1)).await.unwrap();
        claims.grant(&workload, Timestamp(2)).await.unwrap();
        assert!(matches!(claims.renew(&workload, &b, Timestamp(3)).await, Err(ClaimError::NotHeld { .. })));
        assert!(matches!(claims.release(&workload, &b).await, Err(ClaimError::NotHeld { .. })));
        assert_eq!(claims.transfer(&workload, &a, &b, Timestamp(4)).await.unwrap(), Generation(2));
        assert!(matches!(claims.renew(&workload, &a, Timestamp(5)).await, Err(ClaimError::NotHeld { .. })));
        claims.release(&workload, &b).await.unwrap();
        assert_eq!(claims.get(&workload).await.unwrap().0.holder, None);
    }

    #[tokio::test]
    async fn many_at_once_never_make_two_holders() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let workload = WorkloadId::from("w");
        let mut watch = store.watch("/claims/", crate::fleet::Revision(0)).await.unwrap();
        let tasks: Vec<_> = (0..16)
            .map(|i| {
                let claims = Claims::new(Arc::clone(&store), None);
                let (workload, host) = (workload.clone(), HostId::new(format!("h{i}")));
                tokio::spawn(async move {
                    claims.request(&workload, &host, Timestamp(i)).await.ok();
                    claims.grant(&workload, Timestamp(i)).await.ok();
                    claims.release(&workload, &host).await.ok();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let mut last = Claim::default();
        while let Ok(change) = watch.changes.try_recv() {
            let claim: Claim = serde_json::from_slice(&change.entry.unwrap().value).unwrap();
            if claim.holder != last.holder && claim.holder.is_some() {
                assert!(claim.generation > last.generation, "a new holder without a new generation");
                assert!(last.holder.is_none(), "taken from a holder that had not released");
            }
            last = claim;
        }
    }
}
