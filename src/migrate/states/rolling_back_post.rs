//! ROLLING_BACK_POST: undone after the cut by a mirrored move at the next generation.
//!
//! Does: proves the way back if that was not done yet; fences the destination, compares; changes the
//! owner back in one transaction (where the system votes, after it did); opens the source, sends
//! traffic there, stops the reverse stream, runs the ledger. Deadline: the usual limit; before the
//! change of the owner the destination is let go and it stands (never flipped blind), after it an
//! alert while it goes on. Recovery: probe; the owner record decides on which side of the change it
//! is. Rollback: it is one; resumed after a hold it begins anew, promoted it stays at the destination.

use super::{Rules, keep_trying, late_but_forward, verifying};
use crate::drivers::{Action, Evidence};
use crate::fleet::{Generation, PartitionId, Phase, Share, Timestamp};
use crate::migrate::draft::Draft;
use crate::migrate::event::EventKind;
use crate::migrate::journal::Note;
use crate::migrate::owner::Owner;
use crate::migrate::state::{Act, BackStage, Deed, HoldReason, Reverse, Side, Todo};

pub(in crate::migrate) const RULES: Rules = Rules {
    enter,
    exhausted,
    done,
    failed,
    on,
    late: |d| match d.s.back {
        BackStage::Fencing => let_go(d, "took too long"),
        _ => late_but_forward(d),
    },
    ..Rules::USUAL
};

/// The generation that the source gets back.
fn generation(d: &Draft) -> Generation {
    Generation(d.s.plan.generation.0 + 2)
}

fn enter(d: &mut Draft) {
    d.s.back = BackStage::Fencing;
    d.s.compared = None;
    let (epoch, generation) = (d.s.epoch, generation(d));
    d.note(Note::Fence { leader: epoch, generation });
    let capabilities = d.s.plan.capabilities;
    let mut acts = Vec::new();
    if d.s.reverse != Reverse::Enabled {
        acts.push(Act::forward(Action::EnableReverse));
    }
    acts.push(Act::back(Action::Fence { deadline: Timestamp(0) }));
    if !capabilities.system_votes {
        acts.push(Act::back(Action::Fence { deadline: super::fencing::SEALED }));
    }
    if capabilities.digest {
        acts.push(Act::back(Action::VerifyAtCut));
    }
    d.plan(acts);
}

fn exhausted(d: &mut Draft) {
    match d.s.back {
        BackStage::Fencing => {
            d.s.back = BackStage::Committing;
            match d.s.plan.capabilities.system_votes {
                true => d.plan([Act::back(Action::Commit)]),
                false => {
                    d.decide("changes the owner back", "both sides are equal");
                    d.s.todo = Todo::Commit;
                }
            }
        }
        BackStage::Committing => d.s.todo = Todo::Poll,
        BackStage::Redirecting => {
            // What opening the source made is in the ledger by now, too.
            let left = d.s.ledger.on_failure();
            match left.is_empty() {
                true => {
                    let cause = d.s.cause.clone();
                    d.end(Phase::RolledBack, cause);
                }
                false => d.plan(left.into_iter().map(|a| Act::forward(Action::Cleanup { artifact: a }))),
            }
        }
        // The system may have switched back late; its word is the truth.
        BackStage::Unfencing if d.s.plan.capabilities.system_votes => d.s.todo = Todo::Poll,
        BackStage::Unfencing => stand(d),
    }
}

fn stand(d: &mut Draft) {
    let cause = d.s.cause.clone();
    d.s.todo = Todo::Go;
    d.hold(HoldReason::Failed, format!("could not be switched back: {cause}; the destination serves"));
}

fn done(d: &mut Draft, act: &Act, evidence: &Evidence) {
    let compared = matches!(act.deed, Deed::Mover { action: Action::VerifyAtCut }) && act.side == Side::Back;
    if compared && evidence.equal != Some(true) {
        let_go(d, &verifying::differences(evidence));
    } else {
        if compared {
            d.s.compared = Some(d.at);
        }
        d.begin();
    }
}

fn failed(d: &mut Draft, act: &Act, detail: &str) {
    match d.s.back {
        BackStage::Fencing | BackStage::Committing => let_go(d, &format!("{} failed: {detail}", act.words())),
        BackStage::Redirecting | BackStage::Unfencing => keep_trying(d, act, detail),
    }
}

fn on(d: &mut Draft, event: &EventKind) {
    match event {
        // Compared too long ago: the destination is let go, and it begins anew.
        EventKind::Time if d.s.is_stale(d.at) => {
            d.drop_pending("the comparison is too old");
            d.decide("compares again", "the comparison is too old");
            d.go(Phase::RollingBackPost, "the comparison is too old");
        }
        EventKind::OwnerChanged if d.s.back == BackStage::Committing => switched_back(d),
        EventKind::OwnerIs { owner } if d.s.back == BackStage::Committing => owner_is(d, owner.as_ref()),
        EventKind::Status { status } if matches!(d.s.back, BackStage::Committing | BackStage::Unfencing) => {
            let word = status.as_ref().ok().and_then(|s| s.owner.clone());
            d.s.due = d.at + d.s.plan.policy.poll;
            if word.as_ref() == Some(&d.s.plan.source) {
                d.s.back = BackStage::Committing;
                d.s.todo = Todo::Commit;
                d.s.due = d.at;
            } else if d.s.back == BackStage::Unfencing && word.as_ref() == Some(&d.s.plan.destination) {
                stand(d);
            } else if word.as_ref() == Some(&d.s.plan.destination) {
                d.s.lag_ok += 1;
                if d.s.lag_ok >= d.s.plan.policy.probe_tries {
                    let_go(d, "the system still names the destination as owner");
                }
            } else {
                d.s.waiting = "asks the system who owns it".to_string();
            }
        }
        // Resumed after the destination had been let go: from the beginning.
        EventKind::Time if d.s.back == BackStage::Unfencing && d.s.queue.is_empty() => {
            d.go(Phase::RollingBackPost, "tries again");
        }
        _ => {}
    }
}

fn owner_is(d: &mut Draft, owner: Option<&Owner>) {
    let plan = &d.s.plan;
    let is = |partition: &PartitionId, generation: Generation| {
        owner.is_some_and(|o| o.owner == *partition && o.generation == generation)
    };
    if is(&plan.source, generation(d)) {
        switched_back(d);
    } else if is(&plan.destination, plan.next_generation()) {
        d.s.due = d.at + d.s.plan.policy.poll;
    } else {
        let_go(d, "the owner record was changed by somebody else");
    }
}

fn switched_back(d: &mut Draft) {
    d.s.switched = false;
    d.s.back = BackStage::Redirecting;
    d.decide("owner changed back", "");
    d.set_deadline();
    let mut acts = vec![Act::back(Action::Open)];
    if d.s.plan.routed {
        acts.push(Act::route(Share::MIN));
    }
    acts.push(Act::back(Action::StopReplication));
    d.plan(acts);
}

/// The switch back is refused: the destination is let go and goes on serving.
fn let_go(d: &mut Draft, why: &str) {
    d.drop_pending(why);
    d.decide("gives up the cut back", why);
    d.s.cause = why.to_string();
    d.s.back = BackStage::Unfencing;
    d.set_deadline();
    d.plan([Act::back(Action::Unfence)]);
}
