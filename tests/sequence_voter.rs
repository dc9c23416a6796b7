//! The engine's detector votes with the LSTM that `foreshift eval anomaly` is measured with: trained from the
//! same history it is the same model, it reads the same rows alike, and it goes on over a restart.

use std::collections::HashMap;
use std::sync::Arc;

use foreshift::engine::brain::Brain;
use foreshift::engine::observe::Pulled;
use foreshift::engine::teach::{Round, TeachOptions, pair, round};
use foreshift::fleet::{PartitionId, Span, Timestamp, Topology};
use foreshift::predict::anomaly::model::SEQUENCE;
use foreshift::predict::anomaly::{AnomalyModel, FitOptions, Sequencing};
use foreshift::predict::keep::Shelf;
use foreshift::predict::{Anomaly, AssessOptions, ForecastOptions, HysteresisOptions, Taught};
use foreshift::telemetry::{Batch, EmbeddedStore, Source, WindowsConfig};

/// Monday, 2026-01-05T00:00:00Z.
const START: Timestamp = Timestamp(1_767_571_200_000);
const STEP: Span = Span::seconds(30);
const HISTORY: Span = Span::days(8);
const LIFE: Span = Span::hours(2);
/// From here on a relation to the past is broken for a quarter of an hour.
const BREAKS: Timestamp = Timestamp(START.0 + 80 * 60_000);
const METRICS: [&str; 3] = ["cpu.busy", "mem.used", "queue.length.of.ours"];

/// `[metric][row]` from the begin of history to the end of life: the second metric repeats what the first was
/// 40 rows ago.
fn values() -> Vec<Vec<f32>> {
    let mut seed = 1u64;
    let mut noise = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let rows = (HISTORY + LIFE).0 / STEP.0;
    let load: Vec<f32> = (0..rows).map(|t| 50.0 + 20.0 * (t as f32 / 60.0).sin() + noise()).collect();
    let broken = |t: usize| {
        let since = (START - HISTORY + Span(t as i64 * STEP.0) - BREAKS).0;
        (0..15 * 60_000).contains(&since)
    };
    let late = |t: usize| if broken(t) { load[t] } else { load[t.saturating_sub(40)] };
    let second = (0..load.len()).map(late).collect();
    let third = (0..rows).map(|_| 3.0 + noise()).collect();
    vec![load, second, third]
}

struct Life {
    brain: Brain,
    now: Timestamp,
    pulled: Timestamp,
}

impl Life {
    fn begin(now: Timestamp) -> Life {
        let config = WindowsConfig::default();
        let brain = Brain::new(config, AssessOptions::default(), HysteresisOptions::default(), now);
        Life { brain, now, pulled: now - Span(STEP.0 * config.len as i64) }
    }

    /// One cycle, and what the detector says of the slot that is read in it.
    async fn step(&mut self, store: &EmbeddedStore) -> Option<Anomaly> {
        let mut pulled = Pulled::default();
        store.pull(self.pulled, self.now + Span(1), &mut pulled).await.unwrap();
        self.pulled = self.now + Span(1);
        self.brain.take(pulled, self.now);
        self.brain.cycle(&Topology::default(), &[], &HashMap::new(), self.now);
        self.now += STEP;
        let ix = self.brain.windows().partition(&PartitionId::from("h1/p1"))?;
        self.brain.assessor().anomaly(ix)
    }

    /// Fits the detector from the store's days.
    async fn taught(&mut self, store: &EmbeddedStore, shelf: &Shelf) -> Taught {
        let (mut pupil, desk) = pair(&ForecastOptions::default());
        let desk = desk.keeping(shelf.clone());
        let options = TeachOptions { windows: WindowsConfig::default(), span: Span::days(14) };
        let due = self.brain.lessons_due(Span::days(1));
        let asked = async {
            pupil.asked.recv().await.unwrap().send(due).unwrap();
        };
        let (done, ()) = tokio::join!(round(store, &desk, &options, self.now), asked);
        assert_eq!(done.unwrap(), Round { due: 1, taught: 1, left: 0 });
        pupil.lessons.recv().await.unwrap().1
    }
}

fn bits(said: Option<Anomaly>) -> Option<(u64, u64, bool)> {
    said.map(|a| (a.score.to_bits(), a.strength.to_bits(), a.alarmed))
}

#[tokio::test]
async fn the_engine_votes_with_the_lstm_of_the_evaluation_also_after_a_restart() {
    let values = values();
    let rows = values[0].len();
    let at = |t: usize| START - HISTORY + Span(t as i64 * STEP.0);
    let store = EmbeddedStore::in_memory().unwrap();
    let mut batch = Batch::new((0..rows).map(at).collect());
    for (name, column) in METRICS.iter().zip(&values) {
        batch = batch.with_column(*name, column.clone());
    }
    let partition = PartitionId::from("h1/p1");
    store.append(&partition, &batch).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(folder.path(), STEP);
    let mut life = Life::begin(START);
    life.step(&store).await;
    let taught = life.taught(&store, &shelf).await;
    assert!(taught.model.sequence().is_some(), "days of history of which the past tells the present");

    // The evaluation, on the same rows as a train file and a test file. It reads what the window held.
    let row_of = |when: Timestamp| ((when - (START - HISTORY)).0 / STEP.0) as usize;
    let part = |from: usize, to: usize| values.iter().map(|c| &c[from..to]).collect::<Vec<_>>();
    let (from, until) = (row_of(taught.from), row_of(taught.until) + 1);
    let options =
        FitOptions { rows_per_day: 2880.0, sequence: Sequencing::Trained(SEQUENCE), ..FitOptions::default() };
    let (evaluated, _) = AnomalyModel::fit(&part(from, until), &options).unwrap();
    assert!(evaluated == taught.model, "one history, one model");
    let first = row_of(life.brain.windows().tail()) + 1;
    let file = evaluated.read_columns(&part(first, rows)).unwrap();

    // A peer that borrowed the network.
    shelf.keep(&PartitionId::from("h2/p1"), &taught).unwrap();
    assert!(life.brain.teach(&partition, taught));
    let restart = START + Span::minutes(70);
    let (mut said, mut kept) = (Vec::new(), None);
    while life.now < START + LIFE {
        if life.now == restart {
            kept = life.brain.streams();
        }
        let now = life.now;
        let slot = row_of(now) - 2 - first;
        let anomaly = life.step(&store).await.expect("it is watched");
        assert!((anomaly.score - f64::from(file.score[slot])).abs() < 1e-6, "row {slot}: {anomaly:?}");
        assert_eq!(anomaly.alarmed, file.alarmed[slot], "row {slot}");
        said.push((now, bits(Some(anomaly))));
    }
    let alarm = said.iter().find(|(_, s)| s.is_some_and(|s| s.2)).expect("the broken relation is an alarm").0;
    assert!((BREAKS..BREAKS + Span::minutes(15)).contains(&alarm), "{:?}", alarm - START);

    shelf.keep_streams(&kept.unwrap()).unwrap();
    let mut loaded = shelf.load(restart);
    loaded.kept.sort_by(|a, b| a.partition.cmp(&b.partition));
    assert!(loaded.refused.is_empty() && loaded.kept[0].stream.is_some(), "{:?}", loaded.refused);
    let [own, borrowed] = [0, 1].map(|k| loaded.kept[k].taught.model.sequence().unwrap().network().clone());
    assert!(Arc::ptr_eq(&own, &borrowed), "what peers share is held once");
    assert!(loaded.kept[0].taught.model == evaluated, "it comes back as it was, network and all");
    println!("{} bytes on disk", std::fs::metadata(shelf.place(&partition)).unwrap().len());
    let mut life = Life::begin(restart);
    life.brain.remember(loaded.kept);
    for (now, before) in said.iter().filter(|(now, _)| *now >= restart) {
        assert_eq!(bits(life.step(&store).await), *before, "{:?}", *now - START);
    }
}
