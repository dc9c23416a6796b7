//! SOAKING: the new owner is watched against before (M8).
//!
//! Does: `enable_reverse`, which proves the way back where it could not be proved before the cut;
//! then watches for the soak's time. Fail → ROLLING_BACK_POST by itself; where the source does not answer → HOLD,
//! because to hold the writes of those who are served would bring nobody back. Too little traffic to
//! compare: with its health seen all the time it goes on and says so; nothing measured at all →
//! HOLD. Before the source is let go all of both sides is compared once more, from the new owner to the source
//! that follows it, where the driver can do that while both are used; two sides that differ → HOLD, because the
//! source cannot be gone back to and nobody but a person can tell which side is right. A comparison that cannot
//! be made keeps nothing from ending: it is left out, with an alert. Deadline: soak and patience, then HOLD; of
//! the comparison as before the cut, then it is left out. Recovery: the watch goes on from its beginning, a
//! comparison is made again, it only reads. Rollback: ROLLING_BACK_POST.

use super::{Rules, WORSE, canary, keep_trying, no_source, stand, undo, verifying};
use crate::drivers::{Action, CanarySample, Evidence};
use crate::fleet::Phase;
use crate::migrate::act::{Act, Deed};
use crate::migrate::draft::Draft;
use crate::migrate::event::EventKind;
use crate::migrate::judge::Ruling;
use crate::migrate::state::{Again, HoldReason, State, Todo, Wish};
use crate::protocol::Severity;

pub(in crate::migrate) const RULES: Rules = Rules {
    limit: |s| {
        let policy = &s.plan.policy;
        Some(match comparing(s) {
            true => s.plan.data_limit(policy.verify_least),
            false => s.plan.soak + policy.patience + policy.state_limit,
        })
    },
    enter: |d| {
        let reverse = d.s.plan.capabilities.reverse;
        d.plan([Act::forward(Action::EnableReverse)].into_iter().filter(|_| reverse));
    },
    exhausted: look_from_now,
    done,
    failed: |d, act, detail| match compares(act) {
        true => leave_out(d, &format!("{} failed: {detail}", act.words())),
        false => keep_trying(d, act, detail),
    },
    on: |d, event| {
        if let EventKind::Samples { samples, source_lost } = event {
            watch(d, samples, *source_lost);
        }
    },
    late: |d| match comparing(&d.s) {
        true => leave_out(d, "it took too long"),
        false => (Rules::USUAL.late)(d),
    },
};

fn look_from_now(d: &mut Draft) {
    d.s.todo = Todo::Watch;
    d.s.watched_since = Some(d.at);
    d.s.due = d.at + canary::look_again(d, d.s.plan.soak);
}

/// Whether it compares both sides.
fn compares(act: &Act) -> bool {
    matches!(act.deed, Deed::Mover { action: Action::Verify })
}

/// Whether the watch is over and both sides are being compared.
fn comparing(s: &State) -> bool {
    s.queue.iter().any(compares)
}

fn done(d: &mut Draft, act: &Act, evidence: &Evidence) {
    if !compares(act) {
        d.begin();
    } else if evidence.equal == Some(true) {
        retire(d);
    } else {
        let found = verifying::differences(evidence);
        let words = format!("after the cut {found}; the destination serves");
        d.alert(
            Severity::Critical,
            format!("{}: {words}; keep it there, or look which side is right", d.s.plan.id),
        );
        // It is watched while it stands; resumed it is compared anew when the soak's time is over.
        look_from_now(d);
        d.hold(HoldReason::Failed, words);
    }
}

/// The watch is over: what is left is to compare, where that can be done, and to let the source go.
fn passed(d: &mut Draft) {
    let plan = &d.s.plan;
    if plan.capabilities.follows && plan.policy.compare_again {
        d.s.queue.push_back(Act::back(Action::Verify));
        d.set_deadline();
        d.begin();
    } else {
        retire(d);
    }
}

/// Lets the source go, unless a person wished to undo it while an answer was waited for.
fn retire(d: &mut Draft) {
    match d.s.wish.take() {
        Some(Wish::RollBack { actor }) => undo(d, format!("asked for by {actor}"), Again::No),
        other => {
            d.s.wish = other;
            d.go(Phase::Retiring, "");
        }
    }
}

fn leave_out(d: &mut Draft, why: &str) {
    d.drop_pending("left out");
    d.alert(Severity::Warning, format!("{}: not compared again after the cut: {why}", d.s.plan.id));
    d.decide("left out the comparison after the cut", why);
    retire(d);
}

fn watch(d: &mut Draft, samples: &Result<(CanarySample, CanarySample), String>, source_lost: bool) {
    let ruling = canary::look(d, samples);
    let why = canary::why(d);
    let watched = d.at - d.s.watched_since.unwrap_or(d.at);
    let soak = d.s.plan.soak;
    d.s.due = d.at + canary::look_again(d, soak);
    d.s.waiting.clear();
    match ruling {
        Ruling::Fail => {
            d.decide("soak failed", why.clone());
            let cause = format!("{WORSE}: {why}");
            match source_lost {
                true => {
                    let why = no_source(&d.s.plan);
                    stand(d, &cause, &why);
                }
                false => undo(d, cause, Again::No),
            }
        }
        Ruling::Pass if watched >= soak => {
            d.decide("soak passed", "");
            passed(d);
        }
        Ruling::Inconclusive if watched > soak + d.s.plan.policy.patience => match samples {
            Ok(_) => {
                d.decide("soak ends", format!("healthy all the time, too little traffic to compare: {why}"));
                passed(d);
            }
            Err(_) => {
                d.decide("soak inconclusive", why.clone());
                d.hold(HoldReason::Inconclusive, format!("the watch is inconclusive: {why}"));
            }
        },
        Ruling::Inconclusive => d.s.waiting = why,
        Ruling::Pass => {}
    }
}
