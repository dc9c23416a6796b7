//! What goes wrong in the demo, when, and how it shows: failures that announce themselves, failures
//! that do not, and alarms that come to nothing. The shapes differ from those of `training`.

use serde::{Deserialize, Serialize};

use super::fleet::Layout;
use super::load::{Effects, metric::*};
use super::noise::{sine, wander};
use crate::fleet::rng::Random;
use crate::fleet::{Span, Timestamp};

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The host's disk dies: writes get slow and slower, errors are logged, it gets warm.
    DyingDisk,
    /// A process's memory grows until it is killed.
    MemoryLeak,
    /// Cooling fails: the host heats up, slows itself down, and switches off.
    Overheating,
    /// The host's power supply weakens and gives up.
    WeakSupply,
    /// The host's network gets worse until nothing comes through.
    BadLink,
    /// Dead, without any sign before.
    Sudden,
    /// A backup at an unusual hour: busy disk, slow writes; passes.
    Backup,
    /// A long calculation: all cpu, a long queue, some heat; passes.
    BatchJob,
    /// A release logs errors for some minutes; passes.
    LogStorm,
}

impl FaultKind {
    /// Whether it passes by itself and nothing dies.
    pub fn is_harmless(self) -> bool {
        matches!(self, FaultKind::Backup | FaultKind::BatchJob | FaultKind::LogStorm)
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            FaultKind::DyingDisk => "dying disk",
            FaultKind::MemoryLeak => "memory leak",
            FaultKind::Overheating => "cooling failed",
            FaultKind::WeakSupply => "weak power supply",
            FaultKind::BadLink => "bad network link",
            FaultKind::Sudden => "death without warning",
            FaultKind::Backup => "backup",
            FaultKind::BatchJob => "batch job",
            FaultKind::LogStorm => "log storm",
        }
    }
}

/// One fault: what, where, from when to when.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// Indices into the layout's partitions.
    pub(crate) partitions: Vec<usize>,
    pub(crate) host: usize,
    pub(crate) onset: Timestamp,
    /// When it kills, or passes.
    pub(crate) ends: Timestamp,
    /// When what it killed is repaired.
    pub(crate) repaired: Timestamp,
    strength: f32,
    seed: u64,
}

impl Fault {
    /// What it does to a partition of its own at `at`.
    pub(crate) fn effects(&self, at: Timestamp) -> Effects {
        let none = Effects::NONE;
        if at < self.onset || at >= self.ends {
            return none;
        }
        let p = (at - self.onset).0 as f32 / (self.ends - self.onset).0.max(1) as f32;
        let minutes = (at - self.onset).as_seconds() / 60.0;
        let k = self.strength;
        // Grows gently at first and steeply at the end: 0 at p = 0, 1 at p = 1.
        let steep = p * p * (0.4 + 0.6 * p);
        let rough = 1.0 + 0.2 * wander(self.seed, minutes / 0.7);
        match self.kind {
            FaultKind::DyingDisk => none
                .times(WRITE, (1.0 + k * (3.0 * p + 26.0 * steep)) * rough)
                .times(READ, 1.0 + k * (1.2 * p + 9.0 * steep))
                .plus(ERRORS, k * (6.0 * p + 40.0 * steep))
                .plus(HEAT, 4.0 * p + 9.0 * steep)
                .wilder(WRITE, 1.0 + 1.5 * p),
            FaultKind::MemoryLeak => {
                let late = (p - 0.8).max(0.0) * 5.0;
                none.plus(MEMORY, 44.0 * p).plus(ERRORS, k * 9.0 * late).times(REQUEST, 1.0 + 2.0 * late)
            }
            FaultKind::Overheating => {
                let warm = 46.0 * k.clamp(0.9, 1.15) * (1.0 - (1.0 - p) * (1.0 - p));
                none.plus(HEAT, warm).plus(CPU, 14.0 * steep).plus(ERRORS, 5.0 * steep)
            }
            FaultKind::WeakSupply => none
                .plus(VOLTS, -k * (0.12 * p + 0.7 * steep))
                .wilder(VOLTS, 1.0 + 8.0 * p)
                .plus(ERRORS, k * (2.0 * p + 8.0 * steep))
                .plus(HEAT, 3.0 * p),
            FaultKind::BadLink => {
                let pulse = 0.7 + 0.3 * sine((minutes / 1.3) as f32);
                none.plus(LOSS, k * (0.6 * p + 14.0 * steep) * pulse)
                    .times(NET, 1.0 + k * (2.0 * p + 18.0 * steep) * rough)
                    .plus(ERRORS, k * 12.0 * steep)
                    .plus(QUEUE, k * 15.0 * steep)
            }
            FaultKind::Sudden => none,
            FaultKind::Backup => {
                let on = edge(p);
                none.times(DISK_RATE, 1.0 + 3.5 * k * on)
                    .plus(IOWAIT, 12.0 * k * on)
                    .times(WRITE, 1.0 + 1.8 * k * on * rough)
                    .times(READ, 1.0 + 1.5 * k * on)
            }
            FaultKind::BatchJob => {
                let on = edge(p);
                none.plus(CPU, 38.0 * k * on).plus(QUEUE, 7.0 * k * on * rough).plus(HEAT, 5.0 * on)
            }
            FaultKind::LogStorm => none.plus(ERRORS, 22.0 * k * edge(p) * rough),
        }
    }
}

/// Rises within the first tenth, falls within the last.
fn edge(p: f32) -> f32 {
    (p * 10.0).min((1.0 - p) * 10.0).clamp(0.0, 1.0)
}

/// How often things go wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FaultPlan {
    /// The first failure begins so long after the start.
    pub first: Span,
    /// Shortest and longest time between the onsets of two failures.
    pub every: (Span, Span),
    /// Shortest and longest time between two harmless alarms.
    pub harmless_every: (Span, Span),
    /// Failures are planned for so long.
    pub horizon: Span,
}

impl Default for FaultPlan {
    /// First after 80 s, then every 8 to 15 minutes; a harmless alarm every 10 to 25 minutes; for
    /// three days.
    fn default() -> Self {
        Self {
            first: Span::seconds(80),
            every: (Span::minutes(8), Span::minutes(15)),
            harmless_every: (Span::minutes(10), Span::minutes(25)),
            horizon: Span::days(3),
        }
    }
}

impl FaultPlan {
    /// Nothing ever goes wrong.
    pub fn none() -> Self {
        Self { horizon: Span::ZERO, ..Self::default() }
    }
}

/// All faults of a run, by onset. They depend on the seed alone, never on what the engine does.
pub(crate) fn schedule(seed: u64, layout: &Layout, start: Timestamp, plan: &FaultPlan) -> Vec<Fault> {
    let root = Random::new(seed).fork("faults");
    let mut busy = vec![Timestamp(i64::MIN); layout.hosts.len()];
    let mut faults = Vec::new();
    let end = start + plan.horizon;
    let (mut failures, mut alarms) = (root.fork("failures"), root.fork("alarms"));
    let mut failure_at = start + plan.first + Span::seconds(failures.below(11) as i64);
    let mut alarm_at = start + drawn(plan.harmless_every, &mut alarms);
    while failure_at.min(alarm_at) < end {
        if failure_at <= alarm_at {
            let kind = if faults.iter().all(|f: &Fault| f.kind.is_harmless()) {
                FaultKind::DyingDisk
            } else {
                failing_kind(&mut failures)
            };
            faults.extend(place(kind, failure_at, layout, &mut busy, &mut failures));
            failure_at += drawn(plan.every, &mut failures);
        } else {
            let kind = [FaultKind::Backup, FaultKind::BatchJob, FaultKind::LogStorm][alarms.below(3)];
            faults.extend(place(kind, alarm_at, layout, &mut busy, &mut alarms));
            alarm_at += drawn(plan.harmless_every, &mut alarms);
        }
    }
    faults
}

fn drawn((least, most): (Span, Span), random: &mut Random) -> Span {
    let seconds = random.between(least.as_seconds(), most.as_seconds()).max(1.0);
    Span::seconds(seconds as i64)
}

fn failing_kind(random: &mut Random) -> FaultKind {
    match random.below(20) {
        0..=5 => FaultKind::DyingDisk,
        6..=9 => FaultKind::MemoryLeak,
        10..=12 => FaultKind::Overheating,
        13..=14 => FaultKind::WeakSupply,
        15..=17 => FaultKind::BadLink,
        _ => FaultKind::Sudden,
    }
}

/// Puts a fault on a host that has none now; `None` where there is no such host.
fn place(
    kind: FaultKind,
    onset: Timestamp,
    layout: &Layout,
    busy: &mut [Timestamp],
    random: &mut Random,
) -> Option<Fault> {
    let free: Vec<usize> = (0..busy.len()).filter(|h| busy[*h] < onset).collect();
    // Drawn whether used or not, so that a run differs by what happens, not by the draws.
    let (pick, part) = (random.bits() as usize, random.bits() as usize);
    let (whole_host, strength, seed) = (random.chance(0.5), random.between(0.8, 1.25) as f32, random.bits());
    let lasts = match kind {
        FaultKind::MemoryLeak => drawn((Span::minutes(8), Span::minutes(14)), random),
        FaultKind::Sudden => Span::ZERO,
        k if k.is_harmless() => drawn((Span::minutes(4), Span::minutes(9)), random),
        _ => drawn((Span::minutes(6), Span::minutes(10)), random),
    };
    let mends = drawn((Span::minutes(14), Span::minutes(22)), random);
    let host = *free.get(pick % free.len().max(1))?;
    let all = &layout.hosts[host].partitions;
    let single = match kind {
        FaultKind::MemoryLeak | FaultKind::Backup | FaultKind::BatchJob | FaultKind::LogStorm => true,
        FaultKind::Sudden => !whole_host,
        _ => false,
    };
    let partitions = if single { vec![all[part % all.len()]] } else { all.clone() };
    let ends = onset + lasts;
    let repaired = if kind.is_harmless() { ends } else { ends + mends };
    busy[host] = repaired + Span::minutes(5);
    Some(Fault { kind, partitions, host, onset, ends, repaired, strength, seed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_hours(seed: u64) -> Vec<Fault> {
        let plan = FaultPlan { horizon: Span::hours(2), ..FaultPlan::default() };
        schedule(seed, &Layout::draw(seed), Timestamp(1_700_000_000_000), &plan)
    }

    #[test]
    fn a_host_begins_to_fail_within_ninety_seconds_and_dies_six_to_ten_minutes_later() {
        for seed in 0..50 {
            let faults = two_hours(seed);
            let first = faults.iter().find(|f| !f.kind.is_harmless()).unwrap();
            assert_eq!(first.kind, FaultKind::DyingDisk);
            let after = (first.onset - Timestamp(1_700_000_000_000)).as_seconds();
            assert!((75.0..=95.0).contains(&after), "onset after {after} s");
            let lead = (first.ends - first.onset).as_seconds() / 60.0;
            assert!((6.0..=10.0).contains(&lead), "dies after {lead} min");
            assert!(first.partitions.len() >= 2, "a whole host");
        }
    }

    #[test]
    fn two_hours_have_failures_told_and_untold_and_harmless_alarms() {
        let (mut kinds, mut failures) = (std::collections::BTreeSet::new(), 0);
        for seed in 0..20 {
            let faults = two_hours(seed);
            let failing = faults.iter().filter(|f| !f.kind.is_harmless()).count();
            assert!((7..=16).contains(&failing), "{failing} failures in two hours");
            failures += failing;
            kinds.extend(faults.iter().map(|f| f.kind));
        }
        assert_eq!(kinds.len(), 9, "{kinds:?}");
        assert!(failures > 150);
    }

    #[test]
    fn a_host_is_struck_by_one_fault_at_a_time() {
        let faults = two_hours(3);
        for (i, a) in faults.iter().enumerate() {
            for b in &faults[i + 1..] {
                assert!(a.host != b.host || b.onset > a.repaired, "{a:?} {b:?}");
            }
        }
    }
}
