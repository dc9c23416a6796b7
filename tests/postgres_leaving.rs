//! What a migration of a real PostgreSQL does not get, and what it leaves: a stream whose slot the server
//! has given up is noticed and named before the cut and after it.

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/postgres_steps.rs"]
mod postgres_steps;
mod support;

use foreshift::drivers::postgres::PostgresMover;
use foreshift::drivers::{Action, DriverError, Job, Mover, Retry};
use foreshift::fleet::Generation;
use postgres::{Cluster, Clusters, schema};
use postgres_steps::{LONG, before_the_cut, cleanup, complete, job, mover, ours, permit, soon, the_cut};
use support::wait_until_async;

/// Stops the subscriber, and writes more at the publisher than it keeps for it; returns the slot.
async fn lose_the_slot(publisher: &Cluster, subscriber: &Cluster, stream: &str) {
    subscriber.ask(&format!("ALTER SUBSCRIPTION {stream} DISABLE")).await;
    publisher.sql_in("postgres", "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
    publisher.sql_in("postgres", "SELECT pg_reload_conf()");
    let lost = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{stream}'");
    wait_until_async("the server gives the slot up", LONG, async || {
        publisher.ask("SELECT pg_logical_emit_message(false, 'a', 'b')").await;
        publisher.ask("SELECT pg_switch_wal()").await;
        publisher.ask("CHECKPOINT").await;
        publisher.text(&lost).await == "lost"
    })
    .await;
}

async fn refused(mover: &PostgresMover, job: &Job, action: Action) -> DriverError {
    let answer = mover.perform(job, &action, &permit()).await;
    let error = answer.expect_err(action.name());
    assert_eq!(error.retry, Retry::Permanent, "{}: {error}", action.name());
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_the_server_gave_up_is_named_before_the_cut_and_nothing_is_left_of_it() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(300)).await;
    let mover = mover(&clusters);
    let job = job(&clusters, 0, 1);
    before_the_cut(&mover, &job).await;
    assert_eq!(mover.status(&job).await.unwrap().broken, None);
    let slot = "SELECT slot_name FROM pg_replication_slots";
    let stream = clusters.all[0].text(slot).await;
    lose_the_slot(&clusters.all[0], &clusters.all[1], &stream).await;

    let status = mover.status(&job).await.unwrap();
    let why = status.broken.clone().expect("it is noticed");
    println!("{why}");
    for word in [stream.as_str(), "is lost", "max_slot_wal_keep_size = 1MB", "begin anew"] {
        assert!(why.contains(word), "{why}");
    }
    assert!(!status.streaming && status.source_alive, "{status:?}");
    for action in [Action::Replicate, Action::Verify, Action::ProbeReverse, soon()] {
        let error = refused(&mover, &job, action).await;
        assert!(error.to_string().contains(&stream), "{error}");
    }
    // Nothing was held, nothing stays behind, and another attempt works.
    clusters.all[0].ask("INSERT INTO orders.log (counter) VALUES (1)").await;
    complete(&mover, &job, Action::StopReplication).await;
    cleanup(&mover, &job, true).await;
    assert_eq!(mover.leaks().await.unwrap(), []);
    for n in 0..2 {
        assert_eq!(ours(&clusters, n).await, Vec::<Vec<String>>::new());
    }
    clusters.all[0].sql_in("postgres", "ALTER SYSTEM RESET max_slot_wal_keep_size");
    clusters.all[0].sql_in("postgres", "SELECT pg_reload_conf()");
    before_the_cut(&mover, &job).await;
    the_cut(&mover, &job).await;
    complete(&mover, &job, Action::EnableReverse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_cut_a_lost_slot_means_that_there_is_no_way_back_and_that_is_said() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(300)).await;
    let mover = mover(&clusters);
    let job = job(&clusters, 0, 1);
    before_the_cut(&mover, &job).await;
    the_cut(&mover, &job).await;
    complete(&mover, &job, Action::EnableReverse).await;
    let back = clusters.all[1].text("SELECT slot_name FROM pg_replication_slots").await;
    lose_the_slot(&clusters.all[1], &clusters.all[0], &back).await;

    let status = mover.status(&job).await.unwrap();
    assert!(status.note.contains("the way back is gone") && status.note.contains(&back), "{status:?}");
    // The new owner goes on; nothing of it is undone.
    assert_eq!((status.streaming, status.broken.as_deref()), (true, None), "{status:?}");
    let error = refused(&mover, &job, Action::EnableReverse).await;
    println!("{error}");
    assert!(error.detail.contains("the way back is gone") && error.detail.contains(&back), "{error}");
    let error = refused(&mover, &job.mirrored(Generation(2)), soon()).await;
    assert!(error.detail.contains("the way back is gone"), "{error}");
    clusters.all[1].ask("INSERT INTO orders.log (counter) VALUES (1)").await;

    complete(&mover, &job, Action::Retire).await;
    cleanup(&mover, &job, false).await;
    assert_eq!(mover.leaks().await.unwrap(), []);
    for n in 0..2 {
        assert_eq!(ours(&clusters, n).await, Vec::<Vec<String>>::new());
    }
}
