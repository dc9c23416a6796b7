//! The desired footprint against the current one: which workloads stand where they should not stand,
//! by their projection, their copies and the one setting of risk tolerance.

use super::world::World;
use crate::fleet::{PredictionState, Share, Workload};

/// A workload that is off the desired footprint, and why.
pub(super) struct Misplaced<'a> {
    pub(super) workload: &'a Workload,
}

/// A workload should not stay on a place where its Health Projection Score is below this; the more
/// risk is tolerated, the lower.
pub fn least_projection(tolerance: Share) -> f64 {
    75.0 * (1.0 - tolerance.get())
}

/// The workloads that stand where the desired footprint has none, and their share of all of which
/// anything is known. Where nothing is known, nothing is misplaced.
pub(super) fn discrepancy<'a>(world: &World<'a>) -> (Vec<Misplaced<'a>>, Share) {
    let least = least_projection(world.input.options.risk_tolerance);
    let (mut misplaced, mut known) = (Vec::new(), 0usize);
    for workload in &world.input.topology.workloads {
        if world.state(&workload.partition) == PredictionState::Unknown {
            continue;
        }
        known += 1;
        if world.hps(&workload.id) < least || shares_host_with_copy(workload, world) {
            misplaced.push(Misplaced { workload });
        }
    }
    let share = misplaced.len() as f64 / known.max(1) as f64;
    (misplaced, Share::clamped(share).unwrap_or(Share::MIN))
}

fn shares_host_with_copy(workload: &Workload, world: &World) -> bool {
    let Some(host) = world.host_of(&workload.partition) else { return false };
    workload
        .replicas
        .iter()
        .filter(|r| **r != workload.partition)
        .any(|replica| world.host_of(replica).is_some_and(|other| other.id == host.id))
}
