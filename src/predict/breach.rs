//! How likely a bound is crossed within a window, from a forecast's crossing and its interval.

use super::assessment::Crossing;
use crate::fleet::{Span, Timestamp};

/// Probability that the bound is crossed by `now + window`. The crossing's earliest, median and
/// latest times are read as the 5th, 50th and 95th percentile, linear between them; where the latest
/// is out of sight, it lies as far behind the median again three times as the earliest before it.
pub fn within(crossing: &Crossing, now: Timestamp, window: Span) -> f64 {
    let end = (window.0.max(0)) as f64;
    let from_now = |at: Timestamp| (at - now).0.max(0) as f64;
    let median = from_now(crossing.at);
    let early = from_now(crossing.between.0).min(median);
    let late = crossing.between.1.map_or(median + 3.0 * (median - early), from_now).max(median);
    let points = [(0.0, 0.0), (early, 0.05), (median, 0.5), (late, 0.95)];
    if end >= late {
        // A bound crossed already (all at zero) is certain; beyond the interval 95 % is kept.
        return if late == 0.0 { 1.0 } else { 0.95 };
    }
    for pair in points.windows(2).rev() {
        let ((t0, p0), (t1, p1)) = (pair[0], pair[1]);
        if end >= t0 {
            return if t1 > t0 { p0 + (p1 - p0) * (end - t0) / (t1 - t0) } else { p1 };
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crossing_is_surer_within_a_longer_window() {
        let at = |minutes| Timestamp(Span::minutes(minutes).0);
        let crossing = Crossing { bound: 95.0, at: at(60), between: (at(40), Some(at(120))) };
        let p = |minutes| within(&crossing, Timestamp(0), Span::minutes(minutes));
        assert!(p(15) < 0.03 && (p(60) - 0.5).abs() < 1e-9 && p(1_440) == 0.95);
        assert!((1..200).all(|m| p(m) <= p(m + 1)));
        let passed = Crossing { bound: 95.0, at: at(0), between: (at(0), Some(at(0))) };
        assert_eq!(within(&passed, at(5), Span::minutes(1)), 1.0);
    }
}
