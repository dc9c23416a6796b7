//! A real schema of a real PostgreSQL 15 is moved by the driver, under a client that writes all the
//! while: nothing acknowledged is lost, forward and back, nothing is left behind, corruption is named,
//! and who was deposed is refused.

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/postgres_steps.rs"]
mod postgres_steps;
mod support;

use std::time::Duration;

use foreshift::drivers::postgres::PostgresMover;
use foreshift::drivers::{Action, Answer, Job, Mover, Permit, Probe, Retry};
use foreshift::fleet::{
    Clock, Epoch, Generation, MigrationId, ServingState, Share, Span, SystemClock, Timestamp, WorkloadId,
};
use postgres::{Clusters, schema};
use postgres_steps::{
    LONG, all_there, anew, artifacts, before_the_cut, cleanup, complete, guards, job, mover, options, ours,
    permit, seal, soon, the_cut, writer,
};
use support::wait_until_async;

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_moves_and_comes_back_under_writes_and_nothing_acknowledged_is_lost() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(5_000)).await;
    let mover = mover(&clusters);
    let forth = job(&clusters, 0, 1);
    let topology = mover.discover().await.unwrap();
    let found = topology.workload(&forth.workload).unwrap();
    assert_eq!((found.partition.clone(), found.labels["tables"].as_str()), (forth.source.clone(), "5"));
    assert!(found.size.0 > 400_000, "{found:?}");
    assert_eq!(topology.partition(&forth.destination).unwrap().serving, ServingState::Passive);
    println!("{}", mover.describe(&forth).join("\n"));

    let writer = writer(&clusters);
    before_the_cut(&mover, &forth).await;
    let status = mover.status(&forth).await.unwrap();
    assert!(status.streaming && status.source_alive && status.destination_alive, "{status:?}");
    assert!(status.lag.is_some_and(|lag| lag < Span::millis(200)), "{status:?}");
    complete(&mover, &forth, Action::CanaryShare { share: Share::MAX }).await;
    wait_until_async("the canary has compared", LONG, async || {
        let (source, destination) = mover.samples(&forth, Timestamp(0)).await.unwrap();
        assert_eq!((source.mismatches, source.errors, destination.errors), (0, 0, 0), "{source:?}");
        destination.compared >= 20 && destination.latencies_ms.len() >= 20
    })
    .await;
    complete(&mover, &forth, Action::CanaryShare { share: Share::MIN }).await;

    the_cut(&mover, &forth).await;
    // The copy refuses writes, and the sequences stand where they stood.
    let refused = clusters.all[0].connect().await.unwrap().batch_execute("DELETE FROM orders.items").await;
    assert_eq!(refused.unwrap_err().code().unwrap().code(), "25006");
    let reverse = complete(&mover, &forth, Action::EnableReverse).await;
    println!("{}", reverse.summary);
    assert_eq!(reverse.equal, Some(true), "{reverse:?}");
    assert_eq!(clusters.all[1].text("SELECT nextval('orders.tickets')").await, "1205");
    let after = mover.discover().await.unwrap();
    let found = after.workload(&forth.workload).unwrap();
    assert_eq!((found.partition.clone(), found.generation), (forth.destination.clone(), Generation(1)));
    tokio::time::sleep(Duration::from_millis(300)).await;

    // Compared once more while clients write at the new owner: equal; a row that rots in the copy is named.
    let back = forth.mirrored(Generation(2));
    let again = complete(&mover, &back, Action::Verify).await;
    assert_eq!(again.equal, Some(true), "{again:?}");
    assert!(again.items > 5_000, "{again:?}");
    let rot = async |bit: u8| {
        let sql = format!(
            "ALTER TABLE orders.items DISABLE TRIGGER ALL; \
             UPDATE orders.items SET flags = set_bit(flags, 3, {bit}) WHERE a = 77; \
             ALTER TABLE orders.items ENABLE TRIGGER ALL"
        );
        clusters.all[0].ask(&sql).await;
    };
    let bit = clusters.all[0].text("SELECT get_bit(flags, 3) FROM orders.items WHERE a = 77").await;
    let bit: u8 = bit.parse().unwrap();
    rot(1 - bit).await;
    let again = complete(&mover, &back, Action::Verify).await;
    assert_eq!(again.equal, Some(false), "{again:?}");
    assert!(
        again.differences.join("\n").contains("orders.items (a=77, b=item 77): its content differs"),
        "{again:?}"
    );
    rot(bit).await;
    let again = complete(&mover, &back, Action::Verify).await;
    assert_eq!(again.equal, Some(true), "{again:?}");

    // The rollback after the cut: the same the other way, and nothing is lost either.
    the_cut(&mover, &back).await;
    complete(&mover, &back, Action::StopReplication).await;
    assert_eq!(clusters.all[0].text("SELECT nextval('orders.tickets')").await, "1210");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let seen = writer.finish();
    println!("{seen:?}");
    assert!(seen.acknowledged > 200 && seen.unknown == 0, "{seen:?}");
    all_there(&clusters, 0, &seen).await;
    assert!(seen.worst < Duration::from_secs(2), "{seen:?}");

    cleanup(&mover, &forth, true).await;
    assert_eq!(mover.leaks().await.unwrap(), []);
    for n in 0..2 {
        assert_eq!(ours(&clusters, n).await, Vec::<Vec<String>>::new());
        assert_eq!(guards(&clusters, n).await, "0");
    }
    let copy = "SELECT count(*) FROM pg_namespace WHERE nspname = 'orders'";
    assert_eq!(clusters.all[1].text(copy).await, "0");
    clusters.all[0].ask("UPDATE orders.items SET b = b || '!' WHERE a = 1").await;
    // Nobody can read a password where it was not asked for.
    for cluster in &clusters.all {
        assert!(!cluster.log().contains("quoted"), "a password is in the server's log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_asked_twice_is_done_once_and_every_probe_tells_what_is_true() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(300)).await;
    let (first, second) = (mover(&clusters), mover(&clusters));
    let job = job(&clusters, 0, 1);
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
        if action == seal() {
            // What lets go by itself is held, and is no seal: the owner changes on the strength of that.
            assert_eq!(second.probe(&job, &action).await, Probe::NotStarted);
            let error = second.perform(&job, &Action::Open, &permit()).await.unwrap_err();
            assert_eq!(error.retry, Retry::Retryable, "{error}");
        }
        complete(&first, &job, action.clone()).await;
        // Another process knows nothing but what it sees.
        let only_done_again = matches!(action, Action::ProbeReverse | Action::EnableReverse);
        if !action.is_read_only() && !only_done_again {
            let probe = second.probe(&job, &action).await;
            assert!(matches!(probe, Probe::Applied { .. }), "{}: {probe:?}", action.name());
        }
        if action == Action::Open {
            // What was written after the opening is not undone by asking for it again.
            clusters.all[1].ask("SELECT nextval('orders.tickets') FROM generate_series(1, 3)").await;
        }
        complete(&second, &job, action).await;
    }
    assert_eq!(clusters.all[1].text("SELECT nextval('orders.tickets')").await, "1220");
    let mut expected = artifacts(&first, &job);
    expected.retain(|a| a.kind != "copy");
    expected.sort();
    assert_eq!(first.leaks().await.unwrap(), expected, "a scan finds what the ledger names");
    cleanup(&first, &job, false).await;
    cleanup(&second, &job, false).await;
    assert_eq!(first.leaks().await.unwrap(), []);
    for n in 0..2 {
        assert_eq!(ours(&clusters, n).await, Vec::<Vec<String>>::new());
    }
    // The old owner goes on refusing, and says where the workload is; the new one is free.
    assert_eq!((guards(&clusters, 0).await.as_str(), guards(&clusters, 1).await.as_str()), ("6", "0"));
    let client = clusters.all[0].connect().await.unwrap();
    let error = client.batch_execute("INSERT INTO orders.counters VALUES (99)").await.unwrap_err();
    let hint = error.as_db_error().unwrap().hint().unwrap().to_string();
    assert!(hint.contains(&clusters.all[1].address.to_string()), "{hint}");
    // The copy is no loss: it cannot be removed as one while it owns the workload.
    let copy = artifacts(&first, &job).pop().unwrap();
    assert_eq!(copy.kind, "copy");
    complete(&first, &job, Action::Cleanup { artifact: copy }).await;
    assert_eq!(clusters.all[1].text("SELECT count(*) FROM orders.items").await, "300");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_undo_asked_twice_leaves_a_clean_slate_wherever_it_begins() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(200)).await;
    let job = job(&clusters, 0, 1);
    let actions = [
        Action::Prepare,
        Action::Replicate,
        Action::Verify,
        Action::ArmReverse,
        Action::ProbeReverse,
        soon(),
        seal(),
    ];
    for steps in 0..=actions.len() {
        for action in actions.iter().take(steps) {
            for _ in 0..2 {
                complete(&mover(&clusters), &job, anew(action)).await;
            }
        }
        for action in [Action::Unfence, Action::Unfence, Action::StopReplication, Action::StopReplication] {
            complete(&mover(&clusters), &job, action).await;
        }
        cleanup(&mover(&clusters), &job, true).await;
        cleanup(&mover(&clusters), &job, true).await;
        assert_eq!(mover(&clusters).leaks().await.unwrap(), [], "after {steps} steps");
        for n in 0..2 {
            assert_eq!(ours(&clusters, n).await, Vec::<Vec<String>>::new(), "after {steps} steps");
            assert_eq!(guards(&clusters, n).await, "0", "after {steps} steps");
        }
        clusters.all[0].ask("INSERT INTO orders.log (counter) VALUES (1)").await;
        let there = clusters.all[1].text("SELECT count(*) FROM pg_namespace WHERE nspname = 'orders'").await;
        assert_eq!(there, "0", "after {steps} steps");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_missing_or_extra_row_is_named_and_the_cut_refused() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(2_000)).await;
    let mover = mover(&clusters);
    let job = job(&clusters, 0, 1);
    before_the_cut(&mover, &job).await;
    // One bit of one row, beside every trigger, as a disk would do it.
    let rot = "ALTER TABLE orders.items DISABLE TRIGGER ALL; \
        UPDATE orders.items SET flags = set_bit(flags, 3, 1 - get_bit(flags, 3)) WHERE a = 77; \
        DELETE FROM orders.items WHERE a = 78; \
        INSERT INTO orders.items (a, b) VALUES (79, 'a second one'); \
        UPDATE orders.items SET price = price::numeric(14, 2) WHERE a = 4; \
        ALTER TABLE orders.items ENABLE TRIGGER ALL";
    clusters.all[1].ask(rot).await;
    let verified = complete(&mover, &job, Action::Verify).await;
    assert_eq!(verified.equal, Some(false), "{verified:?}");
    let names = verified.differences.join("\n");
    println!("{names}");
    for (a, b, why) in [
        (77, "item 77", "its content differs"),
        (78, "item 78", "it is missing at the destination"),
        (79, "a second one", "it is at the destination alone"),
    ] {
        assert!(names.contains(&format!("orders.items (a={a}, b={b}): {why}")), "{names}");
    }
    // After it was looked at, the digest at the cut knows it, too.
    complete(&mover, &job, soon()).await;
    complete(&mover, &job, seal()).await;
    let cut = complete(&mover, &job, Action::VerifyAtCut).await;
    assert_eq!(cut.equal, Some(false), "{cut:?}");
    assert!(cut.differences.join("\n").contains("a=77"), "{cut:?}");
    complete(&mover, &job, Action::Unfence).await;
    clusters.all[0].ask("INSERT INTO orders.log (counter) VALUES (1)").await;

    // A write at the destination after the comparison is found by the digest alone.
    cleanup(&mover, &job, true).await;
    before_the_cut(&mover, &job).await;
    clusters.all[1]
        .ask("SET session_replication_role = replica; UPDATE orders.counters SET n = n + 1 WHERE id = 7")
        .await;
    complete(&mover, &job, soon()).await;
    complete(&mover, &job, seal()).await;
    let cut = complete(&mover, &job, Action::VerifyAtCut).await;
    assert_eq!(cut.equal, Some(false), "{cut:?}");
    assert!(cut.differences.join("\n").contains("orders.counters (id=7)"), "{cut:?}");
    complete(&mover, &job, Action::Unfence).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_at_the_cut_waits_for_a_destination_that_is_behind_held_or_sealed() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(200)).await;
    let mover = mover(&clusters);
    let job = job(&clusters, 0, 1);
    before_the_cut(&mover, &job).await;
    for held in [soon(), seal()] {
        // Who applies the stream has to wait for this.
        let blocker = clusters.all[1].connect().await.expect("a connection");
        blocker
            .batch_execute("BEGIN; LOCK TABLE orders.counters IN SHARE ROW EXCLUSIVE MODE")
            .await
            .expect("a lock");
        clusters.all[0].ask("UPDATE orders.counters SET n = n + 1 WHERE id = 7").await;
        complete(&mover, &job, anew(&held)).await;
        let release = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(250)).await;
            blocker.batch_execute("COMMIT").await.expect("an end");
        });
        let verified = complete(&mover, &job, Action::VerifyAtCut).await;
        assert!(release.is_finished(), "it was compared before the destination had everything: {verified:?}");
        assert_eq!(verified.equal, Some(true), "{held:?}: {verified:?}");
        complete(&mover, &job, Action::Unfence).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_leader_and_a_deposed_owner_are_refused() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(100)).await;
    let mover = mover(&clusters);
    let job = job(&clusters, 0, 1);
    // Its snapshot is older than all that we put up.
    let oldest = clusters.all[0].connect().await.unwrap();
    oldest
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM orders.counters")
        .await
        .unwrap();
    before_the_cut(&mover, &job).await;
    let old = Permit::mint_for_runner(Epoch(4), "test");
    for action in [seal(), Action::Unfence] {
        let error = mover.perform(&job, &action, &old).await.unwrap_err();
        assert!(error.retry == Retry::Permanent && error.detail.contains("deposed"), "{error}");
    }
    // A transaction with an old snapshot is refused, too.
    let client = clusters.all[0].connect().await.unwrap();
    client
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM orders.counters")
        .await
        .unwrap();
    the_cut(&mover, &job).await;
    let error = client.batch_execute("UPDATE orders.counters SET n = n + 1; COMMIT").await.unwrap_err();
    assert!(["40001", "25006"].contains(&error.code().unwrap().code()), "{error:?}");
    let error =
        oldest.batch_execute("INSERT INTO orders.log (counter) VALUES (1); COMMIT").await.unwrap_err();
    assert!(["40001", "25006"].contains(&error.code().unwrap().code()), "{error:?}");
    for action in [soon(), Action::Open] {
        let error = mover.perform(&job.mirrored(Generation(1)), &action, &permit()).await.unwrap_err();
        assert_eq!(error.retry, Retry::Permanent, "{error}");
    }
    // A fence that nobody lets go of lets go by itself.
    let back = job.mirrored(Generation(2));
    let short = Action::Fence { deadline: SystemClock.now() + Span::millis(400) };
    complete(&mover, &back, short).await;
    let write = "INSERT INTO orders.log (counter) VALUES (1)";
    let client = clusters.all[1].connect().await.unwrap();
    assert!(client.batch_execute(write).await.is_err());
    wait_until_async("it lets go", LONG, async || client.batch_execute(write).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_public_moves_and_what_stood_there_before_is_left_alone() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(200).replace("CREATE SCHEMA orders; ", "").replace("orders", "public")).await;
    let more = "CREATE FUNCTION public.twice(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1'; \
        CREATE VIEW public.busy AS SELECT * FROM public.items WHERE mood = 'busy'; \
        CREATE DOMAIN public.small AS int CHECK (VALUE < 10); CREATE TABLE public.\"Odd Name\" (id public.small PRIMARY KEY)";
    clusters.all[0].ask(more).await;
    let mut options = options(&clusters);
    options.schemas = vec!["public".into()];
    let mover = PostgresMover::new(options);
    let job = Job { workload: WorkloadId::from("shop-public"), ..job(&clusters, 0, 1) };
    let there = "SELECT coalesce(string_agg(relname, ' ' ORDER BY 1), '') FROM pg_class \
        WHERE relnamespace = 'public'::regnamespace";

    clusters.all[1].ask("CREATE TYPE public.mood AS ENUM ('of somebody else')").await;
    let error = mover.perform(&job, &Action::Prepare, &permit()).await.unwrap_err();
    assert!(error.retry == Retry::Permanent && error.detail.contains("type public.mood"), "{error}");
    clusters.all[1].ask("DROP TYPE public.mood").await;
    before_the_cut(&mover, &job).await;
    assert!(clusters.all[1].text(there).await.contains("items"));
    complete(&mover, &job, Action::StopReplication).await;
    cleanup(&mover, &job, true).await;
    assert_eq!(clusters.all[1].text(there).await, "");

    before_the_cut(&mover, &job).await;
    the_cut(&mover, &job).await;
    complete(&mover, &job, Action::EnableReverse).await;
    complete(&mover, &job, Action::Retire).await;
    cleanup(&mover, &job, false).await;
    assert_eq!(clusters.all[1].text("SELECT twice(count(*)::int) FROM busy").await, "200");
    // Back to the old copy, which is emptied and filled anew.
    let home = Job { migration: MigrationId(8), ..job.mirrored(Generation(2)) };
    clusters.all[1]
        .ask("UPDATE items SET b = 'changed' WHERE a = 9; INSERT INTO \"Odd Name\" VALUES (3)")
        .await;
    before_the_cut(&mover, &home).await;
    the_cut(&mover, &home).await;
    complete(&mover, &home, Action::EnableReverse).await;
    complete(&mover, &home, Action::Retire).await;
    cleanup(&mover, &home, false).await;
    assert_eq!(clusters.all[0].text("SELECT b FROM items WHERE a = 9").await, "changed");
    assert_eq!(mover.leaks().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_dies_when_it_is_sealed_keeps_nobody_from_opening_and_comes_back_as_a_copy() {
    let Some(mut clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(500)).await;
    let mover = mover(&clusters);
    let job = job(&clusters, 0, 1);
    let writer = writer(&clusters);
    before_the_cut(&mover, &job).await;
    for action in [soon(), seal(), Action::VerifyAtCut] {
        complete(&mover, &job, action).await;
    }
    clusters.all[0].kill();
    let opened = complete(&mover, &job, Action::Open).await;
    assert!(opened.summary.contains("sequences and rows as the source left them"), "{opened:?}");
    let answer = mover.perform(&job, &Action::EnableReverse, &permit()).await.unwrap();
    assert!(matches!(answer, Answer::Working { .. }), "{answer:?}");
    let status = mover.status(&job).await.unwrap();
    assert!(!status.source_alive && status.destination_alive, "{status:?}");
    tokio::time::sleep(Duration::from_millis(200)).await;

    // It comes back sealed, follows, and can take over again: its digest is begun anew.
    clusters.all[0].start();
    let reverse = complete(&mover, &job, Action::EnableReverse).await;
    assert_eq!(reverse.equal, Some(true), "{reverse:?}");
    let refused = clusters.all[0].connect().await.unwrap().batch_execute("DELETE FROM orders.log").await;
    assert_eq!(refused.unwrap_err().code().unwrap().code(), "25006");
    let back = job.mirrored(Generation(2));
    the_cut(&mover, &back).await;
    let seen = writer.finish();
    println!("{seen:?}");
    all_there(&clusters, 0, &seen).await;
    complete(&mover, &back, Action::StopReplication).await;
    cleanup(&mover, &job, true).await;
    assert_eq!(mover.leaks().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_before_the_cut_is_caught_up_with_and_compared_anew() {
    let Some(mut clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(500)).await;
    let mover = mover(&clusters);
    let job = job(&clusters, 0, 1);
    before_the_cut(&mover, &job).await;
    for dies in [1, 0] {
        clusters.all[dies].kill();
        let status = mover.status(&job).await.unwrap();
        assert_eq!((status.source_alive, status.destination_alive), (dies == 1, dies == 0), "{status:?}");
        assert!(mover.perform(&job, &Action::VerifyAtCut, &permit()).await.is_err());
        clusters.all[dies].start();
        clusters.all[0].ask("INSERT INTO orders.log (counter) SELECT 1 FROM generate_series(1, 50)").await;
    }
    complete(&mover, &job, Action::Replicate).await;
    the_cut(&mover, &job).await;
    assert_eq!(clusters.all[1].text("SELECT count(*) FROM orders.log").await, "100");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_want_encryption_are_reached_encrypted_and_strangers_are_refused() {
    let Some(mut clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(100)).await;
    let authorities: Vec<String> =
        clusters.all.iter_mut().map(|c| std::fs::read_to_string(c.encrypt()).unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let (both, one) = (folder.path().join("both.pem"), folder.path().join("one.pem"));
    std::fs::write(&both, authorities.join("\n")).unwrap();
    std::fs::write(&one, &authorities[0]).unwrap();
    let job = job(&clusters, 0, 1);
    let with = |file: &std::path::Path| {
        let mut options = options(&clusters);
        options.tls_ca = Some(file.to_path_buf());
        PostgresMover::new(options)
    };
    wait_until_async("both answer", LONG, async || {
        let found = with(&both).discover().await;
        found.is_ok_and(|t| t.partitions.iter().all(|p| p.serving != ServingState::Fenced))
    })
    .await;
    // Not encrypted, and signed by nobody that is trusted.
    for mover in [mover(&clusters), with(&one)] {
        assert!(mover.perform(&job, &Action::Prepare, &permit()).await.is_err());
    }
    let mover = with(&both);
    before_the_cut(&mover, &job).await;
    the_cut(&mover, &job).await;
    complete(&mover, &job, Action::EnableReverse).await;
}
