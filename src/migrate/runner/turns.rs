//! Whose turn it is: which migrations are driven now, and what follows when one is done.

use std::sync::Arc;

use super::drive;
use super::machine::Machine;
use super::{Runner, Slot, under_way};
use crate::fleet::{MigrationId, Phase, Timestamp};
use crate::migrate::state::Todo;
use crate::state::StoreError;

/// Drives of one migration within one tick, so that none starves the others.
pub(super) const DRIVES: u32 = 64;
/// Ended migrations that are kept for screens.
pub(super) const ENDED: usize = 200;

impl Runner {
    /// Whether it may be driven now, whatever time it is.
    pub(super) fn may_go(&self, slot: &Slot) -> bool {
        let commanded = slot.machine.as_ref().is_some_and(|m| !m.commands.is_empty() || m.unsaved.is_some());
        let halted = self.stopped.is_some() || self.draining;
        (!halted || commanded || must_go_on(slot.state.phase) || undoes(slot.state.phase))
            && (commanded || self.waits_for_turn(slot).is_none())
    }

    /// An earlier move of the same proposal that is not admitted yet.
    pub(super) fn waits_for_turn(&self, slot: &Slot) -> Option<MigrationId> {
        if slot.state.todo != Todo::Admit || slot.state.plan.order == 0 {
            return None;
        }
        let first = MigrationId(slot.state.plan.id.0 - u64::from(slot.state.plan.order));
        self.slots
            .range(first..slot.state.plan.id)
            .find(|(_, s)| {
                s.state.plan.proposal == slot.state.plan.proposal
                    && s.state.phase == Phase::Approved
                    && s.state.attempt == 1
            })
            .map(|(id, _)| *id)
    }

    /// Whether it is to be driven now.
    pub(super) fn is_due(&self, slot: &Slot, now: Timestamp) -> bool {
        let due = slot.machine.as_ref().and_then(|m| m.due()).is_some_and(|due| due <= now);
        due && slot.drives < DRIVES && self.may_go(slot)
    }

    /// Drives it.
    pub(super) fn launch(&mut self, id: MigrationId) {
        if let Some(slot) = self.slots.get_mut(&id)
            && let Some(machine) = slot.machine.take()
        {
            slot.drives += 1;
            let drive = drive::start(Arc::clone(&self.context), machine);
            under_way(&mut self.driving).push(drive);
        }
    }

    /// Takes a machine back, and drives it on if it is due. Tells whether it changed.
    pub(super) fn land(&mut self, (mut machine, result): (Box<Machine>, Result<(), StoreError>)) -> bool {
        let id = machine.state.plan.id;
        self.context.under_way.forget(id);
        if let Err(error) = result {
            self.failure = Some(error.into());
        }
        self.alerts.extend(machine.alerts.drain(..).map(|alert| (id, alert)));
        self.asks.extend(machine.ask.take());
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        let changed = !Arc::ptr_eq(&slot.state, &machine.state);
        let ended = machine.state.phase.is_end() && !slot.state.phase.is_end();
        slot.state = Arc::clone(&machine.state);
        if let Some(status) = machine.status.take() {
            slot.status = Some(status);
        }
        slot.log.add(machine.fresh.drain(..));
        machine.commands.append(&mut slot.commands);
        slot.machine = Some(machine);
        if ended {
            *self.tally.entry(slot.state.phase).or_default() += 1;
            self.remember_ended(id);
        }
        let now = self.context.now();
        if self.slots.get(&id).is_some_and(|slot| self.is_due(slot, now)) {
            self.launch(id);
        }
        changed
    }

    fn remember_ended(&mut self, id: MigrationId) {
        self.ended.push_back(id);
        while self.ended.len() > ENDED {
            if let Some(oldest) = self.ended.pop_front() {
                self.slots.remove(&oldest);
            }
        }
    }
}

/// Phases that are brought to their end even while everything is halted: between fence and redirect
/// there is no safe point.
pub(super) fn must_go_on(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Fencing | Phase::Committing | Phase::Redirecting | Phase::RollingBackPost | Phase::SourceLost
    )
}

fn undoes(phase: Phase) -> bool {
    phase == Phase::RollingBackPre
}
