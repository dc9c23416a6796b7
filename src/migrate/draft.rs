//! A step while it is being made: the state that is changed, and the notes and alerts that go with
//! it. The files in `states/` and the operator's and recovery's rules work on this.

mod acts;

pub(super) use self::acts::doubled;
use super::act::{Act, Deed};
use super::effect::{Alert, Effect};
use super::event::EventKind;
use super::journal::Note;
use super::state::{Hold, HoldReason, State, Todo, Wish};
use super::states::rules;
use super::step::{Ask, ENGINE, Step, allowed};
use crate::drivers::{Action, JobStatus};
use crate::fleet::{Phase, Span, Timestamp};
use crate::protocol::Severity;

/// A step while it is being made.
pub(super) struct Draft {
    pub(super) s: Box<State>,
    pub(super) at: Timestamp,
    pub(super) actor: String,
    pub(super) ask: Option<Ask>,
    notes: Vec<Note>,
    alerts: Vec<Alert>,
}

impl Draft {
    pub(super) fn new(state: Box<State>, at: Timestamp) -> Self {
        Self { s: state, at, actor: ENGINE.to_string(), ask: None, notes: Vec::new(), alerts: Vec::new() }
    }

    pub(super) fn finish(self) -> Step {
        let effects = Effect::of(&self.s, self.at).into_iter().collect();
        Step {
            state: self.s,
            effects,
            notes: self.notes,
            actor: self.actor,
            alerts: self.alerts,
            ask: self.ask,
        }
    }

    pub(super) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    pub(super) fn decide(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.note(Note::Decision { what: what.into(), why: why.into() });
    }

    pub(super) fn alert(&mut self, severity: Severity, text: impl Into<String>) {
        self.alerts.push(Alert { severity, text: text.into() });
    }

    // --- going from state to state

    /// Goes to `to` and does what that state does first.
    pub(super) fn go(&mut self, to: Phase, reason: impl Into<String>) {
        let from = self.s.phase;
        debug_assert!(allowed(from, to), "{from:?} → {to:?} is not in the matrix");
        self.note(Note::State { from, to, reason: reason.into() });
        let at = self.at;
        let s = &mut self.s.progress;
        s.phase = to;
        s.since = at;
        s.todo = Todo::Go;
        s.due = at;
        s.queue.clear();
        s.waiting.clear();
        s.tries = 0;
        s.probes = 0;
        s.lag_ok = 0;
        s.unfencing = false;
        s.at_gate = false;
        s.watched_since = None;
        s.looks = 0;
        s.judgement = None;
        s.hold = None;
        self.set_deadline();
        (rules(to).enter)(self);
    }

    pub(super) fn set_deadline(&mut self) {
        self.s.deadline = (rules(self.s.phase).limit)(&self.s).map(|span| self.at + span);
    }

    /// Ends; nothing leads out of it.
    pub(super) fn end(&mut self, to: Phase, reason: impl Into<String>) {
        self.give_back();
        self.go(to, reason);
        self.s.todo = Todo::Nothing;
        self.s.deadline = None;
        self.s.ended = Some(self.at);
    }

    /// Gives tokens and lock back, in the same transaction.
    pub(super) fn give_back(&mut self) {
        if std::mem::take(&mut self.s.admitted) {
            self.note(Note::Budget { change: -1, what: "lock and tokens".to_string() });
        }
    }

    /// Stands still with a reason, an alert, and what it would have done next.
    pub(super) fn hold(&mut self, reason: HoldReason, words: impl Into<String>) {
        let words = words.into();
        let (from, todo, queue) = (self.s.phase, self.s.todo, self.s.queue.clone());
        let (since, looks, judgement) = (self.s.watched_since, self.s.looks, self.s.judgement.clone());
        let at_gate = self.s.at_gate;
        let severity = if reason == HoldReason::Operator { Severity::Info } else { Severity::Warning };
        self.alert(severity, format!("{} stands in {}: {words}", self.s.plan.id, from.word()));
        self.go(Phase::Hold, words.clone());
        let s = &mut self.s.progress;
        s.queue = queue;
        s.waiting = words;
        s.at_gate = at_gate;
        s.watched_since = since;
        s.looks = looks;
        s.judgement = judgement;
        // The judge keeps running in a hold, and may still undo.
        s.todo = if todo == Todo::Watch { Todo::Watch } else { Todo::Person };
        s.hold = Some(Hold { reason, from, todo });
    }

    /// What was done cannot be found out: traffic is left alone and a person is asked.
    pub(super) fn stuck(&mut self, words: impl Into<String>) {
        let words = words.into();
        let (from, queue, unfencing) = (self.s.phase, self.s.queue.clone(), self.s.unfencing);
        let at_gate = self.s.at_gate;
        self.alert(
            Severity::Critical,
            format!(
                "{} is stuck in {}: {words}; traffic is untouched; look at the system, then resume or roll back",
                self.s.plan.id,
                from.word()
            ),
        );
        self.go(Phase::Stuck, words.clone());
        self.s.queue = queue;
        self.s.unfencing = unfencing;
        self.s.at_gate = at_gate;
        self.s.waiting = words;
        self.s.todo = Todo::Person;
        self.s.hold = Some(Hold { reason: HoldReason::Failed, from, todo: Todo::Probe });
    }

    /// Goes on where a hold or being stuck interrupted.
    pub(super) fn resume(&mut self) {
        let Some(hold) = self.s.hold.take() else { return };
        let (queue, since, looks) = (self.s.queue.clone(), self.s.watched_since, self.s.looks);
        let from = self.s.phase;
        let unfencing = self.s.unfencing;
        self.note(Note::State { from, to: hold.from, reason: "resumed".to_string() });
        let at = self.at;
        let s = &mut self.s.progress;
        s.phase = hold.from;
        s.since = at;
        s.due = at;
        s.tries = 0;
        s.probes = 0;
        s.waiting.clear();
        s.unfencing = unfencing;
        s.watched_since = since;
        s.looks = looks;
        s.todo = match hold.todo {
            // What only reads is asked for again, whatever became of it.
            Todo::Perform if queue.front().is_some_and(Act::only_reads) => Todo::Perform,
            // The world may have changed meanwhile.
            Todo::Perform if !queue.is_empty() => Todo::Probe,
            Todo::Perform | Todo::Probe if queue.is_empty() => Todo::Go,
            todo => todo,
        };
        s.queue = queue;
        self.set_deadline();
    }

    // --- events

    pub(super) fn happen(&mut self, kind: &EventKind) {
        let before = self.s.phase;
        match kind {
            EventKind::Done { evidence } => self.done(evidence),
            EventKind::Failed { retry, detail } => self.failed(*retry, detail),
            EventKind::Probed { answer } if self.s.todo == Todo::Probe => self.probed(answer),
            EventKind::Working { waiting_for, status } => self.working(waiting_for, status.as_ref()),
            kind => (rules(self.s.phase).on)(self, kind),
        }
        let late = self.s.deadline.is_some_and(|d| self.at > d);
        if late && self.s.phase == before {
            (rules(self.s.phase).late)(self);
        }
    }

    fn working(&mut self, waiting_for: &str, status: Option<&JobStatus>) {
        if !matches!(self.s.todo, Todo::Perform) {
            return;
        }
        self.s.waiting = waiting_for.to_string();
        self.s.tries = 0;
        // Under way: no age of the comparison stops it any more.
        self.s.compared = None;
        // What can still be called off holds nobody up.
        let quick = matches!(self.s.phase, Phase::Fencing | Phase::Committing | Phase::RollingBackPost)
            && !status.is_some_and(|s| s.can_call_off);
        let wait = if quick { Span(self.s.plan.policy.poll.0.min(10)) } else { self.s.plan.policy.poll };
        self.s.due = self.at + wait;
        if let Some(status) = status {
            self.source_seen(status);
            if self.s.phase == Phase::Committing && status.can_call_off {
                super::states::committing::call_off(self);
            }
        }
    }

    /// Counts looks that find the source dead; too many in a row and it is lost.
    pub(super) fn source_seen(&mut self, status: &JobStatus) {
        if status.source_alive {
            self.s.dead = 0;
            return;
        }
        self.s.dead += 1;
        let before_the_cut = matches!(
            self.s.phase,
            Phase::Preparing
                | Phase::Copying
                | Phase::CatchingUp
                | Phase::Verifying
                | Phase::ReverseArmed
                | Phase::Canary
                | Phase::Fencing
        );
        if before_the_cut && self.s.dead >= self.s.plan.policy.source_lost_after {
            self.drop_pending("the source is gone");
            let looks = self.s.dead;
            self.go(Phase::SourceLost, format!("the source did not answer {looks} times in a row"));
        }
    }

    /// The owner is being changed, or was changed to a destination that is not open yet: nobody takes
    /// writes until it is, and from it alone is there a way back.
    fn owned_by_nobody(&self) -> bool {
        let opens = |act: &Act| matches!(act.deed, Deed::Mover { action: Action::Open });
        match self.s.phase {
            Phase::Committing => true,
            Phase::Redirecting => self.s.queue.iter().any(opens),
            _ => false,
        }
    }

    /// Does what a person wished, as soon as it is safe.
    pub(super) fn settle(&mut self) {
        let unresolved = self.s.todo == Todo::Probe;
        match self.s.wish.clone() {
            Some(Wish::RollBack { actor }) if !unresolved && !self.owned_by_nobody() => {
                if self.s.phase.is_end()
                    || matches!(
                        self.s.phase,
                        Phase::RollingBackPre | Phase::RollingBackPost | Phase::Retiring
                    )
                {
                    self.s.wish = None;
                } else if self.s.phase != Phase::Stuck {
                    self.s.wish = None;
                    super::operator::undo(self, format!("asked for by {actor}"));
                }
            }
            Some(Wish::Pause { actor }) if super::operator::can_stand(self.s.phase) => {
                self.s.wish = None;
                self.hold(HoldReason::Operator, format!("paused by {actor}"));
            }
            Some(Wish::Pause { .. }) if self.s.phase.is_end() || self.s.phase == Phase::Hold => {
                self.s.wish = None;
            }
            _ => {}
        }
    }
}
