//! ROLLING_BACK_POST: undone after the cut by a mirrored move at the next generation.
//!
//! Does: proves the way back if that was not done yet; fences the destination, compares; changes the
//! owner back in one transaction (where the system votes, after it did); opens the source, sends
//! traffic there, stops the reverse stream, runs the ledger. A cut back that is refused is let go (the
//! destination serves) and tried anew after a while, a few times as the cut itself is, then it stands; two
//! sides that differ, or an owner record that somebody else changed, are not tried again. Deadline: the fence
//! budget while writes are held before the change of the owner, then the destination is let go (never flipped
//! blind); after it an alert while it goes on. Recovery: probe; the owner record decides on which side of the
//! change it is. Rollback: it is one; resumed after a hold it begins anew, promoted while the destination
//! serves it stays there.

use super::fencing::SEALED;
use super::{Rules, keep_trying, late_but_forward, verifying};
use crate::drivers::{Action, Evidence};
use crate::fleet::{Generation, PartitionId, Phase, Share, Timestamp};
use crate::migrate::act::{Act, Deed, Side};
use crate::migrate::draft::{Draft, doubled};
use crate::migrate::event::EventKind;
use crate::migrate::journal::Note;
use crate::migrate::owner::Owner;
use crate::migrate::state::{BackStage, HoldReason, Reverse, State, Todo};
use crate::protocol::Severity;

pub(in crate::migrate) const RULES: Rules = Rules {
    limit: |s| {
        let policy = &s.plan.policy;
        Some(if holds(s) { policy.fence_budget } else { policy.state_limit })
    },
    enter,
    exhausted,
    done,
    failed,
    on,
    late: |d| match d.s.back {
        BackStage::Fencing => let_go(d, "took too long"),
        _ => late_but_forward(d),
    },
};

/// The generation that the source gets back.
fn generation(d: &Draft) -> Generation {
    Generation(d.s.plan.generation.0 + 2)
}

/// Whether writes are held at the destination, and the owner is not being changed yet.
fn holds(s: &State) -> bool {
    s.back == BackStage::Fencing && !s.queue.is_empty() && !s.queue.iter().any(fences)
}

/// Whether it is the fence after which writes are held.
fn fences(act: &Act) -> bool {
    matches!(act.deed, Deed::Mover { action: Action::Fence { deadline } } if deadline < SEALED)
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
        acts.push(Act::back(Action::Fence { deadline: SEALED }));
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
            d.set_deadline();
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
        BackStage::Unfencing => again_or_stand(d),
    }
}

/// The destination has been let go: the cut back is tried anew after a while, or a person is asked.
fn again_or_stand(d: &mut Draft) {
    let (tries, of, why) = (d.s.back_cuts, d.s.plan.policy.cut_tries, d.s.refused.clone());
    d.s.todo = Todo::Go;
    if tries >= of {
        // Resumed it is tried as often again.
        d.s.back_cuts = 0;
        d.hold(HoldReason::Failed, format!("could not be switched back: {why}; the destination serves"));
        return;
    }
    let wait = doubled(d.s.plan.policy.retry_after, tries);
    let words = format!("could not be switched back ({tries} of {of} tries), the next in {wait}: {why}");
    d.s.due = d.at + wait;
    d.s.deadline = Some(d.s.due + d.s.plan.policy.state_limit);
    d.alert(Severity::Warning, format!("{}: {words}; the destination serves", d.s.plan.id));
    d.s.waiting = words;
}

fn done(d: &mut Draft, act: &Act, evidence: &Evidence) {
    let compared = matches!(act.deed, Deed::Mover { action: Action::VerifyAtCut }) && act.side == Side::Back;
    if compared && evidence.equal != Some(true) {
        let found = verifying::differences(evidence);
        d.alert(Severity::Critical, format!("{}: the cut back was refused: {found}", d.s.plan.id));
        let_go_for_good(d, &found);
    } else {
        if fences(act) {
            d.set_deadline();
        }
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
                again_or_stand(d);
            } else if word.as_ref() == Some(&d.s.plan.destination) {
                d.s.lag_ok += 1;
                if d.s.lag_ok >= d.s.plan.policy.probe_tries {
                    let_go(d, "the system still names the destination as owner");
                }
            } else {
                d.s.waiting = "asks the system who owns it".to_string();
            }
        }
        // After the destination had been let go, by itself or resumed: from the beginning.
        EventKind::Time if serves_and_waits(&d.s) => {
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
        let_go_for_good(d, "the owner record was changed by somebody else");
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

/// Whether the destination was let go and serves, and nothing is under way: the next try or a person is waited for.
pub(in crate::migrate) fn serves_and_waits(s: &State) -> bool {
    s.back == BackStage::Unfencing && s.queue.is_empty() && matches!(s.todo, Todo::Go | Todo::Person)
}

/// As [`let_go`], and no try after it.
fn let_go_for_good(d: &mut Draft, why: &str) {
    d.s.back_cuts = d.s.plan.policy.cut_tries;
    let_go(d, why);
}

/// The switch back is refused: the destination is let go and goes on serving.
fn let_go(d: &mut Draft, why: &str) {
    d.drop_pending(why);
    d.decide("gives up the cut back", why);
    d.s.back_cuts += 1;
    d.s.refused = why.to_string();
    d.s.back = BackStage::Unfencing;
    d.set_deadline();
    d.plan([Act::back(Action::Unfence)]);
}
