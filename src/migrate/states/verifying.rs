//! VERIFYING: all of source and destination is compared (M3).
//!
//! Does: `verify`; equal goes on, different is copied again once, different twice is undone with an
//! alert that names what differs. A driver that cannot compare is left out, and the proposal said
//! so. Deadline: as for copying, then HOLD. Recovery: compare again, it only reads. Rollback: stop
//! the stream, run the ledger, ABORTED.

use super::{Rules, undo};
use crate::drivers::{Action, Evidence};
use crate::fleet::Phase;
use crate::migrate::act::Act;
use crate::migrate::draft::Draft;
use crate::migrate::state::Again;
use crate::protocol::Severity;

pub(in crate::migrate) const RULES: Rules = Rules {
    limit: |s| Some(s.plan.data_limit(s.plan.policy.verify_least)),
    enter: |d| {
        if d.s.plan.capabilities.digest {
            d.plan([Act::forward(Action::Verify)]);
        } else {
            d.decide("left out verify", "this kind of system cannot compare both sides");
            d.go(Phase::ReverseArmed, "");
        }
    },
    done,
    ..Rules::USUAL
};

fn done(d: &mut Draft, _: &Act, evidence: &Evidence) {
    if evidence.equal == Some(true) {
        d.s.verified = true;
        d.go(Phase::ReverseArmed, "");
        return;
    }
    let found = differences(evidence);
    // What an earlier comparison found no longer holds: were the source lost now, this copy could not stand in.
    d.s.verified = false;
    d.s.mismatches += 1;
    if d.s.mismatches < 2 {
        d.alert(Severity::Warning, format!("{}: {found}; copies again", d.s.plan.id));
        d.go(Phase::Copying, format!("{found}: copies again"));
    } else {
        d.alert(Severity::Critical, format!("{}: {found} after copying again; it is undone", d.s.plan.id));
        undo(d, format!("source and destination differ twice: {found}"), Again::Elsewhere);
    }
}

/// What differs, in words.
pub(super) fn differences(evidence: &Evidence) -> String {
    match (evidence.equal, evidence.differences.is_empty()) {
        (None, _) => "the driver did not say whether both sides are equal".to_string(),
        (_, true) => format!("both sides differ ({})", evidence.summary),
        (_, false) => format!("both sides differ in {}", evidence.differences.join(", ")),
    }
}
