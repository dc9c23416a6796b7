//! FENCING: writes are held at the source for the cut. Also the gate before it.
//!
//! Does: `fence` with the budget as its deadline (a source whose engine dies lets go by itself), then
//! the seal (`fence` without end, so that nothing can be written between comparison and commit), then
//! `verify_at_cut`. Where the system itself votes there is no seal: its own change of the owner is
//! the fence. Deadline: the fence budget; over it the source is let go and caught up with again, at
//! most a few times, then the migration is undone. Recovery: the owner record did not change, so the
//! source is let go (with the new epoch) and caught up with. Rollback: let go, then as before the
//! cut.

use super::{Rules, keep_trying, late_but_forward, undo, verifying};
use crate::drivers::{Action, Evidence};
use crate::fleet::{Phase, Span, Timestamp};
use crate::migrate::act::{Act, Deed};
use crate::migrate::draft::Draft;
use crate::migrate::event::EventKind;
use crate::migrate::journal::Note;
use crate::migrate::state::{Again, Reverse, Todo, Wish};
use crate::protocol::Severity;

/// The deadline of a fence that holds until it is let go: the year 2100.
pub(in crate::migrate) const SEALED: Timestamp = Timestamp(4_102_444_800_000);

pub(in crate::migrate) const RULES: Rules = Rules {
    limit: |s| Some(s.plan.policy.fence_budget),
    enter: |d| {
        d.s.cuts += 1;
        d.s.compared = None;
        let (epoch, generation) = (d.s.epoch, d.s.plan.next_generation());
        d.note(Note::Fence { leader: epoch, generation });
        let capabilities = d.s.plan.capabilities;
        let mut acts = vec![Act::forward(Action::Fence { deadline: Timestamp(0) })];
        if !capabilities.system_votes {
            acts.push(Act::forward(Action::Fence { deadline: SEALED }));
        }
        if capabilities.digest {
            acts.push(Act::forward(Action::VerifyAtCut));
        }
        d.plan(acts);
    },
    exhausted: |d| match d.s.unfencing {
        true => let_go(d),
        false if d.s.deadline.is_some_and(|limit| d.at > limit) => give_up(d, "over the fence budget"),
        false => d.go(Phase::Committing, ""),
    },
    done,
    failed,
    late: |d| match d.s.unfencing {
        true => late_but_forward(d),
        false => give_up(d, "over the fence budget"),
    },
    ..Rules::USUAL
};

fn done(d: &mut Draft, act: &Act, evidence: &Evidence) {
    let compared = matches!(act.deed, Deed::Mover { action: Action::VerifyAtCut });
    if compared && evidence.equal != Some(true) {
        let found = verifying::differences(evidence);
        d.s.verified = false;
        d.alert(Severity::Critical, format!("{}: the cut was refused: {found}", d.s.plan.id));
        d.s.cuts = d.s.plan.policy.cut_tries;
        give_up(d, &format!("the cut was refused: {found}"));
    } else {
        if compared {
            d.s.compared = Some(d.at);
        }
        d.begin();
    }
}

fn failed(d: &mut Draft, act: &Act, detail: &str) {
    if d.s.unfencing {
        keep_trying(d, act, detail);
    } else {
        give_up(d, &format!("{} failed: {detail}", act.words()));
    }
}

/// Gives this cut up: the source is let go and stays the owner.
pub(in crate::migrate) fn give_up(d: &mut Draft, why: &str) {
    d.drop_pending(why);
    d.decide("gives up the cut", why);
    d.s.cause = why.to_string();
    d.s.unfencing = true;
    d.s.deadline = Some(d.at + d.s.plan.policy.state_limit);
    d.plan([Act::forward(Action::Unfence)]);
}

/// The source has been let go: catch up again, or undo after too many cuts.
pub(super) fn let_go(d: &mut Draft) {
    let cause = d.s.cause.clone();
    // What a person wished is done from there.
    let wished = matches!(d.s.wish, Some(Wish::RollBack { .. }));
    if d.s.cuts >= d.s.plan.policy.cut_tries && !wished {
        undo(d, format!("no cut in {} tries: {cause}", d.s.cuts), Again::Retry);
    } else {
        d.go(Phase::CatchingUp, format!("the cut was given up: {cause}"));
    }
}

/// Waits for leave to cut.
pub(in crate::migrate) fn at_gate(d: &mut Draft) {
    d.s.at_gate = true;
    d.s.todo = Todo::Gate;
    d.s.due = d.at;
    d.s.deadline = Some(d.at + d.s.plan.policy.state_limit);
}

/// What the gate answers.
pub(super) fn gate(d: &mut Draft, event: &EventKind) {
    match event {
        EventKind::GateOpen if proof_is_old(d) => d.plan([Act::forward(Action::ProbeReverse)]),
        EventKind::GateOpen => d.go(Phase::Fencing, ""),
        EventKind::GateShut { reason, again } => {
            d.s.waiting = reason.clone();
            d.s.due = *again;
            d.s.deadline = Some(*again + d.s.plan.policy.state_limit);
        }
        _ => {}
    }
}

fn proof_is_old(d: &Draft) -> bool {
    d.s.plan.capabilities.reverse_proved_before_cut
        && match d.s.reverse {
            Reverse::Proved { at } => d.at - at > d.s.plan.policy.proof_age || d.at < at,
            Reverse::None | Reverse::Armed => true,
            Reverse::Enabled => false,
        }
}

/// A fence that begins now lets go by itself at the budget's end, or when its state ends.
pub(in crate::migrate) fn deadline(d: &Draft) -> Timestamp {
    let budget = d.at + d.s.plan.policy.fence_budget;
    d.s.deadline.map_or(budget, |limit| limit.min(budget)).max(d.at + Span::millis(1))
}
