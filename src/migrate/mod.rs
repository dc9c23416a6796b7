//! One migration from approval to its end: a pure state machine (`step`, `states/*`), its journal
//! and cleanup ledger, the judge, the limits, and the runner that performs what the machine wants.

pub mod act;
pub mod approval;
mod draft;
pub mod effect;
pub mod error;
pub mod event;
pub mod journal;
pub mod judge;
pub mod ledger;
pub mod limits;
pub mod operator;
pub mod owner;
pub mod pace;
pub mod plan;
mod recovery;
pub mod runner;
pub mod simulation;
pub mod state;
mod states;
pub mod step;
pub mod stored;
pub mod view;

pub use approval::{Approval, Authority};
pub use effect::{Alert, Effect};
pub use error::MigrateError;
pub use event::{Event, EventKind, OperatorCommand};
pub use limits::{Limits, Window};
pub use plan::{Place, Plan, Policy};
pub use runner::{Options, Runner, World};
pub use state::{Progress, State};
pub use step::{Ask, Step, step};
