//! The port to a system that holds workloads: discover them, and carry out the actions of a
//! migration.
//!
//! Every action is idempotent under its [`Job::key`]: asked for twice it is done once. An action
//! starts or does its work and returns soon; work that takes long (a bulk copy) goes on in the
//! system itself and is followed with [`Mover::status`]. Nothing here waits for a person.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::error::DriverError;
use crate::fleet::{
    Bytes, Epoch, Generation, MigrationId, PartitionId, Share, Span, Timestamp, Topology, WorkloadId, digits,
};

/// One workload on its way from one partition to another.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The migration.
    pub migration: MigrationId,
    /// What is moved.
    pub workload: WorkloadId,
    /// From where.
    pub source: PartitionId,
    /// To where.
    pub destination: PartitionId,
    /// The generation that the new owner will have.
    pub generation: Generation,
}

impl Job {
    /// The idempotency key of one action: hex of the first 8 bytes of
    /// `blake3(migration ‖ workload ‖ generation ‖ step)`. It names what the action makes, so that
    /// a leak scan finds it by name alone (artifacts are called `fs_<key>`).
    pub fn key(&self, step: &str) -> String {
        key(self.migration, &self.workload, self.generation, step)
    }

    /// The same job the other way round, for the mirrored rollback at `generation`.
    pub fn mirrored(&self, generation: Generation) -> Job {
        Job {
            migration: self.migration,
            workload: self.workload.clone(),
            source: self.destination.clone(),
            destination: self.source.clone(),
            generation,
        }
    }
}

/// [`Job::key`] of the job of these.
pub fn key(migration: MigrationId, workload: &WorkloadId, generation: Generation, step: &str) -> String {
    let mut named = String::with_capacity(96);
    migration.push_onto(&mut named);
    named.push('\0');
    named.push_str(workload.as_str());
    named.push('\0');
    generation.push_onto(&mut named);
    named.push('\0');
    named.push_str(step);
    named.push('\0');
    digits::hex(&blake3::hash(named.as_bytes()).as_bytes()[..8])
}

/// What a driver can be asked to do. The order of the variants is the order of a migration.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Action {
    /// Tell the source that it is about to be emptied (M1); a system without such a notion answers
    /// with evidence that says so.
    Announce,
    /// Make what the destination needs. The artifacts' names are in the cleanup ledger already.
    Prepare,
    /// Start (or go on with) copying; followed with [`Mover::status`].
    Replicate,
    /// Stop copying and leave the source as it was.
    StopReplication,
    /// Compare all of source and destination; the evidence holds both digests.
    Verify,
    /// Make the way back, disabled.
    ArmReverse,
    /// Send something the way back and see it arrive.
    ProbeReverse,
    /// Send this share of reads (or, for the stateless, of traffic) to the destination.
    CanaryShare {
        /// 0 takes everything back.
        share: Share,
    },
    /// Hold writes at the source until `deadline`, when it lets go by itself where it can.
    Fence {
        /// When the source is to let go by itself.
        deadline: Timestamp,
    },
    /// Let writes go on at the source.
    Unfence,
    /// Compare at the cut, writes being held; cheap where the driver maintains a digest.
    VerifyAtCut,
    /// Where the target system itself votes on ownership: ask it to change the owner.
    Commit,
    /// Open the destination for the new generation.
    Open,
    /// Enable the way back and prove it, after the switch.
    EnableReverse,
    /// Make the source a standby, or leave it as policy says.
    Retire,
    /// Remove an artifact.
    Cleanup {
        /// What to remove.
        artifact: Artifact,
    },
}

impl Action {
    /// The step's name in keys, journal and screens.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Announce => "announce",
            Action::Prepare => "prepare",
            Action::Replicate => "replicate",
            Action::StopReplication => "stop_replication",
            Action::Verify => "verify",
            Action::ArmReverse => "arm_reverse",
            Action::ProbeReverse => "probe_reverse",
            Action::CanaryShare { .. } => "canary_share",
            Action::Fence { .. } => "fence",
            Action::Unfence => "unfence",
            Action::VerifyAtCut => "verify_at_cut",
            Action::Commit => "commit",
            Action::Open => "open",
            Action::EnableReverse => "enable_reverse",
            Action::Retire => "retire",
            Action::Cleanup { .. } => "cleanup",
        }
    }

    /// Whether it only reads.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Action::Verify | Action::VerifyAtCut)
    }
}

/// Something that a migration makes in a system and that must not be left behind.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Artifact {
    /// What it is: `replication_slot`, `replica`, `directory`.
    pub kind: String,
    /// Its name in the system; contains the idempotency key.
    pub name: String,
    /// Where it is.
    pub partition: PartitionId,
}

impl Artifact {
    /// The kind of a hold on a source that ends with its move alone. It makes nothing, so no ledger has a line of
    /// it: it bears the name of what its migration made.
    pub const FENCE: &str = "fence";

    /// Whether its name is one that only we give: `fs_` and the sixteen hexadecimal digits of
    /// [`Job::key`].
    pub fn is_ours(&self) -> bool {
        let digits = self.name.strip_prefix("fs_").unwrap_or_default();
        digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }
}

/// When the ledger removes an artifact.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CleanupPolicy {
    /// At the end, however the migration ends: a slot, a publication, a temporary file.
    Always,
    /// Only where the migration is undone: on success it is the workload's new home.
    OnFailure,
    /// Where it is undone, and on success once the source is retired: the way back's parts.
    DeferredOnSuccess,
}

/// The right to change something in a system. It is minted in `migrate` alone, from an approval
/// and the leader's epoch; a read-only engine has no way to make one.
#[derive(Clone, PartialEq, Debug)]
pub struct Permit {
    epoch: Epoch,
    plan: String,
    _sealed: (),
}

impl Permit {
    /// Only `migrate::runner` calls this, with an approval in hand; `tests/floors.rs` checks that
    /// nobody else does.
    pub fn mint_for_runner(epoch: Epoch, plan: impl Into<String>) -> Self {
        Self { epoch, plan: plan.into(), _sealed: () }
    }

    /// The leader's epoch; a system that can check it refuses older ones.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Hash of the approved plan, in hex.
    pub fn plan(&self) -> &str {
        &self.plan
    }
}

/// What was seen when an action was done; goes into the journal.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// In words, for people: `16,384 of 16,384 slots equal`.
    pub summary: String,
    /// For [`Action::Verify`] and [`Action::VerifyAtCut`]: whether both sides are equal.
    pub equal: Option<bool>,
    /// What differs, by name, at most twenty.
    pub differences: Vec<String>,
    /// How many items (keys, rows, files) were looked at.
    pub items: u64,
    /// What was made by it, for the ledger's check.
    pub artifacts: Vec<Artifact>,
}

/// What a system answers to `was this done?`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Probe {
    /// Nothing of it was done.
    NotStarted,
    /// It is going on.
    InProgress,
    /// It is done.
    Applied {
        /// What was seen.
        evidence: Evidence,
    },
    /// It was tried and failed, and left nothing behind that matters.
    Failed {
        /// Why.
        reason: String,
    },
    /// Nobody can tell now.
    Unknown {
        /// Why not.
        reason: String,
    },
}

/// Where a job is, as seen in the system itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct JobStatus {
    /// Copied so far.
    pub copied: Bytes,
    /// To be copied in all, as far as known.
    pub total: Bytes,
    /// The bulk is there and the stream runs.
    pub streaming: bool,
    /// How far the destination is behind the source; `None` while unknown.
    pub lag: Option<Span>,
    /// The source answers.
    pub source_alive: bool,
    /// The destination answers.
    pub destination_alive: bool,
    /// Who owns the workload, as the system itself says; `None` where it has no word of its own.
    pub owner: Option<PartitionId>,
    /// What a person should know now: `fork for the snapshot: 3.1 GB copied on write`.
    pub note: String,
    /// Why what was copied can never catch up, however long one waits; `None` = it can. What was made has to go,
    /// and the copy to begin anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// The system is at the change of the owner, which takes a while, and until it has happened it can be called
    /// off with [`Action::Unfence`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub can_call_off: bool,
}

/// What was measured of one side during a canary step or a soak; both sides cover the same minutes.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct CanarySample {
    /// Latencies of single requests in milliseconds, a random sample of at most 2,000.
    pub latencies_ms: Vec<f64>,
    /// Requests in all.
    pub requests: u64,
    /// Of them failed.
    pub errors: u64,
    /// Values compared with the other side.
    pub compared: u64,
    /// Of them different.
    pub mismatches: u64,
    /// Names of some that differ, at most twenty.
    pub examples: Vec<String>,
    /// It was measured before, not in the same minutes as the other side: the load may have changed, too.
    #[serde(default)]
    pub earlier: bool,
}

/// What a driver can do. What is missing is shown as a risk on the proposal, never hidden.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// Moves while the source goes on serving.
    pub online: bool,
    /// Compares all data of both sides.
    pub digest: bool,
    /// Has a way back that is proved before the cut.
    pub reverse_proved_before_cut: bool,
    /// Has a way back at all.
    pub reverse: bool,
    /// The target itself refuses an old epoch.
    pub fence_checked_by_target: bool,
    /// Reads can be tried at the destination before the cut.
    pub canary_reads: bool,
    /// Real traffic can be sent to the destination by share before the cut.
    pub canary_traffic: bool,
    /// The system changes the owner in one step by itself, and its word is the truth.
    pub system_votes: bool,
    /// After the switch the source follows the destination, and the mirrored job's [`Action::Verify`] compares
    /// both while the workload is used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows: bool,
    /// What the move leaves at the source is removed when it is let go, and cannot be had back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drops_source: bool,
}

/// The answer of a driver that may still be at work.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// Done, with evidence.
    Done(Evidence),
    /// Started; ask again with the same action until it is done.
    Working {
        /// What it is waiting for, for people.
        waiting_for: String,
    },
}

/// Whether a fence until then is a seal: it is not to let go by itself, and on the strength of it the owner
/// changes. A shorter hold is no proof of it.
pub(crate) fn is_seal(until: Timestamp, now: Timestamp) -> bool {
    until - now > Span::hours(24)
}

/// Done, with words only.
pub(super) fn done(summary: impl Into<String>) -> Answer {
    Answer::Done(Evidence { summary: summary.into(), ..Evidence::default() })
}

/// Still at it.
pub(super) fn working(waiting_for: impl Into<String>) -> Answer {
    Answer::Working { waiting_for: waiting_for.into() }
}

/// The port.
#[async_trait]
pub trait Mover: Send + Sync {
    /// The class of workloads it moves, the driver's own: `redis/cart`. Workloads go only to partitions of
    /// their class.
    fn class(&self) -> &str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Whether its discovery is the truth about owners, so that our record follows where it changed without
    /// us. By default that is so where the system itself votes; else a difference is for a person.
    fn says_the_owner(&self) -> bool {
        self.capabilities().system_votes
    }

    /// Whether a partition that serves workloads takes others beside them. Where not, a workload goes to a
    /// copy of itself, or to a partition that holds nothing.
    fn shares_partitions(&self) -> bool {
        !self.capabilities().system_votes
    }

    /// How long its fence may hold, where that is longer than the configured budget by nature: a process
    /// that is stopped in good order, for example.
    fn fence_budget(&self) -> Option<Span> {
        None
    }

    /// What stands where now. Hosts are left out where the system does not know them.
    ///
    /// # Errors
    /// Where the system cannot be asked; a part that does not answer is no error: its partitions
    /// are reported as fenced or unknown by their own state.
    async fn discover(&self) -> Result<Topology, DriverError>;

    /// The exact commands that the job will send, for `d exact commands`; nothing is touched.
    fn describe(&self, job: &Job) -> Vec<String>;

    /// The artifacts that an action will make, so that the ledger can name them beforehand.
    fn artifacts(&self, job: &Job, action: &Action) -> Vec<Artifact>;

    /// When an artifact is to be removed. The default keeps it on success, because losing the new
    /// home is worse than a leak; a driver that makes slots, publications or temporary files says
    /// so here.
    fn cleanup_policy(&self, artifact: &Artifact) -> CleanupPolicy {
        let _ = artifact;
        CleanupPolicy::OnFailure
    }

    /// Does one action, or goes on with it.
    ///
    /// # Errors
    /// Says whether it was certainly not done (`Retryable`, `Permanent`) or nobody knows.
    async fn perform(&self, job: &Job, action: &Action, permit: &Permit) -> Result<Answer, DriverError>;

    /// Whether an action was done; reads only.
    async fn probe(&self, job: &Job, action: &Action) -> Probe;

    /// What a cut that began now would have to wait for, in words, while it holds writes; it is not
    /// begun until nothing is left. Reads only.
    ///
    /// # Errors
    /// Where it cannot be asked; the fence finds out, then.
    async fn cut_waits_for(&self, job: &Job) -> Result<Option<String>, DriverError> {
        let _ = job;
        Ok(None)
    }

    /// Where the job is, as seen in the system itself; reads only.
    ///
    /// # Errors
    /// Where neither side can be asked.
    async fn status(&self, job: &Job) -> Result<JobStatus, DriverError>;

    /// What was measured of source and destination since `since`; reads only.
    ///
    /// # Errors
    /// Where it cannot be measured; the judge calls that inconclusive.
    async fn samples(&self, job: &Job, since: Timestamp)
    -> Result<(CanarySample, CanarySample), DriverError>;

    /// Every artifact of ours that is in the system, found by name alone.
    ///
    /// # Errors
    /// Where the system cannot be asked.
    async fn leaks(&self) -> Result<Vec<Artifact>, DriverError>;

    /// Takes away an artifact that [`Mover::leaks`] found and no journal knows, by name alone; done
    /// again it changes nothing. Whoever calls makes certain that no migration uses it; what may be
    /// the only place of a workload is refused all the same.
    ///
    /// # Errors
    /// As [`Mover::perform`]; `Permanent` where a person has to decide.
    async fn reap(&self, artifact: &Artifact, permit: &Permit) -> Result<Answer, DriverError> {
        let _ = permit;
        Err(DriverError::new(
            super::error::Retry::Permanent,
            self.class(),
            format!("removing {} {}", artifact.kind, artifact.name),
            "this driver takes nothing away by name alone; take it away by hand",
        ))
    }
}
