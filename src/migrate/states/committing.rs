//! COMMITTING: the owner changes, in one compare-and-set transaction and nowhere else.
//!
//! Does: where our record is the truth, the transaction: owner and generation as expected, this
//! leader's epoch, this state → new owner, next generation, REDIRECTING. Where the system itself
//! votes, it is asked to commit, its word is read, and our record follows in the same transaction.
//! A comparison that is too old by then, or from before a restart, is no ground for it: the source is
//! let go, caught up with and compared again.
//! Deadline: the usual limit, then an alert while it goes on. Recovery: the owner record decides
//! alone; unchanged means let go and catch up, and where the system votes its word is asked first.
//! Rollback: a wish waits until it is known which side of the cut this is; where the system takes a while and can
//! be stopped before anything has happened, it is asked to let go.

use super::{Rules, fencing, keep_trying, late_but_forward, undo};
use crate::drivers::Action;
use crate::fleet::{Generation, PartitionId, Phase};
use crate::migrate::act::Act;
use crate::migrate::draft::Draft;
use crate::migrate::event::EventKind;
use crate::migrate::owner::Owner;
use crate::migrate::state::{Again, Todo, Wish};
use crate::protocol::Severity;

pub(in crate::migrate) const RULES: Rules = Rules {
    enter: |d| match d.s.plan.capabilities.system_votes {
        true => d.plan([Act::forward(Action::Commit)]),
        false => d.s.todo = Todo::Commit,
    },
    exhausted: |d| match d.s.unfencing && !d.s.plan.capabilities.system_votes {
        true => fencing::let_go(d),
        // Given up or not: what was asked of a system that votes may have come late, and its word
        // is the truth. The source was let go under our epoch, so nothing of an older one comes now.
        false => d.s.todo = Todo::Poll,
    },
    failed: |d, act, detail| match d.s.unfencing {
        true => keep_trying(d, act, detail),
        false => fencing::give_up(d, &format!("{} failed: {detail}", act.words())),
    },
    on,
    late: late_but_forward,
    ..Rules::USUAL
};

/// The system is at it and can still let go: what a person wished is done.
pub(in crate::migrate) fn call_off(d: &mut Draft) {
    if let Some(Wish::RollBack { actor }) = &d.s.wish
        && !d.s.unfencing
    {
        let why = format!("asked for by {actor}");
        fencing::give_up(d, &why);
    }
}

fn on(d: &mut Draft, event: &EventKind) {
    match event {
        EventKind::Time if d.s.is_stale(d.at) => fencing::give_up(d, "the comparison is too old"),
        EventKind::OwnerChanged => {
            d.s.switched = true;
            d.go(Phase::Redirecting, "");
        }
        EventKind::OwnerIs { owner } => owner_is(d, owner.as_ref()),
        EventKind::Status { status } => {
            let word = status.as_ref().ok().and_then(|s| s.owner.clone());
            d.s.due = d.at + d.s.plan.policy.poll;
            if word.as_ref() == Some(&d.s.plan.destination) {
                d.s.unfencing = false;
                d.s.todo = Todo::Commit;
                d.s.due = d.at;
            } else if d.s.unfencing && word.as_ref() == Some(&d.s.plan.source) {
                fencing::let_go(d);
            } else if word.as_ref() == Some(&d.s.plan.source) {
                // Its voters may need a moment to tell each other.
                d.s.lag_ok += 1;
                if d.s.lag_ok >= d.s.plan.policy.probe_tries {
                    fencing::give_up(d, "the system still names the source as owner");
                }
            } else {
                d.s.waiting = "asks the system who owns it".to_string();
                if let Some(other) = word {
                    somebody_else(d, &other);
                }
            }
        }
        _ => {}
    }
}

/// The system gave the workload to a third, as when the source died and a copy of its own took over: this move has
/// nothing left to change.
fn somebody_else(d: &mut Draft, other: &PartitionId) {
    d.s.lag_ok += 1;
    if d.s.lag_ok >= d.s.plan.policy.probe_tries {
        let why = format!("the system gave it to {other} by itself");
        d.alert(Severity::Critical, format!("{}: {why}", d.s.plan.id));
        undo(d, why, Again::No);
    }
}

fn owner_is(d: &mut Draft, owner: Option<&Owner>) {
    let plan = &d.s.plan;
    let is = |partition: &PartitionId, generation: Generation| {
        owner.is_some_and(|o| o.owner == *partition && o.generation == generation)
    };
    if is(&plan.destination, plan.next_generation()) {
        d.s.switched = true;
        d.go(Phase::Redirecting, "found by the owner record");
    } else if is(&plan.source, plan.generation) {
        d.s.due = d.at + d.s.plan.policy.poll;
        d.s.waiting =
            "the owner record names the source and is not held by this move: looks again".to_string();
    } else {
        let found = owner.map_or("nothing".to_string(), |o| format!("{} at {}", o.owner, o.generation));
        let why = format!("the owner record was changed by somebody else: it names {found}");
        d.alert(Severity::Critical, format!("{}: {why}", d.s.plan.id));
        undo(d, why, Again::No);
    }
}

/// After a restart: the owner record decides; where the system votes, its word comes first.
pub(in crate::migrate) fn recover(d: &mut Draft, owner: Option<&Owner>) {
    let switched =
        owner.is_some_and(|o| o.owner == d.s.plan.destination && o.generation == d.s.plan.next_generation());
    if switched {
        d.drop_pending("the owner record names the destination");
        d.s.switched = true;
        d.go(Phase::Redirecting, "found by the owner record");
    } else if d.s.plan.capabilities.system_votes {
        if d.s.todo == Todo::Perform {
            d.s.todo = Todo::Probe;
        }
    } else {
        fencing::give_up(d, "the engine restarted before the commit");
    }
}
