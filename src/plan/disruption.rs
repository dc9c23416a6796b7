//! What moving a workload costs those who use it, and what losing it would: both from the
//! dependency graph, its traffic and its size.

use std::collections::{HashMap, HashSet};

use crate::fleet::{Topology, Workload, WorkloadId};

/// Who needs whom, the other way round.
#[derive(Clone, Debug, Default)]
pub struct Dependents<'a> {
    direct: HashMap<&'a WorkloadId, Vec<&'a WorkloadId>>,
}

impl<'a> Dependents<'a> {
    /// From the whole topology; names that do not exist are kept, they need as well.
    pub fn of(topology: &'a Topology) -> Self {
        let mut direct: HashMap<&WorkloadId, Vec<&WorkloadId>> = HashMap::new();
        for workload in &topology.workloads {
            for needed in &workload.depends_on {
                if needed != &workload.id {
                    direct.entry(needed).or_default().push(&workload.id);
                }
            }
        }
        Self { direct }
    }

    /// How many need it: direct dependents count one, theirs a half, and so on; loops end.
    pub fn weight(&self, workload: &WorkloadId) -> f64 {
        let mut seen: HashSet<&WorkloadId> = HashSet::new();
        let mut layer = vec![workload];
        let (mut weight, mut share) = (0.0, 1.0);
        while !layer.is_empty() && share > 0.05 {
            let mut next = Vec::new();
            for id in layer {
                for &dependent in self.direct.get(id).map_or(&[][..], Vec::as_slice) {
                    if dependent != workload && seen.insert(dependent) {
                        weight += share;
                        next.push(dependent);
                    }
                }
            }
            layer = next;
            share /= 2.0;
        }
        weight
    }
}

/// 0–100: what moving it costs its users. Half of it is who needs it, the rest traffic, changes and
/// size; what has no state costs a third.
pub fn disruption(workload: &Workload, dependents: &Dependents) -> f64 {
    let needed = 1.0 - (-dependents.weight(&workload.id) / 4.0).exp();
    let traffic = log_share(workload.requests_per_s, 10_000.0);
    let writes = log_share(workload.writes_per_s, 5_000.0);
    let size = log_share(workload.size.0 as f64 / 1e6, 1e6);
    let score = 45.0 * needed + 25.0 * traffic + 15.0 * writes + 15.0 * size;
    if workload.stateless { score / 3.0 } else { score }
}

/// What is lost with it, in plain workloads: 1 for one that nobody needs; more with dependents and
/// traffic, half as much again where no copy could take over.
pub fn impact(workload: &Workload, dependents: &Dependents) -> f64 {
    let reach = 1.0 + 0.5 * dependents.weight(&workload.id) + log_share(workload.requests_per_s, 10_000.0);
    if workload.replicas.is_empty() && !workload.stateless { 1.5 * reach } else { reach }
}

/// 0 at nothing, 1 at `full` and beyond, by the logarithm; nonsense is nothing.
fn log_share(value: f64, full: f64) -> f64 {
    if !value.is_finite() || value <= 0.0 {
        return 0.0;
    }
    ((1.0 + value).ln() / (1.0 + full).ln()).min(1.0)
}
