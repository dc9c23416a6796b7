//! What days of history make of a metric.

use super::*;
use crate::fleet::rng::Random;

const PACE: Pace = Pace { own_scale: 48, day: 288, memory: 576, freeze: 288, step: Span::minutes(5) };
const SHAPE: Shape = Shape::Linear { floor: 1.0, relative: 0.0 };
const STEP: Span = Span::minutes(5);

fn day_wave(at: Timestamp) -> f32 {
    40.0 + 20.0 * (at.seconds() / 86_400.0 * std::f64::consts::TAU).sin() as f32
}

fn row(days: i64, noise: f32, level: impl Fn(Timestamp) -> f32) -> Vec<f32> {
    let mut random = Random::new(1);
    let at = |i| Timestamp(Span::days(20_000).0 + i * STEP.0);
    (0..days * 288).map(|i| level(at(i)) + noise * random.normal() as f32).collect()
}

/// The baseline of a row that is read in parts of so many values.
fn learnt(row: &[f32], part: usize) -> Baseline {
    let mut past = None;
    for (k, values) in row.chunks(part).enumerate() {
        let start = Timestamp(Span::days(20_000).0 + (k * part) as i64 * STEP.0);
        Past::add(&mut past, values, start, STEP, SHAPE, MOST_HOURS);
    }
    past.unwrap().baseline(SHAPE, PACE).unwrap()
}

/// How far `y` is from normal at that time of the day after the history's end, in scales.
fn off(baseline: &Baseline, days: i64, minute: i64, y: f32) -> f32 {
    let at = Timestamp(Span::days(20_000 + days).0 + Span::minutes(minute).0);
    let normal = baseline.normal(y, Season::at(at), PACE);
    (y - normal) / baseline.scale().max(SHAPE.floor(normal))
}

#[test]
fn a_daily_rhythm_is_normal_once_it_was_seen() {
    let baseline = learnt(&row(3, 2.0, day_wave), usize::MAX);
    for hour in 0..24 {
        let at = Timestamp(Span::days(20_003).0 + hour * HOUR_MS + 600_000);
        let off = baseline.expected(Season::at(at), PACE) - day_wave(at);
        assert!(off.abs() < 2.5, "hour {hour}: {off}");
    }
    assert!((1.0..4.0).contains(&baseline.scale()), "{}", baseline.scale());
}

#[test]
fn history_in_parts_is_the_same_as_in_one_piece() {
    let row = row(5, 2.0, day_wave);
    let (parts, whole) = (learnt(&row, 72), learnt(&row, usize::MAX));
    assert_eq!(parts.count(), 5 * 288, "all of it counts");
    assert_eq!(parts.count(), whole.count());
    for part in [70, 72, 288, 500] {
        let parts = learnt(&row, part);
        assert!((parts.scale() / whole.scale() - 1.0).abs() < 0.1, "{}", parts.scale());
        for hour in 0..24 {
            let season = Season::at(Timestamp(hour * HOUR_MS));
            let off = parts.expected(season, PACE) - whole.expected(season, PACE);
            assert!(off.abs() < 0.7, "parts of {part}, hour {hour}: {off}");
        }
    }
}

#[test]
fn what_is_missing_makes_no_part_useless() {
    let mut row = row(5, 2.0, day_wave);
    let whole = learnt(&row, 72);
    row[4 * 288..].iter_mut().step_by(36).for_each(|v| *v = f32::NAN);
    row[300..360].fill(f32::NAN);
    let holed = learnt(&row, 72);
    assert!(holed.count() < whole.count() && holed.count() > 4 * 288);
    for hour in 0..24 {
        let at = Season::at(Timestamp(hour * HOUR_MS));
        assert!((holed.expected(at, PACE) - whole.expected(at, PACE)).abs() < 1.5, "hour {hour}");
    }
}

#[test]
fn an_incident_at_its_end_does_not_become_normal() {
    let clean = row(4, 2.0, day_wave);
    for hours in [1, 3, 8, 20] {
        let mut sick = clean.clone();
        let from = sick.len() - hours * 12;
        sick[from..].iter_mut().for_each(|v| *v += 60.0);
        let z = off(&learnt(&sick, 72), 4, 0, 100.0);
        assert!(z > 15.0, "{hours} h: {z}");
    }
}

#[test]
fn what_has_lasted_for_a_day_is_the_new_normal() {
    let mut moved = row(20, 2.0, day_wave);
    let from = moved.len() - 40 * 12;
    moved[from..].iter_mut().for_each(|v| *v += 60.0);
    assert!(off(&learnt(&moved, 72), 20, 0, 100.0).abs() < 6.0);
}

#[test]
fn a_nightly_job_is_normal_at_its_hour_and_at_no_other() {
    for (from, until) in [(120, 180), (125, 145), (150, 210)] {
        let job = move |at: Timestamp| {
            let minute = at.0.rem_euclid(24 * HOUR_MS) / 60_000;
            if (from..until).contains(&minute) { 90.0 } else { 20.0 }
        };
        let baseline = learnt(&row(22, 1.0, job), 72);
        for minute in (0..1_440).step_by(5) {
            let y = job(Timestamp(minute * 60_000));
            let z = off(&baseline, 22, minute, y);
            assert!(z.abs() < 4.0, "job {from}–{until}, minute {minute}: {z}");
        }
        assert!(off(&baseline, 22, 720, 90.0) > 20.0, "at noon it is not");
        assert!(off(&baseline, 22, from + 5, 160.0) > 20.0, "nor twice as much");
    }
}

#[test]
fn a_week_has_its_weekend() {
    let work = |at: Timestamp| {
        // 1970-01-01 was a Thursday.
        let weekend = matches!((at.0.div_euclid(24 * HOUR_MS) + 3).rem_euclid(7), 5 | 6);
        if weekend { 20.0 } else { 35.0 }
    };
    let baseline = learnt(&row(30, 1.0, work), 72);
    for day in 0..7 {
        let y = work(Timestamp(Span::days(20_030 + day).0));
        let z = off(&baseline, 30 + day, 600, y);
        assert!(z.abs() < 5.0, "day {day}: {z}");
    }
}

#[test]
fn odd_values_are_survived() {
    let mut past = None;
    for y in [f32::NAN, f32::INFINITY, f32::MIN, f32::MAX, 0.0, -0.0] {
        for start in [i64::MIN, 0, i64::MAX] {
            Past::add(&mut past, &[y; 30], Timestamp(start), Span(i64::MAX / 20), SHAPE, MOST_HOURS);
            Past::add(&mut past, &[y; 30], Timestamp(start), STEP, SHAPE, MOST_HOURS);
        }
    }
    let _ = past.unwrap().baseline(SHAPE, PACE);
}

#[test]
fn the_history_of_a_large_fleet_is_a_week_and_that_of_a_small_one_a_quarter() {
    assert_eq!((most_hours(1_000 * 16), most_hours(100_000 * 16)), (MOST_HOURS, RECENT));
    let of_many = most_hours(10_000 * 16);
    assert!((RECENT..MOST_HOURS).contains(&of_many), "{of_many}");
    assert!(2 * size_of::<Hour>() * of_many * 10_000 * 16 <= BUDGET);
}

#[test]
fn an_hour_takes_a_third_of_its_samples() {
    assert!(size_of::<Hour>() * 3 <= 12 * size_of::<f32>());
}
