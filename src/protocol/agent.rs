//! The agent's message: metrics and heartbeat in one, as timestamped JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fleet::{HostId, Timestamp};

/// What the agent is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// Collects and streams.
    #[default]
    Running,
    /// The host is about to be emptied or stopped; the unload hook was run.
    PreparingForShutdown,
    /// Stops now.
    Stopping,
}

/// Presence and resource use of one partition on the host.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PartitionBeat {
    /// The partition's part of the name (`p2`); empty = the host itself.
    pub partition: String,
    /// Whether its process answers.
    pub present: bool,
    /// CPU in percent of one core.
    pub cpu: Option<f64>,
    /// Resident memory in bytes.
    pub memory: Option<u64>,
}

/// The metrics of one moment, by canonical name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AgentReading {
    /// When they were collected.
    pub at: Timestamp,
    /// The partition's part of the name; empty = the host itself.
    #[serde(default)]
    pub partition: String,
    /// Values; what could not be read is left out.
    pub metrics: BTreeMap<String, f64>,
}

/// One message: everything collected since the last one that was taken.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AgentMessage {
    /// Version of this format.
    pub version: u32,
    /// The host.
    pub host: HostId,
    /// Grows by one with every message; the receiver takes each once.
    pub sequence: u64,
    /// When it was sent.
    pub sent: Timestamp,
    /// What the agent is doing.
    pub state: AgentState,
    /// Labels from its configuration: `site`, `rack`, others.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Presence of the partitions.
    #[serde(default)]
    pub partitions: Vec<PartitionBeat>,
    /// The metrics.
    pub readings: Vec<AgentReading>,
    /// Readings dropped so far because the buffer was full.
    pub dropped: u64,
}
