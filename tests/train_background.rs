//! The engine trains by itself: on its own store's history and recorded failures, into shadow and never
//! straight into use, and not again while the last one is being tried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foreshift::cli::train_background::{Ground, once};
use foreshift::config::Config;
use foreshift::engine::failures::{Failure, Failures, Label, Origin};
use foreshift::fleet::{Clock, ManualClock, PartitionId, Span, Timestamp};
use foreshift::predict::train::{Registry, Seat};
use foreshift::sim::{DemoOptions, HistoryPlan, SimFleet};
use foreshift::state::{MemoryStore, Store};
use foreshift::telemetry::{Batch, EmbeddedStore, Source};

/// Monday, 2026-01-05T00:00:00Z.
const START: Timestamp = Timestamp(1_767_571_200_000);
const LIFE: Span = Span::hours(12);

/// The metrics of a partition at one time, by name.
type Sampled = (Timestamp, BTreeMap<String, f64>);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_trained_in_the_background_runs_in_shadow() {
    let clock = Arc::new(ManualClock::at(START));
    let mut options = DemoOptions::new(clock.clone());
    options.history = HistoryPlan { span: Span::days(1), ..HistoryPlan::default() };
    let mut fleet = SimFleet::new(11, options);
    let series = EmbeddedStore::in_memory().unwrap();
    series.append_many(&fleet.history()).unwrap();
    let mut lived: BTreeMap<PartitionId, Vec<Sampled>> = BTreeMap::new();
    while clock.now() < START + LIFE {
        clock.advance(Span::seconds(5));
        for message in fleet.step_to(clock.now()) {
            for reading in message.readings.into_iter().filter(|r| r.at.0 % 30_000 == 0) {
                let partition = PartitionId::of(&message.host, &reading.partition);
                lived.entry(partition).or_default().push((reading.at, reading.metrics));
            }
        }
    }
    for (partition, rows) in lived {
        let metrics: BTreeSet<&String> = rows.iter().flat_map(|(_, m)| m.keys()).collect();
        let mut batch = Batch::new(rows.iter().map(|(at, _)| *at).collect());
        for metric in metrics {
            let values = rows.iter().map(|(_, m)| m.get(metric).map_or(f32::NAN, |v| *v as f32)).collect();
            batch = batch.with_column(metric.as_str(), values);
        }
        series.append(&partition, &batch).unwrap();
    }
    let now = START + LIFE;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.predict.training.from = LIFE;
    let source: Arc<dyn Source> = Arc::new(series);
    let ground = Ground {
        config,
        store: store.clone(),
        embedded: Some(source),
        registry: Registry::new(dir.path(), "all"),
    };
    let said = once(&ground, now).await.unwrap();
    assert!(said.contains("0 failures are recorded within") && said.contains("20 are needed"), "{said}");

    let mut failures = Failures::load(&*store).await.unwrap();
    let died: Vec<_> = fleet.ledger().failures.clone();
    for failure in died.iter().filter(|f| !f.harmless) {
        let Some(at) = failure.died.filter(|at| *at <= now) else { continue };
        for partition in &failure.partitions {
            let record = Failure {
                number: 0,
                at,
                subject: partition.to_string(),
                cause: "died".into(),
                label: Label::Failed,
                origin: Origin::Heartbeat,
            };
            failures.add(&*store, record).await.unwrap();
        }
    }
    let said = once(&ground, now).await.unwrap();
    println!("{said}");
    let standing = ground.registry.standing().unwrap();
    let shadow = standing.shadow.map(|s| (s.version, s.seat));
    assert_eq!((standing.current, shadow), (0, Some((1, Seat::Challenger))), "{said}");
    let cards = ground.registry.cards(1).unwrap();
    let learnt = cards.iter().filter(|c| c.data.source.contains("embedded") || c.data.until == now);
    assert!(learnt.clone().count() > 0 && learnt.clone().all(|c| c.ranges.is_some()), "{cards:?}");
    let said = once(&ground, now + Span::days(1)).await.unwrap();
    assert!(said.contains("version 1 is still being tried"), "{said}");
    assert_eq!(ground.registry.versions(), [1]);
}
