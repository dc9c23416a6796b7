//! The rows of one tenant of tables that many share are moved by the driver between real PostgreSQL 15 servers,
//! under clients of this tenant and of others that write all the while: nothing acknowledged is lost on either,
//! forward and back, and nobody else's rows are touched.

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/postgres_steps.rs"]
mod postgres_steps;
#[path = "support/postgres_tenants.rs"]
mod postgres_tenants;
mod support;

use std::time::Duration;

use foreshift::drivers::postgres::{AfterMove, PostgresMover};
use foreshift::drivers::{Action, Answer, Job, Mover, Probe, Retry};
use foreshift::fleet::{Generation, MigrationId, ServingState, Share, Span, Timestamp, WorkloadId};
use postgres::{Clusters, connect_as_client};
use postgres_steps::{
    LONG, anew, artifacts, before_the_cut, cleanup, complete, ours, permit, seal, soon, the_cut,
};
use postgres_tenants::{
    TenantWriter, content, rows_on, tenant_is_there, tenant_job, tenant_mover, tenant_options, two_clusters,
};
use support::wait_until_async;

/// How many of our triggers are on a cluster.
async fn triggers(clusters: &Clusters, n: usize) -> String {
    clusters.all[n].text("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%foreshift%'").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_moves_and_comes_back_while_all_write_and_nobody_loses_a_write() {
    let Some(clusters) = two_clusters(2_000).await else { return };
    let [home, away] = [&clusters.all[0], &clusters.all[1]];
    let mover = tenant_mover(&clusters);
    let forth = tenant_job(&clusters, 7, 0, 1);
    // Sequences that others use, too: one is ahead at the destination, one behind.
    home.ask("SELECT setval('shop.tickets', 500)").await;
    away.ask("SELECT setval('shop.tickets', 9000); SELECT setval('shop.log_id_seq', 3)").await;
    home.ask("SELECT setval('shop.log_id_seq', 40000)").await;
    for cluster in [home, away] {
        cluster.ask("ANALYZE").await;
    }
    let topology = mover.discover().await.unwrap();
    let found: Vec<String> = topology.workloads.iter().map(|w| format!("{} {}", w.id, w.partition)).collect();
    assert_eq!(found.len(), 4, "{found:?}");
    let seven = topology.workload(&forth.workload).unwrap();
    assert_eq!((seven.partition.clone(), seven.labels["schema"].as_str()), (forth.source.clone(), "shop.7"));
    let (all, one): (u64, u64) = (topology.workloads.iter().map(|w| w.size.0).sum(), seven.size.0);
    assert!(one > 200_000 && one < all / 3, "{one} of {all}");
    assert_eq!(topology.partition(&forth.destination).unwrap().serving, ServingState::Active);
    println!("{}", mover.describe(&forth).join("\n"));

    let writers = [(7, 0), (8, 0), (21, 1)].map(|(t, first)| (t, TenantWriter::start(&clusters, t, first)));
    before_the_cut(&mover, &forth).await;
    let status = mover.status(&forth).await.unwrap();
    assert!(status.streaming && status.lag.is_some_and(|lag| lag < Span::millis(400)), "{status:?}");
    complete(&mover, &forth, Action::CanaryShare { share: Share::MAX }).await;
    wait_until_async("the canary has compared", LONG, async || {
        let (source, destination) = mover.samples(&forth, Timestamp(0)).await.unwrap();
        assert_eq!((source.mismatches, source.errors, destination.errors), (0, 0, 0), "{source:?}");
        destination.compared >= 20
    })
    .await;
    complete(&mover, &forth, Action::CanaryShare { share: Share::MIN }).await;

    // Held is this tenant and nobody else.
    complete(&mover, &forth, soon()).await;
    let client = connect_as_client(home.address).await.unwrap();
    let add =
        |tenant| format!("INSERT INTO shop.notes (tenant_id, body) VALUES ({tenant}, 'while it is held')");
    let refused = client.batch_execute(&add(7)).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006", "{refused:?}");
    client.batch_execute(&add(9)).await.unwrap();
    complete(&mover, &forth, Action::Unfence).await;
    client.batch_execute(&add(7)).await.unwrap();

    the_cut(&mover, &forth).await;
    let refused = client.batch_execute(&add(7)).await.unwrap_err();
    let hint = refused.as_db_error().unwrap().hint().unwrap_or_default().to_string();
    assert_eq!(refused.code().unwrap().code(), "25006");
    let reverse = complete(&mover, &forth, Action::EnableReverse).await;
    println!("{}; {hint}", reverse.summary);
    assert_eq!(reverse.equal, Some(true), "{reverse:?}");
    let refused = client.batch_execute(&add(7)).await.unwrap_err();
    let hint = refused.as_db_error().unwrap().hint().unwrap().to_string();
    assert!(hint.contains(&away.address.to_string()), "{hint}");
    client.batch_execute(&add(8)).await.unwrap();
    assert_eq!(
        away.text("SELECT nextval('shop.tickets')").await,
        "9001",
        "it was set back, or needlessly on"
    );
    let drawn: u64 = away.text("SELECT nextval('shop.log_id_seq')").await.parse().unwrap();
    assert!(drawn > 40_000, "{drawn}: numbers that the source gave away would come again");
    let after = mover.discover().await.unwrap();
    let found = after.workload(&forth.workload).unwrap();
    assert_eq!((found.partition.clone(), found.generation), (forth.destination.clone(), Generation(1)));
    assert_eq!(after.workloads.len(), 4);
    assert_eq!((rows_on(away, 8).await, rows_on(away, 9).await, rows_on(home, 21).await), (0, 0, 0));
    tokio::time::sleep(Duration::from_millis(300)).await;

    // The rollback after the cut: the same the other way.
    let back = forth.mirrored(Generation(2));
    the_cut(&mover, &back).await;
    complete(&mover, &back, Action::StopReplication).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for (tenant, writer) in writers {
        let seen = writer.finish();
        println!("tenant {tenant}: {seen:?}");
        assert!(
            seen.acknowledged > 100 && seen.unknown == 0 && seen.worst < Duration::from_secs(3),
            "{seen:?}"
        );
        assert!(tenant == 7 || seen.refused == 0, "others were held up: {seen:?}");
        tenant_is_there(&clusters.all[usize::from(tenant == 21)], tenant, &seen).await;
    }
    let others = (content(home, 8).await, content(home, 9).await, content(away, 21).await);
    cleanup(&mover, &forth, true).await;
    assert_eq!(mover.leaks().await.unwrap(), []);
    for n in 0..2 {
        assert_eq!(ours(&clusters, n).await, Vec::<Vec<String>>::new());
        assert_eq!(triggers(&clusters, n).await, "0");
    }
    assert_eq!(rows_on(away, 7).await, 0, "the copy is gone");
    assert_eq!(others, (content(home, 8).await, content(home, 9).await, content(away, 21).await));
    client.batch_execute(&add(7)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_on_a_tenant_asked_twice_is_done_once_and_every_probe_tells_what_is_true() {
    let Some(clusters) = two_clusters(200).await else { return };
    let (first, second) = (tenant_mover(&clusters), tenant_mover(&clusters));
    let job = tenant_job(&clusters, 7, 0, 1);
    let before = (content(&clusters.all[0], 7).await, content(&clusters.all[1], 21).await);
    assert_eq!(first.probe(&job, &Action::Prepare).await, Probe::NotStarted);
    let actions = [
        Action::Announce,
        Action::Prepare,
        Action::Replicate,
        Action::Verify,
        Action::ArmReverse,
        Action::ProbeReverse,
        soon(),
        Action::Unfence,
        soon(),
        seal(),
        Action::VerifyAtCut,
        Action::Open,
        Action::EnableReverse,
        Action::Retire,
    ];
    for action in actions {
        let action = anew(&action);
        complete(&first, &job, action.clone()).await;
        let only_done_again = matches!(action, Action::ProbeReverse | Action::EnableReverse);
        if !action.is_read_only() && !only_done_again {
            let probe = second.probe(&job, &action).await;
            assert!(matches!(probe, Probe::Applied { .. }), "{}: {probe:?}", action.name());
        }
        complete(&second, &job, action).await;
    }
    let mut expected = artifacts(&first, &job);
    expected.retain(|a| a.kind != "copy");
    expected.sort();
    assert_eq!(first.leaks().await.unwrap(), expected, "a scan finds what the ledger names");
    for mover in [&first, &second] {
        cleanup(mover, &job, false).await;
    }
    assert_eq!(first.leaks().await.unwrap(), []);
    for n in 0..2 {
        assert_eq!(ours(&clusters, n).await, Vec::<Vec<String>>::new());
    }
    // The old owner goes on refusing; the new one is free.
    assert_ne!(triggers(&clusters, 0).await, "0");
    assert_eq!(triggers(&clusters, 1).await, "0");
    let client = connect_as_client(clusters.all[0].address).await.unwrap();
    let error = client.batch_execute("DELETE FROM shop.days WHERE tenant_id = 7").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006");
    client.batch_execute("DELETE FROM shop.days WHERE tenant_id = 8 AND n < 3").await.unwrap();
    assert_eq!(before, (content(&clusters.all[1], 7).await, content(&clusters.all[1], 21).await));
    // The copy is no loss: it cannot be removed as one while it owns the workload.
    let copy = artifacts(&first, &job).pop().unwrap();
    assert_eq!(copy.kind, "copy");
    complete(&first, &job, Action::Cleanup { artifact: copy }).await;
    assert_eq!(before.0, content(&clusters.all[1], 7).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_undo_of_a_tenant_asked_twice_leaves_others_as_they_were_wherever_it_begins() {
    let Some(clusters) = two_clusters(50).await else { return };
    let job = tenant_job(&clusters, 7, 0, 1);
    let actions = [
        Action::Prepare,
        Action::Replicate,
        Action::Verify,
        Action::ArmReverse,
        Action::ProbeReverse,
        soon(),
        seal(),
    ];
    let others = (content(&clusters.all[0], 8).await, content(&clusters.all[1], 21).await);
    let seven = content(&clusters.all[0], 7).await;
    for tables_there in [true, false] {
        if !tables_there {
            clusters.all[1].ask("DROP SCHEMA shop CASCADE").await;
        }
        for steps in 0..=actions.len() {
            for action in actions.iter().take(steps) {
                for _ in 0..2 {
                    // What the rows refer to has to be there, and nothing of it is ours to bring.
                    if !tables_there && *action == Action::Verify {
                        clusters.all[1].ask("INSERT INTO shop.countries VALUES ('de', 'Germany'), ('fr', 'France') ON CONFLICT DO NOTHING").await;
                    }
                    complete(&tenant_mover(&clusters), &job, anew(action)).await;
                }
            }
            for action in [Action::Unfence, Action::Unfence, Action::StopReplication, Action::StopReplication]
            {
                complete(&tenant_mover(&clusters), &job, action).await;
            }
            if !tables_there && steps > 2 {
                clusters.all[1]
                    .ask("SET session_replication_role = replica; DELETE FROM shop.countries")
                    .await;
            }
            for _ in 0..2 {
                cleanup(&tenant_mover(&clusters), &job, true).await;
            }
            let after = format!("after {steps} steps, tables there: {tables_there}");
            assert_eq!(tenant_mover(&clusters).leaks().await.unwrap(), [], "{after}");
            for n in 0..2 {
                assert_eq!(ours(&clusters, n).await, Vec::<Vec<String>>::new(), "{after}");
                assert_eq!(triggers(&clusters, n).await, "0", "{after}");
                let known = "SELECT count(*) FROM foreshift.tenant WHERE guarded";
                if steps > 0 {
                    assert_eq!(clusters.all[n].text(known).await, "0", "{after}");
                }
            }
            if tables_there {
                assert_eq!(rows_on(&clusters.all[1], 7).await, 0, "{after}");
                assert_eq!(others.1, content(&clusters.all[1], 21).await, "{after}");
            } else {
                let there =
                    clusters.all[1].text("SELECT count(*) FROM pg_namespace WHERE nspname = 'shop'").await;
                assert_eq!(there, "0", "{after}");
            }
        }
    }
    assert_eq!((seven, others.0), (content(&clusters.all[0], 7).await, content(&clusters.all[0], 8).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_row_of_the_tenant_is_named_and_anybody_elses_is_no_difference() {
    let Some(clusters) = two_clusters(300).await else { return };
    let mover = tenant_mover(&clusters);
    let job = tenant_job(&clusters, 7, 0, 1);
    before_the_cut(&mover, &job).await;
    let rot = "SET session_replication_role = replica; \
        ALTER TABLE shop.counters DISABLE TRIGGER ALL; ALTER TABLE shop.days_old DISABLE TRIGGER ALL; \
        UPDATE shop.counters SET n = n + 1 WHERE tenant_id = 7 AND id = 3; \
        DELETE FROM shop.counters WHERE tenant_id = 7 AND id = 4; \
        UPDATE shop.counters SET n = n + 1 WHERE tenant_id = 21; \
        INSERT INTO shop.days_old VALUES (7, '2025-01-01', 1); \
        ALTER TABLE shop.counters ENABLE TRIGGER ALL; ALTER TABLE shop.days_old ENABLE TRIGGER ALL";
    clusters.all[1].ask(rot).await;
    let verified = complete(&mover, &job, Action::Verify).await;
    let names = verified.differences.join("\n");
    println!("{names}");
    for name in [
        "shop.counters (tenant_id=7, id=3): its content differs",
        "shop.counters (tenant_id=7, id=4): it is missing at the destination",
        "shop.days_old (tenant_id=7, day=2025-01-01, n=1): it is at the destination alone",
    ] {
        assert!(names.contains(name), "{names}");
    }
    assert_eq!(verified.differences.len(), 3, "{names}");
    // The digest at the cut knows it, too.
    complete(&mover, &job, soon()).await;
    complete(&mover, &job, seal()).await;
    let cut = complete(&mover, &job, Action::VerifyAtCut).await;
    assert!(cut.equal == Some(false) && cut.differences.join("\n").contains("id=3"), "{cut:?}");
    complete(&mover, &job, Action::Unfence).await;
    cleanup(&mover, &job, true).await;
    // A write beside the stream after the comparison is found by the digest alone; others' are none of ours.
    before_the_cut(&mover, &job).await;
    clusters.all[1]
        .ask("SET session_replication_role = replica; UPDATE shop.counters SET n = n + 1 WHERE id = 7")
        .await;
    complete(&mover, &job, soon()).await;
    complete(&mover, &job, seal()).await;
    let cut = complete(&mover, &job, Action::VerifyAtCut).await;
    assert_eq!(cut.differences.len(), 1, "{cut:?}");
    assert!(cut.differences[0].contains("shop.counters (tenant_id=7, id=7)"), "{cut:?}");
    complete(&mover, &job, Action::Unfence).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_moved_by_rows_is_refused_by_name_with_what_to_do() {
    let Some(clusters) = two_clusters(20).await else { return };
    let [home, away] = [&clusters.all[0], &clusters.all[1]];
    let mover = tenant_mover(&clusters);
    let job = tenant_job(&clusters, 7, 0, 1);
    let refused = async |words: &[&str]| {
        let error = mover.perform(&job, &Action::Prepare, &permit()).await.expect_err(words[0]);
        println!("{error}");
        assert_eq!(error.retry, Retry::Permanent, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{error}");
        }
        cleanup(&mover, &job, true).await;
        assert_eq!(mover.leaks().await.unwrap(), []);
    };
    home.ask("ALTER TABLE shop.notes REPLICA IDENTITY DEFAULT").await;
    refused(&["shop.notes", "tenant_id", "REPLICA IDENTITY FULL", "primary key"]).await;
    home.ask("ALTER TABLE shop.notes REPLICA IDENTITY FULL").await;
    for cluster in [home, away] {
        cluster.ask("CREATE TABLE shop.settings (name text PRIMARY KEY)").await;
    }
    refused(&["settings", "without a column tenant_id", "tenant.shared"]).await;
    for cluster in [home, away] {
        cluster.ask("DROP TABLE shop.settings").await;
    }
    // Who sees a row after the guard could make it another tenant's.
    home.ask(
        "CREATE FUNCTION shop.last() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
         CREATE TRIGGER zzz_last BEFORE INSERT ON shop.notes FOR EACH ROW EXECUTE FUNCTION shop.last()",
    )
    .await;
    refused(&["zzz_last", "shop.notes", "has to be the last", "RENAME TO"]).await;
    home.ask("DROP FUNCTION shop.last CASCADE").await;
    // Rows that nobody of us brought there, in a table of others.
    away.ask("INSERT INTO shop.notes (tenant_id) VALUES (7)").await;
    refused(&["\"shop\".\"notes\"", "no copy of ours"]).await;
    assert_eq!(rows_on(away, 7).await, 1, "it is not removed either");
    away.ask("DELETE FROM shop.notes WHERE tenant_id = 7").await;
    away.ask("ALTER TABLE shop.days ADD COLUMN more int").await;
    refused(&["do not look the same"]).await;
    away.ask("ALTER TABLE shop.days DROP COLUMN more").await;
    // Rows of two tenants that hang together.
    for cluster in [home, away] {
        cluster.ask("ALTER TABLE shop.notes ADD COLUMN about uuid REFERENCES shop.notes").await;
    }
    let about = "UPDATE shop.notes SET about = (SELECT id FROM shop.notes WHERE tenant_id = 8 LIMIT 1) \
        WHERE id = (SELECT id FROM shop.notes WHERE tenant_id = 7 LIMIT 1)";
    home.ask(about).await;
    refused(&["notes_about_fkey", "rows of another"]).await;
    home.ask("UPDATE shop.notes SET about = NULL").await;
    home.ask(&about.replace('8', "x").replace('7', "8").replace('x', "7")).await;
    refused(&["notes_about_fkey", "rows of this tenant"]).await;
    home.ask("UPDATE shop.notes SET about = NULL").await;
    // The same tables cannot be moved as a schema, too.
    complete(&mover, &job, Action::Prepare).await;
    let mut options = tenant_options(&clusters);
    (options.tenant, options.schemas) = (None, vec!["shop".into()]);
    let whole = Job { workload: WorkloadId::from("shop-shop"), ..job.clone() };
    let error = PostgresMover::new(options).perform(&whole, &Action::Prepare, &permit()).await.unwrap_err();
    println!("{error}");
    assert!(error.retry == Retry::Permanent && error.detail.contains("shop-shop.7"), "{error}");
    // While it is moved nobody empties its tables, and no row changes hands.
    let client = connect_as_client(home.address).await.unwrap();
    for (sql, words) in [
        ("TRUNCATE shop.days", "is not truncated"),
        ("UPDATE shop.counters SET tenant_id = 70 WHERE tenant_id = 7 AND id = 5", "cannot go from"),
        ("UPDATE shop.counters SET tenant_id = 7, id = 50 WHERE tenant_id = 8 AND id = 5", "cannot go from"),
    ] {
        let error = client.batch_execute(sql).await.unwrap_err();
        let said = error.as_db_error().unwrap().message().to_string();
        assert!(error.code().unwrap().code() == "55000" && said.contains(words), "{said}");
    }
    client
        .batch_execute("UPDATE shop.counters SET tenant_id = 90 WHERE tenant_id = 9 AND id = 5")
        .await
        .unwrap();
    // What its rows refer to and what is not there is found before the cut.
    complete(&mover, &job, Action::Replicate).await;
    away.ask("SET session_replication_role = replica; DELETE FROM shop.countries WHERE code = 'fr'").await;
    let verified = complete(&mover, &job, Action::Verify).await;
    assert!(verified.equal == Some(false), "{verified:?}");
    let names = verified.differences.join("\n");
    assert!(names.contains("counters_country_fkey") && names.contains("10 rows"), "{names}");
    cleanup(&mover, &job, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decommissioned_source_loses_the_rows_of_this_tenant_alone_and_goes_on_refusing_it() {
    let Some(clusters) = two_clusters(200).await else { return };
    let [home, away] = [&clusters.all[0], &clusters.all[1]];
    let mut options = tenant_options(&clusters);
    options.after_move = AfterMove::DropCopy;
    let mover = PostgresMover::new(options);
    let job = tenant_job(&clusters, 7, 0, 1);
    let (seven, eight, nine) = (content(home, 7).await, content(home, 8).await, content(home, 9).await);
    assert!(mover.describe(&job).join("\n").contains("DELETE of the rows"));
    before_the_cut(&mover, &job).await;
    assert!(mover.perform(&job, &Action::Retire, &permit()).await.is_err());
    the_cut(&mover, &job).await;
    complete(&mover, &job, Action::EnableReverse).await;
    // The source became the owner again, at a later generation: nothing of it is dropped.
    home.ask("UPDATE foreshift.owner SET mode = 'writable', generation = 2").await;
    let error = mover.perform(&job, &Action::Retire, &permit()).await.unwrap_err();
    assert!(error.detail.contains("nothing was dropped"), "{error}");
    assert_eq!(seven, content(home, 7).await);
    home.ask("UPDATE foreshift.owner SET mode = 'standby', generation = 0").await;
    for _ in 0..2 {
        complete(&mover, &job, Action::Retire).await;
        cleanup(&mover, &job, false).await;
    }
    assert!(matches!(mover.probe(&job, &Action::Retire).await, Probe::Applied { .. }));
    assert_eq!(mover.leaks().await.unwrap(), []);
    assert_eq!((rows_on(home, 7).await, content(away, 7).await), (0, seven));
    assert_eq!((eight, nine), (content(home, 8).await, content(home, 9).await));
    // Who still comes there is not taken for an owner's client.
    let client = connect_as_client(home.address).await.unwrap();
    let stray = "INSERT INTO shop.notes (tenant_id) VALUES (7)";
    let error = client.batch_execute(stray).await.unwrap_err();
    assert!(error.as_db_error().unwrap().hint().unwrap().contains(&away.address.to_string()), "{error:?}");
    client.batch_execute("UPDATE shop.counters SET n = n + 1").await.unwrap();
    // It comes home, and the other place is left the same way.
    let home_again = Job { migration: MigrationId(70), ..job.mirrored(Generation(2)) };
    before_the_cut(&mover, &home_again).await;
    the_cut(&mover, &home_again).await;
    complete(&mover, &home_again, Action::EnableReverse).await;
    complete(&mover, &home_again, Action::Retire).await;
    cleanup(&mover, &home_again, false).await;
    assert_eq!(rows_on(away, 7).await, 0);
    client.batch_execute(stray).await.unwrap();
    assert_eq!(mover.leaks().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_journal_left_of_a_tenant_is_found_and_taken_away_by_name_alone() {
    let Some(clusters) = two_clusters(100).await else { return };
    let mover = tenant_mover(&clusters);
    let job = tenant_job(&clusters, 7, 0, 1);
    before_the_cut(&mover, &job).await;
    the_cut(&mover, &job).await;
    complete(&mover, &job, Action::EnableReverse).await;
    let twenty_one = content(&clusters.all[1], 21).await;
    let stranger = tenant_mover(&clusters);
    let mut leaks = stranger.leaks().await.unwrap();
    assert_eq!(leaks.len(), 9, "{leaks:?}");
    // Subscriptions first, slots behind them, and the copy, which is the owner, not at all.
    let order = ["subscription", "replication_slot", "publication", "digest", "copy"];
    leaks.sort_by_key(|a| order.iter().position(|kind| *kind == a.kind));
    for artifact in &leaks {
        if artifact.kind == "copy" {
            let error = stranger.reap(artifact, &permit()).await.unwrap_err();
            assert!(error.detail.contains("it may be its only place"), "{error}");
            continue;
        }
        wait_until_async("it is gone", LONG, async || {
            matches!(stranger.reap(artifact, &permit()).await, Ok(Answer::Done(_)))
        })
        .await;
    }
    assert_eq!(stranger.leaks().await.unwrap().len(), 1);
    assert_eq!(triggers(&clusters, 1).await, "0", "the owner is free");
    assert_ne!(triggers(&clusters, 0).await, "0", "the old owner goes on refusing");
    assert_eq!(twenty_one, content(&clusters.all[1], 21).await);
    assert_eq!(rows_on(&clusters.all[0], 7).await, rows_on(&clusters.all[1], 7).await);
}
