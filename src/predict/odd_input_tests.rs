//! Whatever is measured, nothing panics, and what is odd never looks better than what is normal.

use proptest::prelude::*;

use super::test_fleet::{Fleet, as_it_is, warmed};
use super::*;
use crate::fleet::{PartitionId, Span, Timestamp};
use crate::telemetry::{CANONICAL, Ingest, PartitionIx};

fn odd_value() -> impl Strategy<Value = f32> {
    prop_oneof![
        any::<f32>(),
        Just(f32::NAN),
        Just(f32::INFINITY),
        Just(f32::NEG_INFINITY),
        Just(f32::MAX),
        Just(f32::MIN_POSITIVE),
        Just(-0.0),
        0.0f32..100.0
    ]
}

fn sane(a: &Assessment) -> bool {
    let sum: f64 = a.why_health.iter().map(|c| c.amount).sum();
    a.instability.is_none_or(f64::is_finite)
        && a.confidence.value().is_finite()
        && a.health.is_none_or(|h| (sum - (100.0 - h.get())).abs() < 1e-6)
        && (a.health.is_some() || a.failure.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn nothing_panics_and_scores_stay_scores(
        samples in proptest::collection::vec((0usize..3, 0usize..18, -400i64..400, odd_value()), 0..300),
        jumps in proptest::collection::vec(-100_000_000i64..100_000_000, 1..6),
    ) {
        let mut fleet = Fleet::new(3);
        let mut assessor = Assessor::new(AssessOptions::default());
        for (i, jump) in jumps.iter().enumerate() {
            for (p, m, back, v) in samples.iter().skip(i * 50).take(120) {
                let name = CANONICAL.get(*m).map_or("own.metric", |c| c.name);
                let series = fleet.windows.series(&fleet.ids[*p].clone(), name);
                let at = Timestamp(fleet.now.0 + back * 20_000);
                fleet.windows.push(series, at, *v);
            }
            for a in fleet.assess(&mut assessor) {
                prop_assert!(sane(&a), "{a:?}");
            }
            fleet.now = Timestamp(fleet.now.0 + jump);
            fleet.windows.advance(fleet.now);
        }
    }

    #[test]
    fn a_broken_metric_never_raises_the_score(m in 0usize..16, v in odd_value()) {
        let (mut fleet, mut assessor) = warmed(5);
        let before = fleet.assess(&mut assessor)[1].health.unwrap().get();
        fleet.run(Span::minutes(3), |p, metric, x| if p == 1 && metric == m { v } else { x });
        let a = &fleet.assess(&mut assessor)[1];
        prop_assert!(a.health.is_none_or(|h| h.get() <= before.max(97.0)));
    }
}

#[test]
fn one_sample_is_not_health() {
    let mut fleet = Fleet::new(2);
    let mut assessor = Assessor::new(AssessOptions::default());
    let series = fleet.windows.series(&fleet.ids[0].clone(), "cpu.busy");
    fleet.windows.push(series, fleet.now, 30.0);
    fleet.windows.intern(&fleet.ids[1].clone());
    let all = fleet.assess(&mut assessor);
    assert!(all.iter().all(|a| a.health.is_none()));
    assert_eq!(assessor.gap(PartitionIx(0)), Some(Gap::TooFew));
    assert_eq!(assessor.gap(PartitionIx(1)), Some(Gap::Never));
}

#[test]
fn time_going_backwards_is_never_health() {
    let (mut fleet, mut assessor) = warmed(4);
    fleet.assess(&mut assessor);
    fleet.now = fleet.now - Span::hours(3);
    let all = fleet.assess(&mut assessor);
    assert!(all.iter().all(|a| a.health.is_none()), "data from the future is no data");
}

#[test]
fn new_partitions_and_metrics_take_nothing_from_the_old() {
    let (mut fleet, mut assessor) = warmed(4);
    fleet.assess(&mut assessor);
    fleet.ids.insert(0, PartitionId::from("a-new-one"));
    let series = fleet.windows.series(&fleet.ids[2].clone(), "own.metric");
    fleet.windows.push(series, fleet.now, 1.0);
    fleet.run(Span::minutes(3), as_it_is);
    let all = fleet.assess(&mut assessor);
    assert_eq!(all.len(), 5);
    let old = all.iter().find(|a| a.partition.as_str() == "h0002/p1").unwrap();
    assert_eq!(old.maturity, Maturity::Own);
    assert!(old.health.unwrap().get() > 90.0);
    let new = fleet.windows.partition(&PartitionId::from("a-new-one")).unwrap();
    assert_eq!(all[new.0 as usize].maturity, Maturity::Pooled);
}
