//! `foreshift demo`: the simulated fleet under the real engine. The engine sees it through the
//! agents' messages, the embedded store and the drivers, like any other fleet.

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::RunArgs;
use super::evacuate::Report;
use super::moving::{self, Ground};
use super::numbers::above_zero;
use super::{coming, models, settings};
use crate::alert::Notifier;
use crate::config::{CanarySetting, Config, MovesLimit, quantity};
use crate::drivers::{Mover, Router};
use crate::engine::brain::Brain;
use crate::engine::history::{self, HistoryPlan};
use crate::engine::intake::EmbeddedIntake;
use crate::engine::inventory::Inventory;
use crate::engine::observe::{PullOptions, Pulled};
use crate::engine::{Core, EngineOptions, Live, Parts, Surroundings};
use crate::fleet::{
    Clock, ManualClock, MigrationId, PartitionId, Phase, PredictionState, Share, Span, SystemClock, Timestamp,
};
use crate::migrate::runner::Driven;
use crate::protocol::{Intake, Link, Mode};
use crate::sim::{DemoOptions, SimFleet};
use crate::state::{Leadership, MemoryStore, Single, Store};
use crate::telemetry::Source;
use crate::telemetry::embedded::EmbeddedStore;

/// Start of a demo in simulated time: 2026-01-05T00:00:00Z, a Monday.
pub(super) const START: Timestamp = Timestamp(1_767_571_200_000);
/// How much history warms the baselines.
const WARMED_BY: Span = Span::days(3);
/// Between two looks at what moves, in simulated time.
const FINE: Span = Span::millis(100);
/// Between two steps while nothing moves: what agents take between two collections.
const COARSE: Span = Span::seconds(5);

/// Arguments of `foreshift demo`.
#[derive(Args, Debug, Clone)]
pub struct DemoArgs {
    /// The same seed gives the same fleet, the same faults, and without a terminal the same report.
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Simulated seconds in a second; without a terminal an upper limit.
    #[arg(long, value_name = "X", value_parser = above_zero, allow_negative_numbers = true)]
    pub speed: Option<f64>,
    /// How long, in simulated time (`120s`, `2h`); without it, until you quit.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
    pub length: Option<Span>,
    /// Print one JSON object to standard output and nothing else (without a terminal).
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub report: Option<Report>,
}

impl Default for DemoArgs {
    fn default() -> Self {
        Self { seed: 7, speed: None, length: None, report: None }
    }
}

/// A span of time as people write it.
///
/// # Errors
/// Says what was expected.
pub fn parse_span(text: &str) -> Result<Span, String> {
    quantity::parse_span(text).filter(|s| s.0 > 0).ok_or_else(|| {
        format!("{text:?} is no span of time: expected a number with ms, s, m, h or d, for example 120s")
    })
}

/// A clock that runs `speed` times as fast as the machine's.
struct ScaledClock {
    started: Instant,
    start: Timestamp,
    speed: f64,
}

impl Clock for ScaledClock {
    fn now(&self) -> Timestamp {
        self.start + Span((self.started.elapsed().as_secs_f64() * self.speed * 1000.0) as i64)
    }
}

/// A demo engine and its fleet, not yet running.
struct Stage {
    fleet: SimFleet,
    core: Core,
    store: EmbeddedStore,
    intake: Arc<EmbeddedIntake>,
    movers: HashMap<String, Arc<dyn Mover>>,
}

pub(super) fn config() -> Config {
    let mut config = Config::default();
    config.fleet.name = "demo".into();
    config.engine.interval = Span::seconds(10);
    config.engine.name = "demo".into();
    // A demo is played in minutes: shorter canary and watch, and a whole host may be emptied at once.
    let step = |percent: f64, hold| CanarySetting {
        share: Share::clamped(percent / 100.0).unwrap_or(Share::MAX),
        hold,
    };
    config.migration.canary = vec![step(10.0, Span::seconds(15)), step(50.0, Span::seconds(15))];
    config.migration.min_samples = 50;
    config.migration.soak = Span::seconds(30);
    config.limits.moves = MovesLimit { fleet: 16, site: 12, rack: 10, host: 9 };
    config.limits.moves_per_hour = 240;
    config.plan.storm.number = 12;
    config
}

/// Sets the stage: fleet, past, engine.
async fn stage(seed: u64, mode: Mode, clock: Arc<dyn Clock>) -> Result<Stage> {
    let config = config();
    let fleet = SimFleet::new(seed, DemoOptions::new(clock.clone()));
    let store = EmbeddedStore::in_memory()?;
    store.append_many(&fleet.history())?;
    let intake = Arc::new(EmbeddedIntake::new(store.clone(), clock.clone()));
    let mover: Arc<dyn Mover> = Arc::new(fleet.mover());
    let movers: HashMap<String, Arc<dyn Mover>> = HashMap::from([(mover.class().to_string(), mover.clone())]);
    let state: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let epoch = Single::new(state.clone()).campaign("demo").await?;
    let now = clock.now();
    let options = EngineOptions { mode, ..settings::engine(&config) };
    let router: Arc<dyn Router> = Arc::new(fleet.router());
    let ground = Ground {
        store: state.clone(),
        epoch,
        movers: movers.clone(),
        routers: BTreeMap::from([(mover.class().to_string(), router)]),
        clock: clock.clone(),
        // The same seed does the same.
        driven: Driven::InTicks,
    };
    let runner = moving::runner(&config, mode, ground).await?;
    let mut brain =
        Brain::new(options.windows, settings::assess(&config), settings::hysteresis(&config), now);
    let models = models::install(&config, &mut brain);
    let parts = Parts {
        options,
        brain,
        plan: settings::plans(&config, &movers),
        store: state,
        runner,
        movers: movers.clone(),
        inventory: Inventory::default(),
        source_name: "embedded store".into(),
        models,
    };
    let mut core = Core::start(parts, now).await?;
    core.discovery(mover.class().to_string(), mover.discover().await.map_err(|e| e.to_string()), now);
    Ok(Stage { fleet, core, store, intake, movers })
}

/// Runs it with the console or without a terminal.
///
/// # Errors
/// Where a part cannot be started or the terminal cannot be used.
pub fn run(args: DemoArgs, run: &RunArgs) -> Result<ExitCode> {
    if run.read_only && run.auto {
        bail!("--auto acts and --read-only cannot: choose one");
    }
    if run.headless || args.report.is_some() {
        if run.read_only {
            bail!(
                "--read-only cannot: without a terminal the demo plays a run in automatic mode, in memory; \
                 leave it out, or look at the demo with its console"
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(headless(&args));
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(with_console(&args, run))
}

/// A demo that runs: the engine, and the task that lets the fleet live.
struct Playing {
    live: Live,
    feeder: JoinHandle<()>,
}

async fn with_console(args: &DemoArgs, run: &RunArgs) -> Result<ExitCode> {
    super::logging::start(super::logging::LogTo::Console);
    let speed = args.speed.unwrap_or(1.0).clamp(0.01, 1000.0);
    let mode = match (run.auto, run.read_only) {
        (true, _) => Mode::Auto,
        (_, true) => Mode::ReadOnly,
        _ => Mode::Advise,
    };
    let config = config();
    let first = coming::before(&EngineOptions { mode, ..settings::engine(&config) });
    let start = begin(args.seed, mode, speed);
    let shutdown = CancellationToken::new();
    if let Some(length) = args.length {
        let shutdown = shutdown.clone();
        let most = Duration::from_secs_f64(length.as_seconds() / speed);
        tokio::spawn(async move {
            tokio::time::sleep(most).await;
            shutdown.cancel();
        });
    }
    let theme = run.theme.as_deref();
    let (outcome, playing) = coming::show(first, &config.console, theme, shutdown, start).await?;
    playing.feeder.abort();
    playing.live.stop().await;
    outcome.map(|_| ExitCode::SUCCESS)
}

/// Sets the stage and lets engine and fleet run, `speed` times as fast as the clock on the wall.
async fn begin(seed: u64, mode: Mode, speed: f64) -> Result<(Arc<dyn Link>, Playing)> {
    let clock: Arc<dyn Clock> =
        Arc::new(ScaledClock { started: Instant::now(), start: SystemClock.now(), speed });
    let Stage { mut fleet, core, store, intake, movers } = stage(seed, mode, clock.clone()).await?;
    let options = core.options().clone();
    let live = Live::start(
        core,
        Surroundings {
            pupil: None,
            shelf: None,
            clock: clock.clone(),
            every: Duration::from_secs_f64(options.interval.as_seconds() / speed),
            source: Arc::new(store.clone()),
            history: Some(HistoryPlan {
                source: Arc::new(store),
                span: WARMED_BY,
                step: options.history_step,
                budget: Duration::from_secs(5),
            }),
            pull: PullOptions {
                interval: Span((options.interval.0 as f64 / 2.0 / speed) as i64).max(Span::millis(50)),
                deadline: Span::seconds(5),
                step: options.windows.step,
                reach: Span(options.windows.step.0 * options.windows.len as i64),
            },
            sink: None,
            movers,
            notifier: Notifier::start(Vec::new()),
            intake: Some(intake.clone()),
        },
    );
    let feeder = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        loop {
            tick.tick().await;
            for message in fleet.step_to(clock.now()) {
                if let Err(error) = intake.take(message).await {
                    tracing::warn!(%error, "a simulated agent's message was not taken");
                }
            }
        }
    });
    Ok((Arc::new(live.link.clone()), Playing { live, feeder }))
}

/// What one run in simulated time came to.
struct Played {
    fleet: SimFleet,
    cycles: u64,
    partitions: usize,
    workloads: usize,
    /// When each partition was first said to fail, by episode.
    called: HashMap<PartitionId, Vec<Timestamp>>,
    /// Every migration that was begun: from where, and when.
    moved: BTreeMap<MigrationId, (PartitionId, Timestamp)>,
    /// How many ended in which phase, and how many stand stuck.
    ended: BTreeMap<Phase, u64>,
    end: Timestamp,
}

/// Plays `length` of simulated time.
async fn play(seed: u64, mode: Mode, length: Span, speed: f64) -> Result<Played> {
    let clock = Arc::new(ManualClock::at(START));
    let Stage { mut fleet, mut core, store, intake, movers } = stage(seed, mode, clock.clone()).await?;
    let options = core.options().clone();
    let reach = Span(options.windows.step.0 * options.windows.len as i64);
    for (from, until) in history::parts(WARMED_BY, START) {
        if let Some(part) = history::part(&store, options.history_step, from, until).await {
            core.brain_mut().learn_history(&part);
        }
    }
    let started = Instant::now();
    let (mut now, end) = (START, START + length);
    let (mut pulled_until, mut next_cycle, mut cycles) = (START - reach, START, 0);
    let mut called: HashMap<PartitionId, Vec<Timestamp>> = HashMap::new();
    let mut moved = BTreeMap::new();
    while now < end {
        let moving = core.moving();
        now += if moving { FINE } else { COARSE };
        clock.set(now);
        for message in fleet.step_to(now) {
            intake.take(message).await?;
        }
        core.tick(now).await;
        if now >= next_cycle {
            next_cycle = now + options.interval;
            let mut pulled = Pulled::default();
            store.pull(pulled_until, now, &mut pulled).await?;
            pulled_until = now;
            core.take(pulled, now);
            for (class, mover) in &movers {
                core.discovery(class.clone(), mover.discover().await.map_err(|e| e.to_string()), now);
                core.follow_owners(class, now).await?;
            }
            core.note_heartbeats(&intake.heartbeats(), now).await?;
            core.cycle(now).await?;
            core.take_alert_events();
            cycles += 1;
            let snapshot = core.snapshot();
            moved.extend(snapshot.migrations.iter().map(|m| (m.id, (m.source.clone(), m.started))));
            for partition in snapshot.partitions.iter() {
                // Of what has failed the row says since when it is out of service.
                let failed = partition.shown == crate::fleet::ShownState::Fenced;
                if partition.prediction == PredictionState::PredictiveFailure && !failed {
                    let calls = called.entry(partition.id.clone()).or_default();
                    if calls.last() != Some(&partition.since) {
                        calls.push(partition.since);
                    }
                }
            }
        }
        let ahead = (now - START).as_seconds() / speed - started.elapsed().as_secs_f64();
        if ahead > 0.002 {
            tokio::time::sleep(Duration::from_secs_f64(ahead)).await;
        }
    }
    let snapshot = core.snapshot();
    let ledger = fleet.ledger();
    for failure in &ledger.failures {
        tracing::debug!(?mode, ?failure, "injected");
    }
    for m in snapshot.migrations.iter() {
        let needed = ledger.failing(&m.source, m.started);
        tracing::debug!(?mode, id = %m.id, workload = %m.workload, source = %m.source, to = %m.destination,
            started = (m.started - START).as_seconds(), phase = ?m.phase, needed, "moved");
    }
    let mut ended = core.ended();
    let stuck = snapshot.migrations.iter().filter(|m| m.phase == Phase::Stuck).count();
    ended.insert(Phase::Stuck, stuck as u64);
    Ok(Played {
        fleet,
        cycles,
        partitions: snapshot.partitions.len(),
        workloads: snapshot.workloads.len(),
        called,
        moved,
        ended,
        end,
    })
}

/// The demo without a terminal: with automatic mode on, and the same seed again with it off and
/// failover after the failure, so that the difference is measured.
async fn headless(args: &DemoArgs) -> Result<ExitCode> {
    super::logging::start(super::logging::LogTo::StandardError);
    let length = args.length.unwrap_or(Span::minutes(20));
    let speed = args.speed.unwrap_or(f64::INFINITY).max(0.01);
    let proactive = play(args.seed, Mode::Auto, length, speed).await?;
    let reactive = play(args.seed, Mode::Advise, length, f64::INFINITY).await?;
    let report = report(&proactive, &reactive);
    if args.report == Some(Report::Json) {
        say!("{report}");
    } else {
        say!("{report:#}");
    }
    Ok(ExitCode::SUCCESS)
}

fn report(proactive: &Played, reactive: &Played) -> serde_json::Value {
    let ledger = proactive.fleet.ledger();
    let harmful: Vec<_> = ledger.failures.iter().filter(|f| !f.harmless).collect();
    let averted: Vec<_> = harmful.iter().filter(|f| f.averted()).collect();
    let mut leads: Vec<f64> = averted
        .iter()
        .filter_map(|f| {
            let died = f.died?;
            let calls = f.partitions.iter().filter_map(|p| proactive.called.get(p)).flatten();
            calls.filter(|at| **at >= f.injected_at && **at <= died).min().map(|at| (died - *at).as_seconds())
        })
        .collect();
    leads.sort_by(f64::total_cmp);
    let count = |phases: &[Phase]| phases.iter().filter_map(|p| proactive.ended.get(p)).sum::<u64>();
    let needless = proactive.moved.values().filter(|(source, at)| !ledger.failing(source, *at)).count();
    json!({
        "cycles": proactive.cycles,
        "partitions": proactive.partitions,
        "workloads": proactive.workloads,
        "failures": {
            "injected": harmful.len(),
            "averted": averted.len(),
            "missed": harmful.iter().filter(|f| f.missed()).count(),
        },
        "false_migrations": needless,
        "lead_time_s": {
            "p50": leads.get(leads.len() / 2),
            "min": leads.first(),
        },
        "migrations": {
            "completed": count(&[Phase::Done]),
            "rolled_back": count(&[Phase::RolledBack, Phase::Aborted]),
            "failed": count(&[Phase::Stuck, Phase::Stale, Phase::Expired]),
        },
        "unavailable_s": {
            "proactive": round(ledger.total_unavailable_s(proactive.end)),
            "reactive": round(reactive.fleet.ledger().total_unavailable_s(reactive.end)),
        },
    })
}

/// To whole milliseconds.
fn round(seconds: f64) -> f64 {
    // Adding zero turns −0 into 0.
    (seconds * 1000.0).round() / 1000.0 + 0.0
}
