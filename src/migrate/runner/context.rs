//! What all migrations of one engine share: store, drivers, limits, the fleet as it was last seen,
//! and the time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use super::moments::{self, Call, Edge, Moment, Observer, Verb, What};
use super::under_way::UnderWay;
use super::world::World;
use crate::drivers::{
    Action, Answer, Artifact, CanarySample, Capabilities, CleanupPolicy, DriverError, Job, JobStatus, Mover,
    Permit, Probe, Router, Weight,
};
use crate::fleet::{Clock, Epoch, PartitionId, ServingState, Span, SystemClock, Timestamp};
use crate::migrate::act::Act;
use crate::migrate::journal::Note;
use crate::migrate::limits::{Limits, Tokens};
use crate::migrate::pace::Pace;
use crate::migrate::plan::{Approved, Plan, Policy};
use crate::migrate::state::State;
use crate::state::{Compare, Entry, Op, Store, StoreError, Txn, TxnOutcome, leadership};

/// How a runner is set up.
#[derive(Clone)]
pub struct Options {
    /// Bounds on moves.
    pub limits: Limits,
    /// Bounds and patience of every migration that is submitted from now on.
    pub policy: Policy,
    /// A driver's call that takes longer counts as unknown; `None` where the drivers' futures never
    /// wait (simulation).
    pub call_limit: Option<Span>,
    /// Where migrations are driven.
    pub driven: Driven,
    /// Nothing is begun on a fleet that was last seen longer ago than this.
    pub world_age: Span,
    /// Wait before the store is asked again after it failed.
    pub store_wait: Span,
    /// How time passes, in a tick and from one to the next. Deadlines are safe from jumps of the
    /// wall clock where this one does not jump ([`crate::fleet::SteadyClock`]).
    pub clock: Arc<dyn Clock>,
    /// Told of every journal write and every call of a driver, before and after; tests kill the engine
    /// there. Nobody listens otherwise.
    pub observer: Option<Observer>,
    /// Bugs that tests plant, to see them caught; none anywhere else.
    #[doc(hidden)]
    pub planted: Planted,
}

/// Where migrations are driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Driven {
    /// Within [`super::Runner::tick`] and [`super::Runner::ready`]: what happens is in the same order every time,
    /// where the drivers' futures never wait. Calls stand still while neither is being waited for.
    #[default]
    InTicks,
    /// Each in a task of the Tokio runtime, which goes on whatever else the engine does meanwhile: a
    /// cut does not wait for a cycle that takes half a second. Not more is under way than without.
    InTasks,
}

/// A bug that the simulation plants to prove that it would be caught.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Planted {
    /// None.
    #[default]
    None,
    /// After a crash the pending action is repeated without a probe.
    RepeatWithoutProbe,
    /// The owner is changed without comparing the owner record.
    BlindCommit,
    /// The ledger's lines are not written.
    NoLedger,
    /// Transactions do not compare the leader's epoch.
    NoEpoch,
    /// Limits are not looked at.
    NoLimits,
    /// A failed comparison at the cut is taken for equal.
    IgnoreDifference,
    /// The plan is changed after it was approved.
    OtherPlan,
    /// The source is fenced for the cut's budget only; the seal is said to be set and is not.
    NoSeal,
    /// What came of the fence is not written.
    NoFenceRecord,
    /// The quorum of a workload's copies is not looked at.
    NoQuorum,
    /// What is intended is not written.
    NoIntent,
    /// A person's wish to undo is taken and forgotten.
    DeafToRollBack,
    /// Nobody is told of anything.
    Silent,
    /// Traffic of a workload with data goes by share before the cut.
    EarlyRoute,
    /// What is asked for by a prediction begins while the prediction is unknown.
    BlindToUnknown,
}

impl Planted {
    /// Takes out what a bug does not write.
    pub(super) fn forget(self, notes: &mut Vec<Note>) {
        match self {
            Planted::NoIntent => notes.retain(|n| !matches!(n, Note::Intent { .. })),
            Planted::NoFenceRecord => {
                notes.retain(|n| !matches!(n, Note::Outcome { step, .. } if step.ends_with("fence")));
            }
            _ => {}
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            policy: Policy::default(),
            call_limit: Some(Span::seconds(30)),
            driven: Driven::default(),
            world_age: Span::minutes(2),
            store_wait: Span::millis(200),
            clock: Arc::new(SystemClock),
            observer: None,
            planted: Planted::None,
        }
    }
}

/// What all migrations of one engine share.
pub(super) struct Context {
    /// Written to by [`Context::write`] alone, so that no journal write goes unobserved.
    store: Arc<dyn Store>,
    pub(super) epoch: Epoch,
    /// Called through [`Context::mover`] and [`Context::router`], so that no call goes unobserved.
    movers: BTreeMap<String, Arc<dyn Mover>>,
    routers: BTreeMap<String, Arc<dyn Router>>,
    pub(super) options: Options,
    pub(super) world: RwLock<Option<World>>,
    pub(super) tokens: tokio::sync::Mutex<Tokens>,
    /// How fast data may begin to be copied; `None` = as fast as it likes.
    pace: Mutex<Option<Pace>>,
    pub(super) deposed: AtomicBool,
    pub(super) under_way: UnderWay,
    /// Approved bytes as they were read last, newest last: the moves of one proposal are admitted one by
    /// one, and most are asked for often before their turn comes.
    approved: Mutex<VecDeque<(Vec<u8>, Arc<Approved>)>>,
    time: Mutex<Time>,
}

/// Proposals whose approved bytes are kept read.
const APPROVED: usize = 16;

/// The wall clock and the port's clock may drift apart by this within one tick.
const JUMP: Span = Span::seconds(5);

/// Time that never goes backwards and does not jump, whatever the wall clock does.
#[derive(Default)]
struct Time {
    /// The last time that was told.
    last: i64,
    /// What is added to the wall clock.
    offset: i64,
    /// The wall clock and the port's clock when the tick began.
    tick: (i64, i64),
}

impl Context {
    pub(super) fn new(
        store: Arc<dyn Store>,
        epoch: Epoch,
        movers: BTreeMap<String, Arc<dyn Mover>>,
        routers: BTreeMap<String, Arc<dyn Router>>,
        options: Options,
    ) -> Self {
        let pace = options.limits.bytes_per_second.map(Pace::new);
        Self {
            store,
            epoch,
            movers,
            routers,
            options,
            world: RwLock::new(None),
            tokens: tokio::sync::Mutex::new(Tokens::default()),
            pace: Mutex::new(pace),
            deposed: AtomicBool::new(false),
            under_way: UnderWay::default(),
            approved: Mutex::default(),
            time: Mutex::new(Time::default()),
        }
    }

    /// A tick begins at this wall clock time.
    pub(super) fn begin_tick(&self, wall: Timestamp) {
        let mut time = self.time.lock().unwrap_or_else(|e| e.into_inner());
        let port = self.options.clock.now().0;
        if time.last != 0 {
            let passed = (port - time.tick.1).max(0);
            let expected = (time.tick.0 + time.offset + passed).max(time.last);
            let shown = wall.0 + time.offset;
            // A small difference follows the wall clock; a jump, forward or back, is none of ours.
            if shown < time.last || (shown - expected).abs() > JUMP.0 {
                time.offset = expected - wall.0;
            }
        }
        time.tick = (wall.0, port);
        time.last = time.last.max(wall.0 + time.offset);
    }

    /// The time now: the tick's, and what has passed since it began.
    pub(super) fn now(&self) -> Timestamp {
        let mut time = self.time.lock().unwrap_or_else(|e| e.into_inner());
        let passed = (self.options.clock.now().0 - time.tick.1).max(0);
        time.last = time.last.max(time.tick.0 + time.offset + passed);
        Timestamp(time.last)
    }

    /// What the wall clock of the systems shows at this time of ours.
    pub(super) fn wall(&self, at: Timestamp) -> Timestamp {
        let offset = self.time.lock().unwrap_or_else(|e| e.into_inner()).offset;
        Timestamp(at.0.saturating_sub(offset))
    }

    /// The rate of copying as it is now.
    pub(super) fn pace(&self) -> Option<Pace> {
        self.pace.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// What copies do to the fleet, for the rate of copying, where there is one.
    pub(super) fn strain(&self, strain: impl FnOnce() -> Option<String>) {
        if let Some(pace) = self.pace.lock().unwrap_or_else(|e| e.into_inner()).as_mut() {
            pace.look(strain().as_deref(), self.now());
        }
    }

    pub(super) fn world(&self) -> Option<World> {
        self.world.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Whether a partition does not answer, as the fleet was last seen.
    pub(super) fn is_lost(&self, partition: &PartitionId) -> bool {
        let world = self.world.read().unwrap_or_else(|e| e.into_inner());
        let place = world.as_ref().and_then(|w| w.topology.partition(partition));
        place.is_some_and(|p| p.serving == ServingState::Fenced)
    }

    /// What approved bytes say. The very same bytes are hashed and read once.
    pub(super) fn approved(&self, bytes: &[u8]) -> Arc<Approved> {
        let mut known = self.approved.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, approved)) = known.iter().find(|(of, _)| of == bytes) {
            return Arc::clone(approved);
        }
        let approved = Arc::new(Approved::read(bytes));
        known.push_back((bytes.to_vec(), Arc::clone(&approved)));
        if known.len() > APPROVED {
            known.pop_front();
        }
        approved
    }

    pub(super) fn is_deposed(&self) -> bool {
        self.deposed.load(Ordering::Acquire)
    }

    // --- the store, of which nothing is written without somebody being able to see it

    /// As [`Store::get`].
    pub(super) async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    /// As [`Store::list`].
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.store.list(prefix).await
    }

    /// Writes records of a migration that is in `state` until then.
    pub(super) async fn write<'a>(
        &self,
        state: &State,
        notes: impl Iterator<Item = &'a Note>,
        txn: Txn,
    ) -> Result<TxnOutcome, StoreError> {
        if self.options.observer.is_none() {
            return self.store.txn(txn).await;
        }
        self.around(state, moments::kinds(notes), self.store.txn(txn)).await
    }

    /// Writes what belongs to no migration (a setting of the engine, an owner that changed without us), as
    /// long as this engine leads and `compares` hold.
    pub(super) async fn set(
        &self,
        compares: impl IntoIterator<Item = Compare>,
        ops: Vec<Op>,
    ) -> Result<TxnOutcome, StoreError> {
        let compares = std::iter::once(leadership::guard(self.epoch)).chain(compares).collect();
        self.store.txn(Txn { compares, ops }).await
    }

    // --- drivers

    /// The driver of a class.
    pub(super) fn mover(&self, class: &str) -> Option<Driver<'_>> {
        self.movers.get(class).map(|mover| Driver { context: self, mover: &**mover })
    }

    /// What sends the traffic of a class.
    pub(super) fn router(&self, class: &str) -> Option<Routing<'_>> {
        self.routers.get(class).map(|router| Routing { context: self, router: &**router })
    }

    /// What a class's router sends where, outside of any migration; `None` where there is no such router.
    pub(super) async fn sent(&self, plan: &Plan) -> Option<Result<Vec<Weight>, DriverError>> {
        Some(self.routers.get(&plan.class)?.weights(&plan.workload).await)
    }

    /// Sends it where a migration that is done has put it; `None` where there is no such router.
    pub(super) async fn send(&self, plan: &Plan, weights: &[Weight]) -> Option<Result<(), DriverError>> {
        let permit = self.permit(plan);
        Some(self.routers.get(&plan.class)?.set(&plan.workload, weights, &permit).await)
    }

    /// What every mover finds of ours in its systems.
    pub(super) async fn scan(&self) -> Vec<(String, Result<Vec<Artifact>, DriverError>)> {
        let mut found = Vec::new();
        for (class, mover) in &self.movers {
            found.push((class.clone(), mover.leaks().await));
        }
        found
    }

    /// Takes away what no migration knows; `None` where there is no mover of that class.
    pub(super) async fn reap(&self, class: &str, artifact: &Artifact) -> Option<Result<Answer, DriverError>> {
        let permit = Permit::mint_for_runner(self.epoch, "a leak");
        Some(self.movers.get(class)?.reap(artifact, &permit).await)
    }

    pub(super) fn place(&self) -> String {
        self.store.place()
    }

    /// Lets something happen, observed.
    async fn around<T>(&self, state: &State, what: What, happens: impl Future<Output = T>) -> T {
        let Some(observer) = &self.options.observer else { return happens.await };
        observer(&Moment::of(state, what.clone(), Edge::Before));
        let came = happens.await;
        observer(&Moment::of(state, what, Edge::After));
        came
    }

    /// The right to perform one action of an approved plan. Beside [`Context::reap`] nothing mints it.
    pub(super) fn permit(&self, plan: &Plan) -> Permit {
        Permit::mint_for_runner(self.epoch, plan.hash.hex())
    }
}

/// A mover whose calls are observed.
pub(super) struct Driver<'a> {
    context: &'a Context,
    mover: &'a dyn Mover,
}

impl Driver<'_> {
    pub(super) fn capabilities(&self) -> Capabilities {
        self.mover.capabilities()
    }

    pub(super) fn fence_budget(&self) -> Option<Span> {
        self.mover.fence_budget()
    }

    pub(super) fn artifacts(&self, job: &Job, action: &Action) -> Vec<Artifact> {
        self.mover.artifacts(job, action)
    }

    pub(super) fn cleanup_policy(&self, artifact: &Artifact) -> CleanupPolicy {
        self.mover.cleanup_policy(artifact)
    }

    /// Does `action`, which is what `act` asks for.
    pub(super) async fn perform(
        &self,
        state: &State,
        act: &Act,
        (job, action): (&Job, &Action),
    ) -> Result<Answer, DriverError> {
        let permit = self.context.permit(&state.plan);
        let what = What::Call(Call::Perform(Verb::of(act)));
        self.context.around(state, what, self.mover.perform(job, action, &permit)).await
    }

    pub(super) async fn probe(&self, state: &State, act: &Act, (job, action): (&Job, &Action)) -> Probe {
        let what = What::Call(Call::Probe(Verb::of(act)));
        self.context.around(state, what, self.mover.probe(job, action)).await
    }

    pub(super) async fn status(&self, state: &State, job: &Job) -> Result<JobStatus, DriverError> {
        self.context.around(state, What::Call(Call::Status), self.mover.status(job)).await
    }

    pub(super) async fn cut_waits_for(
        &self,
        state: &State,
        job: &Job,
    ) -> Result<Option<String>, DriverError> {
        self.context.around(state, What::Call(Call::Gate), self.mover.cut_waits_for(job)).await
    }

    pub(super) async fn samples(
        &self,
        state: &State,
        job: &Job,
        since: Timestamp,
    ) -> Result<(CanarySample, CanarySample), DriverError> {
        self.context.around(state, What::Call(Call::Samples), self.mover.samples(job, since)).await
    }
}

/// A router whose calls are observed.
pub(super) struct Routing<'a> {
    context: &'a Context,
    router: &'a dyn Router,
}

impl Routing<'_> {
    pub(super) async fn set(&self, state: &State, weights: &[Weight]) -> Result<(), DriverError> {
        let permit = self.context.permit(&state.plan);
        let call = self.router.set(&state.plan.workload, weights, &permit);
        self.context.around(state, What::Call(Call::Perform(Verb::Route)), call).await
    }

    pub(super) async fn weights(&self, state: &State) -> Result<Vec<Weight>, DriverError> {
        let call = self.router.weights(&state.plan.workload);
        self.context.around(state, What::Call(Call::Probe(Verb::Route)), call).await
    }
}
