//! A system that answers at once, and an engine that moves its one workload from `a` to `b`, on a clock that the test
//! holds.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use foreshift::drivers::{
    Action, Answer, Artifact, CanarySample, Capabilities, DriverError, Evidence, Job, JobStatus, Mover,
    Permit, Probe, Retry, Router, ServerState, Weight,
};
use foreshift::fleet::{
    Bytes, Clock, Generation, ManualClock, MigrationId, Partition, PartitionId, Phase, ProposalId, Revision,
    ServingState, Share, Span, Timestamp, Topology, Workload, WorkloadId,
};
use foreshift::migrate::{Approval, Authority, Options, Runner, World};
use foreshift::plan::Proposal;
use foreshift::plan::proposal::{CanaryPlan, Move, Outlook, Trigger};
use foreshift::protocol::{Actor, Mode, Role};
use foreshift::state::{Leadership, RedbStore, Single, Store};

/// A system that does everything at once and remembers what was done.
#[derive(Default)]
pub struct Ready {
    pub done: Mutex<Vec<String>>,
    /// Nobody hears what came of the way back.
    pub mute: AtomicBool,
    /// Nobody can tell whether this was done.
    pub untold: Mutex<Option<Action>>,
    /// The source is dead.
    pub dead: Arc<AtomicBool>,
    /// What the policy allows to lose where it dies.
    pub may_lose: Option<Span>,
    /// What it answers instead, where it says something.
    pub says: Mutex<Option<Says>>,
    /// It votes by itself, which takes a while; until its word is known the vote can be called off.
    pub votes: bool,
    /// Its word: who owns the workload.
    pub word: Mutex<Option<PartitionId>>,
    /// It takes much longer at the destination than at the source.
    pub slow: AtomicBool,
    /// What is left at the source is removed in the end.
    pub drops: AtomicBool,
    /// Who sends the traffic, where somebody does.
    pub router: Option<Arc<Roads>>,
    /// Each action that was asked for, with the partition that it was to be done at first.
    pub asked: Mutex<Vec<(&'static str, String)>>,
}

/// A router that can be reloaded, and then sends everything to `a` as its file says, and that can be away.
#[derive(Default)]
pub struct Roads {
    pub sent: Mutex<Option<Vec<Weight>>>,
    pub away: AtomicBool,
    /// How often it was told.
    pub told: Mutex<usize>,
}

impl Roads {
    fn answers(&self) -> Result<(), DriverError> {
        match self.away.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(DriverError::new(Retry::Unknown, "roads 2", "asking", "it does not answer")),
        }
    }

    /// Where all of the traffic goes.
    pub fn to(&self) -> String {
        let sent = self.sent.lock().unwrap();
        let all = sent.as_ref().and_then(|sent| sent.iter().find(|w| w.share.get() == 1.0));
        all.map_or("a".to_string(), |w| w.partition.to_string())
    }
}

#[async_trait]
impl Router for Roads {
    fn class(&self) -> &str {
        "roads"
    }
    async fn weights(&self, _: &WorkloadId) -> Result<Vec<Weight>, DriverError> {
        self.answers()?;
        let all = Weight {
            partition: self.to().as_str().into(),
            share: Share::MAX,
            state: ServerState::Ready,
            sessions: None,
        };
        Ok(self.sent.lock().unwrap().clone().unwrap_or(vec![all]))
    }
    async fn set(&self, _: &WorkloadId, weights: &[Weight], _: &Permit) -> Result<(), DriverError> {
        self.answers()?;
        *self.told.lock().unwrap() += 1;
        *self.sent.lock().unwrap() = Some(weights.to_vec());
        Ok(())
    }
}

/// What a system answers to an action instead of doing it at once.
pub type Says = Box<dyn FnMut(&Job, &Action) -> Option<Result<Answer, DriverError>> + Send>;

/// Says that to an action of the way back, from `b`; `None` = it does it at once.
pub fn says_back(
    wanted: Action,
    mut says: impl FnMut() -> Option<Result<Answer, DriverError>> + Send + 'static,
) -> Says {
    Box::new(move |job: &Job, action: &Action| {
        let here = *action == wanted && job.source.as_str() == "b";
        if here { says() } else { None }
    })
}

/// A comparison that does not end.
pub fn endless() -> Option<Result<Answer, DriverError>> {
    Some(Ok(Answer::Working { waiting_for: "the comparison".to_string() }))
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
        Capabilities {
            online: true,
            digest: true,
            reverse: true,
            follows: true,
            system_votes: self.votes,
            drops_source: self.drops.load(Ordering::SeqCst),
            ..Capabilities::default()
        }
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
        self.asked.lock().unwrap().push((action.name(), job.source.to_string()));
        if let Some(says) = self.says.lock().unwrap().as_mut()
            && let Some(answer) = says(job, action)
        {
            return answer;
        }
        self.done.lock().unwrap().push(job.key(&format!("{action:?}")));
        if self.is_mute(action) {
            return Err(DriverError::new(Retry::Unknown, "ready", "answering", "nobody hears it"));
        }
        let summary = format!("{} of 7 parts", action.name());
        Ok(Answer::Done(Evidence { summary, equal: Some(true), ..Evidence::default() }))
    }
    async fn probe(&self, job: &Job, action: &Action) -> Probe {
        if self.is_mute(action) || self.untold.lock().unwrap().as_ref() == Some(action) {
            return Probe::Unknown { reason: "nobody hears it".to_string() };
        }
        match self.done.lock().unwrap().contains(&job.key(&format!("{action:?}"))) {
            true => Probe::Applied { evidence: Evidence { equal: Some(true), ..Evidence::default() } },
            false => Probe::NotStarted,
        }
    }
    async fn status(&self, _: &Job) -> Result<JobStatus, DriverError> {
        let word = self.word.lock().unwrap().clone();
        Ok(JobStatus {
            copied: Bytes(1),
            total: Bytes(1),
            streaming: true,
            lag: Some(Span::ZERO),
            source_alive: !self.dead.load(Ordering::SeqCst),
            destination_alive: true,
            note: String::new(),
            broken: None,
            can_call_off: self.votes && word.is_none(),
            owner: word,
        })
    }
    async fn samples(&self, _: &Job, _: Timestamp) -> Result<(CanarySample, CanarySample), DriverError> {
        let took = |ms| CanarySample { latencies_ms: vec![ms; 60], requests: 60, ..CanarySample::default() };
        let slow = self.slow.load(Ordering::SeqCst);
        Ok((took(1.0), took(if slow { 90.0 } else { 1.0 })))
    }
    async fn leaks(&self) -> Result<Vec<Artifact>, DriverError> {
        Ok(Vec::new())
    }
}

/// Two partitions and the workload, which is at `a`.
pub fn topology() -> Topology {
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

/// The move.
pub fn proposal() -> Proposal {
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
pub async fn leader(store: &Arc<dyn Store>, mover: &Arc<Ready>, clock: &Arc<ManualClock>) -> Runner {
    let epoch = Single::new(Arc::clone(store)).campaign("engine").await.unwrap();
    let movers = BTreeMap::from([("ready".to_string(), Arc::clone(mover) as Arc<dyn Mover>)]);
    let mut options = Options { clock: Arc::clone(clock) as Arc<dyn Clock>, ..Options::default() };
    options.policy.loss_bound = mover.may_lose;
    let authority = Authority::of(Mode::Advise).unwrap();
    let router = mover.router.clone().map(|router| ("ready".to_string(), router as Arc<dyn Router>));
    Runner::new(Arc::clone(store), epoch, movers, router.into_iter().collect(), options, &authority)
}

/// An engine that leads and has looked.
pub async fn engine(store: &Arc<dyn Store>, mover: &Arc<Ready>, clock: &Arc<ManualClock>) -> Runner {
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

/// The move and its approval.
pub fn approved(clock: &ManualClock) -> (Proposal, Approval) {
    let proposal = proposal();
    let actor = Actor { name: "operator".to_string(), role: Role::Operator };
    let authority = Authority::of(Mode::Advise).unwrap();
    let approval =
        Approval::confirm(&authority, &proposal, &proposal.hash().hex(), &actor, clock.now()).unwrap();
    (proposal, approval)
}

/// Ticks until the migration is in `phase` or behind it.
pub async fn until(runner: &mut Runner, clock: &ManualClock, phase: Phase) {
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

/// The one migration.
pub const ID: MigrationId = MigrationId(1);

/// The approved move in the hands of an engine, and what a test needs to follow it.
pub struct Drive {
    pub runner: Runner,
    pub mover: Arc<Ready>,
    pub clock: Arc<ManualClock>,
    pub store: Arc<dyn Store>,
    /// Alerts.
    pub told: Vec<String>,
    /// By so much the clock goes on with each tick.
    pub step: Span,
    _folder: tempfile::TempDir,
}

impl Drive {
    /// Submits it.
    pub async fn begin() -> Self {
        Self::with(Ready::default()).await
    }

    /// The same with a system of another kind.
    pub async fn with(mover: Ready) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(&folder.path().join("state.redb")).unwrap());
        let (mover, clock) = (Arc::new(mover), Arc::new(ManualClock::at(Timestamp(1_000))));
        let mut runner = engine(&store, &mover, &clock).await;
        let (proposal, approval) = approved(&clock);
        runner.submit(&proposal, &approval, clock.now()).await.unwrap();
        Self { runner, mover, clock, store, told: Vec::new(), step: Span::millis(250), _folder: folder }
    }

    /// Ticks until that holds.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Runner) -> bool) {
        for _ in 0..2_000 {
            if holds(&self.runner) {
                return;
            }
            self.clock.advance(self.step);
            self.runner.tick(self.clock.now()).await.unwrap();
            // What is under way is given more time where a step of the clock is to mean little.
            let most = std::time::Duration::from_millis(1250 / self.step.0 as u64);
            tokio::time::timeout(most, self.runner.ready()).await.ok();
            self.told.extend(self.runner.take_alerts().into_iter().map(|(_, alert)| alert.text));
        }
        panic!("never {what}: {:?}", self.runner.views());
    }

    pub async fn until_in(&mut self, phase: Phase) {
        self.until(phase.word(), |runner| runner.state(ID).unwrap().phase == phase).await;
    }

    /// How often that was asked of the side that gives the workload back.
    pub fn asked(&self, action: &str) -> usize {
        let asked = self.mover.asked.lock().unwrap();
        asked.iter().filter(|(name, source)| *name == action && source == "b").count()
    }

    pub async fn owner(&self) -> String {
        self.runner.owners().await.unwrap().values().next().unwrap().owner.to_string()
    }
}
