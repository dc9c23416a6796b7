//! What crosses a process border: the [`Snapshot`] that consoles read, the [`Command`] that they
//! send, the agent's messages. Plain data that knows only `fleet`.

pub mod agent;
pub mod client;
pub mod command;
pub mod failure;
pub mod intake;
pub mod link;
pub mod moves;
pub mod snapshot;

pub use agent::{AgentMessage, AgentReading, AgentState, PartitionBeat};
pub use command::{Actor, Command, Refusal, Reply, Role};
pub use intake::{Intake, Taken};
pub use link::Link;
pub use moves::*;
pub use snapshot::*;
