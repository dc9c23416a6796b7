//! What a person may rely on from the assessor.

use super::test_fleet::{Fleet, NORMAL, as_it_is, metric, warmed};
use super::*;
use crate::fleet::{PartitionId, Span};
use crate::telemetry::{CANONICAL, PartitionIx};

#[test]
fn a_calm_fleet_is_healthy_and_a_sick_partition_is_not_and_says_why() {
    let (mut fleet, mut assessor) = warmed(12);
    let calm = fleet.assess(&mut assessor);
    for a in &calm {
        assert!(a.health.unwrap().get() > 90.0, "{a:?}");
        assert_eq!(a.maturity, Maturity::Own);
        assert!(a.failure_within(Span::hours(1)).unwrap().get() < 0.01);
    }
    let (latency, errors) = (metric("disk.write_latency"), metric("log.errors"));
    fleet.run(Span::minutes(5), |p, m, v| match (p, m) {
        (3, m) if m == latency => v * 7.0,
        (3, m) if m == errors => v * 20.0,
        _ => v,
    });
    let sick = fleet.assess(&mut assessor);
    let a = &sick[3];
    assert!(a.health.unwrap().get() < 60.0, "{a:?}");
    assert!(a.failure_within(Span::hours(1)).unwrap().get() > 0.2, "{a:?}");
    let named: Vec<&str> = a.why_health.iter().take(2).map(|c| c.metric.as_str()).collect();
    assert!(named.contains(&"disk.write_latency") && named.contains(&"log.errors"), "{named:?}");
    assert!(a.why_health[0].words.contains("own normal"), "{}", a.why_health[0].words);
    assert!(sick[4].health.unwrap().get() > 90.0);
}

#[test]
fn where_everything_is_wrong_at_once_the_worst_of_it_is_named() {
    let (mut fleet, mut assessor) = warmed(12);
    fleet.run(Span::minutes(5), |p, _, v| if p == 3 { v * 20.0 } else { v });
    let sick = fleet.assess(&mut assessor);
    let a = &sick[3];
    assert_eq!(a.health.unwrap().get(), 0.0);
    let words: Vec<&str> = a.why_health.iter().map(|c| c.words.as_str()).collect();
    assert!(words[0].contains(", own normal ") && words[0].matches("; ").count() == 2, "{words:?}");
    assert!((a.why_health.iter().map(|c| c.amount).sum::<f64>() - 100.0).abs() < 1e-6);
}

#[test]
fn reasons_sum_to_the_scores() {
    let (mut fleet, mut assessor) = warmed(8);
    for factor in [1.0f32, 1.3, 2.0, 8.0, 100.0] {
        fleet.run(Span::minutes(3), |p, m, v| if m < 2 * p { v * factor } else { v });
        for a in fleet.assess(&mut assessor) {
            let health: f64 = a.why_health.iter().map(|c| c.amount).sum();
            assert!((health - (100.0 - a.health.unwrap().get())).abs() < 1e-6, "{a:?}");
            let p = 100.0 * a.failure_within(Span::hours(1)).unwrap().get();
            let failure: f64 = a.why_failure.iter().map(|c| c.amount).sum::<f64>() + a.failure_base;
            assert!((failure - p).abs() < 1e-6, "{failure} {p}");
            assert!(a.failure.windows(2).all(|w| w[0].probability <= w[1].probability));
        }
    }
}

#[test]
fn putting_a_metric_back_to_its_baseline_gives_back_what_was_shown() {
    let sick = |latency: f32, temp: f32| {
        let (mut fleet, mut assessor) = warmed(6);
        fleet.run(Span::minutes(5), |p, m, v| match (p, CANONICAL[m].name) {
            (2, "disk.write_latency") => v * latency,
            (2, "temp") => v * temp,
            _ => v,
        });
        fleet.assess(&mut assessor)[2].clone()
    };
    let both = sick(6.0, 1.4);
    let without = sick(1.0, 1.4);
    let shown = both.why_health.iter().find(|c| c.metric.as_str() == "disk.write_latency").unwrap().amount;
    let gained = without.health.unwrap().get() - both.health.unwrap().get();
    assert!((gained - shown).abs() < 0.5, "shown {shown}, gained {gained}");
}

#[test]
fn a_partition_whose_data_stops_is_unknown_and_never_healthy() {
    let (mut fleet, mut assessor) = warmed(6);
    fleet.assess(&mut assessor);
    fleet.now += Span::minutes(4);
    fleet.windows.advance(fleet.now);
    for (i, a) in fleet.assess(&mut assessor).iter().enumerate() {
        assert!(a.health.is_none() && a.instability.is_none() && a.failure.is_empty());
        assert!(a.expires < fleet.now, "nothing may act on it");
        assert_eq!(assessor.reading(PartitionIx(i as u32)), Reading::Unknown);
        assert_eq!(assessor.gap(PartitionIx(i as u32)), Some(Gap::Stale));
    }
}

#[test]
fn a_partition_that_repeats_itself_is_unknown() {
    let (mut fleet, mut assessor) = warmed(6);
    fleet.run(Span::minutes(40), |p, m, v| if p == 1 { NORMAL[m] } else { v });
    let all = fleet.assess(&mut assessor);
    assert_eq!(all[1].health, None);
    assert_eq!(assessor.gap(PartitionIx(1)), Some(Gap::StandsStill));
    assert!(all[0].health.is_some());
}

#[test]
fn without_history_the_peers_are_the_baseline_and_it_is_shown() {
    let mut fleet = Fleet::new(10);
    let mut assessor = Assessor::new(AssessOptions::default());
    let latency = metric("disk.write_latency");
    fleet.run(Span::minutes(5), |p, m, v| if p == 7 && m == latency { v * 9.0 } else { v });
    let all = fleet.assess(&mut assessor);
    assert!(all.iter().all(|a| a.maturity == Maturity::Pooled));
    let worst = all.iter().min_by(|a, b| a.health.partial_cmp(&b.health).unwrap()).unwrap();
    assert_eq!(worst.partition, fleet.ids[7]);
    assert!(worst.why_health[0].words.contains("normal of its like"));
}

#[test]
fn a_lone_partition_without_history_is_untrained_and_says_so() {
    let mut fleet = Fleet::new(1);
    let mut assessor = Assessor::new(AssessOptions::default());
    fleet.run(Span::minutes(3), as_it_is);
    let a = &fleet.assess(&mut assessor)[0];
    assert_eq!(a.maturity, Maturity::Untrained);
    assert!(a.confidence.value() < 0.2);
    assert!(a.failure.iter().all(|f| f.calibration == Calibration::Uncalibrated));
}

#[test]
fn load_that_rises_everywhere_is_seen_but_does_not_stand_out_beside_peers() {
    let (mut fleet, mut assessor) = warmed(10);
    fleet.run(Span::minutes(5), |_, m, v| if m == 15 { v * 4.0 } else { v });
    fleet.assess(&mut assessor);
    let Reading::Known { instability, beside_peers, .. } = assessor.reading(PartitionIx(0)) else {
        panic!("known")
    };
    assert!(instability > 6.0 && beside_peers < 5.0, "{instability} {beside_peers}");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut fleet, mut assessor) = warmed(200);
            fleet.run(Span::minutes(2), |p, m, v| if p % 7 == m { v * 3.0 } else { v });
            fleet.assess(&mut assessor)
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn a_failure_recorded_of_late_lowers_the_score() {
    let (fleet, mut assessor) = warmed(6);
    let id = fleet.ids[0].clone();
    let failures = [PastFailure {
        subject: Subject::Partition(id),
        at: fleet.now - Span::days(2),
        outcome: Outcome::Failed,
    }];
    let context = Context { topology: &fleet.topology, failures: &failures };
    let all = assessor.assess(&fleet.windows, &context, fleet.now);
    assert!(all[0].health < all[1].health);
    assert!(all[0].why_health.iter().any(|c| c.metric.as_str() == "past failures"));
}

#[test]
fn detail_shows_the_most_unusual_metric_first_with_history_and_normal_range() {
    let (mut fleet, mut assessor) = warmed(6);
    let latency = metric("disk.write_latency");
    fleet.run(Span::minutes(5), |p, m, v| if p == 2 && m == latency { v * 7.0 } else { v });
    fleet.assess(&mut assessor);
    let detail = assessor.detail(&fleet.windows, PartitionIx(2)).unwrap();
    let first = &detail.metrics[0];
    assert_eq!(first.metric.as_str(), "disk.write_latency");
    let (low, high) = first.normal.unwrap();
    assert!(low < 7.0 && 7.0 < high && high < 20.0, "{low}–{high}");
    assert_eq!(first.history.len(), fleet.windows.config().len);
    assert!(first.deviation.unwrap() > 8.0);
}

#[test]
fn a_combination_that_is_unlike_the_partition_costs_health_and_says_which_metrics() {
    let mut fleet = Fleet::new(5);
    let mut assessor = Assessor::new(AssessOptions::default());
    assessor.observe_history(&fleet.history(3));
    let following = ["cpu.busy", "net.throughput", "queue.depth", "request.latency"].map(metric);
    // All four follow the work, until at partition 2 two of them fall while the others rise.
    let mut slot = 0;
    let phase = |against: bool| {
        move |p: usize, m: usize, v: f32| {
            slot += 1;
            let wave = 0.14 * ((slot / 80) as f32 / 3.0).sin();
            let sign = if against && p == 2 && (m == following[2] || m == following[3]) { -1.0 } else { 1.0 };
            let noise = 0.02 * (v - NORMAL[m]);
            if following.contains(&m) { NORMAL[m] * (1.0 + wave * sign) + noise } else { v }
        }
    };
    fleet.run(Span::minutes(122), phase(false));
    let calm = fleet.assess(&mut assessor);
    let named = |a: &Assessment| a.why_health.iter().any(|c| c.metric.as_str() == "combination");
    assert!(!calm.iter().any(named), "{:?}", calm.iter().find(|a| named(a)));
    fleet.run(Span::minutes(20), phase(true));
    let all = fleet.assess(&mut assessor);
    for (p, a) in all.iter().enumerate() {
        let sum: f64 = a.why_health.iter().map(|c| c.amount).sum();
        assert!((sum - (100.0 - a.health.unwrap().get())).abs() < 1e-6);
        assert_eq!(named(a), p == 2, "partition {p}: {:?}, {:?}", a.why_health, a.anomaly);
    }
    let why = all[2].why_health.iter().find(|c| c.metric.as_str() == "combination").unwrap();
    assert!(why.words.contains("cpu") || why.words.contains("queue"), "{}", why.words);
    let said = all[2].anomaly.unwrap();
    assert!(said.alarmed && said.stands_out && !said.by_days, "{said:?}");
    let Reading::Known { alarm, .. } = assessor.reading(PartitionIx(2)) else { panic!("known") };
    assert!(!alarm, "a level of two hours makes nobody suspect");
    // Of whom nothing is noticed; 640 bytes more while contributions are kept.
    let calm = (0..5).map(|p| assessor.model_bytes(PartitionIx(p))).min().unwrap();
    assert!(calm <= 12 * 1024, "{calm} bytes a partition");
}

/// A warmed fleet whose assessor has the shipped models.
fn with_shipped_models(partitions: usize) -> (Fleet, Assessor) {
    use crate::predict::models::runtime::kernels::Kernels;
    let (fleet, mut assessor) = warmed(partitions);
    let opened = crate::predict::failure::open(None).unwrap();
    let (onnx, card) = opened.autoencoder.as_ref().unwrap();
    assessor
        .set_rebuilder(crate::predict::rebuilt::Rebuilder::open(&Kernels, &card.title, onnx, card).unwrap());
    assessor.set_failure_model(opened.model);
    assessor.run_heads_on(&Kernels, &opened.files).unwrap();
    (fleet, assessor)
}

#[test]
fn the_shipped_models_say_the_chances_and_that_they_learnt_elsewhere() {
    let (mut fleet, mut assessor) = with_shipped_models(8);
    let sick = |p: usize, m: usize, v: f32| match (p, CANONICAL[m].name) {
        (3, "disk.write_latency" | "disk.read_latency") => v * 6.0,
        (3, "log.errors") => v * 12.0,
        _ => v,
    };
    fleet.run(Span::minutes(2), as_it_is);
    for a in fleet.assess(&mut assessor) {
        assert!(a.failure.iter().all(|f| f.calibration == Calibration::Shipped), "{a:?}");
        assert!(a.failure_within(Span::minutes(15)).unwrap().get() < 0.02, "{a:?}");
    }
    let drift = |assessor: &Assessor| assessor.drift().iter().map(|d| d.share).fold(0.0, f64::max);
    assert_eq!(assessor.drift().len(), 3, "it is watched for every window");
    assert!(drift(&assessor) < 0.025, "calm is what they know: {}", drift(&assessor));
    fleet.run(Span::minutes(15), sick);
    let all = fleet.assess(&mut assessor);
    assert!(all[3].failure_within(Span::hours(1)).unwrap().get() > 0.3, "{:?}", all[3]);
    for (p, a) in all.iter().enumerate() {
        let chance = 100.0 * a.failure_within(Span::hours(1)).unwrap().get();
        let said: f64 = a.why_failure.iter().map(|c| c.amount).sum::<f64>() + a.failure_base;
        assert!((said - chance).abs() < 1e-6, "{said} {chance}");
        assert!(a.failure.windows(2).all(|w| w[0].probability <= w[1].probability));
        let points: f64 = a.why_health.iter().map(|c| c.amount).sum();
        assert!((points - (100.0 - a.health.unwrap().get())).abs() < 1e-6);
        let course = a.why_health.iter().find(|c| c.metric.as_str() == "course");
        assert_eq!(course.is_some(), p == 3, "{p}: {course:?}");
    }
    let top = &all[3].why_failure[0];
    assert!(top.words.contains("ms") || top.words.contains("normal"), "{top:?}");
}

#[test]
fn counts_beyond_all_bounds_put_no_model_out_of_use() {
    let (mut fleet, mut assessor) = with_shipped_models(4);
    let sessions = format!("{:?}", assessor.heads);
    let errors = metric("log.errors");
    fleet.run(Span::minutes(5), |p, m, v| if p == 1 && m == errors { 3e38 } else { v });
    let all = fleet.assess(&mut assessor);
    assert_ne!(sessions, "0 sessions");
    assert_eq!(format!("{:?}", assessor.heads), sessions, "the runtime goes on");
    assert!(all.iter().all(|a| a.failure.iter().all(|f| f.calibration == Calibration::Shipped)), "{all:?}");
}

#[test]
fn a_young_partition_is_not_judged_by_a_model_that_needs_its_baseline() {
    let (_, mut assessor) = with_shipped_models(2);
    let mut fleet = Fleet::new(1);
    fleet.ids = vec![PartitionId::from("new/p1")];
    fleet.run(Span::minutes(3), as_it_is);
    let a = &fleet.assess(&mut assessor)[0];
    assert!(a.failure.iter().all(|f| f.calibration == Calibration::Uncalibrated), "{a:?}");
}

#[test]
fn work_that_was_taken_over_is_soon_normal() {
    let (mut fleet, mut assessor) = warmed(6);
    let workload = |i: usize, at: PartitionId| crate::fleet::Workload {
        id: format!("w{i}").into(),
        application: "shop".into(),
        class: "db".into(),
        kind: "oltp".into(),
        partition: at,
        replicas: Vec::new(),
        generation: crate::fleet::Generation(1),
        size: crate::fleet::Bytes(1),
        stateless: false,
        requests_per_s: 100.0,
        writes_per_s: 0.0,
        depends_on: Vec::new(),
        labels: Default::default(),
    };
    fleet.topology.workloads = fleet.ids.iter().enumerate().map(|(i, id)| workload(i, id.clone())).collect();
    fleet.topology.revision = crate::fleet::Revision(1);
    fleet.assess(&mut assessor);
    // Partition 1 takes over the work of partition 0.
    fleet.topology.workloads[0].partition = fleet.ids[1].clone();
    fleet.topology.revision = crate::fleet::Revision(2);
    let busier = |p: usize, m: usize, v: f32| {
        let by_load = ["cpu.busy", "queue.depth", "disk.write_latency", "request.latency"];
        if p == 1 && by_load.contains(&CANONICAL[m].name) { v * 1.8 } else { v }
    };
    let mut first = None;
    for _ in 0..33 {
        fleet.run(Span::seconds(30), busier);
        let a = fleet.assess(&mut assessor)[1].clone();
        first = first.or(a.health.filter(|h| h.get() < 70.0));
    }
    assert!(first.is_some(), "at first it looks unusual");
    let settled = fleet.assess(&mut assessor)[1].clone();
    assert!(settled.health.unwrap().get() > 90.0, "{settled:?}");
    // What the work does not explain is still seen.
    fleet.run(Span::minutes(5), |p, m, v| {
        let v = busier(p, m, v);
        if p == 1 && m == metric("disk.write_latency") { v * 6.0 } else { v }
    });
    assert!(fleet.assess(&mut assessor)[1].health.unwrap().get() < 75.0);
}

#[test]
fn a_disk_that_fills_up_is_forecast_with_its_crossing_and_counts() {
    let (mut fleet, mut assessor) = warmed(6);
    let disk = metric("disk.used");
    let mut filled = 48.0;
    fleet.run(Span::hours(1), |p, m, v| {
        if p == 2 && m == disk {
            filled += 0.3;
            filled
        } else {
            v
        }
    });
    let a = fleet.assess(&mut assessor)[2].clone();
    let forecast =
        assessor.forecasts(PartitionIx(2)).iter().find(|f| f.metric.as_str() == "disk.used").unwrap();
    let crossing = forecast.crossing.expect("crosses 95 %");
    let minutes = (crossing.at - fleet.now).as_seconds() / 60.0;
    // 84 now, 0.6 a minute: 95 in about 18 minutes.
    assert!((8.0..40.0).contains(&minutes), "{minutes} {}", forecast.method);
    let why = a.why_failure.iter().find(|c| c.metric.as_str() == "disk.used").unwrap();
    assert!(why.words.contains("reaches 95 %"), "{}", why.words);
    let hour = a.failure_within(Span::hours(1)).unwrap();
    assert!(hour > assessor.assessments()[3].failure_within(Span::hours(1)).unwrap());
}

#[test]
fn everybody_is_forecast_in_turn_within_the_budget() {
    let mut fleet = Fleet::new(60);
    let options = ForecastOptions { budget: 30, metrics: 3, every_cycles: 20, ..ForecastOptions::default() };
    let mut assessor = Assessor::new(AssessOptions { forecast: options, ..AssessOptions::default() });
    fleet.run(Span::hours(1), as_it_is);
    for cycle in 1..=12 {
        fleet.run(Span::seconds(30), as_it_is);
        fleet.assess(&mut assessor);
        let made = (0..60).filter(|&p| !assessor.forecasts(PartitionIx(p)).is_empty()).count();
        assert!(made <= cycle * 10, "cycle {cycle}: {made}");
    }
    let made = (0..60).filter(|&p| !assessor.forecasts(PartitionIx(p)).is_empty()).count();
    assert_eq!(made, 60);
}

#[test]
fn arima_with_its_order_is_among_what_is_said_of_suspects_and_of_them_alone() {
    for (arimas, said) in [(12, true), (0, false)] {
        let (mut fleet, mut assessor) = warmed(6);
        assessor.options.forecast.arimas = arimas;
        let disk = metric("disk.write_latency");
        let (mut a, mut b, mut random) = (0.0f32, 0.0f32, crate::fleet::rng::Random::new(3));
        fleet.run(Span::hours(2), |p, m, v| {
            if p == 2 && m == disk {
                let next = 1.6 * a - 0.8 * b + random.normal() as f32;
                (a, b) = (next, a);
                60.0 + 3.0 * next
            } else {
                v
            }
        });
        for _ in 0..3 {
            fleet.assess(&mut assessor);
            fleet.run(Span::seconds(30), |p, m, v| if p == 2 && m == disk { 60.0 + 3.0 * a } else { v });
        }
        let by_arima =
            |p: u32| assessor.forecasts(PartitionIx(p)).iter().any(|f| f.method.contains("ARIMA("));
        let methods: Vec<_> = assessor.forecasts(PartitionIx(2)).iter().map(|f| f.method.clone()).collect();
        assert_eq!(by_arima(2), said, "{methods:?}");
        assert!((0..6).filter(|p| *p != 2).all(|p| !by_arima(p)), "nobody else is unusual");
    }
}
