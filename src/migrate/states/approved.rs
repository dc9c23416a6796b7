//! APPROVED: waits for its window, its turn and the limits.
//!
//! Does: asks for admission again and again; one transaction takes lock, tokens and generation.
//! Deadline: the approval's own end, never extended; then EXPIRED. Recovery: the preconditions are
//! checked anew; a changed world makes it STALE with the differences. Rollback: withdrawn, ABORTED;
//! nothing was touched.

use std::sync::Arc;

use super::Rules;
use crate::fleet::{Phase, Span};
use crate::migrate::draft::Draft;
use crate::migrate::event::EventKind;
use crate::migrate::journal::Note;
use crate::migrate::state::Todo;

pub(in crate::migrate) const RULES: Rules = Rules {
    limit: |s| Some(Span((s.plan.expires - s.since).0.max(0))),
    enter: |d| d.s.todo = Todo::Admit,
    on,
    late: |d| d.end(Phase::Expired, "the approval ended before it was admitted"),
    ..Rules::STILL
};

fn on(d: &mut Draft, event: &EventKind) {
    match event {
        EventKind::Admitted { foreseen } => {
            d.s.started = d.at;
            d.s.admitted = true;
            d.s.ledger.foreseen = Arc::clone(foreseen);
            let (epoch, generation) = (d.s.epoch, d.s.plan.next_generation());
            d.note(Note::Budget { change: 1, what: "lock and tokens".to_string() });
            d.note(Note::Fence { leader: epoch, generation });
            d.go(Phase::Admitted, "");
        }
        EventKind::NotAdmitted { reason, again } => {
            d.s.waiting = reason.clone();
            d.s.due = *again;
        }
        EventKind::Changed { differences } => {
            let reason = format!("the fleet is not the one that was approved: {}", differences.join("; "));
            d.s.cause = reason.clone();
            d.end(Phase::Stale, reason);
        }
        _ => {}
    }
}
