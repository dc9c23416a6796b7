//! The actions of a phase, one after the other: intended, done, failed and tried again, or probed.

use std::sync::Arc;

use super::Draft;
use crate::drivers::{Action, Evidence, Probe, Retry};
use crate::fleet::{Phase, Span, digits};
use crate::migrate::act::{Act, Deed};
use crate::migrate::journal::{Note, Verdict};
use crate::migrate::state::{Reverse, Todo};
use crate::migrate::states::{self, rules};
use crate::migrate::stored;

/// The longest wait between two tries.
const LONGEST_WAIT: Span = Span::seconds(60);

impl Draft {
    /// Plans the actions of this phase and begins the first.
    pub(in crate::migrate) fn plan(&mut self, acts: impl IntoIterator<Item = Act>) {
        self.s.queue = acts.into_iter().collect();
        self.begin();
    }

    /// Begins the front action: its INTENT and what it will make become durable first. An empty
    /// queue means that the phase has done all it planned.
    pub(in crate::migrate) fn begin(&mut self) {
        self.s.tries = 0;
        if self.s.queue.is_empty() && self.s.at_gate {
            states::fencing::at_gate(self);
        } else if self.s.queue.is_empty() {
            (rules(self.s.phase).exhausted)(self);
        } else {
            self.intend(Span::ZERO);
        }
    }

    fn intend(&mut self, after: Span) {
        let Some(mut act) = self.s.queue.front().cloned() else { return };
        let name = act.name();
        // A fence lets go by itself: its deadline counts from now, not from when it was planned.
        let budget = states::fencing::deadline(self);
        if let Deed::Mover { action: Action::Fence { deadline } } = &mut act.deed
            && *deadline < states::fencing::SEALED
        {
            *deadline = budget;
            self.s.queue[0] = act.clone();
        }
        for line in self.s.ledger.enter(act_step(&act), act.side) {
            self.note(Note::CleanupAdd { artifact: line.artifact, policy: line.policy });
        }
        let args = digits::hex(&blake3::hash(&stored::act_bytes(&act)).as_bytes()[..8]);
        let deadline = self.s.deadline;
        self.note(Note::Intent { idem: self.s.plan.key(&name), step: name, args, deadline });
        self.touch(&act);
        self.s.todo = Todo::Perform;
        self.s.due = self.at + after;
        self.s.probes = 0;
    }

    fn touch(&mut self, act: &Act) {
        let touched = &mut self.s.touched;
        match &act.deed {
            Deed::Mover { action: Action::Prepare } => touched.prepare = true,
            Deed::Mover { action: Action::Replicate } => touched.replicate = true,
            Deed::Mover { action: Action::Fence { .. } } => touched.fence = true,
            Deed::Mover { action: Action::CanaryShare { share } } | Deed::Route { share } => {
                touched.canary |= share.get() > 0.0;
            }
            _ => {}
        }
    }

    fn outcome(&mut self, act: &Act, result: Verdict, evidence: &str) {
        let step = act.name();
        let idem = self.s.plan.key(&step);
        self.note(Note::Outcome { step, idem, result, evidence: evidence.to_string() });
    }

    /// Gives up on the front action's answer; something that undoes it follows.
    pub(in crate::migrate) fn drop_pending(&mut self, why: &str) {
        if let Some(act) = self.s.pending().cloned() {
            self.outcome(&act, Verdict::Unknown, why);
        }
        self.s.queue.clear();
    }

    pub(super) fn done(&mut self, evidence: &Evidence) {
        let Some(act) = self.s.pending().cloned() else { return };
        self.s.queue.pop_front();
        self.s.waiting.clear();
        self.outcome(&act, Verdict::Applied, &evidence.summary);
        if !evidence.summary.is_empty() {
            let words = act.words();
            let seen = Arc::make_mut(&mut self.s.evidence);
            seen.retain(|(name, _)| **name != *words);
            seen.push((words.into(), evidence.summary.as_str().into()));
        }
        match &act.deed {
            Deed::Mover { action: Action::Cleanup { artifact } } => {
                self.s.ledger.gone(artifact);
                self.note(Note::CleanupDone { artifact: artifact.clone() });
            }
            Deed::Mover { action: Action::ArmReverse } => self.s.reverse = Reverse::Armed,
            Deed::Mover { action: Action::ProbeReverse } => {
                self.s.reverse = Reverse::Proved { at: self.at };
            }
            Deed::Mover { action: Action::EnableReverse } => self.s.reverse = Reverse::Enabled,
            Deed::Mover { action: Action::Unfence } => self.s.touched.fence = false,
            Deed::Mover { action: Action::StopReplication } => self.s.touched.replicate = false,
            Deed::Mover { action: Action::CanaryShare { share } } | Deed::Route { share }
                if share.get() == 0.0 =>
            {
                self.s.touched.canary = false;
            }
            _ => {}
        }
        (rules(self.s.phase).done)(self, &act, evidence);
    }

    pub(super) fn failed(&mut self, retry: Retry, detail: &str) {
        let Some(act) = self.s.pending().cloned() else { return };
        match retry {
            Retry::Unknown => {
                self.outcome(&act, Verdict::Unknown, detail);
                self.s.todo = Todo::Probe;
                self.s.due = self.at;
                self.s.probes = 0;
            }
            Retry::Retryable => {
                self.outcome(&act, Verdict::Failed, detail);
                self.s.tries += 1;
                if self.s.tries >= self.s.plan.policy.act_tries {
                    (rules(self.s.phase).failed)(self, &act, detail);
                } else {
                    self.try_again(detail);
                }
            }
            Retry::Permanent => {
                self.outcome(&act, Verdict::Failed, detail);
                self.s.tries = self.s.plan.policy.act_tries;
                (rules(self.s.phase).failed)(self, &act, detail);
            }
        }
    }

    /// Tries the front action again, later and later.
    pub(in crate::migrate) fn try_again(&mut self, detail: &str) {
        let wait = doubled(self.s.plan.policy.poll, self.s.tries);
        self.s.waiting = format!("tries again in {wait}: {detail}");
        self.intend(wait);
    }

    /// Takes the front action out of the queue; what came of it is not known.
    pub(in crate::migrate) fn drop_front(&mut self, why: &str) {
        if let Some(act) = self.s.pending().cloned() {
            self.outcome(&act, Verdict::Unknown, why);
        }
        self.s.queue.pop_front();
    }

    pub(super) fn probed(&mut self, answer: &Probe) {
        // That nothing is there is not enough where something is to be undone: until the call has
        // arrived under our epoch, what an older engine sent may still come after it. Undoing can
        // be asked for twice.
        let undoes = self.s.queue.front().is_some_and(Act::undoes);
        match answer {
            Probe::Applied { evidence } if !undoes => self.done(evidence),
            Probe::InProgress => {
                self.s.compared = None;
                self.s.todo = Todo::Perform;
                self.s.due = self.at;
            }
            Probe::NotStarted | Probe::Applied { .. } => {
                let tries = self.s.tries;
                self.intend(Span::ZERO);
                self.s.tries = tries;
            }
            Probe::Failed { reason } => {
                self.s.todo = Todo::Perform;
                self.failed(Retry::Retryable, reason);
            }
            Probe::Unknown { reason } => {
                self.s.probes += 1;
                if self.s.probes < self.s.plan.policy.probe_tries {
                    let wait = doubled(self.s.plan.policy.poll, self.s.probes);
                    self.s.waiting = format!("asks again in {wait} whether it was done: {reason}");
                    self.s.due = self.at + wait;
                    return;
                }
                // The source stands until all routers have confirmed, and routing can be asked for at any time
                // again: it waits for the one that does not answer, and says which.
                let routes = |act: &Act| matches!(act.deed, Deed::Route { .. });
                if self.s.phase == Phase::Retiring && self.s.queue.front().is_some_and(routes) {
                    self.s.todo = Todo::Perform;
                    return self.failed(Retry::Retryable, reason);
                }
                // What only reads leaves nothing that would have to be known.
                let harmless = |act: &&Act| self.s.phase == Phase::Soaking && act.only_reads();
                match self.s.queue.front().filter(harmless).cloned() {
                    Some(act) => (rules(self.s.phase).failed)(self, &act, reason),
                    None => self.stuck(format!("nobody can tell whether it was done: {reason}")),
                }
            }
        }
    }
}

/// `unit · 2^(tries−1)`, bounded.
pub(in crate::migrate) fn doubled(unit: Span, tries: u32) -> Span {
    Span(unit.0.max(1).saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST_WAIT.0.max(unit.0)))
}

/// The name under which the ledger foresees what an action makes.
fn act_step(act: &Act) -> &'static str {
    match &act.deed {
        Deed::Mover { action } => action.name(),
        Deed::Route { .. } => "route",
    }
}
