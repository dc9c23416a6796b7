//! The training range of what a model reads: whoever feeds it something else gets a probability that
//! nobody has checked.

use serde::{Deserialize, Serialize};

use crate::predict::models::matrix::FeatureMatrix;

/// Of the training rows, the lowest and the highest thousandth lie outside.
const TAIL: f64 = 0.001;
/// A range is this share of its width wider on both sides before something counts as outside.
const MARGIN: f32 = 0.05;
/// Rows that the quantiles are taken from at most, evenly spaced.
const MOST: usize = 100_000;

/// One range a feature, in the order of the features; NaN = it was always missing.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Ranges {
    low: Vec<f32>,
    high: Vec<f32>,
}

impl Ranges {
    /// From the lowest to the highest thousandth of each feature.
    pub fn of(rows: &FeatureMatrix) -> Self {
        let every = rows.rows().div_ceil(MOST).max(1);
        let mut out = Self::default();
        let mut column = Vec::new();
        for feature in 0..rows.width() {
            column.clear();
            let all = (0..rows.rows()).step_by(every).map(|r| rows.row(r)[feature]);
            column.extend(all.filter(|x| x.is_finite()));
            column.sort_unstable_by(f32::total_cmp);
            let last = column.len().saturating_sub(1) as f64;
            let at = |share: f64| column.get((share * last).round() as usize).copied().unwrap_or(f32::NAN);
            // Four digits are enough, and a card is read by people.
            let short = |x: f32| format!("{x:.3e}").parse().unwrap_or(f32::NAN);
            out.low.push(short(at(TAIL)));
            out.high.push(short(at(1.0 - TAIL)));
        }
        out
    }

    /// These.
    pub fn new(low: Vec<f32>, high: Vec<f32>) -> Self {
        Self { low, high }
    }

    /// Number of features.
    pub fn width(&self) -> usize {
        self.low.len().min(self.high.len())
    }

    /// Share of the features of a row that lie outside, of those that are there; `None` where none is.
    pub fn outside(&self, row: &[f32]) -> Option<f64> {
        let (mut there, mut outside) = (0u32, 0u32);
        for ((x, low), high) in row.iter().zip(&self.low).zip(&self.high) {
            if x.is_nan() || low.is_nan() {
                continue;
            }
            let margin = MARGIN * (high - low) + 1e-3;
            there += 1;
            outside += u32::from(*x < low - margin || *x > high + margin);
        }
        (there > 0).then(|| f64::from(outside) / f64::from(there))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_lies_inside_and_what_was_not_outside() {
        let mut rows = FeatureMatrix::empty(3);
        for i in 0..5000 {
            rows.push(&[(i % 100) as f32, f32::NAN, 1.0]);
        }
        let ranges = Ranges::of(&rows);
        assert_eq!(ranges.outside(&[50.0, 7.0, 1.0]), Some(0.0), "what was never there says nothing");
        assert_eq!(ranges.outside(&[300.0, f32::NAN, 1.0]), Some(0.5));
        assert_eq!(ranges.outside(&[-9.0, f32::NAN, 2.0]), Some(1.0));
        assert_eq!(ranges.outside(&[f32::NAN; 3]), None);
        let text = toml::to_string(&ranges).unwrap();
        let back: Ranges = toml::from_str(&text).unwrap();
        assert_eq!(back.outside(&[300.0, f32::NAN, 1.0]), Some(0.5), "{text}");
    }
}
