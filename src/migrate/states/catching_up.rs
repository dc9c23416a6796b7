//! CATCHING_UP: the live stream is followed until the destination is close behind.
//!
//! Does: looks at the lag until it was within its bound three times in a row. Deadline: as for
//! copying, then HOLD; a copy that can never catch up is undone at once, and tried anew. Recovery: look
//! again. Rollback: stop the stream, run the ledger, ABORTED.

use super::{Rules, undo};
use crate::drivers::JobStatus;
use crate::fleet::Phase;
use crate::migrate::draft::Draft;
use crate::migrate::event::EventKind;
use crate::migrate::state::{Again, Todo};

pub(in crate::migrate) const RULES: Rules = Rules {
    limit: |s| Some(s.plan.data_limit(s.plan.policy.catch_up_least)),
    enter: |d| d.s.todo = Todo::Poll,
    on,
    ..Rules::USUAL
};

fn on(d: &mut Draft, event: &EventKind) {
    let EventKind::Status { status } = event else { return };
    let policy = &d.s.plan.policy;
    let (poll, bound, times) = (policy.poll, policy.lag_bound, policy.lag_times);
    d.s.due = d.at + poll;
    match status {
        Ok(JobStatus { broken: Some(why), .. }) => undo(d, why.clone(), Again::Retry),
        Ok(status) => {
            let close = status.streaming && status.lag.is_some_and(|lag| lag <= bound);
            d.s.lag_ok = if close { d.s.lag_ok + 1 } else { 0 };
            d.s.waiting = match status.lag {
                Some(lag) => format!("is {lag} behind, {bound} are allowed"),
                None => "how far it is behind is not known yet".to_string(),
            };
            d.source_seen(status);
            if d.s.phase == Phase::CatchingUp && d.s.lag_ok >= times.max(1) {
                d.go(Phase::Verifying, "");
            }
        }
        Err(why) => {
            d.s.lag_ok = 0;
            d.s.waiting = format!("its status cannot be read: {why}");
        }
    }
}
