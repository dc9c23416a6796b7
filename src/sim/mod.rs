//! The simulated fleet: hosts, agents, a system that holds workloads, faults. Deterministic by seed.
//! The engine sees it only through agents' messages and drivers, like any other fleet.
//!
//! [`SimFleet`] is the whole; `load` draws metrics, `faults` bends them, `world` knows who owns what,
//! `jobs` carries migrations out, `mover` and `router` are its drivers, `ledger` counts the cost.
//! `training` makes episodes for models (`lacking` takes metrics from them) and `bulk` windows for benchmarks,
//! both without a fleet.

mod agents;
pub mod bulk;
mod demo;
pub mod faults;
mod fleet;
pub mod history;
mod jobs;
pub mod lacking;
pub mod ledger;
pub mod load;
mod look;
mod measure;
mod mover;
pub mod mover_faults;
mod noise;
mod router;
mod track;
pub mod training;
mod world;

pub use agents::TICK;
pub use bulk::bulk;
pub use demo::{DemoOptions, SimFleet};
pub use faults::{FaultKind, FaultPlan};
pub use fleet::CLASS;
pub use history::HistoryPlan;
pub use ledger::{Cause, Failure, Ledger, Outage};
pub use mover::SimMover;
pub use mover_faults::{CallFault, FaultRule, MoverFaults};
pub use router::SimRouter;
