//! The guard of a tenant's rows on real PostgreSQL 15 servers: who writes while the owner changes is either
//! refused, or what he wrote goes wherever the tenant goes, the way back included.

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/postgres_steps.rs"]
mod postgres_steps;
#[path = "support/postgres_tenants.rs"]
mod postgres_tenants;
mod support;

use std::time::Duration;

use foreshift::drivers::{Action, Answer, Mover};
use foreshift::fleet::Generation;
use postgres::{Cluster, Clusters, connect_as_client};
use postgres_steps::{LONG, before_the_cut, cleanup, complete, permit, seal, soon, the_cut};
use postgres_tenants::{TenantWriter, content, tenant_is_there, tenant_job, tenant_mover, two_clusters};
use support::wait_until_async;

/// Runs a client's statements, and returns once the server stands in their `pg_sleep`.
async fn asleep(cluster: &Cluster, sql: &str) -> tokio::task::JoinHandle<Result<(), tokio_postgres::Error>> {
    let client = connect_as_client(cluster.address).await.unwrap();
    let sql = sql.to_string();
    let task = tokio::spawn(async move { client.batch_execute(&sql).await });
    wait_until_async("the client sleeps", LONG, async || {
        cluster.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").await != "0"
    })
    .await;
    task
}

/// The old owner gets all that was written at the new one.
async fn both_hold_the_same(clusters: &Clusters, tenant: u32) {
    wait_until_async("the way back brought everything", LONG, async || {
        content(&clusters.all[0], tenant).await == content(&clusters.all[1], tenant).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_while_the_destination_opens_is_refused_or_goes_the_way_back() {
    let Some(clusters) = two_clusters(20).await else { return };
    let away = &clusters.all[1];
    let mover = tenant_mover(&clusters);
    let job = tenant_job(&clusters, 7, 0, 1);
    before_the_cut(&mover, &job).await;
    complete(&mover, &job, soon()).await;
    complete(&mover, &job, seal()).await;
    assert_eq!(complete(&mover, &job, Action::VerifyAtCut).await.equal, Some(true));
    // One wrote a row of the tenant before the destination opens, with a second row after it; the other wrote
    // somebody else's before and the tenant's after, in one transaction and the same table.
    let early = "INSERT INTO shop.notes (tenant_id, body) \
        SELECT 7, 'early' || coalesce(CASE g WHEN 2 THEN pg_sleep(3)::text END, '') FROM generate_series(1, 2) g";
    let both = "BEGIN; INSERT INTO shop.notes (tenant_id, body) VALUES (21, 'before'); SELECT pg_sleep(3); \
        INSERT INTO shop.notes (tenant_id, body) VALUES (7, 'after'); COMMIT";
    let early = {
        let client = connect_as_client(away.address).await.unwrap();
        tokio::spawn(async move { client.batch_execute(early).await })
    };
    let both = asleep(away, both).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    complete(&mover, &job, Action::Open).await;
    let early = early.await.unwrap();
    both.await.unwrap().unwrap();
    // It is asked before its first row is written, and nobody owned it here then.
    assert_eq!(early.unwrap_err().code().unwrap().code(), "25006");
    assert_eq!(away.text("SELECT count(*) FROM shop.notes WHERE body LIKE 'early%'").await, "0");
    // A transaction of another tenant that was under way is no reason to send nothing later on, either.
    let client = connect_as_client(away.address).await.unwrap();
    client.batch_execute("INSERT INTO shop.notes (tenant_id, body) VALUES (7, 'later')").await.unwrap();
    assert_eq!(complete(&mover, &job, Action::EnableReverse).await.equal, Some(true));
    both_hold_the_same(&clusters, 7).await;
    // And it is there after the way back was gone.
    let back = job.mirrored(Generation(2));
    the_cut(&mover, &back).await;
    let there = "SELECT count(*) FROM shop.notes WHERE tenant_id = 7 AND body IN ('after', 'later')";
    assert_eq!(clusters.all[0].text(there).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_change_places_at_the_same_time_under_writes() {
    let Some(clusters) = two_clusters(500).await else { return };
    let mover = tenant_mover(&clusters);
    let jobs = [tenant_job(&clusters, 7, 0, 1), tenant_job(&clusters, 21, 1, 0)];
    let writers = [(7, 0, 1), (8, 0, 0), (21, 1, 0)]
        .map(|(t, from, to)| (t, to, TenantWriter::start(&clusters, t, from)));
    let (a, b) = (mover.clone(), mover.clone());
    tokio::join!(before_the_cut(&a, &jobs[0]), before_the_cut(&b, &jobs[1]));
    tokio::join!(the_cut(&a, &jobs[0]), the_cut(&b, &jobs[1]));
    for job in &jobs {
        let reverse = complete(&mover, job, Action::EnableReverse).await;
        assert_eq!(reverse.equal, Some(true), "{reverse:?}");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for job in &jobs {
        complete(&mover, job, Action::Retire).await;
        cleanup(&mover, job, false).await;
    }
    for (tenant, at, writer) in writers {
        let seen = writer.finish();
        println!("tenant {tenant}: {seen:?}");
        assert!(seen.acknowledged > 50 && seen.unknown == 0, "{seen:?}");
        tenant_is_there(&clusters.all[at], tenant, &seen).await;
    }
    assert_eq!(mover.leaks().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_older_than_the_guard_is_waited_for() {
    let Some(clusters) = two_clusters(20).await else { return };
    let mover = tenant_mover(&clusters);
    let job = tenant_job(&clusters, 7, 0, 1);
    // The mark has to be there, or the first look at it would make it.
    let older = connect_as_client(clusters.all[0].address).await.unwrap();
    older
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM shop.notes")
        .await
        .unwrap();
    let answer = mover.perform(&job, &Action::Prepare, &permit()).await.unwrap();
    let Answer::Working { waiting_for } = answer else { panic!("{answer:?}") };
    println!("{waiting_for}");
    assert!(waiting_for.contains("before the guard"), "{waiting_for}");
    older.batch_execute("INSERT INTO shop.notes (tenant_id, body) VALUES (7, 'late'); COMMIT").await.unwrap();
    before_the_cut(&mover, &job).await;
    // One with a snapshot from before the cut is refused after it.
    older
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM shop.notes")
        .await
        .unwrap();
    the_cut(&mover, &job).await;
    let error = older.batch_execute("INSERT INTO shop.notes (tenant_id) VALUES (7)").await.unwrap_err();
    assert!(["40001", "25006"].contains(&error.code().unwrap().code()), "{error:?}");
    assert_eq!(clusters.all[1].text("SELECT count(*) FROM shop.notes WHERE body = 'late'").await, "1");
}
