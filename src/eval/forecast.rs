//! Forecasts held to the M4 competition's hourly series: sMAPE, MASE and OWA against Naive2, and whether
//! the 80 % and 95 % intervals hold what they say.

use std::path::Path;
use std::time::Instant;

use super::{
    datasets,
    error::EvalError,
    measures::{coverage, mase, mase_scale, naive2, smape},
    report::{Report, SeriesReport},
};
use crate::predict::forecast::{Method, Seasons, outlook};

/// A day.
const SEASON: usize = 24;

/// Every series in `data`, forecast over `horizon` steps (M4: 48) or as far as its truth goes.
pub fn m4(data: &Path, horizon: usize) -> Result<Report, EvalError> {
    let mut series = Vec::new();
    let mut sums = [0.0; 8];
    for one in datasets::m4::read(data)? {
        let ahead = horizon.min(one.test.len());
        let truth = &one.test[..ahead];
        let started = Instant::now();
        let seen = outlook(&one.train, Seasons::HOURLY, ahead, &Method::SEASONAL).ok_or_else(|| {
            EvalError::Unusable { name: one.name.clone(), reason: "an empty series".to_owned() }
        })?;
        let (low80, high80) = seen.band(0.8);
        let (low95, high95) = seen.band(0.95);
        let seconds = started.elapsed().as_secs_f64();
        let scale = mase_scale(&one.train, SEASON);
        let reference = naive2(&one.train, SEASON, ahead);
        let (ours, theirs) = (smape(truth, &seen.median), smape(truth, &reference));
        let (our_mase, their_mase) = (mase(truth, &seen.median, scale), mase(truth, &reference, scale));
        let (in80, in95) = (coverage(truth, &low80, &high80), coverage(truth, &low95, &high95));
        let all = [ours, our_mase, theirs, their_mase, in80, in95, seconds, one.train.len() as f64];
        sums.iter_mut().zip(all).for_each(|(s, v)| *s += v);
        series.push(SeriesReport {
            name: one.name,
            measures: vec![
                ("smape", ours),
                ("mase", our_mase),
                ("owa", owa(ours, our_mase, theirs, their_mase)),
                ("coverage_80", in80),
                ("coverage_95", in95),
            ],
            train_s: seconds,
            score_points_per_s: one.train.len() as f64 / seconds.max(1e-9),
        });
    }
    let count = series.len() as f64;
    let mean = vec![
        ("smape", sums[0] / count),
        ("mase", sums[1] / count),
        ("owa", owa(sums[0], sums[1], sums[2], sums[3])),
        ("coverage_80", sums[4] / count),
        ("coverage_95", sums[5] / count),
        ("naive2_smape", sums[2] / count),
        ("naive2_mase", sums[3] / count),
        ("fit_and_forecast_points_per_s", sums[7] / sums[6].max(1e-9)),
    ];
    Ok(Report {
        task: "forecast",
        format: "m4",
        protocol: format!("hourly, horizon {horizon}, median of a backtested set"),
        series,
        mean,
        oracle: Vec::new(),
        notes: vec!["owa over all is that of the mean sMAPE and MASE, as in M4".to_owned()],
    })
}

/// Overall weighted average against Naive2.
fn owa(smape: f64, mase: f64, naive_smape: f64, naive_mase: f64) -> f64 {
    let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 1.0 };
    (ratio(smape, naive_smape) + ratio(mase, naive_mase)) / 2.0
}
