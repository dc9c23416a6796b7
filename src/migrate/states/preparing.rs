//! PREPARING: the source is told that it will be emptied (M1), the destination gets what it needs.
//!
//! Does: `announce`, `prepare`; what they make is in the ledger first. Deadline: a limit of its own,
//! then HOLD. Recovery: probe each; make what is missing. Rollback: run the ledger, ABORTED.

use super::Rules;
use crate::drivers::Action;
use crate::fleet::Phase;
use crate::migrate::state::{Act, Reverse};

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
    ..Rules::USUAL
};
