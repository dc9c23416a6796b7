//! What the engine shows the migrations of the fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::fleet::{PartitionId, Timestamp, Topology, WorkloadId};

/// The fleet as the engine last saw it.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// When.
    pub at: Timestamp,
    /// What stands where.
    pub topology: Arc<Topology>,
    /// Partitions that are expected to fail.
    pub failing: Arc<BTreeSet<PartitionId>>,
    /// Partitions about which nothing is known now.
    pub unknown: Arc<BTreeSet<PartitionId>>,
    /// What people have forbidden to touch; no move of it, or onto it, is begun.
    pub forbidden: Arc<Forbidden>,
    /// Why automatic mode is frozen (storm brake); nothing predicted is begun.
    pub frozen: Option<String>,
    /// Partitions whose latencies or queues are out of the ordinary, in words.
    pub strained: Arc<BTreeMap<PartitionId, String>>,
}

/// What people have forbidden to touch, each with who did, in words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Forbidden {
    /// Workloads that stay where they are.
    pub workloads: BTreeMap<WorkloadId, String>,
    /// Partitions that nothing is moved onto.
    pub partitions: BTreeMap<PartitionId, String>,
}
