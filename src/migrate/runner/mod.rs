//! The shell around the machine: it drives many migrations at once, writes what they decide, asks
//! the drivers, and takes up after a crash where the journal ends.
//!
//! A tick never waits for a driver: calls that take time go on between ticks and are taken in when
//! they are done ([`Runner::ready`] wakes for them). Under simulated drivers, whose calls end at
//! once, a tick is deterministic.

mod admit;
mod adopt;
mod context;
mod drive;
mod leaks;
mod log;
mod machine;
pub mod moments;
mod recover;
mod routes;
mod source;
mod submit;
mod turns;
mod under_way;
mod world;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

pub use context::{Driven, Options, Planted};
pub use leaks::Found;
pub use routes::{Keeping, Kept};
pub use world::{Forbidden, World};

use self::context::Context;
use self::drive::Drive;
use self::log::Log;
use self::machine::Machine;
use self::turns::must_go_on;
use super::effect::Alert;
use super::error::MigrateError;
use super::event::OperatorCommand;
use super::operator::refused_now;
use super::owner::Owner;
use super::state::State;
use super::step::Ask;
use super::view;
use crate::drivers::{JobStatus, Mover, Router};
use crate::fleet::{Epoch, MigrationId, Phase, Span, Timestamp, Topology, WorkloadId};
use crate::migrate::approval::Authority;
use crate::protocol::{MigrationView, Refusal};
use crate::state::{Op, Store, StoreError, read_stored};

/// The key under which a global stop is remembered.
const STOPPED_KEY: &str = "/engine/stopped";
/// A copy that is this far behind its source slows down what begins to be copied.
const STRAINED_LAG: Span = Span::seconds(30);

/// One migration's place with the runner.
struct Slot {
    /// `None` while it is being driven.
    machine: Option<Box<Machine>>,
    /// As last known, for screens and decisions.
    state: Arc<State>,
    status: Option<JobStatus>,
    log: Log,
    /// Asked for while it was being driven.
    commands: VecDeque<(OperatorCommand, String)>,
    drives: u32,
}

fn under_way(driving: &mut Mutex<FuturesUnordered<Drive>>) -> &mut FuturesUnordered<Drive> {
    driving.get_mut().unwrap_or_else(PoisonError::into_inner)
}

/// Runs migrations under one leader's epoch.
pub struct Runner {
    context: Arc<Context>,
    slots: BTreeMap<MigrationId, Slot>,
    /// Behind a lock that is never taken (`get_mut`), so that a runner can be shared by reference.
    driving: Mutex<FuturesUnordered<Drive>>,
    ended: VecDeque<MigrationId>,
    /// How many ended in which phase since this runner began, also those that are shown no more.
    tally: BTreeMap<Phase, u64>,
    stopped: Option<(String, Timestamp)>,
    draining: bool,
    alerts: Vec<(MigrationId, Alert)>,
    asks: Vec<Ask>,
    failure: Option<MigrateError>,
}

impl Runner {
    /// A runner for the leader of `epoch`. Movers and routers are found by the class of the
    /// workload. Call [`Runner::recover`] before anything else.
    pub fn new(
        store: Arc<dyn Store>,
        epoch: Epoch,
        movers: BTreeMap<String, Arc<dyn Mover>>,
        routers: BTreeMap<String, Arc<dyn Router>>,
        options: Options,
        _authority: &Authority,
    ) -> Self {
        Self {
            context: Arc::new(Context::new(store, epoch, movers, routers, options)),
            slots: BTreeMap::new(),
            driving: Mutex::default(),
            ended: VecDeque::new(),
            tally: BTreeMap::new(),
            stopped: None,
            draining: false,
            alerts: Vec::new(),
            asks: Vec::new(),
            failure: None,
        }
    }

    /// Tells the runner the fleet as it is now; nothing is admitted before the first time, or when
    /// the last time is too long ago.
    pub fn observe(&self, world: World) {
        self.context.strain(|| self.strain(&world));
        *self.context.world.write().unwrap_or_else(|e| e.into_inner()) = Some(world);
    }

    /// What suffers where data is being copied, in words. A source that is expected to fail does not count:
    /// it suffers anyhow, and to wait would not help it.
    fn strain(&self, world: &World) -> Option<String> {
        let copying = self
            .slots
            .values()
            .filter(|slot| matches!(slot.state.phase, Phase::Copying | Phase::CatchingUp | Phase::Verifying));
        copying.into_iter().find_map(|slot| {
            let plan = &slot.state.plan;
            let lag = slot.status.as_ref().and_then(|status| status.lag).filter(|lag| *lag >= STRAINED_LAG);
            if let Some(lag) = lag {
                return Some(format!("the copy of {} is {lag} behind", plan.workload));
            }
            let source = Some(&plan.source).filter(|p| !world.failing.contains(*p));
            source.into_iter().chain([&plan.destination]).find_map(|partition| {
                world.strained.get(partition).map(|words| format!("{partition}: {words}"))
            })
        })
    }

    /// Drives everything that is due at `now`, as far as it goes without waiting. Tells whether
    /// anything changed.
    ///
    /// # Errors
    /// `Deposed` where another engine leads (then this runner never acts again), or where the store
    /// holds something broken. That the store does not answer is no error: it is asked again.
    pub async fn tick(&mut self, now: Timestamp) -> Result<bool, MigrateError> {
        if self.context.is_deposed() {
            return Err(self.deposed());
        }
        self.context.begin_tick(now);
        self.slots.values_mut().for_each(|slot| slot.drives = 0);
        let now = self.context.now();
        let due = self.slots.iter().filter(|(_, slot)| self.is_due(slot, now)).map(|(id, _)| *id);
        for id in due.collect::<Vec<MigrationId>>() {
            self.launch(id);
        }
        let mut changed = self.look();
        // One look at what is under way; what is not ready goes on by itself.
        while let Poll::Ready(Some(landed)) = futures::poll!(under_way(&mut self.driving).next()) {
            changed |= self.land(landed);
            if self.context.is_deposed() {
                return Err(self.deposed());
            }
        }
        match self.failure.take() {
            Some(error) => Err(error),
            None => Ok(changed),
        }
    }

    /// Waits until something that was under way is done; the next tick goes on with it. Never
    /// returns while nothing is under way.
    pub async fn ready(&mut self) {
        if under_way(&mut self.driving).is_empty() {
            return std::future::pending().await;
        }
        let context = Arc::clone(&self.context);
        tokio::select! {
            landed = under_way(&mut self.driving).next() => {
                landed.into_iter().for_each(|landed| {
                    self.land(landed);
                });
            }
            // The next tick looks at it.
            () = context.under_way.changed() => {}
        }
    }

    /// Takes in where migrations stand that are under way. Tells whether one stands elsewhere.
    fn look(&mut self) -> bool {
        let mut changed = false;
        for (id, state) in self.context.under_way.take() {
            if let Some(slot) = self.slots.get_mut(&id).filter(|s| s.machine.is_none()) {
                changed |= !Arc::ptr_eq(&slot.state, &state);
                slot.state = state;
            }
        }
        changed
    }

    /// When the next tick has something to do by itself; `None` = only a person or a driver's answer
    /// moves anything.
    pub fn next_due(&self) -> Option<Timestamp> {
        let mut next: Option<Timestamp> = None;
        for slot in self.slots.values() {
            let due = slot.machine.as_ref().and_then(|m| m.due());
            if let Some(due) = due.filter(|due| next.is_none_or(|next| *due < next) && self.may_go(slot)) {
                next = Some(due);
            }
        }
        next.map(|at| self.context.wall(at))
    }

    /// A person asks something of a migration. It is done in the next tick at the latest, or, where
    /// the cut is under way, as soon as that is through.
    ///
    /// # Errors
    /// Why it cannot be done now.
    pub fn command(
        &mut self,
        migration: MigrationId,
        command: OperatorCommand,
        actor: &str,
    ) -> Result<(), Refusal> {
        let unknown = || Refusal::NotFound { what: format!("migration {migration}") };
        let source = self.source(self.slots.get(&migration).ok_or_else(unknown)?);
        let slot = self.slots.get_mut(&migration).ok_or_else(unknown)?;
        if let Some(reason) = refused_now(&slot.state, command, source) {
            return Err(Refusal::NotNow { reason });
        }
        let wanted = (command, actor.to_string());
        match &mut slot.machine {
            Some(machine) => machine.commands.push_back(wanted),
            None => slot.commands.push_back(wanted),
        }
        Ok(())
    }

    /// Halts every new step of everything, durably, until released. What stands between fence and
    /// redirect, or is being undone, is brought to a safe point first.
    ///
    /// # Errors
    /// Where the store does not answer; it is halted in this process all the same.
    pub async fn stop_everything(&mut self, actor: &str, now: Timestamp) -> Result<(), MigrateError> {
        self.stopped = Some((actor.to_string(), now));
        let value = serde_json::to_vec(&self.stopped).expect("plain data serialises");
        self.put(Op::Put(STOPPED_KEY.to_string(), value)).await
    }

    /// Releases the global stop.
    ///
    /// # Errors
    /// Where the store does not answer; then it stays halted.
    pub async fn release_stop(&mut self) -> Result<(), MigrateError> {
        self.put(Op::Delete(STOPPED_KEY.to_string())).await?;
        self.stopped = None;
        Ok(())
    }

    /// Who halted everything and when.
    pub fn stopped(&self) -> Option<&(String, Timestamp)> {
        self.stopped.as_ref()
    }

    /// Begins no new step from now on, and tells whether everything stands at a safe point: nothing
    /// under way, nothing between fence and redirect. Tick until it does, then end the process.
    pub fn safe_point(&mut self) -> bool {
        self.draining = true;
        under_way(&mut self.driving).is_empty()
            && self
                .slots
                .values()
                .all(|s| !must_go_on(s.state.phase) && s.machine.as_ref().is_none_or(|m| m.unsaved.is_none()))
    }

    /// What screens show of every migration: running ones first, then the newest ended ones.
    pub fn views(&self) -> Vec<MigrationView> {
        let now = self.context.now();
        let show = |id: &MigrationId, slot: &Slot| {
            let mut view = view::view(
                &slot.state,
                slot.status.as_ref(),
                self.source(slot),
                (slot.log.lines(), &|step| slot.log.seen(step)),
                now,
            );
            if let Some(before) = self.waits_for_turn(slot) {
                view.waiting = format!("waits for its turn after {before}");
            } else if self.stopped.is_some() && !slot.state.phase.is_end() {
                view.waiting = "everything is stopped".to_string();
            }
            debug_assert_eq!(view.id, *id);
            view
        };
        let running = self.slots.iter().filter(|(_, s)| !s.state.phase.is_end());
        let ended = self.ended.iter().rev().filter_map(|id| self.slots.get_key_value(id));
        running.chain(ended).map(|(id, slot)| show(id, slot)).collect()
    }

    /// The migrations that have not ended.
    pub fn running(&self) -> Vec<MigrationId> {
        self.slots.iter().filter(|(_, s)| !s.state.phase.is_end()).map(|(id, _)| *id).collect()
    }

    /// Whether all migrations have ended.
    pub fn is_idle(&self) -> bool {
        self.slots.values().all(|slot| slot.state.phase.is_end())
    }

    /// How many have ended in which phase since this runner began.
    pub fn tally(&self) -> &BTreeMap<Phase, u64> {
        &self.tally
    }

    /// The state of one migration.
    pub fn state(&self, migration: MigrationId) -> Option<&State> {
        self.slots.get(&migration).map(|s| &*s.state)
    }

    /// What people have to know since the last time this was asked.
    pub fn take_alerts(&mut self) -> Vec<(MigrationId, Alert)> {
        let alerts = std::mem::take(&mut self.alerts);
        match self.context.options.planted {
            Planted::Silent => Vec::new(),
            _ => alerts,
        }
    }

    /// What the planner is asked for since the last time: another destination.
    pub fn take_asks(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.asks)
    }

    /// All owner records.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn owners(&self) -> Result<BTreeMap<WorkloadId, Owner>, StoreError> {
        let entries = self.context.list("/owners/").await?;
        Ok(entries
            .iter()
            .filter_map(|entry| {
                let name = entry.key.strip_prefix("/owners/")?;
                Some((WorkloadId::from(name), read_stored(&entry.value).ok()?))
            })
            .collect())
    }

    fn deposed(&self) -> MigrateError {
        MigrateError::Deposed { epoch: self.context.epoch }
    }

    async fn put(&mut self, op: Op) -> Result<(), MigrateError> {
        match self.context.set([], vec![op]).await? {
            crate::state::TxnOutcome::Committed(_) => Ok(()),
            crate::state::TxnOutcome::Conflict { .. } => Err(self.deposed()),
        }
    }
}

impl Slot {
    fn new(mut machine: Machine, log: Log) -> Self {
        let mut log = log;
        log.add(machine.fresh.drain(..));
        Self {
            state: Arc::clone(&machine.state),
            status: None,
            log,
            machine: Some(Box::new(machine)),
            commands: VecDeque::new(),
            drives: 0,
        }
    }
}

/// Writes the generations of the owner records into a topology, so that plans made from it name the
/// generation that admission expects. Where a record and the system disagree on the owner, the
/// workload's place is left as the system says.
pub fn overlay(topology: &mut Topology, owners: &BTreeMap<WorkloadId, Owner>) {
    for workload in &mut topology.workloads {
        if let Some(owner) = owners.get(&workload.id) {
            workload.generation = owner.generation;
        }
    }
}
