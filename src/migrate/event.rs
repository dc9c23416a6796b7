//! What can happen to a migration. Every event carries its time; the machine reads no clock.

use std::sync::Arc;

use super::ledger::Foreseen;
use super::owner::Owner;
use crate::drivers::{CanarySample, Evidence, JobStatus, Probe, Retry};
use crate::fleet::{Epoch, Timestamp};

/// What an operator (or automatic mode) asks of a running migration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OperatorCommand {
    /// Go to the next canary step now.
    NextStep,
    /// Skip what is left of the canary; where the switch back was refused, leave the workload at the
    /// destination.
    Promote,
    /// Stand still at the next safe point.
    Pause,
    /// Go on after a pause or a hold.
    Resume,
    /// Undo.
    RollBack,
}

impl OperatorCommand {
    /// For the journal and screens.
    pub fn word(self) -> &'static str {
        match self {
            Self::NextStep => "next step",
            Self::Promote => "promote",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::RollBack => "roll back",
        }
    }
}

/// Something that happened, and when.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, PartialEq, Debug)]
pub enum EventKind {
    /// Time passed.
    Time,
    /// Lock, tokens and generation are taken in this same transaction.
    Admitted {
        /// What the actions will make.
        foreseen: Arc<Vec<Foreseen>>,
    },
    /// Admission was refused.
    NotAdmitted {
        /// Why, in words.
        reason: String,
        /// Ask again then.
        again: Timestamp,
    },
    /// The world is not the one that was approved.
    Changed {
        /// What differs, in words.
        differences: Vec<String>,
    },
    /// The cut may begin.
    GateOpen,
    /// The cut may not begin now.
    GateShut {
        /// Why, in words.
        reason: String,
        /// Ask again then.
        again: Timestamp,
    },
    /// The front action is done.
    Done {
        /// What was seen.
        evidence: Evidence,
    },
    /// The front action goes on.
    Working {
        /// What it waits for.
        waiting_for: String,
        /// Where the job is, if it could be asked.
        status: Option<JobStatus>,
    },
    /// The front action failed.
    Failed {
        /// What that means for the next try.
        retry: Retry,
        /// What the driver said.
        detail: String,
    },
    /// The answer to a probe of the front action.
    Probed {
        /// The answer.
        answer: Probe,
    },
    /// Where the job is.
    Status {
        /// As the system says; or why it cannot be asked.
        status: Result<JobStatus, String>,
    },
    /// What was measured since the step or soak began.
    Samples {
        /// Source and destination; or why it cannot be measured.
        samples: Result<(CanarySample, CanarySample), String>,
        /// The source does not answer, as the fleet was last seen: after the cut there is no way back now.
        source_lost: bool,
    },
    /// The owner record changes in this same transaction.
    OwnerChanged,
    /// The owner record as it is, after the transaction was refused.
    OwnerIs {
        /// The record; `None` = there is none.
        owner: Option<Owner>,
    },
    /// Another engine, or this one after a restart, takes the migration over.
    Recovered {
        /// Its epoch.
        epoch: Epoch,
        /// The owner record.
        owner: Option<Owner>,
    },
    /// A person asks.
    Operator {
        /// What.
        command: OperatorCommand,
        /// Who.
        actor: String,
    },
}
