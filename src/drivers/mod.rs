//! Ports to the systems that hold workloads, and their adapters. Each adapter stands in a room of
//! its own; the ports are in `mover`, `router` and `provisioner`.

pub mod error;
pub mod files;
pub mod haproxy;
pub mod mover;
mod paired_reads;
pub mod postgres;
pub mod provisioner;
pub mod redis;
pub mod router;
pub mod service;
mod work;

pub use error::{DriverError, Retry};
pub use mover::{
    Action, Answer, Artifact, CanarySample, Capabilities, CleanupPolicy, Evidence, Job, JobStatus, Mover,
    Permit, Probe,
};
pub use provisioner::Provisioner;
pub use router::{Router, ServerState, Weight};
