//! The seam through which an agent's messages reach an engine.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::agent::AgentMessage;
use super::command::Refusal;

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Taken {
    /// Readings that were stored; 0 where the message had been taken before.
    pub readings: u64,
    /// Readings that were refused because they are stamped later than now: the host's clock runs ahead.
    #[serde(default)]
    pub from_the_future: u64,
    /// The sequence that the engine expects next from this host.
    pub next_sequence: u64,
}

/// The port. Taking a message twice stores it once.
#[async_trait]
pub trait Intake: Send + Sync {
    /// Takes one message; durable when it answers.
    ///
    /// # Errors
    /// Why it was not taken; the agent keeps it and tries again.
    async fn take(&self, message: AgentMessage) -> Result<Taken, Refusal>;
}
