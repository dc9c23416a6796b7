//! What the maintained digest tells apart on real PostgreSQL 15 servers: every value that its type calls equal to
//! another and that is not the same, and nothing that is.

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/postgres_steps.rs"]
mod postgres_steps;
#[path = "support/postgres_tenants.rs"]
mod postgres_tenants;
mod support;

use foreshift::drivers::Action;
use postgres::Clusters;
use postgres_steps::{before_the_cut, complete, job, mover, seal, soon, the_cut};
use postgres_tenants::{tenant_job, tenant_mover, two_clusters};

#[tokio::test(flavor = "multi_thread")]
async fn values_that_only_their_type_calls_equal_differ_at_the_cut() {
    let Some(clusters) = Clusters::start(2) else { return };
    clusters.all[0]
        .ask(
            "CREATE SCHEMA orders; \
             CREATE COLLATION orders.caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
             CREATE TABLE orders.loose (id int PRIMARY KEY, free numeric, weight float8, lasts interval, more jsonb, \
               padded bpchar, word text COLLATE orders.caseless, tags numeric[]); \
             CREATE TABLE orders.fixed (id int PRIMARY KEY, n bigint, price numeric(6, 2), word varchar(10), \
               at timestamptz, flags bytea); \
             INSERT INTO orders.loose VALUES (1, 1.0, 0, '30 days', '{\"a\": 1.0}', 'a', 'a', '{1.0}'); \
             INSERT INTO orders.fixed VALUES (1, 7, NULL, '', now(), '')",
        )
        .await;
    let (mover, job) = (mover(&clusters), job(&clusters, 0, 1));
    before_the_cut(&mover, &job).await;
    let beside = async |table: &str, column: &str, value: &str| {
        let sql =
            format!("SET session_replication_role = replica; UPDATE orders.{table} SET {column} = {value}");
        clusters.all[1].ask(&sql).await;
    };
    let compared = async || {
        complete(&mover, &job, soon()).await;
        complete(&mover, &job, seal()).await;
        let cut = complete(&mover, &job, Action::VerifyAtCut).await;
        complete(&mover, &job, Action::Unfence).await;
        cut
    };
    for (table, column, is, other) in [
        ("loose", "free", "1.0", "1.00"),
        ("loose", "weight", "0", "'-0'"),
        ("loose", "lasts", "'30 days'", "'1 mon'"),
        ("loose", "more", "'{\"a\": 1.0}'", "'{\"a\": 1.00}'"),
        ("loose", "padded", "'a'", "'a '"),
        ("loose", "word", "'a'", "'A'"),
        ("loose", "tags", "'{1.0}'", "'{1.00}'"),
        ("fixed", "price", "NULL", "'NaN'"),
        ("fixed", "price", "NULL", "0"),
        ("fixed", "n", "7", "NULL"),
        ("fixed", "word", "''", "NULL"),
        ("fixed", "flags", "''", "NULL"),
    ] {
        beside(table, column, other).await;
        let cut = compared().await;
        assert_eq!(cut.equal, Some(false), "{column} was {is} and is {other}: {cut:?}");
        assert_eq!(cut.differences, [format!("orders.{table} (id=1): its content differs")]);
        beside(table, column, is).await;
    }
    let cut = compared().await;
    assert_eq!(cut.equal, Some(true), "{cut:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_its_values_written_like_is_no_difference() {
    let Some(clusters) = Clusters::start(2) else { return };
    let home = &clusters.all[0];
    home.ask(
        "CREATE SCHEMA orders; CREATE TYPE orders.mood AS ENUM ('calm', 'busy'); \
         CREATE DOMAIN orders.moment AS timestamptz; \
         CREATE TABLE orders.steady (id int PRIMARY KEY, mood orders.mood, moods orders.mood[], tags text[]); \
         CREATE TABLE orders.times (id int PRIMARY KEY, at orders.moment); \
         CREATE TABLE orders.weights (id int PRIMARY KEY, all_of float8[]); \
         CREATE TABLE orders.spans (id int PRIMARY KEY, all_of interval[], flags bytea[]); \
         INSERT INTO orders.steady SELECT g FROM generate_series(1, 3) g; \
         INSERT INTO orders.times SELECT g FROM generate_series(1, 3) g; \
         INSERT INTO orders.weights SELECT g FROM generate_series(1, 3) g; \
         INSERT INTO orders.spans SELECT g FROM generate_series(1, 3) g",
    )
    .await;
    let (mover, job) = (mover(&clusters), job(&clusters, 0, 1));
    before_the_cut(&mover, &job).await;
    let settings = "SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; SET extra_float_digits = -8; \
        SET intervalstyle = 'iso_8601'; SET bytea_output = 'escape'";
    home.ask(&format!(
        "{settings}; UPDATE orders.steady SET mood = 'busy', moods = '{{calm,busy}}', tags = '{{a,\"b c\"}}'; \
         UPDATE orders.times SET at = now(); UPDATE orders.weights SET all_of = ARRAY[id / 7.0]; \
         UPDATE orders.spans SET all_of = ARRAY[id * interval '1 hour'], flags = ARRAY['\\xff00'::bytea]"
    ))
    .await;
    the_cut(&mover, &job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_stand_in_another_order_at_the_destination_are_no_difference() {
    let Some(mut clusters) = two_clusters(50).await else { return };
    clusters.all[1]
        .ask(
            "DROP TABLE shop.notes; \
         CREATE TABLE shop.notes (gone text, body text, id uuid PRIMARY KEY DEFAULT gen_random_uuid(), \
           tenant_id int NOT NULL); \
         ALTER TABLE shop.notes DROP COLUMN gone; ALTER TABLE shop.notes REPLICA IDENTITY FULL",
        )
        .await;
    let (mover, job) = (tenant_mover(&clusters), tenant_job(&clusters, 7, 0, 1));
    before_the_cut(&mover, &job).await;
    // A crash empties the lists there: all rows are read again, by who knows the tables of that side only.
    clusters.all[1].kill();
    clusters.all[1].start();
    complete(&mover, &job, Action::Replicate).await;
    let [home, away] = [&clusters.all[0], &clusters.all[1]];
    // What triggers add at either side, after all rows were compared.
    home.ask(
        "UPDATE shop.notes SET body = NULL WHERE tenant_id = 7 AND body LIKE 'note 1 %'; \
         UPDATE shop.notes SET body = body || '!' WHERE tenant_id = 7 AND body LIKE 'note 2%'; \
         DELETE FROM shop.notes WHERE tenant_id = 7 AND body LIKE 'note 3%'; \
         INSERT INTO shop.notes (tenant_id, body) VALUES (7, 'new'), (7, NULL), (8, 'of another')",
    )
    .await;
    let notes = "SELECT string_agg(concat(id, body), '' ORDER BY id) FROM shop.notes WHERE tenant_id = 7";
    let before = home.text(notes).await;
    the_cut(&mover, &job).await;
    assert_eq!(away.text(notes).await, before);
}
