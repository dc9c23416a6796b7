//! ADMITTED: lock, tokens and generation are held; nothing has been touched.
//!
//! Does: goes on at once. Deadline: the usual limit, then HOLD. Recovery: the tokens carry the
//! migration's number, the new leader has them. Rollback: tokens back, ABORTED.

use super::Rules;
use crate::fleet::Phase;
use crate::migrate::event::EventKind;

pub(in crate::migrate) const RULES: Rules = Rules {
    on: |d, event| {
        if *event == EventKind::Time {
            d.go(Phase::Preparing, "");
        }
    },
    ..Rules::USUAL
};
