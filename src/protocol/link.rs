//! The one seam between consoles (and the API) and an engine: embedded or remote, the same code
//! runs over it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::command::{Actor, Command, Refusal, Reply};
use super::snapshot::Snapshot;

/// The port. The embedded engine implements it over channels, `protocol::client` over HTTP.
#[async_trait]
pub trait Link: Send + Sync {
    /// The newest snapshot, and a wake-up for every newer one.
    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>>;

    /// Asks for something; answers within two seconds or refuses.
    ///
    /// # Errors
    /// Why it was not done.
    async fn send(&self, actor: Actor, command: Command) -> Result<Reply, Refusal>;
}
