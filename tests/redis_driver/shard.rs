//! The second shard of a cluster: its data, its clients, and the steps of its move.

use std::time::Duration;

use foreshift::drivers::redis::{RedisMover, RedisOptions};
use foreshift::drivers::{Action, Evidence, Job, Mover, Permit};
use foreshift::fleet::{Epoch, Generation, MigrationId, Timestamp, WorkloadId};

use crate::redis_cluster::{RedisCluster, Writer, ask, keys_of_shard};
use crate::support;

pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) fn mover(cluster: &RedisCluster) -> RedisMover {
    RedisMover::new(RedisOptions::new("cart", cluster.seeds()))
}

pub(crate) fn permit() -> Permit {
    Permit::mint_for_runner(Epoch(1), "test")
}

/// Moves the second shard (slots 5461 and up) from its master to its replica.
pub(crate) fn job(cluster: &RedisCluster, source: usize, destination: usize) -> Job {
    Job {
        migration: MigrationId(7),
        workload: WorkloadId::from("cart-5461"),
        source: cluster.partition(source),
        destination: cluster.partition(destination),
        generation: Generation(9),
    }
}

/// Asks for an action until it is done.
pub(crate) async fn complete(mover: &RedisMover, job: &Job, action: Action) -> Evidence {
    support::complete(mover, job, &action, &permit(), LONG).await
}

pub(crate) async fn cleanup(mover: &RedisMover, job: &Job) {
    for artifact in mover.artifacts(job, &Action::Prepare) {
        complete(mover, job, Action::Cleanup { artifact }).await;
    }
}

pub(crate) fn fence() -> Action {
    Action::Fence { deadline: Timestamp(i64::MAX) }
}

/// Everything up to the cut.
pub(crate) async fn before_the_cut(mover: &RedisMover, job: &Job) {
    for action in [Action::Announce, Action::Prepare, Action::Replicate] {
        complete(mover, job, action).await;
    }
    let verified = complete(mover, job, Action::Verify).await;
    assert_eq!(verified.equal, Some(true), "{verified:?}");
    complete(mover, job, Action::ArmReverse).await;
    complete(mover, job, Action::ProbeReverse).await;
}

pub(crate) async fn the_cut(mover: &RedisMover, job: &Job) {
    complete(mover, job, fence()).await;
    let verified = complete(mover, job, Action::VerifyAtCut).await;
    assert_eq!(verified.equal, Some(true), "{verified:?}");
    let evidence = complete(mover, job, Action::Commit).await;
    println!("cut: {}", evidence.summary);
    complete(mover, job, Action::Open).await;
    let reverse = complete(mover, job, Action::EnableReverse).await;
    assert_eq!(reverse.equal, Some(true), "{reverse:?}");
}

/// Sum of the counters at whoever owns the shard.
pub(crate) fn sum(cluster: &RedisCluster, owner: usize, keys: &[String]) -> u64 {
    let mut connection = cluster.nodes[owner].connect();
    keys.iter()
        .map(|k| {
            redis::from_redis_value::<Option<u64>>(ask(&mut connection, &["GET", k])).unwrap().unwrap_or(0)
        })
        .sum()
}

pub(crate) fn writer(cluster: &RedisCluster, owner: usize, keys: usize) -> Writer {
    let others = cluster.nodes.iter().map(|n| n.address).collect();
    Writer::start(cluster.nodes[owner].address, others, keys_of_shard(1, keys, "counter:"))
}

/// Some of every type, with and without a time to live, into the second shard.
pub(crate) fn fill(cluster: &RedisCluster, strings: usize) {
    let mut connection = cluster.nodes[1].connect();
    let mut pipe = redis::pipe();
    for (i, key) in keys_of_shard(1, strings, "value:").iter().enumerate() {
        pipe.cmd("SET").arg(key).arg(format!("value {i} of a key")).ignore();
        if i % 10 == 0 {
            pipe.cmd("PEXPIRE").arg(key).arg(3_600_000 + i).ignore();
        }
    }
    for key in keys_of_shard(1, 20, "hash:") {
        for field in 0..30 {
            pipe.cmd("HSET").arg(&key).arg(format!("f{field}")).arg(field).ignore();
        }
    }
    for key in keys_of_shard(1, 20, "set:") {
        pipe.cmd("SADD").arg(&key).arg(&["a", "b", "c", "d"]).ignore();
    }
    for key in keys_of_shard(1, 20, "zset:") {
        pipe.cmd("ZADD").arg(&key).arg(&["1.5", "a", "-2", "b"]).ignore();
    }
    for key in keys_of_shard(1, 20, "list:") {
        pipe.cmd("RPUSH").arg(&key).arg(&["x", "y", "x"]).ignore();
    }
    for key in keys_of_shard(1, 20, "stream:") {
        pipe.cmd("XADD").arg(&key).arg(&["*", "n", "1"]).ignore();
        pipe.cmd("XGROUP").arg(&["CREATE", &key, "readers", "0"]).ignore();
    }
    for key in keys_of_shard(1, 2, "large-hash:") {
        for field in 0..2_500 {
            pipe.cmd("HSET").arg(&key).arg(format!("f{field}")).arg(field).ignore();
        }
    }
    for key in keys_of_shard(1, 2, "large-string:") {
        pipe.cmd("SET").arg(&key).arg("x".repeat(200_000)).ignore();
    }
    pipe.exec(&mut connection).expect("data");
}
