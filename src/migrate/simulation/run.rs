//! One run of one seed, from an empty store to the end of the last migration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::executor::block_on;

use super::checks::Checks;
use super::faults::Faults;
use super::fleet::{self, PLAIN, STATELESS, VOTING};
use super::operators::Events;
use super::store::{Hands, Outside, Samples, Shared, SimMover, SimRouter, SimStore};
use super::system::System;
use super::{Outcome, Setting};
use crate::drivers::{Mover, Router};
use crate::fleet::rng::Random;
use crate::fleet::{Clock, Epoch, ManualClock, MigrationId, Phase, Span, Timestamp, WorkloadId};
use crate::migrate::approval::{Approval, Authority};
use crate::migrate::error::MigrateError;
use crate::migrate::journal;
use crate::migrate::limits::Limits;
use crate::migrate::plan::Policy;
use crate::migrate::runner::moments::{Observer, Occasion};
use crate::migrate::runner::{Driven, Options, Runner, World};
use crate::migrate::state::{Progress, Wish};
use crate::plan::Proposal;
use crate::protocol::{Actor, Mode, Role};
use crate::state::{Leadership, MemoryStore, Single, Store};

/// When the simulated time begins.
const START: i64 = 1_000_000_000;
/// Steps after which a run that does not end has failed.
const STEPS: u32 = 6_000;
/// Steps after which no new faults come and everything has to end.
const QUIET_AFTER: u32 = 1_500;

/// A person's wish to undo is taken up within this, faults of the store and waits included.
const HEARD: i64 = 30_000;

/// What was written and called, and in which phase.
type Occasions = Arc<Mutex<BTreeSet<Occasion>>>;

fn observer(seen: &Occasions) -> Observer {
    let seen = Arc::clone(seen);
    Arc::new(move |moment| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).extend(moment.occasions());
    })
}

/// One incarnation of the engine.
pub(super) struct Engine {
    pub(super) runner: Runner,
    incarnation: usize,
    recovered: bool,
}

/// One run.
pub(super) struct Run {
    pub(super) shared: Shared,
    pub(super) store: Arc<MemoryStore>,
    pub(super) random: Random,
    pub(super) engine: Option<Engine>,
    pub(super) events: Events,
    /// The brake on automatic mode is on.
    pub(super) storming: bool,
    /// A storm goes on.
    pub(super) stormy: bool,
    /// A person asked this engine to undo these, and when; until it is seen to be done.
    pub(super) asked_back: BTreeMap<MigrationId, i64>,
    pub(super) meddled: BTreeSet<WorkloadId>,
    pub(super) looked: BTreeMap<MigrationId, u32>,
    clock: Arc<ManualClock>,
    zombie: Option<(Engine, u32)>,
    waiting: Vec<(i64, Arc<Proposal>)>,
    world: World,
    options: Options,
    occasions: Occasions,
    deaths: u32,
    hosts: usize,
    /// Migrations that this engine told people of.
    alerts: BTreeSet<MigrationId>,
    /// Something changed since the last check.
    changed: bool,
}

/// Runs one seed.
pub fn run_seed(seed: u64, setting: Setting) -> Outcome {
    let mut run = Run::new(seed, setting);
    let violation = run.go().err();
    run.outcome(seed, violation)
}

impl Run {
    fn new(seed: u64, setting: Setting) -> Self {
        let root = Random::new(seed);
        let mut random = root.fork("fleet");
        let clock = Arc::new(ManualClock::at(Timestamp(START)));
        let topology = fleet::topology(&mut random);
        let proposals = fleet::proposals(&mut random, &topology, Timestamp(START));
        let limits = Limits {
            fleet: 6 + random.below(4) as u32,
            site: 5,
            rack: 4,
            host: 3,
            hour: 1000,
            cool_down: Span::minutes(5),
            windows: Vec::new(),
        };
        let occasions = Occasions::default();
        let options = Options {
            limits: limits.clone(),
            policy: policy(&mut random),
            call_limit: None,
            driven: Driven::InTicks,
            world_age: Span::hours(3),
            store_wait: Span::millis(200),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            observer: setting.occasions.then(|| observer(&occasions)),
            planted: setting.planted,
        };
        let mut checks = Checks::default();
        for proposal in &proposals {
            checks.approve(proposal);
        }
        let mut system = System::new(&topology);
        for proposal in &proposals {
            for m in proposal.moves.iter().filter(|_| random.chance(0.06)) {
                system.slow.insert((m.workload.clone(), m.destination.clone()));
            }
        }
        let hosts = topology.hosts.len();
        let waiting = proposals
            .into_iter()
            .enumerate()
            .map(|(i, p)| (START + i as i64 * random.below(3_000) as i64, p))
            .collect();
        let shared = Arc::new(std::sync::Mutex::new(Outside {
            system,
            checks,
            faults: Faults::new(root.fork("faults")),
            random: root.fork("outside"),
            clock: Arc::clone(&clock),
            offset: 0,
            dead: Vec::new(),
            epochs: Vec::new(),
            stalled: None,
            unknown: BTreeSet::new(),
            failing: BTreeSet::new(),
            topology,
            topology_changed: true,
            limits,
            coverage: BTreeSet::new(),
            trace: setting.trace.then(Vec::new),
            commits: 0,
            sample: Samples::new(&mut random),
        }));
        let mut run = Self {
            shared,
            store: Arc::new(MemoryStore::new()),
            random: root.fork("run"),
            engine: None,
            events: Events::default(),
            storming: false,
            stormy: false,
            asked_back: BTreeMap::new(),
            meddled: BTreeSet::new(),
            looked: BTreeMap::new(),
            clock,
            zombie: None,
            waiting,
            world: World::default(),
            options,
            occasions,
            deaths: 0,
            hosts,
            alerts: BTreeSet::new(),
            changed: true,
        };
        run.foresee();
        run
    }

    pub(super) fn outside(&self) -> MutexGuard<'_, Outside> {
        self.shared.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.now().0
    }

    pub(super) fn hosts(&self) -> usize {
        self.hosts
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.outside().wall())
    }

    /// # Errors
    /// The first violation.
    fn go(&mut self) -> Result<(), String> {
        for steps in 0..STEPS {
            if steps == QUIET_AFTER {
                self.outside().faults.quiet();
                self.events = Events::default();
                self.outside().offset = 0;
                self.storming = false;
                self.stormy = false;
                let mut outside = self.outside();
                outside.failing.clear();
                outside.unknown.clear();
                outside.topology_changed = true;
            }
            self.pass();
            self.happen();
            self.ensure_engine()?;
            self.submit();
            if steps < QUIET_AFTER && self.random.chance(0.03) {
                self.command();
            }
            let calm = self.outside().faults.over();
            if (calm || steps > QUIET_AFTER) && steps % 20 == 0 || self.random.chance(0.02) {
                self.look_after();
            }
            self.tick()?;
            self.check()?;
            if self.is_over() {
                return self.end();
            }
            self.advance();
        }
        let running = self.engine.as_ref().map(|e| e.runner.running()).unwrap_or_default();
        let standing: Vec<String> = running
            .into_iter()
            .filter_map(|id| self.engine.as_ref().and_then(|e| e.runner.state(id)))
            .map(|s| format!("{} {:?} todo {:?} waiting {:?}", s.plan.id, s.phase, s.todo, s.waiting))
            .collect();
        Err(format!("I9: not everything ended in {STEPS} steps: {}", standing.join("; ")))
    }

    fn pass(&mut self) {
        let mut outside = self.outside();
        let (wall, now) = (outside.wall(), outside.now());
        outside.system.pass(wall, now);
        let Outside { checks, system, .. } = &mut *outside;
        for (workload, load) in &system.loads {
            checks.one_writer(workload, load, wall);
        }
    }

    /// A living, recovered engine, where that is possible now.
    fn ensure_engine(&mut self) -> Result<(), String> {
        if self.engine.is_none() {
            let Some(engine) = self.start() else { return Ok(()) };
            self.engine = Some(engine);
        }
        let wall = self.wall();
        let Some(engine) = &mut self.engine else { return Ok(()) };
        if !engine.recovered {
            match block_on(engine.runner.recover(wall)) {
                Ok(()) => engine.recovered = true,
                Err(MigrateError::Store(_)) => {}
                Err(MigrateError::Deposed { .. }) => self.engine = None,
                Err(error) => return Err(format!("recovery: {error}")),
            }
        }
        self.bury();
        Ok(())
    }

    fn start(&mut self) -> Option<Engine> {
        let incarnation = {
            let mut outside = self.outside();
            outside.dead.push(false);
            outside.epochs.push(Epoch(0));
            outside.dead.len() - 1
        };
        let hands = Hands { outside: Arc::clone(&self.shared), incarnation };
        let store: Arc<dyn Store> =
            Arc::new(SimStore { inner: Arc::clone(&self.store), hands: hands.clone() });
        let epoch = block_on(Single::new(Arc::clone(&store)).campaign("engine")).ok()?;
        let movers = [PLAIN, VOTING, STATELESS].map(|class| {
            let mover: Arc<dyn Mover> = Arc::new(SimMover { class, hands: hands.clone() });
            (class.to_string(), mover)
        });
        // Traffic of one class with data goes through a router, too: never before its owner changed.
        let routers = [PLAIN, STATELESS].map(|class| {
            let router: Arc<dyn Router> = Arc::new(SimRouter { class, hands: hands.clone() });
            (class.to_string(), router)
        });
        let routers = BTreeMap::from(routers);
        let authority = Authority::of(Mode::Auto).ok()?;
        let runner =
            Runner::new(store, epoch, BTreeMap::from(movers), routers, self.options.clone(), &authority);
        Some(Engine { runner, incarnation, recovered: false })
    }

    /// Drops an engine whose process died.
    fn bury(&mut self) {
        let dead = self.engine.as_ref().is_some_and(|e| self.outside().dead[e.incarnation]);
        if dead {
            self.deaths += 1;
            self.engine = None;
            self.forget();
            self.outside().say(|| "DEATH of the engine".to_string());
        }
    }

    fn submit(&mut self) {
        let (now, wall) = (self.now(), self.wall());
        let Some(engine) = self.engine.as_mut().filter(|e| e.recovered) else { return };
        let Ok(authority) = Authority::of(Mode::Auto) else { return };
        let actor = Actor { name: "operator".to_string(), role: Role::Operator };
        engine.runner.observe(World { at: wall, ..self.world.clone() });
        self.waiting.retain(|(at, proposal)| {
            if *at > now {
                return true;
            }
            let shown = proposal.hash().hex();
            let Ok(approval) = Approval::confirm(&authority, proposal, &shown, &actor, proposal.made) else {
                return false;
            };
            match block_on(engine.runner.submit(proposal, &approval, wall)) {
                Ok(_) => false,
                Err(refusal) => !refusal.to_string().contains("was taken before"),
            }
        });
        self.bury();
    }

    fn tick(&mut self) -> Result<(), String> {
        self.see_world();
        if self.events.takeover.is_some_and(|at| at <= self.now()) && self.zombie.is_none() {
            // Another engine takes over while this one still believes that it leads.
            self.events.takeover = None;
            if let Some(old) = self.engine.take() {
                let left = 1 + self.random.below(6) as u32;
                self.zombie = Some((old, left));
                self.forget();
                self.deaths += 1;
                self.ensure_engine()?;
            }
        }
        let wall = self.wall();
        if let Some(engine) = self.engine.as_mut().filter(|e| e.recovered) {
            engine.runner.observe(self.world.clone());
            match block_on(engine.runner.tick(wall)) {
                Ok(changed) => self.changed |= changed,
                Err(MigrateError::Deposed { .. }) => {
                    self.engine = None;
                    self.forget();
                }
                Err(error) => return Err(format!("tick: {error}")),
            }
        }
        if let Some(engine) = &mut self.engine {
            self.alerts.extend(engine.runner.take_alerts().into_iter().map(|(id, _)| id));
        }
        let stalled = self.outside().stalled.as_ref().map(|(incarnation, _, _)| *incarnation);
        if let Some(incarnation) = stalled
            && self.zombie.is_none()
            && self.engine.as_ref().is_some_and(|e| e.incarnation == incarnation)
            && let Some(engine) = self.engine.take()
        {
            let left = 2 + self.random.below(12) as u32;
            self.zombie = Some((engine, left));
            self.forget();
            self.deaths += 1;
            self.outside().say(|| "STALL: another engine takes over".to_string());
        }
        self.bury();
        self.drive_zombie(wall);
        Ok(())
    }

    /// An engine that was deposed, or is stopped in a call, and does not know it.
    fn drive_zombie(&mut self, wall: Timestamp) {
        let Some((engine, left)) = &mut self.zombie else { return };
        *left = left.saturating_sub(1);
        let over = *left == 0;
        let is_stalled = {
            let mut outside = self.shared.lock().unwrap_or_else(|e| e.into_inner());
            match &mut outside.stalled {
                Some((incarnation, waker, released)) if *incarnation == engine.incarnation => {
                    if over {
                        *released = true;
                        if let Some(waker) = waker.take() {
                            waker.wake();
                        }
                    }
                    !over
                }
                _ => false,
            }
        };
        if is_stalled {
            return;
        }
        if engine.recovered {
            let _ = block_on(engine.runner.tick(wall));
        }
        if over {
            let mut outside = self.shared.lock().unwrap_or_else(|e| e.into_inner());
            outside.dead[engine.incarnation] = true;
            // Another's stall goes on: its engine is next to be deposed.
            outside.stalled = outside.stalled.take().filter(|(i, _, _)| *i != engine.incarnation);
            drop(outside);
            self.zombie = None;
        }
    }

    fn see_world(&mut self) {
        let mut outside = self.shared.lock().unwrap_or_else(|e| e.into_inner());
        self.world.at = Timestamp(outside.now() + outside.offset);
        if std::mem::take(&mut outside.topology_changed) {
            self.world.topology = Arc::new(outside.topology.clone());
            self.world.failing = Arc::new(outside.failing.clone());
            self.world.unknown = Arc::new(outside.unknown.clone());
            self.world.frozen = self.storming.then(|| "too many at once".to_string());
        }
    }

    /// What an engine knew alone is gone with it.
    fn forget(&mut self) {
        self.alerts.clear();
        self.asked_back.clear();
        self.changed = true;
        self.outside().checks.untold.clear();
    }

    fn check(&mut self) -> Result<(), String> {
        let now = self.now();
        if let Some(engine) = self.engine.as_ref().filter(|e| e.recovered && self.changed) {
            let mut outside = self.shared.lock().unwrap_or_else(|e| e.into_inner());
            for id in engine.runner.running() {
                if let Some(state) = engine.runner.state(id) {
                    outside.checks.stands(state, &self.alerts, now);
                }
            }
            self.changed = !outside.checks.untold.is_empty();
        }
        if let Some(engine) = &self.engine {
            // Taken up, or at an end, or standing where somebody has to look first.
            self.asked_back.retain(|id, _| {
                engine.runner.state(*id).is_some_and(|s| {
                    let undoing = matches!(s.standing(), Phase::RollingBackPre | Phase::RollingBackPost);
                    !s.phase.is_end() && !undoing && !matches!(s.wish, Some(Wish::RollBack { .. }))
                })
            });
            if let Some(id) = self.asked_back.iter().find(|(_, at)| now - **at > HEARD).map(|(id, _)| *id) {
                return Err(format!("I8: {id} was to be undone and goes on"));
            }
        }
        self.outside().checks.violation.clone().map_or(Ok(()), Err)
    }

    fn is_over(&self) -> bool {
        self.waiting.is_empty()
            && self.zombie.is_none()
            && self.engine.as_ref().is_some_and(|e| e.recovered && e.runner.running().is_empty())
    }

    fn advance(&mut self) {
        let now = self.now();
        let offset = self.outside().offset;
        let due =
            self.engine.as_ref().and_then(|e| e.runner.next_due()).map(|at| at.0.saturating_sub(offset));
        let most = if self.zombie.is_some() { 300 } else { 2_000 };
        let span = due.map_or(500, |at| at.saturating_sub(now)).clamp(1, most);
        self.clock.advance(Span(span));
    }

    /// Everything has ended: the fleet must be clean and every journal whole.
    fn end(&mut self) -> Result<(), String> {
        self.pass();
        let entries = block_on(self.store.list("/migrations/")).map_err(|e| e.to_string())?;
        let mut journals: BTreeMap<MigrationId, Vec<crate::state::Entry>> = BTreeMap::new();
        let mut states: BTreeMap<MigrationId, Progress> = BTreeMap::new();
        for entry in entries {
            let Some((id, rest)) = super::checks::migration_of(&entry.key) else { continue };
            if rest == "state" {
                let progress = serde_json::from_slice(&entry.value).map_err(|e| e.to_string())?;
                states.insert(id, progress);
            } else if rest != "plan" {
                journals.entry(id).or_default().push(entry);
            }
        }
        for (id, progress) in &states {
            let records = journals.remove(id).unwrap_or_default();
            journal::check(*id, &records, Some(&progress.journal)).map_err(|e| e.to_string())?;
        }
        let mut outside = self.outside();
        let wall = outside.wall();
        let Outside { checks, system, .. } = &mut *outside;
        checks.at_the_end(system, wall, &self.meddled);
        let kept = |name: &str| {
            states.values().any(|s| {
                s.phase == Phase::Done && s.ledger.lines.iter().any(|l| l.artifact.name == name && !l.done)
            })
        };
        if let Some(leak) = system.artifacts.iter().find(|a| a.kind != "copy" || !kept(&a.name)) {
            let words = format!("clean slate: {} {} is left on {}", leak.kind, leak.name, leak.partition);
            checks.broken(|| words);
        }
        checks.violation.clone().map_or(Ok(()), Err)
    }

    fn outcome(self, seed: u64, violation: Option<String>) -> Outcome {
        let mut outcome = Outcome { seed, violation, ..Outcome::default() };
        let mut outside = self.outside();
        for phase in outside.checks.phases.values() {
            let slot = match phase {
                Phase::Done => 0,
                Phase::RolledBack => 1,
                Phase::Aborted => 2,
                _ => 3,
            };
            outcome.ends[slot] += 1;
        }
        outcome.coverage = std::mem::take(&mut outside.coverage);
        outcome.occasions.clone_from(&self.occasions.lock().unwrap_or_else(PoisonError::into_inner));
        outcome.faults = outside.faults.hit;
        outcome.trace = outside.trace.take().unwrap_or_default();
        outcome.commits = outside.commits;
        outcome.acknowledged = outside.system.loads.values().map(|l| l.acked).sum();
        outcome.deaths = self.deaths;
        outcome.hosts = self.hosts as u32;
        outcome
    }
}

/// Short times, so that a run has many states and few empty steps.
fn policy(random: &mut Random) -> Policy {
    Policy {
        retry_after: Span::seconds(2),
        patience: Span::seconds(20),
        proof_age: Span::seconds(3),
        loss_bound: random.chance(0.5).then_some(Span::seconds(1)),
        lag_times: 2,
        compare_age: Span::millis(100),
        probe_tries: 4,
        ..Policy::default()
    }
}
