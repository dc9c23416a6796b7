//! SOURCE_LOST: the source died for real while it was being moved.
//!
//! Does: decides at once. After a full comparison that found both equal, and none since that found
//! otherwise, with the lag seen within a bound that the policy allows to lose, the destination is
//! committed and the bound is declared; else it is undone and the system's own failover keeps the word.
//! Where the system votes it always keeps the word. Deadline: none needed. Recovery: decides again, from
//! the same facts. Rollback: ROLLING_BACK_PRE.

use super::{Rules, undo};
use crate::fleet::Phase;
use crate::migrate::draft::Draft;
use crate::migrate::event::EventKind;
use crate::migrate::journal::Note;
use crate::migrate::state::Again;
use crate::protocol::Severity;

pub(in crate::migrate) const RULES: Rules = Rules {
    on: |d, event| {
        if *event == EventKind::Time {
            decide(d);
        }
    },
    ..Rules::USUAL
};

fn decide(d: &mut Draft) {
    let plan = d.s.plan.clone();
    let bound = plan.policy.loss_bound.filter(|bound| *bound >= plan.policy.lag_bound);
    match bound {
        Some(bound) if d.s.verified && !plan.capabilities.system_votes => {
            d.alert(
                Severity::Critical,
                format!("{}: the source is lost; commits with at most {bound} of writes lost", plan.id),
            );
            d.decide("commits without the source", format!("at most {bound} of writes are lost"));
            let (epoch, generation) = (d.s.epoch, plan.next_generation());
            d.note(Note::Fence { leader: epoch, generation });
            d.go(Phase::Committing, "");
        }
        _ => {
            let why = match (d.s.verified, plan.capabilities.system_votes) {
                (_, true) => "the system's own failover decides",
                (false, _) => "both sides were not found equal",
                (true, _) => "the policy allows no loss",
            };
            d.alert(Severity::Critical, format!("{}: the source is lost; undone: {why}", plan.id));
            undo(d, format!("the source is lost: {why}"), Again::No);
        }
    }
}
