//! How many keys a node counts in slots of its own: it keeps that number, so asking costs it next to nothing.

use super::nodes::Nodes;
use super::wire::{Reply, Requests};
use crate::drivers::error::DriverError;

/// Slots that are asked for in one round trip.
const TOGETHER: usize = 512;

/// The number of keys of each of `slots`, in their order; `None` where the node does not say.
///
/// # Errors
/// Where the node cannot be asked.
pub(super) async fn counts(
    nodes: &Nodes,
    address: &str,
    slots: impl IntoIterator<Item = u16>,
) -> Result<Vec<Option<i64>>, DriverError> {
    let slots: Vec<String> = slots.into_iter().map(|slot| slot.to_string()).collect();
    if slots.is_empty() {
        return Ok(Vec::new());
    }
    let mut wire = nodes.wire(address).await?;
    let mut counted = Vec::with_capacity(slots.len());
    for slots in slots.chunks(TOGETHER) {
        let mut requests = Requests::default();
        slots.iter().for_each(|slot| requests.add(&[b"CLUSTER", b"COUNTKEYSINSLOT", slot.as_bytes()]));
        counted.extend(wire.exchange(&requests).await?.map(|answer| match answer {
            Reply::Int(n) => Some(n),
            _ => None,
        }));
    }
    Ok(counted)
}
