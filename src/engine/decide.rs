//! Decide: ask the planner, keep the book, and in automatic mode approve within the limits. A
//! person's decision, hold or veto wins at once.

use std::collections::BTreeMap;

use super::book::BookChange;
use super::commands::automatic;
use super::core::{Core, PROPOSALS};
use super::failures::{Failure, Label, Origin};
use crate::fleet::{
    HostId, PartitionId, Phase, PredictionState, ProposalId, ServingState, Span, Timestamp, Topology,
};
use crate::plan::{self, Ended, Move, PlanInput, PlanOutput, Proposal, Request, Running, Trigger};
use crate::protocol::{Actor, Command, Mode, Refusal, Severity};
use crate::state::{Op, StoreError, Txn};

/// An alert of the planner that it has not repeated for this long is closed.
const PLAN_FADES: Span = Span::minutes(2);

impl Core {
    /// Asks the planner, with everything that is known now.
    fn ask_planner(&self, topology: &Topology, request: Request, now: Timestamp) -> PlanOutput {
        self.with_input(topology, request, now, plan::propose)
    }

    /// What comes `of` the planner's input as everything is known now.
    fn with_input<T>(
        &self,
        topology: &Topology,
        request: Request,
        now: Timestamp,
        of: impl FnOnce(&PlanInput<'_>) -> T,
    ) -> T {
        let states: BTreeMap<PartitionId, PredictionState> =
            self.brain.standings().into_iter().map(|(p, s)| (p, s.prediction)).collect();
        let loads = self.brain.partition_loads(topology);
        let hosts: Vec<_> = self.host_risks.values().cloned().collect();
        let projections: Vec<_> = self.projections.values().cloned().collect();
        let (mut running, mut ended) = (Vec::new(), Vec::new());
        for m in self.migrations.iter() {
            match m.ended {
                Some(at) => ended.push(Ended {
                    workload: m.workload.clone(),
                    started: m.started,
                    ended: at,
                    moved: m.phase == Phase::Done,
                }),
                None => running.push(Running {
                    migration: m.id,
                    workload: m.workload.clone(),
                    source: m.source.clone(),
                    destination: m.destination.clone(),
                    started: m.started,
                }),
            }
        }
        let vetoes = self.orders.vetoes(now);
        let disputed = self.inventory.disputed();
        let standing = |places: &BTreeMap<PartitionId, (Timestamp, String)>| {
            let left = places.iter().filter(|(_, (until, _))| *until > now);
            left.map(|(place, (_, why))| (place.clone(), why.clone())).collect()
        };
        let avoided = self.avoided.iter().map(|(w, places)| (w.clone(), standing(places))).collect();
        of(&PlanInput {
            now,
            request,
            topology,
            assessments: self.brain.assessor().assessments(),
            states: &states,
            loads: &loads,
            hosts: &hosts,
            projections: &projections,
            running: &running,
            ended: &ended,
            open: &[],
            vetoes: &vetoes,
            disputed: &disputed,
            avoided: &avoided,
            next: ProposalId(self.next_proposal),
            options: &self.plan_options,
        })
    }

    /// The planner's proposals of this cycle, and what follows from them.
    ///
    /// # Errors
    /// Where the store cannot be used.
    pub(super) async fn decide(&mut self, topology: &Topology, now: Timestamp) -> Result<(), StoreError> {
        let output = self.ask_planner(topology, Request::Watch, now);
        self.holds = output.holds;
        self.ranking = output.ranking;
        self.brake(output.storm.as_deref(), now);
        for alert in &output.alerts {
            self.alerts.raise(now, alert.severity, &alert.subject, "plan", alert.text.clone());
        }
        self.alerts.fade(now, "plan", PLAN_FADES);
        self.denied.retain(|_, (_, until)| *until > now);
        let mut fresh: Vec<Proposal> =
            output.proposals.into_iter().filter(|p| !self.is_denied(&p.trigger)).collect();
        for proposal in &mut fresh {
            if let Trigger::PredictiveFailure { partition, .. } = &proposal.trigger
                && let Some(reason) = self.settling(partition, now)
            {
                proposal.blocked.get_or_insert(reason);
            }
        }
        let standings = self.brain.standings();
        let acceptable = |partition: &PartitionId| {
            let serving = topology.partition(partition).map(|p| p.serving);
            let prediction = standings.get(partition).map(|s| s.prediction);
            serving.is_some_and(|s| !matches!(s, ServingState::Fenced | ServingState::Decommissioned))
                && matches!(prediction, Some(PredictionState::Healthy | PredictionState::Evacuated))
        };
        let mut next = self.next_proposal;
        let changes = self.book.refresh(fresh, now, acceptable, || {
            next += 1;
            ProposalId(next - 1)
        });
        self.next_proposal = next;
        let mut waiting: Vec<Proposal> = self.book.waiting().map(|e| e.proposal.clone()).collect();
        if !waiting.is_empty() {
            self.with_input(topology, Request::Watch, now, |input| plan::look_again(&mut waiting, input));
            self.book.explain(waiting);
        }
        for change in changes {
            self.note_book(change, now).await;
        }
        self.act_alone(now).await;
        Ok(())
    }

    /// Why a partition is not to be emptied on its own account now: it takes work over or has just
    /// done so, and looks unusual because of that.
    fn settling(&self, partition: &PartitionId, now: Timestamp) -> Option<String> {
        let settle = self.options.settle;
        self.migrations.iter().filter(|m| &m.destination == partition).find_map(|m| match m.ended {
            None => Some(format!(
                "{partition} is taking over {} ({}): it is judged anew after that",
                m.workload, m.id
            )),
            Some(ended) if m.phase == Phase::Done && ended.age(now) < settle => {
                let left = settle - ended.age(now);
                Some(format!("{partition} has just taken over {}: it is judged anew in {left}", m.workload))
            }
            Some(_) => None,
        })
    }

    pub(super) fn is_denied(&self, trigger: &Trigger) -> bool {
        matches!(trigger, Trigger::PredictiveFailure { partition, .. } if self.denied.contains_key(partition.as_str()))
    }

    /// Many predictions at once are more likely a measuring fault: automatic mode freezes.
    fn brake(&mut self, storm: Option<&str>, now: Timestamp) {
        match storm {
            Some(reason) => {
                self.alerts.raise(now, Severity::Critical, "engine", "storm", reason.to_string());
                self.frozen = Some(reason.to_string());
                self.calm_since = None;
            }
            None if self.frozen.is_some() => {
                let since = *self.calm_since.get_or_insert(now);
                if since.age(now) >= self.options.storm_calm {
                    self.frozen = None;
                    self.alerts.clear(now, "engine", "storm");
                }
            }
            None => {}
        }
    }

    async fn note_book(&mut self, change: BookChange, now: Timestamp) {
        let (id, text, severity) = match change {
            BookChange::Opened(id) => {
                let title = self.book.get(id).map(|e| e.proposal.title.clone()).unwrap_or_default();
                (id, format!("proposed: {title}"), Severity::Warning)
            }
            BookChange::Stale(id, reason) => (id, format!("stale: {reason}"), Severity::Info),
            BookChange::Expired(id) => (id, "expired without a decision".to_string(), Severity::Warning),
        };
        tracing::info!(proposal = %id, %text, "proposal");
        self.alerts.tell(now, severity, &id.to_string(), "proposal", text);
        self.store_proposal(id).await;
    }

    /// In automatic mode, approves what waits and nothing speaks against.
    async fn act_alone(&mut self, now: Timestamp) {
        if self.mode != Mode::Auto || self.stopped.is_some() || self.frozen.is_some() {
            return;
        }
        let ready: Vec<(ProposalId, String)> = self
            .book
            .waiting()
            .filter(|e| matches!(e.proposal.trigger, Trigger::PredictiveFailure { .. }))
            .filter(|e| e.proposal.blocked.is_none() && !e.proposal.moves.is_empty())
            .filter(|e| !e.proposal.moves.iter().any(|m| self.is_vetoed(m, now)))
            .map(|e| (e.proposal.id, e.proposal.hash().hex()))
            .collect();
        for (id, plan) in ready {
            let command = Command::Approve { proposal: id, plan, reason: String::new() };
            if let Err(refusal) = Box::pin(self.command(&automatic(), command, now)).await {
                tracing::warn!(proposal = %id, %refusal, "automatic mode could not approve");
            }
        }
    }

    fn is_vetoed(&self, of: &Move, now: Timestamp) -> bool {
        let vetoes = self.orders.vetoes(now);
        let topology = self.topology();
        let places = [topology.partition(&of.source), topology.partition(&of.destination)];
        let workload = topology.workload(&of.workload);
        workload.is_some_and(|w| vetoes.on(w, topology).is_some())
            || places.iter().flatten().any(|p| vetoes.at(p).is_some())
    }

    /// What would empty a host, without touching anything.
    ///
    /// # Errors
    /// Where there is no such host, or nothing can be planned.
    pub(super) fn plan_evacuation(
        &self,
        actor: &Actor,
        host: &HostId,
        now: Timestamp,
    ) -> Result<Proposal, Refusal> {
        let topology = self.topology().clone();
        if topology.host(host).is_none() {
            let known: Vec<&str> = topology.hosts.iter().map(|h| h.id.as_str()).take(12).collect();
            let what = format!("host {host}; known hosts: {}", known.join(", "));
            return Err(Refusal::NotFound { what });
        }
        let request = Request::EvacuateHost { host: host.clone(), actor: actor.name.clone() };
        let output = self.ask_planner(&topology, request, now);
        output.proposals.into_iter().next().ok_or_else(|| {
            let mut reasons: Vec<String> = output
                .holds
                .iter()
                .map(|h| format!("{} on {}: {}", h.workload, h.partition, h.reason))
                .collect();
            if reasons.is_empty() {
                reasons.push(format!("{host} holds no workload"));
            }
            Refusal::NotNow { reason: reasons.join("; ") }
        })
    }

    /// A number for a proposal, used once.
    pub(super) fn number_proposal(&mut self) -> ProposalId {
        self.next_proposal += 1;
        ProposalId(self.next_proposal - 1)
    }

    /// Keeps a proposal in the store; a failure is an alert, the proposal stays in memory.
    pub(super) async fn store_proposal(&mut self, id: ProposalId) {
        let Some(entry) = self.book.get(id) else { return };
        let Ok(value) = serde_json::to_vec(entry) else { return };
        let op = Op::Put(format!("{PROPOSALS}{:012}", id.0), value);
        let store = self.store.clone();
        if let Err(error) = store.txn(Txn { compares: Vec::new(), ops: vec![op] }).await {
            tracing::error!(%error, proposal = %id, "a proposal cannot be stored");
        }
    }

    /// Writes down what became of partitions that were emptied: nobody knows what would have been.
    pub(super) async fn label_outcomes(&mut self, now: Timestamp) {
        let done: Vec<PartitionId> = self
            .migrations
            .iter()
            .filter(|m| m.phase == Phase::Done && m.ended.is_some_and(|e| e.age(now) < self.options.interval))
            .map(|m| m.source.clone())
            .collect();
        for partition in done {
            let known = self.failures.of(partition.as_str()).any(|f| f.at.age(now).0 < 3_600_000);
            if !known {
                let store = self.store.clone();
                let failure = Failure {
                    number: 0,
                    at: now,
                    subject: partition.to_string(),
                    cause: "its work was moved away before it failed, if it would have".into(),
                    label: Label::Mitigated,
                    origin: Origin::Engine,
                };
                if let Err(error) = self.failures.add(&*store, failure).await {
                    tracing::error!(%error, "a failure record cannot be written");
                }
            }
        }
    }
}
