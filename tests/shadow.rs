//! Champion and challenger in the running engine's own cycle, on a fleet whose failures are known: a
//! better challenger takes over and the audit log says why, an equal or worse one does not, one whose
//! world changes goes back by itself, and nothing in shadow changes a decision.

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
use foreshift::predict::train::card::{Card, Data, hash};
use foreshift::predict::train::failure::{HeadFile, file_name};
use foreshift::predict::train::{Registry, Seat};
use foreshift::predict::{AssessOptions, Calibration, HysteresisOptions};
use foreshift::protocol::{Actor, Command, ModelStatus, Role};
use foreshift::state::{MemoryStore, Store};
use foreshift::telemetry::Ingest;

const HOSTS: usize = 24;
/// Monday, 2026-01-05T00:00:00Z.
const START: Timestamp = Timestamp(1_767_571_200_000);
const CYCLE: Span = Span::minutes(5);
const DAY: i64 = 86_400_000;
/// A failing disk slows down for so long.
const WARNING: i64 = 90 * 60_000;
const DEAD: i64 = 30 * 60_000;

fn spec() -> FeatureSpec {
    FeatureSpec {
        metrics: vec!["disk.write_latency".into(), "cpu.busy".into()],
        extras: vec!["instability".into(), "health".into()],
        ..FeatureSpec::default()
    }
}

/// Latencies of every kind were seen in training, of the processor a calm life.
fn ranges() -> Ranges {
    let (mut low, mut high) = (vec![-20.0; spec().width()], vec![200.0; spec().width()]);
    for feature in 5..10 {
        (low[feature], high[feature]) = (-4.0, 4.0);
    }
    Ranges::new(low, high)
}

/// A model of 15 minutes and of an hour that rises with write latency by a slope a deviation, from a base
/// in log-odds.
fn version(heads: [(f64, f32); 2]) -> Vec<HeadFile> {
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
            };
            HeadFile { name: file_name(within), onnx: bytes, card }
        })
        .collect()
}

/// Reads the warning of a failing disk.
fn good() -> Vec<HeadFile> {
    version([(-5.6, 0.0), (-6.0, 1.5)])
}

/// Knows how often disks fail, and no more.
fn poor() -> Vec<HeadFile> {
    version([(-5.6, 0.0), (-4.3, 0.0)])
}

/// What disks do.
#[derive(Clone, Copy, PartialEq)]
enum World {
    /// They slow down before they fail.
    Tells,
    /// They slow down every day for a scrub, and fail without a warning.
    Misleads,
    /// The processors are busier than they ever were.
    Busy,
}

fn name(host: usize) -> String {
    format!("h{host:02}")
}

/// A failure of a third of the hosts a day, at a time of its own.
fn dies(host: usize, day: i64) -> Option<i64> {
    ((host as i64 + day) % 3 == 0).then(|| {
        let mut random = Random::new((host as u64) << 32 | day as u64);
        day * DAY + 3 * 3_600_000 + (random.unit() * 19.0 * 3_600_000.0) as i64 / 300_000 * 300_000
    })
}

/// Fleet, engine, and time.
struct Life {
    core: Core,
    now: Timestamp,
    random: Random,
}

fn topology() -> Topology {
    let mut topology = Topology::default();
    for h in 0..HOSTS {
        let id = PartitionId::from(name(h));
        topology.hosts.push(Host {
            id: id.host(),
            site: "s".into(),
            rack: format!("r{}", h % 6).into(),
            capacity: None,
            labels: BTreeMap::new(),
        });
        topology.partitions.push(Partition {
            id: id.clone(),
            host: id.host(),
            class: "disk".into(),
            serving: ServingState::Active,
            address: String::new(),
        });
        topology.workloads.push(Workload {
            id: WorkloadId::from(format!("work {h}").as_str()),
            application: ApplicationId::from("app"),
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
    topology.normalise();
    topology
}

impl Life {
    async fn begin(store: Arc<dyn Store>, contest: Option<Contest>, now: Timestamp) -> Self {
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
        core.discovery("disk".into(), Ok(topology()), now);
        if let Some(contest) = contest {
            core.compete(contest, now).await.unwrap();
        }
        Self { core, now, random: Random::new(5) }
    }

    /// One cycle of five minutes; `seen` is shown the engine after it.
    async fn step(&mut self, world: World) {
        let (from, until) = (self.now.0 - START.0, self.now.0 - START.0 + CYCLE.0);
        let mut pulled = Pulled::default();
        for h in 0..HOSTS {
            let id = PartitionId::from(name(h));
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

    async fn days(&mut self, days: i64, world: World) {
        for _ in 0..days * DAY / CYCLE.0 {
            self.step(world).await;
        }
    }

    /// Lives until the audit log holds an act of models with these words; at most so many days.
    async fn until(&mut self, most_days: i64, world: World, words: &str) -> Option<(String, String)> {
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

fn options() -> ShadowOptions {
    ShadowOptions { every: Span::minutes(15), false_revert_every: Span::days(90), ..ShadowOptions::default() }
}

fn contest(registry: &Registry) -> Option<Contest> {
    Some(Contest::new(registry.clone(), Arc::new(Kernels), options()))
}

/// A registry whose first version speaks and whose second runs in shadow.
fn registry(dir: &std::path::Path, speaks: &[HeadFile], challenges: &[HeadFile]) -> Registry {
    let registry = Registry::new(dir, "all");
    let first = registry.add(speaks).unwrap();
    registry.take_over(first, START, "the test begins").unwrap();
    let second = registry.add(challenges).unwrap();
    registry.challenge(second, START).unwrap();
    registry
}

#[tokio::test]
async fn a_better_challenger_takes_over_and_goes_when_its_world_changes() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &poor(), &good());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut life = Life::begin(store.clone(), contest(&registry), START).await;
    life.days(2, World::Tells).await;
    let shown = life.core.snapshot().models.shadow.join("\n");
    assert!(shown.contains("version 2 runs beside version 1") && shown.contains("Brier"), "{shown}");
    assert_eq!(registry.standing().unwrap().current, 1, "nothing is promoted on a day's failures");

    // A restart loses nothing of the account.
    let now = life.now;
    drop(life);
    let mut life = Life::begin(store, contest(&registry), now).await;
    let again = life.core.snapshot().models.shadow.join("\n");
    assert!(again.contains("Brier"), "{again}");

    let (act, why) = life.until(10, World::Tells, "into use").await.expect("the better one is promoted");
    println!("{act}: {why}");
    assert_eq!(act, "put version 2 into use instead of version 1");
    assert!(why.contains("evidence") && why.contains("failures") && why.contains("Brier"), "{why}");
    let standing = registry.standing().unwrap();
    assert_eq!(
        (standing.current, standing.shadow.map(|s| (s.version, s.seat))),
        (2, Some((1, Seat::Former)))
    );
    let promoted = life.now;

    // All goes well for a while; then the same sign means nothing.
    life.days(3, World::Tells).await;
    assert_eq!(registry.standing().unwrap().current, 2);
    let (act, why) = life.until(20, World::Misleads, "go back").await.expect("it goes back by itself");
    println!("after {}: {act}: {why}", life.now - promoted);
    assert_eq!(
        (act.as_str(), registry.standing().unwrap().current),
        ("go back from version 2 to version 1", 1)
    );
    assert!(why.contains("the model before does better now"), "{why}");
}

#[tokio::test]
async fn an_equal_or_a_worse_challenger_never_speaks() {
    let dir = tempfile::tempdir().unwrap();
    let equal = registry(dir.path(), &good(), &good());
    let mut life = Life::begin(Arc::new(MemoryStore::new()), contest(&equal), START).await;
    life.days(6, World::Tells).await;
    let standing = equal.standing().unwrap();
    assert_eq!((standing.current, standing.shadow.map(|s| s.version)), (1, Some(2)));
    // Replaced by a worse one while the engine runs: it follows without a restart.
    let third = equal.add(&poor()).unwrap();
    equal.challenge(third, life.now).unwrap();
    let (act, why) = life.until(10, World::Tells, "retire").await.expect("a worse one is retired");
    println!("{act}: {why}");
    assert!(act.contains("retire version 3") && why.contains("it is worse"), "{act}: {why}");
    assert_eq!(equal.standing().unwrap().current, 1);
}

#[tokio::test]
async fn nothing_in_shadow_changes_a_decision() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &good(), &version([(1.0, -2.0), (3.0, -2.0)]));
    let alone = Registry::new(&dir.path().join("alone"), "all");
    let first = alone.add(&good()).unwrap();
    alone.promote(first).unwrap();
    let begin = |r: &Registry| Life::begin(Arc::new(MemoryStore::new()), contest(r), START);
    let (mut with, mut without) = (begin(&registry).await, begin(&alone).await);
    let mut proposed = 0;
    for _ in 0..DAY * 2 / CYCLE.0 {
        with.step(World::Tells).await;
        without.step(World::Tells).await;
        let decided = |life: &Life| {
            serde_json::to_vec(&life.core.waiting().collect::<Vec<_>>()).expect("proposals are data")
        };
        assert_eq!(decided(&with), decided(&without));
        assert_eq!(with.core.assessments(), without.core.assessments());
        proposed = proposed.max(with.core.waiting().count());
    }
    assert!(proposed > 0, "there were decisions to change");
    assert!(
        !with.core.snapshot().models.shadow.is_empty() && without.core.snapshot().models.shadow.is_empty()
    );
}

#[tokio::test]
async fn a_person_takes_the_models_back_and_the_folder_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &poor(), &good());
    let mut life = Life::begin(Arc::new(MemoryStore::new()), contest(&registry), START).await;
    life.days(1, World::Tells).await;
    registry.take_over(2, life.now, "by hand").unwrap();
    life.step(World::Tells).await;
    let snapshot = life.core.snapshot();
    assert!(
        snapshot.audit[0].act.contains("speak as version 2 instead of version 1"),
        "{:?}",
        snapshot.audit[0]
    );
    assert_eq!(snapshot.models.way_back.as_deref(), Some("version 1"));
    let operator = Actor { name: "eve".into(), role: Role::Operator };
    let viewer = Actor { name: "bob".into(), role: Role::Viewer };
    assert!(life.core.command(&viewer, Command::RevertModels, life.now).await.is_err());
    let reply = life.core.command(&operator, Command::RevertModels, life.now).await.unwrap();
    assert!(format!("{reply:?}").contains("went back from version 2 to version 1"), "{reply:?}");
    assert_eq!(registry.standing().unwrap().current, 1);
    let reply = life.core.command(&operator, Command::RevertModels, life.now).await.unwrap();
    assert!(format!("{reply:?}").contains("went back from version 1 to the shipped models"), "{reply:?}");
    let refused = life.core.command(&operator, Command::RevertModels, life.now).await.unwrap_err();
    assert!(refused.to_string().contains("the shipped models speak already"), "{refused}");
    life.step(World::Tells).await;
    let audit = &life.core.snapshot().audit;
    assert!(audit.iter().any(|a| a.actor == "eve" && a.act == "go back to the models before"), "{audit:?}");
}

#[tokio::test]
async fn inputs_outside_the_training_range_are_alarmed_on_until_they_are_back() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &good(), &poor());
    let mut life = Life::begin(Arc::new(MemoryStore::new()), contest(&registry), START).await;
    life.days(1, World::Tells).await;
    let alarmed = |life: &Life| {
        let snapshot = life.core.snapshot();
        snapshot
            .alerts
            .iter()
            .any(|a| a.subject == "models" && a.text.contains("outside what it was trained on"))
    };
    let sure = |life: &Life| {
        let hosts = life.core.snapshot().hosts.clone();
        hosts.iter().map(|h| h.confidence).fold(0.0, f64::max)
    };
    let (calm, before) = (life.core.snapshot().models.drift.join("\n"), sure(&life));
    assert!(!alarmed(&life) && calm.contains("within 1 h"), "{calm}");
    let mut rises = 0;
    while !alarmed(&life) && rises < 24 {
        life.step(World::Busy).await;
        rises += 1;
    }
    assert!(alarmed(&life), "{:?}", life.core.snapshot().models.drift);
    assert!(sure(&life) < 0.8 * before, "{} was {before}: how far from training counts", sure(&life));
    let mut falls = 0;
    while alarmed(&life) && falls < 96 {
        life.step(World::Tells).await;
        falls += 1;
    }
    assert!(!alarmed(&life), "{:?}", life.core.snapshot().models.drift);
    println!("raised after {rises} cycles of five minutes, cleared after {falls}");
}

#[tokio::test]
async fn what_cannot_be_followed_is_told_once_and_old_versions_go() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path(), &good(), &poor());
    std::fs::write(registry.place(2).join("failure-1h.onnx"), b"cut short").unwrap();
    let mut life = Life::begin(Arc::new(MemoryStore::new()), contest(&registry), START).await;
    for _ in 0..20 {
        life.step(World::Tells).await;
    }
    let snapshot = life.core.snapshot();
    let told = snapshot.alerts.iter().filter(|a| a.text.contains("version 2 cannot run in shadow")).count();
    assert_eq!((told, snapshot.audit.len()), (1, 1), "{:?}", snapshot.audit);
    assert!(snapshot.models.shadow.is_empty());
    assert!(registry.take_over(2, life.now, "by hand").is_err(), "nor is it put into use");
    for _ in 0..6 {
        registry.add(&poor()).unwrap();
    }
    registry.tidy(2).unwrap();
    assert_eq!(registry.versions(), [1, 2, 7, 8], "what speaks and what is in shadow stays");
}
