//! What a user of the anomaly model may rely on.

use super::{
    bytes::{Reader, Writer},
    error::AnomalyError,
    model::{AnomalyModel, FitOptions, SEQUENCE},
    scaler::Scaling,
    sequence::Sequencing,
    view::{Memory, Room, Scratch, View},
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

/// Twelve metrics that follow three loads, each with noise of its own; every day half of them are loud for a while.
fn wide_history(rows: usize) -> Vec<Vec<f32>> {
    let noise = history(12 * rows).swap_remove(2);
    (0..12)
        .map(|m| {
            let period = 200.0 + 170.0 * (m % 3) as f32;
            let loud = |t: usize| if m < 6 && (300..330).contains(&(t % 1440)) { 12.0 } else { 1.0 };
            let own = |t: usize| loud(t) * (noise[m * rows + t] - 3.0);
            (0..rows).map(|t| (t as f32 / period).sin() * (1.0 + m as f32) + own(t)).collect()
        })
        .collect()
}

#[test]
fn a_metric_that_leaves_the_others_is_an_alarm_beyond_what_the_voters_see_and_is_named() {
    let columns = wide_history(7200);
    let model = fitted(&columns);
    let old = model.clone().without_metrics();
    let mut later: Vec<Vec<f32>> = columns.iter().map(|c| c[..1440].to_vec()).collect();
    // Within its range, and for three rows.
    later[7][700..703].iter_mut().for_each(|x| *x += 4.0);
    let alarms = |model: &AnomalyModel| model.read_columns(&views(&later)).expect("scores").alarmed;
    let (with, without) = (alarms(&model), alarms(&old));
    assert!(with[700..705].iter().any(|&a| a) && !without[690..720].iter().any(|&a| a));
    assert!(
        with.iter().zip(&without).all(|(with, without)| *with || !without),
        "the voters' alarms are all there"
    );
    let (mut stream, mut room) = (model.stream(), Scratch::default());
    for t in 0..702 {
        let row: Vec<f32> = later.iter().map(|c| c[t]).collect();
        model.read(&mut stream, &row, None, &mut room);
    }
    assert_eq!(model.furthest(&stream), Some(7));
}

#[test]
fn pulls_of_history_are_those_of_the_rows_one_by_one() {
    let columns = wide_history(1000);
    let (view, _) = View::fit(&views(&columns), Scaling::Deviation, None);
    let (pulls, scales) = (view.pulls(&views(&columns)), view.pull_scales());
    let (mut memory, mut room, mut row_pulls) = (Memory::new(12), Room::default(), Vec::new());
    for t in 0..1000 {
        let row: Vec<f32> = columns.iter().map(|c| c[t]).collect();
        view.load_row(&memory, &row, &mut room);
        view.vote_row(t == 0, 1.0, None, &mut room);
        view.pull_row(&scales, &room, &mut row_pulls);
        for (m, pulls) in pulls.iter().enumerate().filter(|_| t > 0) {
            assert!((pulls[t] - row_pulls[m]).abs() < 1e-3 * (1.0 + pulls[t]), "row {t}, metric {m}");
        }
        View::pass_row(&mut memory, &room);
    }
    let spread: f32 = pulls.iter().flatten().map(|pull| pull.exp() - 1.0).sum::<f32>() / 12_000.0;
    assert!((0.5..1.5).contains(&spread), "in deviations: {spread}");
}

#[test]
fn a_detector_that_was_kept_before_metrics_stood_by_themselves_is_read_and_goes_on_as_it_was() {
    let columns = history(6000);
    for model in [fitted(&columns), fitted(&columns).without_metrics()] {
        let mut bytes = Writer::default();
        model.put(&mut bytes);
        let mut from = Reader(&bytes.0);
        let again = AnomalyModel::take(&mut from, 3).expect("a model");
        assert!(again == model && from.0.is_empty());
        let (mut stream, mut room) = (model.stream(), Scratch::default());
        for row in rows(&columns).take(500) {
            model.read(&mut stream, &row, None, &mut room);
        }
        let mut bytes = Writer::default();
        stream.put(&mut bytes);
        let mut other = again.take_stream(&mut Reader(&bytes.0)).expect("a stream");
        assert_eq!(other, stream);
        for row in rows(&columns).skip(500).take(500) {
            let one = model.read(&mut stream, &row, None, &mut room);
            assert_eq!(again.read(&mut other, &row, None, &mut room), one);
        }
    }
}
