//! The engine's side of the runner: hand approved plans over, tell it the fleet, look at what moves,
//! halt it. A read-only engine has no runner, because there is no authority to make one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::core::Core;
use super::why::held_by;
use crate::drivers::Artifact;
use crate::fleet::{
    MetricName, MigrationId, PartitionId, Phase, PredictionState, Span, Timestamp, Topology, WorkloadId,
};
use crate::migrate::runner::{Forbidden, Keeping, Kept, World};
use crate::migrate::{Alert, Approval, Authority, OperatorCommand, Runner};
use crate::plan::Proposal;
use crate::predict::Assessment;
use crate::protocol::{Actor, MigrationView, Refusal, Severity};

/// Ended migrations that are shown.
const SHOWN: usize = 200;
/// Where a workload could not be moved to, it is not moved to again for so long.
const AVOIDED: Span = Span::hours(1);

/// Points off the health score from which on a latency or queue counts as out of the ordinary.
const STRAINED: f64 = 10.0;

/// Partitions whose latencies or queues are far above their own normal, with the worst of them in words.
fn strained(assessments: &[Assessment]) -> BTreeMap<PartitionId, String> {
    let waits = |metric: &MetricName| {
        let name = metric.as_str();
        name.ends_with("latency") || name.starts_with("queue.")
    };
    assessments
        .iter()
        .filter_map(|a| {
            let worst = a.why_health.iter().find(|c| waits(&c.metric) && c.amount >= STRAINED)?;
            Some((a.partition.clone(), worst.words.clone()))
        })
        .collect()
}

impl Core {
    fn runner_mut(&mut self) -> Result<&mut Runner, Refusal> {
        self.runner.as_mut().ok_or(Refusal::ReadOnly)
    }

    /// Confirms a plan and hands it over.
    ///
    /// # Errors
    /// Why it cannot be confirmed or taken.
    pub(super) async fn submit(
        &mut self,
        actor: &Actor,
        proposal: &Proposal,
        shown: &str,
        now: Timestamp,
    ) -> Result<Vec<MigrationId>, Refusal> {
        let authority = Authority::of(self.options.mode)?;
        let approval = Approval::confirm(&authority, proposal, shown, actor, now)?;
        let topology = self.topology().clone();
        self.show_world(&topology, now);
        self.runner_mut()?.submit(proposal, &approval, now).await
    }

    /// What a person asks of a migration.
    ///
    /// # Errors
    /// Why it cannot be done now.
    pub(super) fn operate(
        &mut self,
        migration: MigrationId,
        command: OperatorCommand,
        actor: &Actor,
    ) -> Result<(), Refusal> {
        self.runner_mut()?.command(migration, command, &actor.name)
    }

    /// Halts every new step of everything.
    ///
    /// # Errors
    /// Where that cannot be remembered; it is halted all the same.
    pub(super) async fn halt(&mut self, actor: &str, now: Timestamp) -> Result<(), Refusal> {
        let halted = self.runner_mut()?.stop_everything(actor, now).await;
        halted.map_err(|e| Refusal::NotNow { reason: e.to_string() })
    }

    /// Lets everything go on.
    ///
    /// # Errors
    /// Where the store does not answer; then it stays halted.
    pub(super) async fn release(&mut self) -> Result<(), Refusal> {
        let released = self.runner_mut()?.release_stop().await;
        released.map_err(|e| Refusal::NotNow { reason: e.to_string() })
    }

    /// Tells the runner the fleet as it is now known.
    pub(super) fn show_world(&mut self, topology: &Topology, now: Timestamp) {
        let Some(runner) = &self.runner else { return };
        let standings = self.brain.standings();
        let of = |wanted: PredictionState| {
            Arc::new(
                standings.iter().filter(|(_, s)| s.prediction == wanted).map(|(p, _)| p.clone()).collect(),
            )
        };
        let vetoes = self.orders.vetoes(now);
        let workloads = topology.workloads.iter();
        let partitions = topology.partitions.iter();
        let forbidden = Forbidden {
            workloads: workloads.filter_map(|w| Some((w.id.clone(), vetoes.on(w, topology)?))).collect(),
            partitions: partitions.filter_map(|p| Some((p.id.clone(), vetoes.at(p)?))).collect(),
        };
        runner.observe(World {
            at: now,
            forbidden: Arc::new(forbidden),
            topology: Arc::new(topology.clone()),
            failing: of(PredictionState::PredictiveFailure),
            unknown: of(PredictionState::Unknown),
            frozen: self.frozen.clone(),
            strained: Arc::new(strained(self.brain.assessor().assessments())),
        });
    }

    /// A driver found these of ours in its systems: people are told of what no running migration knows.
    pub(super) async fn left_behind(&mut self, class: &str, found: Vec<Artifact>, now: Timestamp) {
        let Some(runner) = &self.runner else { return };
        let left = match runner.unknown(found).await {
            Ok(left) => left,
            Err(error) => return self.store_failed(&error, now),
        };
        let subject = format!("driver {class}");
        self.tell_fences(class, &left, now);
        let Some(one) = left.first() else { return self.alerts.clear(now, &subject, "leaks") };
        let text = format!(
            "{} left behind by earlier migrations, {} {} on {} for one: `foreshift leaks` shows them and takes \
             them away while no engine runs",
            left.len(),
            one.kind,
            one.name,
            one.partition
        );
        tracing::warn!(class, count = left.len(), first = %one.name, "left behind by earlier migrations");
        self.alerts.raise(now, Severity::Warning, &subject, "leaks", text);
    }

    /// What keeps everybody from writing and belongs to no running migration is told as what it is.
    fn tell_fences(&mut self, class: &str, left: &[Artifact], now: Timestamp) {
        let topic = held_by(class);
        let fences: Vec<&Artifact> = left.iter().filter(|a| a.kind == Artifact::FENCE).collect();
        for partition in self.alerts.subjects(&topic) {
            if !fences.iter().any(|fence| fence.partition.as_str() == partition) {
                self.alerts.clear(now, &partition, &topic);
            }
        }
        for fence in fences {
            let (name, partition) = (&fence.name, fence.partition.as_str());
            let text = format!(
                "a move that this journal does not know keeps everybody from writing to a workload on {partition} \
                 ({name}): stop the engine, then `foreshift leaks --remove` makes its last owner writable"
            );
            tracing::error!(class, fence = %name, partition, "held by no known move");
            self.alerts.raise(now, Severity::Critical, partition, &topic, text);
        }
    }

    /// Workloads whose traffic is to be looked after.
    pub fn routes(&self) -> Vec<Kept> {
        self.runner.as_ref().map(Runner::routes).unwrap_or_default()
    }

    /// What came of looking after the traffic of a workload: put right it is told, while it is not an alert is open.
    pub fn note_route(&mut self, workload: &WorkloadId, kept: Keeping, now: Timestamp) {
        let subject = workload.as_str();
        match kept {
            Keeping::Stands => self.alerts.clear(now, subject, "routing"),
            Keeping::PutRight(found) => {
                tracing::warn!(%workload, %found, "traffic was sent elsewhere than to its owner and is put right");
                let text = format!("{found}; all of it goes to its owner again");
                self.alerts.clear(now, subject, "routing");
                self.alerts.tell(now, Severity::Warning, subject, "routing", text);
            }
            Keeping::Not(why) => {
                let text = format!("not all of its traffic is known to go to its owner: {why}");
                self.alerts.raise(now, Severity::Critical, subject, "routing", text);
            }
        }
    }

    /// Alerts of workloads that are not looked after any more say nothing now.
    pub fn forget_routes(&mut self, kept: &[Kept], now: Timestamp) {
        for subject in self.alerts.subjects("routing") {
            if !kept.iter().any(|k| k.workload().as_str() == subject) {
                self.alerts.clear(now, &subject, "routing");
            }
        }
    }

    /// Waits until a driver's call that is under way is done.
    pub async fn ready(&mut self) {
        match &mut self.runner {
            Some(runner) => runner.ready().await,
            None => std::future::pending().await,
        }
    }

    /// Lets the runner do what is due, without waiting. Tells whether anything changed.
    pub async fn tick(&mut self, now: Timestamp) -> bool {
        let Some(runner) = &mut self.runner else { return false };
        let changed = match runner.tick(now).await {
            Ok(changed) => {
                self.alerts.clear(now, "engine", "runner");
                changed
            }
            Err(error) => {
                tracing::error!(%error, "the runner cannot go on");
                self.alerts.raise(now, Severity::Critical, "engine", "runner", error.to_string());
                true
            }
        };
        let (alerts, asks) = (runner.take_alerts(), runner.take_asks());
        if changed {
            self.see_migrations(now);
        }
        for (migration, alert) in alerts {
            self.note_alert(migration, alert, now);
        }
        for ask in asks {
            let text = format!("{} still has to go, but not to {}: {}", ask.workload, ask.avoid, ask.because);
            self.alerts.tell(now, Severity::Warning, ask.workload.as_str(), "destination", text);
            self.avoided.entry(ask.workload).or_default().insert(ask.avoid, (now + AVOIDED, ask.because));
        }
        changed
    }

    /// What a migration says is urgent stays open until it goes on to another phase; the rest is told.
    fn note_alert(&mut self, migration: MigrationId, alert: Alert, now: Timestamp) {
        let subject = migration.to_string();
        let stands = self.migrations.iter().any(|m| m.id == migration && !m.phase.is_end());
        match alert.severity {
            Severity::Critical if stands => {
                self.alerts.raise_again(now, alert.severity, &subject, "migration", alert.text);
            }
            severity => self.alerts.tell(now, severity, &subject, "migration", alert.text),
        }
    }

    /// How many migrations have ended in which phase since this engine began; screens show the newest alone.
    pub fn ended(&self) -> BTreeMap<Phase, u64> {
        self.runner.as_ref().map(|runner| runner.tally().clone()).unwrap_or_default()
    }

    /// Whether anything is on its way.
    pub fn moving(&self) -> bool {
        self.migrations.iter().any(|m| !m.phase.is_end())
    }

    /// Looks at what moves and tells of what changed.
    pub fn see_migrations(&mut self, now: Timestamp) {
        let Some(runner) = &self.runner else { return };
        let mut views = runner.views();
        self.stopped = runner.stopped().cloned();
        views.sort_by(|a, b| {
            a.phase.is_end().cmp(&b.phase.is_end()).then(b.started.cmp(&a.started)).then(b.id.cmp(&a.id))
        });
        let running = views.iter().filter(|m| !m.phase.is_end()).count();
        views.truncate(running + SHOWN);
        let before = std::mem::replace(&mut self.migrations, Arc::new(views));
        let seen = self.migrations.clone();
        for view in seen.iter() {
            let was = before.iter().find(|b| b.id == view.id).map(|b| b.phase);
            if was != Some(view.phase) {
                self.note_phase(view, was, now);
            }
        }
    }

    fn note_phase(&mut self, view: &MigrationView, was: Option<Phase>, now: Timestamp) {
        let subject = view.id.to_string();
        let ended = || view.log.first().map(|(_, text)| text.clone()).unwrap_or_default();
        let why = if view.phase.is_end() { ended() } else { view.waiting.clone() };
        let waiting = if why.is_empty() { String::new() } else { format!(" ({why})") };
        let text = format!(
            "{} {} → {}: {}{waiting}",
            view.workload,
            view.source,
            view.destination,
            view.phase.word()
        );
        tracing::info!(migration = %view.id, phase = view.phase.word(), %text, "migration");
        match view.phase {
            Phase::Hold | Phase::Stuck => {
                let stuck = view.phase == Phase::Stuck;
                let severity = if stuck { Severity::Critical } else { Severity::Warning };
                self.alerts.raise(now, severity, &subject, "migration", text);
            }
            phase => {
                self.alerts.clear(now, &subject, "migration");
                let severity = match phase {
                    Phase::RollingBackPre
                    | Phase::RollingBackPost
                    | Phase::SourceLost
                    | Phase::Aborted
                    | Phase::RolledBack
                    | Phase::Stale => Severity::Warning,
                    _ => Severity::Info,
                };
                if was.is_none() || phase.is_end() || severity > Severity::Info {
                    self.alerts.tell(now, severity, &subject, "migration", text);
                }
            }
        }
        if was.is_none() || view.phase.is_end() {
            let source = view.source.clone();
            self.event(&source, now, format!("{} {}: {}", view.id, view.workload, view.phase.word()));
        }
    }

    /// Brings the runner to a safe point: begins nothing new and lets what stands between fence and
    /// redirect go through, for at most `most`. What is left is in the journal.
    pub async fn safe_point(&mut self, clock: &dyn crate::fleet::Clock, most: std::time::Duration) {
        let begun = std::time::Instant::now();
        loop {
            let Some(runner) = &mut self.runner else { return };
            if runner.safe_point() {
                return;
            }
            if begun.elapsed() > most {
                tracing::warn!("not at a safe point in time; the journal has what is needed to go on");
                return;
            }
            self.tick(clock.now()).await;
            let _ = tokio::time::timeout(std::time::Duration::from_millis(20), self.ready()).await;
        }
    }
}
