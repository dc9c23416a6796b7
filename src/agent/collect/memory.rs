//! Memory from `/proc/meminfo`, pressure from `/proc/pressure`.

use super::{Metrics, Roots, put, text};

pub(super) fn read(roots: &Roots, metrics: &mut Metrics) {
    if let Some(info) = text(&roots.proc.join("meminfo")) {
        let kilobytes = |key: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_ascii_whitespace().next()?.parse::<f64>().ok()
        };
        let total = kilobytes("MemTotal:").filter(|total| *total > 0.0);
        let used = total.zip(kilobytes("MemAvailable:")).map(|(total, free)| (1.0 - free / total) * 100.0);
        put(metrics, "mem.used", used);
        let swap = kilobytes("SwapTotal:").filter(|total| *total > 0.0);
        let swap = swap.zip(kilobytes("SwapFree:")).map(|(total, free)| (1.0 - free / total) * 100.0);
        put(metrics, "swap.used", swap);
    }
    for (resource, metric) in [("memory", "mem.pressure"), ("io", "io.pressure"), ("cpu", "cpu.pressure")] {
        put(
            metrics,
            metric,
            text(&roots.proc.join("pressure").join(resource)).as_deref().and_then(some_avg10),
        );
    }
}

/// Share of the last ten seconds in which some task stood still: `some avg10=1.53 …`.
fn some_avg10(pressure: &str) -> Option<f64> {
    let line = pressure.lines().find(|line| line.starts_with("some "))?;
    line.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}
