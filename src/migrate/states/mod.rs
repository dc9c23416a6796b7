//! One file a state. Each says what the state does, its deadline, its recovery rule and its rollback
//! rule, and holds the [`Rules`] that the machine goes by. The way through them:
//!
//! `PROPOSED → APPROVED → ADMITTED → PREPARING → COPYING → CATCHING_UP → VERIFYING → REVERSE_ARMED →
//! CANARY(k) → FENCING → COMMITTING → REDIRECTING → SOAKING → RETIRING → DONE`

pub(super) mod admitted;
pub(super) mod approved;
pub(super) mod canary;
pub(super) mod catching_up;
pub(super) mod committing;
pub(super) mod copying;
pub(super) mod ends;
pub(super) mod fencing;
pub(super) mod hold;
pub(super) mod preparing;
pub(super) mod redirecting;
pub(super) mod retiring;
pub(super) mod reverse_armed;
pub(super) mod rolling_back_post;
pub(super) mod rolling_back_pre;
pub(super) mod soaking;
pub(super) mod source_lost;
pub(super) mod verifying;

use super::act::Act;
use super::draft::Draft;
use super::event::EventKind;
use super::plan::Plan;
use super::state::{Again, HoldReason, State};
use crate::drivers::Evidence;
use crate::fleet::{Phase, Span};
use crate::protocol::Severity;

/// What the machine goes by in one state.
pub(super) struct Rules {
    /// How long it may take; `None` = as long as a person wants.
    pub(super) limit: fn(&State) -> Option<Span>,
    /// What it does first.
    pub(super) enter: fn(&mut Draft),
    /// All planned actions are done.
    pub(super) exhausted: fn(&mut Draft),
    /// One planned action is done.
    pub(super) done: fn(&mut Draft, &Act, &Evidence),
    /// One planned action failed as often as it may.
    pub(super) failed: fn(&mut Draft, &Act, &str),
    /// Any other event.
    pub(super) on: fn(&mut Draft, &EventKind),
    /// It took too long.
    pub(super) late: fn(&mut Draft),
}

impl Rules {
    /// What most states do: begin with the next action, undo and retry on failure, hold when late.
    const USUAL: Rules = Rules {
        limit: |s| Some(s.plan.policy.state_limit),
        enter: |_| {},
        exhausted: |_| {},
        done: |d, _, _| d.begin(),
        failed: |d, act, detail| {
            undo(d, format!("{} failed: {detail}", act.words()), Again::Retry);
        },
        on: |_, _| {},
        late: |d| {
            let words = format!("took longer than {}{}", d.at - d.s.since, waited_for(&d.s));
            d.hold(HoldReason::Deadline, words);
        },
    };

    /// An end, or a state that only waits.
    const STILL: Rules = Rules { limit: |_| None, late: |_| {}, failed: |_, _, _| {}, ..Rules::USUAL };
}

/// The rules of a state.
pub(super) fn rules(phase: Phase) -> &'static Rules {
    match phase {
        Phase::Proposed => &ends::RULES,
        Phase::Approved => &approved::RULES,
        Phase::Admitted => &admitted::RULES,
        Phase::Preparing => &preparing::RULES,
        Phase::Copying => &copying::RULES,
        Phase::CatchingUp => &catching_up::RULES,
        Phase::Verifying => &verifying::RULES,
        Phase::ReverseArmed => &reverse_armed::RULES,
        Phase::Canary => &canary::RULES,
        Phase::Fencing => &fencing::RULES,
        Phase::Committing => &committing::RULES,
        Phase::Redirecting => &redirecting::RULES,
        Phase::Soaking => &soaking::RULES,
        Phase::Retiring => &retiring::RULES,
        Phase::RollingBackPre => &rolling_back_pre::RULES,
        Phase::RollingBackPost => &rolling_back_post::RULES,
        Phase::SourceLost => &source_lost::RULES,
        Phase::Hold | Phase::Stuck => &hold::RULES,
        Phase::Done | Phase::Aborted | Phase::RolledBack | Phase::Stale | Phase::Expired | Phase::Denied => {
            &ends::RULES
        }
    }
}

/// Why the migration cannot be undone now; `None` = it can.
pub(super) fn no_way_back(state: &State) -> Option<String> {
    match state.standing() {
        Phase::Retiring => Some("the source has been retired; the way back is a new migration".to_string()),
        phase if phase.is_end() => Some(format!("it has ended: {}", phase.word())),
        _ if state.switched && !state.plan.capabilities.reverse => Some(
            "this kind of system has no way back after the cut; the way back is a new migration".to_string(),
        ),
        _ => None,
    }
}

/// That there is no way back to a source that does not answer.
pub(super) fn no_source(plan: &Plan) -> String {
    format!(
        "{} does not answer: there is no way back now; {} serves {}",
        plan.source, plan.destination, plan.workload
    )
}

/// Undoes, from wherever it is: before the cut by letting go and removing what was made, after it by
/// a mirrored move; where there is no way back it stands and a person is asked.
pub(super) fn undo(draft: &mut Draft, cause: String, again: Again) {
    if let Some(why) = no_way_back(&draft.s) {
        if !matches!(draft.s.phase, Phase::Hold | Phase::Stuck) && !draft.s.phase.is_end() {
            stand(draft, &cause, &why);
        }
        return;
    }
    draft.s.cause = cause.clone();
    draft.s.again = again;
    draft.drop_pending("superseded: it is being undone");
    if !draft.s.admitted {
        draft.end(Phase::Aborted, cause);
    } else if draft.s.switched {
        draft.go(Phase::RollingBackPost, cause);
    } else {
        draft.go(Phase::RollingBackPre, cause);
    }
}

/// Why something is undone after the cut.
const WORSE: &str = "the new owner does worse than before";

/// Says that something would be undone and cannot be now.
fn not_undone(draft: &mut Draft, cause: &str, why: &str) {
    draft.alert(Severity::Critical, format!("{}: {cause}; not undone: {why}", draft.s.plan.id));
}

/// What is to be undone and cannot be now stands, with both reasons, and a person is asked.
fn stand(draft: &mut Draft, cause: &str, why: &str) {
    not_undone(draft, cause, why);
    draft.hold(HoldReason::NoWayBack, format!("{cause}; {why}"));
}

/// Tries an action of a state that must go forward for as long as it takes, and says so once.
fn keep_trying(draft: &mut Draft, act: &Act, detail: &str) {
    if draft.s.tries == draft.s.plan.policy.act_tries {
        let (id, phase) = (draft.s.plan.id, draft.s.phase.word());
        draft.alert(
            Severity::Critical,
            format!("{id}: {} fails in {phase} and is tried again every minute: {detail}", act.words()),
        );
    }
    draft.try_again(detail);
}

/// What it waits for now, with the last error where there is one, to be put behind that it is late.
fn waited_for(state: &State) -> String {
    match state.waiting.as_str() {
        "" => String::new(),
        waiting => format!("; it waited for: {waiting}"),
    }
}

/// Says that a state which must go forward is late, and gives it the same time again.
fn late_but_forward(draft: &mut Draft) {
    let (id, phase, since) = (draft.s.plan.id, draft.s.phase.word(), draft.at - draft.s.since);
    let waited = waited_for(&draft.s);
    draft.alert(
        Severity::Critical,
        format!("{id} has been in {phase} for {since}{waited}; it goes on trying"),
    );
    draft.decide("goes on", format!("late in {phase} after {since}"));
    draft.set_deadline();
}
