//! The port to what sends traffic: weights, drain, states.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::error::DriverError;
use super::mover::Permit;
use crate::fleet::{PartitionId, Share, WorkloadId};

/// How much of a workload's traffic a partition gets.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Weight {
    /// The partition.
    pub partition: PartitionId,
    /// Its share of new traffic.
    pub share: Share,
    /// What the router does with it.
    pub state: ServerState,
    /// Sessions still open there; `None` where the router cannot tell.
    pub sessions: Option<u64>,
}

/// What a router does with a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// Gets traffic.
    Ready,
    /// Finishes what it has, gets nothing new.
    Drain,
    /// Gets nothing.
    Maintenance,
}

/// The port.
#[async_trait]
pub trait Router: Send + Sync {
    /// Its class: `haproxy`.
    fn class(&self) -> &str;

    /// What the routers send where, read back from every one of them.
    ///
    /// # Errors
    /// Where one cannot be asked, or they disagree; the error names which.
    async fn weights(&self, workload: &WorkloadId) -> Result<Vec<Weight>, DriverError>;

    /// Sets shares and states on every router and reads them back; done again it changes nothing.
    ///
    /// # Errors
    /// Where one router did not confirm; `Unknown` until all were read back.
    async fn set(
        &self,
        workload: &WorkloadId,
        weights: &[Weight],
        permit: &Permit,
    ) -> Result<(), DriverError>;
}
