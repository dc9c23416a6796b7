//! Detectors that were fitted from days of history outlive a restart: the engine goes on at the very row,
//! with the same scores and the same alarms, also where it was killed; and what does not fit what runs is
//! refused with words, whatever the bytes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foreshift::alert::Notifier;
use foreshift::engine::brain::Brain;
use foreshift::engine::inventory::Inventory;
use foreshift::engine::observe::{PullOptions, Pulled};
use foreshift::engine::teach::{Round, TeachOptions, pair, round};
use foreshift::engine::{Core, EngineOptions, Live, Parts, Surroundings};
use foreshift::fleet::rng::Random;
use foreshift::fleet::{ManualClock, PartitionId, Span, Timestamp};
use foreshift::plan::PlanOptions;
use foreshift::predict::anomaly::model::SEQUENCE;
use foreshift::predict::anomaly::{AnomalyModel, FitOptions, Scratch, Sequencing};
use foreshift::predict::keep::{MOST_AGE, Shelf, Unfit, record};
use foreshift::predict::models::lstm::train::Training;
use foreshift::predict::{Anomaly, AssessOptions, ForecastOptions, HysteresisOptions, Taught};
use foreshift::protocol::{Link, ModelStatus};
use foreshift::state::MemoryStore;
use foreshift::telemetry::{Batch, EmbeddedStore, Source, WindowsConfig};
use proptest::prelude::*;

/// Monday, 2026-01-05T00:00:00Z: what is before it is history.
const START: Timestamp = Timestamp(1_767_571_200_000);
const STEP: Span = Span::seconds(30);
const HISTORY: Span = Span::days(4);
const LIFE: Span = Span::hours(3);
/// From here on a relation is broken for half an hour.
const BREAKS: Timestamp = Timestamp(START.0 + 100 * 60_000);
const PARTITIONS: usize = 3;

fn partition(p: usize) -> PartitionId {
    PartitionId::from(format!("h{p}/p1"))
}

/// Four days and three hours of partitions that follow a daily load; the second one breaks a relation and
/// has no sample for four minutes.
fn lived() -> EmbeddedStore {
    let store = EmbeddedStore::in_memory().unwrap();
    let rows = (HISTORY + LIFE).0 / STEP.0;
    for p in 0..PARTITIONS {
        let at = |t: i64| START - HISTORY + Span(t * STEP.0);
        let there = |t: &i64| p != 1 || !(0..240_000).contains(&(at(*t) - START - Span::minutes(55)).0);
        let kept: Vec<i64> = (0..rows).filter(there).collect();
        let wave = |t: i64, by: f32| {
            40.0 + 10.0 * (t as f32 / 458.0).sin() + by * (((t + 31 * p as i64) * 7919) % 101) as f32
        };
        let broken = |t: i64| p == 1 && (0..30 * 60_000).contains(&(at(t) - BREAKS).0);
        let batch = Batch::new(kept.iter().map(|t| at(*t)).collect())
            .with_column("cpu.busy", kept.iter().map(|t| wave(*t, 0.02)).collect())
            .with_column("mem.used", kept.iter().map(|t| 20.0 + wave(*t, 0.05)).collect())
            .with_column(
                "queue.length.of.ours",
                kept.iter().map(|t| 0.5 * wave(*t, 0.03) - if broken(*t) { 6.0 } else { 0.0 }).collect(),
            );
        store.append(&partition(p), &batch).unwrap();
    }
    store
}

/// An engine at work on a store.
struct Life {
    core: Core,
    now: Timestamp,
    pulled: Timestamp,
}

async fn core(now: Timestamp) -> Core {
    let options = EngineOptions::default();
    let brain = Brain::new(options.windows, AssessOptions::default(), HysteresisOptions::default(), now);
    let parts = Parts {
        options,
        brain,
        plan: PlanOptions::default(),
        store: Arc::new(MemoryStore::new()),
        runner: None,
        movers: HashMap::new(),
        inventory: Inventory::default(),
        source_name: "a test".into(),
        models: ModelStatus::default(),
    };
    Core::start(parts, now).await.unwrap()
}

type Said = Vec<Option<Anomaly>>;

impl Life {
    /// Begins, with what the shelf holds.
    async fn begin(shelf: Option<&Shelf>, now: Timestamp) -> Life {
        let mut core = core(now).await;
        if let Some(shelf) = shelf {
            let loaded = shelf.load(now);
            assert!(loaded.refused.is_empty(), "{:?}", loaded.refused);
            core.brain_mut().remember(loaded.kept);
        }
        Life { core, now, pulled: now - Span(STEP.0 * WindowsConfig::default().len as i64) }
    }

    /// One cycle; what the detectors say.
    async fn step(&mut self, store: &EmbeddedStore) -> Said {
        let mut pulled = Pulled::default();
        store.pull(self.pulled, self.now, &mut pulled).await.unwrap();
        self.pulled = self.now;
        self.core.take(pulled, self.now);
        self.core.cycle(self.now).await.unwrap();
        let of = |p| self.core.assessments().iter().find(|a| a.partition == partition(p));
        let said = (0..PARTITIONS).map(|p| of(p).and_then(|a| a.anomaly)).collect();
        self.now += STEP;
        said
    }

    async fn until(&mut self, store: &EmbeddedStore, end: Timestamp) -> Vec<(Timestamp, Said)> {
        let mut all = Vec::new();
        while self.now < end {
            let now = self.now;
            all.push((now, self.step(store).await));
        }
        all
    }

    /// Fits the detectors from the store's days, keeping them.
    async fn taught(&mut self, store: &EmbeddedStore, shelf: &Shelf) {
        let (mut pupil, desk) = pair(&ForecastOptions::default());
        let desk = desk.keeping(shelf.clone());
        let options = TeachOptions { windows: WindowsConfig::default(), span: Span::days(14) };
        let due = self.core.brain_mut().lessons_due(Span::days(1));
        let asked = async {
            pupil.asked.recv().await.unwrap().send(due).unwrap();
        };
        let (done, ()) = tokio::join!(round(store, &desk, &options, self.now), asked);
        assert_eq!(done.unwrap(), Round { due: PARTITIONS, taught: PARTITIONS, left: 0 });
        for _ in 0..PARTITIONS {
            let (partition, taught) = pupil.lessons.recv().await.unwrap();
            assert!(self.core.brain_mut().teach(&partition, taught));
        }
    }
}

/// What the engine says that is never stopped, of every cycle; its detectors are on the shelf.
async fn unbroken(store: &EmbeddedStore, shelf: &Shelf, keep_at: &[Timestamp]) -> Vec<(Timestamp, Said)> {
    let mut life = Life::begin(None, START).await;
    let mut said = life.until(store, START + STEP).await;
    life.taught(store, shelf).await;
    for (n, at) in keep_at.iter().enumerate() {
        said.extend(life.until(store, *at).await);
        std::fs::write(
            streams_of(shelf).with_extension(n.to_string()),
            life.core.brain_mut().streams().unwrap(),
        )
        .unwrap();
    }
    said.extend(life.until(store, START + LIFE).await);
    said
}

fn streams_of(shelf: &Shelf) -> PathBuf {
    shelf.place(&partition(0)).with_file_name("streams")
}

fn alarms(said: &[(Timestamp, Said)], p: usize) -> Vec<Timestamp> {
    said.iter().filter(|(_, s)| s[p].is_some_and(|a| a.alarmed)).map(|(at, _)| *at).collect()
}

#[tokio::test]
async fn after_a_restart_the_same_samples_alarm_at_the_same_sample_with_the_same_score() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(folder.path(), STEP);
    let store = lived();
    let stopped = START + Span::minutes(60);
    // Streams are kept every ten minutes, so a killed engine's are older than its end.
    let killed = START + Span::minutes(75);
    let before = unbroken(&store, &shelf, &[stopped]).await;
    let first = alarms(&before, 1).first().copied().expect("the broken relation is an alarm");
    assert!((BREAKS..BREAKS + Span::minutes(10)).contains(&first), "{first:?}");
    assert!(before.iter().any(|(_, s)| s[1].is_some_and(|a| a.is_suspect())));

    std::fs::rename(streams_of(&shelf).with_extension("0"), streams_of(&shelf)).unwrap();
    for (name, from) in [("stopped", stopped), ("killed", killed), ("killed as it breaks", first)] {
        let mut life = Life::begin(Some(&shelf), from).await;
        let after = life.until(&store, START + LIFE).await;
        let same: Vec<_> = before.iter().filter(|(at, _)| *at >= from).collect();
        assert_eq!(after.len(), same.len());
        for ((at, ours), (_, theirs)) in after.iter().zip(same) {
            assert!(ours.iter().flatten().all(|a| a.by_days), "{name}, {:?}", *at - START);
            for (ours, theirs) in ours.iter().zip(theirs) {
                let bits =
                    |a: &Option<Anomaly>| a.map(|a| (a.score.to_bits(), a.strength.to_bits(), a.alarmed));
                assert_eq!(bits(ours), bits(theirs), "{name}, {:?}", *at - START);
            }
        }
    }

    // Without streams the level is there and the alarm comes; a stream that begins anew differs a little.
    std::fs::remove_file(streams_of(&shelf)).unwrap();
    let mut life = Life::begin(Some(&shelf), killed).await;
    let after = life.until(&store, START + LIFE).await;
    assert_eq!(alarms(&after, 1).first(), Some(&first));

    // And an engine that kept nothing is blind to it.
    let mut life = Life::begin(None, killed).await;
    let blind = life.until(&store, START + LIFE).await;
    assert!(!blind.iter().any(|(_, s)| s[1].is_some_and(|a| a.is_suspect())));
}

#[tokio::test]
async fn a_stream_whose_rows_are_gone_begins_anew_and_never_waits_for_its_own_future() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(folder.path(), STEP);
    let store = lived();
    unbroken(&store, &shelf, &[START + Span::minutes(20), START + Span::minutes(170)]).await;
    let first = |said: &[(Timestamp, Said)]| alarms(said, 1).first().copied();
    // Kept two and a half hours before the start: the window has lost a part of what is between.
    std::fs::copy(streams_of(&shelf).with_extension("0"), streams_of(&shelf)).unwrap();
    let mut life = Life::begin(Some(&shelf), START + Span::minutes(175)).await;
    let said = life.until(&store, START + LIFE).await;
    assert!(said.iter().all(|(_, s)| s.iter().all(|a| a.is_some_and(|a| a.by_days))));
    // Kept by a clock that ran an hour and more ahead.
    std::fs::copy(streams_of(&shelf).with_extension("1"), streams_of(&shelf)).unwrap();
    let mut life = Life::begin(Some(&shelf), START + Span::minutes(90)).await;
    let said = life.until(&store, START + LIFE).await;
    let alarm = first(&said).expect("it reads on at once");
    assert!((BREAKS..BREAKS + Span::minutes(10)).contains(&alarm), "{:?}", alarm - START);
}

#[tokio::test]
async fn an_engine_that_stops_keeps_its_streams_and_the_next_one_has_them_before_its_first_cycle() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(folder.path(), STEP);
    let store = lived();
    unbroken(&store, &shelf, &[]).await;
    let clock = Arc::new(ManualClock::at(START + Span::minutes(125)));
    for streams in [false, true] {
        let loaded = shelf.load(clock.now_is());
        assert_eq!(
            (loaded.kept.len(), loaded.kept.iter().all(|k| k.stream.is_some())),
            (PARTITIONS, streams)
        );
        let mut core = core(clock.now_is()).await;
        core.brain_mut().remember(loaded.kept);
        let around = Surroundings {
            clock: clock.clone(),
            every: Duration::from_millis(50),
            source: Arc::new(store.aside()),
            history: None,
            pull: PullOptions {
                interval: Span::millis(50),
                deadline: Span::seconds(5),
                step: STEP,
                reach: Span::hours(2),
            },
            sink: None,
            movers: HashMap::new(),
            notifier: Notifier::start(Vec::new()),
            intake: None,
            pupil: None,
            shelf: Some(shelf.clone()),
        };
        let live = Live::start(core, around);
        let mut snapshots = live.link.snapshots();
        let suspect = async {
            loop {
                let shown = snapshots.borrow_and_update().clone();
                if shown.partitions.iter().any(|p| p.id == partition(1) && p.health.is_some()) {
                    return;
                }
                snapshots.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(30), suspect).await.expect("a cycle");
        live.stop().await;
    }
}

trait Now {
    fn now_is(&self) -> Timestamp;
}

impl Now for ManualClock {
    fn now_is(&self) -> Timestamp {
        foreshift::fleet::Clock::now(self)
    }
}

fn taught() -> Taught {
    let rows = 5 * 2880;
    let columns: Vec<Vec<f32>> = (0..3)
        .map(|m| {
            (0..rows).map(|t| (m + 1) as f32 * (t as f32 / 458.0).sin() + ((t * 7919) % 101) as f32).collect()
        })
        .collect();
    let columns: Vec<&[f32]> = columns.iter().map(Vec::as_slice).collect();
    let options = FitOptions { rows_per_day: 2880.0, ..FitOptions::default() };
    let (model, _) = AnomalyModel::fit(&columns, &options).unwrap();
    let metrics = ["cpu.busy", "mem.used", "queue.length.of.ours"].map(Into::into).to_vec();
    Taught { model, metrics, fitted: START, from: START - Span::days(5), until: START - Span::minutes(10) }
}

/// With a small LSTM voter: the second metric is what the first was three rows ago, which no linear voter sees.
fn voting() -> Taught {
    let mut random = Random::new(1);
    let load: Vec<f32> = (0..21_000).map(|_| random.between(20.0, 60.0) as f32).collect();
    let late: Vec<f32> =
        (0..load.len()).map(|t| load[t.saturating_sub(3)] + random.normal() as f32).collect();
    let training = Training { hidden: 8, epochs: 6, ..SEQUENCE };
    let options = FitOptions { rows_per_day: 2880.0, sequence: Sequencing::Trained(training), pooled: None };
    let (model, _) = AnomalyModel::fit(&[&load, &late], &options).unwrap();
    assert!(model.sequence().is_some(), "its voter wins");
    Taught { model, metrics: ["cpu.busy", "mem.used"].map(Into::into).to_vec(), ..small().clone() }
}

/// The bytes with their hash made right again.
fn signed(mut body: Vec<u8>) -> Vec<u8> {
    let hash = blake3::hash(&body);
    body.extend(hash.as_bytes());
    body
}

/// The only file that is refused, and why.
fn refused(folder: &Path, now: Timestamp) -> String {
    let loaded = Shelf::new(folder, STEP).load(now);
    assert!(loaded.kept.is_empty() && loaded.refused.len() == 1, "{loaded:?}");
    loaded.refused[0].1.to_string()
}

#[test]
fn what_does_not_fit_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(folder.path(), STEP);
    let own = partition(0);
    shelf.keep(&own, &taught()).unwrap();
    let place = shelf.place(&own);
    let good = std::fs::read(&place).unwrap();
    assert_eq!(shelf.load(START).kept[0].taught.model, taught().model, "it comes back as it was");
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "no draft is left behind");
    println!("{} bytes of 3 metrics", good.len());

    let said = |bytes: &[u8]| {
        std::fs::write(&place, bytes).unwrap();
        refused(folder.path(), START)
    };
    for cut in [good.len() - 1, good.len() / 2, 40] {
        assert!(said(&good[..cut]).contains("changed or cut short"));
    }
    assert!(said(b"").contains("is not a detector that Foreshift wrote"));
    assert!(said(&[b'x'; 5000]).contains("is not a detector that Foreshift wrote"));
    let mut bent = good.clone();
    bent[good.len() / 2] ^= 1;
    assert!(said(&bent).contains("changed or cut short"));
    let body = &good[..good.len() - 32];
    let with = |at: usize, byte: u8| {
        let mut body = body.to_vec();
        body[at] = byte;
        signed(body)
    };
    assert!(said(&with(4, 1)).contains("format 1; this program reads format 2"));
    assert!(said(&with(6, 9)).contains("kind 9"));
    assert!(said(&signed(body[..body.len() - 4].to_vec())).contains("the model"));
    assert!(said(&vec![0; 2 << 20]).contains("bytes long"));
    std::fs::write(&place, &good).unwrap();
    let other = Shelf::new(folder.path(), Span::seconds(60)).load(START);
    assert!(other.refused[0].1.to_string().contains("grid of 30 s; telemetry.step is 1 m 00"), "{other:?}");
    assert!(refused(folder.path(), START - Span::hours(2)).contains("after now"));
    let elsewhere = shelf.place(&partition(1));
    std::fs::rename(&place, &elsewhere).unwrap();
    assert!(refused(folder.path(), START).contains("detector of h0/p1, under another's name"));
    std::fs::rename(&elsewhere, &place).unwrap();
    let late = START + MOST_AGE + Span::minutes(1);
    assert!(refused(folder.path(), late).contains("it is used for 7 d"));
    assert!(!place.exists(), "what is too old is taken off the disk");
}

#[tokio::test]
async fn a_detector_of_another_schema_is_refused_and_fitted_anew() {
    let mut life = Life::begin(None, START).await;
    let store = lived();
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(folder.path(), STEP);
    let mut other = taught();
    other.metrics[2] = "a.metric.that.is.gone".into();
    shelf.keep(&partition(0), &other).unwrap();
    shelf.keep(&partition(1), &taught()).unwrap();
    life.core.brain_mut().remember(shelf.load(START).kept);
    life.step(&store).await;
    let due: Vec<PartitionId> =
        life.core.brain_mut().lessons_due(Span::days(1)).into_iter().map(|d| d.partition).collect();
    assert_eq!(due, [partition(0), partition(2)], "one is refused, one was never there");
    let mut windows = foreshift::telemetry::Windows::new(WindowsConfig::default(), START);
    let ix = windows.intern(&partition(0));
    let mut assessor = foreshift::predict::Assessor::new(AssessOptions::default());
    let refused = |kept| assessor.resume(&windows, ix, kept).unwrap_err();
    let refusals: Vec<Unfit> = shelf.load(START).kept.into_iter().map(refused).collect();
    let words: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    assert!(
        words.iter().any(|w| w.contains("a.metric.that.is.gone, which is not measured any more")),
        "{words:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_panic(
        noise in any::<Vec<u8>>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
        own in any::<bool>(),
        voter in any::<bool>(),
    ) {
        let taught = if voter { small_voting() } else { small() };
        let good = record::encode(&partition(0), taught, STEP).unwrap();
        let mut body = if own { good[..good.len() - 32].to_vec() } else { noise };
        for (at, byte) in &changes {
            if let Some(place) = (!body.is_empty()).then(|| at.index(body.len())) {
                body[place] = *byte;
            }
        }
        if !whole && !body.is_empty() {
            body.truncate(cut.index(body.len()));
        }
        // As it is, and with a hash that is right: what is read then can be run.
        let _ = record::decode(&body, STEP, START);
        if let Ok(kept) = record::decode(&signed(body), STEP, START) {
            let model = kept.taught.model;
            let (mut stream, mut room) = (model.stream(), Scratch::default());
            for t in 0..200 {
                let row = [t as f32, f32::NAN, 1e30, -3.0];
                model.read(&mut stream, &row[..model.metrics().min(4)], None, &mut room);
            }
        }
    }

    #[test]
    fn no_bytes_of_streams_make_a_panic(
        noise in any::<Vec<u8>>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        own in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path(), STEP);
        shelf.keep(&partition(0), small()).unwrap();
        let mut windows = foreshift::telemetry::Windows::new(WindowsConfig::default(), START);
        let ix = windows.intern(&partition(0));
        let mut assessor = foreshift::predict::Assessor::new(AssessOptions::default());
        for name in &small().metrics {
            let series = foreshift::telemetry::Ingest::series(&mut windows, &partition(0), name.as_str());
            foreshift::telemetry::Ingest::push(&mut windows, series, START, 1.0);
        }
        prop_assert!(assessor.teach(&windows, ix, small().clone()));
        let good = assessor.streams(&windows, std::iter::empty()).unwrap();
        let mut bytes = if own { good.clone() } else { noise };
        for (at, byte) in &changes {
            if let Some(place) = (!bytes.is_empty()).then(|| at.index(bytes.len())) {
                bytes[place] = *byte;
            }
        }
        // The part's hash is made right again: it is the only one, behind a head of 14 bytes and a length.
        if own {
            let end = bytes.len() - 16;
            let hash = blake3::hash(&bytes[18..end]);
            bytes[end..].copy_from_slice(&hash.as_bytes()[..16]);
        }
        shelf.keep_streams(&bytes).unwrap();
        let kept = shelf.load(START).kept.remove(0);
        if changes.is_empty() && own {
            prop_assert!(kept.stream.is_some());
        }
        assessor.resume(&windows, ix, kept).unwrap();
        windows.advance(START + Span::hours(1));
        let topology = foreshift::fleet::Topology::default();
        let context = foreshift::predict::Context { topology: &topology, failures: &[] };
        assessor.assess(&windows, &context, START + Span::hours(1));
    }
}

/// Fitted once, with an LSTM voter.
fn small_voting() -> &'static Taught {
    static SMALL: std::sync::OnceLock<Taught> = std::sync::OnceLock::new();
    SMALL.get_or_init(voting)
}

/// Fitted once.
fn small() -> &'static Taught {
    static SMALL: std::sync::OnceLock<Taught> = std::sync::OnceLock::new();
    SMALL.get_or_init(taught)
}
