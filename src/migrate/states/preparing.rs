//! PREPARING: the source is told that it will be emptied (M1), the destination gets what it needs.
//!
//! Does: `announce`, `prepare`; what they make is in the ledger first. Deadline: a limit of its own,
//! then it is undone and tried anew: nothing of the source was touched, and a person may be asleep.
//! Recovery: probe each; make what is missing. Rollback: run the ledger, ABORTED.

use super::{Rules, undo};
use crate::drivers::Action;
use crate::fleet::Phase;
use crate::migrate::act::Act;
use crate::migrate::state::{Again, Reverse};

pub(in crate::migrate) const RULES: Rules = Rules {
    enter: |d| {
        d.s.cuts = 0;
        d.s.mismatches = 0;
        d.s.verified = false;
        d.s.canary = 0;
        d.s.reverse = Reverse::None;
        d.s.cause.clear();
        d.plan([Act::forward(Action::Announce), Act::forward(Action::Prepare)]);
    },
    limit: |s| Some(s.plan.policy.prepare_limit),
    exhausted: |d| d.go(Phase::Copying, ""),
    late: |d| {
        let cause = format!("took longer than {}; {}", d.at - d.s.since, d.s.waiting);
        undo(d, cause, Again::Retry);
    },
    ..Rules::USUAL
};
