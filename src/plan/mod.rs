//! Risk → proposals. Pure: the same input gives the same proposals, in the same order. What-if is
//! the same call on a changed copy.

mod candidates;
mod destinations;
pub mod disruption;
pub mod footprint;
pub mod input;
pub mod limits;
pub mod options;
mod outlook;
pub mod proposal;
pub mod propose;
mod storm;
pub mod survival;
pub mod threshold;
mod vetoes;
pub mod why;
mod world;

pub use input::{Ended, Hold, PlanAlert, PlanInput, PlanOutput, Ranked, Request, Running};
pub use options::{
    Apart, CandidateRules, ClassPolicy, DestinationRules, Limits, Places, PlanOptions, Preferred,
    PreferredUnavailable, StateRule, StormBrake,
};
pub use outlook::look_again;
pub use proposal::{CanaryPlan, CanaryStep, Move, Outlook, PlanHash, Proposal, Rejected, Trigger};
pub use propose::propose;
pub use vetoes::Vetoes;
pub use why::why;

#[cfg(test)]
mod design_tests;
#[cfg(test)]
mod destination_tests;
#[cfg(test)]
mod outlook_tests;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod test_scene;
