//! PgBouncer in front of the clusters: at the cut its clients wait some milliseconds instead of being refused,
//! and go on at the new owner. `PAUSE` goes before the hold, with a deadline; then, once the owner has changed
//! (or has not), the database's line leads to it, `RELOAD`, read back, `RESUME`.
//!
//! A connection to the console carries one command at a time, and none after one that was not answered: a
//! `PAUSE` that waits keeps its connection for itself, and is given up from another one.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::bouncer_file::{self, Leads};
use super::options::{BouncerOptions, PostgresOptions};
use super::session::{dial, ident, meaning, words};
use super::tls::Tls;
use crate::drivers::error::{DriverError, Retry};
use crate::fleet::PartitionId;

/// How long the console may take for a command that does not wait for clients.
const COMMAND: Duration = Duration::from_secs(2);
/// Between two looks at what a pause still waits for.
const LOOK: Duration = Duration::from_millis(2);
/// Who waits when a pause is over is served, or being logged in for, within this time.
const AT_ONCE: Duration = Duration::from_millis(15);
/// How long a PgBouncer waits after a login that failed.
const RETRY: &str = "server_login_retry";

/// One database of one PgBouncer.
pub(super) struct Bouncer {
    pub(super) options: BouncerOptions,
    config: Result<Config, String>,
    connect: Duration,
    command: Duration,
    /// A connection at rest.
    idle: Mutex<Option<Client>>,
}

/// What the console says of the database.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Pool {
    leads: Leads,
    paused: bool,
}

/// What the pools of the database have under way.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Busy {
    /// Connections to the server that a client holds.
    held: u64,
    /// Of them by clients that hold them until they leave.
    for_good: u64,
    /// Connections that are logged in at the server just now.
    logins: u64,
    /// Connections that are free.
    free: u64,
    /// Clients that wait for one.
    waiting: u64,
}

impl Bouncer {
    pub(super) fn new(options: BouncerOptions, of: &PostgresOptions) -> Self {
        let config = match options.admin.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some((host, Ok(port))) => {
                let mut config = Config::new();
                config.host(host.trim_start_matches('[').trim_end_matches(']')).port(port);
                config.user(&options.username).dbname("pgbouncer").application_name("foreshift");
                if let Some(password) = &options.password {
                    config.password(password);
                }
                Ok(config)
            }
            _ => Err("expected its address with the port".to_string()),
        };
        Self {
            config,
            connect: of.connect_timeout.to_std(),
            command: of.command_timeout.to_std().min(COMMAND),
            idle: Mutex::default(),
            options,
        }
    }

    /// How it is named in errors.
    pub(super) fn system(&self) -> String {
        format!("pgbouncer {}", self.options.admin)
    }

    /// Where it is, for the ledger.
    pub(super) fn partition(&self) -> PartitionId {
        PartitionId::from(self.options.admin.rsplit_once(':').map_or_else(
            || self.options.admin.clone(),
            |(host, port)| format!("{}/{port}", host.trim_start_matches('[').trim_end_matches(']')),
        ))
    }

    fn error(&self, retry: Retry, doing: &str, detail: impl Into<String>) -> DriverError {
        DriverError::new(retry, self.system(), doing, detail)
    }

    async fn connect(&self) -> Result<Client, DriverError> {
        let fail = |retry, detail: String| self.error(retry, "connect", detail);
        let mut config = self.config.clone().map_err(|why| fail(Retry::Permanent, why))?;
        let dialling = async {
            match &self.options.tls_ca {
                None => dial(&config, NoTls).await.map_err(|e| words(&e)),
                Some(file) => {
                    config.ssl_mode(SslMode::Require);
                    dial(&config, Tls::trusting(file)?).await.map_err(|e| words(&e))
                }
            }
        };
        let dialled = tokio::time::timeout(self.connect, dialling).await;
        // It is asked again until it answers: whoever waits behind it must not be forgotten.
        dialled
            .map_err(|_| fail(Retry::Retryable, "no answer in time; is it up?".into()))?
            .map_err(|said| fail(Retry::Retryable, said))
    }

    /// Sends one command on a connection and gives that up where there is no answer in time.
    async fn ask(
        &self,
        client: &Client,
        sql: &str,
        limit: Duration,
    ) -> Result<Vec<SimpleQueryRow>, DriverError> {
        let answer = tokio::time::timeout(limit, client.simple_query(sql)).await;
        let answer = answer.map_err(|_| {
            self.error(Retry::Unknown, sql, format!("no answer within {} ms", limit.as_millis()))
        })?;
        let messages = answer.map_err(|error| match meaning(&error) {
            // What the console refuses today it may do tomorrow: nothing was changed by it.
            Retry::Permanent => self.error(Retry::Retryable, sql, words(&error)),
            retry => self.error(retry, sql, words(&error)),
        })?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// One command on the connection at rest, or on a new one.
    async fn command(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, DriverError> {
        let kept = self.idle.lock().ok().and_then(|mut idle| idle.take());
        if let Some(client) = kept.filter(|client| !client.is_closed()) {
            let answer = self.ask(&client, sql, self.command).await;
            // One that was restarted meanwhile is asked once more; every command can be.
            if answer.is_ok() || !client.is_closed() {
                return self.keep(client, answer);
            }
        }
        let client = self.connect().await?;
        let answer = self.ask(&client, sql, self.command).await;
        self.keep(client, answer)
    }

    /// Keeps a connection whose command was answered.
    fn keep<T>(&self, client: Client, answer: Result<T, DriverError>) -> Result<T, DriverError> {
        if answer.is_ok()
            && let Ok(mut idle) = self.idle.lock()
        {
            *idle = Some(client);
        }
        answer
    }

    async fn pool(&self) -> Result<Pool, DriverError> {
        const SHOW: &str = "SHOW DATABASES";
        let rows = self.command(SHOW).await?;
        let database = self.options.database.as_str();
        let row = rows.iter().find(|row| text(row, "name") == database).ok_or_else(|| {
            self.error(
                Retry::Retryable,
                SHOW,
                format!("it has no database {database}; is its line in a file that it reads?"),
            )
        })?;
        let leads = Leads { host: text(row, "host").to_string(), port: text(row, "port").to_string() };
        Ok(Pool { leads, paused: text(row, "paused") == "1" })
    }

    async fn busy(&self) -> Result<Busy, DriverError> {
        let mut busy = Busy::default();
        let rows = self.command("SHOW POOLS").await?;
        for row in rows.iter().filter(|row| text(row, "database") == self.options.database) {
            let count = |column| text(row, column).parse::<u64>().unwrap_or(0);
            let held = count("sv_active") + count("sv_tested");
            busy.held += held;
            busy.logins += count("sv_login");
            busy.free += count("sv_idle") + count("sv_used");
            busy.waiting += count("cl_waiting");
            if text(row, "pool_mode") == "session" {
                busy.for_good += held;
            }
        }
        Ok(busy)
    }

    /// Why a cut from `source` cannot begin, where nobody else has paused it.
    pub(super) async fn waits_for(&self, source: &str) -> Option<String> {
        if self.is_paused().await == Ok(true) {
            return Some(format!(
                "PgBouncer {}: {} is paused there, and not by this move; RESUME it, or `foreshift leaks --remove`",
                self.options.admin, self.options.database
            ));
        }
        self.is_not_ready(source).await
    }

    /// Why its clients could not be led away from `source`; reads only, but that a rewriting of the file is
    /// tried beside it.
    pub(super) async fn is_not_ready(&self, source: &str) -> Option<String> {
        let here = format!("PgBouncer {}", self.options.admin);
        let (database, wanted) = (&self.options.database, Leads::to(source));
        let (pool, busy) = match (self.pool().await, self.busy().await) {
            (Ok(pool), Ok(busy)) => (pool, busy),
            (Err(error), _) | (_, Err(error)) => return Some(format!("an answer of {error}")),
        };
        if pool.leads != wanted {
            let Leads { host, port } = pool.leads;
            return Some(format!("{here} to send {database} to its owner {source}, not to {host}:{port}"));
        }
        if busy.for_good > 0 {
            return Some(format!(
                "{} clients of {here} that hold their connection to {database} until they leave (pool_mode = \
                 session): a PAUSE would wait for all of them; pool_mode = transaction does not",
                busy.for_good
            ));
        }
        match self.file(bouncer_file::try_to_write).await {
            Err(why) => Some(format!("a file of {here} that can be rewritten: {why}")),
            Ok(leads) if leads != wanted => Some(format!(
                "{}: its line of {database} leads to {}:{}, {here} sends it to {source}; RELOAD it, or mend the line",
                self.options.file.display(),
                leads.host,
                leads.port
            )),
            Ok(_) => None,
        }
    }

    async fn file<T: Send + 'static>(
        &self,
        work: impl FnOnce(&std::path::Path, &str) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let (file, database) = (self.options.file.clone(), self.options.database.clone());
        tokio::task::spawn_blocking(move || work(&file, &database)).await.map_err(|e| e.to_string())?
    }

    /// Lets the clients of the database wait, once their transactions under way have ended. Where that takes
    /// too long nobody waits any more.
    pub(super) async fn pause(&self, limit: Duration) -> Result<(), DriverError> {
        let start = Instant::now();
        let left = || limit.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
        let sql = format!("PAUSE {}", ident(&self.options.database));
        let own = self.connect().await?;
        // One that a PAUSE breaks off counts as a failed login: until another succeeds new clients are refused,
        // and none is tried for `server_login_retry`.
        while self.busy().await?.logins > 0 {
            if start.elapsed() > limit / 2 {
                let why =
                    format!("it logs in at the server all the while, for {} ms", start.elapsed().as_millis());
                return Err(self.error(Retry::Retryable, &sql, why));
            }
            tokio::time::sleep(LOOK / 2).await;
        }
        match self.ask(&own, &sql, left()).await {
            // The console answers all that wait at once, whichever database is at rest: it is looked at, too.
            Ok(_) => loop {
                let (pool, busy) = (self.pool().await?, self.busy().await?);
                if !pool.paused {
                    return Err(self.error(Retry::Retryable, &sql, "somebody resumed it meanwhile"));
                }
                if busy.held == 0 {
                    return Ok(());
                }
                if start.elapsed() > limit {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            },
            Err(error) if error.retry != Retry::Unknown => return Err(error),
            Err(_) => {}
        }
        // Who waits for the PAUSE has to leave before it is taken back.
        drop(own);
        let busy = self.busy().await.unwrap_or_default();
        let who = match busy.for_good {
            0 => "their transactions had not ended".to_string(),
            n => format!("{n} of them hold it until they leave (pool_mode = session)"),
        };
        Err(self.error(
            Retry::Retryable,
            &sql,
            format!(
                "given up after {} ms, nothing was held: {} clients held a connection to the server, {who}",
                start.elapsed().as_millis(),
                busy.held
            ),
        ))
    }

    /// Whether its clients wait.
    pub(super) async fn is_paused(&self) -> Result<bool, DriverError> {
        Ok(self.pool().await?.paused)
    }

    /// Whether its clients go on, at `owner`.
    pub(super) async fn serves(&self, owner: &str) -> Result<bool, DriverError> {
        let pool = self.pool().await?;
        Ok(!pool.paused && pool.leads == Leads::to(owner))
    }

    /// Lets the clients go on, wherever they are sent; done again it changes nothing.
    pub(super) async fn resume(&self) -> Result<(), DriverError> {
        let sql = format!("RESUME {}", ident(&self.options.database));
        if !self.pool().await?.paused {
            return Ok(());
        }
        let answer = self.command(&sql).await;
        // Refused where somebody else was quicker.
        if self.pool().await?.paused {
            answer?;
            return Err(self.error(Retry::Retryable, &sql, "it is paused still"));
        }
        self.see_going().await
    }

    /// Sees that who waited is served. A pool whose last login failed, or was broken off by a pause, would let
    /// them wait for `server_login_retry` (15 s by default): then it is told to try at once.
    async fn see_going(&self) -> Result<(), DriverError> {
        let start = Instant::now();
        let mut patience = None;
        let going = loop {
            let busy = self.busy().await?;
            if busy.waiting == 0 || busy.held + busy.free + busy.logins > 0 {
                break Ok(());
            }
            if start.elapsed() > self.command {
                let why = format!("{} clients wait still; does the server let it in?", busy.waiting);
                break Err(self.error(Retry::Retryable, "RESUME", why));
            }
            if patience.is_none() && start.elapsed() > AT_ONCE {
                patience = Some(self.setting(RETRY).await?);
                self.command(&format!("SET {RETRY} = '0'")).await?;
            }
            tokio::time::sleep(LOOK).await;
        };
        if let Some(seconds) = patience {
            self.command(&format!("SET {RETRY} = '{}'", seconds.replace('\'', ""))).await?;
        }
        going
    }

    /// A setting of the whole PgBouncer.
    async fn setting(&self, key: &str) -> Result<String, DriverError> {
        let rows = self.command("SHOW CONFIG").await?;
        let row = rows.iter().find(|row| text(row, "key") == key);
        let row =
            row.ok_or_else(|| self.error(Retry::Retryable, "SHOW CONFIG", format!("it has no {key}")))?;
        Ok(text(row, "value").to_string())
    }

    /// Lets the clients go on at `owner`: the file leads there, the PgBouncer has read it and says so. Done
    /// again it changes nothing.
    pub(super) async fn lead_to(&self, owner: &str, epoch: u64) -> Result<(), DriverError> {
        const DOING: &str = "RELOAD";
        let wanted = Leads::to(owner);
        let leads = wanted.clone();
        let pointed =
            self.file(move |file, database| bouncer_file::point(file, database, &leads, epoch)).await;
        let rewritten = pointed.map_err(|why| {
            let retry = if why.contains("deposed") { Retry::Permanent } else { Retry::Retryable };
            self.error(retry, "rewriting its file", why)
        })?;
        if rewritten || self.pool().await?.leads != wanted {
            self.command(DOING).await?;
            let Leads { host, port } = self.pool().await?.leads;
            if (&host, &port) != (&wanted.host, &wanted.port) {
                let why = format!(
                    "it still sends {} to {host}:{port}; does its configuration %include {}?",
                    self.options.database,
                    self.options.file.display()
                );
                return Err(self.error(Retry::Retryable, DOING, why));
            }
        }
        self.resume().await
    }

    /// Takes away what a rewriting that was broken off left.
    pub(super) fn tidy(&self) {
        bouncer_file::tidy(&self.options.file);
    }
}

fn text<'a>(row: &'a SimpleQueryRow, column: &str) -> &'a str {
    let at = row.columns().iter().position(|c| c.name() == column);
    at.and_then(|at| row.get(at)).unwrap_or_default()
}
