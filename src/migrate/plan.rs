//! What one migration is to do: the immutable part, written once when it is submitted and never
//! changed after. It holds one move of an approved proposal, the proposal's hash, and the policy
//! under which it runs, so that a replay decides as the run did.

use serde::{Deserialize, Serialize};

use super::stored;
use crate::drivers::{Capabilities, Job, mover};
use crate::fleet::{
    Bytes, Generation, HostId, MigrationId, PartitionId, Probability, ProposalId, RackId, Revision, SiteId,
    Span, Timestamp, WorkloadId,
};
use crate::plan::proposal::{CanaryPlan, PlanHash};

/// Bounds and patience of a migration. Every wait in the machine ends at one of these.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// How long writes may be held at the cut before the source lets go and the cut is tried anew.
    pub fence_budget: Span,
    /// A comparison at the cut counts for this long; what is older when the owner is to change is
    /// made anew, after the source was let go.
    #[serde(default = "compare_age")]
    pub compare_age: Span,
    /// Cuts that are tried before the migration is undone, and cuts back before a person is asked.
    pub cut_tries: u32,
    /// Attempts (each undone fully before the next) before another destination is asked for.
    pub attempts: u32,
    /// Wait before the second attempt, and before the second cut back; doubled before each further one.
    pub retry_after: Span,
    /// Tries of one action that certainly was not done, with doubling waits.
    pub act_tries: u32,
    /// Probes that may answer "unknown" before the migration is stuck.
    pub probe_tries: u32,
    /// Time between two looks at something that goes on.
    pub poll: Span,
    /// The stream counts as caught up at or under this lag ...
    pub lag_bound: Span,
    /// ... seen this often in a row.
    pub lag_times: u32,
    /// Time for a state that copies nothing.
    pub state_limit: Span,
    /// Time for making what the destination needs.
    #[serde(default = "prepare_limit")]
    pub prepare_limit: Span,
    /// Least time for copying.
    pub copy_least: Span,
    /// Least time for catching up with the stream.
    #[serde(default = "copy_least")]
    pub catch_up_least: Span,
    /// Least time for comparing both sides.
    #[serde(default = "copy_least")]
    pub verify_least: Span,
    /// A state that goes through all data may take as long as so many bytes a second take; `None` =
    /// `copy_scale` counts.
    #[serde(default)]
    pub copy_rate: Option<Bytes>,
    /// Such a state may take this many times the planner's estimate.
    pub copy_scale: f64,
    /// How long a canary step or a soak may stay inconclusive beyond its duration.
    pub patience: Span,
    /// The way back's proof is renewed before the cut where it is older than this.
    pub proof_age: Span,
    /// Looks in a row that find the source dead before it counts as lost.
    pub source_lost_after: u32,
    /// Where the source is lost after a full comparison, commit if it was at most this far behind;
    /// `None` = never, leave it to the system's own failover.
    pub loss_bound: Option<Span>,
    /// After the soak all of both sides is compared once more before the source is let go.
    #[serde(default)]
    pub compare_again: bool,
}

fn compare_age() -> Span {
    Span::millis(500)
}

fn prepare_limit() -> Span {
    Span::minutes(2)
}

fn copy_least() -> Span {
    Span::seconds(60)
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            fence_budget: Span::seconds(2),
            compare_age: compare_age(),
            cut_tries: 3,
            attempts: 3,
            retry_after: Span::seconds(30),
            act_tries: 5,
            probe_tries: 8,
            poll: Span::seconds(1),
            lag_bound: Span::millis(40),
            lag_times: 3,
            state_limit: Span::minutes(2),
            prepare_limit: prepare_limit(),
            copy_least: copy_least(),
            catch_up_least: copy_least(),
            verify_least: copy_least(),
            copy_rate: None,
            copy_scale: 4.0,
            patience: Span::minutes(5),
            proof_age: Span::seconds(60),
            source_lost_after: 5,
            loss_bound: None,
            compare_again: true,
        }
    }
}

/// Where something stands, for the limits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The host.
    pub host: HostId,
    /// Its rack.
    pub rack: RackId,
    /// Its site.
    pub site: SiteId,
}

/// The immutable part of a migration.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The migration.
    pub id: MigrationId,
    /// The proposal it came from.
    pub proposal: ProposalId,
    /// Hash of the proposal's canonical bytes, as approved.
    pub hash: PlanHash,
    /// Which of the proposal's moves this is, from 0.
    pub order: u32,
    /// What is moved.
    pub workload: WorkloadId,
    /// Its class, which names the drivers.
    pub class: String,
    /// From.
    pub source: PartitionId,
    /// To.
    pub destination: PartitionId,
    /// Where the source stands.
    pub source_place: Place,
    /// Where the destination stands.
    pub destination_place: Place,
    /// A prediction asked for it, so it is not begun while the prediction is unknown.
    pub predicted: bool,
    /// With this probability, where a prediction asked for it.
    #[serde(default)]
    pub probability: Option<Probability>,
    /// Its traffic can be sent by share before the cut, because it holds no data.
    pub stateless: bool,
    /// A router sends its traffic.
    pub routed: bool,
    /// The generation that the workload had when it was planned.
    pub generation: Generation,
    /// The canary.
    pub canary: CanaryPlan,
    /// How long it is watched after the switch.
    pub soak: Span,
    /// Data to copy.
    pub data: Bytes,
    /// The planner's estimate.
    pub duration: Span,
    /// What the driver can do.
    pub capabilities: Capabilities,
    /// The topology the plan rests on.
    pub topology: Revision,
    /// Who approved it.
    pub approved_by: String,
    /// When.
    pub approved_at: Timestamp,
    /// The approval ends then, if the migration was not admitted by that time.
    pub expires: Timestamp,
    /// Bounds and patience.
    pub policy: Policy,
}

impl Plan {
    /// The bytes of it that are stored.
    pub fn bytes(&self) -> Vec<u8> {
        stored::plan_bytes(self)
    }

    /// The plan that [`Plan::bytes`], or an earlier version, made these bytes of.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(bytes: &[u8]) -> Result<Plan, stored::Unreadable> {
        stored::plan_of(bytes)
    }

    /// The generation that the destination will have.
    pub fn next_generation(&self) -> Generation {
        Generation(self.generation.0 + 1)
    }

    /// The job as the drivers know it.
    pub fn job(&self) -> Job {
        Job {
            migration: self.id,
            workload: self.workload.clone(),
            source: self.source.clone(),
            destination: self.destination.clone(),
            generation: self.next_generation(),
        }
    }

    /// [`Job::key`] of one action of the job.
    pub fn key(&self, step: &str) -> String {
        mover::key(self.id, &self.workload, self.next_generation(), step)
    }

    /// The mirrored job of a rollback after the cut.
    pub fn back_job(&self) -> Job {
        self.job().mirrored(Generation(self.generation.0 + 2))
    }

    /// Whether something can carry a canary.
    pub fn has_canary(&self) -> bool {
        !self.canary.steps.is_empty()
            && (self.routes_canary() || self.capabilities.canary_reads || self.capabilities.canary_traffic)
    }

    /// The canary is real weight at the router, rather than reads that the driver sends.
    pub fn routes_canary(&self) -> bool {
        self.stateless && self.routed
    }

    /// What the canary carries, for people.
    pub fn canary_carries(&self) -> &'static str {
        if !self.has_canary() {
            "nothing: this kind of system has no way to try the destination before the cut"
        } else if self.routes_canary() || self.capabilities.canary_traffic {
            "real traffic"
        } else {
            "real reads, compared by value"
        }
    }

    /// Time for a state that goes through all data; at least `least`.
    pub fn data_limit(&self, least: Span) -> Span {
        let ms = match self.policy.copy_rate {
            Some(rate) => self.data.0 as f64 / (rate.0 as f64).max(1.0) * 1000.0,
            None => self.duration.0 as f64 * self.policy.copy_scale,
        };
        Span((ms.min(i64::MAX as f64 / 4.0) as i64).max(least.0))
    }
}

/// What the canonical bytes of a proposal say of its moves.
#[derive(Clone, PartialEq, Debug)]
pub struct Approved {
    /// Hash of the bytes.
    pub hash: PlanHash,
    named: Option<Named>,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
struct Named {
    id: ProposalId,
    moves: Vec<(WorkloadId, String, PartitionId, PartitionId, Generation)>,
    canary: CanaryPlan,
    soak: Span,
    #[serde(default)]
    drops: Vec<usize>,
}

impl Approved {
    /// Reads canonical bytes; what is none names no move.
    pub fn read(bytes: &[u8]) -> Self {
        Self { hash: PlanHash(*blake3::hash(bytes).as_bytes()), named: serde_json::from_slice(bytes).ok() }
    }
}

impl Plan {
    /// Whether this is the move that the approved canonical bytes name, with their canary and soak, and with what
    /// becomes of the source.
    pub fn is_move_of(&self, approved: &Approved) -> bool {
        let Some(named) = &approved.named else { return false };
        let same =
            named.moves.get(self.order as usize).is_some_and(|(workload, class, from, to, generation)| {
                *workload == self.workload
                    && *class == self.class
                    && *from == self.source
                    && *to == self.destination
                    && *generation == self.generation
            });
        let drops = named.drops.contains(&(self.order as usize));
        same && drops == self.capabilities.drops_source
            && named.canary == self.canary
            && named.soak == self.soak
            && named.id == self.proposal
    }
}
