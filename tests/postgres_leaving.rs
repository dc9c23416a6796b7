//! What a migration of a real PostgreSQL does not get, and what it leaves: a stream whose slot the server
//! has given up is noticed and named before the cut and after it, and a source that is to be decommissioned
//! loses its copy, by name, and only where it certainly is a copy.

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/postgres_steps.rs"]
mod postgres_steps;
mod support;

use std::time::Duration;

use foreshift::drivers::postgres::{AfterMove, PostgresMover};
use foreshift::drivers::{Action, Answer, Artifact, DriverError, Job, Mover, Permit, Probe, Retry};
use foreshift::fleet::{Epoch, Generation, MigrationId};
use postgres::{Cluster, Clusters, rows, schema};
use postgres_steps::{
    LONG, artifacts, before_the_cut, cleanup, complete, guards, job, mover, options, ours, permit, seal,
    soon, the_cut,
};
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

fn leaving_nothing(clusters: &Clusters) -> PostgresMover {
    let mut options = options(clusters);
    options.after_move = AfterMove::DropCopy;
    PostgresMover::new(options)
}

/// Relations of the schema on a cluster.
async fn relations(cluster: &Cluster) -> String {
    let sql = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = 'orders'";
    cluster.text(sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decommissioned_source_loses_its_copy_and_keeps_its_mark_however_often_it_is_asked() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(300)).await;
    let more = "CREATE VIEW orders.busy AS SELECT * FROM orders.items WHERE mood = 'busy'; \
        CREATE FUNCTION orders.twice(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1'";
    clusters.all[0].ask(more).await;
    let (first, second) = (leaving_nothing(&clusters), leaving_nothing(&clusters));
    let job = job(&clusters, 0, 1);
    let said = first.describe(&job).join("\n");
    assert!(said.contains("DROP of all that is in orders"), "{said}");
    before_the_cut(&first, &job).await;
    the_cut(&first, &job).await;
    complete(&first, &job, Action::EnableReverse).await;
    assert_eq!(second.probe(&job, &Action::Retire).await, Probe::NotStarted);
    println!("{}", complete(&first, &job, Action::Retire).await.summary);
    assert!(matches!(second.probe(&job, &Action::Retire).await, Probe::Applied { .. }));
    for mover in [&second, &first] {
        complete(mover, &job, Action::Retire).await;
        cleanup(mover, &job, false).await;
    }
    assert_eq!(first.leaks().await.unwrap(), []);
    for n in 0..2 {
        assert_eq!(ours(&clusters, n).await, Vec::<Vec<String>>::new());
    }
    assert_eq!(clusters.all[0].text("SELECT count(*) FROM pg_namespace WHERE nspname = 'orders'").await, "0");
    assert_eq!(clusters.all[1].text("SELECT orders.twice(count(*)::int) FROM orders.items").await, "600");
    assert_eq!(guards(&clusters, 1).await, "0");
    // Who was deposed is still refused there, and where the owner is, is still known.
    let mark = "SELECT mode || ' ' || epoch || ' ' || owner_is FROM foreshift.owner";
    let expected = format!("standby 5 {}", clusters.all[1].address);
    assert_eq!(clusters.all[0].text(mark).await, expected);
    let found = first.discover().await.unwrap();
    assert_eq!(found.workload(&job.workload).unwrap().partition, job.destination);

    // It can come back, and the other place is then left the same way.
    let home = Job { migration: MigrationId(8), ..job.mirrored(Generation(2)) };
    let deposed = Permit::mint_for_runner(Epoch(4), "test");
    let error = first.perform(&home, &Action::Prepare, &deposed).await.unwrap_err();
    assert!(error.detail.contains("deposed"), "{error}");
    before_the_cut(&first, &home).await;
    the_cut(&first, &home).await;
    complete(&first, &home, Action::EnableReverse).await;
    complete(&first, &home, Action::Retire).await;
    cleanup(&first, &home, false).await;
    assert_eq!(relations(&clusters.all[1]).await, "0");
    assert_eq!(clusters.all[0].text("SELECT count(*) FROM orders.busy").await, "150");
    assert_eq!(first.leaks().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_the_owner_or_is_needed_elsewhere_is_never_dropped() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(100)).await;
    let mover = leaving_nothing(&clusters);
    let job = job(&clusters, 0, 1);
    before_the_cut(&mover, &job).await;
    // Before the switch the destination owns nothing.
    assert!(refused(&mover, &job, Action::Retire).await.detail.contains("does not own"));
    the_cut(&mover, &job).await;
    complete(&mover, &job, Action::EnableReverse).await;
    let all = relations(&clusters.all[0]).await;

    // The source became the owner again, at a later generation, and the destination does not know yet.
    let owner = "UPDATE foreshift.owner SET mode = 'writable', generation = 2";
    let copy = "UPDATE foreshift.owner SET mode = 'standby', generation = 0";
    clusters.all[0].ask(owner).await;
    let error = refused(&mover, &job, Action::Retire).await;
    println!("{error}");
    assert!(error.detail.contains("writable") && error.detail.contains("nothing was dropped"), "{error}");
    // A newer leader was here.
    clusters.all[0].ask(&format!("{copy}, epoch = 6")).await;
    assert!(refused(&mover, &job, Action::Retire).await.detail.contains("deposed"));
    // Something of another schema stands on it.
    clusters.all[0].ask(&format!("{copy}, epoch = 5")).await;
    clusters.all[0].ask("CREATE SCHEMA reports; CREATE VIEW reports.all AS SELECT a FROM orders.items").await;
    let error = refused(&mover, &job, Action::Retire).await;
    println!("{error}");
    assert!(error.detail.contains("relation reports.\"all\""), "{error}");
    assert_eq!(mover.probe(&job, &Action::Retire).await, Probe::NotStarted);
    assert_eq!(relations(&clusters.all[0]).await, all);
    assert_eq!(clusters.all[0].text("SELECT count(*) FROM reports.all").await, "100");
    // Who writes to a table there now is waited for, and not for ever.
    clusters.all[0].ask("DROP VIEW reports.all").await;
    let reader = clusters.all[0].connect().await.unwrap();
    reader.batch_execute("BEGIN; SELECT 1 FROM orders.items LIMIT 1").await.unwrap();
    let error = mover.perform(&job, &Action::Retire, &permit()).await.unwrap_err();
    assert_eq!(error.retry, Retry::Retryable, "{error}");
    tokio::time::sleep(Duration::from_millis(10)).await;
    reader.batch_execute("ROLLBACK").await.unwrap();
    complete(&mover, &job, Action::Retire).await;
    cleanup(&mover, &job, false).await;
    assert_eq!(relations(&clusters.all[0]).await, "0");
    assert!(artifacts(&mover, &job).len() > 4);
    assert_eq!(mover.leaks().await.unwrap(), []);
}

/// What is left of a cut whose engine died and whose journal is lost.
fn fences(leaks: Vec<Artifact>) -> Vec<Artifact> {
    leaks.into_iter().filter(|left| left.kind == Artifact::FENCE).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_no_journal_knows_makes_the_last_owner_writable_or_a_copy_of_the_next() {
    let Some(mut clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(300)).await;
    let mover = mover(&clusters);
    let job = job(&clusters, 0, 1);
    let write = "INSERT INTO orders.log (counter) VALUES (1)";
    before_the_cut(&mover, &job).await;
    complete(&mover, &job, soon()).await;
    // A hold that ends by itself is none.
    assert_eq!(fences(mover.leaks().await.unwrap()), []);
    complete(&mover, &job, seal()).await;
    let held = fences(mover.leaks().await.unwrap());
    assert_eq!((held.len(), &held[0].partition), (1, &job.source), "{held:?}");
    let client = clusters.all[0].connect().await.unwrap();
    rows(&client, write).await.expect_err("it is sealed");
    // Who may be the owner must answer.
    clusters.all[1].kill();
    let error = mover.reap(&held[0], &permit()).await.unwrap_err();
    assert_ne!(error.retry, Retry::Permanent, "{error}");
    rows(&client, write).await.expect_err("nobody knows whose it is");
    clusters.all[1].start();
    wait_until_async("it is freed", LONG, || async { mover.reap(&held[0], &permit()).await.is_ok() }).await;
    rows(&client, write).await.expect("writes go on");
    assert_eq!(fences(mover.leaks().await.unwrap()), []);
    assert!(matches!(mover.reap(&held[0], &permit()).await, Ok(Answer::Done(_))), "asked again");

    the_cut(&mover, &job).await;
    let held = fences(mover.leaks().await.unwrap());
    assert_eq!(held.len(), 1, "the next owner is open: {held:?}");
    let said = mover.reap(&held[0], &permit()).await.unwrap();
    let Answer::Done(said) = said else { panic!("{said:?}") };
    assert!(said.summary.contains("is a copy now"), "{said:?}");
    rows(&client, write).await.expect_err("it is a copy");
    clusters.all[1].ask(write).await;
    assert_eq!(fences(mover.leaks().await.unwrap()), []);
}
