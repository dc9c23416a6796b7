//! The demo fleet as a whole: it steps through simulated time and yields what its agents send; its
//! drivers stand beside it. Whoever runs an engine over it hands on the messages and the drivers,
//! and nothing else.

use std::sync::{Arc, Mutex};

use super::agents::{Agent, TICK, agents};
use super::faults::{FaultPlan, schedule};
use super::fleet::Layout;
use super::history::{HistoryPlan, history};
use super::ledger::Ledger;
use super::mover::{SimMover, locked};
use super::router::SimRouter;
use super::world::World;
use crate::fleet::{Clock, PartitionId, Timestamp, Topology};
use crate::protocol::AgentMessage;
use crate::telemetry::Batch;

/// How a demo fleet is made.
#[derive(Clone)]
pub struct DemoOptions {
    /// The drivers' time; the fleet itself steps when it is told to.
    pub clock: Arc<dyn Clock>,
    /// What goes wrong, and how often.
    pub faults: FaultPlan,
    /// How much past is written ahead.
    pub history: HistoryPlan,
}

impl DemoOptions {
    /// The usual demo on that clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, faults: FaultPlan::default(), history: HistoryPlan::default() }
    }
}

/// The demo fleet: 24 hosts, 66 partitions, more than 200 workloads. The same seed, start and calls
/// give the same bytes.
pub struct SimFleet {
    seed: u64,
    start: Timestamp,
    options: DemoOptions,
    world: Arc<Mutex<World>>,
    agents: Vec<Agent>,
    ticked: Timestamp,
    mover: SimMover,
}

impl SimFleet {
    /// A fleet that starts at the clock's time.
    pub fn new(seed: u64, options: DemoOptions) -> Self {
        let start = options.clock.now().floor(TICK);
        let layout = Layout::draw(seed);
        let faults = schedule(seed, &layout, start, &options.faults);
        let agents = agents(seed, &layout);
        let world = Arc::new(Mutex::new(World::new(seed, layout, faults, start)));
        let mover = SimMover::new(world.clone(), options.clock.clone());
        Self { seed, start, options, world, agents, ticked: start, mover }
    }

    /// When it started.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// The past before the start, a batch a partition, for the embedded store.
    pub fn history(&self) -> Vec<(PartitionId, Batch)> {
        let layout = locked(&self.world).layout.clone();
        history(self.seed, &layout, &self.options.history, self.start)
    }

    /// Lets time pass until `now`, and returns what the agents sent meanwhile, in order of time and
    /// host. Time that has passed already changes nothing.
    pub fn step_to(&mut self, now: Timestamp) -> Vec<AgentMessage> {
        let mut messages = Vec::new();
        let mut world = locked(&self.world);
        while self.ticked + TICK <= now {
            self.ticked += TICK;
            world.catch_up(self.ticked);
            world.measure(self.ticked, TICK.as_seconds() as f32);
            for agent in &mut self.agents {
                agent.tick(&world, self.ticked, &mut messages);
            }
        }
        world.catch_up(now);
        messages
    }

    /// What stands where, as the system itself would report it now.
    pub fn topology(&self) -> Topology {
        locked(&self.world).topology()
    }

    /// The driver that moves workloads; clones share one system and its faults.
    pub fn mover(&self) -> SimMover {
        self.mover.clone()
    }

    /// The driver that sends traffic.
    pub fn router(&self) -> SimRouter {
        SimRouter::new(self.world.clone(), self.options.clock.clone())
    }

    /// What was injected so far and what it cost. For reports; the engine never sees it.
    pub fn ledger(&self) -> Ledger {
        locked(&self.world).ledger.clone()
    }
}
