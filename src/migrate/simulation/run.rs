//! One run of one seed, from an empty store to the end of the last migration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::executor::block_on;

use super::checks::Checks;
use super::engines::Engine;
use super::faults::Faults;
use super::fleet;
use super::operators::Events;
use super::outside::{Outside, Samples, Shared};
use super::system::System;
use super::{Outcome, Setting};
use crate::fleet::rng::Random;
use crate::fleet::{Clock, ManualClock, MigrationId, Span, Timestamp, WorkloadId};
use crate::migrate::approval::{Approval, Authority};
use crate::migrate::error::MigrateError;
use crate::migrate::limits::Limits;
use crate::migrate::plan::Policy;
use crate::migrate::runner::moments::{Observer, Occasion};
use crate::migrate::runner::{Driven, Options, World};
use crate::plan::Proposal;
use crate::protocol::{Actor, Mode, Role};
use crate::state::MemoryStore;

/// When the simulated time begins.
const START: i64 = 1_000_000_000;
/// Steps after which a run that does not end has failed.
const STEPS: u32 = 6_000;
/// Steps after which no new faults come and everything has to end.
const QUIET_AFTER: u32 = 1_500;
/// Faults that every run is to meet.
const FAULTS: u32 = 10;

/// What was written and called, and in which phase.
pub(super) type Occasions = Arc<Mutex<BTreeSet<Occasion>>>;

fn observer(seen: &Occasions) -> Observer {
    let seen = Arc::clone(seen);
    Arc::new(move |moment| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).extend(moment.occasions());
    })
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
    pub(super) zombie: Option<(Engine, u32)>,
    waiting: Vec<(i64, Arc<Proposal>)>,
    world: World,
    pub(super) options: Options,
    pub(super) occasions: Occasions,
    pub(super) deaths: u32,
    pub(super) hosts: usize,
    /// Hosts for which there was a proposal.
    emptied: usize,
    /// Migrations that this engine told people of.
    pub(super) alerts: BTreeSet<MigrationId>,
    /// Something changed since the last check.
    pub(super) changed: bool,
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
            ..Limits::default()
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
            emptied: fleet::EMPTIED,
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

    pub(super) fn wall(&self) -> Timestamp {
        Timestamp(self.outside().wall())
    }

    /// # Errors
    /// The first violation.
    fn go(&mut self) -> Result<(), String> {
        for steps in 0..STEPS {
            if steps == QUIET_AFTER {
                self.outside().faults.quiet();
                self.calm();
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
            if self.is_over() && !(steps < QUIET_AFTER && self.goes_on()) {
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

    /// Nothing more happens outside.
    fn calm(&mut self) {
        self.events = Events::default();
        self.storming = false;
        self.stormy = false;
        let mut outside = self.outside();
        outside.offset = 0;
        outside.failing.clear();
        outside.unknown.clear();
        outside.topology_changed = true;
    }

    /// All has ended before enough went wrong, because a storm let most moves go stale: one more host is
    /// emptied, in calm weather and with faults close together. Not where all have been.
    fn goes_on(&mut self) -> bool {
        if self.outside().faults.hit >= FAULTS || self.emptied == self.hosts {
            return false;
        }
        self.calm();
        let (now, wall) = (self.now(), self.wall());
        let mut random = self.random.fork("one more");
        let mut outside = self.outside();
        let mut fresh = outside.topology.clone();
        fresh.workloads.retain(|w| !outside.checks.approved.contains_key(&w.id));
        let proposal = fleet::evacuation(&mut random, &fresh, self.emptied, wall);
        outside.checks.approve(&proposal);
        outside.faults.hasten();
        drop(outside);
        self.waiting.push((now, proposal));
        self.emptied += 1;
        true
    }

    pub(super) fn pass(&mut self) {
        let mut outside = self.outside();
        let (wall, now) = (outside.wall(), outside.now());
        let Outside { checks, system, .. } = &mut *outside;
        system.pass(wall, now, |workload, load| checks.one_writer(workload, load, wall));
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

    fn is_over(&self) -> bool {
        self.waiting.is_empty()
            && self.zombie.is_none()
            && self.engine.as_ref().is_some_and(|e| e.recovered && e.runner.is_idle())
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
