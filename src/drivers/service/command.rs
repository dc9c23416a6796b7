//! One command on one host: run to its end or its deadline, with what it said.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::drivers::error::{DriverError, Retry};
use crate::fleet::Span;

/// What is kept of what a command says.
const KEPT: usize = 4096;
/// What a command started may hold its output open for ever; so long is read on after its end.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// How a command ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) said: String,
    pub(super) complained: String,
}

impl Ended {
    /// Exit status and last line, for people.
    pub(super) fn words(&self) -> String {
        let heard = if self.complained.trim().is_empty() { &self.said } else { &self.complained };
        let last = heard.trim().lines().last().unwrap_or("it said nothing");
        format!("{}: {last}", self.status)
    }
}

/// Runs `words` with `names` in the environment, in a process group of its own: what it starts lives on
/// when we end.
///
/// # Errors
/// Permanent where the program can't be started, `late` where it takes longer than `limit`.
pub(super) async fn run(
    words: &[String],
    names: &[(&str, &str)],
    limit: Span,
    late: Retry,
) -> Result<Ended, DriverError> {
    let shown = words.join(" ");
    let failed = |retry: Retry, detail: String| DriverError::new(retry, "service", shown.clone(), detail);
    let [program, arguments @ ..] = words else {
        return Err(failed(Retry::Permanent, "expected a program, got nothing".into()));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .envs(names.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(Retry::Permanent, format!("{program} cannot be started: {e}")))?;
    let said = child.stdout.take().map(hear);
    let complained = child.stderr.take().map(hear);
    match tokio::time::timeout(limit.to_std(), child.wait()).await {
        Ok(Ok(status)) => Ok(Ended { status, said: heard(said).await, complained: heard(complained).await }),
        Ok(Err(error)) => Err(failed(Retry::Unknown, error.to_string())),
        Err(_) => Err(failed(late, format!("no end within {limit}; it was killed"))),
    }
}

/// Text that is still being heard.
struct Ear {
    kept: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn hear(mut from: impl AsyncRead + Unpin + Send + 'static) -> Ear {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let into = kept.clone();
    let task = tokio::spawn(async move {
        let mut part = [0; 1024];
        while let Ok(n @ 1..) = from.read(&mut part).await {
            if let Ok(mut kept) = into.lock() {
                let room = KEPT.saturating_sub(kept.len());
                kept.extend_from_slice(&part[..n.min(room)]);
            }
        }
    });
    Ear { kept, task }
}

async fn heard(ear: Option<Ear>) -> String {
    let Some(mut ear) = ear else { return String::new() };
    let _ = tokio::time::timeout(LAST_WORDS, &mut ear.task).await;
    ear.kept.lock().map(|kept| String::from_utf8_lossy(&kept).into_owned()).unwrap_or_default()
}
