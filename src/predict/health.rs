//! From evidence to scores: penalties that make the health score, and log-odds that make the
//! failure probability. Both are sums over metrics, so each metric's part is exactly what putting
//! it back to its baseline would give.

use crate::fleet::{Probability, Span};

/// Deviations beyond this many robust standard deviations are all the same.
pub const CLIP: f64 = 25.0;
/// Below it a deviation is noise and costs nothing.
const QUIET: f64 = 2.0;
/// Deviations act with this scale: half of the full effect about four deviations further on.
const REACH: f64 = 6.0;
/// Points of health that one metric's deviation can cost at most.
const DEVIATION_POINTS: f64 = 25.0;
/// Points of health that a forecast crossing of a bound costs.
const BREACH_POINTS: f64 = 15.0;
/// Points of health for one unit of log-odds.
const ODDS_POINTS: f64 = 2.5;
/// Log-odds that one metric's deviation can add at most.
const DEVIATION_ODDS: f64 = 5.5;
/// Log-odds that a certain crossing within the window adds.
const BREACH_ODDS: f64 = 3.0;
/// Points and log-odds of one recent failure of its own.
const PAST_POINTS: f64 = 3.0;
const PAST_ODDS: f64 = 0.5;
/// Points for looking like something that failed before.
const ALIKE_POINTS: f64 = 2.5;
/// Failures per hour of a partition with nothing unusual (about one in seven months).
const BASE_RATE_PER_HOUR: f64 = 0.0002;

/// What speaks against one metric of a partition.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Evidence {
    /// Robust standard deviations in the bad direction, 0 to [`CLIP`].
    pub deviation: f64,
    /// Probability that its bound is crossed within the middle window.
    pub breach: f64,
    /// Its weight.
    pub weight: f64,
}

/// The deviation that counts: in the good direction a third of it.
pub fn bad_deviation(z: f64, bad_direction: i8) -> f64 {
    if z.is_nan() {
        return 0.0;
    }
    let bad = match bad_direction {
        0 => z.abs(),
        d if (z > 0.0) == (d > 0) => z.abs(),
        _ => z.abs() / 3.0,
    };
    bad.min(CLIP)
}

fn saturate(deviation: f64) -> f64 {
    1.0 - (-(deviation - QUIET).max(0.0) / REACH).exp()
}

impl Evidence {
    /// Log-odds of failure that it adds in a window within which its bound is crossed with
    /// probability `breach`.
    pub fn odds(&self, breach: f64) -> f64 {
        self.weight * (DEVIATION_ODDS * saturate(self.deviation) + BREACH_ODDS * breach)
    }

    /// Points of health that it costs.
    pub fn points(&self) -> f64 {
        let deviation = DEVIATION_POINTS * saturate(self.deviation);
        self.weight * (deviation + BREACH_POINTS * self.breach) + ODDS_POINTS * self.odds(self.breach)
    }
}

/// Points of health that `count` past failures (fading with time) cost.
pub fn past_points(count: f64) -> f64 {
    count * (PAST_POINTS + ODDS_POINTS * PAST_ODDS)
}

/// Log-odds that they add.
pub fn past_odds(count: f64) -> f64 {
    count * PAST_ODDS
}

/// Points of health for log-odds that no single metric carries: the combined detectors, the likeness to
/// an earlier failure.
pub fn shared_points(odds: f64) -> f64 {
    odds * ALIKE_POINTS
}

/// Log-odds of a finding that is `over` times the strength from which it counts: 0 at once, more with
/// every step, never more than `most`.
pub fn saturated(over: f64, most: f64) -> f64 {
    most * (1.0 - (1.0 - over.max(1.0)).exp())
}

/// Log-odds of failure within `window` with nothing unusual: a constant rate of failures.
pub fn base_odds(window: Span) -> f64 {
    let hours = (window.as_seconds() / 3600.0).max(1e-6);
    let p = (-(-BASE_RATE_PER_HOUR * hours).exp_m1()).clamp(1e-9, 0.5);
    (p / (1.0 - p)).ln()
}

/// The probability of given log-odds.
pub fn probability(odds: f64) -> Probability {
    Probability::clamped(1.0 / (1.0 + (-odds).exp())).unwrap_or(Probability::MIN)
}

/// The instability of a partition from its metrics' deviations: the 4-norm, which follows the
/// worst metric and grows when several are off at once. Returns it and, by `visit`, nothing else:
/// the share of metric m is `d_m⁴ / Σ d⁴` of it.
pub fn instability(deviations: impl Iterator<Item = f64>) -> f64 {
    deviations.map(|d| d.powi(4)).sum::<f64>().sqrt().sqrt()
}

/// What of `points` a part of it is worth once the sum is cut off at 100: exactly what the score
/// would gain without it.
pub fn worth(part: f64, points: f64) -> f64 {
    points.min(100.0) - (points - part).clamp(0.0, 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn more_deviation_never_looks_healthier(a in 0.0..30.0f64, b in 0.0..30.0f64, breach in 0.0..1.0f64) {
            let (low, high) = (a.min(b), a.max(b));
            let at = |deviation| Evidence { deviation, breach, weight: 1.0 };
            prop_assert!(at(low).points() <= at(high).points());
            prop_assert!(at(low).odds(breach) <= at(high).odds(breach));
        }

        #[test]
        fn a_longer_window_never_has_less_base(a in 1i64..10_000_000, b in 1i64..10_000_000) {
            prop_assert!(base_odds(Span(a.min(b))) <= base_odds(Span(a.max(b))));
        }
    }

    #[test]
    fn one_metric_is_a_warning_and_two_are_an_alarm() {
        let one = Evidence { deviation: 14.0, breach: 0.0, weight: 1.0 };
        let hour = base_odds(Span::hours(1));
        assert!((0.005..0.1).contains(&probability(hour + one.odds(0.0)).get()));
        assert!((0.4..0.95).contains(&probability(hour + 2.0 * one.odds(0.0)).get()));
        assert!((25.0..45.0).contains(&(100.0 - 2.0 * one.points())));
    }

    #[test]
    fn a_deviation_to_the_good_side_counts_a_third() {
        assert_eq!(bad_deviation(-9.0, 1), 3.0);
        assert_eq!(bad_deviation(9.0, 1), 9.0);
        assert_eq!(bad_deviation(-9.0, 0), 9.0);
        assert_eq!(bad_deviation(f64::NAN, 1), 0.0);
        assert_eq!(bad_deviation(f64::INFINITY, 1), CLIP);
    }
}
