//! The proof by simulation: machine, runner, store and leadership as they are, on simulated time,
//! over a simulated system with clients that write, with faults before send, after send, after the
//! effect but before the answer, death of the process, change of the leader, stalls of a deposed
//! leader, clock jumps and storms. One seed decides everything; the invariants are checked after
//! every commit and every effect. (TigerBeetle's `vopr.zig` and FoundationDB's simulation are the
//! examples.)

mod checks;
mod drivers;
mod effects;
mod end;
mod engines;
mod faults;
mod fleet;
mod operators;
mod outside;
mod run;
mod store;
mod system;

use std::collections::BTreeSet;

pub use faults::Point;
pub use run::run_seed;

use crate::fleet::Phase;
use crate::migrate::runner::Planted;
use crate::migrate::runner::moments::Occasion;

/// What came of one seed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The first thing that was wrong; `None` = passed.
    pub violation: Option<String>,
    /// What happened, line by line, where a trace was asked for.
    pub trace: Vec<String>,
    /// Where faults hit: state and fault point.
    pub coverage: BTreeSet<(Phase, Point)>,
    /// What was written and called in which phase, where that was asked for.
    pub occasions: BTreeSet<Occasion>,
    /// Faults that hit.
    pub faults: u32,
    /// Migrations by end: done, rolled back, aborted, other ends.
    pub ends: [u32; 4],
    /// Simulated hosts.
    pub hosts: u32,
    /// Processes that died or were deposed.
    pub deaths: u32,
    /// Writes that clients were told to be safe.
    pub acknowledged: u64,
    /// Transactions that were committed.
    pub commits: u64,
}

impl Outcome {
    /// The name of the invariant that was broken: `I7`; `None` = passed.
    pub fn invariant(&self) -> Option<&str> {
        self.violation.as_deref().map(|v| v.split(':').next().unwrap_or(v))
    }
}

/// How seeds are run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting {
    /// Keep the timeline.
    pub trace: bool,
    /// Keep what was written and called in which phase.
    pub occasions: bool,
    /// A bug to plant.
    #[doc(hidden)]
    pub planted: Planted,
}

/// Every pair of state and fault point that the release gate wants to have been hit.
pub fn wanted_coverage() -> BTreeSet<(Phase, Point)> {
    let stored = [
        Phase::Approved,
        Phase::Admitted,
        Phase::Preparing,
        Phase::Copying,
        Phase::CatchingUp,
        Phase::Verifying,
        Phase::ReverseArmed,
        Phase::Canary,
        Phase::Fencing,
        Phase::Committing,
        Phase::Redirecting,
        Phase::Soaking,
        Phase::Retiring,
        Phase::RollingBackPre,
        Phase::RollingBackPost,
        Phase::Hold,
        Phase::Stuck,
    ];
    let acting = [
        Phase::Preparing,
        Phase::Copying,
        Phase::Verifying,
        Phase::ReverseArmed,
        Phase::Canary,
        Phase::Fencing,
        Phase::Committing,
        Phase::Redirecting,
        Phase::Soaking,
        Phase::Retiring,
        Phase::RollingBackPre,
        Phase::RollingBackPost,
    ];
    let of_store = stored.iter().flat_map(|p| Point::STORE.iter().map(|point| (*p, *point)));
    let of_driver = acting.iter().flat_map(|p| Point::DRIVER.iter().map(|point| (*p, *point)));
    of_store.chain(of_driver).collect()
}
