//! Redis Clusters on which engines are killed: one whose shards move whole, one whose slots move.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::time::{Duration, Instant};

use crate::kill_ground::{Ground, ROUTE, SOURCE_LOST, STUCK, Written};
use crate::mortal::System;
use crate::redis_cluster::{self, RedisCluster, keys_of_shard, slot};
use crate::support::wait_until;

/// What does not come to pass on this system, and why.
pub const UNREACHABLE_ON_REDIS: [(&str, &str); 6] = [
    ("ReverseArmed", "nothing can be proved before the cut: the phase is passed over"),
    ("ProbeReverse", "the same"),
    ("Write(Verifying, CleanupAdd)", "for the same reason nothing is made after it"),
    ROUTE,
    SOURCE_LOST,
    STUCK,
];

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
        sum(&self.cluster, self.node(owner), &self.keys)
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

/// What does not come to pass where slots move, and why.
pub const UNREACHABLE_WITH_SLOTS: [(&str, &str); 10] = [
    ("ReverseArmed", "the way back is the same move again: nothing can be proved before the cut"),
    ("ProbeReverse", "the same"),
    ("Canary", "every key is at one place only: no canary can be had"),
    ("Verifying", "for the same reason nothing is compared: the phase is passed over"),
    ("VerifyAtCut", "the same"),
    ("Verify)", "the same, and after the cut there is no second copy"),
    ("Write(Hold, Intent)", "it stands in SOAKING alone, where nothing is left to be asked for"),
    ROUTE,
    SOURCE_LOST,
    STUCK,
];

/// A Redis Cluster of which a range of slots goes from master to master.
pub struct SlotsGround {
    cluster: RedisCluster,
    keys: Vec<String>,
    /// Keys that nobody writes.
    carried: Vec<String>,
}

/// The range, and slots of it that are asked for.
const RANGE: &str = "0-499";
const LAST: u16 = 499;
const ASKED: [u16; 5] = [0, 125, 250, 375, LAST];

impl SlotsGround {
    /// Starts it; `None` where there is no Redis.
    pub fn start() -> Option<Self> {
        let cluster = RedisCluster::start(0)?;
        let within = |n: usize, prefix: &str| -> Vec<String> {
            let mut keys = keys_of_shard(0, n * 13, prefix);
            keys.retain(|key| slot(key.as_bytes()) <= LAST);
            keys
        };
        let mut keys = within(40, "kill");
        keys.truncate(40);
        // Something to carry, so that a move is not over with its first batch.
        let carried = within(1_000, "carry");
        let mut connection = cluster.nodes[0].connect();
        for key in &carried {
            redis_cluster::ask(&mut connection, &["SET", key, &"x".repeat(200)]);
        }
        // Nor, where the servers copy by themselves, before anybody can be stopped.
        for node in &cluster.nodes {
            node.ask(&["CONFIG", "SET", "rdb-key-save-delay", "200"]);
        }
        Some(Self { cluster, keys, carried })
    }

    fn node(&self, address: &str) -> usize {
        self.cluster.nodes.iter().position(|n| n.address.to_string() == address).expect("a node")
    }
}

impl Ground for SlotsGround {
    type Client = redis_cluster::Writer;

    fn system(&self) -> System {
        System::Slots { seeds: self.cluster.seeds(), range: RANGE.into() }
    }

    async fn owner(&self) -> Result<String, String> {
        let start = Instant::now();
        loop {
            let named: Vec<_> = (0..self.cluster.nodes.len())
                .flat_map(|n| ASKED.map(|slot| self.cluster.owner(slot, n)))
                .collect();
            let texts = self.cluster.nodes.iter().map(|n| n.text(&["CLUSTER", "NODES"]));
            let halves = texts.filter(|text| text.contains("->-") || text.contains("-<-")).count();
            if let Some(owner) = named[0].filter(|_| halves == 0 && named.iter().all(|o| *o == named[0])) {
                return Ok(self.cluster.nodes[owner].address.to_string());
            }
            if start.elapsed() > Duration::from_secs(20) {
                return Err(format!(
                    "the slots have no one owner: {named:?}, {halves} nodes with half moved ones"
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn other(&mut self, round: u64, owner: &str) -> String {
        let owner = self.node(owner);
        let others: Vec<usize> = (0..3).filter(|n| *n != owner).collect();
        self.cluster.nodes[others[round as usize % 2]].address.to_string()
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
        sum(&self.cluster, self.node(owner), &self.keys)
    }

    async fn left(&self) -> Vec<String> {
        let owner = self.cluster.owner(0, 0).expect("an owner");
        let mut connection = self.cluster.nodes[owner].connect();
        let found = |key: &String| {
            redis::from_redis_value::<u64>(redis_cluster::ask(&mut connection, &["STRLEN", key])).ok()
                == Some(200)
        };
        let found = self.carried.iter().map(found).filter(|found| *found).count();
        let gone = (found < self.carried.len())
            .then(|| format!("{found} of {} keys that nobody writes", self.carried.len()));
        let leaks = match self.system().mover().leaks().await {
            Ok(leaks) => leaks.iter().map(|l| format!("{l:?}")).collect(),
            Err(error) => vec![error.to_string()],
        };
        gone.into_iter().chain(leaks).collect()
    }
}

/// The sum of counters at one node.
fn sum(cluster: &RedisCluster, node: usize, keys: &[String]) -> u64 {
    let mut connection = cluster.nodes[node].connect();
    let texts = keys.iter().map(|key| redis_cluster::ask(&mut connection, &["GET", key]));
    texts.filter_map(|v| redis::from_redis_value::<Option<u64>>(v).ok().flatten()).sum()
}
