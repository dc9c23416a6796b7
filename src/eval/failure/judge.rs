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

/// All measures of a test; NaN where there is nothing to measure: no failure, no row without one, nothing said,
/// nobody caught.
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
    let share = |a: f64, b: f64| if b > 0.0 { a / b } else { f64::NAN };
    let if_any = |value: f64| if real > 0.0 { value } else { f64::NAN };
    // Both kinds of row must be there to tell them apart.
    let if_both = |value: f64| if real < truth.len() as f64 { if_any(value) } else { f64::NAN };
    let done: Actions = act(tracks, thresholds.act, horizon);
    [
        ("rows", truth.len() as f64),
        ("base_rate", share(real, truth.len() as f64)),
        ("auprc", if_any(auc_pr(probabilities, truth))),
        ("auroc", if_both(auc_roc(probabilities, truth))),
        ("brier", brier(probabilities, truth)),
        ("brier_skill", if_both(brier_skill(probabilities, truth))),
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
    .map(|(name, value)| (name.to_string(), value))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_measured_is_no_number() {
        let at = Thresholds { row: 0.5, act: 0.5 };
        let track =
            |p: f64| Track { probabilities: vec![p; 4], left: vec![None; 4], seen: vec![40; 4], run_in: 0 };
        let m = judge(&[0.1; 4], &[false; 4], &[track(0.1)], at, 30);
        let of_failures = ["auprc", "auroc", "brier_skill", "recall", "lead_median", "lead_p10", "precision"];
        for name in of_failures {
            assert!(m[name].is_nan(), "{name} {}", m[name]);
        }
        assert!(m["base_rate"] == 0.0 && m["false_actions"] == 0.0 && m["rows"] == 4.0, "{m:?}");
        let quiet = judge(&[0.1; 4], &[false, false, false, true], &[track(0.1)], at, 30);
        assert!(quiet["precision"].is_nan() && quiet["recall"] == 0.0, "nothing was said: {quiet:?}");
    }
}
