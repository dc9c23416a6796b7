//! The simulated fleet: hosts, agents, a system that holds workloads, faults. Deterministic by seed.
//! The engine sees it only through agents' messages and drivers, like any other fleet.

pub mod bulk;
pub mod load;
mod noise;
pub mod training;

pub use bulk::bulk;
