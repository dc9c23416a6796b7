//! Scenarios to train models on: single partitions over some hours, some of which fail. Their
//! shapes and seeds are others than the demo's (`faults`), so that the demo shows a model what it
//! has not seen.

use serde::{Deserialize, Serialize};

use super::load::{Effects, Kind, METRICS, Traits, metric::*, reading, rhythm};
use super::noise::{Noise, sine, wander};
use crate::fleet::rng::Random;
use crate::fleet::{Span, Timestamp};

/// What happens in an episode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Nothing but rhythm and noise.
    Healthy,
    /// Sectors are remapped: stalls come more and more often, each with a burst of errors. Fails.
    StallingDisk,
    /// Latency climbs in stairs, each landing higher than the last. Fails.
    SteppingDisk,
    /// The disk fills until writes fail. Fails.
    FullDisk,
    /// Memory grows like a staircase of leaks until the process is killed. Fails.
    StairLeak,
    /// Memory grows between collections that free less each time. Fails.
    SawtoothLeak,
    /// A fan dies by and by: temperature swings, wider and higher, until it cuts out. Fails.
    FailingFan,
    /// The supply ripples, sags under load and gives up. Fails.
    RipplingSupply,
    /// A link flaps: good, bad, good, worse. Fails.
    FlappingLink,
    /// A queue is served ever more slowly until nothing moves. Fails.
    CreepingQueue,
    /// One core after another is taken by a loop. Fails.
    RunawayCpu,
    /// It fails and nothing told of it.
    WithoutWarning,
    /// A scan of the whole disk; slow for some minutes. Harmless.
    DiskScrub,
    /// A wave of visitors. Harmless.
    Surge,
    /// An index is rebuilt: cpu, memory, disk. Harmless.
    Reindex,
    /// A release writes errors for a while. Harmless.
    NoisyRelease,
    /// A warm afternoon in the rack. Harmless.
    WarmAisle,
    /// Another tenant takes the network for a while. Harmless.
    Congestion,
    /// A disk gets slow and recovers for good: the controller changed to the spare path. Harmless.
    HealedDisk,
}

impl Scenario {
    /// All scenarios.
    pub const ALL: [Scenario; 19] = [
        Scenario::Healthy,
        Scenario::StallingDisk,
        Scenario::SteppingDisk,
        Scenario::FullDisk,
        Scenario::StairLeak,
        Scenario::SawtoothLeak,
        Scenario::FailingFan,
        Scenario::RipplingSupply,
        Scenario::FlappingLink,
        Scenario::CreepingQueue,
        Scenario::RunawayCpu,
        Scenario::WithoutWarning,
        Scenario::DiskScrub,
        Scenario::Surge,
        Scenario::Reindex,
        Scenario::NoisyRelease,
        Scenario::WarmAisle,
        Scenario::Congestion,
        Scenario::HealedDisk,
    ];

    /// Whether the partition fails in it.
    pub fn fails(self) -> bool {
        !matches!(
            self,
            Scenario::Healthy
                | Scenario::DiskScrub
                | Scenario::Surge
                | Scenario::Reindex
                | Scenario::NoisyRelease
                | Scenario::WarmAisle
                | Scenario::Congestion
                | Scenario::HealedDisk
        )
    }
}

/// One partition over some hours.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Episode {
    /// What happens.
    pub kind: Scenario,
    /// Time between two samples.
    pub step: Span,
    /// When the first sample was taken; hours of the day and days of the week count from it.
    pub start: Timestamp,
    /// `[metric][time]`, metrics in the order of `telemetry::CANONICAL`; NaN = missing.
    pub metrics: Vec<Vec<f32>>,
    /// Index of the sample at which it fails; all samples from it on are missing. `None` = it lives.
    pub fails_at: Option<usize>,
    /// Index of the first sample with something wrong; `None` where nothing is or nothing tells.
    pub onset: Option<usize>,
    /// The kind of work: `oltp`.
    pub workload_kind: String,
}

/// Sample distance of [`episodes`].
pub const STEP: Span = Span::seconds(30);

/// Samples of an episode of [`episodes`]: six hours.
pub const LEN: usize = 720;

/// `n` episodes of six hours in steps of 30 s: about half of them fail, between 12 minutes and 3
/// hours after the first sign. The same seed gives the same episodes, and `episodes(s, n)` begins
/// with `episodes(s, m)` for m < n.
pub fn episodes(seed: u64, n: usize) -> Vec<Episode> {
    let root = Random::new(seed).fork("training");
    (0..n).map(|i| episode(&mut root.fork(&format!("episode {i}")), STEP, LEN)).collect()
}

/// One episode of `len` samples of distance `step`.
pub fn episode(random: &mut Random, step: Span, len: usize) -> Episode {
    let kind = Kind::ALL[random.below(Kind::ALL.len())];
    let scenario = match random.below(10) {
        0 | 1 => Scenario::Healthy,
        2 => Scenario::ALL[12 + random.below(7)],
        3 => Scenario::ALL[12 + random.below(7)],
        4 if random.chance(0.4) => Scenario::WithoutWarning,
        _ => Scenario::ALL[1 + random.below(10)],
    };
    scene(scenario, kind, random, step, len)
}

/// One episode of that scenario and kind of work.
pub fn scene(scenario: Scenario, kind: Kind, random: &mut Random, step: Span, len: usize) -> Episode {
    let traits = Traits::draw(kind, random);
    // Any hour of any day of a year.
    let start = Timestamp(1_600_000_000_000 + random.below(31_536_000) as i64 * 1000).floor(step);
    let mean_load = random.between(0.3, 0.6) as f32;
    let zone = random.between(-8.0, 8.0) as f32;
    let (work, shape) = (random.bits(), random.bits());
    let strength = random.between(0.6, 1.5) as f32;
    let patience = random.between(720.0, 10_800.0) as f32;
    let onset_s = random.between(0.35, 0.75) as f32 * len as f32 * step.as_seconds() as f32;
    let gap_rate = if random.chance(0.3) { random.between(0.0, 0.01) } else { 0.0 };
    let mut gaps = random.fork("gaps");
    let mut noise = Noise::new(random.fork("noise"));

    let total_s = len as f32 * step.as_seconds() as f32;
    let patience = patience.min((total_s - onset_s) * 0.95).max(step.as_seconds() as f32 * 4.0);
    let step_s = step.as_seconds() as f32;
    let fails_at = scenario.fails().then(|| (((onset_s + patience) / step_s) as usize).min(len - 1));
    let told = !matches!(scenario, Scenario::Healthy | Scenario::WithoutWarning);

    let mut metrics = vec![vec![f32::NAN; len]; METRICS];
    let mut gap_left = 0usize;
    for i in 0..len {
        let at = start + Span(step.0 * i as i64);
        let since = i as f32 * step_s - onset_s;
        let effects = if told && since >= 0.0 {
            effects(scenario, since, since / patience, strength, shape)
        } else {
            Effects::NONE
        };
        let load = mean_load * rhythm(kind, work, zone, at) * surge(scenario, since, patience, strength);
        let values = reading(&traits, load, at, step_s, &mut noise, &effects);
        if gap_left == 0 && gaps.chance(gap_rate) {
            gap_left = 1 + gaps.below(12);
        }
        let missing = gap_left > 0 || fails_at.is_some_and(|f| i >= f);
        gap_left = gap_left.saturating_sub(1);
        if !missing {
            for (row, value) in metrics.iter_mut().zip(values) {
                row[i] = value;
            }
        }
    }
    Episode {
        kind: scenario,
        step,
        start,
        metrics,
        fails_at,
        onset: told.then_some((onset_s / step_s).ceil() as usize),
        workload_kind: kind.word().to_string(),
    }
}

/// How much more work comes in.
fn surge(scenario: Scenario, since: f32, patience: f32, strength: f32) -> f32 {
    let p = since / patience;
    match scenario {
        Scenario::Surge if (0.0..1.0).contains(&p) => 1.0 + 0.8 * strength * arch(p),
        Scenario::Reindex if (0.0..1.0).contains(&p) => 1.0 + 0.35 * strength,
        _ => 1.0,
    }
}

/// 0 at both ends, 1 in the middle.
fn arch(p: f32) -> f32 {
    (4.0 * p * (1.0 - p)).max(0.0)
}

/// What a scenario does `since` seconds after its onset, at the share `p` of its way (0 = onset,
/// 1 = failure, or for a harmless one its end); `k` is its strength, `seed` its own randomness.
fn effects(scenario: Scenario, since: f32, p: f32, k: f32, seed: u64) -> Effects {
    let none = Effects::NONE;
    let minutes = f64::from(since / 60.0);
    // A roughness of its own, so that no two episodes climb alike.
    let rough = 1.0 + 0.25 * wander(seed, minutes / 3.0);
    // The stair that p stands on, of about six, and how high it is.
    let stairs = 4.0 + (seed % 5) as f32;
    let stair = (p * stairs).floor() / stairs;
    let harmless = (0.0..1.0).contains(&p);
    match scenario {
        Scenario::StallingDisk => {
            let stalls = wander(seed, minutes / 1.5) > 0.9 - 1.3 * p;
            let slow = if stalls { 1.0 + k * (4.0 + 24.0 * p) } else { 1.0 + k * p };
            none.times(WRITE, slow)
                .times(READ, 1.0 + 0.6 * (slow - 1.0))
                .plus(ERRORS, if stalls { k * (3.0 + 25.0 * p) } else { 0.0 })
        }
        Scenario::SteppingDisk => none
            .times(WRITE, 1.0 + k * 14.0 * stair * rough)
            .times(READ, 1.0 + k * 6.0 * stair)
            .plus(ERRORS, k * 20.0 * stair * stair)
            .plus(HEAT, 5.0 * stair),
        Scenario::FullDisk => {
            let late = (p - 0.8).max(0.0) * 5.0;
            none.plus(DISK, p * 62.0).times(WRITE, 1.0 + k * 5.0 * late).plus(ERRORS, k * 30.0 * late)
        }
        Scenario::StairLeak => {
            let late = (p - 0.75).max(0.0) * 4.0;
            none.plus(MEMORY, 48.0 * (0.7 * stair + 0.3 * p))
                .plus(QUEUE, k * 10.0 * late)
                .plus(ERRORS, k * 8.0 * late)
        }
        Scenario::SawtoothLeak => {
            let tooth = sine((minutes / 5.0) as f32).abs() * 7.0 * (1.0 - 0.7 * p);
            let late = (p - 0.7).max(0.0) * 3.3;
            none.plus(MEMORY, 46.0 * p + tooth).plus(CPU, 18.0 * k * late).times(REQUEST, 1.0 + k * late)
        }
        Scenario::FailingFan => {
            let swing = sine((minutes / 4.0) as f32) * 7.0 * p;
            none.plus(HEAT, k.max(0.8) * 42.0 * p * (2.0 - p) * 0.8 + swing)
                .plus(ERRORS, (p - 0.6).max(0.0) * 12.0)
        }
        Scenario::RipplingSupply => none
            .plus(VOLTS, -0.25 * k * p - 0.2 * k * p * sine((minutes * 2.3) as f32).max(0.0))
            .wilder(VOLTS, 1.0 + 10.0 * k * p)
            .plus(ERRORS, 6.0 * k * p * p)
            .plus(HEAT, 4.0 * p),
        Scenario::FlappingLink => {
            let bad = sine((minutes / (4.0 + f64::from(seed as u32 % 4))) as f32) > 0.7 - 1.5 * p;
            let depth = if bad { k * (0.5 + 2.5 * p) } else { 0.05 };
            none.plus(LOSS, 6.0 * depth).times(NET, 1.0 + 5.0 * depth).plus(ERRORS, 4.0 * depth)
        }
        Scenario::CreepingQueue => none
            .plus(QUEUE, k * 90.0 * p * p * rough)
            .times(REQUEST, 1.0 + k * 6.0 * p * p)
            .plus(ERRORS, k * 6.0 * p * p)
            .plus(MEMORY, 9.0 * p),
        Scenario::RunawayCpu => none.plus(CPU, 75.0 * (stair + 0.15 * p)).plus(ERRORS, k * 5.0 * p * p),
        Scenario::DiskScrub if harmless => none
            .times(DISK_RATE, 1.0 + 2.5 * k)
            .times(READ, 1.0 + 1.5 * k)
            .times(WRITE, 1.0 + 1.2 * k * rough)
            .plus(IOWAIT, 9.0 * k),
        Scenario::Reindex if harmless => none
            .plus(CPU, 22.0 * k)
            .plus(MEMORY, 9.0 * k * arch(p))
            .times(DISK_RATE, 1.0 + k)
            .times(WRITE, 1.0 + 0.7 * k),
        Scenario::NoisyRelease if harmless => {
            none.plus(ERRORS, k * 25.0 * (1.0 - p)).times(REQUEST, 1.0 + 0.3 * k * (1.0 - p))
        }
        Scenario::WarmAisle if harmless => none.plus(HEAT, 13.0 * k * arch(p)),
        Scenario::Congestion if harmless => {
            none.plus(LOSS, 0.8 * k * rough).times(NET, 1.0 + 2.5 * k * rough)
        }
        Scenario::HealedDisk if (0.0..0.5).contains(&p) => {
            none.times(WRITE, 1.0 + 6.0 * k * p).times(READ, 1.0 + 3.0 * k * p).plus(ERRORS, 6.0 * k * p)
        }
        Scenario::Healthy
        | Scenario::WithoutWarning
        | Scenario::Surge
        | Scenario::DiskScrub
        | Scenario::Reindex
        | Scenario::NoisyRelease
        | Scenario::WarmAisle
        | Scenario::Congestion
        | Scenario::HealedDisk => none,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_episodes_byte_for_byte() {
        let bytes = |n| serde_json::to_vec(&episodes(7, n)).unwrap();
        assert_eq!(bytes(4), bytes(4));
        assert_eq!(bytes(6)[..1000], bytes(4)[..1000]);
        assert_ne!(serde_json::to_vec(&episodes(8, 4)).unwrap(), bytes(4));
    }

    #[test]
    fn failures_have_time_to_tell_of_themselves_and_end_the_samples() {
        let all = episodes(1, 300);
        let failing: Vec<&Episode> = all.iter().filter(|e| e.fails_at.is_some()).collect();
        assert!((110..200).contains(&failing.len()), "{} of 300 fail", failing.len());
        for episode in &failing {
            let end = episode.fails_at.unwrap();
            assert!(
                episode.metrics.iter().all(|row| row.len() == LEN && row[end..].iter().all(|v| v.is_nan()))
            );
            if let Some(onset) = episode.onset {
                let lead = (end - onset) as f64 * STEP.as_seconds() / 60.0;
                assert!((11.0..185.0).contains(&lead), "{:?}: lead {lead} min", episode.kind);
            }
        }
        let kinds: std::collections::BTreeSet<_> = all.iter().map(|e| e.kind).collect();
        assert_eq!(kinds.len(), Scenario::ALL.len(), "every scenario comes: {kinds:?}");
    }

    #[test]
    fn every_failure_with_a_warning_shows_in_some_metric_before_the_end() {
        for scenario in Scenario::ALL.into_iter().filter(|s| s.fails() && *s != Scenario::WithoutWarning) {
            let episode = scene(scenario, Kind::Oltp, &mut Random::new(5), STEP, LEN);
            let (onset, end) = (episode.onset.unwrap(), episode.fails_at.unwrap());
            let strongest = episode.metrics.iter().map(|row| {
                let past: Vec<f32> = row[..onset].iter().copied().filter(|v| !v.is_nan()).collect();
                let mean = past.iter().sum::<f32>() / past.len() as f32;
                let sd =
                    (past.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / past.len() as f32).sqrt();
                row[end - 12..end].iter().map(|v| (v - mean).abs() / sd.max(1e-3)).fold(0.0, f32::max)
            });
            let strongest = strongest.fold(0.0, f32::max);
            assert!(strongest > 6.0, "{scenario:?}: {strongest}");
        }
    }
}
