//! A plan that waits for a decision: its moves, why, what it changes, how it is undone, and the
//! hash of its canonical bytes. What is approved is these bytes; the runner performs them or
//! refuses.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::drivers::Capabilities;
use crate::fleet::{
    Bytes, Generation, HostId, PartitionId, Probability, ProposalId, Revision, Share, Span, Timestamp,
    WorkloadId, digits,
};

/// BLAKE3 of a proposal's canonical bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlanHash(pub [u8; 32]);

impl PlanHash {
    /// The whole hash in hex.
    pub fn hex(&self) -> String {
        digits::hex(&self.0)
    }

    /// Enough of it for a screen: `9f3c…e1`.
    pub fn short(&self) -> String {
        let hex = self.hex();
        format!("{}…{}", &hex[..4], &hex[62..])
    }
}

impl fmt::Debug for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// What made the planner propose something.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "trigger")]
pub enum Trigger {
    /// A partition is expected to fail.
    PredictiveFailure {
        /// The partition.
        partition: PartitionId,
        /// Within this window.
        within: Span,
        /// With this probability.
        probability: Probability,
    },
    /// An operator asked to empty a host.
    Operator {
        /// The host.
        host: HostId,
        /// Who.
        actor: String,
    },
    /// The current footprint is off the desired one.
    Footprint {
        /// How far off, as a share of the workloads.
        discrepancy: Share,
    },
}

/// One workload's move.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Move {
    /// What.
    pub workload: WorkloadId,
    /// Its class, which names the drivers.
    pub class: String,
    /// From.
    pub source: PartitionId,
    /// To.
    pub destination: PartitionId,
    /// The generation that the workload has now; the move is stale if it changed.
    pub generation: Generation,
    /// Why there, in words.
    pub because: String,
    /// Data to copy.
    pub data: Bytes,
    /// How long it will take.
    pub duration: Span,
    /// How long writes are held at the cut.
    pub blackout: Span,
    /// 0–100: cost to those who use it.
    pub disruption: f64,
    /// What the driver can do; what is missing is shown as a risk.
    pub capabilities: Capabilities,
    /// The probability that it is done before the source fails; `None` where nothing is about to.
    pub in_time: Option<Probability>,
}

/// A destination that was looked at and not taken.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rejected {
    /// The workload it was for; `None` = for all.
    pub workload: Option<WorkloadId>,
    /// The partition or host.
    pub candidate: String,
    /// Why not, in words.
    pub reason: String,
}

/// One canary step.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct CanaryStep {
    /// Share of reads or traffic.
    pub share: Share,
    /// For how long, at least.
    pub duration: Span,
}

/// The canary of a plan.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct CanaryPlan {
    /// The steps, growing; empty = none.
    pub steps: Vec<CanaryStep>,
    /// Stops where the destination's p99 is over the source's by more than this share.
    pub p99_tolerance: f64,
    /// And its latency by more than so many milliseconds: less is no effect, however certain.
    #[serde(default = "of_one_hop")]
    pub latency_margin_ms: f64,
    /// Fewest samples of a side before the judge says anything.
    pub min_samples: u64,
}

/// What plans went by that do not say it.
fn of_one_hop() -> f64 {
    0.2
}

/// Loads and risks before, after, and if nothing is done.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Outlook {
    /// Workloads expected to be lost within the planning window, now.
    pub risk_before: f64,
    /// And after the plan.
    pub risk_after: f64,
    /// Load of the hosts it touches: host, before, after; a share of capacity.
    pub loads: Vec<(HostId, f64, f64)>,
    /// What happens if nothing is done, in words.
    pub if_nothing: String,
    /// How the plan is undone and how long that takes, in words.
    pub way_back: String,
}

/// A plan that waits for a decision.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Proposal {
    /// Its number.
    pub id: ProposalId,
    /// What made it.
    pub trigger: Trigger,
    /// In a few words: `evacuate fra-r3-11/p2`.
    pub title: String,
    /// The moves, in the order of execution.
    pub moves: Vec<Move>,
    /// The canary of each move.
    pub canary: CanaryPlan,
    /// How long the switched workloads are watched.
    pub soak: Span,
    /// When it was made.
    pub made: Timestamp,
    /// Not to be approved after this.
    pub expires: Timestamp,
    /// The topology it rests on.
    pub topology: Revision,
    /// Before, after, if nothing is done.
    pub outlook: Outlook,
    /// Destinations not taken, with reasons.
    pub rejected: Vec<Rejected>,
    /// Risks to show: missing capabilities, not enough time, anti-affinity given up.
    pub risks: Vec<String>,
    /// Why it cannot be approved now, if so (read-only, storm brake, freeze).
    pub blocked: Option<String>,
}

impl Proposal {
    /// Canonical bytes of what would be executed: moves, canary, soak, trigger, topology revision, expiry
    /// and where the source is removed in the end; what only explains is not in them. Fields come in declaration order, numbers in
    /// shortest round-trip form.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Canonical<'a> {
            id: ProposalId,
            trigger: &'a Trigger,
            moves: Vec<(&'a WorkloadId, &'a str, &'a PartitionId, &'a PartitionId, Generation)>,
            canary: &'a CanaryPlan,
            soak: Span,
            expires: Timestamp,
            topology: Revision,
            /// The moves, by number, after which nothing is left at the source.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            drops: Vec<usize>,
        }
        let canonical = Canonical {
            id: self.id,
            trigger: &self.trigger,
            moves: self
                .moves
                .iter()
                .map(|m| (&m.workload, m.class.as_str(), &m.source, &m.destination, m.generation))
                .collect(),
            canary: &self.canary,
            soak: self.soak,
            expires: self.expires,
            topology: self.topology,
            drops: (0..self.moves.len()).filter(|m| self.moves[*m].capabilities.drops_source).collect(),
        };
        serde_json::to_vec(&canonical).expect("plain data serialises")
    }

    /// The hash that is shown, approved and executed.
    pub fn hash(&self) -> PlanHash {
        PlanHash(*blake3::hash(&self.canonical_bytes()).as_bytes())
    }
}
