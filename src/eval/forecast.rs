//! Forecasts held to the M4 competition's hourly series: sMAPE, MASE and OWA against Naive2, and whether
//! the 80 % and 95 % intervals hold what they say.

use std::path::Path;
use std::time::Instant;

use super::{
    datasets::{self, m4::M4Series},
    error::EvalError,
    measures::{coverage, mase, mase_scale, naive2, smape},
    report::{Report, SeriesReport},
};
use crate::predict::forecast::{Method, Network, Seasons, Shape, before_backtest, outlook};
use crate::predict::models::lstm::train::Training;

/// A day.
const SEASON: usize = 24;

/// How the network of all series is trained: 128,000 windows, whatever the series. Chosen with [`BATCHES`] and
/// [`Shape::HOURLY`] on the last 48 hours of the M4 hourly *training* series.
const TRAINING: Training = Training { hidden: 32, epochs: 10, batch: 64, steps: 0, rate: 5e-3, seed: 0 };
/// Batches an epoch.
const BATCHES: usize = 200;

/// Hours that M4 asks for.
const HORIZON: usize = 48;

/// Every series in `data`, forecast over `horizon` steps (M4's 48 where none is asked for) or as far as its
/// truth goes.
pub fn m4(data: &Path, horizon: Option<usize>) -> Result<Report, EvalError> {
    let mut series = Vec::new();
    let mut sums = [0.0; 8];
    // series that have a MASE, and those that have not
    let (mut scaled, mut unscaled) = (0.0, Vec::new());
    let datasets::Found { all, skipped } = datasets::m4::read(data)?;
    let longest = all.iter().map(|s| s.test.len()).max().unwrap_or(0);
    let horizon = horizon.unwrap_or(HORIZON.min(longest));
    if horizon > longest {
        return Err(EvalError::Unusable {
            name: format!("--horizon {horizon}"),
            reason: format!("Hourly-test.csv has {longest} values a series: give {longest} or less"),
        });
    }
    let mut notes = vec![
        "owa over all is that of the mean sMAPE and MASE, as in M4".to_owned(),
        "the LSTM is one for all series, trained once before, on what lies before the backtest of each"
            .to_owned(),
    ];
    for one in all.iter().filter(|s| s.test.len() < horizon) {
        notes.push(format!("{}: judged over the {} hours that its test line has", one.name, one.test.len()));
    }
    let begun = Instant::now();
    let network = network_of(&all, horizon);
    let network_s = begun.elapsed().as_secs_f64();
    // series in which the LSTM joined the median, and in which it speaks alone
    let mut chosen = [0.0; 2];
    for one in all {
        let ahead = horizon.min(one.test.len());
        let truth = &one.test[..ahead];
        let started = Instant::now();
        let seen =
            outlook(&one.train, Seasons::HOURLY, ahead, &Method::SEASONAL, network.as_ref()).ok_or_else(
                || EvalError::Unusable { name: one.name.clone(), reason: "an empty series".to_owned() },
            )?;
        if seen.method.contains("LSTM") {
            chosen[usize::from(seen.method.starts_with("LSTM"))] += 1.0;
        }
        let (low80, high80) = seen.band(0.8);
        let (low95, high95) = seen.band(0.95);
        let seconds = started.elapsed().as_secs_f64();
        let scale = mase_scale(&one.train, SEASON);
        let reference = naive2(&one.train, SEASON, ahead);
        let (ours, theirs) = (smape(truth, &seen.median), smape(truth, &reference));
        let (our_mase, their_mase) = (mase(truth, &seen.median, scale), mase(truth, &reference, scale));
        let (in80, in95) = (coverage(truth, &low80, &high80), coverage(truth, &low95, &high95));
        if our_mase.is_nan() {
            unscaled.push(one.name.clone());
        } else {
            scaled += 1.0;
        }
        let held = |v: f64| if v.is_nan() { 0.0 } else { v };
        let (held_mase, their_held) = (held(our_mase), held(their_mase));
        let all = [ours, held_mase, theirs, their_held, in80, in95, seconds, one.train.len() as f64];
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
    if !unscaled.is_empty() {
        notes.push(format!(
            "{}: no MASE and no OWA, and not in their means: the seasonal naive forecast makes no error there, or there \
             are not more than {SEASON} hours to train on",
            unscaled.join(", ")
        ));
    }
    let mean = vec![
        ("smape", sums[0] / count),
        ("mase", sums[1] / scaled),
        ("owa", owa(sums[0] / count, sums[1] / scaled, sums[2] / count, sums[3] / scaled)),
        ("coverage_80", sums[4] / count),
        ("coverage_95", sums[5] / count),
        ("naive2_smape", sums[2] / count),
        ("naive2_mase", sums[3] / scaled),
        ("fit_and_forecast_points_per_s", sums[7] / sums[6].max(1e-9)),
        ("with_network_training_points_per_s", sums[7] / (sums[6] + network_s).max(1e-9)),
        ("network_train_s", network_s),
        ("lstm_in_the_median", chosen[0] / count),
        ("lstm_alone", chosen[1] / count),
    ];
    Ok(Report {
        task: "forecast",
        format: "m4",
        protocol: format!("hourly, horizon {horizon}, median of a backtested set"),
        series,
        mean,
        oracle: Vec::new(),
        notes,
        skipped,
    })
}

/// One network for all series, trained on what lies before the backtest of each.
fn network_of(all: &[M4Series], horizon: usize) -> Option<Network> {
    let past: Vec<Vec<f32>> = all
        .iter()
        .map(|one| {
            let ahead = horizon.min(one.test.len());
            one.train[..before_backtest(one.train.len(), ahead)].iter().map(|&v| v as f32).collect()
        })
        .collect();
    let past: Vec<&[f32]> = past.iter().map(Vec::as_slice).collect();
    Network::train(&past, Shape::HOURLY, &TRAINING, BATCHES, &mut |_, _, _| {})
}

/// Overall weighted average against Naive2; NaN where that makes no error to be held to.
fn owa(smape: f64, mase: f64, naive_smape: f64, naive_mase: f64) -> f64 {
    let ratio = |a: f64, b: f64| match b {
        _ if a.is_nan() || b.is_nan() => f64::NAN,
        b if b > 0.0 => a / b,
        // Both are perfect.
        _ if a <= 0.0 => 1.0,
        _ => f64::NAN,
    };
    (ratio(smape, naive_smape) + ratio(mase, naive_mase)) / 2.0
}
