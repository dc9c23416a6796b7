//! Quality measures: pure functions over scores and truths, each with the protocol it follows. The
//! anomaly measures agree with TSB-AD's own code (version `opt`) on golden cases; the NAB scorer with
//! the formula of numenta/NAB. Point-adjusted F1 is not here on purpose: random scores reach .8 with it.

pub mod affiliation;
pub mod events;
pub mod forecast;
pub mod nab;
pub mod probability;
pub mod ranking;
pub mod vus;

pub use affiliation::affiliation_f;
pub use events::{EventRecall, event_f1, event_recall_at_budget, events_of, false_events, judge_alarms};
pub use forecast::{coverage, mase, mase_scale, naive2, smape};
pub use nab::{NabProfile, NabSeries, nab_score};
pub use probability::{brier, brier_skill, expected_calibration_error};
pub use ranking::{auc_pr, auc_roc, best_f1};
pub use vus::{Vus, autocorrelation_length, vus};

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that TSB-AD's own code gives for six scores, labels and windows.
    #[test]
    fn the_anomaly_measures_agree_with_tsb_ad_on_the_golden_cases() {
        let folder = std::env::var("FORESHIFT_DATA").unwrap_or_else(|_| "../shared/data".to_owned());
        let Ok(text) = std::fs::read_to_string(format!("{folder}/golden/tsbad_metric_cases.json")) else {
            println!("skipped: needs golden/tsbad_metric_cases.json under FORESHIFT_DATA");
            return;
        };
        let cases: serde_json::Value = serde_json::from_str(&text).expect("golden cases are JSON");
        for (k, case) in cases.as_array().expect("a list of cases").iter().enumerate() {
            let number = |name: &str| case[name].as_f64().expect("a number");
            let list = |name: &str| -> Vec<f64> {
                case[name].as_array().expect("a list").iter().filter_map(serde_json::Value::as_f64).collect()
            };
            let score = list("score");
            let truth: Vec<bool> = list("label").iter().map(|&l| l > 0.0).collect();
            let volume = vus(&score, &truth, number("window") as usize, number("thre") as usize);
            for (name, ours) in [
                ("AUC-PR", auc_pr(&score, &truth)),
                ("AUC-ROC", auc_roc(&score, &truth)),
                ("VUS-PR", volume.pr),
                ("VUS-ROC", volume.roc),
                ("Standard-F1", best_f1(&score, &truth)),
                ("Event-based-F1", event_f1(&score, &truth)),
                ("Affiliation-F", affiliation_f(&score, &truth)),
            ] {
                assert!((ours - number(name)).abs() < 1e-9, "case {k}: {name} {ours} ≠ {}", number(name));
            }
        }
    }
}
