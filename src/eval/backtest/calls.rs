//! Calls, the moments at which work would have been moved off a partition, and what came of each.
//!
//! A call is right where its partition failed within two of its windows, needless where it is known not
//! to have, unknown where its work was moved away meanwhile, and undecided where the data end first.

use std::collections::HashMap;

use super::truth::{Incident, Truth};
use crate::fleet::{PartitionId, PredictionState, Span, Timestamp};
use crate::predict::Outcome;

/// Windows after a call within which a failure makes it right (`anchors`: "no failure within two windows").
const WINDOWS: i64 = 2;

/// Work would have been moved off this partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// The partition.
    pub partition: PartitionId,
    /// When.
    pub at: Timestamp,
    /// The window whose threshold was passed.
    pub within: Span,
}

impl Call {
    /// Until when a failure makes it right.
    pub fn ends(&self) -> Timestamp {
        self.at + Span(self.within.0.saturating_mul(WINDOWS))
    }

    fn covers(&self, at: Timestamp) -> bool {
        self.at < at && at <= self.ends()
    }
}

/// What came of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It failed, so long after.
    Right(Span),
    /// It failed, sooner than a move takes.
    Late(Span),
    /// It did not fail.
    Needless,
    /// Its work was moved away: what would have been is not known.
    Unknown,
    /// The data end before two windows have passed.
    Undecided,
}

impl Verdict {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Right(_) => "right",
            Verdict::Late(_) => "too late",
            Verdict::Needless => "needless",
            Verdict::Unknown => "outcome unknown",
            Verdict::Undecided => "undecided",
        }
    }

    /// From the call to the failure.
    pub fn lead(self) -> Option<Span> {
        match self {
            Verdict::Right(lead) | Verdict::Late(lead) => Some(lead),
            _ => None,
        }
    }
}

/// What came of a call. A lead shorter than `least_lead` is too late.
pub fn judge(call: &Call, truth: &Truth, least_lead: Span) -> Verdict {
    let after: Vec<_> = truth.events(&call.partition).iter().filter(|e| call.covers(e.at)).collect();
    match after.iter().find(|e| e.outcome != Outcome::Survived) {
        Some(event) if event.outcome == Outcome::Failed => {
            let lead = event.at - call.at;
            if lead >= least_lead { Verdict::Right(lead) } else { Verdict::Late(lead) }
        }
        Some(_) => Verdict::Unknown,
        // "Survived" is a person's word that it was called and did not fail.
        None if !after.is_empty() || call.ends() <= truth.until() => Verdict::Needless,
        None => Verdict::Undecided,
    }
}

/// What the calls did for one recorded failure.
#[derive(Clone, PartialEq, Debug)]
pub struct Saved {
    /// Of the partitions that it struck, those called in time.
    pub in_time: usize,
    /// All that it struck.
    pub of: usize,
    /// From the call of the last of them to the failure; `None` where one was never called.
    pub lead: Option<Span>,
}

impl Saved {
    /// All that it struck was called in time.
    pub fn caught(&self) -> bool {
        self.of > 0 && self.in_time == self.of
    }
}

/// Calls by partition, by time.
#[derive(Debug, Default)]
pub struct Calls<'a>(HashMap<&'a PartitionId, Vec<&'a Call>>);

impl<'a> Calls<'a> {
    /// These calls.
    pub fn of(calls: &'a [Call]) -> Self {
        let mut by: HashMap<&PartitionId, Vec<&Call>> = HashMap::new();
        for call in calls {
            by.entry(&call.partition).or_default().push(call);
        }
        by.values_mut().for_each(|calls| calls.sort_by_key(|c| c.at));
        Self(by)
    }

    /// The first call of a partition that a failure of it at `at` makes right. A call is of the first
    /// failure after it: what came before an earlier failure did not foresee this one.
    pub fn before(&self, partition: &PartitionId, at: Timestamp, truth: &Truth) -> Option<&'a Call> {
        let failed = truth.events(partition).iter().filter(|e| e.outcome == Outcome::Failed && e.at < at);
        let earlier = failed.map(|e| e.at).max();
        let own = |c: &&&Call| c.covers(at) && earlier.is_none_or(|e| c.at >= e);
        self.0.get(partition)?.iter().find(own).copied()
    }

    /// What they did for one failure.
    pub fn saved(&self, failure: &Incident, truth: &Truth, least_lead: Span) -> Saved {
        let leads: Vec<Option<Span>> = failure
            .partitions
            .iter()
            .map(|p| self.before(p, failure.at, truth).map(|call| failure.at - call.at))
            .collect();
        Saved {
            in_time: leads.iter().flatten().filter(|lead| **lead >= least_lead).count(),
            of: leads.len(),
            lead: leads.into_iter().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().min()),
        }
    }
}

/// Whether an episode that was called is over: it looks well again.
pub fn is_over(state: PredictionState) -> bool {
    matches!(state, PredictionState::Healthy | PredictionState::Probation)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record of partition `subject` at minute `at`.
    pub(in crate::eval::backtest) fn incident(subject: &str, at: i64, outcome: Outcome) -> Incident {
        Incident {
            place: format!("line {at}"),
            subject: subject.into(),
            cause: "test".into(),
            at: minute(at),
            outcome,
            partitions: vec![subject.into()],
        }
    }

    /// That minute.
    pub(in crate::eval::backtest) fn minute(at: i64) -> Timestamp {
        Timestamp(at * 60_000)
    }

    /// A call of `partition` at minute `at`, for a window of 15 minutes.
    pub(in crate::eval::backtest) fn call(partition: &str, at: i64) -> Call {
        Call { partition: partition.into(), at: minute(at), within: Span::minutes(15) }
    }

    fn verdict(at: i64, truth: &Truth) -> Verdict {
        judge(&call("p", at), truth, Span::minutes(1))
    }

    #[test]
    fn a_call_is_right_within_two_windows_and_needless_after_them() {
        let truth = Truth::new(vec![incident("p", 100, Outcome::Failed)], minute(1000));
        assert_eq!(verdict(90, &truth), Verdict::Right(Span::minutes(10)));
        assert_eq!(verdict(70, &truth), Verdict::Right(Span::minutes(30)), "two windows are 30 minutes");
        assert_eq!(verdict(69, &truth), Verdict::Needless);
        assert_eq!(verdict(100, &truth), Verdict::Needless, "a call after the fact is none");
        let least = |lead| judge(&call("p", 90), &truth, Span::minutes(lead));
        assert_eq!(
            (least(10), least(11)),
            (Verdict::Right(Span::minutes(10)), Verdict::Late(Span::minutes(10)))
        );
    }

    #[test]
    fn what_was_moved_away_is_unknown_and_what_the_data_do_not_reach_is_undecided() {
        let truth = Truth::new(vec![incident("p", 100, Outcome::MitigatedUnknown)], minute(200));
        assert_eq!(verdict(90, &truth), Verdict::Unknown, "never survived");
        assert_eq!((verdict(170, &truth), verdict(171, &truth)), (Verdict::Needless, Verdict::Undecided));
        let moved_first =
            vec![incident("p", 95, Outcome::MitigatedUnknown), incident("p", 100, Outcome::Failed)];
        assert_eq!(verdict(90, &Truth::new(moved_first, minute(200))), Verdict::Unknown);
        let said = Truth::new(vec![incident("p", 195, Outcome::Survived)], minute(200));
        assert_eq!(verdict(190, &said), Verdict::Needless, "a person said that it did not fail");
    }

    #[test]
    fn a_call_foresees_the_first_failure_after_it_and_not_the_next_one() {
        let (first, second) = (incident("p", 100, Outcome::Failed), incident("p", 110, Outcome::Failed));
        let truth = Truth::new(vec![first.clone(), second.clone()], minute(1000));
        let calls = [call("p", 95)];
        let saved = |i: &Incident| Calls::of(&calls).saved(i, &truth, Span::minutes(1)).caught();
        assert_eq!((saved(&first), saved(&second)), (true, false));
    }

    #[test]
    fn a_host_is_caught_when_the_last_of_its_partitions_was_called() {
        let mut failure = incident("h", 100, Outcome::Failed);
        failure.partitions = vec!["h/a".into(), "h/b".into()];
        let both = [call("h/a", 80), call("h/b", 92)];
        let truth = Truth::new(vec![failure.clone()], minute(1000));
        let saved = Calls::of(&both).saved(&failure, &truth, Span::minutes(1));
        assert_eq!((saved.in_time, saved.of, saved.lead), (2, 2, Some(Span::minutes(8))));
        assert!(saved.caught());
        let one = Calls::of(&both[..1]).saved(&failure, &truth, Span::minutes(1));
        assert_eq!((one.in_time, one.lead, one.caught()), (1, None, false));
        let late = Calls::of(&both).saved(&failure, &truth, Span::minutes(10));
        assert_eq!((late.in_time, late.caught()), (1, false));
    }
}
