//! The running loop: observe → predict → decide → publish, the migrations between the cycles, and
//! the commands of people at any time.

mod alerting;
pub mod audit;
pub mod book;
pub mod brain;
mod commands;
pub mod contest;
mod contest_cycle;
mod contest_own;
pub mod core;
mod decide;
mod drift;
pub mod failures;
pub mod forecasters;
pub mod history;
pub mod intake;
pub mod inventory;
pub mod link;
pub mod live;
mod moves;
pub mod networks;
pub mod observe;
pub mod options;
pub mod orders;
#[cfg(test)]
mod orders_tests;
mod ownership;
pub mod picture;
mod presence;
mod publish;
mod recorded;
pub mod teach;
#[cfg(test)]
mod test_parts;
mod why;
pub mod write_back;

pub use commands::automatic;
pub use contest::Contest;
pub use core::{Core, Parts};
pub use link::EngineLink;
pub use live::{Live, Surroundings};
pub use options::EngineOptions;
