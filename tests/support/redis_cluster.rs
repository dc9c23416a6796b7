//! A real Redis Cluster: three masters with a replica each, every node on a loopback address of its
//! own, so that each counts as a host. Nodes can be killed, started again, and looked into.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::io::{Read, Seek, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use foreshift::fleet::PartitionId;
use redis::{Connection, ConnectionLike, Value, cmd};

use crate::support::{Server, free_port, need_program, wait_until};

/// One node.
pub struct Node {
    /// Where it listens.
    pub address: SocketAddr,
    folder: PathBuf,
    server: Option<Server>,
}

/// The cluster; dropped, its nodes are killed and their folders removed.
pub struct RedisCluster {
    /// Nodes 0 to 2 begin as masters, 3 to 5 as their replicas; a seventh and so on stand empty.
    pub nodes: Vec<Node>,
    program: PathBuf,
    _folder: tempfile::TempDir,
}

impl Node {
    /// A new connection that answers reads of a replica itself.
    pub fn connect(&self) -> Connection {
        connect(self.address)
    }

    /// Asks it one thing.
    pub fn ask(&self, words: &[&str]) -> Value {
        ask(&mut self.connect(), words)
    }

    /// Its answer as text.
    pub fn text(&self, words: &[&str]) -> String {
        redis::from_redis_value(self.ask(words)).unwrap_or_default()
    }

    /// The process id, to measure it.
    pub fn process(&self) -> Option<u32> {
        self.server.as_ref().map(Server::id)
    }
}

/// A connection to a node.
pub fn connect(address: SocketAddr) -> Connection {
    let client = redis::Client::open(format!("redis://{address}")).expect("a client");
    let mut connection = client.get_connection_with_timeout(Duration::from_secs(2)).expect("a connection");
    connection.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let _ = connection.req_command(&cmd("READONLY"));
    connection
}

/// One command, whose failure ends the test.
pub fn ask(connection: &mut Connection, words: &[&str]) -> Value {
    let mut command = cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    connection
        .req_command(&command)
        .and_then(Value::extract_error)
        .unwrap_or_else(|e| panic!("{words:?}: {e}"))
}

impl RedisCluster {
    /// Starts six nodes, and `spare` empty ones; `None` where there is no `redis-server`.
    pub fn start(spare: u8) -> Option<Self> {
        Some(Self::started(need_program("redis-server")?, spare))
    }

    /// The same with that server program.
    pub fn started(program: PathBuf, spare: u8) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        // The bus port is 10,000 above; keep it in range.
        let port = if port > 55_000 { port - 20_000 } else { port };
        let mut nodes = Vec::new();
        for i in 1..=6 + spare {
            let address = SocketAddr::from(([127, 0, 0, i], port));
            let folder = folder.path().join(format!("node{i}"));
            std::fs::create_dir(&folder).expect("a folder");
            let server = Some(start_node(&program, address, &folder));
            nodes.push(Node { address, folder, server });
        }
        let cluster = Self { nodes, program, _folder: folder };
        cluster.form();
        cluster
    }

    /// Introduces the nodes, gives out the slots, attaches the replicas, and waits until everybody
    /// knows. `cluster_state:ok` comes before replicas attach: three nodes must report `slave`.
    fn form(&self) {
        for (i, node) in self.nodes.iter().enumerate() {
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()]);
            let first = self.nodes[0].address;
            if i > 0 {
                node.ask(&["CLUSTER", "MEET", &first.ip().to_string(), &first.port().to_string()]);
            }
        }
        for (node, (from, to)) in self.nodes.iter().zip([(0, 5460), (5461, 10922), (10923, 16383)]) {
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
        }
        let all = self.nodes.len();
        wait_until("all nodes know each other", Duration::from_secs(20), || {
            self.nodes.iter().all(|n| {
                let text = n.text(&["CLUSTER", "NODES"]);
                text.lines().count() == all && !text.contains("handshake")
            })
        });
        for i in 0..3 {
            let master = self.nodes[i].text(&["CLUSTER", "MYID"]);
            self.nodes[i + 3].ask(&["CLUSTER", "REPLICATE", &master]);
        }
        wait_until("every replica follows and every node knows", Duration::from_secs(30), || {
            self.nodes.iter().all(|n| {
                let text = n.text(&["CLUSTER", "NODES"]);
                text.matches("slave").count() == 3
                    && n.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
            }) && self.nodes[3..6]
                .iter()
                .all(|n| n.text(&["INFO", "replication"]).contains("master_link_status:up"))
        });
    }

    /// Addresses of all nodes, as seeds.
    pub fn seeds(&self) -> Vec<String> {
        self.nodes.iter().map(|n| n.address.to_string()).collect()
    }

    /// The partition that a node is.
    pub fn partition(&self, node: usize) -> PartitionId {
        let address = self.nodes[node].address;
        PartitionId::from(format!("{}/{}", address.ip(), address.port()))
    }

    /// `kill -9` of a node.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].server = None;
    }

    /// Stops a node for a while, or lets it go on: `STOP`, `CONT`.
    pub fn signal(&self, node: usize, signal: &str) {
        if let Some(server) = &self.nodes[node].server {
            server.signal(signal);
        }
    }

    /// Saves a node's data and ends it; returns the file.
    pub fn save_and_stop(&mut self, node: usize) -> PathBuf {
        let node = &mut self.nodes[node];
        node.ask(&["SAVE"]);
        node.server = None;
        node.folder.join("dump.rdb")
    }

    /// Starts a node again with the data it has on disk.
    pub fn restart(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.server = Some(start_node(&self.program, node.address, &node.folder));
    }

    /// The index of the node that owns a slot in the eyes of node `asked`.
    pub fn owner(&self, slot: u16, asked: usize) -> Option<usize> {
        let text = self.nodes[asked].text(&["CLUSTER", "NODES"]);
        let line = text.lines().find(|line| ranges_of(line).any(|range| range.contains(&slot)))?;
        self.nodes.iter().position(|n| line.contains(&format!(" {}@", n.address)))
    }
}

/// The slots that a line of `CLUSTER NODES` says its node owns.
pub fn ranges_of(line: &str) -> impl Iterator<Item = RangeInclusive<u16>> + '_ {
    line.split_ascii_whitespace().skip(8).filter_map(|field| {
        let (first, last) = field.split_once('-').unwrap_or((field, field));
        Some(first.parse().ok()?..=last.parse().ok()?)
    })
}

fn start_node(program: &Path, address: SocketAddr, folder: &Path) -> Server {
    let mut command = Command::new(program);
    command.current_dir(folder).args(["--port", &address.port().to_string()]);
    command.args(["--bind", &address.ip().to_string()]).arg("--dir").arg(folder);
    // A node learns its neighbours' addresses from where they call from.
    command.args(["--cluster-announce-ip", &address.ip().to_string()]);
    command.args(["--bind-source-addr", &address.ip().to_string()]);
    for setting in [
        "cluster-enabled yes",
        "cluster-config-file nodes.conf",
        "cluster-node-timeout 2000",
        "cluster-require-full-coverage no",
        "appendonly no",
        "rdbchecksum no",
        "rdbcompression no",
        "repl-diskless-sync-delay 0",
        "repl-backlog-size 64mb",
        "protected-mode no",
    ] {
        let (name, value) = setting.split_once(' ').expect("a name and a value");
        command.args([&format!("--{name}"), value]);
    }
    // No snapshots in the background.
    command.args(["--save", ""]);
    let name = format!("redis-{}", address.ip());
    Server::start_listening(&name, command, folder, address, Duration::from_secs(20))
}

/// What a client saw that incremented counters all the while.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Increments that were acknowledged.
    pub acknowledged: u64,
    /// Increments whose answer was lost: done or not.
    pub unknown: u64,
    /// The longest time from asking to an acknowledgement, redirections included.
    pub worst: Duration,
    /// The longest time that threads beside it waited meanwhile for what nothing kept back but the machine: a round
    /// trip, or the disk, on which a node keeps the owners of slots before it serves them.
    pub beside: Duration,
}

impl Seen {
    /// Whether nothing was kept back for longer than `limit`, or, where the machine itself stood still, four times as
    /// long as it did for others.
    pub fn is_within(&self, limit: Duration) -> bool {
        self.worst < limit.max(self.beside * 4)
    }
}

/// The longest time that `wait` takes, again and again until told to stop.
fn longest(stop: &AtomicBool, mut wait: impl FnMut()) -> Duration {
    let mut worst = Duration::ZERO;
    while !stop.load(SeqCst) {
        let start = Instant::now();
        wait();
        worst = worst.max(start.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    worst
}

/// A round trip over loopback between two threads that do nothing else.
fn round_trip() -> impl FnMut() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut asks = TcpStream::connect(listener.local_addr().expect("an address")).expect("a way");
    let (mut answers, _) = listener.accept().expect("a way");
    asks.set_nodelay(true).and_then(|()| answers.set_nodelay(true)).expect("a setting");
    std::thread::spawn(move || {
        let mut byte = [0];
        while answers.read_exact(&mut byte).and_then(|()| answers.write_all(&byte)).is_ok() {}
    });
    move || {
        let mut byte = [0];
        asks.write_all(&byte).and_then(|()| asks.read_exact(&mut byte)).expect("an answer");
    }
}

/// A few bytes that are on the disk when it returns, where nodes have their files.
fn write_through() -> impl FnMut() {
    let mut file = tempfile::tempfile().expect("a file");
    move || {
        file.rewind()
            .and_then(|()| file.write_all(&[0; 512]))
            .and_then(|()| file.sync_all())
            .expect("a disk");
    }
}

/// A client that increments `keys` counters in turn until told to stop, following redirections.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Seen>>,
    keys: Vec<String>,
}

impl Writer {
    /// Starts incrementing; the keys are made by the caller and live in one shard.
    pub fn start(owner: SocketAddr, others: Vec<SocketAddr>, keys: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, counted) = (stop.clone(), keys.clone());
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                let trips = scope.spawn(|| longest(&stopped, round_trip()));
                let disk = scope.spawn(|| longest(&stopped, write_through()));
                let seen = write(owner, &others, &counted, &stopped);
                let beside = trips.join().expect("round trips").max(disk.join().expect("a disk"));
                Seen { beside, ..seen }
            })
        });
        Self { stop, thread: Some(thread), keys }
    }

    /// Stops, and says what was seen.
    pub fn finish(mut self) -> (Seen, Vec<String>) {
        self.stop.store(true, SeqCst);
        let seen = self.thread.take().expect("a thread").join().expect("the writer did not panic");
        (seen, std::mem::take(&mut self.keys))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
    }
}

fn write(owner: SocketAddr, others: &[SocketAddr], keys: &[String], stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    // As every cluster client: connections to all nodes are open beforehand.
    let open = |address: SocketAddr| {
        let client = redis::Client::open(format!("redis://{address}")).ok()?;
        let connection = client.get_connection_with_timeout(Duration::from_millis(200)).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        Some(connection)
    };
    let mut connections: std::collections::HashMap<SocketAddr, Connection> =
        others.iter().chain([&owner]).filter_map(|a| Some((*a, open(*a)?))).collect();
    let (mut at, mut next) = (owner, 0);
    // The next command is for a slot that only comes there: as Redis wants it, said beforehand.
    let mut asking = false;
    while !stop.load(SeqCst) {
        let key = &keys[next % keys.len()];
        let start = Instant::now();
        while !stop.load(SeqCst) {
            if let std::collections::hash_map::Entry::Vacant(entry) = connections.entry(at) {
                match open(at) {
                    Some(connection) => {
                        entry.insert(connection);
                    }
                    None => {
                        at = others[next % others.len()];
                        next += 1;
                        continue;
                    }
                }
            }
            let connection = connections.get_mut(&at).expect("just opened");
            if std::mem::take(&mut asking) {
                let _ = connection.req_command(&cmd("ASKING"));
            }
            match connection.req_command(cmd("INCR").arg(key)).and_then(Value::extract_error) {
                Ok(Value::Int(_)) => {
                    seen.acknowledged += 1;
                    seen.worst = seen.worst.max(start.elapsed());
                    break;
                }
                Ok(other) => panic!("INCR answered {other:?}"),
                Err(error) => match error.redirect_node().and_then(|(a, _)| a.parse().ok()) {
                    Some(address) => {
                        asking = error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::Ask);
                        at = address;
                    }
                    None if error.code().is_some() && !error.is_io_error() => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    None => {
                        seen.unknown += 1;
                        connections.remove(&at);
                        at = others[next % others.len()];
                        next += 1;
                    }
                },
            }
        }
        next += 1;
        std::thread::sleep(Duration::from_micros(50));
    }
    seen
}

/// Keys that live in the slots of the first, second or third master, `n` of them.
pub fn keys_of_shard(shard: usize, n: usize, prefix: &str) -> Vec<String> {
    let ranges = [(0, 5460), (5461, 10922), (10923, 16383)];
    let (from, to) = ranges[shard];
    (0..)
        .map(|i| format!("{prefix}{i}"))
        .filter(|k| (from..=to).contains(&slot(k.as_bytes())))
        .take(n)
        .collect()
}

/// The slot of a key without a hash tag.
pub fn slot(key: &[u8]) -> u16 {
    let crc = key.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 }
        })
    });
    crc % 16_384
}
