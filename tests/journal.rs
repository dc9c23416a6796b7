//! The journal on disk: a migration that is carried on by one engine after another ends well, its
//! journal verifies, and what was changed afterwards is found.

#[path = "support/ready.rs"]
mod ready;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foreshift::cli::journal::{JournalArgs, What, run};
use foreshift::fleet::{Clock, Generation, ManualClock, Phase, Span, Timestamp};
use foreshift::migrate::journal::Record;
use foreshift::migrate::plan::Plan;
use foreshift::migrate::{OperatorCommand, Progress, Runner};
use foreshift::state::{Op, RedbStore, Store, Txn};
use ready::{Ready, approved, engine, leader, until};

/// Moves one workload with a new engine every seven seconds.
async fn moved(path: &Path) {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(path).unwrap());
    let (mover, clock) = (Arc::new(Ready::default()), Arc::new(ManualClock::at(Timestamp(1_000))));
    let mut runner = engine(&store, &mover, &clock).await;
    let (proposal, approval) = approved(&clock);
    let ids = runner.submit(&proposal, &approval, clock.now()).await.unwrap();
    assert_eq!(ids.len(), 1);
    let again = runner.submit(&proposal, &approval, clock.now()).await.unwrap_err();
    assert!(again.to_string().contains("was taken before"), "{again}");
    for step in 0..2_000 {
        clock.advance(Span::millis(250));
        runner.tick(clock.now()).await.unwrap();
        tokio::time::timeout(std::time::Duration::from_millis(20), runner.ready()).await.ok();
        if runner.is_idle() {
            assert_eq!(runner.state(ids[0]).unwrap().phase, Phase::Done);
            let owners = runner.owners().await.unwrap();
            let owner = owners.values().next().unwrap();
            assert_eq!((owner.owner.as_str(), owner.generation), ("b", Generation(2)));
            return;
        }
        if step % 29 == 28 {
            runner = engine(&store, &mover, &clock).await;
        }
    }
    panic!("it did not end: {:?}", runner.views());
}

fn journal(path: &Path, what: What) -> (bool, String) {
    let mut out = Vec::new();
    let code = run(&JournalArgs { what, store: Some(path.to_path_buf()) }, &mut out).unwrap();
    (code == ExitCode::SUCCESS, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn a_journal_that_many_engines_wrote_verifies_and_a_changed_record_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    moved(&path).await;
    let (well, said) = journal(&path, What::Verify { migration: None });
    assert!(well && said.contains("0 broken"), "{said}");
    let (well, said) = journal(&path, What::Show { migration: Some("M-1".parse().unwrap()), json: false });
    assert!(well && said.contains("approved by operator") && said.contains("done"), "{said}");

    let store = RedbStore::open(&path).unwrap();
    let (well, said) = journal(&path, What::Verify { migration: None });
    assert!(!well && said.contains("another process has it open"), "{said}");
    let key = "/migrations/M-1/journal/00000005".to_string();
    let value = store.get(&key).await.unwrap().unwrap().value;
    let place = value.windows(6).position(|bytes| bytes == b"engine").unwrap();
    let forged = [&value[..place], b"nobody", &value[place + 6..]].concat();
    store.txn(Txn { compares: Vec::new(), ops: vec![Op::Put(key, forged)] }).await.unwrap();
    drop(store);
    let (well, said) = journal(&path, What::Verify { migration: None });
    assert!(!well && said.contains("BROKEN"), "{said}");
}

#[tokio::test]
async fn a_wish_to_undo_that_waits_is_taken_once_and_what_it_waits_for_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(&path).unwrap());
    let (mover, clock) = (Arc::new(Ready::default()), Arc::new(ManualClock::at(Timestamp(1_000))));
    mover.mute.store(true, Ordering::SeqCst);
    let mut runner = engine(&store, &mover, &clock).await;
    let (proposal, approval) = approved(&clock);
    let id = runner.submit(&proposal, &approval, clock.now()).await.unwrap()[0];
    let mut asked = 0;
    for _ in 0..2_000 {
        clock.advance(Span::millis(250));
        runner.tick(clock.now()).await.unwrap();
        tokio::time::timeout(std::time::Duration::from_millis(5), runner.ready()).await.ok();
        match runner.state(id).unwrap().phase {
            // Somebody leans on the key.
            Phase::Soaking => {
                runner.command(id, OperatorCommand::RollBack, "operator").unwrap();
                asked += 1;
                mover.mute.store(asked < 4, Ordering::SeqCst);
            }
            Phase::RolledBack => break,
            _ => {}
        }
    }
    assert_eq!(runner.state(id).unwrap().phase, Phase::RolledBack);
    assert!(asked >= 4, "{asked}");
    drop((runner, store));
    let (_, said) = journal(&path, What::Show { migration: Some(id), json: false });
    let wishes = said.lines().filter(|line| line.contains("roll back by operator")).count();
    assert_eq!(wishes, 1, "{said}");
}

/// A migration that was left in COPYING or behind it by an engine that ended.
async fn left_behind(store: &Arc<dyn Store>, mover: &Arc<Ready>, clock: &Arc<ManualClock>) -> Runner {
    let mut runner = engine(store, mover, clock).await;
    let (proposal, approval) = approved(clock);
    runner.submit(&proposal, &approval, clock.now()).await.unwrap();
    until(&mut runner, clock, Phase::Copying).await;
    runner
}

async fn put(store: &Arc<dyn Store>, ops: Vec<Op>) {
    store.txn(Txn { compares: Vec::new(), ops }).await.unwrap();
}

const STATE: &str = "/migrations/M-1/state";
const LEDGER: &str = "/migrations/M-1/ledger";

#[tokio::test]
async fn a_restart_shows_what_was_seen_before_it_and_a_lost_ledger_is_not_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(&dir.path().join("state.redb")).unwrap());
    let (mover, clock) = (Arc::new(Ready::default()), Arc::new(ManualClock::at(Timestamp(1_000))));
    let before = left_behind(&store, &mover, &clock).await;
    let ledger = before.state("M-1".parse().unwrap()).unwrap().ledger.clone();
    assert_eq!((ledger.foreseen.is_empty(), ledger.lines.len()), (false, 1));
    assert_eq!(before.views()[0].steps[0].evidence, "prepare of 7 parts");
    drop(before);

    let after = engine(&store, &mover, &clock).await;
    assert_eq!(after.views()[0].steps[0].evidence, "prepare of 7 parts");
    let read = &after.state("M-1".parse().unwrap()).unwrap().ledger;
    assert_eq!((&read.foreseen, &read.lines), (&ledger.foreseen, &ledger.lines));
    drop(after);

    let kept = store.get(LEDGER).await.unwrap().unwrap().value;
    let empty = br#"{"foreseen":[],"lines":[]}"#.to_vec();
    for lost in [Op::Delete(LEDGER.to_string()), Op::Put(LEDGER.to_string(), empty)] {
        put(&store, vec![lost]).await;
        let refused =
            leader(&store, &mover, &clock).await.recover(clock.now()).await.unwrap_err().to_string();
        assert!(refused.contains("M-1: its ledger in the store cannot be read"), "{refused}");
        assert!(refused.contains("1 lines") && refused.contains("restore the store"), "{refused}");
    }
    put(&store, vec![Op::Put(LEDGER.to_string(), kept)]).await;
    let mut again = engine(&store, &mover, &clock).await;
    until(&mut again, &clock, Phase::Done).await;
    assert_eq!(again.state("M-1".parse().unwrap()).unwrap().phase, Phase::Done);
}

/// Writes plan and journal of the migration as earlier versions did; its state as they wrote it.
async fn as_json(store: &Arc<dyn Store>) -> serde_json::Map<String, serde_json::Value> {
    let plan = store.get("/migrations/M-1/plan").await.unwrap().unwrap();
    let json = serde_json::to_vec(&Plan::read(&plan.value).unwrap()).unwrap();
    put(store, vec![Op::Put(plan.key, json)]).await;
    let mut hash = String::new();
    for entry in store.list("/migrations/M-1/journal/").await.unwrap() {
        let mut record = Record::read(&entry.value).unwrap();
        record.prev = serde_json::from_value(hash.into()).unwrap();
        let json = serde_json::to_vec(&record).unwrap();
        hash = blake3::hash(&json).to_hex().to_string();
        put(store, vec![Op::Put(entry.key, json)]).await;
    }
    let state = Progress::read(&store.get(STATE).await.unwrap().unwrap().value).unwrap();
    let mut state = serde_json::to_value(&state).unwrap();
    state["journal"]["hash"] = hash.into();
    state.as_object().unwrap().clone()
}

#[tokio::test]
async fn a_state_that_an_earlier_version_wrote_whole_is_carried_on_and_an_unknown_field_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(&path).unwrap());
    let (mover, clock) = (Arc::new(Ready::default()), Arc::new(ManualClock::at(Timestamp(1_000))));
    let before = left_behind(&store, &mover, &clock).await;

    let kept = before.state("M-1".parse().unwrap()).unwrap().ledger.clone();
    drop(before);

    let mut state = as_json(&store).await;
    state.insert("swiched".to_string(), true.into());
    put(&store, vec![Op::Put(STATE.to_string(), serde_json::to_vec(&state).unwrap())]).await;
    let refused = leader(&store, &mover, &clock).await.recover(clock.now()).await.unwrap_err().to_string();
    assert!(refused.contains("its state in the store cannot be read: unknown field `swiched`"), "{refused}");
    drop(store);
    let (well, said) = journal(&path, What::Verify { migration: None });
    assert!(!well && said.contains("where its journal ends is not known"), "{said}");
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(&path).unwrap());
    state.remove("swiched");

    let ledger = store.get(LEDGER).await.unwrap().unwrap().value;
    assert_eq!(kept.bytes(), ledger);
    state.insert("ledger".to_string(), serde_json::to_value(&kept).unwrap());
    state.insert("evidence".to_string(), serde_json::json!([["prepare", "made of old"]]));
    for (field, value) in [("tries", serde_json::json!(0)), ("wish", serde_json::json!(null))] {
        state.insert(field.to_string(), value);
    }
    let whole = Op::Put(STATE.to_string(), serde_json::to_vec(&state).unwrap());
    put(&store, vec![whole, Op::Delete(LEDGER.to_string())]).await;
    let mut runner = engine(&store, &mover, &clock).await;
    assert_eq!(runner.views()[0].steps[0].evidence, "made of old");
    // The first thing that it writes parts them.
    let parted = store.get(LEDGER).await.unwrap().unwrap().value;
    assert_eq!(parted, ledger);
    until(&mut runner, &clock, Phase::Done).await;
    assert_eq!(runner.state("M-1".parse().unwrap()).unwrap().phase, Phase::Done);
    drop((runner, store));
    let (well, said) = journal(&path, What::Verify { migration: None });
    assert!(well && said.contains("0 broken"), "{said}");
}

/// The figure of the contract: 20,000 journaled transitions a second with many writers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run with --release -- --ignored --nocapture"]
async fn group_commit_carries_many_writers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(RedbStore::open(&dir.path().join("state.redb")).unwrap());
    let began = std::time::Instant::now();
    let writers: Vec<_> = (0..1_000)
        .map(|w| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..100 {
                    let put = |key: String| Op::Put(key, vec![b'x'; 300]);
                    let ops = vec![
                        put(format!("/migrations/M-{w}/journal/{n:08}")),
                        put(format!("/migrations/M-{w}/state")),
                    ];
                    store.txn(Txn { compares: Vec::new(), ops }).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let rate = 100_000.0 / began.elapsed().as_secs_f64();
    println!("{rate:.0} journaled transitions a second");
    assert!(rate > 20_000.0, "{rate:.0} a second");
}
