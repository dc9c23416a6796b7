//! Margins → probabilities that can be taken at their word: Platt scaling (Platt 1999) or isotonic
//! regression (Zadrozny and Elkan 2002, by pool adjacent violators) on units that were held back.

use serde::{Deserialize, Serialize};

/// A monotone map from margin to probability.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "method")]
pub enum Calibrator {
    /// `1 / (1 + exp(−(slope × margin + offset)))`.
    Platt {
        /// Above 0.
        slope: f64,
        /// Log-odds at margin 0.
        offset: f64,
    },
    /// Straight lines between points, level beyond them, with a slight slope everywhere so that the
    /// order of margins is kept.
    Isotonic {
        /// Ascending.
        margins: Vec<f64>,
        /// Probabilities at these, ascending.
        probabilities: Vec<f64>,
    },
}

impl Default for Calibrator {
    /// The margin is taken as log-odds.
    fn default() -> Self {
        Self::Platt { slope: 1.0, offset: 0.0 }
    }
}

/// No probability is shown nearer to 0 or 1 than this.
const EDGE: f64 = 1e-6;

impl Calibrator {
    /// The probability of a margin; NaN stays NaN.
    pub fn probability(&self, margin: f64) -> f64 {
        match self {
            Self::Platt { slope, offset } => sigmoid(slope * margin + offset).clamp(EDGE, 1.0 - EDGE),
            Self::Isotonic { margins, probabilities } => {
                if margin.is_nan() {
                    return f64::NAN;
                }
                let p = interpolate(margins, probabilities, margin);
                // The slight slope: a thousandth of the way to what the margin alone would say.
                (0.999 * p + 0.001 * sigmoid(margin)).clamp(EDGE, 1.0 - EDGE)
            }
        }
    }

    /// Fits Platt's two numbers by Newton's method on labels smoothed as in Platt 1999, eq. 2. The
    /// slope stays above 0; without both kinds of label the margin is taken as log-odds.
    pub fn platt(margins: &[f64], labels: &[bool]) -> Self {
        Self::platt_weighted(margins, labels, &[])
    }

    /// As [`Calibrator::platt`], each row counting as its weight (as 1 where there is none).
    pub fn platt_weighted(margins: &[f64], labels: &[bool], weights: &[f32]) -> Self {
        let weight = |row: usize| weights.get(row).map_or(1.0, |&w| f64::from(w));
        let total: f64 = (0..labels.len()).map(weight).sum();
        let positives: f64 = (0..labels.len()).filter(|&r| labels[r]).map(weight).sum();
        let negatives = total - positives;
        if positives < 1e-9 || negatives < 1e-9 {
            return Self::default();
        }
        let high = (positives + 1.0) / (positives + 2.0);
        let low = 1.0 / (negatives + 2.0);
        let (mut slope, mut offset) = (1.0f64, 0.0f64);
        let loss = |slope: f64, offset: f64| -> f64 {
            margins
                .iter()
                .zip(labels)
                .enumerate()
                .map(|(row, (m, &y))| {
                    let (z, t) = (slope * m + offset, if y { high } else { low });
                    weight(row) * (z.max(0.0) + (-z.abs()).exp().ln_1p() - t * z)
                })
                .sum()
        };
        let mut best = loss(slope, offset);
        for _ in 0..100 {
            let (mut g, mut h) = ([0f64; 2], [1e-9, 0.0, 1e-9]);
            for (row, (&m, &y)) in margins.iter().zip(labels).enumerate() {
                let p = sigmoid(slope * m + offset);
                let d = weight(row) * (p - if y { high } else { low });
                let w = weight(row) * p * (1.0 - p);
                g[0] += d * m;
                g[1] += d;
                h[0] += w * m * m;
                h[1] += w * m;
                h[2] += w;
            }
            let det = h[0] * h[2] - h[1] * h[1];
            if det.abs() < 1e-12 {
                break;
            }
            let step = [(h[2] * g[0] - h[1] * g[1]) / det, (h[0] * g[1] - h[1] * g[0]) / det];
            let mut share = 1.0;
            while share > 1e-6 {
                let tried = ((slope - share * step[0]).max(1e-3), offset - share * step[1]);
                let got = loss(tried.0, tried.1);
                if got < best {
                    ((slope, offset), best) = (tried, got);
                    break;
                }
                share /= 2.0;
            }
            if share <= 1e-6 {
                break;
            }
        }
        Self::Platt { slope, offset }
    }

    /// Fits isotonic regression: blocks of equal probability, joined by straight lines between their
    /// mean margins.
    pub fn isotonic(margins: &[f64], labels: &[bool]) -> Self {
        let mut pairs: Vec<(f64, f64)> = margins
            .iter()
            .zip(labels)
            .filter(|(m, _)| m.is_finite())
            .map(|(&m, &y)| (m, f64::from(u8::from(y))))
            .collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        // (sum of margins, sum of labels, count)
        let mut blocks: Vec<(f64, f64, f64)> = Vec::new();
        for (m, y) in pairs {
            blocks.push((m, y, 1.0));
            while let [.., a, b] = blocks[..] {
                if a.1 / a.2 < b.1 / b.2 {
                    break;
                }
                blocks.truncate(blocks.len() - 2);
                blocks.push((a.0 + b.0, a.1 + b.1, a.2 + b.2));
            }
        }
        if blocks.len() < 2 {
            return Self::platt(margins, labels);
        }
        Self::Isotonic {
            margins: blocks.iter().map(|b| b.0 / b.2).collect(),
            probabilities: blocks.iter().map(|b| b.1 / b.2).collect(),
        }
    }

    /// What is wrong with numbers that came from a file.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Platt { slope, offset } if *slope > 0.0 && slope.is_finite() && offset.is_finite() => {
                Ok(())
            }
            Self::Platt { slope, offset } => {
                Err(format!("platt: expected a slope above 0 and a finite offset, got {slope} and {offset}"))
            }
            Self::Isotonic { margins, probabilities } => {
                let ascending = |v: &[f64]| v.windows(2).all(|w| w[0] <= w[1]);
                let good = margins.len() == probabilities.len()
                    && margins.len() >= 2
                    && ascending(margins)
                    && ascending(probabilities)
                    && margins.iter().all(|m| m.is_finite())
                    && probabilities.iter().all(|p| (0.0..=1.0).contains(p));
                good.then_some(()).ok_or_else(|| {
                    "isotonic: expected two or more ascending margins with ascending probabilities".into()
                })
            }
        }
    }
}

/// `1 / (1 + exp(−x))`.
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn interpolate(xs: &[f64], ys: &[f64], x: f64) -> f64 {
    let above = xs.partition_point(|&k| k < x);
    match above {
        0 => ys.first().copied().unwrap_or(f64::NAN),
        n if n == xs.len() => ys[n - 1],
        n => {
            let width = xs[n] - xs[n - 1];
            let share = if width > 0.0 { (x - xs[n - 1]) / width } else { 1.0 };
            ys[n - 1] + share * (ys[n] - ys[n - 1])
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fleet::rng::Random;

    fn sample(count: usize, seed: u64) -> (Vec<f64>, Vec<bool>) {
        let mut random = Random::new(seed);
        let margins: Vec<f64> = (0..count).map(|_| 2.0 * random.normal() - 1.0).collect();
        let labels = margins.iter().map(|m| random.chance(sigmoid(0.5 * m - 1.0))).collect();
        (margins, labels)
    }

    #[test]
    fn overconfident_margins_are_brought_to_their_true_frequency() {
        let (margins, labels) = sample(40_000, 1);
        let Calibrator::Platt { slope, offset } = Calibrator::platt(&margins, &labels) else {
            panic!("platt")
        };
        assert!((slope - 0.5).abs() < 0.05 && (offset + 1.0).abs() < 0.05, "{slope} {offset}");
        let isotonic = Calibrator::isotonic(&margins, &labels);
        for m in [-3.0, -1.0, 0.0, 1.0, 2.5] {
            let want = sigmoid(0.5 * m - 1.0);
            assert!((isotonic.probability(m) - want).abs() < 0.05, "at {m}");
        }
        isotonic.check().unwrap();
    }

    #[test]
    fn one_kind_of_label_leaves_the_margin_as_it_is() {
        assert_eq!(Calibrator::platt(&[1.0, 2.0], &[false, false]), Calibrator::default());
        assert_eq!(Calibrator::isotonic(&[], &[]), Calibrator::default());
        assert!(Calibrator::default().probability(f64::NAN).is_nan());
    }

    proptest! {
        #[test]
        fn a_greater_margin_never_gives_a_lesser_probability(
            seed in 0u64..500, a in -50.0f64..50.0, b in -50.0f64..50.0,
        ) {
            let (margins, labels) = sample(60, seed);
            for c in [Calibrator::platt(&margins, &labels), Calibrator::isotonic(&margins, &labels)] {
                let (low, high) = (c.probability(a.min(b)), c.probability(a.max(b)));
                prop_assert!(low <= high && (0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
            }
        }
    }
}
