//! Evacuating a master of a real Redis Cluster, against `redis-cli --cluster reshard` moving the
//! same slots with the same data between nodes of the same cluster in the same run.
//!
//! `cargo bench --bench redis_evacuation` moves 100 MB three times; `FORESHIFT_BENCH_MB=1024` moves
//! 1 GB, `FORESHIFT_BENCH_PAIRS=5` five times, `FORESHIFT_BENCH_DATA=mixed` strings of three sizes,
//! hashes, sets, sorted sets, lists and times to live instead of strings of 1 kB.
//!
//! A pair is one evacuation and one reshard, every second pair the other way round. What is timed of
//! an evacuation is everything that the driver does, from `Prepare` to the last `Cleanup`: to the
//! replica that is there (`replica`), and to an empty node, its copy included (`empty`). No canary
//! and no soak: their length is what a person wants to watch, not what the move costs. The one wait
//! between two calls of the same action is [`AGAIN`], as the runner's. A client increments 100
//! counters of the shard all the while; its worst operation is reported for each kind of move.
//!
//! Redis holds no second election of a shard within 2 to 4 × `cluster-node-timeout`. A shard is cut here
//! again and again, and after each cut the way back is proved, which is an election that could be held: what
//! is waited for that and for nothing else is told by itself (`election_wait_s`), and is not in `s`.
//!
//! Each move is told on stderr as it ends; prints one JSON object.

#[path = "../tests/support/redis_cluster.rs"]
mod redis_cluster;
#[path = "../tests/support/mod.rs"]
mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use foreshift::drivers::redis::{RedisMover, RedisOptions};
use foreshift::drivers::{Action, Answer, Job, Mover, Permit, Retry};
use foreshift::fleet::{Epoch, Generation, MigrationId, PartitionId, Timestamp, WorkloadId};
use redis_cluster::{RedisCluster, Writer, keys_of_shard, slot};

const VALUE_BYTES: usize = 1_000;
/// Between two calls of an action that said `Working`.
const AGAIN: Duration = Duration::from_millis(10);
/// What the driver says while Redis would hold no election.
const ELECTION: &str = "until Redis holds another election";
/// Slots of the shard that is moved.
const SLOTS: std::ops::RangeInclusive<u16> = 5461..=10922;

fn partition(cluster: &RedisCluster, node: usize) -> PartitionId {
    let address = cluster.nodes[node].address;
    PartitionId::from(format!("{}/{}", address.ip(), address.port()))
}

/// How long a move took, in seconds.
#[derive(Clone, Copy)]
struct Took {
    /// Without the wait for Redis' next election.
    work: f64,
    election_wait: f64,
}

/// Does everything that a migration does, in order, and says where the seconds go.
async fn evacuate(
    cluster: &RedisCluster,
    mover: &RedisMover,
    migration: u64,
    from: usize,
    to: usize,
) -> Took {
    let job = Job {
        migration: MigrationId(migration),
        workload: WorkloadId::from("bench-5461"),
        source: partition(cluster, from),
        destination: partition(cluster, to),
        generation: Generation(migration),
    };
    let (start, mut elections) = (Instant::now(), Duration::ZERO);
    let mut actions = vec![
        Action::Prepare,
        Action::Replicate,
        Action::Verify,
        Action::Fence { deadline: Timestamp(i64::MAX) },
        Action::VerifyAtCut,
        Action::Commit,
        Action::Open,
        Action::EnableReverse,
        Action::Retire,
    ];
    actions.extend(
        mover.artifacts(&job, &Action::Prepare).into_iter().map(|artifact| Action::Cleanup { artifact }),
    );
    for action in actions {
        let step = Instant::now();
        let evidence = loop {
            let call = Instant::now();
            let mut waits_for_election = false;
            match mover.perform(&job, &action, &Permit::mint_for_runner(Epoch(1), "bench")).await {
                Ok(Answer::Done(evidence)) => break evidence,
                Ok(Answer::Working { waiting_for }) => waits_for_election = waiting_for.contains(ELECTION),
                Err(error) if error.retry == Retry::Retryable && step.elapsed() < Duration::from_secs(60) => {
                    eprintln!("again: {error}");
                }
                Err(error) => panic!("{}: {error}", action.name()),
            }
            tokio::time::sleep(AGAIN).await;
            if waits_for_election {
                elections += call.elapsed();
            }
        };
        assert_ne!(evidence.equal, Some(false), "{evidence:?}");
        eprintln!("{:>9.3} s {:<16} {}", step.elapsed().as_secs_f64(), action.name(), evidence.summary);
    }
    let election_wait = elections.as_secs_f64();
    Took { work: start.elapsed().as_secs_f64() - election_wait, election_wait }
}

/// Fills the shard through node 1; returns the number of keys.
fn fill(cluster: &RedisCluster, megabytes: usize, mixed: bool) -> usize {
    let keys = if mixed { megabytes * 1_000 } else { megabytes * 1_000_000 / VALUE_BYTES };
    let mut connection = cluster.nodes[1].connect();
    let text = "v".repeat(40_000);
    let names = (0..).map(|i| format!("key:{i}")).filter(|k| SLOTS.contains(&slot(k.as_bytes()))).take(keys);
    let mut pipe = redis::pipe();
    for (i, key) in names.enumerate() {
        let tail = format!("{i:020}");
        let value = |len: usize| format!("{}{tail}", &text[..len - tail.len()]);
        match if mixed { i % 10 } else { 10 } {
            0 => {
                for field in 0..10 {
                    pipe.cmd("HSET").arg(&key).arg(format!("f{field}")).arg(value(90)).ignore();
                }
            }
            1 => {
                let members: Vec<String> = (0..10).map(|n| format!("{n}{tail}")).collect();
                pipe.cmd("SADD").arg(&key).arg(members).ignore();
            }
            2 => {
                for n in 0..10 {
                    pipe.cmd("ZADD").arg(&key).arg(n).arg(format!("{n}{tail}")).ignore();
                }
            }
            3 => {
                let items: Vec<String> = (0..10).map(|_| value(90)).collect();
                pipe.cmd("RPUSH").arg(&key).arg(items).ignore();
            }
            4 => {
                pipe.cmd("SET").arg(&key).arg(value(100)).arg("PX").arg(86_400_000 + i).ignore();
            }
            // One in a hundred is large.
            5 if i % 100 == 5 => {
                pipe.cmd("SET").arg(&key).arg(value(40_000)).ignore();
            }
            5..=9 => {
                pipe.cmd("SET").arg(&key).arg(value(200)).ignore();
            }
            _ => {
                pipe.cmd("SET").arg(&key).arg(value(VALUE_BYTES)).ignore();
            }
        }
        if pipe.len() >= 2_000 {
            pipe.exec(&mut connection).expect("data");
            pipe.clear();
        }
    }
    if !pipe.is_empty() {
        pipe.exec(&mut connection).expect("data");
    }
    keys
}

fn reshard(cluster: &RedisCluster, from: usize, to: usize) -> Took {
    let id = |node: usize| cluster.nodes[node].text(&["CLUSTER", "MYID"]);
    let address = cluster.nodes[0].address.to_string();
    support::wait_until("redis-cli finds the cluster in order", Duration::from_secs(30), || {
        let check = Command::new("redis-cli").args(["--cluster", "check", &address]).output();
        check.is_ok_and(|output| output.status.success())
    });
    let start = Instant::now();
    let output = Command::new("redis-cli")
        .args(["--cluster", "reshard", &address, "--cluster-from", &id(from), "--cluster-to", &id(to)])
        .args(["--cluster-slots", "5462", "--cluster-yes"])
        .stdin(Stdio::null())
        .output()
        .expect("redis-cli");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let last: String = said.lines().rev().take(5).collect::<Vec<_>>().join(" / ");
    assert!(output.status.success(), "redis-cli --cluster reshard failed: {last}");
    Took { work: start.elapsed().as_secs_f64(), election_wait: 0.0 }
}

/// Makes `node` an empty master again, whatever it holds; the shard is elsewhere.
fn empty(cluster: &RedisCluster, node: usize) {
    let node = &cluster.nodes[node];
    if node.text(&["INFO", "replication"]).contains("role:master") {
        node.ask(&["FLUSHALL"]);
    }
    node.ask(&["CLUSTER", "RESET", "SOFT"]);
    let first = cluster.nodes[0].address;
    node.ask(&["CLUSTER", "MEET", &first.ip().to_string(), &first.port().to_string()]);
    let id = node.text(&["CLUSTER", "MYID"]);
    support::wait_until("every node knows the emptied one", Duration::from_secs(30), || {
        node.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
            && cluster.nodes.iter().all(|n| {
                n.text(&["CLUSTER", "NODES"]).lines().any(|l| {
                    l.starts_with(&id)
                        && l.contains("master")
                        && !l.contains("handshake")
                        && !l.contains("fail")
                })
            })
    });
}

/// Has `replica` follow `master` and waits until it does.
fn follow(cluster: &RedisCluster, replica: usize, master: usize) {
    let id = cluster.nodes[master].text(&["CLUSTER", "MYID"]);
    cluster.nodes[replica].ask(&["CLUSTER", "REPLICATE", &id]);
    support::wait_until("the replica follows", Duration::from_secs(120), || {
        cluster.nodes[replica].text(&["INFO", "replication"]).contains("master_link_status:up")
    });
}

/// One move under a client that writes: how long it took, and the client's worst operation in milliseconds.
fn under_writes(cluster: &RedisCluster, owner: usize, moving: impl FnOnce() -> Took) -> (Took, f64) {
    let others: Vec<_> = cluster.nodes.iter().map(|n| n.address).collect();
    let writer = Writer::start(cluster.nodes[owner].address, others, keys_of_shard(1, 100, "counter:"));
    let took = moving();
    let (seen, _) = writer.finish();
    let worst = seen.worst.as_secs_f64() * 1000.0;
    eprintln!("{:>9.3} s, {:.3} s for an election, {worst:.1} ms", took.work, took.election_wait);
    (took, worst)
}

/// Nothing may be lost: the shard has all its keys at its new owner, and the counters of the client.
fn all_there(cluster: &RedisCluster, owner: usize, keys: usize) {
    let found: usize = cluster.nodes[owner].text(&["DBSIZE"]).trim().parse().expect("a number");
    assert_eq!(found, keys + 100, "keys at {}", cluster.nodes[owner].address);
}

/// Of one kind of move: how long each took, and worst operations.
#[derive(Default)]
struct Moves {
    seconds: Vec<f64>,
    election_waits: Vec<f64>,
    worst_ms: Vec<f64>,
}

impl Moves {
    fn add(&mut self, (took, worst): (Took, f64)) {
        self.seconds.push(took.work);
        self.election_waits.push(took.election_wait);
        self.worst_ms.push(worst);
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "s": spread(&self.seconds),
            "election_wait_s": spread(&self.election_waits),
            "worst_operation_ms": spread(&self.worst_ms),
        })
    }
}

/// Smallest, median, greatest.
fn spread(values: &[f64]) -> serde_json::Value {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let round = |v: f64| (v * 1000.0).round() / 1000.0;
    match sorted.as_slice() {
        [] => serde_json::Value::Null,
        all => serde_json::json!({
            "min": round(all[0]), "median": round(all[all.len() / 2]), "max": round(all[all.len() - 1]),
        }),
    }
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

fn main() {
    if support::find_program("redis-cli").is_none() {
        return support::skip("needs the program redis-cli");
    }
    let Some(cluster) = RedisCluster::start(1) else { return };
    let megabytes = number("FORESHIFT_BENCH_MB", 100);
    let pairs = number("FORESHIFT_BENCH_PAIRS", 3).max(1);
    let data = std::env::var("FORESHIFT_BENCH_DATA").unwrap_or_else(|_| "strings".into());
    let keys = fill(&cluster, megabytes, data == "mixed");
    let memory = cluster.nodes[1].text(&["INFO", "memory"]);
    let used = memory.lines().find_map(|l| l.strip_prefix("used_memory_dataset:")).unwrap_or_default();
    eprintln!("{keys} keys, {} MB of data", used.trim().parse::<u64>().unwrap_or(0) / 1_000_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mover = RedisMover::new(RedisOptions::new("bench", cluster.seeds()));
    let (mut to_replica, mut to_empty, mut resharded) =
        (Moves::default(), Moves::default(), Moves::default());
    // Node 1 owns the shard, node 4 is its replica, node 6 is empty.
    let mut migration = 0;
    let mut evacuation = |from: usize, to: usize, moves: &mut Moves| {
        migration += 1;
        let moving = || runtime.block_on(evacuate(&cluster, &mover, migration, from, to));
        moves.add(under_writes(&cluster, from, moving));
        all_there(&cluster, to, keys);
    };
    for pair in 0..pairs {
        for step in 0..2 {
            if (pair + step) % 2 == 0 {
                eprintln!("pair {pair}: to the replica");
                evacuation(1, 4, &mut to_replica);
                eprintln!("pair {pair}: to an empty node");
                evacuation(4, 6, &mut to_empty);
                // As it was: through the copies that are there by now.
                follow(&cluster, 1, 6);
                evacuation(6, 1, &mut Moves::default());
                empty(&cluster, 6);
                follow(&cluster, 4, 1);
            } else {
                // Neither side has a replica: the reshard pays for no stream.
                empty(&cluster, 4);
                eprintln!("pair {pair}: reshard");
                resharded.add(under_writes(&cluster, 1, || reshard(&cluster, 1, 6)));
                all_there(&cluster, 6, keys);
                // A master that lost its last slot follows the one that took it.
                follow(&cluster, 1, 6);
                evacuation(6, 1, &mut Moves::default());
                empty(&cluster, 6);
                follow(&cluster, 4, 1);
            }
        }
    }
    let ratios = |moves: &Moves| -> Vec<f64> {
        resharded.seconds.iter().zip(&moves.seconds).map(|(theirs, ours)| theirs / ours).collect()
    };
    println!(
        "{}",
        serde_json::json!({
            "megabytes": megabytes, "keys": keys, "data": data, "pairs": pairs,
            "to_replica": to_replica.json(), "to_empty_node": to_empty.json(), "reshard": resharded.json(),
            "ratio_replica": spread(&ratios(&to_replica)), "ratio_empty_node": spread(&ratios(&to_empty)),
        })
    );
}
