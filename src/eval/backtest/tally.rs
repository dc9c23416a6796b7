//! Counts, leads and cost of a set of calls.

use serde::Serialize;

use super::calls::{Call, Calls, Verdict, judge};
use super::truth::Truth;
use crate::fleet::Span;

/// What a move and a crash cost, in a unit of the person's own, and how much time a move needs.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Rates {
    /// Emptying one partition.
    pub move_cost: f64,
    /// One partition that fails with its work on it.
    pub crash_cost: f64,
    /// A call later than this before the failure saves nothing.
    #[serde(rename = "least_lead_s", serialize_with = "seconds")]
    pub least_lead: Span,
}

pub(super) fn seconds<S: serde::Serializer>(span: &Span, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(span.as_seconds())
}

impl Default for Rates {
    /// A crash costs ten moves; a move needs a minute.
    fn default() -> Self {
        Self { move_cost: 1.0, crash_cost: 10.0, least_lead: Span::minutes(1) }
    }
}

/// What a set of calls came to.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Tally {
    /// Partitions that would have been emptied.
    pub calls: usize,
    /// Of them followed by a failure, in time.
    pub right: usize,
    /// Followed by a failure sooner than a move takes.
    pub too_late: usize,
    /// No failure within two windows.
    pub needless: usize,
    /// Their work was moved away: what would have been is unknown. In no other count, and at no cost.
    pub outcome_unknown: usize,
    /// The data end before two windows have passed. In no other count; they cost a move.
    pub undecided: usize,
    /// Recorded failures.
    pub failures: usize,
    /// Of them, all that they struck was called in time.
    pub caught: usize,
    /// The others.
    pub missed: usize,
    /// Partitions that were struck by these failures.
    pub struck: usize,
    /// Of them not called in time.
    pub lost: usize,
    /// Median lead of the failures that were caught, in seconds.
    pub lead_median_s: Option<f64>,
    /// A tenth of them had a shorter one.
    pub lead_p10_s: Option<f64>,
    /// Moves (right, too late, needless, undecided) and partitions lost, at their cost.
    pub cost: f64,
    /// What doing nothing costs: every struck partition lost.
    pub cost_of_nothing: f64,
}

/// The sum of what these calls did.
pub fn tally(calls: &[Call], truth: &Truth, rates: &Rates) -> Tally {
    let mut out = Tally { calls: calls.len(), ..Tally::default() };
    for call in calls {
        match judge(call, truth, rates.least_lead) {
            Verdict::Right(_) => out.right += 1,
            Verdict::Late(_) => out.too_late += 1,
            Verdict::Needless => out.needless += 1,
            Verdict::Unknown => out.outcome_unknown += 1,
            Verdict::Undecided => out.undecided += 1,
        }
    }
    let by_partition = Calls::of(calls);
    let mut leads = Vec::new();
    for failure in truth.failures() {
        let saved = by_partition.saved(failure, truth, rates.least_lead);
        out.failures += 1;
        out.struck += saved.of;
        out.lost += saved.of - saved.in_time;
        if saved.caught() {
            out.caught += 1;
            leads.extend(saved.lead.map(Span::as_seconds));
        }
    }
    out.missed = out.failures - out.caught;
    leads.sort_by(f64::total_cmp);
    out.lead_median_s = quantile(&leads, 0.5);
    out.lead_p10_s = quantile(&leads, 0.1);
    let moves = out.calls - out.outcome_unknown;
    out.cost = rates.move_cost * moves as f64 + rates.crash_cost * out.lost as f64;
    out.cost_of_nothing = rates.crash_cost * out.struck as f64;
    out
}

/// The value below which a share of the sorted values lies, between neighbours by distance.
pub(super) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = share * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::super::calls::tests::{call, incident, minute};
    use super::*;
    use crate::predict::Outcome;
    use proptest::prelude::*;

    #[test]
    fn what_a_hand_counts_is_what_is_counted() {
        let truth = Truth::new(
            vec![
                incident("a", 100, Outcome::Failed),
                incident("b", 200, Outcome::Failed),
                incident("c", 300, Outcome::Failed),
                incident("d", 400, Outcome::MitigatedUnknown),
            ],
            minute(1000),
        );
        // a caught 10 minutes ahead, b 30 seconds ahead (too late), c missed; d unknown; e needless; f undecided.
        let late = Call { at: minute(200) - Span::seconds(30), ..call("b", 0) };
        let calls = [call("a", 90), late, call("d", 390), call("e", 500), call("f", 980)];
        let counted = tally(&calls, &truth, &Rates::default());
        assert_eq!((counted.right, counted.too_late, counted.needless), (1, 1, 1));
        assert_eq!((counted.outcome_unknown, counted.undecided), (1, 1));
        assert_eq!((counted.failures, counted.caught, counted.missed, counted.lost), (3, 1, 2, 2));
        assert_eq!((counted.lead_median_s, counted.lead_p10_s), (Some(600.0), Some(600.0)));
        assert_eq!((counted.cost, counted.cost_of_nothing), (4.0 + 20.0, 30.0));
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[4.0], 0.1), Some(4.0));
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), Some(2.5));
    }

    proptest! {
        #[test]
        fn every_call_and_every_failure_is_counted_once(
            calls in proptest::collection::vec((0..4u8, 0..600i64), 0..30),
            records in proptest::collection::vec((0..4u8, 0..600i64, 0..3u8), 0..12),
            until in 0..700i64,
        ) {
            let calls: Vec<Call> = calls.iter().map(|(p, at)| call(&format!("p{p}"), *at)).collect();
            let records = records.iter().map(|(p, at, outcome)| {
                let outcome = [Outcome::Failed, Outcome::Survived, Outcome::MitigatedUnknown][*outcome as usize];
                incident(&format!("p{p}"), *at, outcome)
            });
            let truth = Truth::new(records.collect(), minute(until));
            let t = tally(&calls, &truth, &Rates::default());
            prop_assert_eq!(t.right + t.too_late + t.needless + t.outcome_unknown + t.undecided, t.calls);
            prop_assert_eq!(t.caught + t.missed, t.failures);
            prop_assert!(t.lost <= t.struck && t.caught <= t.struck - t.lost);
            // More calls never lose more.
            let fewer = tally(&calls[..calls.len() / 2], &truth, &Rates::default());
            prop_assert!(t.lost <= fewer.lost);
        }
    }
}
