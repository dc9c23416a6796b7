//! Ranges of slots on their way between masters of a real cluster: the driver, its jobs, and what has to be
//! true of the keys afterwards.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::time::Duration;

use foreshift::drivers::redis::{RedisOptions, RedisSlotMover};
use foreshift::drivers::{Action, Answer, DriverError, Job, Mover, Permit};
use foreshift::fleet::{Epoch, Generation, MigrationId, WorkloadId};

use crate::program::Program;
use crate::redis_cluster::{RedisCluster, Seen, Writer, ask, keys_of_shard, slot};
use crate::support;

/// How long one action may take here.
pub const LONG: Duration = Duration::from_secs(60);

/// The driver of these ranges.
pub fn mover(cluster: &RedisCluster, slots: &[&str]) -> RedisSlotMover {
    let slots: Vec<String> = slots.iter().map(ToString::to_string).collect();
    RedisSlotMover::new(RedisOptions::new("cart", cluster.seeds()), &slots).expect("ranges")
}

/// A permit.
pub fn permit() -> Permit {
    Permit::mint_for_runner(Epoch(1), "test")
}

/// Moves slots 0 to 2730, the first half of the first shard.
pub fn job(cluster: &RedisCluster, source: usize, destination: usize) -> Job {
    Job {
        migration: MigrationId(7),
        workload: WorkloadId::from("cart-0-2730"),
        source: cluster.partition(source),
        destination: cluster.partition(destination),
        generation: Generation(9),
    }
}

/// Asks until the action is done; what it says.
pub async fn complete(mover: &RedisSlotMover, job: &Job, action: Action) -> String {
    support::complete(mover, job, &action, &permit(), LONG).await.summary
}

/// Asks until the action is refused.
pub async fn refused(mover: &RedisSlotMover, job: &Job, action: Action) -> DriverError {
    loop {
        match mover.perform(job, &action, &permit()).await {
            Err(error) => return error,
            Ok(Answer::Working { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            Ok(done) => panic!("{} was done: {done:?}", action.name()),
        }
    }
}

/// Everything that the machine asks for, in its order.
pub async fn moved(mover: &RedisSlotMover, job: &Job) {
    for action in [Action::Announce, Action::Prepare, Action::Replicate, Action::Commit, Action::Open] {
        let summary = complete(mover, job, action.clone()).await;
        println!("{}: {summary}", action.name());
    }
    complete(mover, job, Action::EnableReverse).await;
}

/// Counters in the first shard, within the slots of [`job`].
pub fn counters(n: usize) -> Vec<String> {
    let mut keys = keys_of_shard(0, n * 3, "counter:");
    keys.retain(|key| slot(key.as_bytes()) <= 2730);
    keys.truncate(n);
    keys
}

/// A client that increments all the while.
pub fn writer(cluster: &RedisCluster, owner: usize, keys: Vec<String>) -> Writer {
    let others = cluster.nodes.iter().map(|n| n.address).collect();
    Writer::start(cluster.nodes[owner].address, others, keys)
}

/// Every acknowledged increment is there once, wherever its key is now.
pub fn nothing_is_lost(cluster: &RedisCluster, seen: &Seen, keys: &[String]) {
    nothing_more_is_lost(cluster, 0, seen, keys);
}

/// The same where the counters stood at `before` in sum; where they stand now.
pub fn nothing_more_is_lost(cluster: &RedisCluster, before: u64, seen: &Seen, keys: &[String]) -> u64 {
    let count = |key: &String| {
        let owner = cluster.owner(slot(key.as_bytes()), 1).expect("an owner");
        cluster.nodes[owner].text(&["GET", key]).parse::<u64>().unwrap_or(0)
    };
    let sum: u64 = keys.iter().map(count).sum();
    let least = before + seen.acknowledged;
    assert!((least..=least + seen.unknown).contains(&sum), "{sum}, before {before}: {seen:?}");
    assert!(seen.acknowledged > 100, "{seen:?}");
    sum
}

/// Values of many sizes with and without a time to live, all in the slots of [`job`].
pub fn fill(cluster: &RedisCluster, n: usize) -> Vec<String> {
    let mut keys = keys_of_shard(0, n * 3, "value:");
    keys.retain(|key| slot(key.as_bytes()) <= 2730);
    keys.truncate(n);
    let mut connection = cluster.nodes[0].connect();
    for (at, some) in keys.chunks(1000).enumerate() {
        let mut pipe = redis::pipe();
        for (i, key) in some.iter().enumerate() {
            pipe.cmd("SET").arg(key).arg(format!("{at}/{i}/{}", "x".repeat(i % 500))).ignore();
            if i % 10 == 0 {
                pipe.cmd("PEXPIRE").arg(key).arg(3_600_000).ignore();
            }
        }
        pipe.query::<()>(&mut connection).expect("keys are set");
    }
    keys
}

/// Keys of slots 0 to 2730 at a node.
pub fn keys_in_range(cluster: &RedisCluster, node: usize) -> u64 {
    let mut connection = cluster.nodes[node].connect();
    (0..=2730)
        .map(|slot| {
            let counted = ask(&mut connection, &["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
            redis::from_redis_value::<u64>(counted).expect("a count")
        })
        .sum()
}

/// Waits until every node names one owner, and no slot is half moved.
pub fn all_agree(cluster: &RedisCluster, owner: usize) {
    support::wait_until("every node names the owner", Duration::from_secs(10), || {
        (0..6).all(|asked| [0, 1000, 2730].iter().all(|slot| cluster.owner(*slot, asked) == Some(owner)))
    });
    for node in &cluster.nodes {
        let said = node.text(&["CLUSTER", "NODES"]);
        assert!(!said.contains("->-") && !said.contains("-<-"), "no slot is half moved: {said}");
    }
}

/// The program with four ranges of the cluster as its workloads.
pub fn program(cluster: &RedisCluster, soak: &str) -> Program {
    Program::new(
        "interval = \"1s\"",
        &format!(
            "[plan]\ncool_down = \"100ms\"\n[limits.moves]\nfleet = 8\nsite = 8\nrack = 8\nhost = 4\n\
             [migration]\nmin_samples = 1\nsoak = {soak:?}\n\
             [drivers.cart]\nclass = \"redis\"\nseeds = {:?}\nslots = [\"0-2730\", \"2731-5460\", \"5461-10922\", \"10923-16383\"]\n",
            cluster.seeds()
        ),
    )
}
