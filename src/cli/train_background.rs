//! Training by the engine itself: one thread of lowest priority that trains on a schedule, on the engine's
//! own history and recorded failures, and lets what comes of it run in shadow; never straight into use.
//! The engine finds it in the models folder. Memory is bounded by the rows: 200,000 of about 90 numbers,
//! 72 MB, and about as much again while trees grow.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;

use super::backtest::inputs::Labels;
use super::train_run::{Lesson, learn};
use super::{engine, place};
use crate::config::{Config, TelemetrySource};
use crate::engine::failures::{Failures, Label};
use crate::fleet::{Clock, Span, SystemClock, Timestamp};
use crate::predict::train::{Registry, Seat};
use crate::state::Store;
use crate::telemetry::Source;

/// Most rows in memory.
const MOST_ROWS: i64 = 200_000;
/// The first training after a start waits so long: the engine comes first.
const AFTER_START: Span = Span::minutes(5);
/// Lowest priority that there is.
const NICE: i32 = 19;
/// Versions that are kept beside those in use and in shadow.
const KEPT: usize = 10;

/// What it works on.
pub struct Ground {
    /// The configuration.
    pub config: Config,
    /// Where failures are recorded.
    pub store: Arc<dyn Store>,
    /// The engine's own store of time series, read aside. Others are opened anew.
    pub embedded: Option<Arc<dyn Source>>,
    /// The versions.
    pub registry: Registry,
}

/// Starts the thread, where the configuration asks for it; it ends with `stop`, between two trainings.
///
/// # Errors
/// The thread cannot be started.
pub fn start(ground: Ground, stop: CancellationToken) -> Result<()> {
    if !ground.config.predict.training.enabled {
        return Ok(());
    }
    let named = &ground.config.predict.model_dir;
    if named.is_some() && *named != ground.registry.in_use() {
        tracing::warn!("predict.model_dir names models of your own: nothing is trained in the background");
        return Ok(());
    }
    let work = move || {
        let lower = |_| lowest_priority();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).start_handler(lower).build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match (pool, runtime) {
            (Ok(pool), Ok(runtime)) => pool.install(|| runtime.block_on(for_ever(&ground, &stop))),
            (pool, runtime) => {
                let reasons = (pool.err().map(|e| e.to_string()), runtime.err().map(|e| e.to_string()));
                tracing::error!(?reasons, "no training in the background");
            }
        }
    };
    std::thread::Builder::new().name("training".into()).spawn(work).context("the training thread")?;
    Ok(())
}

/// Of this thread alone, as Linux has it; where it is refused, it goes on as it is.
pub(super) fn lowest_priority() {
    let _ = rustix::process::setpriority_process(None, NICE);
}

async fn for_ever(ground: &Ground, stop: &CancellationToken) {
    let every = ground.config.predict.training.every;
    let started = SystemClock.now();
    let mut next = (last(&ground.registry) + every).max(started + AFTER_START);
    loop {
        let wait = Duration::from_millis((next - SystemClock.now()).0.clamp(0, 60_000) as u64);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let now = SystemClock.now();
        if now < next {
            continue;
        }
        next = now + every;
        match once(ground, now).await {
            Ok(said) => tracing::info!(%said, "trained in the background"),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "nothing was trained"),
        }
    }
}

/// The end of the data of the newest version.
fn last(registry: &Registry) -> Timestamp {
    let newest = registry.versions().last().and_then(|v| registry.cards(*v).ok());
    newest.iter().flatten().map(|c| c.data.until).max().unwrap_or(Timestamp(0))
}

/// One training; says what came of it.
///
/// # Errors
/// The history cannot be read, or it teaches nothing.
pub async fn once(ground: &Ground, now: Timestamp) -> Result<String> {
    let settings = &ground.config.predict.training;
    if let Some(shadow) = ground.registry.standing()?.shadow.filter(|s| s.seat == Seat::Challenger) {
        return Ok(format!("version {} is still being tried: nothing new meanwhile", shadow.version));
    }
    let records = Failures::load(&*ground.store).await?.records().to_vec();
    let inside = |at: Timestamp| at > now - settings.from && at <= now;
    let failed = records.iter().filter(|f| f.label == Label::Failed && inside(f.at)).count();
    if failed < settings.least_failures {
        return Ok(format!(
            "{failed} failures are recorded within {}, {} are needed (predict.training.least_failures)",
            settings.from, settings.least_failures
        ));
    }
    let mut config = ground.config.clone();
    config.predict.model_dir = ground.registry.in_use();
    let (source, history) = match &ground.embedded {
        Some(own) if config.telemetry.source == TelemetrySource::Embedded => (own.clone(), own.clone()),
        _ => {
            let series = engine::series(&config, Arc::new(SystemClock))?;
            (series.source, series.history)
        }
    };
    let lesson = Lesson {
        config: &config,
        source,
        history,
        recorded: Labels::of(records, "the failure history"),
        from: now - settings.from,
        to: now,
        seed: 1,
        application: None,
        most_rows: MOST_ROWS,
    };
    let learnt = learn(lesson, &mut |_| {}).await?;
    let words = learnt.words();
    if !learnt.better() {
        return Ok(format!("not better on hosts held back, and not kept: {words}"));
    }
    let version = learnt.keep(&ground.registry)?;
    ground.registry.challenge(version, now)?;
    ground.registry.tidy(KEPT)?;
    Ok(format!("version {version} runs in shadow: {words}"))
}

/// The ground of an engine's configuration.
pub fn ground(config: &Config, store: Arc<dyn Store>, history: &Arc<dyn Source>) -> Ground {
    Ground {
        config: config.clone(),
        store,
        embedded: Some(history.clone()),
        registry: place::registry(&config.engine.data_dir),
    }
}
