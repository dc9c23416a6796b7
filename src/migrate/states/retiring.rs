//! RETIRING: the source becomes standby, what is no longer needed goes.
//!
//! Does: sends everything to the destination once more, because routers forget at a reload and one may have been
//! away; only when all of them have confirmed, `retire`, then the ledger's lines that go on success. Deadline: the
//! usual limit, then an alert while it goes on. Recovery: probe, run the ledger again. Rollback: none, the way
//! back is gone; a new migration is.

use super::{Rules, keep_trying, late_but_forward};
use crate::drivers::Action;
use crate::fleet::{Phase, Share};
use crate::migrate::act::Act;

pub(in crate::migrate) const RULES: Rules = Rules {
    enter: |d| {
        let gone = d.s.ledger.on_success().into_iter().map(|artifact| Action::Cleanup { artifact });
        let route = d.s.plan.routed.then(|| Act::route(Share::MAX));
        let acts: Vec<Act> =
            route.into_iter().chain(std::iter::once(Action::Retire).chain(gone).map(Act::forward)).collect();
        d.plan(acts);
    },
    exhausted: |d| d.end(Phase::Done, ""),
    failed: keep_trying,
    late: late_but_forward,
    ..Rules::USUAL
};
