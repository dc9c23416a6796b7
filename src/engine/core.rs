//! The engine's state and its one cycle. It has a single owner (the loop, or a simulation that
//! steps it by hand), takes the time as an argument, and never waits for a source or a person.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::alert::{Board, Event};
use crate::drivers::Mover;
use crate::fleet::{HostId, PartitionId, Timestamp, Topology, WorkloadId};
use crate::migrate::Runner;
use crate::plan::disruption::{Dependents, disruption};
use crate::plan::{Hold, PlanOptions, Ranked};
use crate::predict::{Assessment, Evacuation, HostRisk, PastFailure, WorkloadProjection};
use crate::protocol::{MigrationView, Mode, Severity, Snapshot};
use crate::state::{Store, StoreError};

use super::audit::Audit;
use super::book::Book;
use super::brain::Brain;
use super::failures::{self, Failures, Label};
use super::inventory::Inventory;
use super::observe::Pulled;
use super::options::EngineOptions;
use super::orders::Orders;
use super::ownership::Ownership;
use super::presence::Presence;

/// What a core is made of.
pub struct Parts {
    /// How it runs.
    pub options: EngineOptions,
    /// Windows, assessor and prediction states.
    pub brain: Brain,
    /// How plans are made.
    pub plan: PlanOptions,
    /// Durable state.
    pub store: Arc<dyn Store>,
    /// Migrations; `None` for a read-only engine. It has recovered.
    pub runner: Option<Runner>,
    /// Movers by class.
    pub movers: HashMap<String, Arc<dyn Mover>>,
    /// What the configuration says of hosts, and what was discovered.
    pub inventory: Inventory,
    /// Name of the source, for the header.
    pub source_name: String,
    /// Runtime and models, for the header.
    pub models: crate::protocol::ModelStatus,
}

/// The state.
pub struct Core {
    pub(super) options: EngineOptions,
    pub(super) brain: Brain,
    pub(super) plan_options: PlanOptions,
    pub(super) store: Arc<dyn Store>,
    pub(super) runner: Option<Runner>,
    pub(super) movers: HashMap<String, Arc<dyn Mover>>,
    pub(super) inventory: Inventory,
    pub(super) book: Book,
    pub(super) audit: Audit,
    pub(super) failures: Failures,
    pub(super) alerts: Board,
    /// Models that change places; none where they are fixed.
    pub(super) contest: Option<super::contest::Contest>,
    /// The same of single applications.
    pub(super) own_contests: Vec<super::contest::Contest>,
    pub(super) mode: Mode,
    pub(super) stopped: Option<(String, Timestamp)>,
    pub(super) frozen: Option<String>,
    /// What people have said that stands.
    pub(super) orders: Orders,
    /// Migrations as they were last seen.
    pub(super) migrations: Arc<Vec<MigrationView>>,
    pub(super) host_risks: HashMap<HostId, HostRisk>,
    pub(super) projections: HashMap<WorkloadId, WorkloadProjection>,
    /// Disruption score of every workload.
    pub(super) disruptions: HashMap<WorkloadId, f64>,
    /// What should move and does not, with the reason.
    pub(super) holds: Vec<Hold>,
    /// Partitions over their thresholds in the last cycle.
    pub(super) ranking: Vec<Ranked>,
    /// Partitions whose proposal a person rejected: who, and until when it is not proposed again.
    pub(super) denied: BTreeMap<String, (String, Timestamp)>,
    /// Destinations to which a workload could not be moved: until when it goes elsewhere, and why.
    pub(super) avoided: BTreeMap<WorkloadId, BTreeMap<PartitionId, (Timestamp, String)>>,
    /// Since when the storm is over, while automatic mode is still frozen.
    pub(super) calm_since: Option<Timestamp>,
    pub(super) snapshot: Snapshot,
    pub(super) next_proposal: u64,
    /// What happened to each partition of late, newest last, at most 20.
    pub(super) events: HashMap<PartitionId, Vec<(Timestamp, String)>>,
    /// Records of owners against what systems say.
    pub(super) ownership: Ownership,
    /// Hosts whose heartbeat is lost.
    pub(super) silent: std::collections::BTreeSet<HostId>,
    /// Which partitions are there, as agents and drivers say.
    pub(super) presence: Presence,
    /// Samples that the source took and lost.
    pub(super) lost: u64,
    /// Partitions that a replay takes to be emptied; none in an engine that runs.
    pub(super) assumed: std::collections::BTreeSet<PartitionId>,
}

/// Where proposals stand in the store.
pub(super) const PROPOSALS: &str = "/book/";
/// Events kept for a partition.
const EVENTS: usize = 20;

impl Core {
    /// Loads what the store holds and picks up what was running.
    ///
    /// # Errors
    /// Where the store cannot be used or holds something broken.
    pub async fn start(parts: Parts, now: Timestamp) -> Result<Self, StoreError> {
        let store = parts.store;
        let audit = Audit::load(&*store).await?;
        let failures = Failures::load(&*store).await?;
        let orders = Orders::load(&*store).await?;
        let mut entries = Vec::new();
        for entry in store.list(PROPOSALS).await? {
            let corrupt = |e: serde_json::Error| StoreError::Corrupt {
                place: store.place(),
                key: entry.key.clone(),
                detail: e.to_string(),
            };
            entries.push(serde_json::from_slice::<super::book::Entry>(&entry.value).map_err(corrupt)?);
        }
        let rejected_for = parts.options.rejected_for;
        let next_proposal = entries.iter().map(|e| e.proposal.id.0).max().unwrap_or(0) + 1;
        let book = Book::restore(entries);
        let denied = book.rejected_since(now - rejected_for);
        let denied = denied.map(|(p, by, at)| (p.to_string(), (by.to_string(), at + rejected_for))).collect();
        let snapshot = Snapshot {
            at: now,
            fleet_name: parts.options.fleet_name.clone(),
            mode: parts.options.mode,
            leader: parts.options.name.clone(),
            data: crate::protocol::DataStatus {
                source: parts.source_name,
                ..crate::protocol::DataStatus::default()
            },
            windows: parts.brain.assessor().options().windows.clone(),
            models: parts.models,
            next_cycle: now,
            ..Snapshot::default()
        };
        let mut core = Self {
            mode: parts.options.mode,
            options: parts.options,
            brain: parts.brain,
            plan_options: parts.plan,
            store,
            runner: parts.runner,
            movers: parts.movers,
            inventory: parts.inventory,
            book,
            audit,
            failures,
            alerts: Board::default(),
            contest: None,
            own_contests: Vec::new(),
            stopped: None,
            frozen: None,
            orders,
            migrations: Arc::default(),
            host_risks: HashMap::new(),
            projections: HashMap::new(),
            disruptions: HashMap::new(),
            holds: Vec::new(),
            ranking: Vec::new(),
            denied,
            avoided: BTreeMap::new(),
            calm_since: None,
            snapshot,
            next_proposal,
            events: HashMap::new(),
            ownership: Ownership::default(),
            silent: std::collections::BTreeSet::new(),
            presence: Presence::default(),
            lost: 0,
            assumed: std::collections::BTreeSet::new(),
        };
        if let Some(runner) = &core.runner {
            core.inventory.owners = runner.owners().await?;
            core.ownership = Ownership::new(&core.inventory.owners);
        }
        core.obey();
        core.keep_mode(now);
        core.see_migrations(now);
        core.keep_orders_told(now);
        core.publish(now);
        Ok(core)
    }

    /// The topology as it is known now.
    pub fn topology(&self) -> &Topology {
        self.inventory.topology()
    }

    /// How it runs.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// The brain, to warm it with history.
    pub fn brain_mut(&mut self) -> &mut Brain {
        &mut self.brain
    }

    /// Takes what was pulled.
    pub fn take(&mut self, pulled: Pulled, now: Timestamp) {
        self.brain.take(pulled, now);
    }

    /// Notes that the source lost samples which it had taken.
    pub fn lost(&mut self, samples: u64) {
        self.lost += samples;
    }

    /// Takes what a driver discovered, or why it could not: then what was known stays.
    pub fn discovery(&mut self, class: String, result: Result<Topology, String>, now: Timestamp) {
        let subject = format!("driver {class}");
        match result {
            Ok(topology) => {
                self.alerts.clear(now, &subject, "discovery");
                self.note_fenced(&class, &topology, now);
                self.inventory.discovered.insert(class, topology);
                self.rebuild_inventory();
            }
            Err(reason) => self.alerts.raise(now, Severity::Warning, &subject, "discovery", reason),
        }
    }

    pub(super) fn rebuild_inventory(&mut self) {
        let seen = self.brain.seen();
        let labels = self.brain.windows().labels().clone();
        if self.inventory.rebuild(&seen, &labels) {
            self.brain.place(self.inventory.topology());
        }
    }

    /// One pass: predict, decide, publish. What was pulled before it is what it rests on.
    ///
    /// # Errors
    /// Where the store cannot be used; nothing is acted on then.
    pub async fn cycle(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let started = std::time::Instant::now();
        if let Some(runner) = &self.runner {
            self.inventory.owners = runner.owners().await?;
        }
        self.rebuild_inventory();
        self.see_migrations(now);
        let evacuations = self.evacuations();
        let past = self.past_failures();
        let topology = self.inventory.topology().clone();
        let transitions = self.brain.cycle(&topology, &past, &evacuations, now);
        self.note_transitions(&transitions, now);
        self.note_never_known(now);
        self.keep_alerts_true(now);
        self.keep_orders_told(now);
        self.project(&topology, &past, now);
        let dependents = Dependents::of(&topology);
        self.disruptions =
            topology.workloads.iter().map(|w| (w.id.clone(), disruption(w, &dependents))).collect();
        self.record_fallen(now).await?;
        self.label_outcomes(now).await;
        self.show_world(&topology, now);
        self.decide(&topology, now).await?;
        self.record_hosts(&topology, now).await?;
        self.snapshot.next_cycle = now + self.options.interval;
        self.refresh_rows(&topology, now);
        self.step_contest(&topology, &evacuations, now).await?;
        self.tell_of_models(now);
        self.watch_drift(now);
        // All that the loop waits for is in it, models in shadow too; only the snapshot's last touches are not.
        self.snapshot.cycle_ms = started.elapsed().as_secs_f64() * 1000.0;
        self.publish(now);
        Ok(())
    }

    /// How predictions of this engine turned out, in a sentence.
    pub(super) fn track_record(&self) -> String {
        let count = |label: Label| self.failures.records().iter().filter(|f| f.label == label).count();
        format!(
            "{} failures recorded, {} survived a call, {} moved away in time (outcome unknown)",
            count(Label::Failed),
            count(Label::Survived),
            count(Label::Mitigated)
        )
    }

    fn project(&mut self, topology: &Topology, past: &[PastFailure], now: Timestamp) {
        let context = crate::predict::Context { topology, failures: past };
        let assessments = self.brain.assessor().assessments();
        let options = crate::predict::project::ProjectionOptions::default();
        self.projections = crate::predict::project::workloads(assessments, &context, &options, now)
            .into_iter()
            .map(|p| (p.workload.clone(), p))
            .collect();
        self.host_risks = crate::predict::project::hosts(assessments, topology, options.window, now)
            .into_iter()
            .map(|r| (r.host.clone(), r))
            .collect();
    }

    /// Which partitions are being emptied or were.
    fn evacuations(&self) -> HashMap<PartitionId, Evacuation> {
        let mut out = HashMap::new();
        for migration in self.migrations.iter() {
            if !migration.phase.is_end() {
                out.insert(migration.source.clone(), Evacuation::Running);
            }
        }
        for partition in &self.topology().partitions {
            let emptied = self.topology().on_partition(&partition.id).next().is_none()
                && self
                    .migrations
                    .iter()
                    .any(|m| m.source == partition.id && m.phase == crate::fleet::Phase::Done);
            if emptied {
                out.entry(partition.id.clone()).or_insert(Evacuation::Finished);
            }
        }
        out.extend(self.assumed.iter().map(|p| (p.clone(), Evacuation::Finished)));
        out
    }

    /// The failure history as predictions take it.
    pub(super) fn past_failures(&self) -> Vec<PastFailure> {
        let topology = self.topology();
        self.failures.records().iter().map(|f| failures::as_past(f, topology)).collect()
    }

    pub(super) fn event(&mut self, partition: &PartitionId, at: Timestamp, text: String) {
        let events = self.events.entry(partition.clone()).or_default();
        events.push((at, text));
        let beyond = events.len().saturating_sub(EVENTS);
        events.drain(..beyond);
    }

    /// What is to be told since the last call.
    pub fn take_alert_events(&mut self) -> Vec<Event> {
        self.alerts.take_events()
    }

    /// The assessments of the last cycle.
    pub fn assessments(&self) -> &[Assessment] {
        self.brain.assessor().assessments()
    }
}
