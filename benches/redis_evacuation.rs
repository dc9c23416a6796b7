//! Evacuating a master of a real Redis Cluster, against `redis-cli --cluster reshard` moving the
//! same slots with the same data on the same nodes in the same run.
//!
//! `cargo bench --bench redis_evacuation` moves 100 MB; `FORESHIFT_BENCH_MB=1024` moves 1 GB. Prints
//! one line of JSON: seconds of the evacuation to the replica that is there already, of the one to
//! an empty node (copy included), of the reshard, and the ratios.

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

fn partition(cluster: &RedisCluster, node: usize) -> PartitionId {
    let address = cluster.nodes[node].address;
    PartitionId::from(format!("{}/{}", address.ip(), address.port()))
}

/// Does everything that a migration does, in order; returns seconds in all, and says where they go.
async fn evacuate(cluster: &RedisCluster, mover: &RedisMover, migration: u64, from: usize, to: usize) -> f64 {
    let job = Job {
        migration: MigrationId(migration),
        workload: WorkloadId::from("bench-5461"),
        source: partition(cluster, from),
        destination: partition(cluster, to),
        generation: Generation(migration),
    };
    let start = Instant::now();
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
            match mover.perform(&job, &action, &Permit::mint_for_runner(Epoch(1), "bench")).await {
                Ok(Answer::Done(evidence)) => break evidence,
                Ok(Answer::Working { .. }) => {}
                Err(error) if error.retry == Retry::Retryable && step.elapsed() < Duration::from_secs(60) => {
                    eprintln!("again: {error}");
                }
                Err(error) => panic!("{}: {error}", action.name()),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert_ne!(evidence.equal, Some(false), "{evidence:?}");
        eprintln!("{:>9.3} s {:<16} {}", step.elapsed().as_secs_f64(), action.name(), evidence.summary);
    }
    start.elapsed().as_secs_f64()
}

fn fill(cluster: &RedisCluster, megabytes: usize) -> usize {
    let keys = megabytes * 1_000_000 / VALUE_BYTES;
    let mut connection = cluster.nodes[1].connect();
    let value = "v".repeat(VALUE_BYTES - 20);
    let mut names =
        (0..).map(|i| format!("key:{i}")).filter(|k| (5461..=10922).contains(&slot(k.as_bytes())));
    let mut left = keys;
    while left > 0 {
        let mut pipe = redis::pipe();
        for (i, key) in names.by_ref().take(left.min(2_000)).enumerate() {
            pipe.cmd("SET").arg(key).arg(format!("{value}{i:020}")).ignore();
        }
        pipe.exec(&mut connection).expect("data");
        left -= left.min(2_000);
    }
    keys
}

fn reshard(cluster: &RedisCluster, from: usize, to: usize) -> f64 {
    let id = |node: usize| cluster.nodes[node].text(&["CLUSTER", "MYID"]);
    let address = cluster.nodes[0].address.to_string();
    let start = Instant::now();
    let status = Command::new("redis-cli")
        .args(["--cluster", "reshard", &address, "--cluster-from", &id(from), "--cluster-to", &id(to)])
        .args(["--cluster-slots", "5462", "--cluster-yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("redis-cli");
    assert!(status.success(), "redis-cli --cluster reshard failed");
    start.elapsed().as_secs_f64()
}

fn main() {
    if support::find_program("redis-cli").is_none() {
        return support::skip("needs the program redis-cli");
    }
    let Some(cluster) = RedisCluster::start(2) else { return };
    let megabytes = std::env::var("FORESHIFT_BENCH_MB").ok().and_then(|v| v.parse().ok()).unwrap_or(100);
    let keys = fill(&cluster, megabytes);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mover = RedisMover::new(RedisOptions::new("bench", cluster.seeds()));
    let others: Vec<_> = cluster.nodes.iter().map(|n| n.address).collect();
    let writer = Writer::start(cluster.nodes[1].address, others, keys_of_shard(1, 100, "counter:"));
    let to_replica = runtime.block_on(evacuate(&cluster, &mover, 1, 1, 4));
    let to_empty = runtime.block_on(evacuate(&cluster, &mover, 2, 4, 6));
    let (seen, _) = writer.finish();
    let resharded = reshard(&cluster, 6, 7);
    println!(
        "{{\"megabytes\":{megabytes},\"keys\":{keys},\"to_replica_s\":{to_replica:.2},\"to_empty_node_s\":{to_empty:.2},\"reshard_s\":{resharded:.2},\"ratio_replica\":{:.1},\"ratio_empty_node\":{:.1},\"worst_operation_ms\":{:.1}}}",
        resharded / to_replica,
        resharded / to_empty,
        seen.worst.as_secs_f64() * 1000.0
    );
}
