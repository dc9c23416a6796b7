//! The look at every key before the first one goes: how much there is, and whether one of them is so
//! large that its move would stop both nodes. It only reads; the engine's restart begins it anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinHandle;

use super::super::nodes::{Nodes, system};
use super::super::sweep::Scan;
use super::super::view::{SlotRange, slot_of_key};
use super::super::wire::{Reply, Requests};
use crate::drivers::error::{DriverError, Retry};
use crate::fleet::Bytes;

/// The largest key that is moved: `MIGRATE` stops both nodes for as long as a key takes, about 3 ms a
/// megabyte.
const LARGEST: Bytes = Bytes(32 << 20);
/// Keys asked for in one page.
const PAGE: usize = 512;

/// What the keys of a range amount to.
#[derive(Clone, Default, Debug)]
pub(super) struct Found {
    pub(super) keys: u64,
    pub(super) bytes: Bytes,
    pub(super) largest: Bytes,
    largest_key: String,
    /// Whether the servers move all of them at once, whatever their size.
    pub(super) together: bool,
}

/// A look under way.
pub(super) struct Survey {
    task: JoinHandle<Result<Found, DriverError>>,
    seen: Arc<AtomicU64>,
}

impl Drop for Survey {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Survey {
    /// Begins to look at the keys of `range` on the node `address`, which go `together` or one by one.
    pub(super) fn start(nodes: Arc<Nodes>, address: String, range: SlotRange, together: bool) -> Self {
        let seen = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&seen);
        let look = async move {
            let found = look(&nodes, &address, range, &counted).await?;
            match together {
                true => Ok(Found { together, ..found }),
                false => small_enough(&address, found),
            }
        };
        Self { task: tokio::spawn(look), seen }
    }

    /// What was found, where it is done; how many keys were seen so far, where not.
    pub(super) async fn outcome(self) -> Result<Result<Found, DriverError>, (Self, u64)> {
        if !self.task.is_finished() {
            let seen = self.seen.load(Ordering::Relaxed);
            return Err((self, seen));
        }
        let mut this = self;
        Ok((&mut this.task).await.unwrap_or_else(|error| {
            let detail = format!("it was broken off: {error}");
            Err(DriverError::new(Retry::Retryable, "redis", "looking at the keys", detail))
        }))
    }
}

async fn look(
    nodes: &Nodes,
    address: &str,
    range: SlotRange,
    seen: &AtomicU64,
) -> Result<Found, DriverError> {
    let mut found = Found::default();
    let mut scan = Scan::of(address, PAGE);
    while let Some(mut keys) = scan.next(nodes).await? {
        keys.retain(|key| (range.first..=range.last).contains(&slot_of_key(key)));
        if keys.is_empty() {
            continue;
        }
        let mut requests = Requests::default();
        keys.iter().for_each(|key| requests.add(&[b"MEMORY", b"USAGE", key]));
        let mut wire = nodes.wire(address).await?;
        for (key, answer) in keys.iter().zip(wire.exchange(&requests).await?) {
            // A key that is gone by now answers with nothing.
            let size = match answer {
                Reply::Int(size) => Bytes(u64::try_from(size).unwrap_or(0)),
                _ => Bytes(0),
            };
            found.keys += 1;
            found.bytes = Bytes(found.bytes.0 + size.0);
            if size > found.largest {
                found.largest = size;
                found.largest_key = String::from_utf8_lossy(key).into_owned();
            }
        }
        seen.store(found.keys, Ordering::Relaxed);
    }
    Ok(found)
}

/// Whether `MIGRATE` may be asked for the largest key.
fn small_enough(address: &str, found: Found) -> Result<Found, DriverError> {
    match found.largest > LARGEST {
        true => Err(DriverError::new(
            Retry::Permanent,
            system(address),
            "looking at the keys",
            format!(
                "the key {:?} has {}; moving it would stop both nodes for long, {LARGEST} are allowed: split it, or move the whole shard",
                found.largest_key, found.largest
            ),
        )),
        false => Ok(found),
    }
}
