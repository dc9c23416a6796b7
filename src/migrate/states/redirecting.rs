//! REDIRECTING: traffic goes to the new owner.
//!
//! Does: `open` at the destination for the new generation, then every router sends everything there.
//! Deadline: the usual limit, then an alert while it goes on: after the commit the only way is
//! forward or the mirrored rollback. Recovery: probe, converge to the owner record. Rollback:
//! ROLLING_BACK_POST, as soon as the destination is open; before that nobody takes writes.

use super::{Rules, keep_trying, late_but_forward};
use crate::drivers::Action;
use crate::fleet::{Phase, Share};
use crate::migrate::act::Act;

pub(in crate::migrate) const RULES: Rules = Rules {
    enter: |d| {
        let routed = d.s.plan.routed;
        let acts = [Act::forward(Action::Open), Act::route(Share::MAX)];
        d.plan(acts.into_iter().take(if routed { 2 } else { 1 }));
    },
    exhausted: |d| d.go(Phase::Soaking, ""),
    failed: keep_trying,
    late: late_but_forward,
    ..Rules::USUAL
};
