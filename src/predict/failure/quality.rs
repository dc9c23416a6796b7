//! How good probabilities are on rows that were held back; what a card says and what challengers are
//! compared by.

use serde::{Deserialize, Serialize};

/// Measures of stated probabilities against what happened.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Quality {
    /// Rows.
    pub rows: usize,
    /// Share of them that failed.
    pub base_rate: f64,
    /// Average precision.
    pub auprc: f64,
    /// Area under the receiver operating characteristic.
    pub auroc: f64,
    /// Mean squared error of the probability.
    pub brier: f64,
    /// `1 − brier / (base_rate × (1 − base_rate))`.
    pub brier_skill: f64,
    /// Expected calibration error over ten bins of equal count.
    pub ece: f64,
}

impl Quality {
    /// Of these probabilities and truths, row by row; NaN probabilities are left out.
    pub fn of(probabilities: &[f64], truth: &[bool]) -> Self {
        let mut pairs: Vec<(f64, bool)> =
            probabilities.iter().copied().zip(truth.iter().copied()).filter(|(p, _)| !p.is_nan()).collect();
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let rows = pairs.len();
        let positives = pairs.iter().filter(|(_, y)| *y).count();
        if rows == 0 {
            return Self::default();
        }
        let base_rate = positives as f64 / rows as f64;
        let label = |y: bool| f64::from(u8::from(y));
        let brier = pairs.iter().map(|&(p, y)| (p - label(y)).powi(2)).sum::<f64>() / rows as f64;
        let reference = base_rate * (1.0 - base_rate);
        let ece = (0..10)
            .map(|bin| &pairs[bin * rows / 10..(bin + 1) * rows / 10])
            .map(|bin| bin.iter().map(|&(p, y)| p - label(y)).sum::<f64>().abs() / rows as f64)
            .sum();
        let (auprc, auroc) = areas(&pairs, positives);
        let brier_skill = if reference > 0.0 { 1.0 - brier / reference } else { 0.0 };
        Self { rows, base_rate, auprc, auroc, brier, brier_skill, ece }
    }

    /// Whether it says more than somebody who always states the base rate.
    pub fn beats_base_rate(&self) -> bool {
        self.brier_skill > 0.0
    }
}

/// Average precision of margins or probabilities.
pub fn average_precision(scores: &[f64], truth: &[bool]) -> f64 {
    let mut pairs: Vec<(f64, bool)> =
        scores.iter().copied().zip(truth.iter().copied()).filter(|(p, _)| !p.is_nan()).collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = pairs.iter().filter(|(_, y)| *y).count();
    areas(&pairs, positives).0
}

/// Areas under precision-recall (as a sum of steps) and under the ROC curve; equal scores count
/// together. `pairs` falls.
fn areas(pairs: &[(f64, bool)], positives: usize) -> (f64, f64) {
    let negatives = pairs.len() - positives;
    if positives == 0 || negatives == 0 {
        return (if positives > 0 { 1.0 } else { 0.0 }, 0.5);
    }
    let (mut hits, mut misses, mut precision, mut roc) = (0f64, 0f64, 0f64, 0f64);
    let mut at = 0;
    while at < pairs.len() {
        let score = pairs[at].0;
        let (mut new_hits, mut new_misses) = (0f64, 0f64);
        while at < pairs.len() && pairs[at].0 == score {
            if pairs[at].1 {
                new_hits += 1.0;
            } else {
                new_misses += 1.0;
            }
            at += 1;
        }
        roc += new_misses * (hits + new_hits / 2.0);
        hits += new_hits;
        misses += new_misses;
        precision += new_hits * hits / (hits + misses);
    }
    (precision / positives as f64, roc / (positives as f64 * negatives as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_order_and_a_blind_one() {
        let truth: Vec<bool> = (0..100).map(|i| i >= 90).collect();
        let perfect = Quality::of(&truth.iter().map(|&y| f64::from(u8::from(y))).collect::<Vec<_>>(), &truth);
        assert_eq!((perfect.auprc, perfect.auroc, perfect.brier_skill), (1.0, 1.0, 1.0));
        let blind = Quality::of(&[0.1; 100], &truth);
        assert!(
            perfect.beats_base_rate() && !blind.beats_base_rate() && !Quality::of(&[], &[]).beats_base_rate()
        );
        assert!((blind.auprc - 0.1).abs() < 1e-12 && (blind.auroc - 0.5).abs() < 1e-12);
        assert!(
            (average_precision(&[0.9, 0.8, 0.7, 0.6], &[true, false, true, false]) - 5.0 / 6.0).abs() < 1e-12
        );
    }
}
