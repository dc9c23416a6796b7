//! Whole databases between real PostgreSQL clusters: with all of their schemas and all that is set on them, there
//! and back under a client that writes; what does not go over a stream is refused by name; a database that is not
//! certainly a copy is never dropped; and what dies half way is found and ended.

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/postgres_steps.rs"]
mod postgres_steps;
#[path = "support/program.rs"]
mod program;
mod support;

use foreshift::drivers::postgres::{AfterMove, DatabasesMover, PostgresOptions};
use foreshift::drivers::{Action, Answer, Artifact, DriverError, Job, Mover, Probe, Retry};
use foreshift::fleet::{Generation, WorkloadId};
use postgres::{Clusters, DATABASE, PASSWORD, connect, connect_as_client, rows, schema};
use postgres_steps::{
    LONG, all_there, artifacts, before_the_cut, cleanup, complete, permit, seal, soon, the_cut, writer,
};
use program::Program;

/// A second schema whose tables are called like those of the first and refer to them, and what else a database has.
const MORE: &str = "CREATE EXTENSION citext; \
    CREATE SCHEMA billing; \
    CREATE TABLE billing.log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, who citext, \
      counter int REFERENCES orders.counters); \
    INSERT INTO billing.log (who, counter) SELECT 'Ann ' || g, g % 40 FROM generate_series(1, 500) g; \
    CREATE VIEW billing.busy AS SELECT l.who, c.n FROM billing.log l JOIN orders.counters c ON c.id = l.counter; \
    CREATE MATERIALIZED VIEW billing.totals AS SELECT counter, count(*) AS n FROM billing.log GROUP BY 1; \
    CREATE FUNCTION billing.twice(int) RETURNS int LANGUAGE plpgsql AS $f$ BEGIN\n-- twice\nRETURN 2 * $1; END $f$; \
    CREATE PUBLICATION theirs FOR TABLE billing.log; \
    COMMENT ON DATABASE shop IS 'it''s the shop'; \
    ALTER DATABASE shop SET search_path = orders, \"$user\", public; \
    ALTER DATABASE shop SET work_mem = '7MB'; \
    ALTER ROLE app IN DATABASE shop SET statement_timeout = '9s'; \
    REVOKE CONNECT ON DATABASE shop FROM PUBLIC; GRANT CONNECT ON DATABASE shop TO app; \
    ALTER DATABASE shop CONNECTION LIMIT 70";

/// What is said of a database beside its rows.
const SETTINGS: &str = "SELECT shobj_description(d.oid, 'pg_database'), (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(datacl) a), \
      datconnlimit::text, datcollate, \
      pg_encoding_to_char(encoding), \
      (SELECT string_agg(setrole::regrole || ' ' || s, ';' ORDER BY setrole::regrole::text, s) \
        FROM pg_db_role_setting, unnest(setconfig) s WHERE setdatabase = d.oid AND s NOT LIKE 'foreshift.%'), \
      (SELECT string_agg(extname, ',' ORDER BY extname) FROM pg_extension), \
      (SELECT string_agg(pubname, ',') FROM pg_publication WHERE pubname !~ '^fs_'), \
      (SELECT prosrc FROM pg_proc WHERE proname = 'twice') \
    FROM pg_database d WHERE datname = 'shop'";

fn options(clusters: &Clusters) -> PostgresOptions {
    let mut options = PostgresOptions::new("main", clusters.addresses(), "postgres");
    options.databases = vec![DATABASE.into()];
    options.password = Some(PASSWORD.into());
    options
}

/// Two clusters, of which the first alone has the database.
async fn start(count: u32) -> Option<Clusters> {
    let clusters = Clusters::start(2)?;
    clusters.all[0].ask(&schema(count)).await;
    clusters.all[1].sql_in("postgres", "DROP DATABASE shop");
    Some(clusters)
}

fn job(clusters: &Clusters) -> Job {
    Job { workload: WorkloadId::from("main-shop"), ..postgres_steps::job(clusters, 0, 1) }
}

/// The answer of a cluster's own database.
async fn at_home(clusters: &Clusters, n: usize, sql: &str) -> String {
    let client = connect(clusters.all[n].address, "postgres").await.expect("a connection");
    let found = rows(&client, sql).await.expect(sql);
    found.into_iter().next().map(|row| row.join("|")).unwrap_or_default()
}

/// The databases of a cluster that are not the server's own.
async fn databases(clusters: &Clusters, n: usize) -> String {
    let sql = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database \
        WHERE datname NOT IN ('postgres', 'template0', 'template1')";
    at_home(clusters, n, sql).await
}

/// Slots and subscriptions anywhere on a cluster.
async fn streams(clusters: &Clusters, n: usize) -> String {
    at_home(
        clusters,
        n,
        "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_subscription)",
    )
    .await
}

async fn refused(mover: &dyn Mover, job: &Job, action: Action) -> DriverError {
    let error = mover.perform(job, &action, &permit()).await.expect_err(action.name());
    println!("{error}");
    assert_eq!(error.retry, Retry::Permanent, "{error}");
    error
}

fn the_copy(mover: &dyn Mover, job: &Job) -> Artifact {
    artifacts(mover, job).into_iter().find(|a| a.kind == "copy").expect("a copy")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_database_goes_there_and_back_with_all_that_is_set_on_it() {
    let Some(clusters) = start(1_000).await else { return };
    clusters.all[0].ask(MORE).await;
    let mover = DatabasesMover::new(options(&clusters));
    let job = job(&clusters);
    let found = mover.discover().await.unwrap();
    let ids: Vec<&str> = found.workloads.iter().map(|w| w.id.as_str()).collect();
    assert_eq!(ids, ["main-shop"], "{found:?}");
    assert!(mover.describe(&job).join("\n").contains("CREATE DATABASE fs_"), "{:?}", mover.describe(&job));
    let before = clusters.all[0].ask(SETTINGS).await;
    let writer = writer(&clusters);

    before_the_cut(&mover, &job).await;
    // Asked for again, as an engine does that died before the answer.
    complete(&mover, &job, Action::Prepare).await;
    assert!(matches!(mover.probe(&job, &Action::Prepare).await, Probe::Applied { .. }));
    the_cut(&mover, &job).await;
    complete(&mover, &job, Action::EnableReverse).await;
    assert_eq!(clusters.all[1].ask(SETTINGS).await, before);
    let copy_says = "SELECT coalesce(current_setting('foreshift.copy', true), '')";
    assert_eq!(clusters.all[0].text(copy_says).await, "main-shop");
    assert_eq!(clusters.all[1].text(copy_says).await, "");
    for sql in ["SELECT count(*) FROM billing.busy", "SELECT sum(n) FROM billing.totals"] {
        assert_eq!(clusters.all[1].text(sql).await, "500", "{sql}");
    }
    // The old place refuses writes in every schema, and says where to go.
    let client = connect_as_client(clusters.all[0].address).await.unwrap();
    let error = client.batch_execute("UPDATE orders.counters SET n = n + 1 WHERE id = 1").await.unwrap_err();
    assert_eq!(error.code().map(|c| c.code()), Some("25006"), "{error:?}");
    clusters.all[1].ask("INSERT INTO billing.log (who, counter) VALUES ('Bob', 7)").await;
    assert_eq!(clusters.all[1].text("SELECT max(id) FROM billing.log").await, "501");

    let back = job.mirrored(Generation(2));
    the_cut(&mover, &back).await;
    complete(&mover, &back, Action::EnableReverse).await;
    let seen = writer.finish();
    println!("there and back under writes: {seen:?}");
    all_there(&clusters, 0, &seen).await;
    assert_eq!((seen.unknown, seen.acknowledged > 100), (0, true), "{seen:?}");
    // What was written at the other place came back with it, and ids go on from there.
    clusters.all[0].ask("INSERT INTO billing.log (who, counter) VALUES ('Eve', 7)").await;
    assert_eq!(clusters.all[0].text("SELECT max(id) FROM billing.log").await, "502");
    complete(&mover, &back, Action::Retire).await;
    cleanup(&mover, &job, false).await;
    assert_eq!(mover.leaks().await.unwrap(), []);
    for n in 0..2 {
        assert_eq!((databases(&clusters, n).await, streams(&clusters, n).await), ("shop".into(), "0".into()));
    }
    assert_eq!(clusters.all[1].text(copy_says).await, "main-shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_drops_the_database_that_was_made_and_what_was_left_half_made_is_no_trouble() {
    let Some(clusters) = start(300).await else { return };
    let mover = DatabasesMover::new(options(&clusters));
    let job = job(&clusters);
    let copy = the_copy(&mover, &job);
    // An engine that died while it made the database.
    clusters.all[1].sql_in("postgres", &format!("CREATE DATABASE {}", copy.name));
    assert_eq!(mover.leaks().await.unwrap(), std::slice::from_ref(&copy));
    assert!(matches!(mover.probe(&job, &Action::Prepare).await, Probe::NotStarted));
    let status = mover.status(&job).await.unwrap();
    assert!(status.source_alive && status.destination_alive, "{status:?}");
    complete(&mover, &job, Action::Prepare).await;
    assert_eq!(databases(&clusters, 1).await, "shop");
    complete(&mover, &job, Action::Replicate).await;
    complete(&mover, &job, Action::Verify).await;
    complete(&mover, &job, Action::ArmReverse).await;
    // A client that looks at the copy does not keep it.
    let guest = connect_as_client(clusters.all[1].address).await.unwrap();
    for turn in 0..2 {
        complete(&mover, &job, Action::StopReplication).await;
        cleanup(&mover, &job, true).await;
        let gone = mover.probe(&job, &Action::Cleanup { artifact: copy.clone() }).await;
        assert!(matches!(gone, Probe::Applied { .. }), "turn {turn}: {gone:?}");
    }
    assert!(guest.is_closed());
    assert_eq!(databases(&clusters, 1).await, "");
    assert_eq!(mover.leaks().await.unwrap(), []);
    for n in 0..2 {
        assert_eq!(streams(&clusters, n).await, "0");
    }
    assert_eq!(postgres_steps::guards(&clusters, 0).await, "0");
    clusters.all[0].ask("INSERT INTO orders.log (counter) VALUES (1)").await;

    // By name alone, when the journal is lost.
    complete(&mover, &job, Action::Prepare).await;
    let leaks = mover.leaks().await.unwrap();
    assert!(leaks.contains(&copy), "{leaks:?}");
    for artifact in leaks.iter().rev() {
        mover.reap(artifact, &permit()).await.unwrap();
    }
    assert_eq!((mover.leaks().await.unwrap(), databases(&clusters, 1).await), (vec![], String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_certainly_a_copy_is_never_dropped() {
    let Some(clusters) = start(300).await else { return };
    let mover = DatabasesMover::new(options(&clusters));
    let job = job(&clusters);
    let copy = the_copy(&mover, &job);
    before_the_cut(&mover, &job).await;
    // Its mark says that it is a copy, but it does not: somebody may be opening it in this moment.
    clusters.all[1].sql_in("postgres", "ALTER DATABASE shop RESET foreshift.copy");
    let error = refused(&mover, &job, Action::Cleanup { artifact: copy.clone() }).await;
    assert!(error.detail.contains("does not say that it is a copy"), "{error}");
    assert_eq!(databases(&clusters, 1).await, "shop");
    clusters.all[1].sql_in("postgres", "ALTER DATABASE shop SET foreshift.copy = 'main-shop'");

    the_cut(&mover, &job).await;
    let guest = connect_as_client(clusters.all[1].address).await.unwrap();
    let error = refused(&mover, &job, Action::Cleanup { artifact: copy.clone() }).await;
    assert!(error.detail.contains("it may own the workload"), "{error}");
    let error = mover.reap(&copy, &permit()).await.unwrap_err();
    assert!(error.detail.contains("it may be its only place"), "{error}");
    guest.batch_execute("INSERT INTO orders.log (counter) VALUES (1)").await.expect("it is not disturbed");
    assert_eq!(databases(&clusters, 1).await, "shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_over_no_stream_is_refused_by_name_and_nothing_is_made() {
    let Some(clusters) = start(50).await else { return };
    let mover = DatabasesMover::new(options(&clusters));
    let job = job(&clusters);
    for (make, named, undo) in [
        ("SELECT lo_create(4711)", "large object 4711", "SELECT lo_unlink(4711)"),
        (
            "SELECT pg_create_logical_replication_slot('etl', 'pgoutput')",
            "replication slot etl",
            "SELECT pg_drop_replication_slot('etl')",
        ),
        (
            "CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.9' PUBLICATION x WITH (connect = false)",
            "subscription feed",
            "ALTER SUBSCRIPTION feed SET (slot_name = NONE); DROP SUBSCRIPTION feed",
        ),
        ("CREATE TABLE orders.bare (a int)", "orders.bare", "DROP TABLE orders.bare"),
        (
            "CREATE ROLE only_here; ALTER DATABASE shop OWNER TO only_here",
            "only_here",
            "ALTER DATABASE shop OWNER TO postgres; DROP ROLE only_here",
        ),
    ] {
        clusters.all[0].ask(make).await;
        let error = refused(&mover, &job, Action::Prepare).await;
        assert!(error.detail.contains(named), "{error}");
        for statement in undo.split("; ") {
            clusters.all[0].ask(statement).await;
        }
        cleanup(&mover, &job, true).await;
        assert_eq!(databases(&clusters, 1).await, "", "{named}");
        assert_eq!(mover.leaks().await.unwrap(), [], "{named}");
    }
    clusters.all[1].sql_in("postgres", "CREATE DATABASE shop");
    let error = refused(&mover, &job, Action::Prepare).await;
    assert!(error.detail.contains("no copy of ours"), "{error}");
    cleanup(&mover, &job, true).await;
    assert_eq!(databases(&clusters, 1).await, "shop");
    clusters.all[1].sql_in("postgres", "DROP DATABASE shop");
    complete(&mover, &job, Action::Prepare).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decommissioned_source_goes_with_its_database_and_a_later_move_makes_it_anew() {
    let Some(clusters) = start(300).await else { return };
    let mut leaving = options(&clusters);
    leaving.after_move = AfterMove::DropCopy;
    let mover = DatabasesMover::new(leaving);
    let there = job(&clusters);
    before_the_cut(&mover, &there).await;
    // Before the destination is the owner nothing is dropped.
    refused(&mover, &there, Action::Retire).await;
    the_cut(&mover, &there).await;
    complete(&mover, &there, Action::EnableReverse).await;
    let guest = connect_as_client(clusters.all[0].address).await.unwrap();
    assert!(matches!(mover.probe(&there, &Action::Retire).await, Probe::NotStarted));
    for _ in 0..2 {
        complete(&mover, &there, Action::Retire).await;
        assert!(matches!(mover.probe(&there, &Action::Retire).await, Probe::Applied { .. }));
    }
    assert!(guest.is_closed());
    cleanup(&mover, &there, false).await;
    assert_eq!(
        (databases(&clusters, 0).await, databases(&clusters, 1).await),
        (String::new(), "shop".into())
    );
    for n in 0..2 {
        assert_eq!(streams(&clusters, n).await, "0");
    }
    assert_eq!(mover.leaks().await.unwrap(), []);

    let home = Job { generation: Generation(2), ..there.mirrored(Generation(2)) };
    before_the_cut(&mover, &home).await;
    complete(&mover, &home, soon()).await;
    complete(&mover, &home, seal()).await;
    complete(&mover, &home, Action::VerifyAtCut).await;
    complete(&mover, &home, Action::Open).await;
    clusters.all[0].ask("INSERT INTO orders.log (counter) VALUES (1)").await;
    complete(&mover, &home, Action::EnableReverse).await;
    complete(&mover, &home, Action::Retire).await;
    assert_eq!(
        (databases(&clusters, 0).await, databases(&clusters, 1).await),
        ("shop".into(), String::new())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_is_dropped_before_a_new_one_is_made() {
    let Some(clusters) = start(300).await else { return };
    let mover = DatabasesMover::new(options(&clusters));
    let there = job(&clusters);
    before_the_cut(&mover, &there).await;
    the_cut(&mover, &there).await;
    complete(&mover, &there, Action::EnableReverse).await;
    complete(&mover, &there, Action::Retire).await;
    cleanup(&mover, &there, false).await;
    // Months later, with another structure, it goes home.
    clusters.all[1].ask("ALTER TABLE orders.log ADD COLUMN more text").await;
    clusters.all[1].ask("INSERT INTO orders.log (counter, more) VALUES (1, 'new')").await;
    let home = Job { migration: foreshift::fleet::MigrationId(8), ..there.mirrored(Generation(2)) };
    before_the_cut(&mover, &home).await;
    the_cut(&mover, &home).await;
    assert_eq!(clusters.all[0].text("SELECT more FROM orders.log WHERE more <> ''").await, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_empties_a_host_of_its_databases_while_a_client_writes() {
    let Some(clusters) = start(1_000).await else { return };
    clusters.all[0].ask(MORE).await;
    clusters.all[0].sql_in("postgres", "CREATE DATABASE crm");
    let other = connect(clusters.all[0].address, "crm").await.unwrap();
    rows(&other, "CREATE TABLE people (id int PRIMARY KEY); INSERT INTO people VALUES (1), (2)")
        .await
        .unwrap();
    drop(other);
    let program = Program::new(
        "interval = \"1s\"",
        &format!(
            "[plan]\ncool_down = \"100ms\"\n[limits.moves]\nfleet = 2\nsite = 2\nrack = 2\nhost = 2\n\
             [migration]\ncanary = [{{ share = \"50%\", hold = \"200ms\" }}]\nmin_samples = 1\nsoak = \"1s\"\n\
             fence_budget = \"2s\"\n\
             [drivers.main]\nclass = \"postgres\"\nclusters = {:?}\ndatabases = [\"*\"]\npassword = {{ file = {:?} }}",
            clusters.addresses(),
            clusters.password_file().display().to_string(),
        ),
    );
    let check = program.run(&["check"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains("driver postgres") && said.contains("2 partitions, 2 workloads"), "{said}");
    let writer = writer(&clusters);
    for (host, from, to) in [("127.0.0.1", 0, 1), ("127.0.0.2", 1, 0)] {
        let (well, report) = tokio::task::block_in_place(|| program.report(&["evacuate", host, "--yes"]));
        assert!(well && report["migrations"]["completed"] == 2, "{report:#}");
        for database in ["crm", "shop"] {
            let says = format!(
                "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, \
                 unnest(setconfig) c WHERE d.datname = '{database}' AND c LIKE 'foreshift.copy=%'"
            );
            let (left, taken) = (at_home(&clusters, from, &says).await, at_home(&clusters, to, &says).await);
            assert_eq!((left.as_str(), taken.as_str()), ("1", "0"), "{database} from {host}");
        }
        for n in 0..2 {
            let now = (streams(&clusters, n).await, databases(&clusters, n).await);
            assert_eq!(now, ("0".into(), "crm shop".into()), "cluster {n}");
        }
    }
    let seen = writer.finish();
    println!("emptied and filled again under writes: {seen:?}");
    all_there(&clusters, 0, &seen).await;
    assert_eq!(seen.unknown, 0, "{seen:?}");
}

/// What is left of a cut whose engine died and whose journal is lost.
fn fences(leaks: Vec<Artifact>) -> Vec<Artifact> {
    leaks.into_iter().filter(|left| left.kind == Artifact::FENCE).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_no_journal_knows_makes_the_last_owner_writable_or_a_copy_of_the_next() {
    let Some(mut clusters) = start(300).await else { return };
    let mover = DatabasesMover::new(options(&clusters));
    let job = job(&clusters);
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
    support::wait_until_async("it is freed", LONG, || async {
        mover.reap(&held[0], &permit()).await.is_ok()
    })
    .await;
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
