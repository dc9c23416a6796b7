//! COPYING: the bulk goes over.
//!
//! Does: `replicate` until the driver says that the stream runs. Deadline: the planner's estimate
//! times a factor, at least a minute (M2), then HOLD. Recovery: probe; the driver goes on from its
//! own watermark or starts anew. Rollback: stop the stream, run the ledger, ABORTED. A source that
//! stays dead leads to SOURCE_LOST.

use super::{Rules, undo};
use crate::drivers::{Action, JobStatus};
use crate::fleet::Phase;
use crate::migrate::act::Act;
use crate::migrate::draft::Draft;
use crate::migrate::event::EventKind;
use crate::migrate::state::{Again, Todo};

pub(in crate::migrate) const RULES: Rules = Rules {
    limit: |s| Some(s.plan.data_limit(s.plan.policy.copy_least)),
    enter: |d| d.plan([Act::forward(Action::Replicate)]),
    exhausted: |d| d.s.todo = Todo::Poll,
    on,
    ..Rules::USUAL
};

fn on(d: &mut Draft, event: &EventKind) {
    let EventKind::Status { status } = event else { return };
    d.s.due = d.at + d.s.plan.policy.poll;
    match status {
        Ok(JobStatus { broken: Some(why), .. }) => undo(d, why.clone(), Again::Retry),
        Ok(status) if status.streaming && status.source_alive => {
            d.s.dead = 0;
            d.go(Phase::CatchingUp, "");
        }
        Ok(status) => {
            d.s.waiting = format!("copies: {} of {}", status.copied, status.total);
            d.source_seen(status);
        }
        Err(why) => d.s.waiting = format!("its status cannot be read: {why}"),
    }
}
