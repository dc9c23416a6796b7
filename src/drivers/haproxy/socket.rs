//! The runtime socket: one command, one connection, text until the end.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::drivers::error::{DriverError, Retry};
use crate::fleet::Span;

/// The most that is read of an answer.
const LONGEST: u64 = 16 << 20;

/// One instance.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) socket: String,
    pub(super) patience: Span,
}

impl Instance {
    /// Sends a command and reads the answer.
    ///
    /// # Errors
    /// Retryable where nothing can have been sent, unknown where the answer was lost.
    pub(super) async fn ask(&self, command: &str) -> Result<String, DriverError> {
        match timeout(self.patience.to_std(), self.exchange(command)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.error(Retry::Unknown, command, format!("no answer within {}", self.patience))),
        }
    }

    /// Sends a command that says nothing when it is done; whatever it says is why it is not.
    pub(super) async fn tell(&self, command: &str) -> Result<(), DriverError> {
        let answer = self.ask(command).await?;
        let said = answer.trim();
        if said.is_empty() {
            return Ok(());
        }
        let hint = if said.contains("static") {
            "; the backend's balance algorithm is static: use a dynamic one (roundrobin, leastconn), or shares of 0 and 1 only"
        } else if said.contains("ermission denied") {
            "; the socket needs `level admin`"
        } else {
            ""
        };
        Err(self.error(Retry::Permanent, command, format!("{said}{hint}")))
    }

    async fn exchange(&self, command: &str) -> Result<String, DriverError> {
        let connect = |e: std::io::Error| {
            self.error(
                Retry::Retryable,
                command,
                format!("connect: {e}; is HAProxy up, with this `stats socket`?"),
            )
        };
        let lost = |e: std::io::Error| self.error(Retry::Unknown, command, e.to_string());
        let line = format!("{command}\n");
        let mut answer = Vec::new();
        if self.socket.starts_with('/') {
            let mut stream = UnixStream::connect(&self.socket).await.map_err(connect)?;
            stream.write_all(line.as_bytes()).await.map_err(lost)?;
            stream.take(LONGEST).read_to_end(&mut answer).await.map_err(lost)?;
        } else {
            let mut stream = TcpStream::connect(&self.socket).await.map_err(connect)?;
            stream.write_all(line.as_bytes()).await.map_err(lost)?;
            stream.take(LONGEST).read_to_end(&mut answer).await.map_err(lost)?;
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    pub(super) fn error(&self, retry: Retry, doing: &str, detail: impl Into<String>) -> DriverError {
        DriverError::new(retry, format!("haproxy {}", self.socket), doing, detail)
    }
}

/// How long to wait before reading back again.
pub(super) const AGAIN: Duration = Duration::from_millis(20);
