//! An engine that is killed without warning in the middle of an evacuation of a real Redis Cluster,
//! at one phase after another: started again it ends what it began by itself, one way or the other,
//! with one owner and every acknowledged write, and its journal still proves what happened.

#[path = "support/program.rs"]
mod program;
#[path = "support/redis_cluster.rs"]
mod redis_cluster;
mod support;

use std::cell::Cell;
use std::time::Duration;

use foreshift::fleet::Phase;
use program::Program;
use redis_cluster::{RedisCluster, Writer, keys_of_shard, slot};
use support::{wait_until, wait_until_async};

const LONG: Duration = Duration::from_secs(60);

/// How far a phase is on the way to the end.
fn distance(phase: Phase) -> usize {
    Phase::ALL.iter().position(|p| *p == phase).unwrap_or(0)
}

/// The one owner of the first shard, as soon as every node names the same.
fn settled_owner(cluster: &RedisCluster) -> usize {
    let mut owner = None;
    wait_until("all nodes name one owner", LONG, || {
        let named: Vec<_> = (0..6).map(|asked| cluster.owner(0, asked)).collect();
        owner = named[0];
        owner.is_some() && named.iter().all(|o| *o == owner)
    });
    owner.expect("just seen")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_killed_at_any_phase_ends_what_it_began_when_it_starts_again() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let program = Program::new(
        "interval = \"1s\"",
        &format!(
            "[plan]\ncool_down = \"100ms\"\n\
             [migration]\ncanary = [{{ share = \"50%\", hold = \"500ms\" }}]\nmin_samples = 1\nsoak = \"1s\"\n\
             [drivers.cache]\nclass = \"redis\"\nseeds = {:?}",
            cluster.seeds()
        ),
    );
    let keys = keys_of_shard(0, 40, "crash");
    let first = settled_owner(&cluster);
    let at = cluster.nodes[first].address;
    let others = cluster.nodes.iter().map(|n| n.address).filter(|a| *a != at).collect();
    let writer = Writer::start(at, others, keys);
    let mut ends = Vec::new();
    for moment in [Phase::Approved, Phase::Preparing, Phase::CatchingUp, Phase::Canary, Phase::Soaking] {
        let from = settled_owner(&cluster);
        let host = cluster.nodes[from].address.ip().to_string();
        let mut engine = program.engine(&[]);
        let proposal = program.begin(&host, LONG).await;
        let seen = Cell::new(None);
        wait_until_async("the migration comes so far", LONG, || async {
            let snapshot = program.snapshot().await;
            let mine = snapshot.migrations.iter().find(|m| m.proposal == proposal);
            seen.set(mine.map(|m| (m.id, m.phase)));
            mine.is_some_and(|m| distance(m.phase) >= distance(moment))
        })
        .await;
        engine.kill();
        let (migration, killed_in) = seen.get().expect("just seen");

        let mut engine = program.engine(&[]);
        let ended = Cell::new(None);
        wait_until_async("it ends by itself", LONG, || async {
            let snapshot = program.snapshot().await;
            let mine = snapshot.migrations.iter().find(|m| m.id == migration);
            ended.set(mine.filter(|m| m.phase.is_end()).map(|m| m.phase));
            // What had ended before the crash may no longer be shown.
            ended.get().is_some() || (killed_in.is_end() && mine.is_none() && !snapshot.partitions.is_empty())
        })
        .await;
        let end = ended.get().unwrap_or(killed_in);
        let owner = settled_owner(&cluster);
        println!("{migration} killed in {}: {}, owner {from} → {owner}", killed_in.word(), end.word());
        assert_eq!(end == Phase::Done, owner != from, "{end:?}");
        ends.push(end);
        assert!(engine.stop("TERM", Duration::from_secs(5)).success(), "{}", engine.log_tail());
    }
    assert!(ends.contains(&Phase::Done), "nothing was ever moved: {ends:?}");

    let (seen, keys) = writer.finish();
    let owner = settled_owner(&cluster);
    assert!(keys.iter().all(|k| slot(k.as_bytes()) <= 5460));
    let sum: u64 =
        keys.iter().filter_map(|key| cluster.nodes[owner].text(&["GET", key]).parse::<u64>().ok()).sum();
    assert!((seen.acknowledged..=seen.acknowledged + seen.unknown).contains(&sum), "{sum} of {seen:?}");

    let verified = program.run(&["journal", "verify"]);
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "{said}{}", String::from_utf8_lossy(&verified.stderr));
    assert!(said.contains(&format!("{} migrations", ends.len())) && said.contains(" 0 broken"), "{said}");
}
