//! Connections to the nodes of a cluster, made when they are needed and thrown away when they
//! break, and the meaning of every failure for the next try.

use std::collections::{HashMap, HashSet};
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo, Pipeline, RedisConnectionInfo,
    RedisError, ServerErrorKind, Value,
};

use super::options::RedisOptions;
use super::view::{Info, View};
use super::wire::Wire;
use crate::drivers::error::{DriverError, Retry};
use crate::fleet::Span;

/// Different kinds of traffic to one node go over different connections, so that nothing long stands
/// before the command that ends a pause. Comparisons have lines of their own ([`super::wire`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Lane {
    /// Questions and changes.
    Control,
    /// Canary reads, whose latency is measured.
    Canary,
}

/// Whether a command may have changed something when its answer is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effect {
    Reads,
    Changes,
}

/// The nodes of one cluster.
pub(super) struct Nodes {
    username: Option<String>,
    password: Option<String>,
    connect_timeout: Span,
    pub(super) command_timeout: Span,
    open: Mutex<HashMap<(String, Lane), MultiplexedConnection>>,
    /// Nodes whose marks are being changed: read and written in two commands, by one move at a time.
    pub(super) marking: Mutex<HashSet<String>>,
    /// Lines for comparisons that nobody uses now.
    idle: Mutex<HashMap<String, Vec<Wire>>>,
}

/// Idle lines that are kept to one node.
const IDLE: usize = 8;

/// A line for comparisons, for as long as this lives.
pub(super) struct Leased<'a> {
    nodes: &'a Nodes,
    wire: Option<Wire>,
}

impl Deref for Leased<'_> {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        self.wire.as_ref().expect("taken in `drop` alone")
    }
}

impl DerefMut for Leased<'_> {
    fn deref_mut(&mut self) -> &mut Wire {
        self.wire.as_mut().expect("taken in `drop` alone")
    }
}

impl Drop for Leased<'_> {
    fn drop(&mut self) {
        let Some(wire) = self.wire.take().filter(Wire::is_clean) else { return };
        if let Ok(mut idle) = self.nodes.idle.lock() {
            let lines = idle.entry(wire.address().to_string()).or_default();
            if lines.len() < IDLE {
                lines.push(wire);
            }
        }
    }
}

impl Nodes {
    pub(super) fn new(options: &RedisOptions) -> Self {
        Self {
            username: options.username.clone(),
            password: options.password.clone(),
            connect_timeout: options.connect_timeout,
            command_timeout: options.command_timeout,
            open: Mutex::default(),
            marking: Mutex::default(),
            idle: Mutex::default(),
        }
    }

    /// A line to a node that nobody else uses, an idle one or a new one.
    pub(super) async fn wire(&self, address: &str) -> Result<Leased<'_>, DriverError> {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.get_mut(address)?.pop());
        let wire = match idle {
            Some(wire) => wire,
            None => {
                let user = self.username.as_deref().unwrap_or("default");
                let login = self.password.as_deref().map(|password| (user, password));
                let (connect, patience) = (self.connect_timeout.to_std(), self.command_timeout.to_std());
                Wire::connect(address, login, connect, patience).await?
            }
        };
        Ok(Leased { nodes: self, wire: Some(wire) })
    }

    /// Throws the idle lines to a node away: one of them was broken, the others will be.
    pub(super) fn drop_wires(&self, address: &str) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.remove(address);
        }
    }

    /// Sends a command that only reads; a broken connection is made anew once.
    pub(super) async fn ask(&self, address: &str, cmd: &Cmd) -> Result<Value, DriverError> {
        match self.send(address, cmd, Effect::Reads).await {
            Err(error) if error.retry == Retry::Retryable => self.send(address, cmd, Effect::Reads).await,
            answer => answer,
        }
    }

    /// Sends a command that changes something, once.
    pub(super) async fn tell(&self, address: &str, cmd: &Cmd) -> Result<Value, DriverError> {
        self.send(address, cmd, Effect::Changes).await
    }

    /// Sends commands that only read in one round trip; failed commands are values in the answer. A
    /// broken connection is made anew once.
    pub(super) async fn ask_many(
        &self,
        address: &str,
        lane: Lane,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, DriverError> {
        match self.try_many(address, lane, pipeline).await {
            Err(error) if error.retry == Retry::Retryable => self.try_many(address, lane, pipeline).await,
            answers => answers,
        }
    }

    async fn try_many(
        &self,
        address: &str,
        lane: Lane,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, DriverError> {
        let mut connection = self.connection(address, lane).await?;
        match connection.req_packed_commands(pipeline, 0, pipeline.len()).await {
            Ok(values) => Ok(values),
            Err(error) => {
                self.forget(address, lane);
                Err(meaning(&error, address, "reading", Effect::Reads))
            }
        }
    }

    /// `CLUSTER NODES` of one node.
    pub(super) async fn view(&self, address: &str) -> Result<View, DriverError> {
        let text = text(self.ask(address, redis::cmd("CLUSTER").arg("NODES")).await?);
        View::parse(&text, address).map_err(|why| {
            DriverError::new(
                Retry::Permanent,
                system(address),
                "CLUSTER NODES",
                format!("{why}; is this a Redis Cluster node of version 7.0 or newer?"),
            )
        })
    }

    /// `INFO all` of one node.
    pub(super) async fn info(&self, address: &str) -> Result<Info, DriverError> {
        Ok(Info::parse(&text(self.ask(address, redis::cmd("INFO").arg("all")).await?)))
    }

    /// `CLUSTER INFO` of one node.
    pub(super) async fn cluster_info(&self, address: &str) -> Result<Info, DriverError> {
        Ok(Info::parse(&text(self.ask(address, redis::cmd("CLUSTER").arg("INFO")).await?)))
    }

    /// Ids of the nodes to and from which a node has had cluster bus lines for a while. A line that
    /// has only just been made may lose what is sent over it.
    pub(super) async fn settled_lines(&self, address: &str) -> Result<HashSet<String>, DriverError> {
        const A_WHILE_MS: i64 = 300;
        let mut ask = redis::pipe();
        ask.cmd("TIME").cmd("CLUSTER").arg("LINKS");
        let answers = self.ask_many(address, Lane::Control, &ask).await?;
        let [Value::Array(time), Value::Array(lines)] = answers.as_slice() else { return Ok(HashSet::new()) };
        let now = time.first().cloned().map(text).and_then(|s| s.parse::<i64>().ok()).unwrap_or(0) * 1000;
        let (mut to, mut from) = (HashSet::new(), HashSet::new());
        for line in lines {
            let fields: Vec<String> = match line {
                Value::Array(fields) => fields.iter().cloned().map(text).collect(),
                Value::Map(pairs) => {
                    pairs.iter().flat_map(|(k, v)| [text(k.clone()), text(v.clone())]).collect()
                }
                _ => continue,
            };
            let field = |name: &str| fields.chunks(2).find(|p| p[0] == name).and_then(|p| p.get(1).cloned());
            let (Some(direction), Some(node), Some(made)) =
                (field("direction"), field("node"), field("create-time"))
            else {
                continue;
            };
            if made.parse::<i64>().is_ok_and(|made| made + A_WHILE_MS <= now) {
                if direction == "to" {
                    to.insert(node)
                } else {
                    from.insert(node)
                };
            }
        }
        Ok(to.intersection(&from).cloned().collect())
    }

    async fn send(&self, address: &str, cmd: &Cmd, effect: Effect) -> Result<Value, DriverError> {
        let mut connection = self.connection(address, Lane::Control).await?;
        let answer = connection.req_packed_command(cmd).await.and_then(Value::extract_error);
        answer.map_err(|error| {
            let failed = meaning(&error, address, &name_of(cmd), effect);
            if !matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) {
                // A connection whose state nobody knows is not used again.
                self.forget(address, Lane::Control);
            }
            failed
        })
    }

    /// The open lines, never held over a wait: a lock of the runtime's can be given to a call that
    /// nobody polls just then, and everybody else waits for ever.
    fn open(&self) -> MutexGuard<'_, HashMap<(String, Lane), MultiplexedConnection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, address: &str, lane: Lane) {
        self.open().remove(&(address.to_string(), lane));
    }

    async fn connection(&self, address: &str, lane: Lane) -> Result<MultiplexedConnection, DriverError> {
        let key = (address.to_string(), lane);
        let open = self.open().get(&key).cloned();
        if let Some(open) = open {
            return Ok(open);
        }
        let connection = self.connect(address).await?;
        self.open().insert(key, connection.clone());
        Ok(connection)
    }

    async fn connect(&self, address: &str) -> Result<MultiplexedConnection, DriverError> {
        let refused = |detail: String| DriverError::new(Retry::Retryable, system(address), "connect", detail);
        let (host, port) = address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host.to_string(), port.parse::<u16>().ok()?)))
            .ok_or_else(|| {
                DriverError::new(
                    Retry::Permanent,
                    system(address),
                    "connect",
                    "expected an address like 10.0.0.1:6379",
                )
            })?;
        let mut login = RedisConnectionInfo::default();
        if let Some(username) = &self.username {
            login = login.set_username(username);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password);
        }
        let info = (host, port)
            .into_connection_info()
            .map_err(|e| refused(e.to_string()))?
            .set_redis_settings(login);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout.to_std()))
            .set_response_timeout(Some(self.command_timeout.to_std()));
        let client = Client::open(info).map_err(|e| refused(e.to_string()))?;
        let mut connection =
            client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| {
                let mut failed = meaning(&error, address, "connect", Effect::Reads);
                failed.detail.push_str("; is the node up and may this machine reach it?");
                failed
            })?;
        // Lets a replica answer reads itself; a master ignores it.
        let hello: redis::RedisResult<()> = redis::pipe()
            .cmd("CLIENT")
            .arg("SETNAME")
            .arg("foreshift")
            .cmd("READONLY")
            .query_async(&mut connection)
            .await;
        hello.map_err(|error| meaning(&error, address, "READONLY", Effect::Reads))?;
        Ok(connection)
    }
}

/// `redis 127.0.0.3:7003`.
pub(super) fn system(address: &str) -> String {
    format!("redis {address}")
}

/// The first words of a command, as people write it.
fn name_of(cmd: &Cmd) -> String {
    let words: Vec<String> = cmd
        .args_iter()
        .take(3)
        .filter_map(|arg| match arg {
            redis::Arg::Simple(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        })
        .collect();
    words.join(" ")
}

/// What an error of the client library means for the next try.
fn meaning(error: &RedisError, address: &str, doing: &str, effect: Effect) -> DriverError {
    let retry = match error.kind() {
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::ReadOnly,
        ) => Retry::Retryable,
        ErrorKind::Extension if error.code() == Some("BUSY") => Retry::Retryable,
        ErrorKind::Server(_)
        | ErrorKind::Extension
        | ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig => Retry::Permanent,
        // Refused before anything was sent; all other trouble of the line may have come after.
        _ if error.is_connection_refusal() => Retry::Retryable,
        _ if effect == Effect::Reads => Retry::Retryable,
        _ => Retry::Unknown,
    };
    DriverError::new(retry, system(address), doing, error.to_string())
}

/// A value's text; empty for what is no text.
pub(super) fn text(value: Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text,
        Value::Okay => "OK".into(),
        Value::Int(n) => n.to_string(),
        _ => String::new(),
    }
}

/// What `ROLE` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It is a master, its replication log ends here.
    Master { offset: u64 },
    /// It is a replica in that state (`connected`, `sync`, `connect`), having applied so much.
    Replica { state: String, offset: i64 },
}

impl Nodes {
    /// What a node says of itself: the cheapest question there is, asked at the cut.
    pub(super) async fn standing(&self, address: &str) -> Result<Standing, DriverError> {
        let answer = self.ask(address, &redis::cmd("ROLE")).await?;
        let odd = || {
            DriverError::new(
                Retry::Permanent,
                system(address),
                "ROLE",
                "the answer is neither a master's nor a replica's",
            )
        };
        let Value::Array(fields) = answer else { return Err(odd()) };
        let number = |i: usize| match fields.get(i) {
            Some(Value::Int(n)) => Some(*n),
            _ => None,
        };
        match fields.first().cloned().map(text).as_deref() {
            Some("master") => {
                Ok(Standing::Master { offset: number(1).unwrap_or_default().max(0).unsigned_abs() })
            }
            Some("slave") => Ok(Standing::Replica {
                state: fields.get(3).cloned().map(text).unwrap_or_default(),
                offset: number(4).unwrap_or(-1),
            }),
            _ => Err(odd()),
        }
    }
}
