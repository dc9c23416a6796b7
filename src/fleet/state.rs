//! States of a partition and of a migration, as words and as types.

use serde::{Deserialize, Serialize};

/// What a partition does for its users.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServingState {
    /// Serves its workloads.
    #[default]
    Active,
    /// A copy that could serve.
    Passive,
    /// Forbidden to serve; nothing acts on it.
    Fenced,
    /// Work is being moved off or onto it.
    Migrating,
    /// Emptied by an evacuation and kept under watch.
    Standby,
    /// Out of service for good.
    Decommissioned,
}

/// What the prediction says of a partition; stands beside [`ServingState`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionState {
    /// No data, or too old to say anything. Never shown as healthy, never acted on.
    #[default]
    Unknown,
    /// Within its own normal.
    Healthy,
    /// Over the on-threshold for k windows, against its own past and its peers.
    Suspect,
    /// Over the threshold that starts the planner; an alert is out.
    PredictiveFailure,
    /// A migration moves its work away.
    Evacuating,
    /// Its work is elsewhere.
    Evacuated,
    /// Looks well again and is watched before it counts as healthy.
    Probation,
}

impl PredictionState {
    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Suspect => "suspect",
            Self::PredictiveFailure => "predictive failure",
            Self::Evacuating => "migrating",
            Self::Evacuated => "standby",
            Self::Probation => "probation",
        }
    }
}

/// The one word that is shown for a partition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShownState {
    /// Forbidden to serve.
    Fenced,
    /// Out of service for good.
    Decommissioned,
    /// No data young enough to say anything.
    Unknown,
    /// Work is being moved.
    Migrating,
    /// Expected to fail.
    PredictiveFailure,
    /// Watched closely.
    Suspect,
    /// Emptied, kept under watch.
    Standby,
    /// Well again, not yet trusted.
    Probation,
    /// A copy that could serve.
    Passive,
    /// Serves and is well.
    Active,
}

impl ShownState {
    /// The word for the pair of states: the first that holds in the order of the variants.
    pub fn of(serving: ServingState, prediction: PredictionState) -> Self {
        use PredictionState as P;
        use ServingState as S;
        match (serving, prediction) {
            (S::Fenced, _) => Self::Fenced,
            (S::Decommissioned, _) => Self::Decommissioned,
            (_, P::Unknown) => Self::Unknown,
            (S::Migrating, _) | (_, P::Evacuating) => Self::Migrating,
            (_, P::PredictiveFailure) => Self::PredictiveFailure,
            (_, P::Suspect) => Self::Suspect,
            (S::Standby, _) | (_, P::Evacuated) => Self::Standby,
            (_, P::Probation) => Self::Probation,
            (S::Passive, _) => Self::Passive,
            (S::Active, P::Healthy) => Self::Active,
        }
    }

    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::Decommissioned => "decommissioned",
            Self::Unknown => "unknown",
            Self::Migrating => "migrating",
            Self::PredictiveFailure => "predictive failure",
            Self::Suspect => "suspect",
            Self::Standby => "standby",
            Self::Probation => "probation",
            Self::Passive => "passive",
            Self::Active => "active",
        }
    }
}

/// Where a migration is. The table of what each does, how it recovers and how it is undone is in
/// `migrate::states`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The plan is stored and shown; it waits for a decision.
    Proposed,
    /// Approved; waits for its window, limits and turn.
    Approved,
    /// Lock, tokens and generation are taken.
    Admitted,
    /// What the destination needs is being made.
    Preparing,
    /// The bulk is being copied.
    Copying,
    /// The live stream is being caught up with.
    CatchingUp,
    /// Source and destination are compared.
    Verifying,
    /// The way back is made and proved by a probe.
    ReverseArmed,
    /// A canary step is being judged.
    Canary,
    /// Writes are held at the source for the cut.
    Fencing,
    /// The one compare-and-set transaction that changes the owner.
    Committing,
    /// Traffic is sent to the new owner.
    Redirecting,
    /// The new owner is watched against before.
    Soaking,
    /// The source becomes standby or goes.
    Retiring,
    /// Undone before the cut.
    RollingBackPre,
    /// Undone after the cut: a mirrored move at the next generation.
    RollingBackPost,
    /// The source died for real while it was being moved.
    SourceLost,
    /// Stands at a safe point and waits, with a reason.
    Hold,
    /// Reality could not be found out; traffic is untouched and a person is asked.
    Stuck,
    /// Ended well.
    Done,
    /// Ended before the cut; the fleet is as before.
    Aborted,
    /// Ended after the cut by switching back; the fleet is as before.
    RolledBack,
    /// The world changed under the plan; its successor is a new proposal.
    Stale,
    /// The approval ran out.
    Expired,
    /// A person said no.
    Denied,
}

impl Phase {
    /// Every phase, in the order of a migration.
    pub const ALL: [Phase; 25] = [
        Phase::Proposed,
        Phase::Approved,
        Phase::Admitted,
        Phase::Preparing,
        Phase::Copying,
        Phase::CatchingUp,
        Phase::Verifying,
        Phase::ReverseArmed,
        Phase::Canary,
        Phase::Fencing,
        Phase::Committing,
        Phase::Redirecting,
        Phase::Soaking,
        Phase::Retiring,
        Phase::RollingBackPre,
        Phase::RollingBackPost,
        Phase::SourceLost,
        Phase::Hold,
        Phase::Stuck,
        Phase::Done,
        Phase::Aborted,
        Phase::RolledBack,
        Phase::Stale,
        Phase::Expired,
        Phase::Denied,
    ];

    /// No event leads out of an end.
    pub fn is_end(self) -> bool {
        matches!(
            self,
            Phase::Done | Phase::Aborted | Phase::RolledBack | Phase::Stale | Phase::Expired | Phase::Denied
        )
    }

    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Proposed => "proposed",
            Phase::Approved => "approved",
            Phase::Admitted => "admitted",
            Phase::Preparing => "prepare",
            Phase::Copying => "copy",
            Phase::CatchingUp => "catch up",
            Phase::Verifying => "verify",
            Phase::ReverseArmed => "way back",
            Phase::Canary => "canary",
            Phase::Fencing => "fence",
            Phase::Committing => "cut",
            Phase::Redirecting => "redirect",
            Phase::Soaking => "watch",
            Phase::Retiring => "retire",
            Phase::RollingBackPre | Phase::RollingBackPost => "rolling back",
            Phase::SourceLost => "source lost",
            Phase::Hold => "hold",
            Phase::Stuck => "stuck",
            Phase::Done => "done",
            Phase::Aborted => "aborted",
            Phase::RolledBack => "rolled back",
            Phase::Stale => "stale",
            Phase::Expired => "expired",
            Phase::Denied => "denied",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_without_data_is_never_shown_as_active() {
        for serving in [ServingState::Active, ServingState::Passive, ServingState::Standby] {
            assert_eq!(ShownState::of(serving, PredictionState::Unknown), ShownState::Unknown);
        }
    }

    #[test]
    fn fenced_wins_over_everything() {
        assert_eq!(
            ShownState::of(ServingState::Fenced, PredictionState::PredictiveFailure),
            ShownState::Fenced
        );
    }
}
