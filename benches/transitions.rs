//! What the migration machine costs by itself: journaled transitions per second on the embedded store
//! with group commit, and the memory of 1,000 migrations under way at once. The drivers answer at
//! once and move nothing.
//!
//! `cargo bench --bench transitions`; prints one JSON object. The figures to keep:
//! `transitions_per_s` at least 20,000, `rss_mb` under 200.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use foreshift::drivers::{
    Action, Answer, Artifact, CanarySample, Capabilities, DriverError, Evidence, Job, JobStatus, Mover,
    Permit, Probe,
};
use foreshift::fleet::topology::Capacity;
use foreshift::fleet::{
    Bytes, Clock, Generation, Host, Partition, PartitionId, Phase, ProposalId, Revision, ServingState, Share,
    Span, SystemClock, Timestamp, Topology, Workload,
};
use foreshift::migrate::{Approval, Authority, Limits, Options, Policy, Runner, World};
use foreshift::plan::Proposal;
use foreshift::plan::proposal::{CanaryPlan, Move, Outlook, Trigger};
use foreshift::protocol::{Actor, Mode, Role};
use foreshift::state::{Leadership, RedbStore, Single, Store};

const MIGRATIONS: usize = 1000;
const A_PROPOSAL: usize = 100;

/// Answers at once, and does not stream before it is let.
struct Ready {
    go: AtomicBool,
}

#[async_trait]
impl Mover for Ready {
    fn class(&self) -> &str {
        "ready"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            online: true,
            digest: true,
            reverse_proved_before_cut: true,
            reverse: true,
            fence_checked_by_target: true,
            ..Capabilities::default()
        }
    }

    async fn discover(&self) -> Result<Topology, DriverError> {
        Ok(Topology::default())
    }

    fn describe(&self, _: &Job) -> Vec<String> {
        Vec::new()
    }

    fn artifacts(&self, job: &Job, action: &Action) -> Vec<Artifact> {
        let made = matches!(action, Action::Prepare | Action::Replicate | Action::ArmReverse);
        let name = || format!("fs_{}", job.key(action.name()));
        let artifact = || Artifact { kind: "part".into(), name: name(), partition: job.destination.clone() };
        made.then(artifact).into_iter().collect()
    }

    async fn perform(&self, _: &Job, action: &Action, _: &Permit) -> Result<Answer, DriverError> {
        if *action == Action::Replicate && !self.go.load(Ordering::Acquire) {
            return Ok(Answer::Working { waiting_for: "all to be under way".into() });
        }
        let summary = format!("{} of 16,384 slots", action.name());
        Ok(Answer::Done(Evidence { summary, equal: Some(true), ..Evidence::default() }))
    }

    async fn probe(&self, _: &Job, _: &Action) -> Probe {
        Probe::NotStarted
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
            can_call_off: false,
        })
    }

    async fn samples(&self, _: &Job, _: Timestamp) -> Result<(CanarySample, CanarySample), DriverError> {
        let sample = CanarySample {
            latencies_ms: vec![1.0; 16],
            requests: 100,
            compared: 16,
            ..CanarySample::default()
        };
        Ok((sample.clone(), sample))
    }

    async fn leaks(&self) -> Result<Vec<Artifact>, DriverError> {
        Ok(Vec::new())
    }
}

fn partition(side: char, i: usize) -> PartitionId {
    format!("{side}{i:04}").into()
}

/// A workload on each of 1,000 hosts, and as many empty hosts.
fn topology() -> Topology {
    let mut topology = Topology { revision: Revision(1), ..Topology::default() };
    for side in ['a', 'b'] {
        for i in 0..MIGRATIONS {
            let id = partition(side, i);
            topology.hosts.push(Host {
                id: id.host(),
                site: "s".into(),
                rack: format!("r{}", i % 50).into(),
                capacity: Some(Capacity { data: Bytes(1 << 40), data_used: Bytes(0), load: Share::MIN }),
                labels: BTreeMap::new(),
            });
            topology.partitions.push(Partition {
                host: id.host(),
                id,
                class: "ready".into(),
                serving: ServingState::Active,
                address: String::new(),
            });
        }
    }
    for i in 0..MIGRATIONS {
        topology.workloads.push(Workload {
            id: format!("w{i:04}").into(),
            application: "shop".into(),
            class: "ready".into(),
            kind: "oltp".into(),
            partition: partition('a', i),
            replicas: Vec::new(),
            size: Bytes(1),
            writes_per_s: 1.0,
            requests_per_s: 1.0,
            depends_on: Vec::new(),
            stateless: false,
            generation: Generation(1),
            labels: BTreeMap::new(),
        });
    }
    topology.normalise();
    topology
}

fn proposals(now: Timestamp, capabilities: Capabilities) -> Vec<Proposal> {
    (0..MIGRATIONS / A_PROPOSAL)
        .map(|p| Proposal {
            id: ProposalId(p as u64 + 1),
            trigger: Trigger::Operator { host: "a0000".into(), actor: "operator".into() },
            title: "all of it".into(),
            moves: (p * A_PROPOSAL..(p + 1) * A_PROPOSAL)
                .map(|i| Move {
                    workload: format!("w{i:04}").into(),
                    class: "ready".into(),
                    source: partition('a', i),
                    destination: partition('b', i),
                    generation: Generation(1),
                    because: "free".into(),
                    data: Bytes(1),
                    duration: Span::seconds(1),
                    blackout: Span::millis(20),
                    disruption: 1.0,
                    capabilities,
                    in_time: None,
                })
                .collect(),
            canary: CanaryPlan {
                steps: Vec::new(),
                p99_tolerance: 0.3,
                latency_margin_ms: 0.2,
                min_samples: 8,
            },
            soak: Span::ZERO,
            made: now,
            expires: now + Span::hours(12),
            topology: Revision(1),
            outlook: Outlook::default(),
            rejected: Vec::new(),
            risks: Vec::new(),
            blocked: None,
        })
        .collect()
}

/// Resident memory of this process in megabytes, now and at its highest.
fn memory() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let read = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key))?;
        line.split_ascii_whitespace().next()?.parse::<f64>().ok()
    };
    (read("VmRSS:").unwrap_or(0.0) / 1024.0, read("VmHWM:").unwrap_or(0.0) / 1024.0)
}

async fn measure(folder: &std::path::Path) -> Result<String, Box<dyn std::error::Error>> {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(&folder.join("state.redb"))?);
    let epoch = Single::new(Arc::clone(&store)).campaign("bench").await?;
    let most = MIGRATIONS as u32;
    let options = Options {
        limits: Limits { fleet: most, site: most * 2, rack: most, host: 2, hour: most, ..Limits::default() },
        policy: Policy { lag_times: 1, poll: Span::millis(100), ..Policy::default() },
        ..Options::default()
    };
    let authority = Authority::of(Mode::Auto)?;
    let ready = Arc::new(Ready { go: AtomicBool::new(false) });
    let mover: Arc<dyn Mover> = ready.clone();
    let movers = BTreeMap::from([("ready".to_string(), mover)]);
    let mut runner = Runner::new(Arc::clone(&store), epoch, movers, BTreeMap::new(), options, &authority);
    let now = || SystemClock.now();
    runner.recover(now()).await?;
    let topology = Arc::new(topology());
    let world = || World { at: now(), topology: Arc::clone(&topology), ..World::default() };
    let (empty, _) = memory();
    let actor = Actor { name: "operator".into(), role: Role::Operator };
    for proposal in proposals(now(), ready.capabilities()) {
        let approval =
            Approval::confirm(&authority, &proposal, &proposal.hash().hex(), &actor, proposal.made)?;
        runner.observe(world());
        runner.submit(&proposal, &approval, now()).await?;
    }
    // First all of them get under way and stand in COPYING.
    let began = Instant::now();
    let copying = |runner: &Runner| {
        let all = runner.running();
        all.iter().filter(|id| runner.state(**id).is_some_and(|s| s.phase == Phase::Copying)).count()
    };
    while copying(&runner) < MIGRATIONS {
        runner.observe(world());
        go_on(&mut runner).await?;
    }
    let admitting = began.elapsed().as_secs_f64();
    let (held, _) = memory();
    // Then all go on at once to their end.
    let before = store.revision().await?.0;
    let began = Instant::now();
    ready.go.store(true, Ordering::Release);
    while !runner.is_idle() {
        runner.observe(world());
        go_on(&mut runner).await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut records = 0;
    let mut done = 0;
    for entry in store.list("/migrations/").await? {
        records += usize::from(entry.key.contains("/journal/"));
    }
    for entry in store.list("/ended/").await? {
        done += usize::from(entry.value == b"done");
    }
    let commits = store.revision().await?.0 - before;
    Ok(format!(
        "{{\"migrations\": {MIGRATIONS}, \"done\": {done}, \"admitting_s\": {admitting:.2}, \"seconds\": {seconds:.2}, \
         \"records\": {records}, \"transitions\": {commits}, \"transitions_per_s\": {:.0}, \
         \"rss_mb\": {held:.0}, \"rss_most_mb\": {:.0}, \"rss_empty_mb\": {empty:.0}}}",
        commits as f64 / seconds,
        memory().1,
    ))
}

/// One tick, and a wait for what it set going.
async fn go_on(runner: &mut Runner) -> Result<(), Box<dyn std::error::Error>> {
    runner.tick(SystemClock.now()).await?;
    tokio::select! {
        () = runner.ready() => {}
        () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {}
    }
    Ok(())
}

fn main() {
    let folder = std::env::temp_dir().join(format!("foreshift-transitions-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let measured = runtime.block_on(measure(&folder));
    let _ = std::fs::remove_dir_all(&folder);
    println!("{}", measured.expect("the bench ends"));
}
