//! Puts an engine together from a configuration, or finds the one that runs on it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio_util::sync::CancellationToken;

use super::attach::token_of_environment;
use super::moving::{self, Ground};
use super::read_only::{Hands, Tied};
use super::{place, settings, systems, teaching, train_background};
use crate::alert::Notifier;
use crate::api::{Access, ApiServer};
use crate::config::{Config, ModeSetting, TelemetrySource};
use crate::engine::brain::Brain;
use crate::engine::history::HistoryPlan;
use crate::engine::intake::EmbeddedIntake;
use crate::engine::teach::{self, TeachOptions};
use crate::engine::{Core, Live, Parts, Surroundings};
use crate::fleet::{Clock, SteadyClock, SystemClock};
use crate::migrate::runner::Driven;
use crate::predict::keep::{NetworkShelf, Shelf};
use crate::protocol::client::RemoteLink;
use crate::protocol::{Actor, Intake, Link, Mode, Refusal, Role};
use crate::state::{Leadership, Single, Store};
use crate::telemetry::embedded::{EmbeddedOptions, EmbeddedStore};
use crate::telemetry::influx::{InfluxSink, InfluxSource};
use crate::telemetry::{Sink, Source};

/// Longest time for reading history before the first cycle.
const HISTORY_BUDGET: Duration = Duration::from_secs(20);

/// An engine that can be asked: one of our own, or one that runs elsewhere on the same files.
pub enum Opened {
    /// Started here.
    Own(Box<Running>),
    /// Found running.
    Remote(Arc<dyn Link>),
}

/// An engine with its server.
pub struct Running {
    live: Live,
    api: Option<ApiServer>,
    stop: CancellationToken,
}

impl Opened {
    /// The seam.
    pub fn link(&self) -> Arc<dyn Link> {
        match self {
            Opened::Own(running) => running.link(),
            Opened::Remote(link) => link.clone(),
        }
    }

    /// Stops our own engine at a safe point; a remote one goes on.
    pub async fn close(self) {
        if let Opened::Own(running) = self {
            running.close().await;
        }
    }
}

impl Running {
    /// The seam.
    pub fn link(&self) -> Arc<dyn Link> {
        Arc::new(self.live.link.clone())
    }

    /// Stops at a safe point.
    pub async fn close(self) {
        self.stop.cancel();
        self.live.stop().await;
        if let Some(api) = self.api {
            api.stopped().await;
        }
    }
}

/// The engine that runs on this configuration, or one of our own; with tied hands neither can be made to act.
///
/// # Errors
/// Where neither can be had; the error says what to do.
pub async fn open(named: Option<&Path>, hands: Hands) -> Result<Opened> {
    let Some((_, mut config)) = place::load(named)? else {
        bail!(
            "this needs a configuration: pass --config FILE, or write foreshift.toml (config.example.toml explains every key)"
        );
    };
    if hands == Hands::Tied {
        config.engine.mode = ModeSetting::ReadOnly;
    }
    match place::open_state(&config.engine.data_dir) {
        Ok(store) => Ok(Opened::Own(Box::new(start_on(config, Arc::new(store)).await?))),
        Err(error) => match running_at(config.engine.listen).await {
            Ok(link) if hands == Hands::Tied => Ok(Opened::Remote(Arc::new(Tied::new(Arc::new(link))))),
            Ok(link) => Ok(Opened::Remote(Arc::new(link))),
            Err(_) => Err(error.into()),
        },
    }
}

/// The engine that listens there, with the token of the environment.
pub(super) async fn running_at(listen: SocketAddr) -> Result<RemoteLink, Refusal> {
    RemoteLink::connect(&format!("http://{listen}"), token_of_environment()).await
}

/// Who asks an engine on the command line, as the audit log names them.
pub(super) fn person() -> Actor {
    let user = std::env::var("USER").unwrap_or_else(|_| "operator".into());
    Actor { name: format!("{user} (command line)"), role: Role::Admin }
}

/// Starts an engine of our own.
///
/// # Errors
/// Where a part cannot be started; the error says which and why.
pub async fn start(config: Config) -> Result<Running> {
    let store = Arc::new(place::open_state(&config.engine.data_dir)?);
    start_on(config, store).await
}

async fn start_on(config: Config, store: Arc<dyn Store>) -> Result<Running> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now = clock.now();
    let options = settings::engine(&config);
    // Read-only, nothing is written but what the engine keeps of what it saw, in its own directory.
    let looks = options.mode == Mode::ReadOnly;
    let systems = systems::open(&config)?;
    let movers = systems.movers;
    let series = series(&config, clock.clone())?;
    let mut brain =
        Brain::new(options.windows, settings::assess(&config), settings::hysteresis(&config), now);
    let models = super::models::install(&config, &mut brain);
    let inventory = settings::inventory(&config);
    let epoch = Single::new(store.clone()).campaign(&options.name).await?;
    let ground = Ground {
        store: store.clone(),
        epoch,
        movers: movers.clone(),
        routers: systems.routers,
        // Deadlines are not moved by whoever sets the wall clock.
        clock: Arc::new(SteadyClock::default()),
        driven: Driven::InTasks,
    };
    let runner = moving::runner(&config, options.mode, ground).await?;
    let training = &config.predict.training;
    let lesson_every = config.predict.relearn_every;
    let shelf = training.detectors.then(|| {
        let shelf = Shelf::new(&place::detectors_dir(&config.engine.data_dir), options.windows.step);
        teaching::recall(&shelf, &mut brain, now);
        shelf
    });
    let forecasts = brain.assessor().options().forecast;
    let networks = NetworkShelf::new(&place::forecasters_dir(&config.engine.data_dir), forecasts.step);
    if training.detectors {
        teaching::recall_networks(&networks, &mut brain, now);
    }
    let (pupil, desk) = teach::pair(&forecasts);
    let desk = shelf.iter().cloned().fold(desk.keeping_networks(networks), teach::Desk::keeping);
    let taught = training.detectors.then(|| {
        let options = TeachOptions { windows: options.windows, span: config.predict.learning_period };
        (series.source.clone(), desk, options)
    });
    let ground = train_background::ground(&config, store.clone(), &series.history);
    let parts = Parts {
        options: options.clone(),
        brain,
        plan: settings::plans(&config, &movers),
        store,
        runner,
        movers: movers.clone(),
        inventory,
        source_name: series.source.name(),
        models,
    };
    let mut core = Core::start(parts, now).await?;
    if !looks {
        super::models::compete(&config, &mut core, now).await?;
    }
    let notifier = Notifier::start(settings::targets(&config)?);
    let live = Live::start(
        core,
        Surroundings {
            clock,
            every: options.interval.to_std(),
            source: series.source,
            history: Some(HistoryPlan {
                source: series.history,
                span: options.history,
                step: options.history_step,
                budget: HISTORY_BUDGET,
            }),
            pull: settings::pull(&config),
            sink: series.sink,
            movers,
            notifier,
            intake: series.intake.clone(),
            pupil: Some((pupil, lesson_every)),
            shelf,
        },
    );
    let stop = CancellationToken::new();
    if !looks {
        train_background::start(ground, stop.clone())?;
    }
    if let Some((source, desk, options)) = taught {
        teaching::start(source, desk, options, stop.clone())?;
    }
    let link: Arc<dyn Link> = Arc::new(live.link.clone());
    let intake = series.intake.map(|i| i as Arc<dyn Intake>);
    let api = ApiServer::start(config.engine.listen, Access::default(), link, intake, stop.clone()).await;
    let api = match api {
        Ok(api) => {
            tracing::info!(address = %api.address, "listening for agents, consoles and the API");
            Some(api)
        }
        Err(error) => {
            live.stop().await;
            return Err(error.into());
        }
    };
    Ok(Running { live, api, stop })
}

/// What reads and writes time series.
pub struct Series {
    /// The source.
    pub source: Arc<dyn Source>,
    /// The same with wide steps, for history.
    pub history: Arc<dyn Source>,
    /// Where scores are written back.
    pub sink: Option<Arc<dyn Sink>>,
    /// Takes agents' messages, where this engine keeps the time series.
    pub intake: Option<Arc<EmbeddedIntake>>,
}

/// Opens the time series of the configuration.
///
/// # Errors
/// Where the address or a secret cannot be used.
pub fn series(config: &Config, clock: Arc<dyn Clock>) -> Result<Series> {
    let t = &config.telemetry;
    match t.source {
        TelemetrySource::Influxdb2 | TelemetrySource::Influxdb1 => {
            let options = settings::influx(config, settings::read_name(config))?;
            let source =
                InfluxSource::new(&options, settings::read(config, t.step)).map_err(anyhow::Error::msg)?;
            let wide = settings::engine(config).history_step;
            let history =
                InfluxSource::new(&options, settings::read(config, wide)).map_err(anyhow::Error::msg)?;
            let writes = t.write_back.enabled && config.engine.mode != ModeSetting::ReadOnly;
            let sink: Option<Arc<dyn Sink>> = if writes {
                let target = settings::influx(config, &t.write_back.bucket)?;
                Some(Arc::new(InfluxSink::new(&target, None).map_err(anyhow::Error::msg)?))
            } else {
                None
            };
            Ok(Series { source: Arc::new(source), history: Arc::new(history), sink, intake: None })
        }
        TelemetrySource::Embedded => {
            let dir = place::series_dir(&config.engine.data_dir);
            let options = EmbeddedOptions { path: Some(dir), ..EmbeddedOptions::default() };
            let store = EmbeddedStore::open(options)?;
            let intake = Arc::new(EmbeddedIntake::new(store.clone(), clock));
            Ok(Series {
                history: Arc::new(store.aside()),
                source: Arc::new(store.clone()),
                sink: Some(Arc::new(store)),
                intake: Some(intake),
            })
        }
        TelemetrySource::Replay => bail!(
            "telemetry.source = \"replay\" is for `foreshift backtest`; an engine needs influxdb2, influxdb1 or embedded"
        ),
    }
}

/// Waits, at most 15 s, until the drivers were discovered once; an empty fleet is refused by the
/// planner in its own words.
pub async fn wait_for_fleet(link: &dyn Link) {
    let mut snapshots = link.snapshots();
    let wait = async {
        while snapshots.borrow_and_update().workloads.is_empty() {
            if snapshots.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(15), wait).await;
}
