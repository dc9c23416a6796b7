//! The tail vote: how far each metric stands in the tail of its own range, as −log10 of its two-sided
//! empirical tail probability, and further by the distance beyond what was ever seen. The vote of a row is
//! the mean over its metrics: many metrics slightly out count as much as one far out.

use serde::{Deserialize, Serialize};

use super::scaler::{quantile, sorted_sample};

/// Tail probabilities on each side at which the value is remembered; outside the outermost is beyond what
/// was seen.
const TAILS: [f64; 4] = [0.05, 0.01, 0.001, 0.0];
/// −log10 of the two-sided probability at those knots (the extreme counts as one in 20,000).
const VOTES: [f32; 4] = [1.0, 1.7, 2.7, 4.3];
/// Votes for each range width beyond the extreme, and how far that goes.
const BEYOND: f32 = 4.0;
const MOST: f32 = 3.0;
const KNOTS: usize = TAILS.len();

/// Both tails of every metric, in z units: `[low knots…, high knots…]` from the middle outwards.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Tails {
    knots: Vec<[f32; 2 * KNOTS]>,
}

impl Tails {
    /// Learns from `[metric][time]` in z units.
    pub(super) fn fit(columns: &[Vec<f32>]) -> Tails {
        let knots = columns
            .iter()
            .map(|column| {
                let sorted = sorted_sample(column);
                let mut one = [0.0; 2 * KNOTS];
                if sorted.is_empty() {
                    return one;
                }
                for (k, tail) in TAILS.iter().enumerate() {
                    one[k] = quantile(&sorted, *tail);
                    one[KNOTS + k] = quantile(&sorted, 1.0 - tail);
                }
                let ends = column.iter().filter(|v| v.is_finite());
                one[KNOTS - 1] = ends.clone().copied().fold(one[KNOTS - 1], f32::min);
                one[2 * KNOTS - 1] = ends.copied().fold(one[2 * KNOTS - 1], f32::max);
                one
            })
            .collect();
        Tails { knots }
    }

    /// The vote of one z-score of one metric: 0 in the middle 90 %.
    #[inline]
    pub(super) fn vote(&self, metric: usize, z: f32) -> f32 {
        let k = &self.knots[metric];
        let width = (k[2 * KNOTS - 1] - k[KNOTS - 1]).max(1.0);
        side(&[-k[0], -k[1], -k[2], -k[3]], -z, width) + side(&[k[4], k[5], k[6], k[7]], z, width)
    }
}

/// One side: piecewise linear through the votes, then linear beyond the extreme. Written as a sum of clamped
/// ramps so that it has no branch.
#[inline]
fn side(knots: &[f32; KNOTS], z: f32, width: f32) -> f32 {
    let mut vote = 0.0;
    let mut from = 0.0;
    for k in 1..KNOTS {
        let span = (knots[k] - knots[k - 1]).max(0.05);
        vote += ((z - knots[k - 1]) / span).clamp(0.0, 1.0) * (VOTES[k] - from);
        from = VOTES[k];
    }
    vote + ((z - knots[KNOTS - 1]) / width).clamp(0.0, MOST / BEYOND * 2.0) * BEYOND
}
