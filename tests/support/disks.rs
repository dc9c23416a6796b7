//! A fleet of disks whose failures are known, and an engine that lives on it, cycle by cycle: for what models
//! compete about.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::sync::Arc;

use foreshift::engine::brain::Brain;
use foreshift::engine::failures::{Failure, Label, Origin};
use foreshift::engine::inventory::Inventory;
use foreshift::engine::observe::Pulled;
use foreshift::engine::{Contest, Core, EngineOptions, Parts};
use foreshift::fleet::rng::Random;
use foreshift::fleet::{
    ApplicationId, Bytes, Generation, Host, Partition, PartitionId, ServingState, Span, Timestamp, Topology,
    Workload, WorkloadId,
};
use foreshift::plan::PlanOptions;
use foreshift::predict::failure::{FeatureSpec, Ranges};
use foreshift::predict::models::linear::Linear;
use foreshift::predict::models::onnx::{self, Model};
use foreshift::predict::models::runtime::kernels::Kernels;
use foreshift::predict::shadow::ShadowOptions;
use foreshift::predict::train::Registry;
use foreshift::predict::train::card::{Card, Data, hash};
use foreshift::predict::train::failure::{HeadFile, file_name};
use foreshift::predict::{AssessOptions, Calibration, HysteresisOptions};
use foreshift::protocol::ModelStatus;
use foreshift::state::Store;
use foreshift::telemetry::Ingest;

pub const HOSTS: usize = 24;
/// Monday, 2026-01-05T00:00:00Z.
pub const START: Timestamp = Timestamp(1_767_571_200_000);
pub const CYCLE: Span = Span::minutes(5);
pub const DAY: i64 = 86_400_000;
/// A failing disk slows down for so long.
pub const WARNING: i64 = 90 * 60_000;
pub const DEAD: i64 = 30 * 60_000;

pub fn spec() -> FeatureSpec {
    FeatureSpec {
        metrics: vec!["disk.write_latency".into(), "cpu.busy".into()],
        extras: vec!["instability".into(), "health".into()],
        ..FeatureSpec::default()
    }
}

/// Latencies of every kind were seen in training, of the processor a calm life.
pub fn ranges() -> Ranges {
    let (mut low, mut high) = (vec![-20.0; spec().width()], vec![200.0; spec().width()]);
    for feature in 5..10 {
        (low[feature], high[feature]) = (-4.0, 4.0);
    }
    Ranges::new(low, high)
}

/// A model of 15 minutes and of an hour that rises with write latency by a slope a deviation, from a base
/// in log-odds.
pub fn version(heads: [(f64, f32); 2]) -> Vec<HeadFile> {
    let spec = spec();
    [Span::minutes(15), Span::hours(1)]
        .into_iter()
        .zip(heads)
        .map(|(within, (intercept, slope))| {
            let mut weights = vec![0.0; spec.width()];
            weights[spec.mean10(0)] = slope;
            let linear = Linear { intercept, weights, means: vec![0.0; spec.width()] };
            let model = Model::Linear(linear);
            let bytes = onnx::encode(&model);
            let card = Card {
                title: format!("failure within {}", within.as_window()),
                application: None,
                kind: model.kind().into(),
                chosen: "by hand".into(),
                hash: hash(&bytes),
                trained_by: "a test".into(),
                seed: 1,
                within_seconds: Some(within.0 / 1000),
                calibration: Some(Calibration::Calibrated),
                data: Data::default(),
                features: spec.clone(),
                quality: None,
                measures: BTreeMap::new(),
                calibrator: None,
                ranges: Some(ranges()),
                forecast: None,
            };
            HeadFile { name: file_name(within), onnx: bytes, card }
        })
        .collect()
}

/// Reads the warning of a failing disk.
pub fn good() -> Vec<HeadFile> {
    version([(-5.6, 0.0), (-6.0, 1.5)])
}

/// Knows how often disks fail, and no more.
pub fn poor() -> Vec<HeadFile> {
    version([(-5.6, 0.0), (-4.3, 0.0)])
}

/// What disks do.
#[derive(Clone, Copy, PartialEq)]
pub enum World {
    /// They slow down before they fail.
    Tells,
    /// They slow down every day for a scrub, and fail without a warning.
    Misleads,
    /// The processors are busier than they ever were.
    Busy,
}

pub fn name(host: usize) -> String {
    format!("h{host:02}")
}

/// A failure of a third of the hosts a day, at a time of its own.
pub fn dies(host: usize, day: i64) -> Option<i64> {
    ((host as i64 + day) % 3 == 0).then(|| {
        let mut random = Random::new((host as u64) << 32 | day as u64);
        day * DAY + 3 * 3_600_000 + (random.unit() * 19.0 * 3_600_000.0) as i64 / 300_000 * 300_000
    })
}

/// Fleet, engine, and time.
pub struct Life {
    pub core: Core,
    pub now: Timestamp,
    random: Random,
    /// What stands on every host, a partition each.
    applications: &'static [&'static str],
}

/// The partition of an application on a host; where there is one application alone it is the whole host.
pub fn partition(host: usize, application: &str, applications: &[&str]) -> PartitionId {
    match applications {
        [_] => PartitionId::from(name(host)),
        _ => PartitionId::from(format!("{}/{application}", name(host))),
    }
}

fn topology(applications: &[&str]) -> Topology {
    let mut topology = Topology::default();
    for h in 0..HOSTS {
        let host = PartitionId::from(name(h)).host();
        topology.hosts.push(Host {
            id: host.clone(),
            site: "s".into(),
            rack: format!("r{}", h % 6).into(),
            capacity: None,
            labels: BTreeMap::new(),
        });
        for application in applications {
            let id = partition(h, application, applications);
            topology.partitions.push(Partition {
                id: id.clone(),
                host: host.clone(),
                class: "disk".into(),
                serving: ServingState::Active,
                address: String::new(),
            });
            let work =
                if applications.len() == 1 { format!("work {h}") } else { format!("{application} {h}") };
            topology.workloads.push(Workload {
                id: WorkloadId::from(work.as_str()),
                application: ApplicationId::from(*application),
                class: "disk".into(),
                kind: "oltp".into(),
                partition: id,
                replicas: Vec::new(),
                size: Bytes(1000),
                writes_per_s: 0.0,
                requests_per_s: 0.0,
                depends_on: Vec::new(),
                stateless: false,
                generation: Generation::default(),
                labels: BTreeMap::new(),
            });
        }
    }
    topology.normalise();
    topology
}

impl Life {
    pub async fn begin(store: Arc<dyn Store>, contest: Option<Contest>, now: Timestamp) -> Self {
        Self::of(&["app"], store, contest, now).await
    }

    /// Every host holds a partition of each application.
    pub async fn of(
        applications: &'static [&'static str],
        store: Arc<dyn Store>,
        contest: Option<Contest>,
        now: Timestamp,
    ) -> Self {
        let options = EngineOptions::default();
        let brain = Brain::new(options.windows, AssessOptions::default(), HysteresisOptions::default(), now);
        let parts = Parts {
            options,
            brain,
            plan: PlanOptions::default(),
            store,
            runner: None,
            movers: std::collections::HashMap::new(),
            inventory: Inventory::default(),
            source_name: "a test".into(),
            models: ModelStatus::default(),
        };
        let mut core = Core::start(parts, now).await.unwrap();
        core.discovery("disk".into(), Ok(topology(applications)), now);
        if let Some(contest) = contest {
            core.compete(contest, now).await.unwrap();
        }
        Self { core, now, random: Random::new(5), applications }
    }

    /// One cycle of five minutes; `seen` is shown the engine after it.
    pub async fn step(&mut self, world: World) {
        let (from, until) = (self.now.0 - START.0, self.now.0 - START.0 + CYCLE.0);
        let mut pulled = Pulled::default();
        let all = (0..HOSTS).flat_map(|h| self.applications.iter().map(move |a| (h, *a)));
        for (h, application) in all.collect::<Vec<_>>() {
            let id = partition(h, application, self.applications);
            let series = spec().metrics.iter().map(|m| pulled.series(&id, m)).collect::<Vec<_>>();
            let deaths = [from / DAY - 1, from / DAY, from / DAY + 1].map(|d| dies(h, d));
            for at in (from + 30_000..=until).step_by(30_000) {
                let noise = (0.25 * self.random.normal() as f32).exp();
                let busy = 40.0 + 3.0 * self.random.normal() as f32;
                let near = deaths.iter().flatten().find(|d| at > **d - WARNING && at <= **d + DEAD);
                if near.is_some_and(|d| at > *d) {
                    continue;
                }
                let share = near.map_or(0.0, |d| 1.0 - (d - at) as f32 / WARNING as f32);
                // The scrub comes to every host once a day, at an hour of its own, for ninety minutes.
                let scrub = (at - h as i64 * 3_600_000).rem_euclid(DAY) < WARNING;
                let slow = match world {
                    World::Tells | World::Busy => 5.0 * share,
                    World::Misleads => 5.0 * f32::from(u8::from(scrub)),
                };
                pulled.push(series[0], START + Span(at), 5.0 * noise * (1.0 + slow));
                let more = if world == World::Busy { 45.0 } else { 0.0 };
                pulled.push(series[1], START + Span(at), busy + more);
            }
        }
        self.now += CYCLE;
        self.core.take(pulled, self.now);
        for h in 0..HOSTS {
            let died = dies(h, from / DAY).filter(|d| *d > from && *d <= until);
            if let Some(died) = died {
                let failure = Failure {
                    number: 0,
                    at: START + Span(died),
                    subject: name(h),
                    cause: "the disk failed".into(),
                    label: Label::Failed,
                    origin: Origin::Operator,
                };
                self.core.learn_failure(failure).await.unwrap();
            }
        }
        self.core.cycle(self.now).await.unwrap();
        self.core.take_alert_events();
    }

    pub async fn days(&mut self, days: i64, world: World) {
        for _ in 0..days * DAY / CYCLE.0 {
            self.step(world).await;
        }
    }

    /// Lives until the audit log holds an act of models with these words; at most so many days.
    pub async fn until(&mut self, most_days: i64, world: World, words: &str) -> Option<(String, String)> {
        for _ in 0..most_days * DAY / CYCLE.0 {
            self.step(world).await;
            let audit = self.core.snapshot().audit.clone();
            if let Some(entry) = audit.iter().find(|a| a.act.contains(words)) {
                return Some((entry.act.clone(), entry.outcome.clone()));
            }
        }
        None
    }
}

pub fn options() -> ShadowOptions {
    ShadowOptions { every: Span::minutes(15), false_revert_every: Span::days(90), ..ShadowOptions::default() }
}

pub fn contest(registry: &Registry) -> Option<Contest> {
    Some(Contest::new(registry.clone(), Arc::new(Kernels), options()))
}

/// A registry whose first version speaks and whose second runs in shadow.
pub fn registry(dir: &std::path::Path, speaks: &[HeadFile], challenges: &[HeadFile]) -> Registry {
    let registry = Registry::new(dir, "all");
    let first = registry.add(speaks).unwrap();
    registry.take_over(first, START, "the test begins").unwrap();
    let second = registry.add(challenges).unwrap();
    registry.challenge(second, START).unwrap();
    registry
}
