//! The invariants on the drivers' side: what the engine asks for, what happens in the system, how
//! everything stands while it goes on and when it has ended.

use std::collections::BTreeSet;

use super::checks::Checks;
use super::fleet::STATELESS;
use super::system::{Load, System};
use crate::drivers::{Action, Artifact, Job, Permit, Weight};
use crate::fleet::{Epoch, MigrationId, Phase, WorkloadId};
use crate::migrate::operator::refusal;
use crate::migrate::state::State;

/// People are told within this; longer than a store that fails keeps it back.
const TOLD: i64 = 4_000;

impl Checks {
    /// A driver is asked for an action.
    pub(super) fn asked(&mut self, job: &Job, action: &Action, step: &str, permit: &Permit) {
        let approved = self.approved.get(&job.workload).is_some_and(|a| {
            let forward = job.source == a.source
                && job.destination == a.destination
                && job.generation.0 == a.generation.0 + 1;
            let back = job.source == a.destination
                && job.destination == a.source
                && job.generation.0 == a.generation.0 + 2;
            (forward || back) && permit.plan() == a.hash
        });
        if !approved {
            self.broken(|| {
                format!("I10: {} of {} → {} was never approved", job.workload, job.source, job.destination)
            });
        }
        self.steps(job.migration, step, permit.epoch(), action.is_read_only());
    }

    /// A router is asked to send shares.
    pub(super) fn routes(&mut self, workload: &WorkloadId, weights: &[Weight], permit: &Permit) {
        let Some(id) = self.working.get(workload).copied() else { return };
        let Some(approved) = self.approved.get(workload) else { return };
        let share = weights.iter().find(|w| w.partition == approved.destination).map(|w| w.share.get());
        let step = format!("route_{:.0}", share.unwrap_or(0.0) * 100.0);
        if permit.plan() != approved.hash {
            self.broken(|| format!("I10: traffic of {workload} is sent by a plan that was not approved"));
        }
        self.steps(id, &step, permit.epoch(), false);
    }

    fn steps(&mut self, id: MigrationId, step: &str, epoch: Epoch, read_only: bool) {
        let intended = match epoch < self.leader {
            // Whoever was deposed and does not know it yet can ask for what it was about to do then,
            // and for nothing else: it can write no new intent.
            true => self.left_with.get(&epoch).and_then(|left| left.get(&id)),
            false => self.intents.get(&id),
        };
        if intended.is_none_or(|intended| intended != step) {
            let intended = intended.cloned();
            self.broken(|| {
                format!("R2: {step} of {id} was asked for by {epoch}, the journal intends {intended:?}")
            });
        }
        match self.unanswered.get(&(epoch, id)) {
            Some(before) if before == step && !read_only => {
                self.broken(|| format!("R3: {step} of {id} was repeated by {epoch} without a probe"));
            }
            Some(before) if before != step => {
                self.unanswered.remove(&(epoch, id));
            }
            _ => {}
        }
    }

    pub(super) fn not_answered(&mut self, epoch: Epoch, id: MigrationId, step: &str) {
        self.unanswered.insert((epoch, id), step.to_string());
        if epoch < self.leader && !self.found_out.contains(&(self.leader, id)) {
            // The leader, too, has to find out before it repeats it; of what comes after it did it cannot know.
            self.unanswered.entry((self.leader, id)).or_insert_with(|| step.to_string());
        }
    }

    /// What was asked for is known: its answer came, or it was looked for.
    pub(super) fn answered(&mut self, epoch: Epoch, id: MigrationId) {
        self.unanswered.remove(&(epoch, id));
        self.found_out.insert((epoch, id));
    }

    /// An effect happened in the system.
    pub(super) fn happened(
        &mut self,
        system: &System,
        job: &Job,
        action: &Action,
        made: &[Artifact],
        wall: i64,
    ) {
        for artifact in made {
            if !self.ledger.contains(&artifact.name) {
                self.broken(|| format!("I4: {} {} is in no ledger", artifact.kind, artifact.name));
            }
        }
        if *action == Action::Open {
            self.takes_writes(&job.workload, &job.destination);
        }
        if let Some(load) = system.loads.get(&job.workload) {
            self.one_writer(&job.workload, load, wall);
        }
    }

    /// A router sends shares now.
    pub(super) fn routed(&mut self, system: &System, workload: &WorkloadId, weights: &[Weight]) {
        if system.loads.get(workload).is_some_and(|l| l.class != STATELESS) {
            for weight in weights.iter().filter(|w| w.share.get() > 0.0) {
                self.takes_writes(workload, &weight.partition);
            }
        }
    }

    /// Writes go to `partition` from now on: it has to be the owner.
    fn takes_writes(&mut self, workload: &WorkloadId, partition: &crate::fleet::PartitionId) {
        if let Some(owner) = self.owners.get(workload).filter(|o| o.owner != *partition) {
            let words = format!("I11: writes of {workload} go to {partition}, its owner is {}", owner.owner);
            self.broken(|| words);
        }
    }

    /// At most one side takes writes.
    pub(super) fn one_writer(&mut self, workload: &WorkloadId, load: &Load, wall: i64) {
        if load.open.len() > 1 && load.class != STATELESS && load.writable_sides(wall) > 1 {
            let sides = load.writable(wall);
            let words = format!("I1: {workload} takes writes on {sides:?} at once");
            self.broken(|| words);
        }
    }

    /// How a migration stands after a step of its engine, which has told people of `alerts`.
    pub(super) fn stands(&mut self, state: &State, alerts: &BTreeSet<MigrationId>, now: i64) {
        let id = state.plan.id;
        if !matches!(state.phase, Phase::Hold | Phase::Stuck) || alerts.contains(&id) {
            self.untold.remove(&id);
        } else if now - *self.untold.entry(id).or_insert(now) > TOLD {
            self.broken(|| format!("I9: {id} stands and nobody was told"));
        }
        if state.phase.is_end() {
            return;
        }
        let undoing = matches!(state.standing(), Phase::RollingBackPre | Phase::RollingBackPost);
        // After RETIRING has begun the way back is gone; the state says so.
        if !undoing
            && state.standing() != Phase::Retiring
            && let Some(why) = refusal(state, crate::migrate::OperatorCommand::RollBack)
        {
            self.broken(|| format!("I8: {id} cannot be undone in {:?}: {why}", state.phase));
        }
    }

    /// Everything has ended: the fleet is exactly as the owner records say and nothing is left.
    pub(super) fn at_the_end(&mut self, system: &System, wall: i64, meddled: &BTreeSet<WorkloadId>) {
        for (workload, load) in &system.loads {
            if meddled.contains(workload) {
                continue;
            }
            let owner = self.owners.get(workload).map_or_else(|| load.owner.clone(), |o| o.owner.clone());
            if load.class == STATELESS {
                continue;
            }
            let writable = load.writable(wall);
            if writable != [&owner] {
                let words = format!("S2: {workload} is owned by {owner} and writable on {writable:?}");
                self.broken(|| words);
            }
            let kept = load.data.get(&owner).copied().unwrap_or(0);
            if kept != load.acked {
                let acked = load.acked;
                self.broken(|| {
                    format!("S2: {workload} has {kept} writes at {owner}, {acked} were acknowledged")
                });
            }
            if load.corrupt.contains(&owner) {
                self.broken(|| format!("S9: {workload} was cut to a copy with a flipped bit"));
            }
            if !load.is_clean() {
                self.broken(|| format!("clean slate: a fence or a stream of {workload} is left"));
            }
        }
        if !self.tokens.is_empty() {
            let left: Vec<_> = self.tokens.keys().collect();
            let words = format!("I5: tokens are left: {left:?}");
            self.broken(|| words);
        }
    }
}
