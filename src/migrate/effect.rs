//! What a migration wants done next. It follows from the state alone, so a restarted engine wants
//! the same.

use super::act::{Act, Side};
use super::state::{State, Todo};
use crate::fleet::Timestamp;
use crate::protocol::Severity;

/// What the runner is to do; each ends in one event.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Tell the machine the time.
    Tell,
    /// Try to take lock, tokens and generation.
    Admit,
    /// Perform the action; its INTENT is durable.
    Perform(Act),
    /// Ask whether the action was done.
    Probe(Act),
    /// Ask where the job of that direction is.
    Status(Side),
    /// Measure both sides since then.
    Sample(Timestamp),
    /// Ask whether the cut may begin.
    Gate,
    /// Change the owner in one transaction.
    ChangeOwner(Side),
}

/// Something that people have to know.
#[derive(Clone, PartialEq, Debug)]
pub struct Alert {
    /// How bad.
    pub severity: Severity,
    /// In a sentence.
    pub text: String,
}

impl Effect {
    /// What `state` wants at `now`; `None` where only a person or nothing can move it. The owner is
    /// not changed on an old comparison: the machine is told the time and gives the cut up.
    pub fn of(state: &State, now: Timestamp) -> Option<Effect> {
        if state.is_stale(now) {
            return Some(Effect::Tell);
        }
        let side =
            if state.phase == crate::fleet::Phase::RollingBackPost { Side::Back } else { Side::Forward };
        match state.todo {
            Todo::Go => Some(Effect::Tell),
            Todo::Admit => Some(Effect::Admit),
            Todo::Perform => Some(state.queue.front().map_or(Effect::Tell, |a| Effect::Perform(a.clone()))),
            Todo::Probe => Some(state.queue.front().map_or(Effect::Tell, |a| Effect::Probe(a.clone()))),
            Todo::Poll => Some(Effect::Status(side)),
            Todo::Watch => Some(Effect::Sample(state.watched_since.unwrap_or(state.since))),
            Todo::Gate => Some(Effect::Gate),
            Todo::Commit => Some(Effect::ChangeOwner(side)),
            Todo::Person | Todo::Nothing => None,
        }
    }
}
