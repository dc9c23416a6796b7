//! `foreshift bench`: how long a cycle takes on this machine, for a fleet of a given size. The same
//! measurement runs under `cargo bench`.

use std::time::Instant;

use serde::Serialize;

use super::bench_networks;
use super::numbers::at_least_one;
use crate::fleet::rng::Random;
use crate::fleet::topology::{Host, Partition};
use crate::fleet::{Bytes, HostId, PartitionId, ServingState, Span, Timestamp, Topology, Workload};
use crate::predict::failure::{FailureModel, open};
use crate::predict::models::{ModelError, runtime};
use crate::predict::shadow::{Ledger, Look, ShadowOptions};
use crate::predict::{AssessOptions, Assessor, Context};
use crate::telemetry::{CANONICAL, Ingest, MetricIx, PartitionIx, Windows, WindowsConfig};

/// What the command takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Bench {
    /// Partitions in the fleet.
    #[arg(long, default_value_t = 10_000, value_parser = at_least_one)]
    pub partitions: usize,
    /// Metrics of each partition.
    #[arg(long, default_value_t = 16, value_parser = at_least_one)]
    pub metrics: usize,
    /// Cycles that are measured, after the first three.
    #[arg(long, default_value_t = 40, value_parser = at_least_one)]
    pub cycles: usize,
    /// Threads; 1 = one core.
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub threads: usize,
    /// A challenger runs in shadow: its looks are part of the cycles in which they are due.
    #[arg(long)]
    pub shadow: bool,
    /// The fleet has weeks of history: an LSTM votes in every detector, and forecasts are tried with a network.
    #[arg(long)]
    pub networks: bool,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    pub json: bool,
}

/// What was measured.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct BenchReport {
    /// Partitions in the fleet.
    pub partitions: usize,
    /// Metrics of each partition.
    pub metrics: usize,
    /// Threads that worked.
    pub threads: usize,
    /// Slots of the window in memory and their width in seconds.
    pub window: (usize, f64),
    /// Cycles measured.
    pub cycles: usize,
    /// A cycle, in milliseconds: windows in memory to assessments, forecasts on their schedule.
    pub cycle_ms: Quantiles,
    /// What looking at what a model in shadow says takes of a cycle, where one runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look_ms: Option<Quantiles>,
    /// Series that were forecast, all measured cycles together.
    pub forecasts: usize,
    /// Where networks are asked for: what of them works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<AtWork>,
    /// New samples judged a second: partitions × metrics by the median cycle.
    pub points_per_s: f64,
    /// The whole process, in megabytes of 10^6 bytes; `None` where the system does not tell.
    pub rss_mb: Option<f64>,
}

/// Networks at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct AtWork {
    /// Partitions in whose detector an LSTM votes.
    pub voters: usize,
    /// Applications with a network for forecasts.
    pub forecasters: usize,
    /// Series whose last forecast was made with it.
    pub chosen: usize,
}

/// Median and 99th percentile.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl Quantiles {
    /// Of one number or more.
    fn of(times: &mut [f64]) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |q: f64| {
            let place = (times.len().saturating_sub(1) as f64 * q).ceil() as usize;
            times.get(place).copied().unwrap_or(0.0)
        };
        Self { p50: at(0.5), p99: at(0.99) }
    }
}

/// A fleet for measuring: windows full of noise around a level, one partition in a hundred sick, and
/// an assessor that knows it.
pub struct Subject {
    windows: Windows,
    topology: Topology,
    assessor: Assessor,
    now: Timestamp,
    metrics: usize,
    random: Random,
    challenger: Option<Challenger>,
    networks: Option<AtWork>,
}

/// A model in shadow, and the account of it and of the one that speaks.
struct Challenger {
    model: FailureModel,
    ledger: Ledger,
    look_ms: Vec<f64>,
}

impl Subject {
    /// A fleet of that size with more than two hours of samples.
    ///
    /// # Errors
    /// The runtime that was found cannot run the shipped models: a measurement without them would be of
    /// something else.
    pub fn new(partitions: usize, metrics: usize) -> Result<Self, ModelError> {
        Self::of(partitions, metrics, None)
    }

    /// The same of a fleet with weeks of history: see [`Bench::networks`].
    ///
    /// # Errors
    /// As [`Subject::new`].
    pub fn with_networks(partitions: usize, metrics: usize) -> Result<Self, ModelError> {
        let mut subject = Self::of(partitions, metrics, Some(AtWork::default()))?;
        let (voters, forecasters) = bench_networks::give(&mut subject.assessor, &subject.windows, level);
        subject.networks = Some(AtWork { voters, forecasters, chosen: 0 });
        Ok(subject)
    }

    fn of(partitions: usize, metrics: usize, networks: Option<AtWork>) -> Result<Self, ModelError> {
        let metrics = metrics.clamp(1, 64);
        let start = Timestamp(Span::days(20_000).0);
        let config = WindowsConfig::default();
        let mut windows = Windows::new(config, start);
        let mut topology = Topology::default();
        for p in 0..partitions.max(1) {
            let host = HostId::from(format!("h{:06}", p / 2));
            let id = PartitionId::of(&host, if p % 2 == 0 { "p1" } else { "p2" });
            for m in 0..metrics {
                windows.series(&id, &name(m));
            }
            if p % 2 == 0 {
                topology.hosts.push(Host {
                    id: host.clone(),
                    site: format!("s{}", p % 4).into(),
                    rack: format!("r{}", p % 32).into(),
                    capacity: None,
                    labels: Default::default(),
                });
            }
            topology.workloads.push(workload(p, &id));
            topology.partitions.push(Partition {
                id,
                host,
                class: format!("class{}", p % 3),
                serving: ServingState::Active,
                address: String::new(),
            });
        }
        topology.normalise();
        let mut assessor = Assessor::new(AssessOptions::default());
        // Every detector, on the runtime that a console would use.
        let (runtime, _) = runtime::choose(None);
        assessor.use_models(&*runtime, open(None)?)?;
        let random = Random::new(1);
        let mut subject =
            Subject { windows, topology, assessor, now: start, metrics, random, challenger: None, networks };
        for _ in 0..config.len {
            subject.measure();
        }
        // A fleet that has been watched for long: every partition has its model of combinations, and
        // they are fitted anew on the rolling schedule.
        subject.assessor.allow_fits(usize::MAX);
        subject.cycle();
        subject.assessor.allow_fits(AssessOptions::default().combined.fits);
        Ok(subject)
    }

    /// From now on a second model of failure runs in shadow.
    ///
    /// # Errors
    /// As [`Subject::new`].
    pub fn challenge(&mut self) -> Result<(), ModelError> {
        let ledger = Ledger::new(&self.assessor.options().windows, self.now);
        self.challenger = Some(Challenger { model: open(None)?.model, ledger, look_ms: Vec::new() });
        Ok(())
    }

    /// What the engine does of a model in shadow in a cycle, where a look is due: both models' chances,
    /// the look as it is stored, and the account.
    fn look(&mut self) {
        let options = ShadowOptions::default();
        let Some(beside) = self.challenger.as_mut().filter(|c| c.ledger.is_due(&options, self.now)) else {
            return;
        };
        let start = Instant::now();
        let names = self.windows.partitions();
        let which = beside.ledger.turn(&options, names, self.now);
        if let Some(said) = self.assessor.beside(&beside.model, &self.windows, &which) {
            let look = Look::new(self.now, &said, names);
            std::hint::black_box(serde_json::to_vec(&look).expect("plain data serialises"));
            beside.ledger.note(look, &options);
        }
        beside.ledger.settle(&|_, _, _| Some(false), &options, self.now);
        beside.look_ms.push(start.elapsed().as_secs_f64() * 1000.0);
    }

    /// One step of time and a sample of every metric.
    pub fn measure(&mut self) {
        let step = self.windows.config().step;
        self.now += step;
        self.windows.advance(self.now);
        for p in 0..self.windows.partitions().len() {
            let sick = if p % 100 == 7 { 1.6 } else { 1.0 };
            for m in 0..self.metrics {
                let value = match self.networks {
                    Some(_) => bench_networks::value(level(p, m), m, (self.now, step), &mut self.random),
                    // Uniform noise is as good here as any other, and quick.
                    None => level(p, m) * (self.random.unit() as f32 * 0.2 + 0.9),
                };
                let value = value * if m % 5 == 1 { sick } else { 1.0 };
                self.windows.put(PartitionIx(p as u32), MetricIx(m as u16), self.now, value);
            }
        }
    }

    /// Series whose last forecast was made with a network.
    fn chosen(&self) -> usize {
        let all = (0..self.windows.partitions().len()).map(|p| PartitionIx(p as u32));
        let forecasts = all.flat_map(|p| self.assessor.forecasts(p));
        forecasts.filter(|forecast| forecast.method.contains("LSTM")).count()
    }

    /// One cycle; returns how many partitions were assessed.
    pub fn cycle(&mut self) -> usize {
        let context = Context { topology: &self.topology, failures: &[] };
        let assessed = self.assessor.assess(&self.windows, &context, self.now).len();
        self.look();
        assessed
    }
}

/// Where a metric of a partition lies.
fn level(partition: usize, metric: usize) -> f32 {
    10.0 + (partition % bench_networks::LEVELS) as f32 + 3.0 * metric as f32
}

fn name(metric: usize) -> String {
    CANONICAL.get(metric).map_or_else(|| format!("own.{metric}"), |m| m.name.to_string())
}

fn workload(p: usize, partition: &PartitionId) -> Workload {
    Workload {
        id: format!("w{p:06}").into(),
        application: format!("app{}", p % 9).into(),
        class: format!("class{}", p % 3),
        kind: ["oltp", "cache", "batch"][p % 3].to_string(),
        partition: partition.clone(),
        replicas: Vec::new(),
        size: Bytes(1_000_000_000),
        writes_per_s: 10.0,
        requests_per_s: 100.0,
        depends_on: Vec::new(),
        stateless: false,
        generation: Default::default(),
        labels: Default::default(),
    }
}

/// Measures full cycles: every detector, probability, score and attribution of every partition, and
/// the forecasts that are due.
///
/// # Errors
/// As [`Subject::new`].
pub fn measure(options: &Bench) -> Result<BenchReport, ModelError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads.max(1)).build();
    match pool {
        Ok(pool) => pool.install(|| measure_here(options)),
        // Without a pool of its own the work runs on the shared one.
        Err(_) => measure_here(options),
    }
}

fn measure_here(options: &Bench) -> Result<BenchReport, ModelError> {
    let mut subject = match options.networks {
        true => Subject::with_networks(options.partitions, options.metrics)?,
        false => Subject::new(options.partitions, options.metrics)?,
    };
    let config = subject.windows.config();
    if options.shadow {
        subject.challenge()?;
    }
    for _ in 0..3 {
        subject.measure();
        subject.cycle();
    }
    let mut times = Vec::with_capacity(options.cycles);
    let mut forecasts = 0;
    for _ in 0..options.cycles.max(1) {
        subject.measure();
        let start = Instant::now();
        subject.cycle();
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        forecasts += subject.assessor.forecasts_made();
    }
    let cycle_ms = Quantiles::of(&mut times);
    let networks = subject.networks.map(|at_work| AtWork { chosen: subject.chosen(), ..at_work });
    let points = (subject.windows.partitions().len() * subject.metrics) as f64;
    Ok(BenchReport {
        partitions: subject.windows.partitions().len(),
        metrics: subject.metrics,
        threads: options.threads.max(1),
        window: (config.len, config.step.as_seconds()),
        cycles: times.len(),
        cycle_ms,
        look_ms: subject.challenger.map(|mut c| Quantiles::of(&mut c.look_ms)),
        forecasts,
        networks,
        points_per_s: points / (cycle_ms.p50 / 1000.0).max(1e-9),
        rss_mb: resident_mb(),
    })
}

/// Runs the command and returns what it prints.
///
/// # Errors
/// As [`Subject::new`].
pub fn run(options: &Bench) -> Result<String, ModelError> {
    let report = measure(options)?;
    if options.json {
        return Ok(serde_json::to_string(&report).expect("plain data serialises"));
    }
    let rss = report.rss_mb.map_or_else(|| "unknown".to_string(), |mb| format!("{mb:.0} MB"));
    let looks = report.look_ms.map_or_else(String::new, |look| {
        format!("; a look at the model in shadow takes {:.0} ms of it (p99 {:.0} ms)", look.p50, look.p99)
    });
    let networks = report.networks.map_or_else(String::new, |n| {
        let AtWork { voters, forecasters, chosen } = n;
        format!("; an LSTM votes of {voters} partitions, {forecasters} applications have one for forecasts, which speaks in {chosen} of them")
    });
    Ok(format!(
        "{} partitions × {} metrics, {} thread(s): a cycle takes {:.0} ms (p99 {:.0} ms), {:.1} million points a second, {rss}{looks}{networks}",
        report.partitions,
        report.metrics,
        report.threads,
        report.cycle_ms.p50,
        report.cycle_ms.p99,
        report.points_per_s / 1e6,
    ))
}

/// Resident memory of this process.
fn resident_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fleet of which figures are promised.
    const PROMISED: Bench = Bench {
        partitions: 10_000,
        metrics: 16,
        cycles: 12,
        threads: 1,
        shadow: false,
        networks: false,
        json: true,
    };

    #[test]
    fn the_report_is_one_json_object_with_what_was_promised() {
        let options = Bench { partitions: 50, cycles: 3, shadow: true, ..PROMISED };
        let report: serde_json::Value = serde_json::from_str(&run(&options).unwrap()).unwrap();
        for key in ["partitions", "metrics", "points_per_s", "rss_mb"] {
            assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
        }
        assert!(report["look_ms"]["p50"].as_f64().unwrap() > 0.0, "{report}");
        assert!(report["cycle_ms"]["p50"].as_f64().unwrap() <= report["cycle_ms"]["p99"].as_f64().unwrap());
    }

    /// The figure that is promised; run by hand, with `--release`, on a machine with nothing else to do.
    #[test]
    #[ignore = "measures: run it with --release on a quiet machine"]
    fn ten_thousand_partitions_take_less_than_a_second_on_one_core() {
        let options = PROMISED;
        let report = measure(&options).unwrap();
        say!("{}", serde_json::to_string(&report).unwrap());
        assert!(report.cycle_ms.p99 < 1_000.0 && report.rss_mb.unwrap() < 500.0, "{report:?}");
    }

    /// The same with networks everywhere; run by hand, as above.
    #[test]
    #[ignore = "measures: run it with --release on a quiet machine"]
    fn ten_thousand_partitions_with_networks_take_less_than_a_second_on_one_core() {
        let options = Bench { networks: true, ..PROMISED };
        let report = measure(&options).unwrap();
        say!("{}", serde_json::to_string(&report).unwrap());
        let at_work = report.networks.unwrap();
        assert_eq!(
            (at_work.voters, at_work.forecasters),
            (10_000, 3),
            "an LSTM votes of all, and all are tried"
        );
        assert!(at_work.chosen > 0 && report.cycle_ms.p99 < 1_000.0, "{report:?}");
    }
}
