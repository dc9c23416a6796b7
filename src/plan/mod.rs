//! Risk → proposals. Pure: the same input gives the same proposals, in the same order. What-if is
//! the same call on a changed copy.

pub mod proposal;

pub use proposal::{CanaryPlan, CanaryStep, Move, Outlook, PlanHash, Proposal, Rejected, Trigger};
