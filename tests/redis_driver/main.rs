//! A real shard of a real Redis Cluster is moved by the driver, under a client that writes all the
//! while: nothing acknowledged is lost, nothing is left behind, corruption is named, and a node that
//! dies at any point leaves exactly one owner.

mod faults;
#[path = "../support/redis_cluster.rs"]
mod redis_cluster;
mod shard;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use foreshift::drivers::redis::RedisMover;
use foreshift::drivers::{Action, Job, Mover, Probe};
use foreshift::fleet::{Generation, ServingState, Share, Timestamp, WorkloadId};
use redis_cluster::{RedisCluster, ask, keys_of_shard};
use shard::*;
use support::wait_until_async;

#[tokio::test(flavor = "multi_thread")]
async fn discovery_finds_hosts_nodes_shards_sizes_and_roles() {
    let Some(mut cluster) = RedisCluster::start(0) else { return };
    fill(&cluster, 500);
    let mover = mover(&cluster);
    let topology = mover.discover().await.unwrap();
    let port = cluster.nodes[0].address.port();
    let names: Vec<&str> = topology.workloads.iter().map(|w| w.id.as_str()).collect();
    assert_eq!(names, ["cart-0", "cart-10923", "cart-5461"]);
    assert_eq!(topology.hosts.len(), 6);
    let shard = topology.workload(&WorkloadId::from("cart-5461")).unwrap();
    assert_eq!(shard.partition.as_str(), format!("127.0.0.2/{port}"));
    assert_eq!(shard.replicas, [cluster.partition(4)]);
    assert!(shard.size.0 > 400_000, "{:?}", shard.size);
    assert_eq!(shard.labels["slots"], "5461-10922");
    let serving =
        |t: &foreshift::fleet::Topology, node| t.partition(&cluster.partition(node)).unwrap().serving;
    assert_eq!(serving(&topology, 1), ServingState::Active);
    assert_eq!(serving(&topology, 4), ServingState::Passive);

    let mut connection = cluster.nodes[1].connect();
    mover.discover().await.unwrap();
    for key in keys_of_shard(1, 300, "more:") {
        ask(&mut connection, &["SET", &key, "x"]);
        ask(&mut connection, &["GET", &key]);
    }
    let again = mover.discover().await.unwrap();
    let shard = again.workload(&WorkloadId::from("cart-5461")).unwrap();
    assert!(shard.writes_per_s > 0.0 && shard.requests_per_s > shard.writes_per_s, "{shard:?}");

    cluster.kill(4);
    wait_until_async("the dead node is fenced and the rest is still seen", LONG, async || {
        let t = mover.discover().await.unwrap();
        t.workloads.len() == 3
            && t.partition(&cluster.partition(4)).unwrap().serving == ServingState::Fenced
            && t.partition(&cluster.partition(1)).unwrap().serving == ServingState::Active
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_moves_and_comes_back_under_writes_and_nothing_acknowledged_is_lost() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    fill(&cluster, 5_000);
    let mover = mover(&cluster);
    let forth = job(&cluster, 1, 4);
    let before = mover.discover().await.unwrap();
    println!("{}", mover.describe(&forth).join("\n"));
    let writer = writer(&cluster, 1, 50);

    before_the_cut(&mover, &forth).await;
    complete(&mover, &forth, Action::CanaryShare { share: Share::new(0.5).unwrap() }).await;
    wait_until_async("the canary has compared", LONG, async || {
        let (source, destination) = mover.samples(&forth, Timestamp(0)).await.unwrap();
        assert_eq!((source.mismatches, source.errors, destination.errors), (0, 0, 0), "{source:?}");
        destination.compared >= 20 && destination.latencies_ms.len() >= 20
    })
    .await;
    complete(&mover, &forth, Action::CanaryShare { share: Share::MIN }).await;
    the_cut(&mover, &forth).await;
    let status = mover.status(&forth).await.unwrap();
    assert_eq!(status.owner, Some(cluster.partition(4)));
    assert!(status.streaming && status.source_alive && status.destination_alive, "{status:?}");
    // The shard keeps its name.
    let after = mover.discover().await.unwrap();
    let shard = WorkloadId::from("cart-5461");
    assert_eq!(after.workload(&shard).unwrap().partition, cluster.partition(4));
    assert!(after.workload(&shard).unwrap().generation > before.workload(&shard).unwrap().generation);
    // Compared once more while clients write at the new owner.
    let back = forth.mirrored(Generation(10));
    let again = complete(&mover, &back, Action::Verify).await;
    assert_eq!(again.equal, Some(true), "{again:?}");
    assert!(again.items > 5_000, "{again:?}");
    complete(&mover, &forth, Action::Retire).await;

    // The way back is the same move mirrored.
    complete(&mover, &back, Action::Prepare).await;
    the_cut(&mover, &back).await;
    cleanup(&mover, &back).await;
    cleanup(&mover, &forth).await;

    let (seen, keys) = writer.finish();
    println!("{seen:?}");
    assert!(seen.acknowledged > 500, "{seen:?}");
    assert_eq!((seen.unknown, sum(&cluster, 1, &keys)), (0, seen.acknowledged));
    assert!(seen.is_within(Duration::from_millis(250)), "{seen:?}");
    assert_eq!(mover.leaks().await.unwrap(), []);
    for node in &cluster.nodes {
        let setting: Vec<String> =
            redis::from_redis_value(node.ask(&["CONFIG", "GET", "cluster-allow-replica-migration"])).unwrap();
        assert_eq!(setting[1], "yes", "{}", node.address);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_asked_twice_is_done_once_and_every_probe_tells_what_is_true() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    fill(&cluster, 300);
    let (first, second) = (mover(&cluster), mover(&cluster));
    let job = job(&cluster, 1, 4);
    assert_eq!(first.probe(&job, &Action::Prepare).await, Probe::NotStarted);
    let actions = [
        Action::Announce,
        Action::Prepare,
        Action::Replicate,
        Action::Verify,
        Action::ArmReverse,
        fence(),
        Action::Unfence,
        fence(),
        Action::VerifyAtCut,
        Action::Commit,
        Action::Open,
        Action::EnableReverse,
        Action::ProbeReverse,
        Action::Retire,
    ];
    for action in actions {
        complete(&first, &job, action.clone()).await;
        // Another process knows nothing but what it sees.
        if !action.is_read_only() && !matches!(action, Action::Fence { .. }) {
            let what = format!("{} is seen to be done", action.name());
            wait_until_async(&what, LONG, async || match second.probe(&job, &action).await {
                Probe::Applied { .. } => true,
                Probe::InProgress => false,
                other => panic!("{}: {other:?}", action.name()),
            })
            .await;
        }
        complete(&second, &job, action).await;
    }
    let leaks = first.leaks().await.unwrap();
    let mut artifacts = first.artifacts(&job, &Action::Prepare);
    artifacts.sort();
    assert_eq!(leaks, artifacts, "a scan finds what the ledger names");
    cleanup(&first, &job).await;
    cleanup(&second, &job).await;
    assert_eq!(first.leaks().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_undo_asked_twice_leaves_a_clean_slate_wherever_it_begins() {
    let Some(cluster) = RedisCluster::start(1) else { return };
    fill(&cluster, 300);
    // Node 6 is empty and stands alone before, and has to again.
    let job = job(&cluster, 1, 6);
    let size = cluster.nodes[1].text(&["DBSIZE"]);
    let actions =
        [Action::Announce, Action::Prepare, Action::Replicate, Action::Verify, Action::ArmReverse, fence()];
    for steps in 0..=actions.len() {
        for action in actions.iter().take(steps) {
            for _ in 0..2 {
                complete(&mover(&cluster), &job, action.clone()).await;
            }
        }
        for action in [Action::Unfence, Action::Unfence, Action::StopReplication, Action::StopReplication] {
            complete(&mover(&cluster), &job, action).await;
        }
        cleanup(&mover(&cluster), &job).await;
        cleanup(&mover(&cluster), &job).await;
        assert_eq!(mover(&cluster).leaks().await.unwrap(), [], "after {steps} steps");
        assert_eq!(cluster.nodes[1].text(&["DBSIZE"]), size, "after {steps} steps");
        assert_eq!(cluster.nodes[6].text(&["DBSIZE"]), "0", "after {steps} steps");
        let key = keys_of_shard(1, 1, "value:").remove(0);
        cluster.nodes[1].ask(&["SET", &key, "written after the undo"]);
        assert_eq!(cluster.owner(6000, 0), Some(1), "after {steps} steps");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_node_becomes_a_replica_and_takes_over_or_is_empty_again() {
    let Some(cluster) = RedisCluster::start(1) else { return };
    fill(&cluster, 2_000);
    let mover = mover(&cluster);
    let job = job(&cluster, 1, 6);
    before_the_cut(&mover, &job).await;
    complete(&mover, &job, Action::StopReplication).await;
    complete(&mover, &job, Action::StopReplication).await;
    cleanup(&mover, &job).await;
    assert_eq!(cluster.nodes[6].text(&["DBSIZE"]), "0");
    assert_eq!(mover.leaks().await.unwrap(), []);

    before_the_cut(&mover, &job).await;
    the_cut(&mover, &job).await;
    cleanup(&mover, &job).await;
    assert_eq!(cluster.owner(6000, 0), Some(6));
    assert_eq!(mover.leaks().await.unwrap(), []);
}

/// Changes bytes in a node's data on disk while it is down: bit rot.
fn rot(cluster: &mut RedisCluster, node: usize, from: &[u8], to: &[u8]) {
    let file = cluster.save_and_stop(node);
    let mut data = std::fs::read(&file).unwrap();
    let at = data.windows(from.len()).position(|w| w == from).expect("the value is in the file");
    data[at..at + from.len()].copy_from_slice(to);
    std::fs::write(&file, data).unwrap();
    cluster.restart(node);
}

/// Writes a key whose value and one whose name will rot.
fn what_will_rot(cluster: &RedisCluster) {
    let [victim, lost] =
        ["victim:", "this-key-will-be-lost:"].map(|prefix| keys_of_shard(1, 1, prefix).remove(0));
    cluster.nodes[1].ask(&["SET", &victim, "the quick brown fox jumps over the lazy dog"]);
    cluster.nodes[1].ask(&["SET", &lost, "1"]);
}

/// Lets both rot on the replica, which is this node: the comparison names the value that changed, the key that is
/// gone and the one that nobody wrote. Returns all that it names.
async fn rot_is_named(cluster: &mut RedisCluster, node: usize, mover: &RedisMover, job: &Job) -> String {
    rot(cluster, node, b"quick brown fox", b"quick brown fov");
    rot(cluster, node, b"this-key-will", b"that-key-will");
    complete(mover, job, Action::Replicate).await;
    let verified = complete(mover, job, Action::Verify).await;
    assert_eq!(verified.equal, Some(false), "{verified:?}");
    let names = verified.differences.join("\n");
    for name in ["victim:", "this-key-will-be-lost:", "that-key-will"] {
        assert!(names.contains(name), "{name} in {names}");
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_rotted_on_the_replica_is_named_and_the_cut_refused() {
    let Some(mut cluster) = RedisCluster::start(0) else { return };
    fill(&cluster, 1_000);
    what_will_rot(&cluster);
    let mover = mover(&cluster);
    let job = job(&cluster, 1, 4);
    before_the_cut(&mover, &job).await;

    rot_is_named(&mut cluster, 4, &mover, &job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rotted_at_the_old_master_after_the_cut_is_named_before_it_is_let_go() {
    let Some(mut cluster) = RedisCluster::start(0) else { return };
    fill(&cluster, 1_000);
    what_will_rot(&cluster);
    let mover = mover(&cluster);
    let forth = job(&cluster, 1, 4);
    before_the_cut(&mover, &forth).await;
    the_cut(&mover, &forth).await;

    rot_is_named(&mut cluster, 1, &mover, &forth.mirrored(Generation(10))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_expires_a_flipped_bit_a_lost_and_a_foreign_key_are_named_just_the_same() {
    let Some(mut cluster) = RedisCluster::start(0) else { return };
    let mut pipe = redis::pipe();
    for (i, key) in keys_of_shard(1, 3_000, "plain:").iter().enumerate() {
        pipe.cmd("SET").arg(key).arg(format!("value {i} of a key")).ignore();
    }
    pipe.exec(&mut cluster.nodes[1].connect()).expect("data");
    what_will_rot(&cluster);
    cluster.nodes[1].ask(&["SET", &keys_of_shard(1, 1, "empty:")[0], ""]);
    let mover = mover(&cluster);
    let job = job(&cluster, 1, 4);
    before_the_cut(&mover, &job).await;
    let equal = complete(&mover, &job, Action::Verify).await;
    assert_eq!((equal.equal, equal.items), (Some(true), 3_003), "{equal:?}");

    let names = rot_is_named(&mut cluster, 4, &mover, &job).await;
    assert!(!names.contains("empty:"), "{names}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_feeds_a_new_replica_at_once_and_is_set_as_before_at_the_end() {
    let Some(cluster) = RedisCluster::start(1) else { return };
    let setting = |node: usize, name: &str| {
        let answer = cluster.nodes[node].ask(&["CONFIG", "GET", name]);
        redis::from_redis_value::<Vec<String>>(answer).unwrap()[1].clone()
    };
    let delay = || setting(1, "repl-diskless-sync-delay");
    let load = || setting(6, "repl-diskless-load");
    let before = load();
    assert_ne!(before, "on-empty-db");
    cluster.nodes[1].ask(&["CONFIG", "SET", "repl-diskless-sync-delay", "7"]);
    let mover = mover(&cluster);
    let job = job(&cluster, 1, 6);
    complete(&mover, &job, Action::Prepare).await;
    assert_eq!((delay().as_str(), load().as_str()), ("0", "on-empty-db"));
    complete(&mover, &job, Action::Replicate).await;
    cleanup(&mover, &job).await;
    assert_eq!((delay(), load()), ("7".to_string(), before));
    assert_eq!(mover.leaks().await.unwrap(), []);
}
