//! CANARY(k): the destination is tried with a growing share, and judged against the source.
//!
//! Does: sets step k's share (real weight for the stateless, reads for the stateful), watches for at
//! least the step's duration, then the next step, at last the gate before the cut. The judge: fail →
//! undo at once where critical, else undo; inconclusive beyond the patience → HOLD and ask. Deadline:
//! duration and patience, then HOLD. Recovery: probe the share, never above step k. Rollback: shares
//! to 0 first, then the ledger, ABORTED.

use std::sync::Arc;

use super::{Rules, fencing, undo};
use crate::drivers::{Action, CanarySample};
use crate::fleet::{Phase, Share, Span};
use crate::migrate::act::Act;
use crate::migrate::draft::Draft;
use crate::migrate::event::EventKind;
use crate::migrate::judge::{Bounds, Ruling, judge, no_data};
use crate::migrate::state::{Again, HoldReason, Todo};

pub(in crate::migrate) const RULES: Rules = Rules {
    limit: |s| {
        let step = s.plan.canary.steps.get(s.canary as usize).map_or(Span::ZERO, |c| c.duration);
        Some(step + s.plan.policy.patience + s.plan.policy.state_limit)
    },
    enter: |d| {
        let step = d.s.plan.canary.steps.get(d.s.canary as usize).copied();
        match step {
            Some(step) => d.plan([share_act(d, step.share)]),
            None => leave(d, "all steps passed".to_string()),
        }
    },
    exhausted: |d| {
        d.s.todo = Todo::Watch;
        d.s.watched_since = Some(d.at);
        d.s.due = d.at + look_again(d, duration(d));
    },
    on: |d, event| match event {
        EventKind::Samples { samples, .. } => watch(d, samples),
        event => fencing::gate(d, event),
    },
    ..Rules::USUAL
};

/// The action that sends `share` to the destination before the cut.
pub(super) fn share_act(d: &Draft, share: Share) -> Act {
    match d.s.plan.routes_canary() {
        true => Act::route(share),
        false => Act::forward(Action::CanaryShare { share }),
    }
}

fn duration(d: &Draft) -> Span {
    d.s.plan.canary.steps.get(d.s.canary as usize).map_or(Span::ZERO, |c| c.duration)
}

/// Ten looks a step, none closer than the poll.
pub(super) fn look_again(d: &Draft, duration: Span) -> Span {
    Span((duration.0 / 10).max(d.s.plan.policy.poll.0))
}

/// Judges what was measured since the step began.
pub(super) fn look(d: &mut Draft, samples: &Result<(CanarySample, CanarySample), String>) -> Ruling {
    d.s.looks += 1;
    let canary = &d.s.plan.canary;
    let bounds = Bounds {
        tolerance: canary.p99_tolerance,
        margin_ms: canary.latency_margin_ms,
        min_samples: canary.min_samples,
        look: d.s.looks,
    };
    let judgement = match samples {
        Ok((source, destination)) => judge(source, destination, bounds),
        Err(why) => no_data(why),
    };
    let ruling = judgement.ruling;
    d.s.judgement = Some(Arc::new(judgement));
    ruling
}

pub(super) fn why(d: &Draft) -> String {
    d.s.judgement.as_ref().map(|j| j.why.clone()).unwrap_or_default()
}

fn watch(d: &mut Draft, samples: &Result<(CanarySample, CanarySample), String>) {
    let ruling = look(d, samples);
    let duration = duration(d);
    let watched = d.at - d.s.watched_since.unwrap_or(d.at);
    d.s.due = d.at + look_again(d, duration);
    if ruling == Ruling::Fail {
        let why = why(d);
        d.decide("canary failed", why.clone());
        undo(d, format!("the canary failed: {why}"), Again::Elsewhere);
    } else if ruling == Ruling::Pass && watched >= duration {
        next(d, "passed".to_string());
    } else if watched > duration + d.s.plan.policy.patience {
        let why = why(d);
        d.decide("canary inconclusive", why.clone());
        d.hold(HoldReason::Inconclusive, format!("the canary is inconclusive: {why}"));
    } else if ruling == Ruling::Inconclusive {
        d.s.waiting = why(d);
    } else {
        d.s.waiting.clear();
    }
}

/// Goes to the next step, or on to the cut after the last.
pub(in crate::migrate) fn next(d: &mut Draft, reason: String) {
    let step = d.s.canary + 1;
    d.decide(format!("canary step {step}"), reason.clone());
    if (step as usize) < d.s.plan.canary.steps.len() {
        d.s.canary = step;
        d.go(Phase::Canary, format!("step {}", step + 1));
    } else {
        leave(d, reason);
    }
}

/// Leaves the canary for the cut.
pub(in crate::migrate) fn leave(d: &mut Draft, reason: String) {
    d.decide("canary ends", reason);
    fencing::at_gate(d);
}
