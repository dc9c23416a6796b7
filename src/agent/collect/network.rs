//! Network throughput and errors from `/proc/net/dev`, over the interfaces that leave the host.

use super::{Metrics, Roots, put, rate, text};

/// Interfaces that do not leave the host, or that stand on others that do.
const WITHIN: [&str; 9] = ["lo", "veth", "docker", "br-", "virbr", "cni", "flannel", "cali", "tun"];

/// Counters at the last look.
#[derive(Default)]
pub(super) struct Network {
    before: Option<(u64, u64)>,
}

impl Network {
    pub(super) fn read(&mut self, roots: &Roots, elapsed: f64, metrics: &mut Metrics) {
        let Some(stats) = text(&roots.proc.join("net/dev")) else { return };
        let (mut bytes, mut faults) = (0u64, 0u64);
        for (name, counters) in stats.lines().filter_map(|line| line.split_once(':')) {
            if WITHIN.iter().any(|prefix| name.trim().starts_with(prefix)) {
                continue;
            }
            let counters: Vec<u64> =
                counters.split_ascii_whitespace().map_while(|c| c.parse().ok()).collect();
            // received: bytes packets errors dropped … (8 columns), then sent alike.
            let at = |index: usize| counters.get(index).copied().unwrap_or(0);
            bytes = bytes.wrapping_add(at(0)).wrapping_add(at(8));
            faults = faults.wrapping_add(at(2)).wrapping_add(at(3)).wrapping_add(at(10)).wrapping_add(at(11));
        }
        let before = self.before.replace((bytes, faults));
        put(metrics, "net.throughput", rate(before.map(|b| b.0), bytes, elapsed));
        put(metrics, "net.errors", rate(before.map(|b| b.1), faults, elapsed));
    }
}
