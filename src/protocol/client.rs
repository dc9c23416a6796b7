//! The remote side of the seam: a [`Link`] over HTTP, with snapshots from server-sent events. It
//! reconnects by itself and says in the snapshot's data line while it cannot.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::command::{Actor, Command, Refusal, Reply};
use super::link::Link;
use super::snapshot::Snapshot;
use crate::fleet::{Clock, Span, SystemClock};

/// Longest wait for an answer to a command.
const COMMAND_DEADLINE: Duration = Duration::from_secs(2);
/// Longest silence of the event stream; the server sends a comment every 5 s.
const STREAM_DEADLINE: Duration = Duration::from_secs(20);
/// Most bytes of one snapshot; more is refused, not kept.
const MOST_BYTES: usize = 256 << 20;

/// A connection to a running engine. Dropping it ends it.
#[derive(Debug)]
pub struct RemoteLink {
    base: String,
    token: Option<String>,
    http: reqwest::Client,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    follower: JoinHandle<()>,
}

impl RemoteLink {
    /// Connects to the engine at `base` (`http://127.0.0.1:7117`) and waits up to five seconds for
    /// its first snapshot.
    ///
    /// # Errors
    /// [`Refusal::Unreachable`] says what was tried and what the network or the engine answered.
    pub async fn connect(base: &str, token: Option<String>) -> Result<Self, Refusal> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(2))
            .build()
            .map_err(|e| unreachable(base, &e))?;
        let base = base.trim_end_matches('/').to_string();
        let mut request = http.get(format!("{base}/api/v1/snapshot")).timeout(Duration::from_secs(5));
        if let Some(token) = &token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|e| unreachable(&base, &e))?;
        if !answer.status().is_success() {
            let status = answer.status();
            return Err(Refusal::Unreachable { detail: format!("{base} answered {status}") });
        }
        let first: Snapshot = answer.json().await.map_err(|e| unreachable(&base, &e))?;
        let (sender, snapshots) = watch::channel(Arc::new(first));
        let follower = tokio::spawn(follow(http.clone(), base.clone(), token.clone(), sender));
        Ok(Self { base, token, http, snapshots, follower })
    }
}

impl Drop for RemoteLink {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

fn unreachable(base: &str, error: &dyn std::error::Error) -> Refusal {
    let mut detail = format!("{base}: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        detail.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    Refusal::Unreachable { detail }
}

/// Follows the event stream for ever, with back-off from 0.5 s to 10 s between tries.
async fn follow(
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    sender: watch::Sender<Arc<Snapshot>>,
) {
    let mut wait = Duration::from_millis(500);
    loop {
        let reason = match stream(&http, &base, token.as_deref(), &sender, &mut wait).await {
            Ok(()) => "the engine closed the stream".to_string(),
            Err(Refusal::Unreachable { detail }) => detail,
            Err(other) => other.to_string(),
        };
        if sender.is_closed() {
            return;
        }
        let retry_at = SystemClock.now() + Span::from(wait);
        sender.send_modify(|snapshot| {
            let mut stale = Snapshot::clone(snapshot);
            stale.data.failing = Some((format!("console cut off from the engine: {reason}"), retry_at));
            *snapshot = Arc::new(stale);
        });
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(10));
    }
}

async fn stream(
    http: &reqwest::Client,
    base: &str,
    token: Option<&str>,
    sender: &watch::Sender<Arc<Snapshot>>,
    wait: &mut Duration,
) -> Result<(), Refusal> {
    let mut request = http.get(format!("{base}/api/v1/events"));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(|e| unreachable(base, &e))?;
    if !answer.status().is_success() {
        return Err(Refusal::Unreachable { detail: format!("{base} answered {}", answer.status()) });
    }
    let mut bytes = answer.bytes_stream();
    let mut buffer = Vec::new();
    loop {
        let chunk = match tokio::time::timeout(STREAM_DEADLINE, bytes.next()).await {
            Err(_) => {
                return Err(Refusal::Unreachable { detail: format!("{base} was silent for 20 s") });
            }
            Ok(None) => return Ok(()),
            Ok(Some(chunk)) => chunk.map_err(|e| unreachable(base, &e))?,
        };
        buffer.extend_from_slice(&chunk);
        if buffer.len() > MOST_BYTES {
            return Err(Refusal::Unreachable { detail: format!("{base} sent an event without end") });
        }
        while let Some(end) = find_event_end(&buffer) {
            let event: Vec<u8> = buffer.drain(..end).collect();
            if let Some(snapshot) = parse_event(&event) {
                *wait = Duration::from_millis(500);
                if sender.send(Arc::new(snapshot)).is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// Length of the first whole event including its blank line.
fn find_event_end(buffer: &[u8]) -> Option<usize> {
    memchr::memmem::find(buffer, b"\n\n").map(|at| at + 2)
}

/// The snapshot of an event; comments and events of other kinds give `None`.
fn parse_event(event: &[u8]) -> Option<Snapshot> {
    let mut data = Vec::new();
    for line in event.split(|b| *b == b'\n') {
        if let Some(rest) = line.strip_prefix(b"data:") {
            data.extend_from_slice(rest.strip_prefix(b" ").unwrap_or(rest));
        }
    }
    if data.is_empty() { None } else { serde_json::from_slice(&data).ok() }
}

#[async_trait]
impl Link for RemoteLink {
    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    async fn send(&self, actor: Actor, command: Command) -> Result<Reply, Refusal> {
        let body = serde_json::json!({ "actor": actor.name, "command": command });
        let mut request =
            self.http.post(format!("{}/api/v1/command", self.base)).timeout(COMMAND_DEADLINE).json(&body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|e| unreachable(&self.base, &e))?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|e| unreachable(&self.base, &e))?;
        if status.is_success() {
            serde_json::from_slice(&bytes).map_err(|e| unreachable(&self.base, &e))
        } else {
            Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| Refusal::Unreachable {
                detail: format!("{} answered {status}", self.base),
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_at_blank_lines_and_comments_are_passed_over() {
        let snapshot = Snapshot { sequence: 7, ..Snapshot::default() };
        let json = serde_json::to_string(&snapshot).unwrap();
        let wire = format!(": still here\n\nevent: snapshot\ndata: {json}\n\n");
        let end = find_event_end(wire.as_bytes()).unwrap();
        assert_eq!(parse_event(&wire.as_bytes()[..end]), None);
        let rest = &wire.as_bytes()[end..];
        assert_eq!(parse_event(&rest[..find_event_end(rest).unwrap()]).unwrap().sequence, 7);
    }
}
