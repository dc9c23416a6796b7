//! ROLLING_BACK_PRE: undone before the cut; the source owns and serves all the time.
//!
//! Does: shares to 0, let go of the source, stop copying, remove everything in the ledger, last made
//! first. Then ABORTED, or APPROVED for another attempt while the approval lasts, or ABORTED with
//! the planner asked for another destination. Deadline: the usual limit, then an alert while it goes
//! on; where only the removal of artifacts on a lost source is left, lock and tokens are given back
//! and it is tried until the source is back. Recovery: probe, go on. Rollback: it is one.

use std::sync::Arc;

use super::canary::share_act;
use super::{Rules, keep_trying, late_but_forward};
use crate::drivers::Action;
use crate::fleet::{Phase, Share};
use crate::migrate::act::{Act, Deed};
use crate::migrate::draft::{Draft, doubled};
use crate::migrate::state::Again;
use crate::migrate::step::Ask;
use crate::protocol::Severity;

pub(in crate::migrate) const RULES: Rules = Rules {
    enter: |d| {
        let touched = d.s.touched;
        let mut acts = Vec::new();
        if touched.canary {
            acts.push(share_act(d, Share::MIN));
        }
        if touched.fence {
            acts.push(Act::forward(Action::Unfence));
        }
        if touched.replicate {
            acts.push(Act::forward(Action::StopReplication));
        }
        acts.extend(
            d.s.ledger.on_failure().into_iter().map(|a| Act::forward(Action::Cleanup { artifact: a })),
        );
        d.plan(acts);
    },
    exhausted: after,
    failed: keep_trying,
    late: |d| {
        let lost = d.s.dead >= d.s.plan.policy.source_lost_after && d.s.tries > 0;
        match lost && d.s.queue.iter().all(is_cleanup) {
            true => set_aside(d),
            false => late_but_forward(d),
        }
    },
    ..Rules::USUAL
};

fn is_cleanup(act: &Act) -> bool {
    matches!(act.deed, Deed::Mover { action: Action::Cleanup { .. } })
}

/// Something is left on a source that is gone. What else is left goes first; then lock and tokens
/// are given back, because nothing that remains touches the workload, and the rest is tried until
/// the source is back.
fn set_aside(d: &mut Draft) {
    let Some(act) = d.s.queue.front().cloned() else { return };
    d.drop_front("the source is gone");
    d.s.queue.push_back(act.clone());
    if d.s.admitted {
        let (id, source) = (d.s.plan.id, d.s.plan.source.clone());
        let left = format!("{} waits for {source} to be back", act.words());
        d.alert(Severity::Warning, format!("{id}: {left}; {} is free", d.s.plan.workload));
        d.decide("gives the workload free", left);
        d.give_back();
    }
    d.s.deadline = None;
    d.begin();
}

fn after(d: &mut Draft) {
    let cause = d.s.cause.clone();
    let policy = &d.s.plan.policy;
    let wait = doubled_wait(d);
    let more = d.s.attempt < policy.attempts && d.at + wait < d.s.plan.expires;
    if d.s.again == Again::Retry && more {
        d.give_back();
        d.s.attempt += 1;
        // What was seen of its steps was seen in another attempt.
        d.s.evidence = Arc::default();
        let attempt = d.s.attempt;
        d.go(Phase::Approved, format!("attempt {attempt} follows in {wait}: {cause}"));
        d.s.due = d.at + wait;
        d.s.waiting = format!("attempt {attempt} follows in {wait}: {cause}");
        return;
    }
    if d.s.again != Again::No {
        d.alert(
            Severity::Warning,
            format!("{}: given up after {} attempts: {cause}", d.s.plan.id, d.s.attempt),
        );
        d.ask = Some(Ask {
            workload: d.s.plan.workload.clone(),
            avoid: d.s.plan.destination.clone(),
            because: cause.clone(),
        });
    }
    d.end(Phase::Aborted, cause);
}

/// The wait before the next attempt, doubled with each.
fn doubled_wait(d: &Draft) -> crate::fleet::Span {
    doubled(d.s.plan.policy.retry_after, d.s.attempt)
}
