//! What of a schema is more than rows, on real PostgreSQL 15 servers: materialised views are filled where the schema
//! goes, and what cannot come along is refused by name.

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/postgres_steps.rs"]
mod postgres_steps;
mod support;

use foreshift::drivers::{Action, Job, Mover, Retry};
use foreshift::fleet::{Generation, MigrationId};
use postgres::{Clusters, schema};
use postgres_steps::{before_the_cut, cleanup, complete, job, mover, permit, the_cut};

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_written_through_a_parent_elsewhere_is_refused() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0].ask(&schema(10)).await;
    let (mover, job) = (mover(&clusters), job(&clusters, 0, 1));
    for (made, gone) in [
        (
            "CREATE TABLE public.days (day date PRIMARY KEY) PARTITION BY RANGE (day); \
             CREATE TABLE orders.old PARTITION OF public.days FOR VALUES FROM (MINVALUE) TO ('2026-01-01')",
            "ALTER TABLE public.days DETACH PARTITION orders.old; DROP TABLE orders.old, public.days",
        ),
        (
            "CREATE TABLE public.days (day date PRIMARY KEY); \
             CREATE TABLE orders.old (PRIMARY KEY (day)) INHERITS (public.days)",
            "DROP TABLE orders.old, public.days",
        ),
    ] {
        clusters.all[0].ask(made).await;
        let error = mover.perform(&job, &Action::Prepare, &permit()).await.unwrap_err();
        println!("{error}");
        assert_eq!(error.retry, Retry::Permanent);
        for word in ["orders.old", "days", "past every guard"] {
            assert!(error.detail.contains(word), "{error}");
        }
        clusters.all[0].ask(gone).await;
        assert_eq!(mover.leaks().await.unwrap(), []);
    }
    before_the_cut(&mover, &job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_names_a_large_object_is_refused_before_anything_is_made() {
    let Some(clusters) = Clusters::start(2) else { return };
    let home = &clusters.all[0];
    home.ask(&schema(10)).await;
    home.ask("CREATE TABLE orders.scans (id int PRIMARY KEY, kind oid, body oid)").await;
    let (mover, job) = (mover(&clusters), job(&clusters, 0, 1));
    // Numbers that name nothing are numbers.
    home.ask("INSERT INTO orders.scans VALUES (1, 'int4'::regtype, 4000000000)").await;
    before_the_cut(&mover, &job).await;
    complete(&mover, &job, Action::StopReplication).await;
    cleanup(&mover, &job, true).await;
    home.ask("INSERT INTO orders.scans VALUES (2, NULL, lo_from_bytea(0, 'a scan'))").await;
    let error = mover.perform(&job, &Action::Prepare, &permit()).await.unwrap_err();
    println!("{error}");
    assert_eq!(error.retry, Retry::Permanent);
    for word in ["\"orders\".\"scans\".\"body\"", "large objects", "bytea"] {
        assert!(error.detail.contains(word), "{error}");
    }
    assert_eq!(mover.leaks().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_over_the_edge_of_a_schema_are_refused_or_have_to_hold_at_the_destination() {
    let Some(clusters) = Clusters::start(2) else { return };
    let [home, away] = [&clusters.all[0], &clusters.all[1]];
    home.ask(&schema(10)).await;
    for cluster in [home, away] {
        cluster.ask("CREATE TABLE public.countries (code text PRIMARY KEY)").await;
    }
    home.ask("CREATE TABLE public.audits (counter int PRIMARY KEY REFERENCES orders.counters)").await;
    let (mover, job) = (mover(&clusters), job(&clusters, 0, 1));
    let error = mover.perform(&job, &Action::Prepare, &permit()).await.unwrap_err();
    println!("{error}");
    assert_eq!(error.retry, Retry::Permanent);
    for word in ["audits_counter_fkey of public.audits", "\"orders\".\"counters\"", "drop the foreign key"] {
        assert!(error.detail.contains(word), "{error}");
    }
    assert_eq!(mover.leaks().await.unwrap(), []);
    home.ask(
        "DROP TABLE public.audits; INSERT INTO public.countries VALUES ('de'), ('fr'); \
         CREATE TABLE orders.places (id int PRIMARY KEY, country text REFERENCES public.countries); \
         INSERT INTO orders.places VALUES (1, 'de'), (2, 'fr'), (3, NULL)",
    )
    .await;
    away.ask("INSERT INTO public.countries VALUES ('de')").await;
    for action in [Action::Prepare, Action::Replicate] {
        complete(&mover, &job, action).await;
    }
    let verified = complete(&mover, &job, Action::Verify).await;
    println!("{}", verified.differences.join("\n"));
    assert_eq!((verified.equal, verified.differences.len()), (Some(false), 1), "{verified:?}");
    assert!(verified.differences[0].contains("places_country_fkey of orders.places: 1 rows"), "{verified:?}");
    away.ask("INSERT INTO public.countries VALUES ('fr')").await;
    before_the_cut(&mover, &job).await;
    the_cut(&mover, &job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn materialised_views_can_be_read_where_the_schema_goes_and_where_it_comes_back_to() {
    let Some(clusters) = Clusters::start(2) else { return };
    let [home, away] = [&clusters.all[0], &clusters.all[1]];
    home.ask(&schema(100)).await;
    home.ask(
        "CREATE MATERIALIZED VIEW orders.totals AS SELECT sum(n) AS total FROM orders.counters; \
         CREATE MATERIALIZED VIEW orders.doubled AS SELECT total * 2 AS total FROM orders.totals; \
         CREATE MATERIALIZED VIEW orders.never AS SELECT 1 AS one WITH NO DATA",
    )
    .await;
    home.ask("UPDATE orders.counters SET n = 7; REFRESH MATERIALIZED VIEW orders.totals").await;
    home.ask("REFRESH MATERIALIZED VIEW orders.doubled").await;
    let total = home.text("SELECT total FROM orders.totals").await;
    let (mover, forth) = (mover(&clusters), job(&clusters, 0, 1));
    before_the_cut(&mover, &forth).await;
    the_cut(&mover, &forth).await;
    complete(&mover, &forth, Action::EnableReverse).await;
    assert_eq!(away.text("SELECT total FROM orders.totals").await, total);
    let twice = (total.parse::<u64>().unwrap() * 2).to_string();
    assert_eq!(away.text("SELECT total FROM orders.doubled").await, twice);
    let filled = "SELECT relispopulated FROM pg_class WHERE relname = 'never'";
    assert_eq!(away.text(filled).await, "f", "it was not filled at home, either");
    complete(&mover, &forth, Action::Retire).await;
    cleanup(&mover, &forth, false).await;

    // The old copy holds what the views were then.
    away.ask("UPDATE orders.counters SET n = 11").await;
    let back = Job { migration: MigrationId(8), ..forth.mirrored(Generation(2)) };
    before_the_cut(&mover, &back).await;
    the_cut(&mover, &back).await;
    let sum = home.text("SELECT sum(n) FROM orders.counters").await;
    assert_ne!(sum, total);
    assert_eq!(home.text("SELECT total FROM orders.totals").await, sum);
}
