//! SOAKING: the new owner is watched against before (M8).
//!
//! Does: `enable_reverse`, which proves the way back where it could not be proved before the cut;
//! then watches for the soak's time. Fail → ROLLING_BACK_POST by itself. Too little traffic to
//! compare: with its health seen all the time it goes on and says so; nothing measured at all →
//! HOLD. Deadline: soak and patience, then HOLD. Recovery: the watch goes on from its beginning.
//! Rollback: ROLLING_BACK_POST.

use super::{Rules, canary, keep_trying, undo};
use crate::drivers::{Action, CanarySample};
use crate::fleet::Phase;
use crate::migrate::draft::Draft;
use crate::migrate::event::EventKind;
use crate::migrate::judge::Ruling;
use crate::migrate::state::{Act, Again, HoldReason, Todo};

pub(in crate::migrate) const RULES: Rules = Rules {
    limit: |s| Some(s.plan.soak + s.plan.policy.patience + s.plan.policy.state_limit),
    enter: |d| {
        let reverse = d.s.plan.capabilities.reverse;
        d.plan([Act::forward(Action::EnableReverse)].into_iter().filter(|_| reverse));
    },
    exhausted: |d| {
        d.s.todo = Todo::Watch;
        d.s.watched_since = Some(d.at);
        d.s.due = d.at + canary::look_again(d, d.s.plan.soak);
    },
    failed: keep_trying,
    on: |d, event| {
        if let EventKind::Samples { samples } = event {
            watch(d, samples);
        }
    },
    ..Rules::USUAL
};

fn watch(d: &mut Draft, samples: &Result<(CanarySample, CanarySample), String>) {
    let ruling = canary::look(d, samples);
    let why = canary::why(d);
    let watched = d.at - d.s.watched_since.unwrap_or(d.at);
    let soak = d.s.plan.soak;
    d.s.due = d.at + canary::look_again(d, soak);
    d.s.waiting.clear();
    match ruling {
        Ruling::Fail => {
            d.decide("soak failed", why.clone());
            undo(d, format!("the new owner does worse than before: {why}"), Again::No);
        }
        Ruling::Pass if watched >= soak => {
            d.decide("soak passed", "");
            d.go(Phase::Retiring, "");
        }
        Ruling::Inconclusive if watched > soak + d.s.plan.policy.patience => match samples {
            Ok(_) => {
                d.decide("soak ends", format!("healthy all the time, too little traffic to compare: {why}"));
                d.go(Phase::Retiring, "");
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
