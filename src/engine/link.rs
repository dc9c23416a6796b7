//! The embedded side of the seam: a [`Link`] over channels to the loop. A command that the loop
//! does not answer within two seconds is refused, and says so.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use crate::protocol::{Actor, Command, Link, Refusal, Reply, Snapshot};

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// Commands that may wait for the loop.
const QUEUE: usize = 64;

/// A command on its way to the loop.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub actor: Actor,
    /// What.
    pub command: Command,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Reply, Refusal>>,
}

/// The handle that consoles and the API hold. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EngineLink {
    commands: mpsc::Sender<Asked>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

/// The loop's ends of the channels.
#[derive(Debug)]
pub struct LoopEnds {
    /// What is asked.
    pub commands: mpsc::Receiver<Asked>,
    /// Where snapshots are published.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
}

/// A link and the loop's ends of it.
pub fn pair(first: Snapshot) -> (EngineLink, LoopEnds) {
    let (commands, asked) = mpsc::channel(QUEUE);
    let (publish, snapshots) = watch::channel(Arc::new(first));
    (EngineLink { commands, snapshots }, LoopEnds { commands: asked, snapshots: publish })
}

#[async_trait]
impl Link for EngineLink {
    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    async fn send(&self, actor: Actor, command: Command) -> Result<Reply, Refusal> {
        let unreachable = |detail: &str| Refusal::Unreachable { detail: detail.to_string() };
        let (answer, answered) = oneshot::channel();
        self.commands
            .try_send(Asked { actor, command, answer })
            .map_err(|_| unreachable("it is stopping, or 64 commands wait already"))?;
        match tokio::time::timeout(DEADLINE, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(unreachable("it stopped before it answered")),
            Err(_) => Err(unreachable(
                "no answer within 2 s; the command may still be carried out: look at the audit log",
            )),
        }
    }
}
