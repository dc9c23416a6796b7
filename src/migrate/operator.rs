//! What a person may ask of a migration, when, and what then happens. A person wins over automatic
//! mode at once; only between the fence and the redirect the wish waits until that is through.

use super::draft::Draft;
use super::event::OperatorCommand;
use super::state::{Again, HoldReason, State, Todo, Wish};
use super::states;
use crate::fleet::Phase;
use crate::protocol::Abilities;

/// Phases in which a migration can stand still without harm.
pub(super) fn can_stand(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Approved
            | Phase::Admitted
            | Phase::Preparing
            | Phase::Copying
            | Phase::CatchingUp
            | Phase::Verifying
            | Phase::ReverseArmed
            | Phase::Canary
            | Phase::Soaking
            | Phase::Retiring
    )
}

/// What is known of the source now, beside what the machine itself has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Nothing speaks against it.
    Answers,
    /// It is expected to fail.
    Failing,
    /// Nothing is heard of it.
    Silent,
    /// It does not answer.
    Dead,
}

/// What can be asked now: `None` = yes, else why not.
pub fn abilities(state: &State, source: Source) -> Abilities {
    use OperatorCommand as C;
    let no = |command| refused_now(state, command, source);
    Abilities {
        step: no(C::NextStep),
        promote: no(C::Promote),
        pause: no(C::Pause),
        resume: no(C::Resume),
        roll_back: no(C::RollBack),
    }
}

/// Why `command` cannot be asked now, also for what is known of the source: after the cut a way back to what does not
/// answer would hold the writes of those who are served, for nothing. `None` = it can.
pub fn refused_now(state: &State, command: OperatorCommand, source: Source) -> Option<String> {
    refusal(state, command).or_else(|| {
        let goes_back = match command {
            OperatorCommand::RollBack => true,
            OperatorCommand::Resume => {
                state.phase == Phase::Hold && state.standing() == Phase::RollingBackPost
            }
            _ => false,
        };
        (goes_back && state.switched && source == Source::Dead).then(|| states::no_source(&state.plan))
    })
}

/// Why `command` cannot be asked in this state; `None` = it can.
pub fn refusal(state: &State, command: OperatorCommand) -> Option<String> {
    let phase = state.phase;
    if phase.is_end() {
        return Some(format!("it has ended: {}", phase.word()));
    }
    let undoing = matches!(state.standing(), Phase::RollingBackPre | Phase::RollingBackPost);
    match command {
        OperatorCommand::Promote if can_keep(state) => None,
        OperatorCommand::NextStep | OperatorCommand::Promote if state.standing() != Phase::Canary => {
            Some(format!("it is not in a canary step but in {}", state.standing().word()))
        }
        OperatorCommand::NextStep | OperatorCommand::Promote
            if !matches!(state.todo, Todo::Watch | Todo::Person) =>
        {
            Some("the step's share is not set yet: ask again in a moment".to_string())
        }
        OperatorCommand::NextStep | OperatorCommand::Promote => None,
        OperatorCommand::Pause if matches!(phase, Phase::Hold | Phase::Stuck) => {
            Some("it stands already".to_string())
        }
        OperatorCommand::Pause if undoing => {
            Some("it is being undone; the fleet is as before when that ends".to_string())
        }
        OperatorCommand::Pause => None,
        OperatorCommand::Resume if matches!(phase, Phase::Hold | Phase::Stuck) => None,
        OperatorCommand::Resume => Some("it does not stand".to_string()),
        OperatorCommand::RollBack if undoing && phase != Phase::Stuck && phase != Phase::Hold => {
            Some("it is being undone already".to_string())
        }
        OperatorCommand::RollBack => states::no_way_back(state),
    }
}

/// Whether the same wish waits already: asked for again it would only be written down again, and keep what it
/// waits for from going on. Where it is stuck the system is asked again.
fn waits_already(state: &State, command: OperatorCommand) -> bool {
    match (&state.wish, command) {
        (Some(Wish::RollBack { .. }), OperatorCommand::RollBack) => state.phase != Phase::Stuck,
        (Some(Wish::Pause { .. }), OperatorCommand::Pause) => true,
        _ => false,
    }
}

/// It could not be switched back, or it stands after the cut, and the destination serves: a person may leave it
/// there.
fn can_keep(state: &State) -> bool {
    match state.standing() {
        Phase::RollingBackPost => {
            state.phase != Phase::Stuck && states::rolling_back_post::serves_and_waits(state)
        }
        standing => standing == Phase::Soaking && state.phase == Phase::Hold,
    }
}

/// A person asks. What cannot be done now changes nothing (the runner has refused it with the
/// reason before).
pub(super) fn ask(draft: &mut Draft, command: OperatorCommand, actor: &str) {
    if refusal(&draft.s, command).is_some() || waits_already(&draft.s, command) {
        return;
    }
    draft.actor = actor.to_string();
    let keeps = can_keep(&draft.s);
    draft.decide(command.word(), "");
    match command {
        OperatorCommand::Promote if keeps => {
            draft.drop_pending("superseded: it is kept where it is");
            draft.go(Phase::Retiring, format!("{actor} keeps it at the destination"));
        }
        OperatorCommand::NextStep => {
            wake(draft);
            states::canary::next(draft, format!("{actor} went on"));
        }
        OperatorCommand::Promote => {
            wake(draft);
            states::canary::leave(draft, format!("{actor} promoted it"));
        }
        OperatorCommand::Pause if can_stand(draft.s.phase) => {
            draft.hold(HoldReason::Operator, format!("paused by {actor}"));
        }
        OperatorCommand::Pause => draft.s.wish = Some(Wish::Pause { actor: actor.to_string() }),
        OperatorCommand::Resume => {
            draft.s.wish = None;
            draft.resume();
        }
        OperatorCommand::RollBack => {
            draft.s.wish = Some(Wish::RollBack { actor: actor.to_string() });
            if draft.s.phase == Phase::Stuck {
                // What is unknown has to be known before it can be undone: ask the system again.
                draft.resume();
            }
        }
    }
}

/// Leaves a hold so that a canary command acts on the canary.
fn wake(draft: &mut Draft) {
    if draft.s.phase == Phase::Hold {
        draft.resume();
    }
}

/// Undoes, from wherever it is.
pub(super) fn undo(draft: &mut Draft, cause: String) {
    states::undo(draft, cause, Again::No);
}
