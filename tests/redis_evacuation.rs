//! `foreshift evacuate` on a real Redis Cluster, from the command line to the last key: a host is
//! emptied under a client that writes all the while, and filled again.

#[path = "support/program.rs"]
mod program;
#[path = "support/redis_cluster.rs"]
mod redis_cluster;
mod support;

use std::time::Duration;

use program::Program;
use redis_cluster::{RedisCluster, Seen, Writer, keys_of_shard, slot};

fn program(clusters: &[(&str, &RedisCluster)]) -> Program {
    let drivers = clusters.iter().map(|(name, cluster)| {
        format!("[drivers.{name}]\nclass = \"redis\"\nseeds = {:?}\n", cluster.seeds())
    });
    Program::new(
        "interval = \"1s\"",
        &format!(
            "[plan]\ncool_down = \"100ms\"\n\
             [migration]\ncanary = [{{ share = \"50%\", hold = \"200ms\" }}]\nmin_samples = 1\nsoak = \"1s\"\n\
             {}",
            drivers.collect::<String>()
        ),
    )
}

/// A client that writes to one shard while `during` runs, and every counter afterwards: no
/// acknowledged write is lost, and none counts twice.
fn under_writes<T>(
    cluster: &RedisCluster,
    owner: usize,
    prefix: &str,
    during: impl FnOnce() -> T,
) -> (T, Seen) {
    let keys = keys_of_shard(0, 40, prefix);
    let at = cluster.nodes[owner].address;
    let others = cluster.nodes.iter().map(|n| n.address).filter(|a| *a != at).collect();
    let writer = Writer::start(at, others, keys);
    let outcome = during();
    let (seen, keys) = writer.finish();
    let now = cluster.owner(slot(keys[0].as_bytes()), owner).expect("an owner");
    let sum: u64 =
        keys.iter().filter_map(|key| cluster.nodes[now].text(&["GET", key]).parse::<u64>().ok()).sum();
    assert!((seen.acknowledged..=seen.acknowledged + seen.unknown).contains(&sum), "{sum} of {seen:?}");
    assert!(seen.acknowledged > 100, "{seen:?}");
    (outcome, seen)
}

#[test]
fn a_host_is_emptied_and_filled_again_while_a_client_writes_and_loses_nothing() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let program = program(&[("cache", &cluster)]);
    // A dry run plans without any telemetry, says so, and changes nothing.
    let before = cluster.nodes[0].text(&["CLUSTER", "MYID"]);
    let (well, report) = program.report(&["evacuate", "127.0.0.1", "--dry-run"]);
    assert!(well, "{report}");
    assert_eq!(report["plan"]["moves"].as_array().map(Vec::len), Some(1), "{report}");
    assert!(report["plan"]["risks"].to_string().contains("unknown"), "{report}");
    assert_eq!(cluster.owner(0, 0), Some(0));
    assert_eq!(cluster.nodes[0].text(&["CLUSTER", "MYID"]), before);

    for (from, host, to, prefix) in [(0, "127.0.0.1", 3, "there"), (3, "127.0.0.4", 0, "back")] {
        let ((well, report), seen) =
            under_writes(&cluster, from, prefix, || program.report(&["evacuate", host, "--yes"]));
        assert!(well, "{report:#}");
        assert_eq!(report["migrations"]["completed"], 1, "{report:#}");
        println!("{host} emptied under writes: {seen:?}");
        assert!(seen.is_within(Duration::from_millis(250)), "{seen:?}");
        support::wait_until("every node knows the new owner", Duration::from_secs(10), || {
            (0..6).all(|asked| cluster.owner(0, asked) == Some(to))
        });
        support::wait_until("the old master follows", Duration::from_secs(20), || {
            let role = cluster.nodes[from].text(&["INFO", "replication"]);
            role.contains("role:slave") && role.contains("master_link_status:up")
        });
    }
}

#[test]
fn a_failover_that_somebody_else_made_is_followed_and_the_shard_moves_again() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let program = program(&[("cache", &cluster)]);
    let evacuate = |host: &str| {
        let (well, report) = program.report(&["evacuate", host, "--yes"]);
        assert!(well && report["migrations"]["completed"] == 1, "{report:#}");
    };
    let knows = |owner: usize| {
        support::wait_until("every node knows the owner", Duration::from_secs(20), || {
            (0..6).all(|asked| cluster.owner(0, asked) == Some(owner))
        });
    };
    evacuate("127.0.0.1");
    knows(3);
    support::wait_until("the old master follows", Duration::from_secs(20), || {
        cluster.nodes[0].text(&["INFO", "replication"]).contains("master_link_status:up")
    });
    // What a person does by hand, or the cluster by itself.
    cluster.nodes[0].text(&["CLUSTER", "FAILOVER"]);
    knows(0);
    support::wait_until("the other follows again", Duration::from_secs(20), || {
        cluster.nodes[3].text(&["INFO", "replication"]).contains("master_link_status:up")
    });
    evacuate("127.0.0.1");
    knows(3);
}

#[test]
fn the_empty_shards_of_two_clusters_leave_a_host_each_within_its_own_cluster() {
    let Some(cart) = RedisCluster::start(0) else { return };
    let Some(users) = RedisCluster::start(0) else { return };
    let program = program(&[("cart", &cart), ("users", &users)]);
    let (well, report) = program.report(&["evacuate", "127.0.0.1", "--yes"]);
    assert!(well, "{report:#}");
    assert_eq!(report["migrations"]["completed"], 2, "{report:#}");
    for cluster in [&cart, &users] {
        support::wait_until("every node knows the new owner", Duration::from_secs(10), || {
            (0..6).all(|asked| cluster.owner(0, asked) == Some(3))
        });
        assert_eq!(cluster.nodes[0].text(&["CLUSTER", "NODES"]).lines().count(), 6, "nobody was introduced");
    }
}

#[test]
fn a_host_that_does_not_exist_is_refused_with_the_ones_that_do() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let program = program(&[("cache", &cluster)]);
    let (well, report) = program.report(&["evacuate", "nowhere", "--yes"]);
    assert!(!well && report["planned"] == false, "{report}");
    let reason = report["reason"].to_string();
    assert!(reason.contains("nowhere") && reason.contains("127.0.0.1"), "{reason}");
}
