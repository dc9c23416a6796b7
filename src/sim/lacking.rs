//! What hosts of real fleets do not measure. Simulated ones measure all sixteen metrics; a model that
//! never saw one missing has learnt nothing of what it means, so training shows it every episode a
//! second time, as a host with fewer collectors would have written it.

use super::load::{METRICS, metric::*};
use super::training::{Episode, Scenario};
use crate::fleet::rng::Random;

/// What comes or is missing together: sensors, the application's own numbers, a collector.
const GROUPS: [&[usize]; 10] = [
    &[HEAT, VOLTS],
    &[VOLTS],
    &[LOSS],
    &[NET],
    &[QUEUE, REQUEST],
    &[ERRORS],
    &[PRESSURE],
    &[IOWAIT],
    &[READ, WRITE],
    &[DISK_RATE],
];

/// What Telegraf's cpu, mem, disk, diskio and net leave out.
const PLAIN_AGENT: [usize; 8] = [PRESSURE, NET, LOSS, ERRORS, HEAT, VOLTS, QUEUE, REQUEST];

/// Most metrics that may lack; with fewer than half of them no model is asked.
const MOST: usize = METRICS / 2;

/// Metrics that one host does not give: now and then what a plain agent leaves out, or one alone, else
/// some groups.
pub fn lacking(random: &mut Random) -> Vec<usize> {
    let mut lacks: Vec<usize> = match random.below(5) {
        0 => PLAIN_AGENT.iter().copied().filter(|_| random.chance(0.9)).collect(),
        1 => vec![random.below(METRICS)],
        _ => GROUPS.iter().filter(|_| random.chance(0.35)).copied().flatten().copied().collect(),
    };
    lacks.sort_unstable();
    lacks.dedup();
    while lacks.len() > MOST {
        lacks.swap_remove(random.below(lacks.len()));
    }
    lacks
}

impl Episode {
    /// The same episode on a host that does not measure these metrics. Where none of the rest tells of
    /// what happens, nothing does: it has no onset.
    pub fn without(&self, lacks: &[usize]) -> Episode {
        let mut out = self.clone();
        for &metric in lacks {
            out.metrics[metric].fill(f32::NAN);
        }
        if shows(self.kind).iter().all(|metric| lacks.contains(metric)) {
            out.onset = None;
        }
        out
    }
}

/// The metrics that tell of a scenario.
fn shows(scenario: Scenario) -> &'static [usize] {
    match scenario {
        Scenario::Healthy | Scenario::WithoutWarning => &[],
        Scenario::StallingDisk | Scenario::SteppingDisk | Scenario::HealedDisk => &[READ, WRITE, ERRORS],
        Scenario::FullDisk => &[DISK],
        Scenario::StairLeak | Scenario::SawtoothLeak => &[MEMORY],
        Scenario::FailingFan => &[HEAT, ERRORS],
        Scenario::RipplingSupply => &[VOLTS, ERRORS],
        Scenario::FlappingLink | Scenario::Congestion => &[LOSS, NET],
        Scenario::CreepingQueue => &[QUEUE, REQUEST, MEMORY],
        Scenario::RunawayCpu | Scenario::Surge | Scenario::Reindex => &[CPU],
        Scenario::DiskScrub => &[READ, WRITE, DISK_RATE, IOWAIT],
        Scenario::NoisyRelease => &[ERRORS, REQUEST],
        Scenario::WarmAisle => &[HEAT],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::load::Kind;
    use crate::sim::training::{LEN, STEP, scene};

    #[test]
    fn every_metric_is_missing_somewhere_and_half_of_them_always_stay() {
        let mut random = Random::new(3);
        let mut times = [0usize; METRICS];
        let mut plain = 0;
        for _ in 0..900 {
            let lacks = lacking(&mut random);
            assert!(lacks.len() <= MOST, "{lacks:?}");
            lacks.iter().for_each(|&metric| times[metric] += 1);
            plain += usize::from(lacks == PLAIN_AGENT);
        }
        assert!(times.iter().all(|&n| n >= 4), "{times:?}");
        assert!([LOSS, HEAT, VOLTS, QUEUE].iter().all(|&m| times[m] > 200), "{times:?}");
        assert!(plain > 20, "a plain agent's host comes {plain} times");
    }

    #[test]
    fn a_fault_that_only_a_missing_sensor_would_show_has_no_onset() {
        let of = |scenario| scene(scenario, Kind::Oltp, &mut Random::new(5), STEP, LEN);
        let fan = of(Scenario::FailingFan).without(&[HEAT, VOLTS, ERRORS]);
        assert_eq!(fan.onset, None);
        assert!(fan.fails_at.is_some() && fan.metrics[HEAT].iter().all(|x| x.is_nan()));
        let leak = of(Scenario::StairLeak);
        assert_eq!(leak.without(&PLAIN_AGENT).onset, leak.onset);
    }
}
