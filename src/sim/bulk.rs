//! Many partitions at once, for benchmarks: windows filled straight away, without agents or a
//! fleet around them.

use super::load::{Effects, Kind, METRICS, Traits, metric, reading, rhythm};
use super::noise::{Noise, gaussian, mixed};
use crate::fleet::rng::Random;
use crate::fleet::{HostId, PartitionId, Timestamp};
use crate::telemetry::{Ingest, MetricIx, Windows, WindowsConfig};

/// The time at which the windows of [`bulk`] end: a Wednesday, 14:00 UTC.
pub const BULK_NOW: Timestamp = Timestamp(1_700_056_800_000);

/// Windows of the default size, full, for `partitions` partitions (four a host) and `metrics`
/// metrics: the canonical ones first, beyond sixteen noise under names of its own. One partition in
/// a hundred is on its way to failing.
pub fn bulk(partitions: usize, metrics: usize, seed: u64) -> Windows {
    let config = WindowsConfig { max_metrics: metrics.max(64), ..WindowsConfig::default() };
    let mut windows = Windows::new(config, BULK_NOW);
    let root = Random::new(seed).fork("bulk");
    let step_s = config.step.as_seconds() as f32;
    let start = windows.tail();
    for p in 0..partitions {
        let mut random = root.fork(&p.to_string());
        let kind = Kind::ALL[p % Kind::ALL.len()];
        let traits = Traits::draw(kind, &mut random);
        let mean_load = random.between(0.3, 0.6) as f32;
        let work = random.bits();
        let mut noise = Noise::new(random);
        let host = HostId::new(format!("host-{:05}", p / 4));
        let id = PartitionId::of(&host, &format!("p{}", p % 4));
        let ix = windows.intern(&id);
        let own: Vec<u32> = (METRICS..metrics).map(|m| windows.series(&id, &format!("own.{m:02}"))).collect();
        for slot in 0..config.len {
            let at = Timestamp(start.0 + config.step.0 * slot as i64);
            let progress = if p % 100 == 7 { slot as f32 / config.len as f32 } else { 0.0 };
            let effects = match progress > 0.5 {
                true => Effects::NONE.times(metric::WRITE, 20.0 * progress).plus(metric::ERRORS, 9.0),
                false => Effects::NONE,
            };
            let load = mean_load * rhythm(kind, work, 0.0, at);
            let values = reading(&traits, load, at, step_s, &mut noise, &effects);
            for (m, value) in (0u16..).zip(values).take(metrics) {
                windows.put(ix, MetricIx(m), at, value);
            }
            for &series in &own {
                windows.push(
                    series,
                    at,
                    gaussian(mixed(work ^ mixed(u64::from(series) << 20 | slot as u64))),
                );
            }
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::PartitionIx;

    #[test]
    fn bulk_windows_are_full_and_the_same_for_the_same_seed() {
        let (a, b) = (bulk(40, 20, 3), bulk(40, 20, 3));
        assert_eq!(a.counters().taken, 40 * 20 * 248);
        for p in 0..40 {
            for m in 0..20 {
                assert_eq!(a.row(PartitionIx(p), MetricIx(m)), b.row(PartitionIx(p), MetricIx(m)));
            }
        }
    }

    #[test]
    fn ten_thousand_partitions_are_there_in_seconds() {
        if cfg!(debug_assertions) && std::env::var_os("FORESHIFT_SLOW").is_none() {
            println!("skipped: needs FORESHIFT_SLOW=1 or a release build");
            return;
        }
        let started = std::time::Instant::now();
        let windows = bulk(10_000, 16, 1);
        println!("{} samples in {:?}", windows.counters().taken, started.elapsed());
        assert_eq!(windows.partitions().len(), 10_000);
    }
}
