//! The live loop: one owner of the core; pulling, discovering, moving and writing back each in a
//! task of its own, so that none of them makes a command wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::core::Core;
use super::history::{self, HistoryPlan};
use super::intake::EmbeddedIntake;
use super::link::{self, EngineLink, LoopEnds};
use super::observe::{self, Delivery, PullOptions};
use super::teach::{self, Pupil};
use super::write_back;
use crate::alert::Notifier;
use crate::drivers::{Artifact, Mover};
use crate::fleet::{Clock, Span, Topology, WorkloadId};
use crate::migrate::runner::{Keeping, Kept};
use crate::predict::ForecastOptions;
use crate::predict::keep::Shelf;
use crate::protocol::Snapshot;
use crate::telemetry::{Sink, Source, SourceStatus};

/// Between two looks of the runner at what moves.
const RUNNER_TICK: Duration = Duration::from_millis(100);
/// The same while nothing moves: commands and answers wake it at once, this is for what is due.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// Shortest time between two cycles.
const SHORTEST: Duration = Duration::from_millis(50);
/// Longest time for coming to a safe point at the end.
const SAFE_POINT: Duration = Duration::from_secs(4);
/// Between two looks for what was left behind.
const BETWEEN_LEAK_SCANS: Duration = Duration::from_secs(3600);
/// Between two times at which it is kept where the detectors' streams stand.
const KEEP_STREAMS: Duration = Duration::from_secs(600);
/// Between two looks at whether routers still send where the owner is.
const BETWEEN_ROUTE_LOOKS: Duration = Duration::from_secs(30);
/// Longest time that one discovery may take.
const DISCOVERY_DEADLINE: Duration = Duration::from_secs(10);

/// What the loop works with beside the core.
pub struct Surroundings {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Between two cycles, on the clock of this machine: a simulated fleet's may run faster.
    pub every: Duration,
    /// Where samples come from.
    pub source: Arc<dyn Source>,
    /// What history warms the baselines before the first cycle.
    pub history: Option<HistoryPlan>,
    /// How they are pulled.
    pub pull: PullOptions,
    /// Where scores are written back.
    pub sink: Option<Arc<dyn Sink>>,
    /// What moves workloads, by class.
    pub movers: HashMap<String, Arc<dyn Mover>>,
    /// Who is told.
    pub notifier: Notifier,
    /// Heartbeats of agents, where they report to this engine.
    pub intake: Option<Arc<EmbeddedIntake>>,
    /// Who fits detectors from days of history, and how often each; none = nobody.
    pub pupil: Option<(Pupil, Span)>,
    /// Where detectors are kept over a restart; none = nowhere.
    pub shelf: Option<Shelf>,
}

/// A running engine.
pub struct Live {
    /// The handle for consoles and the API.
    pub link: EngineLink,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Live {
    /// Starts the loop.
    pub fn start(core: Core, around: Surroundings) -> Self {
        let stop = CancellationToken::new();
        let (link, ends) = link::pair(Snapshot::clone(&core.snapshot()));
        let task = tokio::spawn(run(core, around, ends, stop.clone()));
        Self { link, stop, task }
    }

    /// Stops at a safe point: what moves is left where a restart picks it up. Waits at most five
    /// seconds.
    pub async fn stop(self) {
        self.stop.cancel();
        if tokio::time::timeout(Duration::from_secs(5), self.task).await.is_err() {
            tracing::warn!("the loop did not stop within 5 s; the journal has what is needed to go on");
        }
    }
}

/// Discovers one driver's fleet for ever.
async fn discover(
    class: String,
    mover: Arc<dyn Mover>,
    every: Duration,
    found: mpsc::Sender<(String, Result<Topology, String>)>,
) {
    loop {
        let result = match tokio::time::timeout(DISCOVERY_DEADLINE, mover.discover()).await {
            Ok(Ok(topology)) => Ok(topology),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("{class} was not discovered within 10 s")),
        };
        if found.send((class.clone(), result)).await.is_err() {
            return;
        }
        tokio::time::sleep(every).await;
    }
}

/// Looks for what was left behind, at the start and every hour.
async fn look_for_leaks(class: String, mover: Arc<dyn Mover>, left: mpsc::Sender<(String, Vec<Artifact>)>) {
    loop {
        // Where it cannot be asked, discovery says so.
        if let Ok(Ok(found)) = tokio::time::timeout(DISCOVERY_DEADLINE, mover.leaks()).await
            && left.send((class.clone(), found)).await.is_err()
        {
            return;
        }
        tokio::time::sleep(BETWEEN_LEAK_SCANS).await;
    }
}

/// Looks after the traffic of some workloads, one after the other.
async fn keep_routes(kept: Vec<Kept>, found: mpsc::Sender<(WorkloadId, Keeping)>) {
    for one in kept {
        let keeping = one.keep().await;
        if found.send((one.workload().clone(), keeping)).await.is_err() {
            return;
        }
    }
}

/// Keeps where the streams of the detectors stand; the disk is waited for on a thread of its own.
fn keep_streams(core: &mut Core, shelf: &Shelf) -> Option<JoinHandle<()>> {
    let bytes = core.brain_mut().streams()?;
    let shelf = shelf.clone();
    Some(tokio::task::spawn_blocking(move || {
        if let Err(error) = shelf.keep_streams(&bytes) {
            tracing::warn!(%error, "the detectors' streams are not kept");
        }
    }))
}

async fn run(mut core: Core, around: Surroundings, mut ends: LoopEnds, stop: CancellationToken) {
    let clock = around.clock.clone();
    let (delivered, mut deliveries) = mpsc::channel::<Delivery>(2);
    let (status, mut source_status) = watch::channel(SourceStatus::Starting);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(observe::pull_for_ever(around.source.clone(), clock.clone(), around.pull, delivered, status));
    let (found, mut discoveries) = mpsc::channel(8);
    let (left, mut leaks) = mpsc::channel(8);
    let every = around.every.max(SHORTEST);
    for (class, mover) in &around.movers {
        tasks.spawn(discover(class.clone(), mover.clone(), every, found.clone()));
        tasks.spawn(look_for_leaks(class.clone(), mover.clone(), left.clone()));
    }
    let (batches, waiting) = write_back::queue();
    let (failing, mut sink_status) = watch::channel(None);
    if let Some(sink) = &around.sink {
        tasks.spawn(write_back::write_for_ever(sink.clone(), waiting, failing));
    }
    let mut ticked = tokio::time::Instant::now();

    let (part, mut parts) = mpsc::channel(1);
    let mut warming = around.history.is_some();
    if let Some(plan) = around.history.clone() {
        tasks.spawn(history::send(plan, clock.now(), part));
    } else {
        drop(part);
    }

    // Without a teacher nobody asks: the other end is dropped at once.
    let (mut pupil, lesson_every) =
        around.pupil.unwrap_or_else(|| (teach::pair(&ForecastOptions::default()).0, Span::days(1)));

    let mut cycle = tokio::time::interval(every);
    cycle.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first cycle comes with the first data.
    cycle.reset();
    let mut keep = tokio::time::interval(KEEP_STREAMS);
    keep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    keep.reset();
    let mut routes = tokio::time::interval(BETWEEN_ROUTE_LOOKS);
    routes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (kept, mut keepings) = mpsc::channel(8);
    let mut keeping: Option<tokio::task::AbortHandle> = None;
    let mut first = true;
    loop {
        let mut changed = true;
        let tick = ticked + if core.moving() { RUNNER_TICK } else { IDLE_TICK };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(asked) = ends.commands.recv() => {
                let result = core.command(&asked.actor, asked.command, clock.now()).await;
                let _ = asked.answer.send(result);
            }
            () = core.ready() => changed = core.tick(clock.now()).await,
            () = tokio::time::sleep_until(tick) => {
                changed = core.tick(clock.now()).await;
                ticked = tokio::time::Instant::now();
            }
            part = parts.recv(), if warming => {
                match part {
                    Some(windows) => core.brain_mut().learn_history(&windows),
                    None => {
                        warming = false;
                        cycle.reset_immediately();
                    }
                }
                changed = false;
            }
            Some(delivery) = deliveries.recv() => {
                core.lost(delivery.report.lost);
                core.take(delivery.pulled, clock.now());
                changed = false;
                if std::mem::take(&mut first) && !warming {
                    cycle.reset_immediately();
                }
            }
            Some((class, result)) = discoveries.recv() => {
                let now = clock.now();
                core.discovery(class.clone(), result, now);
                if let Err(error) = core.follow_owners(&class, now).await {
                    core.store_failed(&error, now);
                }
            }
            Some((workload, found)) = keepings.recv() => core.note_route(&workload, found, clock.now()),
            _ = routes.tick(), if keeping.as_ref().is_none_or(|task| task.is_finished()) => {
                let all = core.routes();
                core.forget_routes(&all, clock.now());
                keeping = (!all.is_empty()).then(|| tasks.spawn(keep_routes(all, kept.clone())));
                changed = false;
            }
            Some((class, found)) = leaks.recv() => core.left_behind(&class, found, clock.now()).await,
            Some(answer) = pupil.asked.recv() => {
                let _ = answer.send(core.brain_mut().lessons_due(lesson_every));
                changed = false;
            }
            Some((partition, taught)) = pupil.lessons.recv() => {
                core.brain_mut().teach(&partition, taught);
                changed = false;
            }
            Some(model) = pupil.forecasters.recv() => {
                core.brain_mut().use_forecaster(model);
                changed = false;
            }
            Ok(()) = source_status.changed() => {
                let now = source_status.borrow_and_update().clone();
                changed = core.source_status(&now, clock.now());
            }
            Ok(()) = sink_status.changed() => {
                let failing = sink_status.borrow_and_update().clone();
                core.sink_status(failing);
            }
            _ = keep.tick(), if around.shelf.is_some() => {
                around.shelf.as_ref().and_then(|shelf| keep_streams(&mut core, shelf));
                changed = false;
            }
            _ = cycle.tick(), if !warming => {
                let now = clock.now();
                let heard = match &around.intake {
                    Some(intake) => core.note_heartbeats(&intake.heartbeats(), now).await,
                    None => Ok(()),
                };
                match heard.and(core.cycle(now).await) {
                    Ok(()) => core.store_works(now),
                    Err(error) => core.store_failed(&error, now),
                }
                if around.sink.is_some() {
                    let snapshot = core.snapshot();
                    let readings = write_back::readings(now, &snapshot, core.assessments().iter());
                    if batches.try_send(readings).is_err() {
                        core.sink_status(Some("16 batches wait already: this one was dropped".into()));
                    }
                }
            }
        }
        for event in core.take_alert_events() {
            around.notifier.tell(&event);
        }
        if changed {
            core.publish(clock.now());
            ends.snapshots.send_replace(core.snapshot());
        }
    }
    tasks.abort_all();
    let kept = around.shelf.as_ref().and_then(|shelf| keep_streams(&mut core, shelf));
    core.safe_point(&*clock, SAFE_POINT).await;
    if let Some(kept) = kept {
        // It has had the time of the safe point; what is not on the disk by then is read from the window.
        let _ = tokio::time::timeout(Duration::from_secs(1), kept).await;
    }
    tracing::info!("stopped at a safe point");
}
