//! Processor time from `/proc/stat`, and how long work waits for disks.

use super::{Metrics, Roots, put, text};

/// Times since boot at the last look.
#[derive(Default)]
pub(super) struct Cpu {
    before: Option<Times>,
}

#[derive(Clone, Copy)]
struct Times {
    total: u64,
    idle: u64,
    iowait: u64,
}

impl Cpu {
    pub(super) fn read(&mut self, roots: &Roots, metrics: &mut Metrics) {
        let Some(now) = text(&roots.proc.join("stat")).as_deref().and_then(parse) else { return };
        if let Some(before) = self.before.replace(now) {
            let share = |now: u64, then: u64| {
                let total = now_minus(self.before.map_or(0, |t| t.total), before.total)?;
                Some(now_minus(now, then)? / total * 100.0)
            };
            put(
                metrics,
                "cpu.busy",
                share(now.idle + now.iowait, before.idle + before.iowait).map(|p| 100.0 - p),
            );
            put(metrics, "cpu.iowait", share(now.iowait, before.iowait));
        }
    }
}

fn now_minus(now: u64, then: u64) -> Option<f64> {
    now.checked_sub(then).map(|n| n as f64)
}

/// `cpu user nice system idle iowait irq softirq steal …`; guest times are within user's.
fn parse(stat: &str) -> Option<Times> {
    let line = stat.lines().find(|line| line.starts_with("cpu "))?;
    let times: Vec<u64> =
        line.split_ascii_whitespace().skip(1).take(8).map_while(|t| t.parse().ok()).collect();
    let [_, _, _, idle, iowait, ..] = times.as_slice() else { return None };
    Some(Times { total: times.iter().sum(), idle: *idle, iowait: *iowait })
}
