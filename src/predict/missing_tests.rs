//! What a person may rely on where history has holes or ends badly, and where metrics disappear.

use super::test_fleet::{Fleet, NORMAL, as_it_is, metric, value, warmed};
use super::*;
use crate::fleet::Span;
use crate::telemetry::{CANONICAL, Ingest, PartitionIx, Windows, WindowsConfig};

/// An assessor that reads `days` of history in parts of six hours; `change` gets partition, metric, hours
/// before its end, and the value.
fn read_in_parts(
    fleet: &mut Fleet,
    days: i64,
    change: impl Fn(usize, usize, f64, f32) -> Option<f32>,
) -> Assessor {
    let mut assessor = Assessor::new(AssessOptions::default());
    let step = Span::minutes(5);
    for k in (0..days * 4).rev() {
        let until = fleet.now - Span::hours(6 * k);
        let config = WindowsConfig { step, len: 73, ..WindowsConfig::default() };
        let mut part = Windows::new(config, until);
        for slot in 0..72 {
            let at = until - Span::hours(6) + Span(step.0 * slot);
            for (p, id) in fleet.ids.iter().enumerate() {
                for (m, metric) in CANONICAL.iter().enumerate() {
                    let before = (fleet.now - at).as_seconds() / 3_600.0;
                    if let Some(v) = change(p, m, before, value(m, &mut fleet.random)) {
                        let series = part.series(id, metric.name);
                        part.push(series, at, v);
                    }
                }
            }
        }
        assessor.observe_history(&part);
    }
    assessor
}

fn health(all: &[Assessment], p: usize) -> Option<f64> {
    all[p].health.map(|h| h.get())
}

#[test]
fn a_restart_does_not_hide_an_incident_that_is_running() {
    let mut fleet = Fleet::new(6);
    let sick = |p: usize, m: usize, v: f32| {
        let is =
            p == 2 && ["disk.write_latency", "request.latency", "log.errors"].contains(&CANONICAL[m].name);
        if is { v * 8.0 } else { v }
    };
    let mut assessor =
        read_in_parts(&mut fleet, 4, |p, m, before, v| Some(if before < 3.5 { sick(p, m, v) } else { v }));
    fleet.run(Span::minutes(5), sick);
    let all = fleet.assess(&mut assessor);
    assert!(health(&all, 2).unwrap() < 40.0, "{:?}", all[2]);
    assert!(health(&all, 1).unwrap() > 90.0);
    assert!(all.iter().all(|a| a.maturity == Maturity::Own), "days of history were read");
}

#[test]
fn ten_minutes_without_samples_change_nothing() {
    // The level rises and falls by the time of day, so that a baseline of other hours would be wrong.
    let wave = |before: f64, v: f32| v * (1.0 + 0.5 * (before / 24.0 * std::f64::consts::TAU).cos() as f32);
    let mut fleet = Fleet::new(6);
    let mut assessor = read_in_parts(&mut fleet, 4, |p, _, before, v| {
        let gap = p == 2 && (1.0..1.17).contains(&before);
        (!gap).then(|| wave(before, v))
    });
    fleet.run(Span::minutes(5), |_, _, v| wave(0.0, v));
    let all = fleet.assess(&mut assessor);
    for p in 0..6 {
        assert!(health(&all, p).unwrap() > 90.0, "{p}: {:?}", all[p]);
    }
}

#[test]
fn a_metric_that_disappears_makes_nobody_healthier() {
    let (mut fleet, mut assessor) = warmed(6);
    let latency = metric("request.latency");
    fleet.run(Span::minutes(5), |p, m, v| if p == 2 && m == latency { v * 8.0 } else { v });
    let before = fleet.assess(&mut assessor);
    let sick = health(&before, 2).unwrap();
    assert!(sick < 75.0);
    for _ in 0..6 {
        fleet.run(Span::minutes(4), |p, m, v| if p == 2 && m == latency { f32::NAN } else { v });
        let all = fleet.assess(&mut assessor);
        assert!(health(&all, 2).unwrap() < sick + 5.0, "{:?}", all[2]);
        assert!(all[2].confidence.value() < before[2].confidence.value());
        let words = &all[2].why_health[0].words;
        assert!(words.contains("request latency is missing for"), "{words}");
        let p = 100.0 - all[2].why_health.iter().map(|c| c.amount).sum::<f64>();
        assert!((p - health(&all, 2).unwrap()).abs() < 1e-6, "reasons sum to the score");
    }
    fleet.run(Span::minutes(5), as_it_is);
    let all = fleet.assess(&mut assessor);
    assert!(health(&all, 2).unwrap() > 90.0, "it is back, and well: {:?}", all[2]);
}

#[test]
fn a_disk_on_its_way_to_its_bound_is_not_well_because_it_is_measured_no_more() {
    let (mut fleet, mut assessor) = warmed(6);
    let disk = metric("disk.used");
    let mut filled = 60.0;
    fleet.run(Span::hours(1), |p, m, v| {
        filled += if p == 2 && m == disk { 0.27 } else { 0.0 };
        if p == 2 && m == disk { filled } else { v }
    });
    let sick = health(&fleet.assess(&mut assessor), 2).unwrap();
    for _ in 0..4 {
        fleet.run(Span::minutes(3), |p, m, v| if p == 2 && m == disk { f32::NAN } else { v });
        let now = health(&fleet.assess(&mut assessor), 2).unwrap();
        assert!(now < sick + 5.0, "{sick} → {now}");
    }
}

#[test]
fn where_most_metrics_are_gone_after_a_restart_nothing_is_said() {
    let mut fleet = Fleet::new(6);
    let mut assessor = read_in_parts(&mut fleet, 2, |_, _, _, v| Some(v));
    fleet.run(Span::minutes(5), |p, m, v| if p == 2 && m < 10 { f32::NAN } else { v });
    let all = fleet.assess(&mut assessor);
    assert_eq!(health(&all, 2), None, "{:?}", all[2]);
    assert_eq!(assessor.gap(PartitionIx(2)), Some(Gap::MostMissing));
    assert!(health(&all, 1).unwrap() > 90.0);
}

#[test]
fn a_sick_metric_that_disappeared_before_a_restart_counts_on() {
    let mut fleet = Fleet::new(6);
    let latency = metric("request.latency");
    let mut assessor = read_in_parts(&mut fleet, 4, |p, m, before, v| match before {
        _ if p != 2 || m != latency => Some(v),
        b if b < 3.0 => None,
        b if b < 6.0 => Some(NORMAL[m] * 8.0),
        _ => Some(v),
    });
    fleet.run(Span::minutes(5), |p, m, v| if p == 2 && m == latency { f32::NAN } else { v });
    let all = fleet.assess(&mut assessor);
    assert!(health(&all, 2).unwrap() < 75.0, "{:?}", all[2]);
}

#[test]
fn after_a_day_without_it_a_metric_is_not_missed_any_more() {
    let mut fleet = Fleet::new(6);
    let gone = metric("temp");
    let mut assessor =
        read_in_parts(&mut fleet, 4, |p, m, before, v| (p != 2 || m != gone || before > 25.0).then_some(v));
    fleet.run(Span::minutes(5), |p, m, v| if p == 2 && m == gone { f32::NAN } else { v });
    let all = fleet.assess(&mut assessor);
    assert!(health(&all, 2).unwrap() > 90.0);
    assert!(!all[2].why_health.iter().any(|c| c.words.contains("missing")), "{:?}", all[2].why_health);
    assert_eq!(all[2].confidence, all[1].confidence);
}

/// A fleet of which three hours are known, by history or because it was watched for so long.
fn young(watched: bool) -> (Fleet, Assessor) {
    let mut fleet = Fleet::new(6);
    let mut assessor = Assessor::new(AssessOptions::default());
    if watched {
        for _ in 0..36 {
            fleet.run(Span::minutes(5), as_it_is);
            fleet.assess(&mut assessor);
        }
    } else {
        let step = Span::minutes(5);
        let mut history =
            Windows::new(WindowsConfig { step, len: 36, ..WindowsConfig::default() }, fleet.now);
        for slot in 0..36 {
            let at = history.tail() + Span(step.0 * slot);
            for id in &fleet.ids {
                for (m, metric) in CANONICAL.iter().enumerate() {
                    let series = history.series(id, metric.name);
                    history.push(series, at, value(m, &mut fleet.random));
                }
            }
        }
        assessor.observe_history(&history);
    }
    fleet.run(Span::minutes(5), as_it_is);
    assert!(fleet.assess(&mut assessor).iter().all(|a| a.health.unwrap().get() > 80.0));
    (fleet, assessor)
}

#[test]
fn a_young_partition_most_of_whose_metrics_stop_is_unknown_and_one_that_misses_some_names_them() {
    for watched in [false, true] {
        let (mut fleet, mut assessor) = young(watched);
        let before = fleet.assess(&mut assessor);
        for _ in 0..5 {
            // What cannot be a number of the kind (1e300 of a source) is refused, and so it is missing.
            fleet.run(Span::minutes(2), |p, m, v| match (p, m) {
                (2, m) if m < 14 => f32::NAN,
                (4, 4..7) => 1e300f64 as f32,
                _ => v,
            });
            fleet.assess(&mut assessor);
        }
        let all = fleet.assess(&mut assessor);
        assert_eq!(health(&all, 2), None, "watched {watched}: {:?}", all[2]);
        assert_eq!(assessor.gap(PartitionIx(2)), Some(Gap::MostMissing));
        let named = all[4].why_health.iter().filter(|c| c.words.contains("is missing for")).count();
        assert_eq!(named, 3, "watched {watched}: {:?}", all[4].why_health);
        assert!(all[4].confidence.value() < before[4].confidence.value());
        assert!(fleet.windows.counters().not_finite > 3 * 10, "and is counted");
        assert!(health(&all, 1).unwrap() > 80.0);
    }
}

#[test]
fn what_the_others_have_is_missed_of_one_that_is_minutes_old() {
    let mut fleet = Fleet::new(6);
    let mut assessor = Assessor::new(AssessOptions::default());
    fleet.run(Span::minutes(10), as_it_is);
    fleet.assess(&mut assessor);
    fleet.run(Span::minutes(5), |p, m, v| if p == 2 && m < 14 { f32::NAN } else { v });
    fleet.assess(&mut assessor);
    assert_eq!(assessor.gap(PartitionIx(2)), Some(Gap::MostMissing));
    assert_eq!(assessor.gap(PartitionIx(1)), None);
}
