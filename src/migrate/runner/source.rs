//! What is known of the source of a migration now. The machine finds it out by itself while it looks at a copy; after
//! the cut it is what the fleet was last seen to be, so that nobody is promised a way back to what is dead.

use super::{Runner, Slot};
use crate::fleet::Timestamp;
use crate::migrate::operator::Source;

impl Runner {
    /// What is known of the source of a migration now.
    pub(super) fn source(&self, slot: &Slot) -> Source {
        let source = &slot.state.plan.source;
        let world = self.context.world();
        if self.context.is_lost(source) {
            return Source::Dead;
        }
        // The fleet is looked at less often than a copy; of a copy that ended, what it saw is old.
        let seen = world.as_ref().map_or(Timestamp(i64::MIN), |w| w.at);
        if slot.state.dead > 0 && (!slot.state.switched || seen <= self.context.wall(slot.state.since)) {
            return Source::Dead;
        }
        match world {
            Some(world) if world.unknown.contains(source) => Source::Silent,
            Some(world) if world.failing.contains(source) => Source::Failing,
            _ => Source::Answers,
        }
    }
}
