//! The right to act. An [`Authority`] exists only in an engine that may change something; an
//! [`Approval`] only where somebody confirmed the very plan that was shown. The runner takes nothing
//! else, and only the runner mints the permits that drivers ask for, so a read-only engine cannot
//! act by any path.

use crate::fleet::{ProposalId, Timestamp};
use crate::plan::Proposal;
use crate::plan::proposal::PlanHash;
use crate::protocol::{Actor, Mode, Refusal, Role};

/// This engine may change something.
#[derive(Clone, Debug)]
pub struct Authority {
    _sealed: (),
}

impl Authority {
    /// The authority of an engine in `mode`.
    ///
    /// # Errors
    /// `ReadOnly` for a read-only engine: it has none.
    pub fn of(mode: Mode) -> Result<Self, Refusal> {
        match mode {
            Mode::ReadOnly => Err(Refusal::ReadOnly),
            Mode::Advise | Mode::Auto => Ok(Self { _sealed: () }),
        }
    }
}

/// Somebody confirmed a plan. Made by [`Approval::confirm`] alone.
#[derive(Clone, PartialEq, Debug)]
pub struct Approval {
    proposal: ProposalId,
    hash: PlanHash,
    actor: String,
    at: Timestamp,
}

impl Approval {
    /// `actor` confirms `proposal`, having been shown the plan of hash `shown` (in hex). Automatic
    /// mode confirms under its own name.
    ///
    /// # Errors
    /// Where the actor may not, the plan is not the one that was shown, or it cannot be approved
    /// now.
    pub fn confirm(
        _authority: &Authority,
        proposal: &Proposal,
        shown: &str,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        if actor.role < Role::Operator {
            return Err(Refusal::NotAllowed { needed: Role::Operator });
        }
        let hash = proposal.hash();
        if hash.hex() != shown {
            let detail = format!("shown {}, now {}", shown.get(..8).unwrap_or(shown), hash.short());
            return Err(Refusal::PlanChanged { detail });
        }
        if let Some(reason) = &proposal.blocked {
            return Err(Refusal::NotNow { reason: reason.clone() });
        }
        if now > proposal.expires {
            let reason =
                format!("{} expired {} ago; wait for a new proposal", proposal.id, now - proposal.expires);
            return Err(Refusal::NotNow { reason });
        }
        Ok(Self { proposal: proposal.id, hash, actor: actor.name.clone(), at: now })
    }

    /// The proposal.
    pub fn proposal(&self) -> ProposalId {
        self.proposal
    }

    /// Hash of the plan that was confirmed.
    pub fn hash(&self) -> PlanHash {
        self.hash
    }

    /// Who confirmed it.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// When.
    pub fn at(&self) -> Timestamp {
        self.at
    }
}
