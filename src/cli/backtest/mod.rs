//! `foreshift backtest`: what the engine would have said and proposed over your own history, against
//! what is known to have happened. This is what lets a person trust automatic mode, or not.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};

use super::demo::parse_span;
use super::{engine, models, place, settings, systems};
use crate::config::{Config, TelemetrySource};
use crate::engine::brain::Brain;
use crate::engine::{Core, EngineOptions, Parts};
use crate::eval::backtest::{self, Advance, Rates, Report, Setup};
use crate::fleet::{Clock, Span, SystemClock, Timestamp, Topology};
use crate::protocol::Mode;
use crate::state::MemoryStore;
use crate::telemetry::{ReplaySource, Source, StoreError};

mod demo;
pub(super) mod inputs;
mod text;

use inputs::Labels;

/// Replays your history through the engine itself, cycle by cycle, with nothing from later than the
/// cycle, and says what it would have proposed, how long before each recorded failure, what was
/// needless, how far its probabilities can be taken at their word, and which threshold costs least.
///
/// Samples come from the configured source; failures from the failure history (`foreshift failures`)
/// and from --failures. Nothing is moved or written.
#[derive(clap::Args, Debug, Clone)]
pub struct BacktestArgs {
    /// First cycle: a time (2026-11-01T00:00:00Z, or seconds or milliseconds since 1970) or a span before --to (7d).
    #[arg(long, default_value = "7d", value_name = "TIME", conflicts_with = "demo")]
    pub from: String,
    /// Last cycle: a time; default: now (of recorded files: their last sample).
    #[arg(long, value_name = "TIME", conflicts_with = "demo")]
    pub to: Option<String>,
    /// Further recorded failures: CSV with the columns at, subject, cause, label, as `foreshift failures
    /// import` takes it.
    #[arg(long, value_name = "FILE", conflicts_with = "demo")]
    pub failures: Option<PathBuf>,
    /// One JSON object on standard output, and nothing else there.
    #[arg(long)]
    pub json: bool,
    /// What emptying one partition costs, in a unit of your own.
    #[arg(long, default_value_t = 1.0, value_name = "COST", value_parser = cost, allow_negative_numbers = true)]
    pub move_cost: f64,
    /// What one partition costs that fails with its work on it, in the same unit.
    #[arg(long, default_value_t = 10.0, value_name = "COST", value_parser = cost, allow_negative_numbers = true)]
    pub crash_cost: f64,
    /// A proposal later than this before a failure saves nothing.
    #[arg(long, default_value = "1m", value_name = "TIME", value_parser = parse_span)]
    pub least_lead: Span,
    /// On the simulated fleet, with failures that it injects: needs no configuration and no server.
    #[arg(long)]
    pub demo: bool,
    /// Seed of the simulated fleet.
    #[arg(long, default_value_t = 7, requires = "demo")]
    pub seed: u64,
    /// How much of the simulated fleet's time.
    #[arg(long = "for", default_value = "4h", value_name = "TIME", value_parser = parse_span, requires = "demo")]
    pub length: Span,
}

fn cost(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|c| c.is_finite() && *c >= 0.0)
        .ok_or_else(|| format!("{text:?} is no cost: expected a number that is not negative, for example 10"))
}

/// Runs it.
///
/// # Errors
/// Where the span, the labels or the source cannot be used; the error says where and what to do.
pub fn run(args: &BacktestArgs, config: Option<&Path>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime
        .block_on(async { if args.demo { demo::run(args).await } else { of_history(args, config).await } })?;
    if args.json {
        say!("{}", serde_json::to_string(&report)?);
    } else {
        say_part!("{}", text::render(&report));
    }
    Ok(ExitCode::SUCCESS)
}

/// The sources of a configuration, without anything that writes.
pub(super) struct Sources {
    /// On the engine's grid.
    pub(super) source: Arc<dyn Source>,
    /// With wide steps.
    pub(super) history: Arc<dyn Source>,
    /// The last sample, where that is known without asking.
    pub(super) ends: Option<Timestamp>,
}

/// Opens them.
///
/// # Errors
/// Where an address, a secret or a recorded file cannot be used.
pub(super) fn sources(config: &Config) -> Result<Sources> {
    if config.telemetry.source == TelemetrySource::Replay {
        let recorded = ReplaySource::open(&config.telemetry.files)?;
        let ends = recorded.range().map(|(_, last)| last + Span::millis(1));
        let source: Arc<dyn Source> = Arc::new(recorded);
        return Ok(Sources { history: source.clone(), source, ends });
    }
    let series = engine::series(config, Arc::new(SystemClock)).map_err(|error| in_use(error, config))?;
    Ok(Sources { source: series.source, history: series.history, ends: None })
}

/// What works where the engine that runs has the embedded store open.
fn in_use(error: anyhow::Error, config: &Config) -> anyhow::Error {
    if !matches!(error.downcast_ref(), Some(StoreError::InUse { .. })) {
        return error;
    }
    let dir = &config.engine.data_dir;
    error.context(format!(
        "this reads the samples itself and cannot do so beside an engine on the same embedded store: stop the engine \
         for as long as it takes; or stop it, copy {} to another folder, start it again, and name the copy as \
         engine.data_dir in a configuration of its own; or keep the time series in InfluxDB, which both read",
        dir.display()
    ))
}

/// What stands where now, as the drivers say it, by class.
///
/// # Errors
/// Where a driver cannot be put together.
pub(super) async fn discovered(config: &Config, notes: &mut Vec<String>) -> Result<Vec<(String, Topology)>> {
    let mut topologies: Vec<(String, Topology)> = Vec::new();
    for (class, mover) in systems::open(config)?.movers {
        match mover.discover().await {
            Ok(topology) => topologies.push((class, topology)),
            Err(error) => notes.push(format!(
                "the driver {class} does not say what stands where ({error}): every partition is taken to hold one \
                 workload"
            )),
        }
    }
    topologies.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(topologies)
}

async fn of_history(args: &BacktestArgs, named: Option<&Path>) -> Result<Report> {
    let Some((_, config)) = place::load(named)? else {
        bail!(
            "a backtest needs a configuration that names the time series: pass --config FILE; `foreshift backtest \
             --demo` shows it on the simulated fleet"
        );
    };
    let sources = sources(&config)?;
    let now = SystemClock.now();
    let (from, to) = inputs::span(&args.from, args.to.as_deref(), sources.ends.unwrap_or(now), now)?;
    let mut notes = Vec::new();
    let topologies = discovered(&config, &mut notes).await?;
    let labels = Labels::load(&config, args.failures.as_deref(), &mut notes).await?;
    let core = core(&config, &topologies).await?;
    let incidents =
        inputs::resolve(&labels, core.topology(), &*sources.history, (from, to), &mut notes).await?;
    inputs::warn_of_seen_data(&config, from, &mut notes);
    let setup = Setup {
        core,
        hysteresis: settings::hysteresis(&config),
        source: sources.source,
        history: sources.history,
        from,
        to,
        told: labels.records(),
        incidents,
        rates: rates(args),
    };
    replay(setup, notes).await
}

fn rates(args: &BacktestArgs) -> Rates {
    Rates { move_cost: args.move_cost, crash_cost: args.crash_cost, least_lead: args.least_lead }
}

/// The engine of a configuration, with nothing that could act: no runner, no movers, state in memory.
async fn core(config: &Config, topologies: &[(String, Topology)]) -> Result<Core> {
    let options = EngineOptions { mode: Mode::Advise, ..settings::engine(config) };
    let start = Timestamp(0);
    let mut brain =
        Brain::new(options.windows, settings::assess(config), settings::hysteresis(config), start);
    let models = models::install(config, &mut brain);
    let movers = systems::open(config)?.movers;
    let parts = Parts {
        options,
        brain,
        plan: settings::plans(config, &movers),
        store: Arc::new(MemoryStore::new()),
        runner: None,
        movers: std::collections::HashMap::new(),
        inventory: settings::inventory(config),
        source_name: String::new(),
        models,
    };
    let mut core = Core::start(parts, start).await?;
    for (class, topology) in topologies {
        core.discovery(class.clone(), Ok(topology.clone()), start);
    }
    Ok(core)
}

/// Replays with progress on standard error where that is a terminal, and the pace at the end.
async fn replay(setup: Setup, notes: Vec<String>) -> Result<Report> {
    let shown = std::io::stderr().is_terminal();
    let started = Instant::now();
    let mut drawn = Instant::now();
    let mut show = |advance: Advance| {
        if shown && drawn.elapsed().as_millis() >= 200 {
            drawn = Instant::now();
            let pace = advance.points as f64 / started.elapsed().as_secs_f64();
            note_part!(
                "\r\x1b[K{:>3.0} %  {}  {} samples/s",
                advance.share * 100.0,
                inputs::day(advance.at),
                text::count(pace)
            );
        }
    };
    let mut report = backtest::run(setup, &mut show).await?;
    if shown {
        note_part!("\r\x1b[K");
    }
    let seconds = started.elapsed().as_secs_f64();
    note!(
        "{} samples of {} partitions in {seconds:.1} s: {} samples/s, {:.2} ms a cycle",
        report.points,
        report.partitions,
        text::count(report.points as f64 / seconds),
        seconds * 1000.0 / report.cycles.max(1) as f64
    );
    report.notes.splice(0..0, notes);
    Ok(report)
}
