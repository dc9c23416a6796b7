//! The agent's life: collect, keep, send; and on the way down say so, run the unload hook, send the
//! rest, and stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::AgentError;
use super::collect::{Collectors, Roots};
use super::spool::Spool;
use super::stream::{Outbox, receivers, send_for_ever};
use crate::config::Config;
use crate::fleet::{Clock, HostId, Span};
use crate::protocol::{AgentMessage, AgentReading, AgentState, PartitionBeat};

/// Version of the message format.
const VERSION: u32 = 1;
/// How long the last messages may take on the way down.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long the unload hook may take.
const HOOK: Duration = Duration::from_secs(600);

/// What the agent did until it stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Times that it collected.
    pub collections: u64,
    /// Messages that it made.
    pub messages: u64,
    /// Readings that it had to drop, ever.
    pub dropped: u64,
    /// Messages that still wait on disk.
    pub waiting: usize,
}

/// Collects, and makes messages of it.
struct Agent<'a> {
    config: &'a Config,
    clock: &'a dyn Clock,
    host: HostId,
    collectors: Collectors,
    outbox: Arc<Outbox>,
    state: AgentState,
    pending: Vec<AgentReading>,
    beats: Vec<PartitionBeat>,
    last: Option<Instant>,
    summary: Summary,
}

/// Runs until `stop` says so: the first word begins the way down, a second one cuts it short. Wants
/// a runtime of one thread.
///
/// # Errors
/// What keeps it from starting; nothing that happens later stops it.
pub async fn run(
    config: &Config,
    roots: Roots,
    clock: &dyn Clock,
    mut stop: mpsc::Receiver<()>,
) -> Result<Summary, AgentError> {
    let settings = &config.agent;
    let receivers = receivers(config)?;
    let spool = Spool::open(&settings.spool_dir, settings.spool_size, settings.spool_age, clock.now())?;
    let outbox = Arc::new(Outbox::new(spool, &receivers));
    let host = if settings.host.as_str().is_empty() { host_name(&roots) } else { settings.host.clone() };
    let mut agent = Agent {
        config,
        clock,
        host,
        collectors: Collectors::start(settings, roots).await?,
        outbox: outbox.clone(),
        state: AgentState::Running,
        pending: Vec::new(),
        beats: Vec::new(),
        last: None,
        summary: Summary::default(),
    };
    tracing::info!(host = %agent.host, to = ?outbox.receivers, "the agent collects");
    let senders: Vec<_> =
        receivers.into_iter().map(|receiver| tokio::spawn(send_for_ever(receiver, outbox.clone()))).collect();
    agent.live(&mut stop).await;
    agent.go_down(&mut stop).await;
    senders.iter().for_each(tokio::task::JoinHandle::abort);
    let spool = outbox.spool();
    Ok(Summary { dropped: spool.dropped(), waiting: spool.len(), ..agent.summary })
}

impl Agent<'_> {
    /// Collects and sends until the first word of `stop`.
    async fn live(&mut self, stop: &mut mpsc::Receiver<()>) {
        let (mut collect, mut send) = self.ticks();
        send.reset();
        loop {
            tokio::select! {
                _ = collect.tick() => self.collect(),
                _ = send.tick() => self.flush(),
                _ = stop.recv() => return,
            }
        }
    }

    /// Says that the host is about to go, runs the hook while collecting goes on, says the last word.
    async fn go_down(&mut self, stop: &mut mpsc::Receiver<()>) {
        self.state = AgentState::PreparingForShutdown;
        self.flush();
        if !self.config.agent.unload_hook.is_empty() {
            let (mut collect, mut send) = self.ticks();
            // The first ticks come at once, and a rate needs time between two looks.
            collect.reset();
            send.reset();
            let host = self.host.clone();
            let hook = unload(&self.config.agent.unload_hook, &host);
            tokio::pin!(hook);
            loop {
                tokio::select! {
                    () = &mut hook => break,
                    _ = collect.tick() => self.collect(),
                    _ = send.tick() => self.flush(),
                    _ = stop.recv() => break,
                }
            }
        }
        self.state = AgentState::Stopping;
        self.flush();
        let sent = async {
            while !self.outbox.spool().is_empty() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            _ = timeout(LAST_WORDS, sent) => {}
            _ = stop.recv() => {}
        }
    }

    fn ticks(&self) -> (tokio::time::Interval, tokio::time::Interval) {
        let every = |span: Span| {
            let mut ticks = interval(span.max(Span::millis(100)).to_std());
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks
        };
        (every(self.config.agent.collect_every), every(self.config.agent.send_every))
    }

    fn collect(&mut self) {
        let elapsed = self.last.replace(Instant::now()).map_or(0.0, |then| then.elapsed().as_secs_f64());
        let collected = self.collectors.collect(self.clock.now(), elapsed);
        self.pending.extend(collected.readings);
        self.beats = collected.beats;
        self.summary.collections += 1;
    }

    /// Makes a message of what was collected; an empty one is a heartbeat all the same.
    fn flush(&mut self) {
        let message = AgentMessage {
            version: VERSION,
            host: self.host.clone(),
            sequence: 0,
            sent: self.clock.now(),
            state: self.state,
            labels: BTreeMap::clone(&self.config.agent.labels),
            partitions: self.beats.clone(),
            readings: std::mem::take(&mut self.pending),
            dropped: 0,
        };
        if let Err(error) = self.outbox.spool().keep(message) {
            tracing::warn!(%error, "the disk does not take a message; it is dropped");
        }
        self.summary.messages += 1;
        self.outbox.news.notify_waiters();
    }
}

/// Runs the hook; what it says goes to the log.
async fn unload(hook: &[String], host: &HostId) {
    let Some((program, arguments)) = hook.split_first() else { return };
    let mut command = Command::new(program);
    command.args(arguments).env("FORESHIFT_HOST", host.as_str()).kill_on_drop(true);
    match timeout(HOOK, command.output()).await {
        Ok(Ok(done)) if done.status.success() => tracing::info!(program, "the unload hook is done"),
        Ok(Ok(done)) => {
            let said = String::from_utf8_lossy(&done.stderr);
            tracing::warn!(program, status = %done.status, said = %said.trim(), "the unload hook failed");
        }
        Ok(Err(error)) => tracing::warn!(program, %error, "the unload hook does not start"),
        Err(_) => tracing::warn!(program, "the unload hook took more than ten minutes; stopped"),
    }
}

fn host_name(roots: &Roots) -> HostId {
    let name = std::fs::read_to_string(roots.proc.join("sys/kernel/hostname")).unwrap_or_default();
    let name = name.trim();
    HostId::from(if name.is_empty() { "unnamed" } else { name })
}
