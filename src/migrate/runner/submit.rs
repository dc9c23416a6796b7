//! From an approved proposal to migrations: one for each move, written in one transaction together
//! with the very bytes that were approved.

use std::sync::Arc;

use super::admit::approved_key;
use super::context::{Driver, Planted};
use super::log::Log;
use super::machine::{Machine, plan_key, running_key, state_key};
use super::{Runner, Slot};
use crate::fleet::topology::UNKNOWN_PLACE;
use crate::fleet::{MigrationId, PartitionId, Phase, Span, Timestamp, Topology};
use crate::migrate::approval::Approval;
use crate::migrate::journal::{self, Note, Stamp};
use crate::migrate::plan::{Place, Plan};
use crate::migrate::state::State;
use crate::plan::Proposal;
use crate::plan::proposal::Trigger;
use crate::protocol::Refusal;
use crate::state::{Compare, Entry, Op, StoreError, Txn, TxnOutcome, leadership};

/// What a move takes beside its copying, its canary and its soak, generously.
const PER_MOVE: Span = Span::minutes(2);
/// The key of the counter that numbers migrations.
const COUNTER_KEY: &str = "/counters/migration";

impl Runner {
    /// Takes an approved proposal: each of its moves becomes a migration, in their order.
    ///
    /// # Errors
    /// Where the approval is not of this plan, a class has no driver, the proposal was submitted
    /// before, or the store does not answer (then nothing was taken, or it is found by
    /// [`Runner::recover`]; asking again is safe).
    pub async fn submit(
        &mut self,
        proposal: &Proposal,
        approval: &Approval,
        now: Timestamp,
    ) -> Result<Vec<MigrationId>, Refusal> {
        self.context.begin_tick(now);
        let bytes = proposal.canonical_bytes();
        if approval.proposal() != proposal.id || approval.hash() != proposal.hash() {
            let detail = format!("approved {}, now {}", approval.hash().short(), proposal.hash().short());
            return Err(Refusal::PlanChanged { detail });
        }
        if let Some(missing) = proposal.moves.iter().find(|m| self.context.mover(&m.class).is_none()) {
            let reason = format!("no mover of class {} is set up for {}", missing.class, missing.workload);
            return Err(Refusal::NotNow { reason });
        }
        let counter = self.context.get(COUNTER_KEY).await.map_err(refused)?;
        let first = read_counter(counter.as_ref()) + 1;
        let topology = self.context.world().map(|w| w.topology).unwrap_or_default();
        let states: Vec<State> = (0..proposal.moves.len())
            .map(|order| {
                let plan = self.plan_of(proposal, approval, order, first + order as u64, &topology);
                State::approved(Arc::new(plan), self.context.epoch, self.context.now())
            })
            .collect();
        let last = first + (states.len() as u64).saturating_sub(1);
        let mut txn = Txn {
            compares: vec![
                leadership::guard(self.context.epoch),
                Compare::Absent(approved_key(proposal.id)),
                match &counter {
                    Some(entry) => Compare::Modified(COUNTER_KEY.to_string(), entry.modified),
                    None => Compare::Absent(COUNTER_KEY.to_string()),
                },
            ],
            ops: vec![
                Op::Put(COUNTER_KEY.to_string(), last.to_string().into_bytes()),
                Op::Put(approved_key(proposal.id), bytes),
            ],
        };
        let mut machines: Vec<Machine> = Vec::with_capacity(states.len());
        for state in states {
            machines.push(self.first_records(state, approval, &mut txn.ops));
        }
        let notes: Vec<Note> = first_notes(approval).into();
        let state = machines.first().map(|m| Arc::clone(&m.state));
        let written = match &state {
            Some(state) => self.context.write(state, notes.iter(), txn).await,
            None => return Ok(Vec::new()),
        };
        match written {
            Ok(TxnOutcome::Committed(revision)) => Ok(machines
                .into_iter()
                .map(|mut machine| {
                    let id = machine.state.plan.id;
                    machine.revision = revision;
                    self.slots.insert(id, Slot::new(machine, Log::default()));
                    id
                })
                .collect()),
            Ok(TxnOutcome::Conflict { compare, .. }) => Err(Refusal::NotNow {
                reason: match compare {
                    Compare::Absent(key) if key != COUNTER_KEY => {
                        format!("{} was taken before", proposal.id)
                    }
                    Compare::Created(..) => "another engine leads".to_string(),
                    _ => "another proposal was taken at the same moment: ask again".to_string(),
                },
            }),
            Err(error @ StoreError::Ambiguous { .. }) => self.find_submitted(proposal, error).await,
            Err(error) => Err(refused(error)),
        }
    }

    /// The answer got lost: what is in the store decides.
    async fn find_submitted(
        &mut self,
        proposal: &Proposal,
        error: StoreError,
    ) -> Result<Vec<MigrationId>, Refusal> {
        let found = self.context.get(&approved_key(proposal.id)).await.map_err(refused)?;
        if found.is_none() {
            return Err(refused(error));
        }
        let known: Vec<MigrationId> = self.slots.keys().copied().collect();
        self.load(None).await.map_err(|e| Refusal::NotNow { reason: e.to_string() })?;
        Ok(self.slots.keys().copied().filter(|id| !known.contains(id)).collect())
    }

    fn plan_of(
        &self,
        proposal: &Proposal,
        approval: &Approval,
        order: usize,
        id: u64,
        topology: &Topology,
    ) -> Plan {
        let planned = &proposal.moves[order];
        let mut destination = planned.destination.clone();
        if self.context.options.planted == Planted::OtherPlan {
            destination = planned.source.clone();
        }
        let mover = self.context.mover(&planned.class);
        let mut policy = self.context.options.policy.clone();
        if let Some(longer) = mover.as_ref().and_then(Driver::fence_budget) {
            policy.fence_budget = policy.fence_budget.max(longer);
        }
        Plan {
            id: MigrationId(id),
            proposal: proposal.id,
            hash: approval.hash(),
            order: order as u32,
            workload: planned.workload.clone(),
            class: planned.class.clone(),
            source: planned.source.clone(),
            source_place: place(topology, &planned.source),
            destination_place: place(topology, &destination),
            destination,
            predicted: matches!(proposal.trigger, Trigger::PredictiveFailure { .. }),
            probability: match proposal.trigger {
                Trigger::PredictiveFailure { probability, .. } => Some(probability),
                _ => None,
            },
            stateless: self.context.options.planted == Planted::EarlyRoute
                || topology.workload(&planned.workload).is_some_and(|w| w.stateless),
            routed: self.context.router(&planned.class).is_some(),
            generation: planned.generation,
            canary: proposal.canary.clone(),
            soak: proposal.soak,
            data: planned.data,
            duration: planned.duration,
            capabilities: mover.map_or(planned.capabilities, |mover| mover.capabilities()),
            topology: proposal.topology,
            approved_by: approval.actor().to_string(),
            approved_at: approval.at(),
            expires: proposal.expires + turns_before(proposal, order),
            policy,
        }
    }

    /// Plan, state and the first records of a migration, as puts.
    fn first_records(&self, mut state: State, approval: &Approval, ops: &mut Vec<Op>) -> Machine {
        let plan = Arc::clone(&state.plan);
        let stamp = Stamp {
            migration: plan.id,
            at: self.context.now(),
            epoch: self.context.epoch,
            actor: approval.actor(),
            phase: Phase::Approved,
        };
        let notes = first_notes(approval).into();
        let mut head = state.progress.journal;
        let mut fresh = Vec::with_capacity(2);
        for (op, record) in journal::chain(&mut head, notes, &stamp) {
            fresh.push(record);
            ops.push(op);
        }
        state.progress.journal = head;
        ops.push(Op::Put(plan_key(plan.id), plan.bytes()));
        ops.push(Op::Put(state_key(plan.id), state.progress.bytes()));
        ops.push(Op::Put(running_key(plan.id), Vec::new()));
        Machine { fresh, ..Machine::new(state, crate::fleet::Revision(0)) }
    }
}

/// How long a move may have to wait for those before it in its proposal, one after the other: an approval stands
/// for all of them, also where the limits let few begin at once.
fn turns_before(proposal: &Proposal, order: usize) -> Span {
    let watched = proposal.canary.steps.iter().fold(proposal.soak, |all, step| all + step.duration);
    proposal.moves[..order].iter().fold(Span::ZERO, |all, m| all + m.duration + watched + PER_MOVE)
}

/// The first records of every migration.
fn first_notes(approval: &Approval) -> [Note; 2] {
    [
        Note::Decision { what: "approved".to_string(), why: format!("plan {}", approval.hash().hex()) },
        Note::State { from: Phase::Proposed, to: Phase::Approved, reason: String::new() },
    ]
}

fn place(topology: &Topology, partition: &PartitionId) -> Place {
    match topology.host_of(partition) {
        Some(host) => Place { host: host.id.clone(), rack: host.rack.clone(), site: host.site.clone() },
        None => Place { host: partition.host(), rack: UNKNOWN_PLACE.into(), site: UNKNOWN_PLACE.into() },
    }
}

fn read_counter(entry: Option<&Entry>) -> u64 {
    entry.and_then(|e| std::str::from_utf8(&e.value).ok()?.parse().ok()).unwrap_or(0)
}

fn refused(error: StoreError) -> Refusal {
    Refusal::NotNow { reason: error.to_string() }
}
