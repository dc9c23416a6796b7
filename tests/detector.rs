//! How often the detector alarms where nothing is wrong: on the demo's fleet before anything happens to it.

use std::sync::Arc;

use foreshift::fleet::{ManualClock, Span, Timestamp};
use foreshift::predict::anomaly::{AnomalyModel, FitOptions};
use foreshift::sim::{DemoOptions, HistoryPlan, SimFleet};

/// Monday, 2026-01-05T00:00:00Z.
const START: Timestamp = Timestamp(1_767_571_200_000);
/// Rows of a day on the engine's grid.
const DAY: usize = 2880;
/// Rows of a window that a detector is fitted from, and of two hours.
const WINDOW: usize = 228;
const TWO_HOURS: usize = 240;

/// `[partition][metric][row]` of some partitions over so many days.
fn calm(days: i64, partitions: usize) -> Vec<Vec<Vec<f32>>> {
    let mut options = DemoOptions::new(Arc::new(ManualClock::at(START)));
    options.history =
        HistoryPlan { span: Span::days(days), fine_for: Span::days(days), ..HistoryPlan::default() };
    let fleet = SimFleet::new(5, options);
    let mut histories = fleet.history();
    histories.sort_by(|a, b| a.0.cmp(&b.0));
    let every = (histories.len() / partitions).max(1);
    histories
        .iter()
        .step_by(every)
        .take(partitions)
        .map(|(_, batch)| batch.columns().iter().map(|(_, values)| values.clone()).collect())
        .collect()
}

fn part(columns: &[Vec<f32>], from: usize, to: usize) -> Vec<&[f32]> {
    columns.iter().map(|c| &c[from..to]).collect()
}

/// How often a condition begins.
fn begins(stands: impl Iterator<Item = bool>) -> usize {
    let mut before = false;
    let begun = |now: &bool| {
        let was = std::mem::replace(&mut before, *now);
        *now && !was
    };
    stands.filter(begun).count()
}

#[test]
fn a_calm_fleet_alarms_no_more_often_than_is_stated() {
    let fleet = calm(8, 12);
    let options = FitOptions { rows_per_day: DAY as f32, ..FitOptions::default() };
    let (mut of_days, mut days) = (0, 0);
    let (mut of_window, mut before, mut windows) = (0, 0, 0);
    for columns in &fleet {
        let rows = columns[0].len();
        let (model, _) = AnomalyModel::fit(&part(columns, 0, 5 * DAY), &options).unwrap();
        assert!(model.knows_days());
        let said = model.read_columns(&part(columns, 5 * DAY, rows)).unwrap();
        of_days += begins(said.alarmed.iter().copied());
        days += rows / DAY - 5;
        for from in (0..DAY).step_by(TWO_HOURS) {
            let end = from + WINDOW + TWO_HOURS;
            let (model, _) = AnomalyModel::fit(&part(columns, from, from + WINDOW), &options).unwrap();
            assert!(!model.knows_days(), "two hours know no evening");
            let said = model.read_columns(&part(columns, from, end)).unwrap();
            of_window += begins(said.alarmed[WINDOW..].iter().copied());
            // What counted before the engine had the evaluation's alarms.
            let level = 1.2 * model.alarm_level().max(1.0);
            before += begins(said.score[WINDOW..].iter().map(|s| *s >= level));
            windows += 1;
        }
    }
    let a_day = of_days as f64 / days as f64;
    println!(
        "by days: {of_days} alarms in {days} calm days of a partition; by two hours: {of_window} in {windows} \
         times two hours, {before} by the score over its level"
    );
    assert!(a_day <= 1.0, "{a_day} alarms a calm day");
    assert!(of_window <= before.max(1), "{of_window} for {before}");
}
