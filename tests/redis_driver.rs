//! A real shard of a real Redis Cluster is moved by the driver, under a client that writes all the
//! while: nothing acknowledged is lost, nothing is left behind, corruption is named, and a node that
//! dies at any point leaves exactly one owner.

#[path = "support/redis_cluster.rs"]
mod redis_cluster;
mod support;

use std::time::Duration;

use foreshift::drivers::redis::{RedisMover, RedisOptions};
use foreshift::drivers::{Action, Answer, Evidence, Job, Mover, Permit, Probe, Retry};
use foreshift::fleet::{Epoch, Generation, MigrationId, ServingState, Share, Timestamp, WorkloadId};
use redis_cluster::{RedisCluster, Writer, ask, keys_of_shard};
use support::wait_until_async;

const LONG: Duration = Duration::from_secs(30);

fn mover(cluster: &RedisCluster) -> RedisMover {
    RedisMover::new(RedisOptions::new("cart", cluster.seeds()))
}

fn permit() -> Permit {
    Permit::mint_for_runner(Epoch(1), "test")
}

/// Moves the second shard (slots 5461 and up) from its master to its replica.
fn job(cluster: &RedisCluster, source: usize, destination: usize) -> Job {
    Job {
        migration: MigrationId(7),
        workload: WorkloadId::from("cart-5461"),
        source: cluster.partition(source),
        destination: cluster.partition(destination),
        generation: Generation(9),
    }
}

/// Asks for an action until it is done.
async fn complete(mover: &RedisMover, job: &Job, action: Action) -> Evidence {
    support::complete(mover, job, &action, &permit(), LONG).await
}

async fn cleanup(mover: &RedisMover, job: &Job) {
    for artifact in mover.artifacts(job, &Action::Prepare) {
        complete(mover, job, Action::Cleanup { artifact }).await;
    }
}

fn fence() -> Action {
    Action::Fence { deadline: Timestamp(i64::MAX) }
}

/// Everything up to the cut.
async fn before_the_cut(mover: &RedisMover, job: &Job) {
    for action in [Action::Announce, Action::Prepare, Action::Replicate] {
        complete(mover, job, action).await;
    }
    let verified = complete(mover, job, Action::Verify).await;
    assert_eq!(verified.equal, Some(true), "{verified:?}");
    complete(mover, job, Action::ArmReverse).await;
    complete(mover, job, Action::ProbeReverse).await;
}

async fn the_cut(mover: &RedisMover, job: &Job) {
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
fn sum(cluster: &RedisCluster, owner: usize, keys: &[String]) -> u64 {
    let mut connection = cluster.nodes[owner].connect();
    keys.iter()
        .map(|k| {
            redis::from_redis_value::<Option<u64>>(ask(&mut connection, &["GET", k])).unwrap().unwrap_or(0)
        })
        .sum()
}

fn writer(cluster: &RedisCluster, owner: usize, keys: usize) -> Writer {
    let others = cluster.nodes.iter().map(|n| n.address).collect();
    Writer::start(cluster.nodes[owner].address, others, keys_of_shard(1, keys, "counter:"))
}

/// Some of every type, with and without a time to live, into the second shard.
fn fill(cluster: &RedisCluster, strings: usize) {
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

/// A node that believes another owner of one slot makes masters delete that slot's keys once the epochs
/// move on (redis/redis pull request 12336): nothing is cut before all agree.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_cut_while_one_node_believes_another_owner_of_one_slot() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    fill(&cluster, 500);
    let mover = mover(&cluster);
    let job = job(&cluster, 1, 4);
    before_the_cut(&mover, &job).await;
    let id = |node: usize| cluster.nodes[node].text(&["CLUSTER", "MYID"]);
    let believes = |owner: usize| cluster.nodes[0].ask(&["CLUSTER", "SETSLOT", "6000", "NODE", &id(owner)]);
    // The third master has a greater epoch than the owner, so gossip does not mend it.
    believes(2);
    for action in [fence(), Action::Commit] {
        match mover.perform(&job, &action, &permit()).await.unwrap() {
            Answer::Working { waiting_for } => assert!(waiting_for.contains("slot 6000"), "{waiting_for}"),
            Answer::Done(evidence) => panic!("{}: {evidence:?}", action.name()),
        }
    }
    let refused = mover.perform(&job, &Action::Prepare, &permit()).await.unwrap_err();
    assert!(refused.retry == Retry::Retryable && refused.to_string().contains("slot 6000"), "{refused}");
    assert_eq!(mover.status(&job).await.unwrap().owner, Some(cluster.partition(1)));
    believes(1);
    the_cut(&mover, &job).await;
    cleanup(&mover, &job).await;
    assert_eq!(cluster.owner(6000, 4), Some(4));
}

/// How many votes a node has asked for in its life.
fn votes_asked_for(cluster: &RedisCluster, node: usize) -> u64 {
    let text = cluster.nodes[node].text(&["CLUSTER", "INFO"]);
    let line = text.lines().find_map(|l| l.strip_prefix("cluster_stats_messages_auth-req_sent:"));
    line.map_or(0, |n| n.trim().parse().unwrap())
}

/// Asked again too early, Redis 7.0 takes its old votes for new ones: two masters, and writes are lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_elected_lately_is_asked_again_only_when_redis_holds_another_election() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let writer = writer(&cluster, 1, 20);
    for (turn, source, destination) in [(1, 1, 4), (2, 4, 1), (3, 1, 4)] {
        // One that knows nothing of the others, as after a restart.
        let (mover, job) = (mover(&cluster), job(&cluster, source, destination));
        before_the_cut(&mover, &job).await;
        let (mut waited, start) = (Vec::new(), std::time::Instant::now());
        while let Some(reason) = mover.cut_waits_for(&job).await.unwrap() {
            assert!(start.elapsed() < LONG, "waited in vain for {reason}");
            waited.push(reason);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let elected: Vec<_> = waited.iter().filter(|r| r.contains("another election")).collect();
        println!("turn {turn}: {:?} … {:?}", elected.first(), elected.last());
        assert_eq!(elected.is_empty(), turn < 3, "{elected:?}");
        // Without the proof of the way back, which waits for the same.
        for action in [fence(), Action::VerifyAtCut, Action::Commit, Action::Open] {
            complete(&mover, &job, action).await;
        }
        cleanup(&mover, &job).await;
    }
    let (asked_once, asked_twice) = (votes_asked_for(&cluster, 1), votes_asked_for(&cluster, 4));
    assert_eq!(asked_twice, 2 * asked_once, "it became a master without being elected");
    let (seen, keys) = writer.finish();
    assert_eq!((seen.unknown, sum(&cluster, 4, &keys)), (0, seen.acknowledged), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_dies_leaves_the_source_as_owner() {
    let Some(mut cluster) = RedisCluster::start(0) else { return };
    fill(&cluster, 500);
    let mover = mover(&cluster);
    let job = job(&cluster, 1, 4);
    let writer = writer(&cluster, 1, 20);
    before_the_cut(&mover, &job).await;
    cluster.kill(4);
    let error = mover.perform(&job, &Action::Commit, &permit()).await.unwrap_err();
    assert_eq!(error.retry, Retry::Retryable, "{error}");
    assert!(mover.perform(&job, &Action::VerifyAtCut, &permit()).await.is_err());
    let status = mover.status(&job).await.unwrap();
    assert_eq!((status.owner, status.destination_alive), (Some(cluster.partition(1)), false));
    cluster.restart(4);
    complete(&mover, &job, Action::Replicate).await;
    before_the_cut(&mover, &job).await;
    the_cut(&mover, &job).await;
    cleanup(&mover, &job).await;
    let (seen, keys) = writer.finish();
    let sum = sum(&cluster, 4, &keys);
    assert!((seen.acknowledged..=seen.acknowledged + seen.unknown).contains(&sum), "{sum}, {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_dies_before_the_cut_leaves_one_owner_and_the_probe_says_which() {
    let Some(mut cluster) = RedisCluster::start(0) else { return };
    fill(&cluster, 500);
    let mover = mover(&cluster);
    let job = job(&cluster, 1, 4);
    before_the_cut(&mover, &job).await;
    cluster.kill(1);
    // The cluster's own election moves the shard to the only replica; commit follows it.
    let start = std::time::Instant::now();
    loop {
        if let Ok(Answer::Done(_)) = mover.perform(&job, &Action::Commit, &permit()).await {
            break;
        }
        assert!(start.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wait_until_async("a majority agrees", LONG, async || {
        matches!(mover.probe(&job, &Action::Commit).await, Probe::Applied { .. })
    })
    .await;
    let status = mover.status(&job).await.unwrap();
    assert_eq!((status.owner, status.source_alive), (Some(cluster.partition(4)), false));
    // It comes back as a replica: the way back is there again.
    cluster.restart(1);
    complete(&mover, &job, Action::EnableReverse).await;
    cleanup(&mover, &job).await;
    assert_eq!(mover.leaks().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_hangs_at_the_cut_is_deposed_and_comes_back_as_a_copy() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    fill(&cluster, 500);
    let mut options = RedisOptions::new("cart", cluster.seeds());
    options.command_timeout = foreshift::fleet::Span::millis(500);
    let mover = RedisMover::new(options);
    let job = job(&cluster, 1, 4);
    before_the_cut(&mover, &job).await;
    complete(&mover, &job, fence()).await;
    cluster.signal(1, "STOP");
    // The voters depose it by themselves; asking for the commit all the while makes no second owner.
    complete(&mover, &job, Action::Commit).await;
    cluster.signal(1, "CONT");
    wait_until_async("every node names the one owner", LONG, async || {
        (0..6).all(|asked| cluster.owner(6000, asked) == Some(4))
    })
    .await;
    complete(&mover, &job, Action::EnableReverse).await;
    assert_eq!(mover.status(&job).await.unwrap().owner, Some(cluster.partition(4)));
    cleanup(&mover, &job).await;
    assert_eq!(mover.leaks().await.unwrap(), []);
}
