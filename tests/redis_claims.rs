//! Redis 7.0.13 to 7.0.15 and 7.2.0 to 7.2.3 keep notes about slots that they should have thrown away, and a
//! master with such notes gives a slot that has just come back to whoever claimed it before, keys deleted. A
//! real cluster in which a master has them; slots go there, while it stalls again and again.

#[path = "support/program.rs"]
mod program;
#[path = "support/redis_cluster.rs"]
mod redis_cluster;
#[path = "support/redis_ranges.rs"]
mod redis_ranges;
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foreshift::drivers::{Action, Job};
use foreshift::fleet::WorkloadId;
use redis_cluster::{RedisCluster, keys_of_shard, slot};
use redis_ranges::{complete, mover};

const LAST: u16 = 15;

/// Slots 0 to [`LAST`] of the first master go to the second in an order that leaves a note of each at the
/// third: it hears that the old owner claims them no more before it is told of the new one.
fn leave_notes(cluster: &RedisCluster) {
    let id = cluster.nodes[1].text(&["CLUSTER", "MYID"]);
    let give = |node: usize| {
        for slot in 0..=LAST {
            cluster.nodes[node].ask(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id]);
        }
    };
    give(0);
    // Every node sends to every other within half of cluster-node-timeout.
    std::thread::sleep(Duration::from_secs(3));
    give(2);
    give(1);
    cluster.nodes[1].ask(&["CLUSTER", "BUMPEPOCH"]);
    agree(cluster, 1);
}

fn agree(cluster: &RedisCluster, owner: usize) {
    support::wait_until("every node names the owner", Duration::from_secs(20), || {
        (0..6).all(|asked| [0, LAST / 2, LAST].iter().all(|slot| cluster.owner(*slot, asked) == Some(owner)))
    });
}

/// Sets it, however its scope ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_claims_take_no_slot_from_a_destination_that_stalls() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    // On a busy machine the stalls below outlast what the others wait for: what an election loses would be
    // Redis' own loss, not what is asked here.
    for replica in &cluster.nodes[3..] {
        replica.ask(&["CONFIG", "SET", "cluster-replica-no-failover", "yes"]);
    }
    leave_notes(&cluster);
    let mut keys = keys_of_shard(0, 60_000, "claimed");
    keys.retain(|key| slot(key.as_bytes()) <= LAST);
    let mut connection = cluster.nodes[1].connect();
    for key in &keys {
        redis_cluster::ask(&mut connection, &["SET", key, "here"]);
    }
    let job =
        Job { workload: WorkloadId::from(format!("cart-0-{LAST}")), ..redis_ranges::job(&cluster, 1, 2) };
    let mover = mover(&cluster, &[&format!("0-{LAST}")]);
    complete(&mover, &job, Action::Prepare).await;
    // So the old owner says often what it owns.
    cluster.nodes[1].ask(&["CONFIG", "SET", "cluster-node-timeout", "400"]);
    let over = AtomicBool::new(false);
    let summary = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(3));
                cluster.signal(2, "STOP");
                std::thread::sleep(Duration::from_millis(900));
                cluster.signal(2, "CONT");
            }
        });
        let _over = Over(&over);
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(complete(&mover, &job, Action::Commit)))
    });
    println!("{summary}");
    println!("{}", complete(&mover, &job, Action::Open).await);
    agree(&cluster, 2);
    let mut connection = cluster.nodes[2].connect();
    let gone = keys.iter().filter(|key| {
        let value = redis_cluster::ask(&mut connection, &["GET", key]);
        redis::from_redis_value::<Option<String>>(value).ok().flatten().is_none()
    });
    assert_eq!(gone.count(), 0, "of {} keys", keys.len());
}
