//! What stands outside the engine: the simulated system, the checks, the faults that are to come, and
//! how far one incarnation of the engine can reach them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use super::checks::Checks;
use super::faults::{Faults, Point};
use super::system::System;
use crate::drivers::CanarySample;
use crate::fleet::rng::Random;
use crate::fleet::{Clock, Epoch, ManualClock, MigrationId, PartitionId, Phase, Topology};
use crate::migrate::limits::Limits;

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
    pub(super) unknown: BTreeSet<PartitionId>,
    pub(super) failing: BTreeSet<PartitionId>,
    pub(super) topology: Topology,
    pub(super) topology_changed: bool,
    pub(super) limits: Limits,
    pub(super) coverage: BTreeSet<(Phase, Point)>,
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

    pub(super) fn hit(
        &mut self,
        points: &[Point],
        migration: Option<MigrationId>,
        what: &str,
    ) -> Option<Point> {
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

    /// Whether the process of this incarnation has died: its calls do nothing any more.
    pub(super) fn is_dead(&self, outside: &Outside) -> bool {
        outside.dead.get(self.incarnation).copied().unwrap_or(false)
    }
}
