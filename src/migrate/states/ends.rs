//! PROPOSED and the ends: DONE, ABORTED, ROLLED_BACK, STALE, EXPIRED, DENIED.
//!
//! Does: nothing; a proposal waits for a decision, an end stays what it is. Deadline: none here (a
//! proposal's is with the planner). Recovery: reload. Rollback: a proposal is discarded; from DONE,
//! ABORTED and ROLLED_BACK there is nothing to undo but by a new migration.

use super::Rules;

pub(in crate::migrate) const RULES: Rules = Rules { exhausted: |_| {}, done: |_, _, _| {}, ..Rules::STILL };
