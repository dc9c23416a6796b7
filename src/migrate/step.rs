//! The pure heart: `step(state, event)` says what a migration becomes and what it wants next. It
//! reads no clock, asks nobody and forgets nothing: what it decides is in the returned notes, which
//! the runner makes durable together with the new state before it does anything.

use super::draft::Draft;
use super::effect::{Alert, Effect};
use super::event::{Event, EventKind};
use super::journal::Note;
use super::state::State;
use super::{operator, recovery};
use crate::fleet::{PartitionId, Phase, WorkloadId};

/// What came of one event.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// The state after it.
    pub state: Box<State>,
    /// What is wanted next.
    pub effects: Vec<Effect>,
    /// What goes into the journal, in order; empty = nothing that must survive a crash.
    pub notes: Vec<Note>,
    /// Who did it: a person, or the engine.
    pub actor: String,
    /// What people have to know.
    pub alerts: Vec<Alert>,
    /// What the planner is asked for.
    pub ask: Option<Ask>,
}

/// What a migration asks of the planner when it ends.
#[derive(Clone, PartialEq, Debug)]
pub struct Ask {
    /// The workload still has to go.
    pub workload: WorkloadId,
    /// But not there again.
    pub avoid: PartitionId,
    /// Why.
    pub because: String,
}

/// The name of the engine in the journal.
pub const ENGINE: &str = "engine";

/// What `state` becomes by `event`. An end stays what it is.
pub fn step(state: &State, event: &Event) -> Step {
    let mut draft = Draft::new(Box::new(state.clone()), event.at);
    if !state.phase.is_end() {
        match &event.kind {
            EventKind::Operator { command, actor } => operator::ask(&mut draft, *command, actor),
            EventKind::Recovered { epoch, owner } => recovery::adopt(&mut draft, *epoch, owner.as_ref()),
            kind => draft.happen(kind),
        }
        draft.settle();
    }
    draft.finish()
}

/// Whether a migration may go from `from` to `to`: the whole matrix, checked at every change.
pub fn allowed(from: Phase, to: Phase) -> bool {
    use Phase as P;
    match from {
        P::Proposed => matches!(to, P::Approved | P::Stale | P::Expired | P::Denied),
        P::Approved => matches!(to, P::Admitted | P::Stale | P::Expired | P::Aborted | P::Hold),
        P::Admitted => matches!(to, P::Preparing | P::RollingBackPre | P::Hold),
        P::Preparing => matches!(to, P::Copying | P::RollingBackPre | P::Hold | P::Stuck | P::SourceLost),
        P::Copying => matches!(to, P::CatchingUp | P::RollingBackPre | P::Hold | P::Stuck | P::SourceLost),
        P::CatchingUp => matches!(to, P::Verifying | P::RollingBackPre | P::Hold | P::Stuck | P::SourceLost),
        P::Verifying => matches!(
            to,
            P::ReverseArmed | P::Copying | P::RollingBackPre | P::Hold | P::Stuck | P::SourceLost
        ),
        P::ReverseArmed => {
            matches!(to, P::Canary | P::Fencing | P::RollingBackPre | P::Hold | P::Stuck | P::SourceLost)
        }
        P::Canary => {
            matches!(to, P::Canary | P::Fencing | P::RollingBackPre | P::Hold | P::Stuck | P::SourceLost)
        }
        P::Fencing => {
            matches!(to, P::Committing | P::CatchingUp | P::RollingBackPre | P::Stuck | P::SourceLost)
        }
        P::Committing => matches!(to, P::Redirecting | P::CatchingUp | P::RollingBackPre | P::Stuck),
        P::Redirecting => matches!(to, P::Soaking | P::RollingBackPost | P::Hold | P::Stuck),
        P::Soaking => matches!(to, P::Retiring | P::RollingBackPost | P::Hold | P::Stuck),
        P::Retiring => matches!(to, P::Done | P::Hold | P::Stuck),
        P::RollingBackPre => matches!(to, P::Aborted | P::Approved | P::Hold | P::Stuck),
        P::RollingBackPost => {
            matches!(to, P::RolledBack | P::RollingBackPost | P::Retiring | P::Hold | P::Stuck)
        }
        P::SourceLost => matches!(to, P::Committing | P::RollingBackPre),
        // A hold or being stuck ends where it stood, or in undoing.
        P::Hold | P::Stuck => {
            !to.is_end() && !matches!(to, P::Proposed) || matches!(to, P::Aborted | P::Expired)
        }
        P::Done | P::Aborted | P::RolledBack | P::Stale | P::Expired | P::Denied => false,
    }
}
