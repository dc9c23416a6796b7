//! Ranges of slots of a real Redis Cluster go from one master to another and back, under a client that
//! writes all the while: nothing acknowledged is lost, and a mover that dies with keys on both sides is
//! finished by the next.

#[path = "support/program.rs"]
mod program;
#[path = "support/redis_cluster.rs"]
mod redis_cluster;
#[path = "support/redis_ranges.rs"]
mod redis_ranges;
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foreshift::drivers::redis::RedisSlotMover;
use foreshift::drivers::{Action, Answer, Job, Mover, Probe, Retry};
use foreshift::fleet::{MigrationId, Phase, ServingState, WorkloadId};
use redis_cluster::{RedisCluster, ranges_of};
use redis_ranges::*;
use tokio::runtime::Handle;

#[tokio::test(flavor = "multi_thread")]
async fn a_range_goes_to_a_master_that_serves_and_back_under_writes_and_loses_nothing() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let filled = fill(&cluster, 5_000);
    let mover = mover(&cluster, &["0-2730", "2731-5460", "5461-10922"]);
    let mut counted = 0;
    for (from, to) in [(0, 2), (2, 0)] {
        let before = mover.discover().await.expect("a topology");
        let range = before.workload(&WorkloadId::from("cart-0-2730")).expect("a workload");
        assert_eq!(range.partition, cluster.partition(from));
        let replica = before.partition(&cluster.partition(3)).expect("a replica");
        assert_ne!(replica.class, range.class, "a replica takes no slots");
        assert_eq!(replica.serving, ServingState::Passive);

        let writer = writer(&cluster, from, counters(40));
        let job = job(&cluster, from, to);
        moved(&mover, &job).await;
        let (seen, keys) = writer.finish();
        println!("moved under writes: {seen:?}");
        all_agree(&cluster, to);
        counted = nothing_more_is_lost(&cluster, counted, &seen, &keys);
        assert!(seen.is_within(Duration::from_millis(250)), "{seen:?}");
        assert_eq!((keys_in_range(&cluster, from), keys_in_range(&cluster, to)), (0, 5_040));
        // Done again it changes nothing.
        moved(&mover, &job).await;
        assert_eq!(mover.leaks().await.expect("a list").len(), 2, "both nodes bear the mark");
        for artifact in mover.artifacts(&job, &Action::Prepare) {
            complete(&mover, &job, Action::Cleanup { artifact: artifact.clone() }).await;
            complete(&mover, &job, Action::Cleanup { artifact }).await;
        }
        assert_eq!(mover.leaks().await.expect("a list"), []);
        assert!(matches!(mover.probe(&job, &Action::Commit).await, Probe::Applied { .. }));
        assert_eq!(mover.status(&job).await.expect("a status").owner, Some(cluster.partition(to)));
    }
    let lives = filled.iter().step_by(10).map(|key| cluster.nodes[0].text(&["PTTL", key]).parse::<i64>());
    assert!(
        lives.take(50).all(|left| left.is_ok_and(|ms| ms > 3_000_000)),
        "times to live go with their keys"
    );
    assert!(cluster.nodes[0].text(&["GET", &filled[499]]).ends_with('x'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mover_that_dies_with_keys_on_both_sides_is_finished_by_the_next() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    fill(&cluster, 30_000);
    let job = job(&cluster, 0, 1);
    let writer = writer(&cluster, 0, counters(40));
    {
        let dies = mover(&cluster, &["0-2730"]);
        complete(&dies, &job, Action::Prepare).await;
        assert_eq!(dies.probe(&job, &Action::Commit).await, Probe::NotStarted);
        while keys_in_range(&cluster, 1) == 0 {
            let answer = dies.perform(&job, &Action::Commit, &permit()).await.expect("a beginning");
            assert!(matches!(answer, Answer::Working { .. }), "{answer:?}");
        }
    }
    let (here, there) = (keys_in_range(&cluster, 0), keys_in_range(&cluster, 1));
    assert!(here > 0 && there > 0, "{here} and {there} keys");
    // The slot that is under way stays half moved, as where the process dies within it.
    let (ids, next) = ([0, 1].map(|n: usize| cluster.nodes[n].text(&["CLUSTER", "MYID"])), "2730");
    cluster.nodes[1].ask(&["CLUSTER", "SETSLOT", next, "IMPORTING", &ids[0]]);
    cluster.nodes[0].ask(&["CLUSTER", "SETSLOT", next, "MIGRATING", &ids[1]]);

    let goes_on = mover(&cluster, &["0-2730"]);
    assert_eq!(goes_on.probe(&job, &Action::Commit).await, Probe::InProgress);
    assert_eq!(goes_on.status(&job).await.expect("a status").owner, None, "nobody owns all of it");
    let late = goes_on.perform(&job, &Action::Open, &permit()).await.expect_err("not yet");
    assert_eq!(late.retry, Retry::Retryable, "{late}");
    // To let go is to finish: the keys that went are nowhere else.
    complete(&goes_on, &job, Action::Unfence).await;
    complete(&goes_on, &job, Action::Open).await;
    let (seen, keys) = writer.finish();
    all_agree(&cluster, 1);
    nothing_is_lost(&cluster, &seen, &keys);
    assert_eq!((keys_in_range(&cluster, 0), keys_in_range(&cluster, 1)), (0, 30_040));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_undo_asked_twice_leaves_a_clean_slate_wherever_it_begins() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let filled = fill(&cluster, 2_000).len() as u64;
    let actions = [Action::Announce, Action::Prepare, Action::Replicate, Action::Commit, Action::Open];
    let mut at = 0;
    for steps in 0..=actions.len() {
        let to = (at + 1) % 3;
        let job = Job { migration: MigrationId(steps as u64), ..job(&cluster, at, to) };
        for action in actions.iter().take(steps) {
            for _ in 0..2 {
                complete(&mover(&cluster, &["0-2730"]), &job, action.clone()).await;
            }
        }
        // A move that was asked for is brought to its end, so from there on the range is at its destination.
        let owner = if steps > 3 { to } else { at };
        for action in [Action::Unfence, Action::Unfence, Action::StopReplication, Action::StopReplication] {
            complete(&mover(&cluster, &["0-2730"]), &job, action).await;
        }
        for artifact in mover(&cluster, &["0-2730"]).artifacts(&job, &Action::Prepare) {
            for _ in 0..2 {
                let action = Action::Cleanup { artifact: artifact.clone() };
                complete(&mover(&cluster, &["0-2730"]), &job, action).await;
            }
        }
        all_agree(&cluster, owner);
        assert_eq!(mover(&cluster, &["0-2730"]).leaks().await.expect("a list"), [], "after {steps} steps");
        for node in &cluster.nodes {
            let kept = redis::from_redis_value::<Vec<String>>(node.ask(&[
                "CONFIG",
                "GET",
                "cluster-allow-replica-migration",
            ]));
            assert_eq!(kept.expect("a setting")[1], "yes", "after {steps} steps: {}", node.address);
        }
        for node in 0..3 {
            let expected = if node == owner { filled } else { 0 };
            assert_eq!(keys_in_range(&cluster, node), expected, "after {steps} steps, node {node}");
        }
        at = owner;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_that_mark_a_node_at_the_same_moment_leave_every_mark_and_then_none() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let mover = mover(&cluster, &["0-2730"]);
    let jobs: Vec<Job> = (1..=6).map(|n| Job { migration: MigrationId(n), ..job(&cluster, 0, 1) }).collect();
    for round in 0..15 {
        futures::future::join_all(jobs.iter().map(|job| complete(&mover, job, Action::Prepare))).await;
        assert_eq!(mover.leaks().await.expect("a list").len(), 2 * jobs.len(), "round {round}");
        let marks = jobs.iter().flat_map(|job| {
            mover.artifacts(job, &Action::Prepare).into_iter().map(move |artifact| (job, artifact))
        });
        let taken = marks.map(|(job, artifact)| complete(&mover, job, Action::Cleanup { artifact }));
        futures::future::join_all(taken).await;
        assert_eq!(mover.leaks().await.expect("a list"), [], "round {round}");
    }
    for node in &cluster.nodes[..2] {
        let kept = node.ask(&["CONFIG", "GET", "cluster-allow-replica-migration"]);
        assert_eq!(redis::from_redis_value::<Vec<String>>(kept).expect("a setting")[1], "yes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_dies_before_the_old_owner_heard_of_the_end_leaves_no_mark() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let (mover, job) = (mover(&cluster, &["0-2730"]), job(&cluster, 0, 1));
    moved(&mover, &job).await;
    // As a node that was told of a move and not of its end.
    let id = cluster.nodes[2].text(&["CLUSTER", "MYID"]);
    cluster.nodes[1].ask(&["CLUSTER", "SETSLOT", "17", "MIGRATING", &id]);
    assert!(matches!(mover.probe(&job, &Action::Open).await, Probe::InProgress));
    complete(&mover, &job, Action::Open).await;
    all_agree(&cluster, 1);
}

/// A move of 500 keys up to its commit.
async fn about_to_move(cluster: &RedisCluster) -> (RedisSlotMover, Job) {
    fill(cluster, 500);
    let (mover, job) = (mover(cluster, &["0-2730"]), job(cluster, 0, 1));
    for action in [Action::Announce, Action::Prepare, Action::Replicate] {
        complete(&mover, &job, action).await;
    }
    (mover, job)
}

/// The configuration epoch of a node: of two claims to a slot the one with the greater wins.
fn epoch(cluster: &RedisCluster, node: usize) -> u64 {
    let info = cluster.nodes[node].text(&["CLUSTER", "INFO"]);
    let line = info.lines().find_map(|line| line.strip_prefix("cluster_my_epoch:")).expect("an epoch");
    line.trim().parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_taken_with_a_claim_that_is_newer_than_any_of_its_owner() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let (mover, job) = about_to_move(&cluster).await;
    let begin = Instant::now();
    loop {
        // As another move, a failover or two masters with the same epoch have it: nobody knows of it yet.
        cluster.nodes[0].ask(&["CLUSTER", "BUMPEPOCH"]);
        let (before, goes_on) = (slots_of(&cluster, 1), AtomicBool::new(true));
        let answer = std::thread::scope(|scope| {
            scope.spawn(|| {
                while goes_on.load(Ordering::SeqCst) {
                    let taken = slots_of(&cluster, 1) - before;
                    let (owner, taker) = (epoch(&cluster, 0), epoch(&cluster, 1));
                    assert!(taken == 0 || taker > owner, "{taken} taken at {taker}, claimed at {owner}");
                }
            });
            let answer = tokio::task::block_in_place(|| {
                Handle::current().block_on(mover.perform(&job, &Action::Commit, &permit()))
            });
            goes_on.store(false, Ordering::SeqCst);
            answer.expect("it goes on")
        });
        if matches!(answer, Answer::Done(_)) {
            break;
        }
        assert!(begin.elapsed() < LONG, "{answer:?}");
    }
    complete(&mover, &job, Action::Open).await;
    all_agree(&cluster, 1);
    assert_eq!((keys_in_range(&cluster, 0), keys_in_range(&cluster, 1)), (0, 500));
}

/// How many slots of the range a node calls its own.
fn slots_of(cluster: &RedisCluster, node: usize) -> usize {
    let said = cluster.nodes[node].text(&["CLUSTER", "NODES"]);
    let own = said.lines().find(|line| line.contains("myself")).expect("the node itself");
    ranges_of(own).flatten().filter(|slot| *slot <= 2730).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_its_owner_gave_and_nobody_took_is_taken() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let (mover, job) = about_to_move(&cluster).await;
    while slots_of(&cluster, 1) == 0 {
        mover.perform(&job, &Action::Commit, &permit()).await.expect("a beginning");
    }
    // The owner's claim is the newest, and it gives a slot away of which the other hears nothing.
    let newest = || {
        cluster.nodes[0].ask(&["CLUSTER", "BUMPEPOCH"]);
        let newest = epoch(&cluster, 0).to_string();
        support::wait_until("the claim is known", LONG, || {
            let said = cluster.nodes[1].text(&["CLUSTER", "NODES"]);
            said.lines().any(|line| line.contains("master") && line.split(' ').nth(6) == Some(&newest))
        });
    };
    newest();
    let to = cluster.nodes[1].text(&["CLUSTER", "MYID"]);
    let empty = |slot: &u16| cluster.nodes[0].text(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]) == "0";
    let slot = (0..=2730).rev().filter(empty).find(|&slot| cluster.owner(slot, 1) == Some(0)).expect("one");
    cluster.nodes[0].ask(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &to]);
    assert_eq!((cluster.owner(slot, 0), cluster.owner(slot, 1)), (Some(1), Some(0)), "it is nobody's");
    let begin = Instant::now();
    loop {
        let answer = mover.perform(&job, &Action::Commit, &permit()).await.expect("it goes on");
        if matches!(answer, Answer::Done(_)) {
            break;
        }
        assert!(begin.elapsed() < LONG, "{answer:?}");
        newest();
    }
    complete(&mover, &job, Action::Open).await;
    all_agree(&cluster, 1);
    assert_eq!((keys_in_range(&cluster, 0), keys_in_range(&cluster, 1)), (0, 500));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_go_is_refused_by_name_and_nothing_is_changed() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let slots = mover(&cluster, &["0-2730"]);
    let to_replica = refused(&slots, &job(&cluster, 0, 4), Action::Prepare).await;
    assert!(to_replica.retry == Retry::Permanent && to_replica.detail.contains("replica"), "{to_replica}");
    let old_plan = refused(&slots, &job(&cluster, 1, 2), Action::Prepare).await;
    assert!(old_plan.detail.contains("out of date"), "{old_plan}");
    let commit = refused(&slots, &job(&cluster, 1, 2), Action::Commit).await;
    assert!(commit.retry == Retry::Permanent && commit.detail.contains("out of date"), "{commit}");

    let job = job(&cluster, 0, 1);
    let id = cluster.nodes[2].text(&["CLUSTER", "MYID"]);
    cluster.nodes[0].ask(&["CLUSTER", "SETSLOT", "5000", "MIGRATING", &id]);
    let foreign = refused(&slots, &job, Action::Prepare).await;
    assert!(foreign.detail.contains("slot 5000") && foreign.retry == Retry::Retryable, "{foreign}");
    cluster.nodes[0].ask(&["CLUSTER", "SETSLOT", "5000", "STABLE"]);

    let library = "#!lua name=carts\nredis.register_function('total', function() return 1 end)";
    cluster.nodes[0].ask(&["FUNCTION", "LOAD", library]);
    let unknown = refused(&slots, &job, Action::Prepare).await;
    assert!(unknown.detail.contains("carts") && unknown.detail.contains("FUNCTION LOAD"), "{unknown}");
    cluster.nodes[1].ask(&["FUNCTION", "LOAD", library]);
    complete(&slots, &job, Action::Prepare).await;
    for artifact in slots.artifacts(&job, &Action::Prepare) {
        complete(&slots, &job, Action::Cleanup { artifact }).await;
    }

    let large = counters(1).remove(0);
    cluster.nodes[0].ask(&["SETRANGE", &large, &(40 << 20).to_string(), "x"]);
    let stops = refused(&slots, &job, Action::Replicate).await;
    assert!(stops.detail.contains(&large) && stops.retry == Retry::Permanent, "{stops}");

    complete(&slots, &job, Action::Unfence).await;
    all_agree(&cluster, 0);
    assert_eq!(keys_in_range(&cluster, 1), 0);
}

#[test]
fn a_host_is_emptied_slot_by_slot_without_an_empty_node_while_a_client_writes() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    fill(&cluster, 3_000);
    let program = program(&cluster, "1s");
    let writer = writer(&cluster, 0, counters(40));
    let (well, report) = program.report(&["evacuate", "127.0.0.1", "--yes"]);
    let (seen, keys) = writer.finish();
    assert!(well, "{report:#}");
    assert_eq!(report["migrations"]["completed"], 2, "{report:#}");
    println!("emptied under writes: {seen:?}");
    nothing_is_lost(&cluster, &seen, &keys);
    support::wait_until("no node names the first as owner", Duration::from_secs(10), || {
        (0..6).all(|asked| {
            [0, 2730, 2731, 5460].iter().all(|slot| cluster.owner(*slot, asked).is_some_and(|n| n != 0))
        })
    });
    assert_eq!(cluster.nodes[0].text(&["DBSIZE"]), "0");
    // The next host is emptied onto it: it stayed a master.
    assert!(cluster.nodes[0].text(&["INFO", "replication"]).contains("role:master"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_with_keys_on_both_sides_goes_on_where_it_stood() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    fill(&cluster, 60_000);
    let program = program(&cluster, "1s");
    let mut engine = program.engine(&[]);
    program.begin("127.0.0.1", LONG).await;
    let writer = writer(&cluster, 0, counters(40));
    support::wait_until("keys are on both sides", LONG, || {
        let there: u64 = (1..3).map(|n| keys_in_range(&cluster, n)).sum();
        there > 500 && keys_in_range(&cluster, 0) > 500
    });
    engine.kill();
    assert!(keys_in_range(&cluster, 0) > 0, "it was killed on the way");
    let _engine = program.engine(&[]);
    support::wait_until("the host is empty", LONG, || cluster.nodes[0].text(&["DBSIZE"]) == "0");
    let (seen, keys) = writer.finish();
    nothing_is_lost(&cluster, &seen, &keys);
    support::wait_until_async("both moves are done", LONG, async || {
        let views = program.snapshot().await.migrations;
        let done = views.iter().filter(|m| m.phase == Phase::Done).count();
        views.iter().for_each(|m| println!("{} {}: {}", m.id, m.phase.word(), m.waiting));
        done == 2
    })
    .await;
    support::wait_until("every node names one owner", Duration::from_secs(10), || {
        let owners: Vec<_> = (0..6).map(|asked| cluster.owner(1000, asked)).collect();
        owners.iter().all(|owner| *owner == owners[0] && owner.is_some_and(|n| n != 0))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_undoes_it_after_the_cut_has_the_slots_where_they_were_and_nothing_is_lost() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    fill(&cluster, 3_000);
    let program = program(&cluster, "10m");
    let _engine = program.engine(&[]);
    let writer = writer(&cluster, 0, counters(40));
    program.begin("127.0.0.1", LONG).await;
    support::wait_until_async("both are watched", LONG, async || {
        let views = program.snapshot().await.migrations;
        views.iter().filter(|m| m.phase == Phase::Soaking).count() == 2
    })
    .await;
    assert_eq!(keys_in_range(&cluster, 0), 0);
    for migration in program.snapshot().await.migrations.iter() {
        let (status, said) =
            program.ask(serde_json::json!({ "command": "roll_back", "migration": migration.id })).await;
        assert_eq!(status, 200, "{said}");
    }
    support::wait_until_async("both are undone", LONG, async || {
        let views = program.snapshot().await.migrations;
        views.iter().filter(|m| m.phase == Phase::RolledBack).count() == 2
    })
    .await;
    let (seen, keys) = writer.finish();
    all_agree(&cluster, 0);
    nothing_is_lost(&cluster, &seen, &keys);
    assert_eq!(keys_in_range(&cluster, 0), 3_040);
    let driver = mover(&cluster, &["0-2730"]);
    assert_eq!(driver.leaks().await.expect("a list"), [], "no mark is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_as_large_as_its_keys_and_goes_nowhere_where_they_have_no_room() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    fill(&cluster, 20_000);
    let mover = mover(&cluster, &["0-2730", "2731-5460"]);
    let found = mover.discover().await.expect("a topology");
    let sizes =
        ["cart-0-2730", "cart-2731-5460"].map(|id| found.workload(&id.into()).expect("a workload").size.0);
    assert!(sizes[0] > 1_000_000 && sizes[1] == 0, "all keys stand in the first: {sizes:?}");
    // Room for three quarters of it: more than half of what its node holds.
    let used = cluster.nodes[2].text(&["INFO", "memory"]);
    let used = used.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a number");
    let limit = used.trim().parse::<u64>().expect("a number") + sizes[0] / 4 * 3;
    cluster.nodes[2].text(&["CONFIG", "SET", "maxmemory", &limit.to_string()]);
    let error = refused(&mover, &job(&cluster, 0, 2), Action::Prepare).await;
    assert!(error.to_string().contains("its maxmemory is"), "{error}");
    cluster.nodes[2].text(&["CONFIG", "SET", "maxmemory", "0"]);
    complete(&mover, &job(&cluster, 0, 2), Action::Prepare).await;
}
