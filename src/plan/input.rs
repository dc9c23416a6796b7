//! What a plan is made from, and what comes of it. All of it is a value: a what-if is the same call
//! on a changed copy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::options::PlanOptions;
use super::proposal::Proposal;
use super::vetoes::Vetoes;
use crate::fleet::{
    Bytes, HostId, MigrationId, PartitionId, PredictionState, Probability, ProposalId, Share, Span,
    Timestamp, Topology, WorkloadId,
};
use crate::predict::{Assessment, HostRisk, WorkloadProjection};
use crate::protocol::Severity;

/// What is asked of the planner.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// The cycle's question: is there anything to be done?
    Watch,
    /// An operator's: what would empty this host? Holds for healthy hosts too.
    EvacuateHost {
        /// The host.
        host: HostId,
        /// Who asks.
        actor: String,
    },
}

/// A migration that has not ended.
#[derive(Clone, PartialEq, Debug)]
pub struct Running {
    /// Its number.
    pub migration: MigrationId,
    /// What.
    pub workload: WorkloadId,
    /// From.
    pub source: PartitionId,
    /// To.
    pub destination: PartitionId,
    /// When it was started.
    pub started: Timestamp,
}

/// A migration that has ended of late (the last hour, and the cool-down).
#[derive(Clone, PartialEq, Debug)]
pub struct Ended {
    /// What.
    pub workload: WorkloadId,
    /// When it was started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Whether the workload changed its place; an aborted one has not, and is not cooled down.
    pub moved: bool,
}

/// Everything a plan rests on.
#[derive(Clone, Debug)]
pub struct PlanInput<'a> {
    /// The time.
    pub now: Timestamp,
    /// What is asked.
    pub request: Request,
    /// What stands where.
    pub topology: &'a Topology,
    /// What is predicted, in any order.
    pub assessments: &'a [Assessment],
    /// The prediction state of each partition; one that is not here is unknown.
    pub states: &'a BTreeMap<PartitionId, PredictionState>,
    /// The present load of partitions that have processing of their own; of the others the host's counts.
    pub loads: &'a BTreeMap<PartitionId, Share>,
    /// Failure Risk Scores, in any order.
    pub hosts: &'a [HostRisk],
    /// Health Projection Scores, in any order.
    pub projections: &'a [WorkloadProjection],
    /// Migrations that have not ended.
    pub running: &'a [Running],
    /// Migrations that have ended of late.
    pub ended: &'a [Ended],
    /// Proposals that wait for a decision or were approved and have not become migrations; what is
    /// in them is not proposed again.
    pub open: &'a [Proposal],
    /// Partitions, hosts, workloads and applications that a person has forbidden to touch.
    pub vetoes: &'a Vetoes,
    /// Workloads of which our record names another owner than their system, with both in words: nothing of them
    /// is moved, because every plan for them would be stale.
    pub disputed: &'a BTreeMap<WorkloadId, String>,
    /// Destinations to which a workload could not be moved of late, with why: it goes elsewhere.
    pub avoided: &'a BTreeMap<WorkloadId, BTreeMap<PartitionId, String>>,
    /// The number of the first proposal that is made; further ones count on.
    pub next: ProposalId,
    /// How.
    pub options: &'a PlanOptions,
}

/// What comes of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PlanOutput {
    /// Most urgent first.
    pub proposals: Vec<Proposal>,
    /// What should move and does not, with the one reason.
    pub holds: Vec<Hold>,
    /// What a person should know.
    pub alerts: Vec<PlanAlert>,
    /// Partitions over their thresholds, by risk, greatest first.
    pub ranking: Vec<Ranked>,
    /// Why everything automatic stands still, if so.
    pub storm: Option<String>,
}

/// A workload that should move and does not.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// Which.
    pub workload: WorkloadId,
    /// Where it is.
    pub partition: PartitionId,
    /// The one constraint that holds it, in words.
    pub reason: String,
    /// When it is looked at anew at the latest, where that is known.
    pub until: Option<Timestamp>,
    /// The nearest change that would let it move, in words.
    pub relax: String,
}

/// What a person should know.
#[derive(Clone, PartialEq, Debug)]
pub struct PlanAlert {
    /// How bad.
    pub severity: Severity,
    /// What it is about.
    pub subject: String,
    /// In a sentence.
    pub text: String,
}

/// A partition that is expected to fail.
#[derive(Clone, PartialEq, Debug)]
pub struct Ranked {
    /// Which.
    pub partition: PartitionId,
    /// The window whose threshold is passed.
    pub within: Span,
    /// With this probability.
    pub probability: Probability,
    /// What is lost with it: its workloads, weighed.
    pub impact: f64,
    /// Probability within the planning window × impact.
    pub risk: f64,
    /// Data that it holds.
    pub data: Bytes,
}
