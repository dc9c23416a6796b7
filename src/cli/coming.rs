//! A link to an engine that is still being put together: the console is there at once and takes
//! keys, and the engine comes into it when it is ready. Until then the picture says what is known
//! without one, and a command is answered with that.

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context, Result};
use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::engine::EngineOptions;
use crate::fleet::{Clock, SystemClock};
use crate::protocol::{Actor, Command, Link, Refusal, Reply, Snapshot};
use crate::tui::{Engine, Exit};

/// The link before and after the engine has come.
struct Coming {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Taken by the task that hands the engine's snapshots on.
    publish: Mutex<Option<watch::Sender<Arc<Snapshot>>>>,
    engine: OnceLock<Arc<dyn Link>>,
}

impl Coming {
    fn new(first: Snapshot) -> Self {
        let (publish, snapshots) = watch::channel(Arc::new(first));
        Self { snapshots, publish: Mutex::new(Some(publish)), engine: OnceLock::new() }
    }

    /// The engine is there: what it says is handed on until it is gone.
    fn has_come(&self, engine: Arc<dyn Link>) {
        let publish = self.publish.lock().ok().and_then(|mut publish| publish.take());
        let Some(publish) = publish else { return };
        let mut snapshots = engine.snapshots();
        let _ = self.engine.set(engine);
        tokio::spawn(async move {
            snapshots.mark_changed();
            while snapshots.changed().await.is_ok() {
                let newest = snapshots.borrow_and_update().clone();
                publish.send_replace(newest);
            }
        });
    }
}

#[async_trait]
impl Link for Coming {
    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    async fn send(&self, actor: Actor, command: Command) -> Result<Reply, Refusal> {
        match self.engine.get() {
            Some(engine) => engine.send(actor, command).await,
            None => Err(Refusal::NotNow { reason: "the engine is starting".to_string() }),
        }
    }
}

/// Shows the console at once, with `first` in it, and the engine that `start` puts together as soon
/// as it is there, until the person leaves or `shutdown` says so. Gives how the console ended, and
/// what was started, which is the caller's to close.
///
/// # Errors
/// Where the engine cannot be started.
pub async fn show<T: Send + 'static>(
    first: Snapshot,
    settings: &config::Console,
    theme: Option<&str>,
    shutdown: CancellationToken,
    start: impl Future<Output = Result<(Arc<dyn Link>, T)>> + Send + 'static,
) -> Result<(Result<Exit>, T)> {
    let coming = Arc::new(Coming::new(first));
    let starting = tokio::spawn({
        let (coming, shutdown) = (coming.clone(), shutdown.clone());
        async move {
            let began = std::time::Instant::now();
            let (link, engine) = start.await.inspect_err(|_| shutdown.cancel())?;
            tracing::info!(ms = began.elapsed().as_millis() as u64, "the engine has started");
            coming.has_come(link);
            anyhow::Ok(engine)
        }
    });
    let shown = super::console::show_until(coming, settings, theme, Engine::Embedded, shutdown).await;
    let engine = starting.await.context("the engine's start was lost")??;
    Ok((shown, engine))
}

/// What is known of an engine before it has started.
pub fn before(options: &EngineOptions) -> Snapshot {
    let now = SystemClock.now();
    Snapshot {
        at: now,
        next_cycle: now,
        fleet_name: options.fleet_name.clone(),
        leader: options.name.clone(),
        mode: options.mode,
        ..Snapshot::default()
    }
}
