//! The engine trains by itself: on its own store's history and recorded failures, into shadow and never
//! straight into use, and not again while the last one is being tried.

use std::sync::Arc;

use foreshift::cli::train_background::{Ground, once};
use foreshift::config::Config;
use foreshift::engine::failures::{Failure, Failures, Label, Origin};
use foreshift::fleet::{Clock, ManualClock, Span, Timestamp};
use foreshift::predict::train::{Registry, Seat};
use foreshift::sim::{DemoOptions, HistoryPlan, SimFleet};
use foreshift::state::{MemoryStore, Store};
use foreshift::telemetry::{EmbeddedStore, Source};

/// Monday, 2026-01-05T00:00:00Z.
const START: Timestamp = Timestamp(1_767_571_200_000);
const LIFE: Span = Span::hours(12);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_trained_in_the_background_runs_in_shadow() {
    let clock = Arc::new(ManualClock::at(START));
    let mut options = DemoOptions::new(clock.clone());
    options.history = HistoryPlan { span: Span::days(1), ..HistoryPlan::default() };
    let mut fleet = SimFleet::new(11, options);
    let series = EmbeddedStore::in_memory().unwrap();
    series.append_many(&fleet.history()).unwrap();
    while clock.now() < START + LIFE {
        clock.advance(Span::seconds(30));
        series.append_many(&fleet.step_to(clock.now())).unwrap();
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
        embedded: Some((source.clone(), source)),
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
