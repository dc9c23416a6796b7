//! Where engines are killed: a system with a workload, a client that writes, and what has to hold when
//! everything is over.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use crate::mortal::{Blow, Errand, Mortal, Person, Place, System};
use crate::postgres::{self, Clusters, PASSWORD, schema};
use crate::redis_cluster::{self, RedisCluster, keys_of_shard};
use crate::support::wait_until;
use crate::trouble::Trouble;

const ENGINE: &str = "the_engine_in_a_process_of_its_own";
/// One engine's way to the end of a move.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than writes are held at a cut, and than a failover may take.
const FROZEN: Duration = Duration::from_millis(2_500);

/// What does not come to pass on this system, and why.
pub const UNREACHABLE_ON_REDIS: [(&str, &str); 5] = [
    ("ReverseArmed", "nothing can be proved before the cut: the phase is passed over"),
    ("ProbeReverse", "the same"),
    ROUTE,
    SOURCE_LOST,
    STUCK,
];
/// The same.
pub const UNREACHABLE_ON_POSTGRES: [(&str, &str); 6] = [
    ROUTE,
    SOURCE_LOST,
    STUCK,
    ("(Commit)", "nobody votes: the owner record is the truth, and changes in one transaction"),
    ("Call(Committing, Status)", "the same: nobody is asked who owns it"),
    ("Call(RollingBackPost, Status)", "the same"),
];

const ROUTE: (&str, &str) = ("Route)", "no router stands before a system with data");
const SOURCE_LOST: (&str, &str) = ("SourceLost", "the servers live; tests/*_driver.rs kill them");
const STUCK: (&str, &str) = ("(Stuck", "every probe is answered; tests/tcp_faults.rs keeps answers back");

/// What a client saw during one round.
pub struct Written {
    /// Acknowledged.
    pub acknowledged: u64,
    /// The answer was lost.
    pub unknown: u64,
}

/// A system with a workload.
pub trait Ground {
    /// A client that writes.
    type Client;
    /// As the engine knows it.
    fn system(&self) -> System;
    /// Who owns the workload, as soon as it is certain.
    async fn owner(&self) -> Result<String, String>;
    /// Where it is to go in this round.
    async fn other(&mut self, round: u64, owner: &str) -> String;
    /// Starts a client.
    fn write(&self, owner: &str) -> Self::Client;
    /// Ends it.
    async fn written(&self, client: Self::Client) -> Written;
    /// How many writes are there.
    async fn count(&self, owner: &str) -> u64;
    /// What is left of migrations.
    async fn left(&self) -> Vec<String>;
}

/// How a move goes but for engines that are stopped.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What a person does.
    pub person: Person,
    /// What goes otherwise than usual.
    pub trouble: Trouble,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.trouble == Trouble::NONE {
            true => write!(f, "{:?}", self.person),
            false => write!(f, "{:?} with {}", self.person, self.trouble.words()),
        }
    }
}

/// One blow.
#[derive(Clone, Debug)]
pub struct Stroke {
    /// Where.
    pub place: Place,
    /// How.
    pub blow: Blow,
}

/// A moment that an engine came to.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// What of the registry it is.
    pub occasions: Vec<String>,
}

/// What came of a round.
#[derive(Debug)]
pub struct Ended {
    /// Where engines were stopped.
    pub struck: Vec<Told>,
    /// What each engine came to, one after another.
    pub told: Vec<Vec<Told>>,
    /// How the migration ended; `None` = it was never begun.
    pub end: Option<String>,
}

/// A ground with a journal.
pub struct Site<G> {
    ground: G,
    folder: tempfile::TempDir,
    rounds: u64,
    moved: u64,
    longest: Duration,
    acknowledged: u64,
    stores: u32,
}

impl<G: Ground> Site<G> {
    /// A new journal.
    pub fn new(ground: G) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { ground, folder, rounds: 0, moved: 0, longest: Duration::ZERO, acknowledged: 0, stores: 0 }
    }

    /// In words.
    pub fn summary(&self) -> String {
        format!(
            "{} rounds, {} of them moved the workload, longest {:?}, {} writes acknowledged, 0 lost",
            self.rounds, self.moved, self.longest, self.acknowledged
        )
    }

    fn store(&self) -> std::path::PathBuf {
        self.folder.path().join(format!("state{}.redb", self.stores))
    }

    /// Moves the workload once, with each engine stopped as `strokes` say, one after another; the one
    /// after the last is left alone.
    ///
    /// # Errors
    /// What does not hold at the end.
    pub async fn round(&mut self, scenario: Scenario, strokes: &[Stroke]) -> Result<Ended, String> {
        self.rounds += 1;
        let start = Instant::now();
        let from = self.ground.owner().await?;
        let to = self.ground.other(self.rounds, &from).await;
        let before = self.ground.count(&from).await;
        let client = self.ground.write(&from);
        let _ = std::fs::remove_file(self.folder.path().join("differed"));
        let played = self.play(scenario, strokes, (&from, &to)).await;
        let written = self.ground.written(client).await;
        let doing = format!("round {}, {scenario}, {strokes:?}, {from} → {to}", self.rounds);
        let (ended, log) = played.map_err(|e| format!("{doing}: {e}"))?;
        let fail = |what: String| Err(format!("{doing}: {what}\n{ended:?}\n{log}"));
        let owner = match self.ground.owner().await {
            Ok(owner) => owner,
            Err(error) => return fail(error),
        };
        let moved = owner == to;
        if moved != (ended.end.as_deref() == Some("done")) || (!moved && owner != from) {
            return fail(format!("it ended as {:?}, and {owner} owns it", ended.end));
        }
        let left = self.ground.left().await;
        if !left.is_empty() {
            return fail(format!("left behind: {left:?}"));
        }
        let there = self.ground.count(&owner).await - before;
        if !(written.acknowledged..=written.acknowledged + written.unknown).contains(&there) {
            let Written { acknowledged, unknown } = written;
            return fail(format!("{acknowledged} acknowledged, {unknown} unknown, {there} are there"));
        }
        self.acknowledged += written.acknowledged;
        self.moved += u64::from(moved);
        self.longest = self.longest.max(start.elapsed());
        let at: Vec<&str> = ended.struck.iter().map(|t| t.name.as_str()).collect();
        let end = ended.end.as_deref().unwrap_or("never begun");
        let how = strokes.first().map_or("left alone", |s| match s.blow {
            Blow::Kill => "killed",
            Blow::Freeze => "frozen",
        });
        println!(
            "{:>4} {:>5.1} s  {scenario} {how} {}: {end}, {there} writes",
            self.rounds,
            start.elapsed().as_secs_f64(),
            at.join(", then ")
        );
        Ok(ended)
    }

    async fn play(
        &self,
        scenario: Scenario,
        strokes: &[Stroke],
        (from, to): (&str, &str),
    ) -> Result<(Ended, String), String> {
        let mut told = Vec::new();
        let (mut struck, mut log) = (Vec::new(), String::new());
        for number in 0..=strokes.len() {
            let stroke = strokes.get(number);
            let errand = Errand {
                store: self.store(),
                system: self.ground.system(),
                from: from.to_string(),
                to: (number == 0).then(|| to.to_string()),
                proposal: self.rounds,
                person: scenario.person,
                trouble: scenario.trouble,
                differed: self.folder.path().join("differed"),
                at: stroke.map(|s| (s.place.clone(), s.blow)),
                told: self.folder.path().join("told"),
            };
            let mut engine = Mortal::start(ENGINE, errand, self.folder.path());
            struck.extend(self.frozen(&mut engine, stroke)?);
            let status = engine.wait(PATIENCE)?;
            let lines = engine.told();
            let end = lines.iter().rev().find_map(|l| l.strip_prefix("end ")).map(str::to_string);
            let came: Vec<Told> = lines.iter().filter_map(|line| read(line)).collect();
            log.push_str(&format!("--- engine {number}:\n{}", engine.log()));
            match (status.success(), status.signal()) {
                (false, Some(9)) if stroke.is_some() => {
                    struck.extend(came.last().cloned());
                    told.push(came);
                }
                (true, _) => {
                    told.push(came);
                    return Ok((Ended { struck, told, end }, log));
                }
                _ => return Err(format!("the engine ended with {status}:\n{log}")),
            }
        }
        Err("the last engine was killed by somebody else".to_string())
    }

    /// Lets a frozen engine stand for a while.
    fn frozen(&self, engine: &mut Mortal, stroke: Option<&Stroke>) -> Result<Option<Told>, String> {
        if stroke.is_none_or(|s| s.blow != Blow::Freeze) {
            return Ok(None);
        }
        let start = Instant::now();
        while !engine.is_frozen() {
            if engine.has_ended() {
                return Ok(None);
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("the engine neither froze nor ended:\n{}", engine.log()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let place = engine.told().last().and_then(|line| read(line));
        std::thread::sleep(FROZEN);
        engine.thaw();
        Ok(place)
    }

    /// After something went wrong: what is left is ended with a new journal.
    pub async fn heal(&mut self) {
        self.stores += 1;
    }

    /// The journals' chains are whole.
    pub async fn finish(&self) {
        use foreshift::cli::journal::{JournalArgs, What, run};
        for n in 0..=self.stores {
            let store = self.folder.path().join(format!("state{n}.redb"));
            let mut out = Vec::new();
            let args = JournalArgs { what: What::Verify { migration: None }, store: Some(store) };
            run(&args, &mut out).expect("a journal");
            let said = String::from_utf8_lossy(&out).into_owned();
            assert!(said.contains(" 0 broken"), "{said}");
            println!("{}", said.lines().last().unwrap_or_default());
        }
    }
}

fn read(line: &str) -> Option<Told> {
    let (name, occasions) = line.split_once('\t')?;
    Some(Told { name: name.to_string(), occasions: occasions.split(';').map(str::to_string).collect() })
}

/// A Redis Cluster whose first shard goes from node to node: to a replica that was there, and to a node
/// that stood empty.
pub struct RedisGround {
    cluster: RedisCluster,
    keys: Vec<String>,
}

const SPARE: usize = 6;
/// Redis elects a node once in 4 × cluster-node-timeout, so there are more nodes than two.
const OF_SHARD: [usize; 7] = [0, 3, SPARE, 7, 8, 9, 10];

impl RedisGround {
    /// Starts it; `None` where there is no Redis.
    pub fn start() -> Option<Self> {
        let cluster = RedisCluster::start(OF_SHARD.len() as u8 - 2)?;
        // A way back is proved when the old master can be elected again: 4 × this, and 4 s at the least.
        for node in &cluster.nodes {
            node.ask(&["CONFIG", "SET", "cluster-node-timeout", "1000"]);
        }
        Some(Self { cluster, keys: keys_of_shard(0, 40, "kill") })
    }

    fn node(&self, address: &str) -> usize {
        self.cluster.nodes.iter().position(|n| n.address.to_string() == address).expect("a node")
    }

    fn is_replica(&self, node: usize) -> bool {
        self.cluster.nodes[node].text(&["INFO", "replication"]).contains("role:slave")
    }

    /// Makes the spare node one that stands empty, in the eyes of all.
    fn empty_the_spare(&self) {
        let spare = &self.cluster.nodes[SPARE];
        if self.is_replica(SPARE) {
            spare.ask(&["CLUSTER", "RESET", "SOFT"]);
            let first = self.cluster.nodes[1].address;
            spare.ask(&["CLUSTER", "MEET", &first.ip().to_string(), &first.port().to_string()]);
        }
        let name = format!(" {}@", spare.address);
        wait_until("all nodes know the spare as empty", Duration::from_secs(30), || {
            self.cluster.nodes.iter().all(|n| {
                let text = n.text(&["CLUSTER", "NODES"]);
                text.lines().count() == self.cluster.nodes.len()
                    && text.lines().any(|l| l.contains(&name) && l.contains("master"))
                    && n.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
            })
        });
    }
}

impl Ground for RedisGround {
    type Client = redis_cluster::Writer;

    fn system(&self) -> System {
        System::Redis { seeds: self.cluster.seeds() }
    }

    async fn owner(&self) -> Result<String, String> {
        let start = Instant::now();
        loop {
            let named: Vec<_> = (0..self.cluster.nodes.len()).map(|n| self.cluster.owner(0, n)).collect();
            if let Some(owner) = named[0].filter(|_| named.iter().all(|o| *o == named[0])) {
                return Ok(self.cluster.nodes[owner].address.to_string());
            }
            if start.elapsed() > Duration::from_secs(20) {
                return Err(format!("the nodes do not agree who owns the shard: {named:?}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn other(&mut self, round: u64, owner: &str) -> String {
        let owner = self.node(owner);
        // A copy from the beginning takes longer, so not every time.
        let others: Vec<usize> = OF_SHARD.into_iter().filter(|n| *n != owner).collect();
        let fresh = owner != SPARE && round.is_multiple_of(3);
        let to = if fresh { SPARE } else { others[round as usize % others.len()] };
        if to == SPARE && (fresh || !self.is_replica(SPARE)) {
            self.empty_the_spare();
        } else if self.is_replica(to) {
            wait_until("the destination follows", Duration::from_secs(30), || {
                self.cluster.nodes[to].text(&["INFO", "replication"]).contains("master_link_status:up")
            });
        }
        self.cluster.nodes[to].address.to_string()
    }

    fn write(&self, owner: &str) -> Self::Client {
        let at = self.cluster.nodes[self.node(owner)].address;
        let others = self.cluster.nodes.iter().map(|n| n.address).filter(|a| *a != at).collect();
        redis_cluster::Writer::start(at, others, self.keys.clone())
    }

    async fn written(&self, client: Self::Client) -> Written {
        let (seen, _) = tokio::task::block_in_place(|| client.finish());
        Written { acknowledged: seen.acknowledged, unknown: seen.unknown }
    }

    async fn count(&self, owner: &str) -> u64 {
        let mut connection = self.cluster.nodes[self.node(owner)].connect();
        let texts = self.keys.iter().map(|key| redis_cluster::ask(&mut connection, &["GET", key]));
        texts.filter_map(|v| redis::from_redis_value::<Option<u64>>(v).ok().flatten()).sum()
    }

    async fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for node in &self.cluster.nodes {
            let set: Vec<String> =
                ["proc-title-template", "cluster-allow-replica-migration", "repl-diskless-load"]
                    .iter()
                    .flat_map(|name| {
                        redis::from_redis_value::<Vec<String>>(node.ask(&["CONFIG", "GET", name]))
                            .unwrap_or_default()
                    })
                    .collect();
            if set.join(" ").contains("fs_")
                || !set.contains(&"yes".to_string())
                || !set.contains(&"disabled".to_string())
            {
                left.push(format!("{}: {set:?}", node.address));
            }
        }
        match self.system().mover().leaks().await {
            Ok(leaks) => left.extend(leaks.iter().map(|l| format!("{l:?}"))),
            Err(error) => left.push(error.to_string()),
        }
        left
    }
}

/// Two PostgreSQL clusters between which a schema goes to and fro.
pub struct PostgresGround {
    clusters: Clusters,
}

impl PostgresGround {
    /// Starts it; `None` where there is no PostgreSQL.
    pub async fn start() -> Option<Self> {
        let clusters = Clusters::start(2)?;
        clusters.all[0].ask(&schema(300)).await;
        Some(Self { clusters })
    }

    fn cluster(&self, address: &str) -> &postgres::Cluster {
        self.clusters.all.iter().find(|c| c.address.to_string() == address).expect("a cluster")
    }

    /// Where the schema takes writes by the marks of both; `None` while it is held.
    async fn owners(&self) -> Option<Vec<String>> {
        let mut owners = Vec::new();
        for cluster in &self.clusters.all {
            let known = cluster.text("SELECT to_regclass('foreshift.owner') IS NOT NULL").await == "t";
            let mode = match known {
                true => cluster.text("SELECT mode FROM foreshift.owner WHERE workload = 'shop-orders'").await,
                false => String::new(),
            };
            let there = cluster.text("SELECT to_regclass('orders.log') IS NOT NULL").await == "t";
            match mode.as_str() {
                "fenced" => return None,
                "writable" => owners.push(cluster.address.to_string()),
                "" if there => owners.push(cluster.address.to_string()),
                _ => {}
            }
        }
        Some(owners)
    }
}

impl Ground for PostgresGround {
    type Client = postgres::Writer;

    fn system(&self) -> System {
        System::Postgres {
            clusters: self.clusters.addresses(),
            database: postgres::DATABASE.into(),
            password: PASSWORD.into(),
        }
    }

    async fn owner(&self) -> Result<String, String> {
        let start = Instant::now();
        loop {
            let owners = self.owners().await;
            if let Some([owner]) = owners.as_deref() {
                return Ok(owner.clone());
            }
            if start.elapsed() > Duration::from_secs(20) {
                return Err(format!("the schema has no one owner: {owners:?}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn other(&mut self, _round: u64, owner: &str) -> String {
        self.clusters.addresses().into_iter().find(|a| a != owner).expect("another one")
    }

    fn write(&self, owner: &str) -> Self::Client {
        let mut addresses: Vec<_> = self.clusters.all.iter().map(|c| c.address).collect();
        addresses.sort_by_key(|a| a.to_string() != owner);
        postgres::Writer::start(addresses)
    }

    async fn written(&self, client: Self::Client) -> Written {
        let seen = tokio::task::block_in_place(|| client.finish());
        Written { acknowledged: seen.acknowledged, unknown: seen.unknown }
    }

    async fn count(&self, owner: &str) -> u64 {
        let cluster = self.cluster(owner);
        let sum = cluster.text("SELECT sum(n) FROM orders.counters").await;
        let lines = cluster.text("SELECT count(*) FROM orders.log").await;
        assert_eq!(sum, lines, "a counter and its line are written as one");
        sum.parse().expect("a number")
    }

    async fn left(&self) -> Vec<String> {
        self.clusters.left().await
    }
}
