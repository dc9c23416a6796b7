//! What a user of the anomaly model may rely on.

use super::{
    error::AnomalyError,
    model::{AnomalyModel, FitOptions, SEQUENCE},
    sequence::Sequencing,
};
use crate::predict::models::lstm::train::Training;

/// Three metrics, the second follows the first; missing values here and there.
fn history(rows: usize) -> Vec<Vec<f32>> {
    let mut seed = 1u64;
    let mut noise = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let mut columns = vec![Vec::new(), Vec::new(), Vec::new()];
    for t in 0..rows {
        let load = 50.0 + 20.0 * (t as f32 / 60.0).sin() + noise();
        columns[0].push(load);
        columns[1].push(if t % 97 == 5 { f32::NAN } else { 2.0 * load + noise() });
        columns[2].push(3.0 + noise());
    }
    columns
}

fn views(columns: &[Vec<f32>]) -> Vec<&[f32]> {
    columns.iter().map(Vec::as_slice).collect()
}

fn rows(columns: &[Vec<f32>]) -> impl Iterator<Item = [f32; 3]> {
    (0..columns[0].len()).map(|t| [columns[0][t], columns[1][t], columns[2][t]])
}

fn fitted(columns: &[Vec<f32>]) -> AnomalyModel {
    AnomalyModel::fit(&views(columns), &FitOptions::default()).expect("fits").0
}

#[test]
fn history_and_stream_give_the_same_scores_and_contributions_sum_to_them() {
    let columns = history(3000);
    let model = fitted(&columns);
    let scores = model.score_columns(&views(&columns)).expect("scores");
    let mut state = model.state();
    let mut parts = [0.0; 3];
    for (t, row) in rows(&columns).take(3000).enumerate() {
        let one = model.score_row(&mut state, &row, &mut parts);
        assert!((one.raw - scores.raw[t]).abs() < 1e-3 * (1.0 + one.raw.abs()), "row {t}");
        assert!((one.smooth - scores.smooth[t]).abs() < 1e-3 * (1.0 + one.smooth.abs()), "row {t}");
        assert!((parts.iter().sum::<f32>() - one.raw).abs() < 1e-4 * (1.0 + one.raw.abs()), "row {t}");
        let smooth: f32 = state.smooth_contributions().iter().sum();
        assert!((smooth - one.smooth).abs() < 1e-3 * (1.0 + one.smooth.abs()), "row {t}");
    }
}

#[test]
fn a_broken_relation_is_seen_although_each_metric_is_in_its_range_and_the_metric_is_named() {
    let columns = history(6000);
    let model = fitted(&columns);
    let mut state = model.state();
    let mut parts = [0.0; 3];
    for row in rows(&columns).take(200) {
        assert!(model.score_row(&mut state, &row, &mut parts).score < 2.0 * model.alarm_level());
    }
    let broken = model.score_row(&mut state, &[columns[0][200], 130.0, columns[2][200]], &mut parts);
    assert!(broken.raw > 2.0 * model.alarm_level(), "{broken:?} {:?}", model.alarm_level());
    assert!(parts[1] > parts[2] && parts[0] + parts[1] > 0.8 * broken.raw, "{parts:?}");
}

#[test]
fn bad_columns_are_refused_and_odd_ones_are_scored() {
    let fit = |c: &[&[f32]]| AnomalyModel::fit(c, &FitOptions::default());
    assert_eq!(fit(&[]).err(), Some(AnomalyError::NoMetric));
    assert!(matches!(fit(&[&[1.0; 50], &[1.0; 40]]), Err(AnomalyError::Ragged { metric: 1, .. })));
    assert!(matches!(fit(&[&[f32::NAN; 50]]), Err(AnomalyError::TooShort { found: 0, .. })));
    // constant, all missing, twice the same: finite scores
    let wave: Vec<f32> = (0..200).map(|i| (i as f32 / 9.0).sin()).collect();
    let columns: [&[f32]; 4] = [&[7.0; 200], &[f32::NAN; 200], &wave, &wave];
    let (model, _) = fit(&columns).expect("fits");
    let scores = model.score_columns(&columns).expect("scores");
    assert!(scores.raw.iter().all(|s| s.is_finite()));
    let mut parts = [0.0; 4];
    let silent = model.score_row(&mut model.state(), &[f32::NAN; 4], &mut parts);
    assert_eq!(silent.present, 0.0, "a row without a value says so");
    let wild = model.score_row(&mut model.state(), &[f32::INFINITY, 1e30, -1e30, 0.0], &mut parts);
    assert!(wild.raw.is_finite() && wild.raw > 1.0);
}

#[test]
fn a_young_partition_leans_on_the_pooled_moments() {
    let old = history(8000);
    let pooled = AnomalyModel::fit(&views(&old), &FitOptions::default()).expect("fits").1;
    let young: Vec<Vec<f32>> = old.iter().map(|c| c[..240].to_vec()).collect();
    let options = FitOptions { pooled: Some(&pooled), ..FitOptions::default() };
    let (model, own) = AnomalyModel::fit(&views(&young), &options).expect("fits");
    assert_eq!(own[0].rows(), 240.0);
    assert!(model.score_columns(&views(&young)).expect("scores").raw.iter().all(|s| s.is_finite()));
    let mut sum = own[0].clone();
    sum.merge(&pooled[0]);
    assert_eq!(sum.rows(), 8240.0);
    assert!(model.bytes() < 12 * 1024);
}

#[test]
fn from_two_weeks_on_an_lstm_votes_where_it_tells_held_back_anomalies_better() {
    // A pattern that only the past can tell: the second metric repeats what the first was 40 rows ago.
    let mut columns = history(20_500);
    for t in 40..20_500 {
        columns[1][t] = columns[0][t - 40];
    }
    let training = Training { epochs: 3, ..SEQUENCE };
    let options = FitOptions { sequence: Sequencing::Trained(training), ..FitOptions::default() };
    let (model, _) = AnomalyModel::fit(&views(&columns), &options).expect("fits");
    let short: Vec<&[f32]> = columns.iter().map(|c| &c[..19_000]).collect();
    let (young, _) = AnomalyModel::fit(&short, &options).expect("fits");
    assert!(model.sequence().is_some() && young.sequence().is_none());
    let ours = model.score_columns(&views(&columns)).expect("scores");
    let mut state = model.state();
    let mut parts = [0.0; 3];
    for (t, row) in rows(&columns).take(500).enumerate() {
        let one = model.score_row(&mut state, &row, &mut parts);
        assert!((one.raw - ours.raw[t]).abs() < 1e-3 * (1.0 + one.raw.abs()), "row {t}");
        assert!((parts.iter().sum::<f32>() - one.raw).abs() < 1e-4 * (1.0 + one.raw.abs()), "row {t}");
    }
    state.after_gap();
    let gap = model.score_row(&mut state, &[f32::NAN; 3], &mut parts);
    assert!(gap.raw.is_finite() && gap.present == 0.0);
    let (again, _) = AnomalyModel::fit(&views(&columns), &options).expect("fits");
    assert_eq!(again, model, "the same history gives the same model");
}

#[test]
fn a_gauge_that_was_moved_for_good_does_not_hide_what_comes_later() {
    let columns = history(6000);
    let model = fitted(&columns);
    let mut later = history(4000);
    later[2][1000..].iter_mut().for_each(|x| *x += 30.0);
    // The second metric no longer follows the first for twenty rows, two days on.
    later[1][3500..3520].iter_mut().for_each(|x| *x = 130.0);
    let alarms = model.read_columns(&views(&later)).expect("scores").alarmed;
    assert!(alarms[1001..1010].iter().any(|&a| a), "the move itself is an alarm");
    assert!(!alarms[2500..3490].iter().any(|&a| a), "and then it is the new normal");
    assert!(alarms[3500..3520].iter().any(|&a| a), "what comes on top is an alarm");
}

#[test]
fn over_its_own_training_it_alarms_on_one_day_in_five() {
    let columns = history(14_400);
    let model = fitted(&columns);
    assert!(model.knows_days());
    let alarms = model.read_columns(&views(&columns)).expect("scores").alarmed;
    let days = alarms.chunks(1440).filter(|day| day.iter().any(|&a| a)).count();
    assert!((1..=3).contains(&days), "{days} of 10");
}
