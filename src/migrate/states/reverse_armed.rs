//! REVERSE_ARMED: the way back is made and proved before the cut is allowed.
//!
//! Does: `arm_reverse`, `probe_reverse`, where the driver can prove it before the cut; where it
//! cannot, the way back is proved in SOAKING and the proposal said so. Then the gate: windows, stop,
//! health of the destination. A proof older than a minute is renewed. Deadline: the usual limit,
//! then HOLD (waiting at the gate has none but the window's). Recovery: probe; prove anew. Rollback:
//! run the ledger, ABORTED.

use super::{Rules, fencing};
use crate::drivers::Action;
use crate::fleet::Phase;
use crate::migrate::act::Act;

pub(in crate::migrate) const RULES: Rules = Rules {
    enter: |d| {
        let early = d.s.plan.capabilities.reverse_proved_before_cut;
        let acts = [Act::forward(Action::ArmReverse), Act::forward(Action::ProbeReverse)];
        d.plan(acts.into_iter().filter(|_| early));
    },
    exhausted: |d| {
        if d.s.plan.has_canary() {
            d.s.canary = 0;
            d.go(Phase::Canary, "step 1");
        } else {
            fencing::at_gate(d);
        }
    },
    on: fencing::gate,
    ..Rules::USUAL
};
