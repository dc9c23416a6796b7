//! The comparison of keys on two nodes that are being written to: what differs at first sight is
//! looked at again until it is certainly equal, certainly different, or so busy that only the cut
//! can tell. The sweep over all keys is in [`super::sweep`].

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use futures::future::try_join;
use redis::{Pipeline, Value};

use super::fingerprint::{Fingerprint, fingerprints};
use super::nodes::{Lane, Nodes, Standing, system};
use super::view::slot_of_key;
use crate::drivers::error::{DriverError, Retry};

/// How often a key that keeps changing is looked at before it is left to the cut.
const LOOKS: usize = 12;
/// Names in an answer.
const NAMED: usize = 20;

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    pub(super) keys: u64,
    /// Slots that hold keys.
    pub(super) slots: usize,
    /// Sum of all fingerprints of the owner's keys, and of the other's.
    pub(super) digests: (u128, u128),
    /// Keys that certainly differ, as text with their slot; at most twenty.
    pub(super) differences: Vec<String>,
    /// The same keys as they are.
    pub(super) named: Vec<Vec<u8>>,
    /// How many differ.
    pub(super) different: u64,
    /// Keys that changed at every look.
    pub(super) busy: Vec<Vec<u8>>,
}

impl Comparison {
    fn differs(&mut self, key: &[u8], how: &str) {
        self.different += 1;
        if self.differences.len() < NAMED {
            let name: String = String::from_utf8_lossy(key).chars().take(200).collect();
            self.differences.push(format!("{name} (slot {}): {how}", slot_of_key(key)));
            self.named.push(key.to_vec());
        }
    }

    /// Whether that key is among those that are named as different.
    pub(super) fn has_named(&self, key: &[u8]) -> bool {
        self.named.iter().any(|named| named == key)
    }
}

/// The two nodes that are compared and how.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) nodes: Arc<Nodes>,
    /// Address of the node that owns the shard.
    pub(super) owner: String,
    /// Address of the other.
    pub(super) other: String,
    /// Keys that are taken up at once; how many of them go into one round trip follows their size.
    pub(super) batch: usize,
    /// Keys done, for whoever watches.
    pub(super) done: Arc<AtomicU64>,
}

impl Pair {
    /// The same the other way round.
    pub(super) fn swapped(&self) -> Pair {
        Pair {
            nodes: self.nodes.clone(),
            owner: self.other.clone(),
            other: self.owner.clone(),
            batch: self.batch,
            done: Arc::default(),
        }
    }

    /// Looks at keys that seemed different until each is certain or stays busy.
    pub(super) async fn look_again(
        &self,
        mut keys: Vec<Vec<u8>>,
        found: &mut Comparison,
    ) -> Result<(), DriverError> {
        for _ in 0..LOOKS {
            if keys.is_empty() {
                return Ok(());
            }
            let mut busy = Vec::new();
            for batch in keys.chunks(self.batch) {
                let before = fingerprints(&self.nodes, &self.owner, batch).await?;
                self.wait_until_applied(Duration::from_secs(2)).await?;
                let theirs = fingerprints(&self.nodes, &self.other, batch).await?;
                let after = fingerprints(&self.nodes, &self.owner, batch).await?;
                for (i, key) in batch.iter().enumerate() {
                    if theirs[i] == before[i] || theirs[i] == after[i] {
                        found.keys += u64::from(theirs[i].is_some());
                        found.digests.0 = found.digests.0.wrapping_add(theirs[i].unwrap_or(0));
                        found.digests.1 = found.digests.1.wrapping_add(theirs[i].unwrap_or(0));
                    } else if before[i] == after[i] {
                        found.digests.0 = found.digests.0.wrapping_add(before[i].unwrap_or(0));
                        found.digests.1 = found.digests.1.wrapping_add(theirs[i].unwrap_or(0));
                        found.differs(key, how(before[i], theirs[i]));
                    } else {
                        busy.push(key.clone());
                    }
                }
            }
            keys = busy;
        }
        found.busy.extend(keys);
        Ok(())
    }

    /// Compares keys once, writes being held.
    pub(super) async fn compare_still(
        &self,
        keys: &[Vec<u8>],
        found: &mut Comparison,
    ) -> Result<(), DriverError> {
        let (ours, theirs) = self.both(keys).await?;
        for ((key, ours), theirs) in keys.iter().zip(ours).zip(theirs) {
            found.digests.0 = found.digests.0.wrapping_add(ours.unwrap_or(0));
            found.digests.1 = found.digests.1.wrapping_add(theirs.unwrap_or(0));
            if ours == theirs {
                found.keys += 1;
            } else {
                found.differs(key, how(ours, theirs));
            }
        }
        Ok(())
    }

    /// Waits until the other side has applied all that the owner had written when this was called;
    /// says how long it took.
    ///
    /// # Errors
    /// Retryable, where it did not within `patience`.
    pub(super) async fn wait_until_applied(&self, patience: Duration) -> Result<Duration, DriverError> {
        let start = Instant::now();
        let Standing::Master { offset } = self.nodes.standing(&self.owner).await? else {
            return Err(DriverError::new(
                Retry::Retryable,
                system(&self.owner),
                "ROLE",
                "expected a master, it has become a replica; look again who owns the shard",
            ));
        };
        loop {
            let applied = match self.nodes.standing(&self.other).await? {
                Standing::Replica { offset, .. } => u64::try_from(offset).unwrap_or(0),
                Standing::Master { .. } => {
                    return Err(DriverError::new(
                        Retry::Retryable,
                        system(&self.other),
                        "ROLE",
                        "expected a replica, it is a master; look again who owns the shard",
                    ));
                }
            };
            if applied >= offset {
                return Ok(start.elapsed());
            }
            if start.elapsed() > patience {
                return Err(DriverError::new(
                    Retry::Retryable,
                    system(&self.other),
                    "waiting for the replica",
                    format!(
                        "{} bytes behind after {} ms; writes come faster than they are applied, or the link hangs",
                        offset - applied,
                        patience.as_millis()
                    ),
                ));
            }
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
    }

    /// Fingerprints on both sides at once, the owner's first.
    async fn both(&self, keys: &[Vec<u8>]) -> Result<(Vec<Fingerprint>, Vec<Fingerprint>), DriverError> {
        try_join(fingerprints(&self.nodes, &self.owner, keys), fingerprints(&self.nodes, &self.other, keys))
            .await
    }

    /// Some keys of the owner at random, for a sample.
    pub(super) async fn random_keys(&self, count: usize) -> Result<Vec<Vec<u8>>, DriverError> {
        self.random_keys_at(&self.owner, count).await
    }

    /// Some keys of the other side at random, for when the owner does not answer.
    pub(super) async fn random_keys_of_other(&self, count: usize) -> Result<Vec<Vec<u8>>, DriverError> {
        self.random_keys_at(&self.other, count).await
    }

    async fn random_keys_at(&self, address: &str, count: usize) -> Result<Vec<Vec<u8>>, DriverError> {
        let mut ask = Pipeline::with_capacity(count);
        for _ in 0..count {
            ask.cmd("RANDOMKEY");
        }
        let answers = self.nodes.ask_many(address, Lane::Canary, &ask).await?;
        let mut keys: Vec<Vec<u8>> = answers
            .into_iter()
            .filter_map(|v| match v {
                Value::BulkString(key) => Some(key),
                _ => None,
            })
            .collect();
        keys.sort();
        keys.dedup();
        Ok(keys)
    }
}

fn how(ours: Fingerprint, theirs: Fingerprint) -> &'static str {
    match (ours, theirs) {
        (Some(_), None) => "missing on the other side",
        (None, Some(_)) => "only on the other side",
        _ => "type, value or time to live differ",
    }
}
