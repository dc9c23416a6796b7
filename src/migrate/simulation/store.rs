//! The store and the drivers as one incarnation of the engine sees them: every call may be hit by a
//! fault, and a dead incarnation's calls do nothing any more.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use async_trait::async_trait;

use super::checks::{Checks, Seen, migration_of};
use super::faults::{Faults, Point};
use super::fleet::capabilities;
use super::system::{System, artifacts};
use crate::drivers::{
    Action, Answer, Artifact, CanarySample, Capabilities, CleanupPolicy, DriverError, Job, JobStatus, Mover,
    Permit, Probe, Retry, Router, ServerState, Weight,
};
use crate::fleet::rng::Random;
use crate::fleet::{
    Clock, Epoch, ManualClock, MigrationId, PartitionId, Phase, Revision, Share, Span, Timestamp, Topology,
    WorkloadId,
};
use crate::migrate::limits::Limits;
use crate::state::{Entry, MemoryStore, Op, Store, StoreError, Txn, TxnOutcome, Watch};

/// Everything outside the engine.
pub(super) struct Outside {
    pub(super) system: System,
    pub(super) checks: Checks,
    pub(super) faults: Faults,
    pub(super) random: Random,
    pub(super) clock: Arc<ManualClock>,
    /// What the wall clock shows more than the true time.
    pub(super) offset: i64,
    /// Dead incarnations.
    pub(super) dead: Vec<bool>,
    /// The epoch of each incarnation.
    pub(super) epochs: Vec<Epoch>,
    /// A call that was stopped in the middle, with its incarnation.
    pub(super) stalled: Option<(usize, Option<Waker>, bool)>,
    pub(super) unknown: std::collections::BTreeSet<PartitionId>,
    pub(super) failing: std::collections::BTreeSet<PartitionId>,
    pub(super) topology: Topology,
    pub(super) topology_changed: bool,
    pub(super) limits: Limits,
    pub(super) coverage: std::collections::BTreeSet<(Phase, Point)>,
    pub(super) trace: Option<Vec<String>>,
    pub(super) commits: u64,
    pub(super) sample: Samples,
}

/// Measurements that are handed out: made once a seed, because drawing them is not what is tested.
pub(super) struct Samples {
    pub(super) normal: CanarySample,
    pub(super) slow: CanarySample,
}

impl Samples {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut make = |mean: f64| CanarySample {
            latencies_ms: (0..12).map(|_| mean * random.between(0.9, 1.1)).collect(),
            requests: 100,
            errors: 0,
            compared: 12,
            mismatches: 0,
            examples: Vec::new(),
            earlier: false,
        };
        Self { normal: make(1.0), slow: make(9.0) }
    }
}

impl Outside {
    pub(super) fn now(&self) -> i64 {
        self.clock.now().0
    }

    pub(super) fn wall(&self) -> i64 {
        self.now() + self.offset
    }

    pub(super) fn say(&mut self, line: impl FnOnce() -> String) {
        let at = self.clock.now().0;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9.3} {}", at as f64 / 1000.0, line()));
        }
    }

    fn phase_of(&self, migration: MigrationId) -> Option<Phase> {
        self.checks.phases.get(&migration).copied()
    }

    fn hit(&mut self, points: &[Point], migration: Option<MigrationId>, what: &str) -> Option<Point> {
        let point = self.faults.next(points)?;
        if let Some(phase) = migration.and_then(|m| self.phase_of(m)) {
            self.coverage.insert((phase, point));
        }
        self.say(|| format!("FAULT {point:?} at {what} of {migration:?}"));
        Some(point)
    }
}

pub(super) type Shared = Arc<Mutex<Outside>>;

/// One incarnation's hands.
#[derive(Clone)]
pub(super) struct Hands {
    pub(super) outside: Shared,
    pub(super) incarnation: usize,
}

impl Hands {
    pub(super) fn lock(&self) -> MutexGuard<'_, Outside> {
        self.outside.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn is_dead(&self, outside: &Outside) -> bool {
        outside.dead.get(self.incarnation).copied().unwrap_or(false)
    }
}

/// The store as one incarnation sees it.
pub(super) struct SimStore {
    pub(super) inner: Arc<MemoryStore>,
    pub(super) hands: Hands,
}

impl SimStore {
    fn unavailable(&self) -> StoreError {
        StoreError::Unavailable { place: "simulated".to_string(), detail: "injected".to_string() }
    }

    fn ambiguous(&self) -> StoreError {
        StoreError::Ambiguous { place: "simulated".to_string(), detail: "injected".to_string() }
    }

    fn may_read(&self) -> Result<(), StoreError> {
        let mut outside = self.hands.lock();
        match self.hands.is_dead(&outside) || outside.faults.read_fails() {
            true => Err(self.unavailable()),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Store for SimStore {
    fn place(&self) -> String {
        "simulated".to_string()
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.may_read()?;
        self.inner.revision().await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.may_read()?;
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.may_read()?;
        self.inner.list(prefix).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        let migration = txn.ops.iter().find_map(|op| match op {
            Op::Put(key, _) => migration_of(key).map(|(id, _)| id),
            Op::Delete(_) => None,
        });
        let point = {
            let mut outside = self.hands.lock();
            if self.hands.is_dead(&outside) {
                return Err(self.unavailable());
            }
            let point = outside.hit(&Point::STORE, migration, "a commit");
            match point {
                Some(Point::StoreBeforeSend) => return Err(self.unavailable()),
                Some(Point::StoreAfterSend) => return Err(self.ambiguous()),
                Some(Point::StoreDeathBefore) => {
                    outside.dead[self.hands.incarnation] = true;
                    return Err(self.ambiguous());
                }
                point => point,
            }
        };
        let mut outside = self.hands.lock();
        let outcome = self.inner.commit(txn, |ops, revision| {
            committed(&mut outside, ops, self.hands.incarnation, revision);
        });
        match point {
            Some(Point::StoreBeforeAnswer) => Err(self.ambiguous()),
            Some(Point::StoreDeathAfter) => {
                outside.dead[self.hands.incarnation] = true;
                Err(self.ambiguous())
            }
            _ => Ok(outcome),
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StoreError> {
        self.inner.watch(prefix, after).await
    }
}

fn committed(outside: &mut Outside, ops: &[Op], incarnation: usize, revision: Revision) {
    outside.commits += 1;
    let leads = ops.iter().any(|op| matches!(op, Op::Put(key, _) if key == "/leader"));
    if leads {
        outside.checks.lead(Epoch(revision.0));
        outside.epochs[incarnation] = Epoch(revision.0);
        outside.say(|| format!("engine {incarnation} leads with e{}", revision.0));
        return;
    }
    if outside.trace.is_some() {
        for op in ops {
            if let Op::Put(key, value) = op
                && key.contains("/journal/")
                && let Ok(record) = serde_json::from_slice::<crate::migrate::journal::Record>(value)
            {
                outside.say(|| format!("{} [{}] {:?}", record.migration, record.phase.word(), record.note));
            }
        }
    }
    let epoch = outside.epochs[incarnation];
    let Outside { checks, unknown, failing, limits, topology, system, .. } = outside;
    checks.committed(ops, epoch, &Seen { unknown, failing, limits, topology, system });
    for op in ops {
        if let Op::Put(key, _) = op
            && let Some(workload) = key.strip_prefix("/owners/")
        {
            let id = WorkloadId::from(workload);
            if let Some(owner) = checks.owners.get(&id)
                && let Ok(i) = topology.workloads.binary_search_by(|w| w.id.cmp(&id))
            {
                let workload = &mut topology.workloads[i];
                if workload.partition != owner.owner || workload.generation != owner.generation {
                    workload.partition = owner.owner.clone();
                    workload.generation = owner.generation;
                    outside.topology_changed = true;
                }
            }
        }
    }
}

/// The driver of one class as one incarnation sees it.
pub(super) struct SimMover {
    pub(super) class: &'static str,
    pub(super) hands: Hands,
}

fn step_name(job: &Job, action: &Action, outside: &Outside) -> String {
    let step = match action {
        Action::CanaryShare { share } => format!("canary_share_{:.0}", share.get() * 100.0),
        Action::Cleanup { artifact } => format!("cleanup_{}", artifact.name),
        action => action.name().to_string(),
    };
    // The mirrored job is known by who is the source in the fleet that was planned on.
    match outside.system.home(&job.workload) == Some(&job.source) {
        true => step,
        false => format!("rb_{step}"),
    }
}

fn lost(action: &Action) -> DriverError {
    DriverError::new(Retry::Unknown, "simulated", action.name(), "injected: no answer")
}

#[async_trait]
impl Mover for SimMover {
    fn class(&self) -> &str {
        self.class
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(self.class)
    }

    async fn discover(&self) -> Result<Topology, DriverError> {
        Ok(self.hands.lock().topology.clone())
    }

    fn describe(&self, job: &Job) -> Vec<String> {
        vec![format!("move {} from {} to {}", job.workload, job.source, job.destination)]
    }

    fn artifacts(&self, job: &Job, action: &Action) -> Vec<Artifact> {
        // A mirrored job makes nothing: its parts were made by the forward one.
        match self.hands.lock().system.home(&job.workload) == Some(&job.source) {
            true => artifacts(job, action),
            false => Vec::new(),
        }
    }

    fn cleanup_policy(&self, artifact: &Artifact) -> CleanupPolicy {
        match artifact.kind.as_str() {
            "copy" => CleanupPolicy::OnFailure,
            "stream" => CleanupPolicy::Always,
            _ => CleanupPolicy::DeferredOnSuccess,
        }
    }

    async fn perform(&self, job: &Job, action: &Action, permit: &Permit) -> Result<Answer, DriverError> {
        let epoch = permit.epoch();
        let point = {
            let mut outside = self.hands.lock();
            if self.hands.is_dead(&outside) {
                return Err(lost(action));
            }
            let step = step_name(job, action, &outside);
            outside.checks.asked(job, action, &step, permit);
            if outside.random.chance(0.004) {
                // It takes its time.
                let span = Span(outside.random.below(4000) as i64);
                outside.clock.advance(span);
            }
            let point = outside.hit(&Point::DRIVER, Some(job.migration), action.name());
            match point {
                Some(Point::DriverBeforeSend) => {
                    return Err(DriverError::new(Retry::Retryable, "simulated", action.name(), "injected"));
                }
                Some(Point::DriverAfterSend) => {
                    outside.checks.not_answered(epoch, job.migration, &step);
                    return Err(lost(action));
                }
                Some(Point::DriverDeathBefore) => {
                    outside.checks.not_answered(epoch, job.migration, &step);
                    outside.dead[self.hands.incarnation] = true;
                    return Err(lost(action));
                }
                Some(Point::DriverStall) if outside.stalled.is_none() => {
                    outside.checks.not_answered(epoch, job.migration, &step);
                    outside.stalled = Some((self.hands.incarnation, None, false));
                }
                Some(Point::DriverBeforeAnswer | Point::DriverDeathAfter) => {
                    outside.checks.not_answered(epoch, job.migration, &step);
                }
                _ => {}
            }
            point
        };
        if point == Some(Point::DriverStall) {
            self.stall().await;
        }
        let mut outside = self.hands.lock();
        let (wall, now) = (outside.wall(), outside.now());
        let done = outside.system.perform(job, action, epoch, wall, now);
        if done.is_ok() {
            let Outside { checks, system, .. } = &mut *outside;
            let made = artifacts(job, action);
            let made: &[Artifact] = if system.home(&job.workload) == Some(&job.source) { &made } else { &[] };
            checks.happened(system, job, action, made, wall);
        }
        outside.say(|| {
            format!(
                "  {} {} {epoch}: {}",
                job.migration,
                action.name(),
                match &done {
                    Ok(Answer::Done(evidence)) => format!("done {:?}", evidence.equal),
                    Ok(Answer::Working { .. }) => "working".to_string(),
                    Err(error) => error.detail.clone(),
                }
            )
        });
        match point {
            Some(Point::DriverBeforeAnswer) => Err(lost(action)),
            Some(Point::DriverDeathAfter) => {
                outside.dead[self.hands.incarnation] = true;
                Err(lost(action))
            }
            _ => done,
        }
    }

    async fn probe(&self, job: &Job, action: &Action) -> Probe {
        let mut outside = self.hands.lock();
        if self.hands.is_dead(&outside) || outside.faults.read_fails() {
            return Probe::Unknown { reason: "injected".to_string() };
        }
        let answer = outside.system.probe(job, action, outside.now());
        if !matches!(answer, Probe::Unknown { .. }) {
            let epoch = outside.epochs[self.hands.incarnation];
            outside.checks.probed(epoch, job.migration);
        }
        outside.say(|| format!("  {} probe {}: {answer:?}", job.migration, action.name()));
        answer
    }

    async fn status(&self, job: &Job) -> Result<JobStatus, DriverError> {
        let mut outside = self.hands.lock();
        if self.hands.is_dead(&outside) || outside.faults.read_fails() {
            return Err(DriverError::new(Retry::Retryable, "simulated", "status", "injected"));
        }
        let now = outside.now();
        outside
            .system
            .status(job, now)
            .ok_or_else(|| DriverError::new(Retry::Permanent, "simulated", "status", "no such workload"))
    }

    async fn samples(&self, job: &Job, _: Timestamp) -> Result<(CanarySample, CanarySample), DriverError> {
        let mut outside = self.hands.lock();
        if self.hands.is_dead(&outside) || outside.faults.read_fails() {
            return Err(DriverError::new(Retry::Retryable, "simulated", "samples", "injected"));
        }
        let slow = outside.system.slow.contains(&(job.workload.clone(), job.destination.clone()));
        let sample = &outside.sample;
        let destination = if slow { &sample.slow } else { &sample.normal };
        Ok((sample.normal.clone(), destination.clone()))
    }

    async fn leaks(&self) -> Result<Vec<Artifact>, DriverError> {
        Ok(self.hands.lock().system.artifacts.iter().cloned().collect())
    }
}

impl SimMover {
    /// The process is stopped until the run lets it go on.
    async fn stall(&self) {
        poll_fn(|cx| {
            let mut outside = self.hands.lock();
            match &mut outside.stalled {
                Some((incarnation, waker, released))
                    if *incarnation == self.hands.incarnation && !*released =>
                {
                    *waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
    }
}

/// The router of one class.
pub(super) struct SimRouter {
    pub(super) class: &'static str,
    pub(super) hands: Hands,
}

#[async_trait]
impl Router for SimRouter {
    fn class(&self) -> &str {
        self.class
    }

    async fn weights(&self, workload: &WorkloadId) -> Result<Vec<Weight>, DriverError> {
        let mut outside = self.hands.lock();
        if self.hands.is_dead(&outside) || outside.faults.read_fails() {
            return Err(DriverError::new(Retry::Retryable, "simulated", "weights", "injected"));
        }
        if let Some(id) = outside.checks.working.get(workload).copied() {
            let epoch = outside.epochs[self.hands.incarnation];
            outside.checks.probed(epoch, id);
        }
        let Some(load) = outside.system.loads.get(workload) else { return Ok(Vec::new()) };
        let share = |s: f64| Share::clamped(s).unwrap_or(Share::MIN);
        Ok(load
            .share
            .iter()
            .map(|(p, s)| Weight {
                partition: p.clone(),
                share: share(*s),
                state: ServerState::Ready,
                sessions: None,
            })
            .collect())
    }

    async fn set(
        &self,
        workload: &WorkloadId,
        weights: &[Weight],
        permit: &Permit,
    ) -> Result<(), DriverError> {
        let mut outside = self.hands.lock();
        let migration = outside.checks.working.get(workload).copied();
        let unknown = || DriverError::new(Retry::Unknown, "simulated", "set weights", "injected: no answer");
        if self.hands.is_dead(&outside) {
            return Err(unknown());
        }
        outside.checks.routes(workload, weights, permit);
        let point = outside.hit(&Point::DRIVER[..5], migration, "route");
        let lost = matches!(
            point,
            Some(
                Point::DriverAfterSend
                    | Point::DriverDeathBefore
                    | Point::DriverBeforeAnswer
                    | Point::DriverDeathAfter
            )
        );
        if let Some(id) = migration.filter(|_| lost) {
            let share = weights.iter().filter(|w| outside.system.home(workload) != Some(&w.partition));
            let step = format!("route_{:.0}", share.map(|w| w.share.get()).sum::<f64>() * 100.0);
            outside.checks.not_answered(permit.epoch(), id, &step);
        }
        match point {
            Some(Point::DriverBeforeSend) => {
                return Err(DriverError::new(Retry::Retryable, "simulated", "set weights", "injected"));
            }
            Some(Point::DriverAfterSend) => return Err(unknown()),
            Some(Point::DriverDeathBefore) => {
                outside.dead[self.hands.incarnation] = true;
                return Err(unknown());
            }
            _ => {}
        }
        outside.system.route(workload, weights, permit.epoch())?;
        let Outside { checks, system, .. } = &mut *outside;
        checks.routed(system, workload, weights);
        match point {
            Some(Point::DriverBeforeAnswer) => Err(unknown()),
            Some(Point::DriverDeathAfter) => {
                outside.dead[self.hands.incarnation] = true;
                Err(unknown())
            }
            _ => Ok(()),
        }
    }
}
