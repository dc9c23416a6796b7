//! What a person (or automatic mode) asks of the engine, and what it answers.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::failure::{Failure, Label};
use super::snapshot::{Mode, PartitionDetail};
use crate::fleet::{HostId, MigrationId, PartitionId, ProposalId, Timestamp};

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Actor {
    /// Name, as it goes into the journal: `operator@eu`, `automatic mode`.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

/// What somebody may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Approves, steps, pauses, rolls back.
    Operator,
    /// Also changes mode and configuration.
    Admin,
}

/// What is asked. All but `Inspect`, `Why`, `TryEvacuate` and `ListFailures` change something.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum Command {
    /// Everything about one partition, for its screen.
    Inspect {
        /// The partition.
        partition: PartitionId,
    },
    /// The one constraint that blocks a workload or migration.
    Why {
        /// Name of a workload or `M-…`.
        subject: String,
    },
    /// Approve a proposal. The plan's hash is what the person saw; another hash is refused.
    Approve {
        /// Which.
        proposal: ProposalId,
        /// In hex, as shown.
        plan: String,
        /// Why, for the audit log; empty where none was asked for.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Reject a proposal.
    Reject {
        /// Which.
        proposal: ProposalId,
        /// Why, for the journal.
        reason: String,
    },
    /// Propose to empty a host, without waiting for a prediction.
    Evacuate {
        /// The host.
        host: HostId,
    },
    /// What `Evacuate` would propose; touches nothing (what-if).
    TryEvacuate {
        /// The host.
        host: HostId,
    },
    /// Go to the next canary step now.
    NextStep {
        /// The migration.
        migration: MigrationId,
    },
    /// Skip what is left of the canary.
    Promote {
        /// The migration.
        migration: MigrationId,
    },
    /// Stand still at the next safe point.
    Pause {
        /// The migration.
        migration: MigrationId,
    },
    /// Go on after a pause or a hold.
    Resume {
        /// The migration.
        migration: MigrationId,
    },
    /// Undo, from wherever it is.
    RollBack {
        /// The migration.
        migration: MigrationId,
    },
    /// Halt every new step of everything until released; always allowed to operators.
    StopEverything,
    /// Release the global stop.
    ReleaseStop,
    /// No automatic act on this partition or workload until released (a veto).
    Veto {
        /// Partition or workload.
        subject: String,
        /// `None` = until released.
        until: Option<Timestamp>,
    },
    /// Release a veto.
    ReleaseVeto {
        /// Partition or workload.
        subject: String,
    },
    /// Take an empty host or partition out of service for good: it is not watched any more, nothing is moved
    /// there, and that it falls silent is neither an alert nor a failure.
    Decommission {
        /// Host or partition.
        subject: String,
        /// Why, for the audit log; empty where nothing was said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Take a host or partition into service again.
    Recommission {
        /// Host or partition.
        subject: String,
    },
    /// Change between advise and automatic.
    SetMode {
        /// The new mode.
        mode: Mode,
    },
    /// Go back to the models that spoke before.
    RevertModels,
    /// A person records a failure.
    RecordFailure {
        /// Partition, workload or host.
        subject: String,
        /// When.
        at: Timestamp,
        /// Why.
        cause: String,
        /// What became of it.
        #[serde(default)]
        label: Label,
        /// It comes from records kept elsewhere.
        #[serde(default)]
        imported: bool,
    },
    /// A person corrects a record of the failure history.
    CorrectFailure {
        /// Its number.
        number: u64,
        /// What became of it.
        label: Label,
        /// Why; `None` = as it is.
        #[serde(default)]
        cause: Option<String>,
    },
    /// The failure history.
    ListFailures,
}

impl Command {
    /// Whether it changes something; a read-only engine refuses those.
    pub fn is_mutating(&self) -> bool {
        self.least_role() > Role::Viewer
    }

    /// The least role that may ask for it.
    pub fn least_role(&self) -> Role {
        match self {
            Command::Inspect { .. }
            | Command::Why { .. }
            | Command::TryEvacuate { .. }
            | Command::ListFailures => Role::Viewer,
            Command::SetMode { .. } => Role::Admin,
            _ => Role::Operator,
        }
    }
}

/// What the engine answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reply")]
pub enum Reply {
    /// Taken; what follows is seen in the snapshots.
    Done {
        /// What was done, for a toast: `P-218 approved: 3 moves`.
        said: String,
    },
    /// A proposal was made.
    Proposed {
        /// Its number; `None` for a what-if.
        proposal: Option<ProposalId>,
        /// Its view.
        view: Box<super::moves::ProposalView>,
    },
    /// Everything about one partition.
    Partition {
        /// The partition.
        detail: Box<PartitionDetail>,
    },
    /// Why something does not move.
    Why {
        /// The one blocking constraint, since when, until when, and the nearest relaxation.
        sentences: Vec<String>,
    },
    /// The failure history.
    Failures {
        /// Its records, oldest number first.
        records: Vec<Failure>,
    },
}

/// Why the engine did not do it.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "refusal")]
pub enum Refusal {
    /// The engine was started with `--read-only`.
    #[error("refused: this engine is read-only")]
    ReadOnly,
    /// The actor may not.
    #[error("refused: this needs the role {needed:?}")]
    NotAllowed {
        /// The least role.
        needed: Role,
    },
    /// There is nothing of that name.
    #[error("there is no {what}")]
    NotFound {
        /// Kind and name: `proposal P-218`.
        what: String,
    },
    /// What was asked makes no sense, now or later.
    #[error("refused: {reason}")]
    Invalid {
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// The plan is not the one that was shown.
    #[error("the plan changed since it was shown: look again ({detail})")]
    PlanChanged {
        /// What differs.
        detail: String,
    },
    /// It cannot be done in the present state.
    #[error("not now: {reason}")]
    NotNow {
        /// Why, and when it will be possible.
        reason: String,
    },
    /// The engine does not answer.
    #[error("the engine does not answer: {detail}")]
    Unreachable {
        /// What went wrong.
        detail: String,
    },
}
