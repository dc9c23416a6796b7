//! The LSTM among the forecasts' candidates: the engine trains one network an application from the history
//! that it reads for detectors, tries it on every series and shows where it was chosen; it outlives a restart,
//! and what was changed on the disk is refused with words.

use std::collections::HashMap;
use std::path::Path;

use foreshift::engine::brain::Brain;
use foreshift::engine::observe::Pulled;
use foreshift::engine::teach::{Round, TeachOptions, pair, round};
use foreshift::fleet::rng::Random;
use foreshift::fleet::{PartitionId, Span, Timestamp, Topology};
use foreshift::predict::forecast::{Network, Shape};
use foreshift::predict::keep::{MOST_AGE, NetworkShelf, NetworkUnfit};
use foreshift::predict::models::lstm::train::Training;
use foreshift::predict::train::ForecastModel;
use foreshift::predict::{AssessOptions, ForecastOptions, HysteresisOptions};
use foreshift::telemetry::{Batch, EmbeddedStore, PartitionIx, Source, WindowsConfig};

/// Monday, 2026-01-05T00:00:00Z.
const START: Timestamp = Timestamp(1_767_571_200_000);
const STEP: Span = Span::seconds(30);
const HISTORY: Span = Span::days(6);
const PARTITIONS: usize = 5;
const METRICS: [&str; 5] = ["mem.used", "cpu.busy", "queue.of.ours", "heap.of.ours", "pool.of.ours"];
/// Steps of forecasts.
const COARSE: Span = Span::minutes(2);

/// A heap that fills at a rate that differs from time to time, and is emptied when it is full: no linear
/// method says when.
fn heap(rows: i64, random: &mut Random) -> Vec<f32> {
    let mut level = random.between(5.0, 80.0);
    let mut rate = random.between(0.75, 2.0);
    (0..rows)
        .map(|_| {
            level += rate;
            if level >= 88.0 {
                (level, rate) = (5.0, random.between(0.75, 2.0));
            }
            (level + 0.3 * random.normal()) as f32
        })
        .collect()
}

fn lived() -> EmbeddedStore {
    let store = EmbeddedStore::in_memory().unwrap();
    let rows = HISTORY.0 / STEP.0;
    let mut random = Random::new(1);
    for p in 0..PARTITIONS {
        let times = (0..rows).map(|t| START - Span((rows - t) * STEP.0)).collect();
        let mut batch = Batch::new(times);
        for metric in METRICS {
            batch = batch.with_column(metric, heap(rows, &mut random));
        }
        store.append(&PartitionId::from(format!("h{p}/p1")), &batch).unwrap();
    }
    store
}

/// What mem.used of each partition is forecast by.
fn methods(brain: &Brain) -> Vec<String> {
    (0..PARTITIONS)
        .flat_map(|p| brain.assessor().forecasts(PartitionIx(p as u32)))
        .filter(|f| f.metric.as_str() == "mem.used")
        .map(|f| f.method.clone())
        .collect()
}

/// As many cycles as it takes until all forecasts were made anew.
fn cycles(brain: &mut Brain) {
    for _ in 0..=ForecastOptions::default().every_cycles {
        brain.cycle(&Topology::default(), &[], &HashMap::new(), START);
    }
}

#[tokio::test]
async fn the_engine_trains_a_network_chooses_it_where_it_wins_and_keeps_it() {
    let (store, folder) = (lived(), tempfile::tempdir().unwrap());
    let config = WindowsConfig::default();
    let window = Span(STEP.0 * config.len as i64);
    let mut brain = Brain::new(config, AssessOptions::default(), HysteresisOptions::default(), START);
    let mut pulled = Pulled::default();
    store.pull(START - window, START, &mut pulled).await.unwrap();
    brain.take(pulled, START);
    cycles(&mut brain);
    assert_eq!(methods(&brain).len(), PARTITIONS, "all are forecast without a network, too");
    assert!(methods(&brain).iter().all(|m| !m.contains("LSTM")));

    let shelf = NetworkShelf::new(folder.path(), COARSE);
    let (mut pupil, desk) = pair(&ForecastOptions::default());
    let desk = desk.keeping_networks(shelf.clone());
    let options = TeachOptions { windows: config, span: Span::days(14) };
    let due = brain.lessons_due(Span::days(1));
    let asked = async { pupil.asked.recv().await.unwrap().send(due).unwrap() };
    let (done, ()) = tokio::join!(round(&store, &desk, &options, START), asked);
    assert_eq!(done.unwrap(), Round { due: PARTITIONS, taught: PARTITIONS, left: 0 });
    let model = pupil.forecasters.try_recv().expect("a network was trained");
    assert!(pupil.forecasters.try_recv().is_err(), "one for all of them");
    let [error, last_value] = model.errors;
    assert!(error < 0.8 * last_value, "{error} and {last_value} on what was held back");
    assert_eq!(model.until, START - window, "the engine's own window was not looked at");

    assert!(brain.use_forecaster(model.clone()));
    cycles(&mut brain);
    let chosen = methods(&brain).iter().filter(|m| m.contains("LSTM (16 cells)")).count();
    assert!(chosen >= 3, "{:?}", methods(&brain));
    let other = ForecastModel { step: Span::minutes(5), ..model.clone() };
    assert!(!brain.use_forecaster(other), "one for other steps is not used");

    // After a restart.
    let (kept, refused) = shelf.load(START + Span::hours(1));
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(kept, [model]);
    for (now, shelf, words) in [
        (START + MOST_AGE + Span::hours(1), shelf.clone(), "was trained"),
        (START - Span::days(1), shelf.clone(), "after now"),
        (START, NetworkShelf::new(folder.path(), Span::minutes(5)), "made in steps of 5 m"),
    ] {
        let (kept, refused) = shelf.load(now);
        assert!(kept.is_empty());
        assert!(refused[0].1.to_string().contains(words), "{}", refused[0].1);
    }
}

/// A small network, as good as untrained.
fn small() -> ForecastModel {
    let series = heap(400, &mut Random::new(2));
    let training = Training { hidden: 4, epochs: 1, batch: 4, ..Training::default() };
    let network = Network::train(&[&series], Shape::PLAIN, &training, 1, &mut |_, _, _| {}).unwrap();
    ForecastModel {
        network,
        application: "redis/cache".into(),
        step: COARSE,
        trained: START,
        until: START - Span::hours(2),
        errors: [0.5, 0.75],
        trained_on: [3, 200],
    }
}

#[test]
fn a_file_that_was_changed_at_any_byte_is_refused_with_words() {
    let model = small();
    let files = model.to_files("n.onnx");
    let card = files.card.to_toml().unwrap();
    assert_eq!(ForecastModel::read(&files.onnx, &card, "n.onnx"), Ok(model.clone()));
    let mut bent = files.onnx.clone();
    for at in 0..bent.len() {
        bent[at] ^= 1 << (at % 8);
        let error = ForecastModel::read(&bent, &card, "n.onnx").unwrap_err().to_string();
        assert!(error.starts_with("n.onnx: ") && error.contains("hash"), "byte {at}: {error}");
        bent[at] = files.onnx[at];
    }
    for end in (0..files.onnx.len()).step_by(97) {
        assert!(ForecastModel::read(&files.onnx[..end], &card, "n.onnx").is_err());
    }
    // Of the card every byte that says how the network is fed; others (a title) change nothing of it.
    let mut refused = 0;
    for at in 0..card.len() {
        let mut bent = card.clone().into_bytes();
        bent[at] ^= 1 << (at % 7);
        let Ok(text) = String::from_utf8(bent) else { continue };
        match ForecastModel::read(&files.onnx, &text, "n.onnx") {
            Err(error) => {
                assert!(error.to_string().starts_with("n.onnx: "), "{error}");
                refused += 1;
            }
            Ok(read) => assert_eq!(
                (read.network, read.application, read.step, read.trained, read.until),
                (model.network.clone(), model.application.clone(), model.step, model.trained, model.until),
            ),
        }
    }
    assert!(refused * 2 > card.len(), "{refused} of {}", card.len());
}

#[test]
fn what_stands_under_another_name_or_without_its_card_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = NetworkShelf::new(folder.path(), COARSE);
    let model = small();
    shelf.keep(&model).unwrap();
    assert_eq!(shelf.load(START).0, [model]);
    let (mine, other) = (shelf.place("redis/cache"), shelf.place("oltp/accounts"));
    let copy = |from: &Path, to: &Path| std::fs::copy(from, to).unwrap();
    copy(&mine, &other);
    let (kept, refused) = shelf.load(START);
    assert_eq!(kept.len(), 1);
    assert!(matches!(&refused[..], [(place, NetworkUnfit::Unread { .. })] if *place == other), "{refused:?}");
    copy(&mine.with_extension("toml"), &other.with_extension("toml"));
    let (_, refused) = shelf.load(START);
    assert!(refused[0].1.to_string().contains("is a network of redis/cache"), "{}", refused[0].1);
    std::fs::write(&other, vec![0; 2 << 20]).unwrap();
    let (_, refused) = shelf.load(START);
    assert!(refused[0].1.to_string().contains("longer than"), "{}", refused[0].1);
}
