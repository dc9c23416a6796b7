//! What a healthy partition's sixteen canonical metrics look like: the rhythm of its work over day
//! and week, what each kind of work does to cpu, disks and network, and how one thing leads to
//! another (load to latency, latency to queues, work to heat). Faults come in as [`Effects`] at
//! the place where they would strike, so that their consequences follow by the same rules.

use serde::{Deserialize, Serialize};

use super::noise::{Noise, exp, sine, wander};
use crate::fleet::Timestamp;
use crate::fleet::rng::Random;

/// How many metrics there are; their order is that of `telemetry::CANONICAL`.
pub const METRICS: usize = 16;

/// Places of the canonical metrics, in the order of `telemetry::CANONICAL`.
pub mod metric {
    /// `cpu.busy`, %.
    pub const CPU: usize = 0;
    /// `cpu.iowait`, %.
    pub const IOWAIT: usize = 1;
    /// `mem.used`, %.
    pub const MEMORY: usize = 2;
    /// `mem.pressure`, %.
    pub const PRESSURE: usize = 3;
    /// `disk.used`, %.
    pub const DISK: usize = 4;
    /// `disk.read_latency`, ms.
    pub const READ: usize = 5;
    /// `disk.write_latency`, ms.
    pub const WRITE: usize = 6;
    /// `disk.throughput`, B/s.
    pub const DISK_RATE: usize = 7;
    /// `net.throughput`, B/s.
    pub const NET_RATE: usize = 8;
    /// `net.latency`, ms.
    pub const NET: usize = 9;
    /// `net.loss`, %.
    pub const LOSS: usize = 10;
    /// `log.errors`, a minute.
    pub const ERRORS: usize = 11;
    /// `temp`, °C.
    pub const HEAT: usize = 12;
    /// `power.volts`, V.
    pub const VOLTS: usize = 13;
    /// `queue.depth`.
    pub const QUEUE: usize = 14;
    /// `request.latency`, ms.
    pub const REQUEST: usize = 15;
}
use metric::*;

/// Kind of work.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Short transactions.
    Oltp,
    /// A cache in memory.
    Cache,
    /// Events.
    Stream,
    /// Searches.
    Search,
    /// Long jobs at night.
    Batch,
    /// Pages; holds no data.
    Web,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 6] = [Kind::Oltp, Kind::Cache, Kind::Stream, Kind::Search, Kind::Batch, Kind::Web];

    /// As a topology writes it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Oltp => "oltp",
            Kind::Cache => "cache",
            Kind::Stream => "stream",
            Kind::Search => "search",
            Kind::Batch => "batch",
            Kind::Web => "web",
        }
    }

    /// How much one unit of load asks of cpu, disk and network, 1 = as usual.
    fn appetite(self) -> (f32, f32, f32) {
        match self {
            Kind::Oltp => (1.0, 1.2, 0.8),
            Kind::Cache => (0.6, 0.15, 1.6),
            Kind::Stream => (0.8, 0.9, 1.5),
            Kind::Search => (1.3, 0.8, 0.7),
            Kind::Batch => (1.4, 1.6, 0.6),
            Kind::Web => (1.1, 0.1, 1.2),
        }
    }
}

/// Traffic of an application relative to its mean, about 0.2 to 1.8: daily and weekly rhythm and a
/// slow random wander. `zone_h` is how many hours its users' clocks are ahead of UTC.
pub fn rhythm(kind: Kind, seed: u64, zone_h: f32, at: Timestamp) -> f32 {
    const DAY_MS: i64 = 86_400_000;
    let local = at.0 + (zone_h * 3_600_000.0) as i64;
    let day = local.rem_euclid(DAY_MS) as f32 / DAY_MS as f32;
    // The epoch was a Thursday: 0 = Monday.
    let weekday = (local.div_euclid(DAY_MS) + 3).rem_euclid(7);
    let weekend = weekday >= 5;
    // Least at 3 in the morning, most at 3 in the afternoon, a dip at noon.
    let swing = -sine(day + 0.125);
    let lunch = sine(2.0 * day + 0.25);
    let base = match kind {
        Kind::Oltp => 0.9 + 0.55 * swing - 0.08 * lunch,
        Kind::Cache | Kind::Web => 0.95 + 0.5 * swing,
        Kind::Search => 0.9 + 0.45 * swing - 0.05 * lunch,
        Kind::Stream => 1.0 + 0.2 * swing,
        Kind::Batch => 0.85 - 0.45 * swing,
    };
    let week = match kind {
        Kind::Oltp | Kind::Search if weekend => 0.6,
        Kind::Cache | Kind::Web if weekend => 0.8,
        _ => 1.0,
    };
    let minutes = at.0 as f64 / 60_000.0;
    let stray = 0.06 * wander(seed, minutes / 11.0) + 0.05 * wander(seed ^ 1, minutes / 47.0);
    (base * week * (1.0 + stray)).max(0.05)
}

/// What is particular to one partition: its hardware and habits.
#[derive(Clone, Debug)]
pub struct Traits {
    /// The kind of work it does most.
    pub kind: Kind,
    seed: u64,
    cpu_idle: f32,
    cpu_gain: f32,
    iowait: f32,
    memory: f32,
    disk: f32,
    disk_growth: f32,
    read_ms: f32,
    write_ms: f32,
    disk_rate: f32,
    net_rate: f32,
    net_ms: f32,
    error_rate: f32,
    ambient: f32,
    heat_gain: f32,
    volts: f32,
    queue_gain: f32,
    pub(super) request_ms: f32,
    backup_at: f32,
}

impl Traits {
    /// Draws a partition whose main work is of `kind`.
    pub fn draw(kind: Kind, random: &mut Random) -> Self {
        let (cpu, disk, net) = kind.appetite();
        let mut between = |low: f64, high: f64| random.between(low, high) as f32;
        Self {
            kind,
            cpu_idle: between(3.0, 8.0),
            cpu_gain: cpu * between(45.0, 62.0),
            iowait: disk * between(0.8, 3.0),
            memory: match kind {
                Kind::Cache => between(66.0, 80.0),
                Kind::Web => between(30.0, 45.0),
                _ => between(48.0, 70.0),
            },
            disk: if kind == Kind::Web { between(12.0, 25.0) } else { between(30.0, 68.0) },
            disk_growth: disk * between(0.1, 0.8),
            read_ms: between(0.4, 1.6),
            write_ms: between(0.8, 3.0),
            disk_rate: disk * between(25e6, 70e6),
            net_rate: net * between(20e6, 80e6),
            net_ms: between(0.2, 0.7),
            error_rate: between(0.1, 0.7),
            ambient: between(31.0, 37.0),
            heat_gain: between(18.0, 26.0),
            volts: between(11.95, 12.12),
            queue_gain: between(2.0, 6.0),
            request_ms: match kind {
                Kind::Cache => between(0.5, 1.2),
                Kind::Search | Kind::Batch => between(15.0, 40.0),
                _ => between(3.0, 9.0),
            },
            backup_at: between(0.0, 5.0 / 24.0),
            seed: random.bits(),
        }
    }

    /// Whether its nightly backup runs; part of its normal.
    fn backup(&self, at: Timestamp) -> f32 {
        let day = at.0.rem_euclid(86_400_000) as f32 / 86_400_000.0;
        let into = (day - self.backup_at) * 1440.0;
        if self.kind != Kind::Web && (0.0..18.0).contains(&into) { 1.0 } else { 0.0 }
    }
}

/// What a fault (or a harmless disturbance) does to a partition at one moment: each metric is
/// multiplied, then added to, at the place where it arises.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Effects {
    /// Multiplied with, per metric.
    pub factor: [f32; METRICS],
    /// Added to, per metric, in its unit.
    pub add: [f32; METRICS],
    /// How much wilder than usual each metric is, 1 = as usual.
    pub wild: [f32; METRICS],
}

impl Effects {
    /// Nothing at all.
    pub const NONE: Effects = Effects { factor: [1.0; METRICS], add: [0.0; METRICS], wild: [1.0; METRICS] };

    /// Both together.
    pub fn and(mut self, other: &Effects) -> Effects {
        for i in 0..METRICS {
            self.factor[i] *= other.factor[i];
            self.add[i] += other.add[i];
            self.wild[i] *= other.wild[i];
        }
        self
    }

    /// With `metric` multiplied by `factor`.
    pub fn times(mut self, metric: usize, factor: f32) -> Effects {
        self.factor[metric] *= factor;
        self
    }

    /// With `add` added to `metric`.
    pub fn plus(mut self, metric: usize, add: f32) -> Effects {
        self.add[metric] += add;
        self
    }

    /// With `metric` as many times wilder.
    pub fn wilder(mut self, metric: usize, times: f32) -> Effects {
        self.wild[metric] *= times;
        self
    }

    fn on(&self, metric: usize, value: f32) -> f32 {
        value * self.factor[metric] + self.add[metric]
    }
}

/// The sixteen metrics at one moment. `load` is the share of the partition's capacity that its work
/// asks for (1 = all of it), `step_s` how many seconds the last call was ago.
pub(crate) fn reading(
    traits: &Traits,
    load: f32,
    at: Timestamp,
    step_s: f32,
    noise: &mut Noise,
    effects: &Effects,
) -> [f32; METRICS] {
    let mut n = noise.next(step_s);
    for (n, wild) in n.iter_mut().zip(&effects.wild) {
        *n *= wild;
    }
    let hiccup = if noise.unit() < 0.002 { 1.0 + 2.5 * noise.unit() } else { 1.0 };
    let backup = traits.backup(at);
    let u = load.clamp(0.0, 1.5);
    let mut m = [0.0f32; METRICS];

    let slow = 1.0 + 0.6 * u * u + 0.5 * backup;
    m[READ] = effects.on(READ, traits.read_ms * slow * hiccup * exp(0.16 * n[READ])).max(0.05);
    m[WRITE] = effects.on(WRITE, traits.write_ms * slow * hiccup * exp(0.14 * n[WRITE])).max(0.05);
    let disk_slow = (m[WRITE] / (traits.write_ms * slow)).max(m[READ] / (traits.read_ms * slow)).max(1.0);
    let stall = (disk_slow - 1.0) / (disk_slow + 4.0);

    m[DISK_RATE] = effects
        .on(DISK_RATE, traits.disk_rate * (0.15 + 0.85 * u + 1.6 * backup) * (1.0 - 0.5 * stall))
        .max(0.0)
        * exp(0.12 * n[DISK_RATE]);
    m[IOWAIT] = effects
        .on(IOWAIT, traits.iowait * (0.4 + u + 2.0 * backup) * (1.0 + 0.15 * n[IOWAIT]) + 14.0 * stall);
    m[IOWAIT] = m[IOWAIT].clamp(0.0, 100.0);
    m[CPU] = effects.on(CPU, traits.cpu_idle + traits.cpu_gain * u + 2.0 * n[CPU]);
    m[CPU] = m[CPU].clamp(0.5, 100.0 - 0.5 * m[IOWAIT]);

    let minutes = at.0 as f64 / 60_000.0;
    let memory = traits.memory + 8.0 * u + 2.0 * wander(traits.seed, minutes / 90.0) + 0.25 * n[MEMORY];
    m[MEMORY] = effects.on(MEMORY, memory).clamp(1.0, 99.9);
    let short = (m[MEMORY] - 88.0).max(0.0);
    m[PRESSURE] = effects.on(PRESSURE, 0.3 + 0.2 * n[PRESSURE].abs() + 0.35 * short * short);
    m[PRESSURE] = m[PRESSURE].clamp(0.0, 100.0);

    // A week of growth, then the old is thrown away.
    let days = at.0 as f32 / 86_400_000.0 + (traits.seed % 7) as f32;
    let grown = traits.disk_growth * (days - 7.0 * (days / 7.0).floor());
    m[DISK] = effects.on(DISK, traits.disk + grown + 0.05 * n[DISK]).clamp(0.5, 100.0);

    m[LOSS] = effects.on(LOSS, (0.02 * (n[LOSS] - 1.6)).max(0.0)).clamp(0.0, 100.0);
    m[NET] = effects.on(NET, traits.net_ms * (1.0 + 0.25 * u) * exp(0.15 * n[NET])).max(0.02);
    let lost = 1.0 + 0.25 * m[LOSS];
    m[NET_RATE] = effects.on(NET_RATE, traits.net_rate * (0.05 + 0.95 * u) / lost.min(4.0)).max(0.0)
        * exp(0.08 * n[NET_RATE]);

    let swelter = 1.2 * sine(at.0.rem_euclid(86_400_000) as f32 / 86_400_000.0 - 0.3);
    let warmth = traits.ambient + swelter + traits.heat_gain * m[CPU] / 100.0 + 0.4 * n[HEAT];
    m[HEAT] = effects.on(HEAT, warmth);
    m[VOLTS] = effects.on(VOLTS, traits.volts - 0.06 * m[CPU] / 100.0 + 0.012 * n[VOLTS]).max(0.0);

    let throttle = 1.0 + 0.05 * (m[HEAT] - 85.0).max(0.0);
    let busy = (m[CPU] / 100.0).min(0.97);
    let waiting = traits.queue_gain * (0.3 * u + busy * busy / (1.0 - busy)) * throttle;
    let queue = waiting * (1.0 + 2.0 * stall) * (1.0 + 0.04 * m[PRESSURE]) * exp(0.2 * n[QUEUE]);
    m[QUEUE] = effects.on(QUEUE, queue).max(0.0);
    let disk_part = if matches!(traits.kind, Kind::Cache | Kind::Web) { 0.1 } else { 0.5 };
    let network = (m[NET] - traits.net_ms * 1.25).max(0.0);
    let request = traits.request_ms
        * (1.0 + 0.05 * m[QUEUE])
        * throttle
        * (1.0 + disk_part * (disk_slow - 1.0) * 0.5)
        * exp(0.1 * n[REQUEST])
        * hiccup
        + 1.5 * network;
    m[REQUEST] = effects.on(REQUEST, request).max(0.02);

    let trouble = 3.0 * stall + 0.4 * m[LOSS] + 0.05 * m[PRESSURE];
    let rate = effects.on(ERRORS, traits.error_rate + trouble).max(0.0);
    m[ERRORS] = (rate + rate.sqrt() * n[ERRORS]).round().max(0.0);
    m
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::CANONICAL;

    #[test]
    fn the_places_of_the_metrics_are_those_of_the_schema() {
        assert_eq!(CANONICAL.len(), METRICS);
        assert_eq!(CANONICAL[WRITE].name, "disk.write_latency");
        assert_eq!(CANONICAL[ERRORS].name, "log.errors");
        assert_eq!(CANONICAL[REQUEST].name, "request.latency");
    }

    #[test]
    fn a_healthy_partition_stays_within_what_hardware_can_do() {
        let root = Random::new(11);
        for kind in Kind::ALL {
            let mut random = root.fork(kind.word());
            let traits = Traits::draw(kind, &mut random);
            let mut noise = Noise::new(random);
            for step in 0..5000 {
                let at = Timestamp(1_700_000_000_000 + step * 60_000);
                let load = 0.45 * rhythm(kind, 5, 1.0, at);
                let m = reading(&traits, load, at, 60.0, &mut noise, &Effects::NONE);
                assert!(m.iter().all(|v| v.is_finite() && *v >= 0.0), "{kind:?} {m:?}");
                assert!(m[CPU] <= 100.0 && m[MEMORY] < 95.0 && m[HEAT] < 75.0 && m[LOSS] < 0.2, "{m:?}");
                assert!(m[WRITE] < 60.0 && m[REQUEST] < 400.0, "{kind:?} {m:?}");
                assert!((11.7..12.3).contains(&m[VOLTS]), "{m:?}");
            }
        }
    }

    #[test]
    fn afternoons_are_busier_than_nights_but_for_batch_work() {
        let hour = |h: i64| Timestamp(1_700_006_400_000 + h * 3_600_000); // a Wednesday, midnight
        for kind in Kind::ALL {
            let (night, day) = (rhythm(kind, 1, 0.0, hour(3)), rhythm(kind, 1, 0.0, hour(15)));
            assert_eq!(kind != Kind::Batch, day > night, "{kind:?}: {night} {day}");
        }
    }
}
