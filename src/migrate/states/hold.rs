//! HOLD and STUCK: it stands, with a reason and an alert, and waits for a person.
//!
//! Does: in HOLD out of CANARY or SOAKING the judge keeps running and may still undo (flagger#1801),
//! after the cut as soon as the source answers; else nothing; traffic is as it was. STUCK means that
//! nobody can tell whether an action was done.
//! Deadline: none; a person was told. Recovery: stays; what was unanswered is probed on resume.
//! Rollback: always, from STUCK after the system has been asked again.

use super::{Rules, WORSE, canary, no_source, not_undone, undo};
use crate::fleet::Phase;
use crate::migrate::event::EventKind;
use crate::migrate::judge::Ruling;
use crate::migrate::state::{Again, HoldReason};

pub(in crate::migrate) const RULES: Rules = Rules {
    on: |d, event| {
        let EventKind::Samples { samples, source_lost } = event else { return };
        let watched = matches!(d.s.standing(), Phase::Canary | Phase::Soaking);
        d.s.due = d.at + canary::look_again(d, d.s.plan.policy.state_limit);
        if watched && canary::look(d, samples) == Ruling::Fail {
            let why = canary::why(d);
            if *source_lost && d.s.switched {
                let (cause, why) = (format!("{WORSE}: {why}"), no_source(&d.s.plan));
                d.s.waiting = format!("{cause}; {why}");
                // Whoever had it stand for another reason is told once that it would be undone and cannot be.
                let hold = d.s.hold.as_mut().filter(|hold| hold.reason != HoldReason::NoWayBack);
                if let Some(hold) = hold {
                    hold.reason = HoldReason::NoWayBack;
                    not_undone(d, &cause, &why);
                }
                return;
            }
            d.decide("failed while it stood", why.clone());
            undo(d, format!("failed while it stood: {why}"), Again::No);
        }
    },
    ..Rules::STILL
};
