//! Is there time? The probability that a move is done before its source fails.

use crate::fleet::{Probability, Span};
use crate::predict::FailureForecast;

/// The probability that the partition still lives after `span`, from its probabilities per window:
/// the cumulative hazard is linear between windows (a constant rate in each), and goes on at the
/// last rate behind the last.
pub fn survival(failure: &[FailureForecast], span: Span) -> Probability {
    let t = span.0.max(0) as f64;
    let (mut t0, mut h0, mut rate) = (0.0, 0.0, 0.0);
    for forecast in failure {
        let t1 = forecast.within.0 as f64;
        let h1 = (-(1.0 - forecast.probability.get().min(1.0 - 1e-9)).ln()).max(h0);
        if t1 <= t0 {
            continue;
        }
        rate = (h1 - h0) / (t1 - t0);
        if t <= t1 {
            break;
        }
        (t0, h0) = (t1, h1);
    }
    Probability::clamped((-(h0 + rate * (t - t0))).exp()).unwrap_or(Probability::MIN)
}

/// When each of the moves of `durations`, started in this order on `lanes` lanes, is done.
pub fn finish_times(durations: &[Span], lanes: u32) -> Vec<Span> {
    let mut free = vec![Span::ZERO; lanes.max(1) as usize];
    durations
        .iter()
        .map(|&duration| {
            let lane = (0..free.len()).min_by_key(|&l| free[l]).unwrap_or(0);
            free[lane] = free[lane] + duration.max(Span::ZERO);
            free[lane]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::Calibration;

    fn failure(parts: &[(i64, f64)]) -> Vec<FailureForecast> {
        parts
            .iter()
            .map(|&(m, p)| FailureForecast {
                within: Span::minutes(m),
                probability: Probability::new(p).unwrap(),
                calibration: Calibration::Uncalibrated,
            })
            .collect()
    }

    #[test]
    fn survival_meets_the_windows_and_falls_between_them() {
        let curve = failure(&[(15, 0.12), (60, 0.71), (1440, 0.98)]);
        let at = |m| survival(&curve, Span::minutes(m)).get();
        assert!((at(15) - 0.88).abs() < 1e-6 && (at(60) - 0.29).abs() < 1e-6);
        assert!((0..3_000).all(|m| at(m) >= at(m + 1)));
        assert_eq!(at(0), 1.0);
        assert_eq!(survival(&[], Span::hours(9)).get(), 1.0);
    }

    #[test]
    fn moves_queue_on_the_lanes_there_are() {
        let minutes = |m: &[i64]| m.iter().map(|&m| Span::minutes(m)).collect::<Vec<_>>();
        assert_eq!(finish_times(&minutes(&[3, 1, 1]), 2), minutes(&[3, 1, 2]));
        assert_eq!(finish_times(&minutes(&[3, 1]), 0), minutes(&[3, 4]));
    }
}
