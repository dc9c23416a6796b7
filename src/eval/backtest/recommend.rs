//! Which threshold costs least on this history, and how far that may be trusted.

use serde::Serialize;

use super::calls::{Calls, Verdict, judge};
use super::sweep::{Curve, Point};
use super::tally::{Rates, quantile};
use super::truth::Truth;
use crate::fleet::Span;
use crate::fleet::rng::Random;

/// A span shorter than so many windows recommends nothing for the window.
const WINDOWS: i64 = 4;
/// Fewer recorded failures than this recommend nothing.
pub const FEW: usize = 10;
/// From so many on the figures are fair.
pub const FAIR: usize = 30;
/// Times that the failures are drawn anew.
const DRAWS: usize = 500;

/// How far a recommendation may be trusted, by the number of failures behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// The span is shorter than four windows: most calls could not have turned out needless in it.
    TooShort,
    /// Fewer than ten failures: nothing is recommended.
    TooFew,
    /// Ten to twenty-nine.
    Rough,
    /// Thirty and more.
    Fair,
}

/// What one window's curve comes to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Recommendation {
    /// The window, in seconds.
    pub within_s: f64,
    /// The threshold to set; `None` where there are too few failures, the span is too short, or no
    /// threshold costs less than doing nothing.
    pub threshold: Option<f64>,
    /// What cost least on this history alone; `None` where nothing failed.
    pub cheapest: Option<f64>,
    /// Its cost.
    pub cost: f64,
    /// The cost of the configured threshold on the same window.
    pub cost_configured: f64,
    /// The cost of doing nothing.
    pub cost_of_nothing: f64,
    /// Recorded failures behind it.
    pub failures: usize,
    /// Of them caught at the cheapest threshold.
    pub caught: usize,
    /// 95 % interval of the share that it would catch (Wilson 1927).
    pub caught_interval: (f64, f64),
    /// In nine of ten draws of as many failures the cheapest threshold lies between these.
    pub between: Option<(f64, f64)>,
    /// How far it may be trusted.
    pub trust: Trust,
    /// All of it in words.
    pub words: String,
}

/// The recommendation of a curve that was made over a span of this `length`.
pub fn recommend(curve: &Curve, truth: &Truth, length: Span, rates: &Rates) -> Recommendation {
    let failures = truth.failures().count();
    let trust = match failures {
        _ if length.0 < curve.within.0.saturating_mul(WINDOWS) => Trust::TooShort,
        0..FEW => Trust::TooFew,
        FEW..FAIR => Trust::Rough,
        _ => Trust::Fair,
    };
    let costs: Vec<f64> = curve.points.iter().map(|p| p.tally.cost).collect();
    let best = &curve.points[cheapest(&costs)];
    let configured = curve.points.iter().find(|p| p.configured).unwrap_or(best);
    let nothing = best.tally.cost_of_nothing;
    let pays = best.tally.cost < nothing;
    let some = failures > 0;
    Recommendation {
        within_s: curve.within.as_seconds(),
        threshold: (matches!(trust, Trust::Rough | Trust::Fair) && pays).then_some(best.threshold),
        cheapest: (some && pays).then_some(best.threshold),
        cost: best.tally.cost,
        cost_configured: configured.tally.cost,
        cost_of_nothing: nothing,
        failures,
        caught: best.tally.caught,
        caught_interval: wilson(best.tally.caught, failures),
        between: (some && pays).then(|| drawn_anew(curve, truth, rates)),
        trust,
        words: words(curve.within, best, configured, (failures, trust, pays)),
    }
}

fn words(
    within: Span,
    best: &Point,
    configured: &Point,
    (failures, trust, pays): (usize, Trust, bool),
) -> String {
    let within = within.as_window();
    let percent = |x: f64| format!("{:.0} %", x * 100.0);
    if trust == Trust::TooShort {
        return format!(
            "within {within}: the span is shorter than {WINDOWS} windows, so it cannot be told what was needless: \
             choose a longer one with --from"
        );
    }
    let s = |n: usize| if n == 1 { "" } else { "s" };
    if failures == 0 {
        return format!(
            "within {within}: no failure is recorded in this span, so no threshold can be recommended; record \
             failures with `foreshift failures add` or pass --failures FILE"
        );
    }
    if !pays {
        return format!(
            "within {within}: no threshold costs less than doing nothing on {failures} failure{}: do not act on \
             this window alone",
            s(failures)
        );
    }
    let figures = format!(
        "{} of {failures} caught, {} needless, cost {:.1} (configured {}: {:.1}; doing nothing: {:.1})",
        best.tally.caught,
        best.tally.needless,
        best.tally.cost,
        percent(configured.threshold),
        configured.tally.cost,
        best.tally.cost_of_nothing
    );
    let threshold = percent(best.threshold);
    match trust {
        Trust::TooShort | Trust::TooFew => format!(
            "within {within}: TOO FEW FAILURES to recommend anything: {failures} of at least {FEW}. On these \
             alone {threshold} would have cost least ({figures}); the next {FEW} may say otherwise"
        ),
        Trust::Rough => format!(
            "within {within}: {threshold}, roughly, from {failures} failures ({FAIR} would be fair): {figures}"
        ),
        Trust::Fair => format!("within {within}: {threshold}, from {failures} failures: {figures}"),
    }
}

/// The index of the least cost; of equal ones the middle, which is furthest from being wrong.
fn cheapest(costs: &[f64]) -> usize {
    let least = costs.iter().copied().fold(f64::INFINITY, f64::min);
    let equal: Vec<usize> = (0..costs.len()).filter(|i| costs[*i] <= least + 1e-9).collect();
    equal[equal.len() / 2]
}

/// 95 % interval of a share (Wilson 1927, score interval).
fn wilson(hits: usize, of: usize) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let (n, z) = (of as f64, 1.959_964);
    let p = hits as f64 / n;
    let middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// Where the cheapest threshold lies when the failures are drawn anew, with replacement, from those that
/// there were (bootstrap, Efron 1979): the 5 % and 95 % quantiles. Moves in vain stay as they are.
fn drawn_anew(curve: &Curve, truth: &Truth, rates: &Rates) -> (f64, f64) {
    let failures: Vec<_> = truth.failures().collect();
    // [threshold][failure]: what it costs there.
    let costs: Vec<(f64, Vec<f64>)> = curve
        .points
        .iter()
        .map(|point| {
            let calls = Calls::of(&point.calls);
            let of = |failure: &&super::truth::Incident| {
                let saved = calls.saved(failure, truth, rates.least_lead);
                let called = failure
                    .partitions
                    .iter()
                    .filter(|p| calls.before(p, failure.at, truth).is_some())
                    .count();
                rates.move_cost * called as f64 + rates.crash_cost * (saved.of - saved.in_time) as f64
            };
            let vain = |c: &&super::calls::Call| {
                matches!(judge(c, truth, rates.least_lead), Verdict::Needless | Verdict::Undecided)
            };
            let needless = point.calls.iter().filter(vain).count();
            (rates.move_cost * needless as f64, failures.iter().map(of).collect())
        })
        .collect();
    let mut random = Random::new(1).fork("failures drawn anew");
    let mut best: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let drawn: Vec<usize> = (0..failures.len()).map(|_| random.below(failures.len())).collect();
            let sums: Vec<f64> =
                costs.iter().map(|(fixed, own)| fixed + drawn.iter().map(|i| own[*i]).sum::<f64>()).collect();
            curve.points[cheapest(&sums)].threshold
        })
        .collect();
    best.sort_by(f64::total_cmp);
    (quantile(&best, 0.05).unwrap_or(0.0), quantile(&best, 0.95).unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use super::super::calls::tests::{call, incident, minute};
    use super::super::tally::tally;
    use super::*;
    use crate::predict::Outcome;

    /// Every partition `f0` … fails at minute 100; the low threshold calls all of them and `wrong` others
    /// at minute 80, the middle one all of them at 90, the high one none.
    fn curve(failures: usize, wrong: usize) -> (Curve, Truth) {
        let truth = Truth::new(
            (0..failures).map(|i| incident(&format!("f{i}"), 100, Outcome::Failed)).collect(),
            minute(10_000),
        );
        let right = |at: i64| (0..failures).map(move |i| call(&format!("f{i}"), at));
        let sets = [
            (0.1, right(80).chain((0..wrong).map(|i| call(&format!("w{i}"), 80))).collect::<Vec<_>>()),
            (0.5, right(90).collect()),
            (0.9, Vec::new()),
        ];
        let points = sets.into_iter().map(|(threshold, calls)| Point {
            threshold,
            configured: threshold == 0.9,
            tally: tally(&calls, &truth, &Rates::default()),
            calls,
        });
        (Curve { within: Span::minutes(15), points: points.collect() }, truth)
    }

    #[test]
    fn the_cheapest_is_recommended_where_there_are_failures_enough() {
        let (curve, truth) = curve(12, 5);
        let found = recommend(&curve, &truth, Span::days(7), &Rates::default());
        assert_eq!((found.threshold, found.trust, found.failures), (Some(0.5), Trust::Rough, 12));
        assert_eq!((found.cost, found.cost_configured, found.cost_of_nothing), (12.0, 120.0, 120.0));
        assert_eq!((found.caught, found.between), (12, Some((0.5, 0.5))));
        assert!(found.caught_interval.0 > 0.7 && found.caught_interval.1 == 1.0);
    }

    #[test]
    fn two_failures_recommend_nothing_and_say_so() {
        let (curve, truth) = curve(2, 5);
        let found = recommend(&curve, &truth, Span::days(7), &Rates::default());
        assert_eq!((found.threshold, found.cheapest, found.trust), (None, Some(0.5), Trust::TooFew));
        assert!(found.words.contains("TOO FEW FAILURES") && found.words.contains("2 of at least 10"));
        assert!(found.caught_interval.0 < 0.35, "two of two is no proof: {:?}", found.caught_interval);
    }

    #[test]
    fn where_nothing_failed_or_moving_costs_more_than_crashing_nothing_is_recommended() {
        let (quiet, truth) = curve(0, 3);
        let found = recommend(&quiet, &truth, Span::days(7), &Rates::default());
        assert_eq!((found.threshold, found.cheapest), (None, None));
        assert!(found.words.contains("no failure is recorded"), "{}", found.words);
        let (mut dear, truth) = curve(40, 3);
        let rates = Rates { move_cost: 20.0, ..Rates::default() };
        dear.points.iter_mut().for_each(|p| p.tally = tally(&p.calls, &truth, &rates));
        let found = recommend(&dear, &truth, Span::days(7), &rates);
        assert_eq!((found.threshold, found.trust), (None, Trust::Fair));
        assert!(found.words.contains("doing nothing"), "{}", found.words);
    }

    #[test]
    fn a_span_of_a_few_windows_recommends_nothing_however_many_failures_it_has() {
        let (curve, truth) = curve(40, 3);
        let found = recommend(&curve, &truth, Span::minutes(59), &Rates::default());
        assert_eq!((found.threshold, found.trust), (None, Trust::TooShort));
        assert!(found.words.contains("shorter than 4 windows"), "{}", found.words);
    }

    #[test]
    fn of_equal_costs_the_middle_is_taken_and_wilson_is_wilson() {
        assert_eq!(cheapest(&[3.0, 1.0, 1.0, 1.0, 2.0]), 2);
        let (low, high) = wilson(8, 10);
        assert!((low - 0.490).abs() < 0.001 && (high - 0.943).abs() < 0.001, "{low} {high}");
    }
}
