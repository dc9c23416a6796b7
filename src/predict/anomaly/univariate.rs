//! Anomalies of a single series with nothing to train on: the rank tail with a refractory time.
//!
//! A value's score is how far out it ranks among the last `window` values (0 = the median, 1 = an extreme),
//! and more than 1 beyond everything seen, by its distance in units of the seen range. Of a run of high
//! scores only a new record within `refractory` rows is let through, so that one incident is one alarm.

use std::collections::VecDeque;

/// The detector and its state: about 50 KB with the window full.
#[derive(Clone, Debug)]
pub struct RankTail {
    window: usize,
    refractory: usize,
    order: VecDeque<f32>,
    sorted: Vec<f32>,
    /// Falling scores of the last `refractory` rows: (row, score).
    records: VecDeque<(u64, f32)>,
    row: u64,
}

impl RankTail {
    /// Values remembered by default: two weeks and more at three-minute steps.
    pub const WINDOW: usize = 6400;
    /// Rows without a repeated alarm by default.
    pub const REFRACTORY: usize = 50;

    /// `window` values are remembered (at least 2); a score is let through if it is the highest of the
    /// last `refractory` rows.
    pub fn new(window: usize, refractory: usize) -> RankTail {
        RankTail {
            window: window.max(2),
            refractory,
            order: VecDeque::new(),
            sorted: Vec::new(),
            records: VecDeque::new(),
            row: 0,
        }
    }

    /// Takes the next value and gives its score in `[0, 1)`: below 0.5 within the seen range, above beyond
    /// it. NaN and infinite values score 0 and are not remembered.
    pub fn step(&mut self, value: f32) -> f32 {
        self.row += 1;
        if !value.is_finite() {
            return 0.0;
        }
        let tail = self.tail(value);
        self.remember(value);
        let score = tail / (1.0 + tail);
        while self.records.front().is_some_and(|r| r.0 + self.refractory as u64 <= self.row) {
            self.records.pop_front();
        }
        let fresh = self.records.front().is_none_or(|r| score > r.1);
        while self.records.back().is_some_and(|r| r.1 <= score) {
            self.records.pop_back();
        }
        self.records.push_back((self.row, score));
        if fresh { score } else { 0.0 }
    }

    fn tail(&self, value: f32) -> f32 {
        let n = self.sorted.len();
        if n < 2 {
            return 0.0;
        }
        let (low, high) = (self.sorted[0], self.sorted[n - 1]);
        let range = (high - low).max(f32::EPSILON * high.abs().max(low.abs()).max(1e-6));
        if value > high {
            return 1.0 + (value - high) / range;
        }
        if value < low {
            return 1.0 + (low - value) / range;
        }
        let below = self.sorted.partition_point(|&v| v < value) as f32;
        let upto = self.sorted.partition_point(|&v| v <= value) as f32;
        let rank = (below + upto) / (2.0 * n as f32);
        (2.0 * rank - 1.0).abs()
    }

    fn remember(&mut self, value: f32) {
        if self.order.len() == self.window
            && let Some(old) = self.order.pop_front()
        {
            let place = self.sorted.partition_point(|&v| v < old);
            self.sorted.remove(place);
        }
        self.order.push_back(value);
        let place = self.sorted.partition_point(|&v| v < value);
        self.sorted.insert(place, value);
    }
}

/// Scores a whole series with the default window and refractory time.
pub fn score_series(values: &[f32]) -> Vec<f32> {
    let mut detector = RankTail::new(RankTail::WINDOW, RankTail::REFRACTORY);
    values.iter().map(|&v| detector.step(v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_beyond_the_range_stands_out_and_is_said_once() {
        let mut values: Vec<f32> = (0..500).map(|i| (i % 24) as f32).collect();
        values[400] = 100.0;
        values[401] = 90.0;
        values[300] = f32::NAN;
        let scores = score_series(&values);
        assert!(scores[400] > 0.7, "{}", scores[400]);
        assert_eq!(scores[401], 0.0, "the same incident is not said twice");
        assert!(scores[100..400].iter().all(|&s| s < 0.51));
    }

    #[test]
    fn a_flat_line_says_nothing() {
        assert!(score_series(&[3.0; 100]).iter().all(|&s| s == 0.0));
    }
}
