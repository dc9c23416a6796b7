//! Proposals and migrations as a snapshot shows them.

use serde::{Deserialize, Serialize};

use crate::fleet::{
    Bytes, HostId, MigrationId, PartitionId, Phase, Probability, ProposalId, Revision, Share, Span,
    Timestamp, WorkloadId,
};

/// One move of a proposal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MoveView {
    /// What.
    pub workload: WorkloadId,
    /// From.
    pub source: PartitionId,
    /// To.
    pub destination: PartitionId,
    /// Why there.
    pub because: String,
    /// Data to copy.
    pub data: Bytes,
    /// How long it will take.
    pub duration: Span,
    /// How long writes are held.
    pub blackout: Span,
    /// 0–100.
    pub disruption: f64,
    /// The probability that it is off in time.
    pub in_time: Option<Probability>,
    /// `proved at cut`, `proved while watched`, `none`.
    pub way_back: String,
    /// The exact commands.
    pub commands: Vec<String>,
}

/// A proposal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProposalView {
    /// Its number.
    pub id: ProposalId,
    /// In a few words.
    pub title: String,
    /// Why, in a sentence.
    pub trigger: String,
    /// Hash of the plan in hex; what `Command::Approve` must carry.
    pub plan: String,
    /// Waits, or what was decided: `waiting`, `approved by …`, `denied: …`, `stale: …`, `expired`.
    pub status: String,
    /// It still waits.
    pub open: bool,
    /// When it was made.
    pub made: Timestamp,
    /// Not to be approved after this.
    pub expires: Timestamp,
    /// The moves.
    pub moves: Vec<MoveView>,
    /// Canary steps: share and duration.
    pub canary: Vec<(Share, Span)>,
    /// What the canary carries: `reads compared by value`, `real traffic`.
    pub canary_carries: String,
    /// How long it is watched afterwards.
    pub soak: Span,
    /// Workloads expected to be lost: before, after.
    pub risk: (f64, f64),
    /// Load of hosts: host, before, after; shares.
    pub loads: Vec<(HostId, f64, f64)>,
    /// What happens if nothing is done.
    pub if_nothing: String,
    /// How it is undone.
    pub way_back: String,
    /// Destinations not taken: candidate, of several moves with the workload it was for, and reason.
    pub rejected: Vec<(String, String)>,
    /// Risks that are not hidden.
    pub risks: Vec<String>,
    /// Why it cannot be approved now.
    pub blocked: Option<String>,
    /// For a successor of a stale plan: what differs.
    pub difference: Vec<String>,
    /// The topology it rests on.
    pub topology: Revision,
}

/// One step on the line of a migration.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StepView {
    /// `copy`, `verify`, `canary 25 %`.
    pub name: String,
    /// How far.
    pub state: StepState,
    /// What was seen: `14.1 GB`, `2,113,904 keys equal`.
    pub evidence: String,
}

/// How far a step is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not yet.
    Ahead,
    /// Now.
    Running,
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Left out.
    Skipped,
}

/// One line of the canary's comparison.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct JudgeLine {
    /// `errors`, `latency p50 / p99`, `values compared`.
    pub what: String,
    /// At the source.
    pub source: String,
    /// At the destination.
    pub destination: String,
    /// `pass`, `fail`, `inconclusive`, with numbers.
    pub verdict: String,
}

/// A migration.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MigrationView {
    /// Its number.
    pub id: MigrationId,
    /// The proposal it came from.
    pub proposal: ProposalId,
    /// What is moved.
    pub workload: WorkloadId,
    /// From.
    pub source: PartitionId,
    /// To.
    pub destination: PartitionId,
    /// Where it is.
    pub phase: Phase,
    /// Why it stands or waits; empty while it runs.
    pub waiting: String,
    /// Who approved it.
    pub by: String,
    /// Plan hash in hex.
    pub plan: String,
    /// Started.
    pub started: Timestamp,
    /// Ended, if so.
    pub ended: Option<Timestamp>,
    /// The present wait ends at the latest then.
    pub deadline: Option<Timestamp>,
    /// What is left, as far as known.
    pub left: Option<Span>,
    /// 0 to 1 within the present step; `None` = unknown.
    pub progress: Option<Share>,
    /// The line of steps.
    pub steps: Vec<StepView>,
    /// The canary step, from 1, and how many there are.
    pub canary: Option<(u32, u32)>,
    /// What the canary carries.
    pub canary_carries: String,
    /// The comparison of both sides.
    pub judge: Vec<JudgeLine>,
    /// What can be asked now; what cannot has a reason.
    pub can: Abilities,
    /// How it would be undone now and how long that takes; empty = it cannot, see `can`.
    pub way_back: String,
    /// What happened: time and words, newest first (at most 50).
    pub log: Vec<(Timestamp, String)>,
}

impl MigrationView {
    /// Why it ended as it did, from the last line of its journal; empty = nothing more to say, or not ended.
    pub fn end_reason(&self) -> &str {
        let last = self.log.first().filter(|_| self.phase.is_end()).map_or("", |(_, line)| line.as_str());
        last.strip_prefix(self.phase.word()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or("")
    }
}

/// What can be asked of a migration now: `None` = yes, else why not.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Abilities {
    /// Next canary step.
    pub step: Option<String>,
    /// Skip the rest of the canary.
    pub promote: Option<String>,
    /// Stand still.
    pub pause: Option<String>,
    /// Go on.
    pub resume: Option<String>,
    /// Undo.
    pub roll_back: Option<String>,
}
