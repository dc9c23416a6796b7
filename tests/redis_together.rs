//! Ranges of slots that go in one step, between real servers that can do that: Valkey 9 and Redis 8.4 or newer.
//! `FORESHIFT_TEST_SLOT_SERVERS` names their programs (as `PATH` names folders); without it the tests say so and
//! pass. Every test is run with each of them.

#[path = "support/program.rs"]
mod program;
#[path = "support/redis_cluster.rs"]
mod redis_cluster;
#[path = "support/redis_ranges.rs"]
mod redis_ranges;
mod support;

use std::time::Duration;

use foreshift::drivers::redis::RedisSlotMover;
use foreshift::drivers::{Action, Answer, Job, Mover, Probe, Retry};
use foreshift::fleet::Phase;
use foreshift::protocol::MigrationView;
use redis_cluster::{RedisCluster, ask};
use redis_ranges::*;

/// A cluster of each server that is named.
fn clusters() -> impl Iterator<Item = RedisCluster> {
    let named = std::env::var_os("FORESHIFT_TEST_SLOT_SERVERS");
    if named.is_none() {
        println!("skipped: needs FORESHIFT_TEST_SLOT_SERVERS (programs of Valkey 9, of Redis 8.4)");
    }
    let programs: Vec<_> = named.iter().flat_map(std::env::split_paths).collect();
    programs.into_iter().map(|program| {
        println!("with {}", program.display());
        RedisCluster::started(program, 0)
    })
}

/// Lets a node take its time for every key that it copies.
fn slow(cluster: &RedisCluster, node: usize, us: u32) {
    cluster.nodes[node].ask(&["CONFIG", "SET", "rdb-key-save-delay", &us.to_string()]);
}

/// Asks for the commit until the servers are at it.
async fn begun(mover: &RedisSlotMover, job: &Job) {
    complete(mover, job, Action::Prepare).await;
    let answer = mover.perform(job, &Action::Commit, &permit()).await.expect("a beginning");
    assert!(matches!(answer, Answer::Working { .. }), "{answer:?}");
    support::wait_until_async("the servers are at it", LONG, async || {
        mover.probe(job, &Action::Commit).await == Probe::InProgress
    })
    .await;
}

/// Nothing of the range is where it is not owned; a node removes what it staged in the background.
fn only_at(cluster: &RedisCluster, owner: usize, keys: u64) {
    support::wait_until("the keys are at their owner alone", LONG, || {
        (0..3).all(|node| keys_in_range(cluster, node) == if node == owner { keys } else { 0 })
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_goes_in_one_step_and_back_under_writes_and_no_slot_is_ever_half_moved() {
    for cluster in clusters() {
        fill(&cluster, 20_000);
        // Key by key it would be refused: `MIGRATE` stops both nodes.
        let large = counters(41).remove(40);
        cluster.nodes[0].ask(&["SETRANGE", &large, &(40 << 20).to_string(), "x"]);
        let mover = mover(&cluster, &["0-2730"]);
        let mut counted = 0;
        for (from, to) in [(0, 2), (2, 0)] {
            mover.discover().await.expect("a topology");
            let job = job(&cluster, from, to);
            let shown = mover.describe(&job).join("\n");
            assert!(shown.contains("MIGRATESLOTS") || shown.contains("MIGRATION IMPORT 0 2730"), "{shown}");
            assert!(!shown.contains("SETSLOT"), "{shown}");

            let writer = writer(&cluster, from, counters(40));
            let watched = cluster.nodes[1].address;
            let looking = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
            let looks = looking.clone();
            let watcher = std::thread::spawn(move || {
                let mut connection = redis_cluster::connect(watched);
                let mut seen = std::collections::BTreeSet::new();
                while looks.load(std::sync::atomic::Ordering::SeqCst) {
                    let said: String =
                        redis::from_redis_value(ask(&mut connection, &["CLUSTER", "NODES"])).expect("a text");
                    let slots = said.lines().flat_map(|l| l.split_ascii_whitespace().skip(8));
                    seen.extend(slots.map(str::to_string));
                    std::thread::sleep(Duration::from_millis(1));
                }
                seen
            });
            moved(&mover, &job).await;
            let (seen, keys) = writer.finish();
            looking.store(false, std::sync::atomic::Ordering::SeqCst);
            println!("moved under writes: {seen:?}");
            all_agree(&cluster, to);
            counted = nothing_more_is_lost(&cluster, counted, &seen, &keys);
            let ranges = watcher.join().expect("it looked");
            for range in ranges {
                let whole = ["0-5460", "0-2730", "2731-5460", "5461-10922", "10923-16383"];
                assert!(whole.contains(&range.as_str()), "{range} was seen");
            }
            only_at(&cluster, to, 20_041);
            // Done again it changes nothing.
            moved(&mover, &job).await;
            for artifact in mover.artifacts(&job, &Action::Prepare) {
                complete(&mover, &job, Action::Cleanup { artifact }).await;
            }
            assert_eq!(mover.leaks().await.expect("a list"), []);
            assert_eq!(mover.status(&job).await.expect("a status").owner, Some(cluster.partition(to)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mover_that_dies_while_the_servers_copy_is_followed_by_one_that_waits_for_them() {
    for cluster in clusters() {
        fill(&cluster, 5_000);
        slow(&cluster, 0, 400);
        let job = job(&cluster, 0, 1);
        let writer = writer(&cluster, 0, counters(40));
        begun(&mover(&cluster, &["0-2730"]), &job).await;

        let goes_on = mover(&cluster, &["0-2730"]);
        let status = goes_on.status(&job).await.expect("a status");
        assert_eq!(status.owner, None, "it is being decided: {status:?}");
        assert!(status.note.contains("the servers move the slots"), "{status:?}");
        let other = refused(&mover(&cluster, &["0-2000"]), &part(&job), Action::Prepare).await;
        assert!(other.detail.contains("moves some of these slots already"), "{other}");
        // Asked again it is not begun twice.
        complete(&goes_on, &job, Action::Commit).await;
        complete(&goes_on, &job, Action::Open).await;
        let (seen, keys) = writer.finish();
        all_agree(&cluster, 1);
        nothing_is_lost(&cluster, &seen, &keys);
        only_at(&cluster, 1, 5_040);
    }
}

/// The same way with some of the slots only.
fn part(job: &Job) -> Job {
    Job { workload: "cart-0-2000".into(), ..job.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_off_before_the_owner_changed_leaves_everything_as_it_was() {
    for cluster in clusters() {
        fill(&cluster, 5_000);
        slow(&cluster, 0, 400);
        let (driver, job) = (mover(&cluster, &["0-2730"]), job(&cluster, 0, 1));
        let writer = writer(&cluster, 0, counters(40));
        begun(&driver, &job).await;
        // By another process, twice, as an engine does that comes after one which died.
        for _ in 0..2 {
            complete(&mover(&cluster, &["0-2730"]), &job, Action::Unfence).await;
        }
        assert_eq!(driver.probe(&job, &Action::Commit).await, Probe::NotStarted);
        assert_eq!(driver.status(&job).await.expect("a status").owner, Some(cluster.partition(0)));
        let told = refused(&driver, &job, Action::Commit).await;
        assert_eq!(told.retry, Retry::Retryable, "{told}");
        all_agree(&cluster, 0);
        only_at(&cluster, 0, 5_040);

        slow(&cluster, 0, 0);
        complete(&driver, &job, Action::Commit).await;
        complete(&driver, &job, Action::Open).await;
        let (seen, keys) = writer.finish();
        all_agree(&cluster, 1);
        nothing_is_lost(&cluster, &seen, &keys);
        only_at(&cluster, 1, 5_040);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_dies_on_the_way_leaves_the_slots_and_every_write_at_the_source() {
    for mut cluster in clusters() {
        fill(&cluster, 5_000);
        slow(&cluster, 0, 400);
        let (driver, job) = (mover(&cluster, &["0-2730"]), job(&cluster, 0, 1));
        let writer = writer(&cluster, 0, counters(40));
        begun(&driver, &job).await;
        cluster.kill(1);
        let told = refused(&driver, &job, Action::Commit).await;
        println!("told: {told}");
        assert_ne!(told.retry, Retry::Permanent, "{told}");
        cluster.restart(1);
        support::wait_until_async("nothing is under way", LONG, async || {
            let let_go = driver.perform(&job, &Action::Unfence, &permit()).await;
            matches!(let_go, Ok(Answer::Done(_)))
        })
        .await;
        let (seen, keys) = writer.finish();
        assert_eq!(driver.status(&job).await.expect("a status").owner, Some(cluster.partition(0)));
        nothing_is_lost(&cluster, &seen, &keys);
        only_at(&cluster, 0, 5_040);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_undoes_it_while_the_servers_copy_does_not_wait_for_them() {
    for cluster in clusters() {
        fill(&cluster, 20_000);
        slow(&cluster, 0, 2_000);
        let program = program(&cluster, "10m");
        let _engine = program.engine(&[]);
        let writer = writer(&cluster, 0, counters(40));
        program.begin("127.0.0.1", LONG).await;
        support::wait_until_async("the servers are at it", LONG, async || {
            let views = program.snapshot().await.migrations;
            views.iter().any(|m| m.phase == Phase::Committing && m.waiting.contains("together"))
        })
        .await;
        let begin = std::time::Instant::now();
        for migration in program.snapshot().await.migrations.iter() {
            let command = serde_json::json!({ "command": "roll_back", "migration": migration.id });
            let (status, said) = program.ask(command).await;
            assert_eq!(status, 200, "{said}");
        }
        support::wait_until_async("both are undone", LONG, async || {
            let views = program.snapshot().await.migrations;
            views.iter().all(|m| m.phase.is_end())
        })
        .await;
        println!("called off within {:?}", begin.elapsed());
        let ends: Vec<_> = program.snapshot().await.migrations.iter().map(|m| m.phase).collect();
        assert!(!ends.contains(&Phase::Done), "{ends:?}");
        let (seen, keys) = writer.finish();
        all_agree(&cluster, 0);
        nothing_is_lost(&cluster, &seen, &keys);
        only_at(&cluster, 0, 20_040);
        assert_eq!(mover(&cluster, &["0-2730"]).leaks().await.expect("a list"), [], "no mark is left");
    }
}

/// The move of the slots that hold all keys.
async fn large(program: &program::Program) -> MigrationView {
    let snapshot = program.snapshot().await;
    let found = snapshot.migrations.iter().find(|m| m.workload.as_str() == "cart-0-2730");
    found.expect("a migration").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_dies_on_the_way_is_followed_by_its_replica_and_the_move_ends() {
    for mut cluster in clusters() {
        fill(&cluster, 20_000);
        slow(&cluster, 0, 2_000);
        let program = program(&cluster, "10m");
        let _engine = program.engine(&[]);
        program.begin("127.0.0.1", LONG).await;
        support::wait_until_async("the servers are at it", LONG, async || {
            let view = large(&program).await;
            view.phase == Phase::Committing && view.waiting.contains("together")
        })
        .await;
        cluster.kill(0);
        support::wait_until("the replica takes over", LONG, || cluster.owner(0, 1) == Some(3));
        support::wait_until_async("it is known to be elsewhere", LONG, async || {
            let view = large(&program).await;
            view.phase.is_end() || view.phase == Phase::RollingBackPre
        })
        .await;
        cluster.restart(0);
        support::wait_until_async("it is undone", LONG, async || {
            large(&program).await.phase == Phase::Aborted
        })
        .await;
        support::wait_until("what was staged is gone", LONG, || {
            [1, 2, 3].map(|node| keys_in_range(&cluster, node)) == [0, 0, 20_000]
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_empties_a_host_and_undoes_it_while_a_client_writes() {
    for cluster in clusters() {
        fill(&cluster, 5_000);
        let program = program(&cluster, "10m");
        let _engine = program.engine(&[]);
        let writer = writer(&cluster, 0, counters(40));
        program.begin("127.0.0.1", LONG).await;
        support::wait_until_async("both are watched", LONG, async || {
            let views = program.snapshot().await.migrations;
            views.iter().for_each(|m| println!("{} {}: {}", m.id, m.phase.word(), m.waiting));
            views.iter().filter(|m| m.phase == Phase::Soaking).count() == 2
        })
        .await;
        support::wait_until("the host is empty", LONG, || keys_in_range(&cluster, 0) == 0);
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
        println!("there and back under writes: {seen:?}");
        all_agree(&cluster, 0);
        nothing_is_lost(&cluster, &seen, &keys);
        only_at(&cluster, 0, 5_040);
        assert_eq!(mover(&cluster, &["0-2730"]).leaks().await.expect("a list"), [], "no mark is left");
    }
}
