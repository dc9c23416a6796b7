use super::*;
use crate::telemetry::{CANONICAL, MetricIx, PartitionIx, Reading, Sink, Source, Windows, WindowsConfig};
use std::time::Instant;

const START: Timestamp = Timestamp(1_900_000_000_000);

fn windows(at: Timestamp) -> Windows {
    Windows::new(WindowsConfig::default(), at)
}

fn message(at: Timestamp, value: f32) -> Batch {
    Batch::from_rows((0..6).map(|i| {
        let row = CANONICAL.iter().enumerate().map(move |(m, metric)| (metric.name, value + m as f32));
        (at + Span::seconds(5 * i), row.collect::<Vec<_>>())
    }))
}

#[tokio::test]
async fn what_agents_append_is_pulled_since_the_watermark_and_once() {
    let store = EmbeddedStore::in_memory().unwrap();
    let host = HostId::from("h1");
    store.put_label(&host, "rack", "r1").unwrap();
    for i in 0..20 {
        store.append(&"h1/p1".into(), &message(START + Span::seconds(30 * i), i as f32)).unwrap();
    }
    let end = START + Span::seconds(600);
    let mut w = windows(end);
    let all = store.pull(START, end, &mut w).await.unwrap();
    assert_eq!(all.points, 20 * 6 * 16);
    assert_eq!(all.newest, Some(START + Span::seconds(595)));
    assert_eq!(w.labels()[&host]["rack"], "r1");
    assert_eq!(w.latest(PartitionIx(0), MetricIx(3), 2), Some(22.0));

    let part = store.pull(START + Span::seconds(300), START + Span::seconds(330), &mut w).await.unwrap();
    assert_eq!(part.points, 6 * 16);
    let none = store.pull(end, end + Span::hours(1), &mut w).await.unwrap();
    assert_eq!((none.points, none.newest), (0, None));
}

const END: Timestamp = Timestamp(START.0 + Span::minutes(60).0);

/// A store whose last pull was before some samples came that are older than the newest: it, the windows that
/// were pulled into, and the newest.
async fn with_late_samples() -> (EmbeddedStore, Windows, Timestamp) {
    let store = EmbeddedStore::in_memory().unwrap();
    store.append(&"h1".into(), &message(END - Span::seconds(30), 1.0)).unwrap();
    let mut w = windows(END);
    let first = store.pull(START, END, &mut w).await.unwrap();
    store.append(&"h2".into(), &message(START + Span::minutes(10), 2.0)).unwrap();
    (store, w, first.newest.unwrap())
}

#[tokio::test]
async fn what_comes_behind_the_watermark_fills_the_gap() {
    let (store, mut w, newest) = with_late_samples().await;
    let second = store.pull(newest, END, &mut w).await.unwrap();
    assert_eq!(second.points, 16 + 6 * 16, "the newest again, and the late ones");
    let third = store.pull(newest, END, &mut w).await.unwrap();
    assert_eq!(third.points, 16, "the late ones are delivered once");
}

#[tokio::test]
async fn who_reads_beside_the_engine_takes_nothing_from_it() {
    let (store, mut w, newest) = with_late_samples().await;
    let mut other = windows(END);
    let aside = store.aside().pull(START, END, &mut other).await.unwrap();
    assert_eq!(aside.points, 2 * 6 * 16, "everything that is stored");
    let second = store.pull(newest, END, &mut w).await.unwrap();
    assert_eq!(second.points, 16 + 6 * 16, "the late ones still wait for the engine");
}

#[test]
fn history_comes_in_order_each_moment_once_whatever_the_order_of_writing() {
    let store = EmbeddedStore::temporary().unwrap();
    let samples: Vec<_> = (0..3000).map(|i| (START + Span::minutes(5 * i), i as f32)).collect();
    store.insert(&"h1".into(), "temp", &samples[1000..]).unwrap();
    store.insert(&"h1".into(), "temp", &samples[..1200]).unwrap();
    store.insert(&"h1".into(), "own.metric", &samples[..10]).unwrap();
    let (from, to) = (samples[7].0, samples[2990].0);
    assert_eq!(store.history(&"h1".into(), "temp", from, to).unwrap(), samples[7..2990]);
    assert_eq!(store.history(&"h1".into(), "own.metric", from, to).unwrap(), samples[7..10]);
    assert_eq!(store.history(&"h2".into(), "temp", from, to).unwrap(), []);
    assert_eq!(store.partitions().unwrap(), ["h1".into()]);
}

#[tokio::test]
async fn scores_are_written_back_and_read_by_their_tags() {
    let store = EmbeddedStore::in_memory().unwrap();
    let reading = |at, health| Reading {
        at,
        measurement: "foreshift_score".into(),
        tags: vec![("partition".into(), "h1/p1".into())],
        fields: vec![("health".into(), health), ("forecast".into(), f64::NAN)],
    };
    let readings = [reading(START, 90.0), reading(START + Span::seconds(30), f64::NAN)];
    let written = store.write(&readings).await.unwrap();
    assert_eq!((written.accepted, written.left_out), (1, 1));
    store.write(&readings[..1]).await.unwrap();
    let back = store.written("foreshift_score", "health", START, START + Span::hours(1)).unwrap();
    assert_eq!(back.len(), 1);
    assert_eq!(back[0].0, [("partition".to_string(), "h1/p1".to_string())]);
    assert_eq!(back[0].1.first(), Some(&(START, 90.0)));
}

#[test]
fn a_store_on_disk_is_there_again_after_it_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { path: Some(folder.path().join("tsdb")), ..Default::default() };
    let now = SystemClock.now();
    let store = EmbeddedStore::open(options.clone()).unwrap();
    store.insert(&"h1".into(), "temp", &[(now, 40.0)]).unwrap();
    store.put_label(&"h1".into(), "rack", "r9").unwrap();
    drop(store);
    let store = EmbeddedStore::open(options).unwrap();
    assert_eq!(store.history(&"h1".into(), "temp", now, now + Span::hours(1)).unwrap(), [(now, 40.0)]);
    assert_eq!(store.labels()[&HostId::from("h1")]["rack"], "r9");
    let old = store.insert(&"h1".into(), "temp", &[(now - Span::days(40), 1.0), (now, 41.0)]).unwrap();
    assert_eq!((old.expired, old.samples), (1, 1), "older than what is kept is counted, not an error");
}

#[test]
fn the_folder_of_a_temporary_store_is_gone_with_it() {
    let store = EmbeddedStore::temporary().unwrap();
    store.insert(&"h1".into(), "temp", &[(START, 40.0)]).unwrap();
    let path = store.0.path.clone().unwrap();
    assert!(path.exists());
    drop(store);
    assert!(!path.exists());
}

/// The history that the demonstration writes at its start; measured, not asserted (run in release
/// with `--nocapture`).
#[test]
fn three_days_of_sixty_partitions_are_written_and_read() {
    for store in [EmbeddedStore::in_memory().unwrap(), EmbeddedStore::temporary().unwrap()] {
        let begin = Instant::now();
        let times: Vec<Timestamp> = (0..864).map(|i| START + Span::minutes(5 * i)).collect();
        let batches: Vec<(PartitionId, Batch)> = (0..60)
            .map(|p| {
                let batch = CANONICAL.iter().fold(Batch::new(times.clone()), |b, m| {
                    b.with_column(m.name, (0..864).map(|i| (i * p % 97) as f32).collect())
                });
                (PartitionId::from(format!("h{p}")), batch)
            })
            .collect();
        let made = begin.elapsed();
        let done = store.append_many(&batches).unwrap();
        let wrote = begin.elapsed() - made;
        assert_eq!(done.samples, 60 * 16 * 864);
        let from = Instant::now();
        let scan = store.scan(START, START + Span::days(3)).unwrap();
        let read: usize = scan.rows.iter().map(|r| r.samples.len()).sum();
        assert_eq!(read, 60 * 16 * 864);
        println!(
            "{}: {} samples, made in {made:?}, written in {wrote:?}, read in {:?}, memory {} kB",
            store.0.store.place(),
            done.samples,
            from.elapsed(),
            store.memory_used() / 1024
        );
    }
}

/// What ten thousand agents send in half a minute; measured, not asserted.
#[test]
fn the_messages_of_ten_thousand_partitions_are_appended_in_one_call() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { path: Some(folder.path().into()), retention: None, ..Default::default() };
    let store = EmbeddedStore::open(options).unwrap();
    let batches: Vec<(PartitionId, Batch)> =
        (0..10_000).map(|p| (PartitionId::from(format!("h{p}")), message(START, p as f32))).collect();
    let begin = Instant::now();
    let done = store.append_many(&batches).unwrap();
    let wrote = begin.elapsed();
    assert_eq!(done.samples, 10_000 * 6 * 16);
    let scan = store.scan(START, START + Span::seconds(30)).unwrap();
    assert_eq!(scan.rows.len(), 10_000 * 16);
    println!(
        "{} samples with a log: written in {wrote:?}, read in {:?}, memory {} kB",
        done.samples,
        begin.elapsed() - wrote,
        store.memory_used() / 1024
    );
}

/// A store on disk with ten samples of `h1`, and its options.
fn on_disk(folder: &std::path::Path) -> (EmbeddedStore, EmbeddedOptions, Timestamp) {
    let options = EmbeddedOptions { path: Some(folder.join("tsdb")), retention: None, ..Default::default() };
    let store = EmbeddedStore::open(options.clone()).unwrap();
    let samples: Vec<_> = (0..10).map(|i| (START + Span::seconds(i), i as f32)).collect();
    store.insert(&"h1".into(), "temp", &samples).unwrap();
    (store, options, START + Span::seconds(10))
}

/// Asks until the answer is the one wanted, at most a minute.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + std::time::Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited a minute until {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_store_whose_folder_is_removed_is_opened_again_and_says_what_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (store, options, next) = on_disk(folder.path());
    std::fs::remove_dir_all(options.path.as_ref().unwrap()).unwrap();
    let said = until("it is seen", || store.partitions().err());
    assert!(matches!(said, StoreError::Broken { .. }), "{said}");
    assert!(said.to_string().contains("was removed or replaced"), "{said}");
    until("it takes samples again", || store.insert(&"h1".into(), "temp", &[(next, 7.0)]).ok());
    let read = store.history(&"h1".into(), "temp", START, next + Span::hours(1)).unwrap();
    assert_eq!(read.last(), Some(&(next, 7.0)));
    assert_eq!(store.0.store.take_lost(), 10 - (read.len() as u64 - 1), "what is not there is counted, once");
    assert_eq!(store.0.store.take_lost(), 0);
    drop(store);
    let store = EmbeddedStore::open(options).unwrap();
    assert_eq!(store.history(&"h1".into(), "temp", next, next + Span::hours(1)).unwrap(), [(next, 7.0)]);
}

#[test]
fn a_store_whose_log_is_removed_loses_nothing_that_was_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (store, options, next) = on_disk(folder.path());
    std::fs::remove_dir_all(options.path.unwrap().join("wal")).unwrap();
    until("it is seen", || store.partitions().err());
    until("it takes samples again", || store.insert(&"h1".into(), "temp", &[(next, 7.0)]).ok());
    let read = store.history(&"h1".into(), "temp", START, next + Span::hours(1)).unwrap();
    assert_eq!((read.len(), store.0.store.take_lost()), (11, 0));
}

/// The flush of `tsink` and a write meet over one temporary file now and then; that must stop nobody.
#[test]
fn many_who_write_at_once_do_not_stop_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let (store, ..) = on_disk(folder.path());
    let end = Instant::now() + std::time::Duration::from_secs(3);
    let wrote: usize = std::thread::scope(|threads| {
        let write = |of: usize| {
            let (store, mut wrote) = (store.clone(), 0);
            move || {
                while Instant::now() < end {
                    let at = START + Span::seconds(wrote as i64);
                    store.insert(&format!("w{of}").as_str().into(), "temp", &[(at, 1.0)]).unwrap();
                    wrote += 1;
                }
                wrote
            }
        };
        let writers: Vec<_> = (0..3).map(|of| threads.spawn(write(of))).collect();
        writers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    let read: usize = (0..3)
        .map(|of| {
            let partition = format!("w{of}").as_str().into();
            store.history(&partition, "temp", START, START + Span::days(30)).unwrap().len()
        })
        .sum();
    assert_eq!(read, wrote);
}
