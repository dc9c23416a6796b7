//! The measures of one test: of the rows, and of the actions.

use std::collections::BTreeMap;

use super::actions::{Actions, Track, act};
use crate::eval::measures::{auc_pr, auc_roc, brier, brier_skill, expected_calibration_error};

/// Bins of the calibration error.
const BINS: usize = 10;

/// Thresholds that were chosen on validation.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Best F1 of rows; precision and recall are told there.
    pub row: f64,
    /// For acting.
    pub act: f64,
}

/// The row threshold with the best F1.
pub fn best_row_threshold(probabilities: &[f64], truth: &[bool]) -> f64 {
    let mut pairs: Vec<(f64, bool)> = probabilities.iter().copied().zip(truth.iter().copied()).collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = pairs.iter().filter(|p| p.1).count() as f64;
    let (mut best, mut hits) = ((0.0, 0.5), 0.0);
    for (at, &(p, y)) in pairs.iter().enumerate() {
        hits += f64::from(u8::from(y));
        let f1 = 2.0 * hits / (at as f64 + 1.0 + positives);
        if f1 > best.0 {
            best = (f1, p);
        }
    }
    best.1
}

/// Measures that say nothing where nothing failed.
const OF_FAILURES: [&str; 6] = ["auprc", "auroc", "brier_skill", "recall", "lead_median", "lead_p10"];

/// All measures of a test; without a failure, those that need none.
pub fn judge(
    probabilities: &[f64],
    truth: &[bool],
    tracks: &[Track],
    thresholds: Thresholds,
    horizon: usize,
) -> BTreeMap<String, f64> {
    let shown: Vec<bool> = probabilities.iter().map(|&p| p >= thresholds.row).collect();
    let hits = shown.iter().zip(truth).filter(|&(&s, &t)| s && t).count() as f64;
    let said = shown.iter().filter(|&&s| s).count() as f64;
    let real = truth.iter().filter(|&&t| t).count() as f64;
    let share = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    let done: Actions = act(tracks, thresholds.act, horizon);
    [
        ("rows", truth.len() as f64),
        ("base_rate", share(real, truth.len() as f64)),
        ("auprc", auc_pr(probabilities, truth)),
        ("auroc", auc_roc(probabilities, truth)),
        ("brier", brier(probabilities, truth)),
        ("brier_skill", brier_skill(probabilities, truth)),
        ("ece", expected_calibration_error(probabilities, truth, BINS)),
        ("precision", share(hits, said)),
        ("recall", share(hits, real)),
        ("units", done.units as f64),
        ("units_caught", done.units_caught as f64),
        ("lead_median", done.lead_quantile(0.5)),
        ("lead_p10", done.lead_quantile(0.1)),
        ("actions", done.actions as f64),
        ("false_actions", done.false_actions as f64),
        ("early_actions", done.early_actions as f64),
        ("unknown_actions", done.unknown_actions as f64),
        ("threshold", thresholds.act),
    ]
    .into_iter()
    .filter(|(name, _)| real > 0.0 || !OF_FAILURES.contains(name))
    .map(|(name, value)| (name.to_string(), value))
    .collect()
}
