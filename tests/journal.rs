//! The journal on disk: a migration that is carried on by one engine after another ends well, its
//! journal verifies, and what was changed afterwards is found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use foreshift::cli::journal::{JournalArgs, What, run};
use foreshift::drivers::{
    Action, Answer, Artifact, CanarySample, Capabilities, DriverError, Evidence, Job, JobStatus, Mover,
    Permit, Probe, Retry,
};
use foreshift::fleet::{
    Bytes, Clock, Generation, ManualClock, Partition, Phase, ProposalId, Revision, ServingState, Span,
    Timestamp, Topology, Workload,
};
use foreshift::migrate::{Approval, Authority, OperatorCommand, Options, Runner, World};
use foreshift::plan::Proposal;
use foreshift::plan::proposal::{CanaryPlan, Move, Outlook, Trigger};
use foreshift::protocol::{Actor, Mode, Role};
use foreshift::state::{Leadership, Op, RedbStore, Single, Store, Txn};

/// A system that does everything at once and remembers what was done; while it is mute nobody hears of it what
/// came of the way back.
#[derive(Default)]
struct Ready {
    done: Mutex<Vec<String>>,
    mute: AtomicBool,
}

impl Ready {
    fn is_mute(&self, action: &Action) -> bool {
        *action == Action::EnableReverse && self.mute.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Mover for Ready {
    fn class(&self) -> &str {
        "ready"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { online: true, digest: true, reverse: true, ..Capabilities::default() }
    }
    async fn discover(&self) -> Result<Topology, DriverError> {
        Ok(topology())
    }
    fn describe(&self, _: &Job) -> Vec<String> {
        Vec::new()
    }
    fn artifacts(&self, job: &Job, action: &Action) -> Vec<Artifact> {
        let name = || format!("fs_{}", job.key(action.name()));
        let part = || Artifact { kind: "part".into(), name: name(), partition: job.destination.clone() };
        (*action == Action::Prepare).then(part).into_iter().collect()
    }
    async fn perform(&self, job: &Job, action: &Action, _: &Permit) -> Result<Answer, DriverError> {
        self.done.lock().unwrap().push(job.key(&format!("{action:?}")));
        if self.is_mute(action) {
            return Err(DriverError::new(Retry::Unknown, "ready", "answering", "nobody hears it"));
        }
        let summary = format!("{} of 7 parts", action.name());
        Ok(Answer::Done(Evidence { summary, equal: Some(true), ..Evidence::default() }))
    }
    async fn probe(&self, job: &Job, action: &Action) -> Probe {
        if self.is_mute(action) {
            return Probe::Unknown { reason: "nobody hears it".to_string() };
        }
        match self.done.lock().unwrap().contains(&job.key(&format!("{action:?}"))) {
            true => Probe::Applied { evidence: Evidence { equal: Some(true), ..Evidence::default() } },
            false => Probe::NotStarted,
        }
    }
    async fn status(&self, _: &Job) -> Result<JobStatus, DriverError> {
        Ok(JobStatus {
            copied: Bytes(1),
            total: Bytes(1),
            streaming: true,
            lag: Some(Span::ZERO),
            source_alive: true,
            destination_alive: true,
            owner: None,
            note: String::new(),
            broken: None,
        })
    }
    async fn samples(&self, _: &Job, _: Timestamp) -> Result<(CanarySample, CanarySample), DriverError> {
        let sample = CanarySample { latencies_ms: vec![1.0; 60], requests: 60, ..CanarySample::default() };
        Ok((sample.clone(), sample))
    }
    async fn leaks(&self) -> Result<Vec<Artifact>, DriverError> {
        Ok(Vec::new())
    }
}

fn topology() -> Topology {
    let partition = |name: &str| Partition {
        id: name.into(),
        host: name.into(),
        class: "ready".to_string(),
        serving: ServingState::Active,
        address: String::new(),
    };
    let mut topology = Topology {
        revision: Revision(1),
        partitions: vec![partition("a"), partition("b")],
        workloads: vec![Workload {
            id: "w".into(),
            application: "shop".into(),
            class: "ready".to_string(),
            kind: "oltp".to_string(),
            partition: "a".into(),
            replicas: Vec::new(),
            size: Bytes(1),
            writes_per_s: 0.0,
            requests_per_s: 0.0,
            depends_on: Vec::new(),
            stateless: false,
            generation: Generation(1),
            labels: BTreeMap::new(),
        }],
        ..Topology::default()
    };
    topology.normalise();
    topology
}

fn proposal() -> Proposal {
    Proposal {
        id: ProposalId(1),
        trigger: Trigger::Operator { host: "a".into(), actor: "operator".to_string() },
        title: "evacuate a".to_string(),
        moves: vec![Move {
            workload: "w".into(),
            class: "ready".to_string(),
            source: "a".into(),
            destination: "b".into(),
            generation: Generation(1),
            because: "healthy".to_string(),
            data: Bytes(1),
            duration: Span::seconds(1),
            blackout: Span::millis(20),
            disruption: 1.0,
            capabilities: Capabilities::default(),
            in_time: None,
        }],
        canary: CanaryPlan::default(),
        soak: Span::seconds(1),
        made: Timestamp(1),
        expires: Timestamp(0) + Span::hours(1),
        topology: Revision(1),
        outlook: Outlook::default(),
        rejected: Vec::new(),
        risks: Vec::new(),
        blocked: None,
    }
}

/// An engine that leads and has not looked into its store yet.
async fn leader(store: &Arc<dyn Store>, mover: &Arc<Ready>, clock: &Arc<ManualClock>) -> Runner {
    let epoch = Single::new(Arc::clone(store)).campaign("engine").await.unwrap();
    let movers = BTreeMap::from([("ready".to_string(), Arc::clone(mover) as Arc<dyn Mover>)]);
    let options = Options { clock: Arc::clone(clock) as Arc<dyn Clock>, ..Options::default() };
    let authority = Authority::of(Mode::Advise).unwrap();
    Runner::new(Arc::clone(store), epoch, movers, BTreeMap::new(), options, &authority)
}

async fn engine(store: &Arc<dyn Store>, mover: &Arc<Ready>, clock: &Arc<ManualClock>) -> Runner {
    let mut runner = leader(store, mover, clock).await;
    runner.recover(clock.now()).await.unwrap();
    runner.observe(World {
        at: clock.now(),
        topology: Arc::new(topology()),
        failing: Arc::new(BTreeSet::new()),
        ..World::default()
    });
    runner
}

fn approved(clock: &ManualClock) -> (Proposal, Approval) {
    let proposal = proposal();
    let actor = Actor { name: "operator".to_string(), role: Role::Operator };
    let authority = Authority::of(Mode::Advise).unwrap();
    let approval =
        Approval::confirm(&authority, &proposal, &proposal.hash().hex(), &actor, clock.now()).unwrap();
    (proposal, approval)
}

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
        if runner.running().is_empty() {
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
    let forged = String::from_utf8(value).unwrap().replace("engine", "nobody").into_bytes();
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

/// Ticks until the migration is in `phase` or behind it.
async fn until(runner: &mut Runner, clock: &ManualClock, phase: Phase) {
    for _ in 0..2_000 {
        if runner.state("M-1".parse().unwrap()).unwrap().phase >= phase {
            return;
        }
        clock.advance(Span::millis(250));
        runner.tick(clock.now()).await.unwrap();
        tokio::time::timeout(std::time::Duration::from_millis(5), runner.ready()).await.ok();
    }
    panic!("it stands: {:?}", runner.views());
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

#[tokio::test]
async fn a_state_that_an_earlier_version_wrote_whole_is_carried_on_and_an_unknown_field_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(&path).unwrap());
    let (mover, clock) = (Arc::new(Ready::default()), Arc::new(ManualClock::at(Timestamp(1_000))));
    drop(left_behind(&store, &mover, &clock).await);

    let bytes = store.get(STATE).await.unwrap().unwrap().value;
    let mut state: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes).unwrap();
    state.insert("swiched".to_string(), true.into());
    put(&store, vec![Op::Put(STATE.to_string(), serde_json::to_vec(&state).unwrap())]).await;
    let refused = leader(&store, &mover, &clock).await.recover(clock.now()).await.unwrap_err().to_string();
    assert!(refused.contains("its state in the store cannot be read: unknown field `swiched`"), "{refused}");
    state.remove("swiched");

    let ledger = store.get(LEDGER).await.unwrap().unwrap().value;
    state.insert("ledger".to_string(), serde_json::from_slice(&ledger).unwrap());
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
    assert_eq!(String::from_utf8_lossy(&parted), String::from_utf8_lossy(&ledger));
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
