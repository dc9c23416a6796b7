//! An engine in a process of its own that ends itself at a moment that a test names. The process is the
//! test program again, with an errand in its environment: the real runner, drivers and journal, and
//! nothing of the product knows that it is about to be killed.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foreshift::drivers::Mover;
use foreshift::drivers::postgres::{DatabasesMover, PostgresMover, PostgresOptions, TenantOptions};
use foreshift::drivers::redis::{RedisMover, RedisOptions, RedisSlotMover};
use foreshift::fleet::{
    Bytes, Clock, MigrationId, Phase, ProposalId, Revision, Share, Span, SteadyClock, WorkloadId,
};
use foreshift::migrate::runner::moments::{Moment, Observer};
use foreshift::migrate::runner::{Driven, overlay};
use foreshift::migrate::state::HoldReason;
use foreshift::migrate::{Approval, Authority, Limits, OperatorCommand, Options, Policy, Runner, World};
use foreshift::plan::Proposal;
use foreshift::plan::proposal::{CanaryPlan, CanaryStep, Move, Outlook, Trigger};
use foreshift::protocol::{Actor, Mode, Role};
use foreshift::state::{Leadership, RedbStore, Single, Store};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::trouble::{Trouble, Troubled};

const ERRAND: &str = "FORESHIFT_TEST_ERRAND";

/// The system that the workload lives in.
#[derive(Clone, Serialize, Deserialize)]
pub enum System {
    /// The shard with the lowest slots of a cluster called `cart`.
    Redis {
        /// Addresses to begin with.
        seeds: Vec<String>,
    },
    /// The schema `orders` of a set called `shop`.
    Postgres {
        /// All clusters.
        clusters: Vec<String>,
        /// The database.
        database: String,
        /// The superuser's.
        password: String,
    },
    /// A whole database of a set called `shop`.
    Database {
        /// All clusters.
        clusters: Vec<String>,
        /// The database.
        database: String,
        /// The superuser's.
        password: String,
    },
    /// A range of slots of a cluster called `cart`.
    Slots {
        /// Addresses to begin with.
        seeds: Vec<String>,
        /// `0-499`.
        range: String,
    },
    /// A tenant in the schema `shop` of a set called `shop`.
    Tenants {
        /// All clusters.
        clusters: Vec<String>,
        /// The database.
        database: String,
        /// The superuser's.
        password: String,
        /// Who moves.
        tenant: u32,
    },
}

impl System {
    /// The driver.
    pub fn mover(&self) -> Arc<dyn Mover> {
        match self {
            System::Redis { seeds } => Arc::new(RedisMover::new(RedisOptions::new("cart", seeds))),
            System::Postgres { clusters, database, password } => {
                let mut options = PostgresOptions::new("shop", clusters, database);
                options.schemas = vec!["orders".into()];
                options.password = Some(password.clone());
                Arc::new(PostgresMover::new(options))
            }
            System::Database { clusters, database, password } => {
                let mut options = PostgresOptions::new("shop", clusters, "postgres");
                options.databases = vec![database.clone()];
                options.password = Some(password.clone());
                Arc::new(DatabasesMover::new(options))
            }
            System::Slots { seeds, range } => {
                let options = RedisOptions::new("cart", seeds);
                Arc::new(RedisSlotMover::new(options, std::slice::from_ref(range)).expect("a range"))
            }
            System::Tenants { clusters, database, password, .. } => {
                let mut options = PostgresOptions::new("shop", clusters, database);
                options.tenant = Some(TenantOptions {
                    column: "tenant_id".into(),
                    schema: "shop".into(),
                    values: Vec::new(),
                    shared: vec!["countries".into()],
                });
                options.password = Some(password.clone());
                Arc::new(PostgresMover::new(options))
            }
        }
    }

    /// The one that is moved.
    pub fn workload(&self) -> WorkloadId {
        WorkloadId::from(match self {
            System::Redis { .. } => "cart-0".to_string(),
            System::Postgres { .. } => "shop-orders".to_string(),
            System::Database { database, .. } => format!("shop-{database}"),
            System::Slots { range, .. } => format!("cart-{range}"),
            System::Tenants { tenant, .. } => format!("shop-shop.{tenant}"),
        })
    }
}

/// What a person does meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Person {
    /// Nothing.
    Away,
    /// Asks to undo it, as soon as it comes to this phase.
    Undoes(Phase),
    /// Lets it stand still as soon as it comes to this phase, and go on a moment later.
    Pauses(Phase),
    /// The same, but then undoes it.
    PausesAndUndoes(Phase),
}

/// How the process is stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Blow {
    /// `kill -9`.
    Kill,
    /// `SIGSTOP`; somebody else lets it go on.
    Freeze,
}

/// What an engine is started for.
#[derive(Clone, Serialize, Deserialize)]
pub struct Errand {
    /// The journal's file.
    pub store: PathBuf,
    /// Where the workload lives.
    pub system: System,
    /// The address of who owned the workload before all this.
    pub from: String,
    /// Begin a move to this address; `None` = end what was begun.
    pub to: Option<String>,
    /// Number of the proposal that is made for it.
    pub proposal: u64,
    /// What a person does.
    pub person: Person,
    /// What goes otherwise than usual.
    pub trouble: Trouble,
    /// A file that all engines of one move share.
    pub differed: PathBuf,
    /// Where it ends: at the first moment of that name, or at the moment that is the n-th to have a name
    /// of its own.
    pub at: Option<(Place, Blow)>,
    /// Moments are written there, each once, a line each; at the end how it ended.
    pub told: PathBuf,
}

/// Where an engine is stopped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Place {
    /// At the first moment that is called so.
    Named(String),
    /// When that many different moments have been, from 0.
    Nth(usize),
}

/// An engine in a process of its own; dropped, it is killed.
pub struct Mortal {
    child: Child,
    errand: Errand,
    log: PathBuf,
}

impl Mortal {
    /// Starts this test program again, to run `test` alone, which calls [`serve`].
    pub fn start(test: &str, errand: Errand, folder: &Path) -> Self {
        let log = folder.join("engine.log");
        let out = std::fs::File::create(&log).expect("a log");
        let _ = std::fs::remove_file(&errand.told);
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(ERRAND, serde_json::to_string(&errand).expect("plain data"))
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a handle"))
            .stderr(out)
            .spawn()
            .expect("this program once more");
        Self { child, errand, log }
    }

    /// Waits until the process has ended, one way or another.
    ///
    /// # Errors
    /// What it wrote, where it has not in time.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus, String> {
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Ok(status);
            }
            if start.elapsed() > patience {
                return Err(format!("the engine did not end within {patience:?}:\n{}", self.log()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it stands still by `SIGSTOP`.
    pub fn is_frozen(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        if let Some(id) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(id, Signal::CONT);
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The moments that it came to, and its last words.
    pub fn told(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.errand.told).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    }

    /// All that it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does the errand in this process's environment, if there is one.
pub fn serve() {
    let Some(errand) = std::env::var_os(ERRAND) else { return };
    let errand: Errand = serde_json::from_slice(errand.as_encoded_bytes()).expect("an errand");
    // It does not outlive the test.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let filter = tracing_subscriber::EnvFilter::new("foreshift=debug,info");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(run(errand));
}

fn blow(blow: Blow) {
    let signal = match blow {
        Blow::Kill => Signal::KILL,
        Blow::Freeze => Signal::STOP,
    };
    let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
    if blow == Blow::Kill {
        // It takes a moment, in which nothing more is to happen.
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// What the observer of an errand needs.
struct Watch {
    file: std::fs::File,
    seen: HashSet<String>,
}

fn observer(errand: &Errand, asked: &Arc<AtomicBool>) -> Observer {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&errand.told).expect("a file");
    let watch = Mutex::new(Watch { file, seen: HashSet::new() });
    let (at, person, asked) = (errand.at.clone(), errand.person, Arc::clone(asked));
    Arc::new(move |moment: &Moment| {
        let mut watch = watch.lock().expect("nobody panics here");
        let name = moment.to_string();
        let occasions: Vec<String> = moment.occasions().iter().map(|o| format!("{o:?}")).collect();
        let line = format!("{name}\t{}", occasions.join(";"));
        let (Person::Undoes(phase) | Person::Pauses(phase) | Person::PausesAndUndoes(phase)) = person else {
            return watch.comes(name, &line, at.as_ref());
        };
        if moment.phase == phase {
            asked.store(true, Ordering::SeqCst);
        }
        watch.comes(name, &line, at.as_ref());
    })
}

impl Watch {
    fn comes(&mut self, name: String, line: &str, at: Option<&(Place, Blow)>) {
        if !self.seen.insert(name.clone()) {
            return;
        }
        let _ = writeln!(self.file, "{line}");
        if let Some((place, how)) = at {
            let here = match place {
                Place::Named(wanted) => *wanted == name,
                Place::Nth(n) => *n + 1 == self.seen.len(),
            };
            if here {
                blow(*how);
            }
        }
    }
}

/// Short times, so that one move takes a second or two.
fn options(observer: Observer, trouble: Trouble) -> Options {
    let usual = Policy::default();
    Options {
        limits: Limits { hour: 1_000_000, cool_down: Span::ZERO, ..Limits::default() },
        policy: Policy {
            fence_budget: Span::seconds(1),
            attempts: 2,
            retry_after: Span::millis(200),
            poll: Span::millis(50),
            lag_bound: Span::millis(200),
            lag_times: 2,
            state_limit: Span::seconds(20),
            copy_least: Span::seconds(20),
            patience: Span::seconds(10),
            proof_age: if trouble.old_proof { Span::millis(100) } else { usual.proof_age },
            ..usual
        },
        call_limit: Some(Span::seconds(10)),
        driven: Driven::InTasks,
        observer: Some(observer),
        ..Options::default()
    }
}

async fn run(errand: Errand) {
    let asked = Arc::new(AtomicBool::new(false));
    let mut told = std::fs::OpenOptions::new().create(true).append(true).open(&errand.told).expect("a file");
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(&errand.store).expect("the store"));
    let epoch = Single::new(Arc::clone(&store)).campaign("mortal").await.expect("leadership");
    let mover = errand.system.mover();
    let home = errand.from.rsplit_once(':').map_or(errand.from.clone(), |(ip, port)| format!("{ip}/{port}"));
    let mover = Troubled::around(mover, errand.trouble, &home, errand.differed.clone());
    let movers = BTreeMap::from([(mover.class().to_string(), Arc::clone(&mover))]);
    let authority = Authority::of(Mode::Advise).expect("authority");
    let clock = SteadyClock::default();
    let options = Options { clock: Arc::new(clock), ..options(observer(&errand, &asked), errand.trouble) };
    let mut runner = Runner::new(Arc::clone(&store), epoch, movers, BTreeMap::new(), options, &authority);
    runner.recover(clock.now()).await.expect("a store that can be read");
    look(&mut runner, &mover, &clock).await;
    if let Some(to) = &errand.to {
        begin(&mut runner, &mover, &errand, to, &authority, &clock).await;
    }
    let mut looked = Instant::now();
    let mut paused = None;
    let mut last = String::new();
    loop {
        runner.tick(clock.now()).await.expect("a tick");
        let running = runner.running();
        if running.is_empty() {
            break;
        }
        for id in running {
            attend(&mut runner, id, &errand, &asked, &mut paused);
        }
        let words: Vec<String> = runner
            .views()
            .iter()
            .filter(|v| !v.phase.is_end())
            .map(|v| format!("{} {} {}", v.id, v.phase.word(), v.waiting))
            .collect();
        if words.join("; ") != last {
            last = words.join("; ");
            tracing::info!("{last}");
        }
        tokio::select! {
            () = runner.ready() => {}
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        if looked.elapsed() > Duration::from_millis(500) {
            looked = Instant::now();
            look(&mut runner, &mover, &clock).await;
        }
    }
    for view in runner.views().iter().filter(|v| v.proposal == ProposalId(errand.proposal)) {
        let _ = writeln!(told, "end {}", view.phase.word());
    }
}

/// What the person does at this point.
fn attend(
    runner: &mut Runner,
    id: MigrationId,
    errand: &Errand,
    asked: &AtomicBool,
    paused: &mut Option<Instant>,
) {
    let Some(state) = runner.state(id) else { return };
    // An engine was killed while it stood still: who asked for that lets it go on.
    let stands = state.hold.as_ref().is_some_and(|h| match h.reason {
        HoldReason::Operator => true,
        // The sides differed at the cut back, and the person wants it back all the same. What is merely refused
        // is tried again by itself.
        HoldReason::Failed => errand.trouble.differs_back,
        _ => false,
    });
    if stands && paused.is_none_or(|at| at.elapsed() > Duration::from_millis(100)) {
        let command = match errand.person {
            Person::PausesAndUndoes(_) => OperatorCommand::RollBack,
            _ => OperatorCommand::Resume,
        };
        let _ = runner.command(id, command, "tester");
        *paused = Some(Instant::now());
        return;
    }
    if !asked.load(Ordering::SeqCst) || errand.to.is_none() {
        return;
    }
    let command = match errand.person {
        Person::Away => return,
        Person::Undoes(_) => OperatorCommand::RollBack,
        Person::Pauses(_) | Person::PausesAndUndoes(_) => OperatorCommand::Pause,
    };
    if runner.command(id, command, "tester").is_ok() {
        asked.store(false, Ordering::SeqCst);
        *paused = Some(Instant::now());
    }
}

/// Tells the runner what stands where, as an engine does with every cycle.
async fn look(runner: &mut Runner, mover: &Arc<dyn Mover>, clock: &SteadyClock) {
    let Ok(mut topology) = mover.discover().await else { return };
    let Ok(owners) = runner.owners().await else { return };
    overlay(&mut topology, &owners);
    runner.observe(World { at: clock.now(), topology: Arc::new(topology), ..World::default() });
}

async fn begin(
    runner: &mut Runner,
    mover: &Arc<dyn Mover>,
    errand: &Errand,
    to: &str,
    authority: &Authority,
    clock: &SteadyClock,
) {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < Duration::from_secs(20), "the workload is not to be found");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let Ok(mut topology) = mover.discover().await else { continue };
        overlay(&mut topology, &runner.owners().await.expect("owners"));
        let Some(workload) = topology.workload(&errand.system.workload()) else { continue };
        let Some(destination) = topology.partitions.iter().find(|p| p.address == to) else { continue };
        let now = clock.now();
        let proposal = Proposal {
            id: ProposalId(errand.proposal),
            trigger: Trigger::Operator { host: workload.partition.host(), actor: "tester".into() },
            title: "evacuate it".into(),
            moves: vec![Move {
                workload: workload.id.clone(),
                class: workload.class.clone(),
                source: workload.partition.clone(),
                destination: destination.id.clone(),
                generation: workload.generation,
                because: "it is the other one".into(),
                data: Bytes(1),
                duration: Span::seconds(1),
                blackout: Span::millis(20),
                disruption: 1.0,
                capabilities: mover.capabilities(),
                in_time: None,
            }],
            canary: CanaryPlan {
                steps: match errand.trouble.no_canary {
                    true => Vec::new(),
                    false => vec![CanaryStep {
                        share: Share::clamped(0.5).expect("a share"),
                        duration: Span::millis(150),
                    }],
                },
                p99_tolerance: 1_000.0,
                latency_margin_ms: 0.2,
                min_samples: 1,
            },
            soak: Span::millis(200),
            made: now,
            expires: now + Span::seconds(30),
            topology: Revision(1),
            outlook: Outlook::default(),
            rejected: Vec::new(),
            risks: Vec::new(),
            blocked: None,
        };
        let actor = Actor { name: "tester".into(), role: Role::Operator };
        let approval = Approval::confirm(authority, &proposal, &proposal.hash().hex(), &actor, now)
            .expect("an approval");
        runner.observe(World { at: now, topology: Arc::new(topology), ..World::default() });
        runner.submit(&proposal, &approval, now).await.expect("taken");
        return;
    }
}
