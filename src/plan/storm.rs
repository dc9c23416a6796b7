//! The storm brake: where much looks as if it failed at once, the measuring has more likely failed,
//! and moving everything would do the harm that it is meant to avert.

use std::collections::BTreeSet;

use super::world::World;
use crate::fleet::{PartitionId, PredictionState};

/// Why everything automatic must stand still, if so. `failing` are the partitions that are expected
/// to fail now, with work or without.
pub(super) fn storm(failing: &[&PartitionId], world: &World) -> Option<String> {
    let brake = world.input.options.storm;
    let known = world
        .input
        .topology
        .partitions
        .iter()
        .filter(|p| world.state(&p.id) != PredictionState::Unknown)
        .count();
    let count = failing.len();
    if count > brake.most_partitions {
        return Some(format!(
            "storm brake: {count} partitions are expected to fail at once, more than {}; a measuring fault is likelier",
            brake.most_partitions
        ));
    }
    if count < 3 {
        return None;
    }
    let share = count as f64 / known.max(1) as f64;
    if share > brake.most_share.get() {
        return Some(format!(
            "storm brake: {count} of {known} partitions are expected to fail at once, more than {}; a measuring fault is likelier",
            brake.most_share
        ));
    }
    let racks: BTreeSet<(&str, &str)> =
        failing.iter().filter_map(|p| world.host_of(p)).map(|h| (h.site.as_str(), h.rack.as_str())).collect();
    (racks.len() > brake.most_racks).then(|| {
        format!(
            "storm brake: partitions in {} racks are expected to fail at once, more than {}; a measuring fault is likelier",
            racks.len(),
            brake.most_racks
        )
    })
}
