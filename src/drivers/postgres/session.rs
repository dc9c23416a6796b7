//! Connections to the clusters. Every statement has a deadline on both sides: the server gives it up
//! first, so that its answer is certain; where even the server is silent, nobody knows, and the
//! connection is thrown away.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, Socket};

use super::options::PostgresOptions;
use super::tls::Tls;
use crate::drivers::error::{DriverError, Retry};
use crate::fleet::Span;

/// How much longer than the server the client waits.
const GRACE: Duration = Duration::from_millis(500);
/// Connections that are kept to one cluster.
const KEPT: usize = 8;

/// The ways to all clusters.
pub(super) struct Clusters {
    config: Config,
    tls_ca: Option<PathBuf>,
    connect_timeout: Duration,
    command_timeout: Duration,
    idle: Mutex<HashMap<String, Vec<Client>>>,
}

/// One row of an answer, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line(Vec<Option<String>>);

impl Line {
    /// The text of a column; empty where it is null.
    pub(super) fn text(&self, column: usize) -> &str {
        self.0.get(column).and_then(Option::as_deref).unwrap_or_default()
    }

    /// The number in a column; 0 where there is none.
    pub(super) fn number(&self, column: usize) -> i64 {
        self.text(column).parse().unwrap_or(0)
    }

    /// Whether a column is true.
    pub(super) fn yes(&self, column: usize) -> bool {
        self.text(column) == "t"
    }

    /// All columns from one on; null is empty.
    pub(super) fn rest(&self, from: usize) -> Vec<String> {
        self.0.iter().skip(from).map(|c| c.clone().unwrap_or_default()).collect()
    }
}

/// One connection, taken from the idle ones and given back when it is dropped at rest.
pub(super) struct Session {
    client: Option<Client>,
    pub(super) address: String,
    clusters: Arc<Clusters>,
    /// A statement is under way, or its end is not known.
    busy: AtomicBool,
    /// It is not for others, whatever comes of what is asked of it.
    spent: AtomicBool,
}

/// How an address is named in errors.
pub(super) fn system(address: &str) -> String {
    format!("postgres {address}")
}

/// A name in SQL.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL (`standard_conforming_strings` is on in our sessions).
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

impl Clusters {
    pub(super) fn new(options: &PostgresOptions) -> Self {
        let mut config = Config::new();
        config.user(&options.username).dbname(&options.database).application_name("foreshift");
        if let Some(password) = &options.password {
            config.password(password);
        }
        let timeout = options.command_timeout.0.max(50);
        config.options(format!(
            "-c statement_timeout={timeout} -c idle_in_transaction_session_timeout=60000 \
             -c search_path=pg_catalog -c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres \
             -c extra_float_digits=3 -c bytea_output=hex -c standard_conforming_strings=on \
             -c client_min_messages=error -c default_transaction_isolation=read\\ committed \
             -c default_transaction_read_only=off -c synchronous_commit=on"
        ));
        Self {
            config,
            tls_ca: options.tls_ca.clone(),
            connect_timeout: options.connect_timeout.to_std(),
            command_timeout: options.command_timeout.to_std(),
            idle: Mutex::default(),
        }
    }

    /// A connection to a cluster.
    pub(super) async fn session(self: &Arc<Self>, address: &str) -> Result<Session, DriverError> {
        let kept = self.idle.lock().ok().and_then(|mut idle| idle.get_mut(address)?.pop());
        let client = match kept.filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.connect(address).await?,
        };
        Ok(Session {
            client: Some(client),
            address: address.to_string(),
            clusters: self.clone(),
            busy: AtomicBool::new(false),
            spent: AtomicBool::new(false),
        })
    }

    /// Ends every connection that nobody uses now.
    pub(super) fn leave(&self) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.clear();
        }
    }

    async fn connect(&self, address: &str) -> Result<Client, DriverError> {
        let fail = |retry, detail: String| DriverError::new(retry, system(address), "connect", detail);
        let (host, port) = address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
            .ok_or_else(|| fail(Retry::Permanent, "expected an address with its port".into()))?;
        let mut config = self.config.clone();
        config.host(host.trim_start_matches('[').trim_end_matches(']')).port(port);
        let dialling = async {
            match &self.tls_ca {
                None => dial(&config, NoTls).await.map_err(Ok),
                Some(file) => {
                    config.ssl_mode(SslMode::Require);
                    let tls = Tls::trusting(file).map_err(Err)?;
                    dial(&config, tls).await.map_err(Ok)
                }
            }
        };
        let dialled = tokio::time::timeout(self.connect_timeout, dialling).await;
        dialled.map_err(|_| fail(Retry::Retryable, "no answer in time; is the server up?".into()))?.map_err(
            |error| {
                let error = match error {
                    Ok(error) => error,
                    Err(file) => return fail(Retry::Permanent, file),
                };
                let said = words(&error);
                // Nothing was asked for yet; a refused login does not get better by itself.
                match error.code() {
                    Some(code) if code.code().starts_with("28") || code.code().starts_with("3D") => {
                        fail(Retry::Permanent, said)
                    }
                    _ => fail(Retry::Retryable, said),
                }
            },
        )
    }
}

/// Connects, and lets the connection run until its client is dropped.
pub(super) async fn dial<T>(config: &Config, tls: T) -> Result<Client, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    let (client, connection) = config.connect(tls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to PostgreSQL ended");
        }
    });
    Ok(client)
}

impl Session {
    /// Sends statements as one transaction (or one statement that cannot be in one) and returns all
    /// rows of all answers.
    pub(super) async fn ask(&self, doing: &str, sql: &str) -> Result<Vec<Line>, DriverError> {
        self.ask_within(doing, sql, self.clusters.command_timeout).await
    }

    /// The same for statements that read or copy much; `limit` bounds each at the server.
    pub(super) async fn ask_long(
        &self,
        doing: &str,
        sql: &str,
        limit: Span,
    ) -> Result<Vec<Line>, DriverError> {
        let sql = format!("SET LOCAL statement_timeout = {}; {sql}", limit.0.max(1));
        self.ask_within(doing, &sql, limit.to_std()).await
    }

    /// The same for a statement that cannot be in a transaction with others, like those on a whole database. The
    /// connection is not given back.
    pub(super) async fn ask_alone(
        &self,
        doing: &str,
        sql: &str,
        limit: Span,
    ) -> Result<Vec<Line>, DriverError> {
        self.ask(doing, &format!("SET statement_timeout = {}", limit.0.max(1))).await?;
        let answer = self.ask_within(doing, sql, limit.to_std()).await;
        self.throw_away();
        answer
    }

    /// The same, where it may be that a table or schema is not there: then `None`.
    pub(super) async fn ask_if_there(
        &self,
        doing: &str,
        sql: &str,
    ) -> Result<Option<Vec<Line>>, DriverError> {
        match self.send(doing, sql, self.clusters.command_timeout).await {
            Ok(lines) => Ok(Some(lines)),
            Err((_, Some(code)))
                if code == SqlState::UNDEFINED_TABLE || code == SqlState::INVALID_SCHEMA_NAME =>
            {
                Ok(None)
            }
            Err((error, _)) => Err(error),
        }
    }

    async fn ask_within(&self, doing: &str, sql: &str, limit: Duration) -> Result<Vec<Line>, DriverError> {
        self.send(doing, sql, limit).await.map_err(|(error, _)| error)
    }

    async fn send(
        &self,
        doing: &str,
        sql: &str,
        limit: Duration,
    ) -> Result<Vec<Line>, (DriverError, Option<SqlState>)> {
        let Some(client) = &self.client else { return Ok(Vec::new()) };
        self.busy.store(true, Ordering::Release);
        let answer = tokio::time::timeout(limit + GRACE, client.simple_query(sql)).await;
        let fail = |retry, detail: String| DriverError::new(retry, system(&self.address), doing, detail);
        let answer = answer
            .map_err(|_| (fail(Retry::Unknown, format!("no answer within {:?}", limit + GRACE)), None))?;
        if answer.is_ok() || answer.as_ref().is_err_and(|e| e.as_db_error().is_some()) {
            self.busy.store(false, Ordering::Release);
        }
        let messages =
            answer.map_err(|error| (fail(meaning(&error), words(&error)), error.code().cloned()))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some(Line((0..row.len()).map(|i| row.get(i).map(str::to_string)).collect()))
                }
                _ => None,
            })
            .collect())
    }

    /// The one row that was asked for.
    pub(super) async fn one(&self, doing: &str, sql: &str) -> Result<Line, DriverError> {
        let mut lines = self.ask(doing, sql).await?;
        lines.pop().ok_or_else(|| {
            DriverError::new(Retry::Permanent, system(&self.address), doing, "the answer was empty")
        })
    }

    /// Does not give the connection back: its settings were changed, or it would be in the way.
    pub(super) fn throw_away(&self) {
        self.spent.store(true, Ordering::Release);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let [busy, spent] = [&self.busy, &self.spent].map(|flag| flag.load(Ordering::Acquire));
        if busy || spent || client.is_closed() {
            return;
        }
        if let Ok(mut idle) = self.clusters.idle.lock() {
            let kept = idle.entry(self.address.clone()).or_default();
            if kept.len() < KEPT {
                kept.push(client);
            }
        }
    }
}

/// What the server said, with its hint; never what was sent.
pub(super) fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => {
            let mut words = said.message().to_string();
            for more in [said.detail(), said.hint()].into_iter().flatten() {
                words.push_str("; ");
                words.push_str(more);
            }
            words
        }
        None => {
            let mut words = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(deeper) = cause {
                words.push_str(": ");
                words.push_str(&deeper.to_string());
                cause = deeper.source();
            }
            words
        }
    }
}

/// An answer of the server means that the transaction was rolled back; without one nobody knows.
pub(super) fn meaning(error: &tokio_postgres::Error) -> Retry {
    let Some(code) = error.code() else { return Retry::Unknown };
    let again = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
        SqlState::OBJECT_IN_USE,
        SqlState::UNIQUE_VIOLATION,
        SqlState::INTERNAL_ERROR,
    ];
    let class = code.code().get(..2).unwrap_or_default();
    // 08 connection, 40 conflict, 53 resources, 57P shutting down or starting.
    if again.contains(code) || matches!(class, "08" | "40" | "53") || code.code().starts_with("57P") {
        Retry::Retryable
    } else {
        Retry::Permanent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
    }
}
