//! What a person changes in a schema's structure goes along, or keeps the schema where it is: on real PostgreSQL 15
//! servers an index, a check, a trigger, a function, a right and a sequence are never lost by a move.

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/postgres_steps.rs"]
mod postgres_steps;
mod support;

use foreshift::drivers::postgres::PostgresMover;
use foreshift::drivers::{Action, DriverError, Job, Mover, Retry};
use foreshift::fleet::{Generation, MigrationId};
use postgres::{Clusters, schema};
use postgres_steps::{before_the_cut, cleanup, complete, job, mover, permit, soon, the_cut};

/// Everything that is no row, and that no stream carries. The list of a CHECK is written otherwise by a server into
/// which it was restored.
const CHANGES: &str = "CREATE UNIQUE INDEX by_n ON orders.counters (id, n); \
    ALTER TABLE orders.counters ADD CHECK (n >= 0); \
    CREATE TABLE orders.kinds (kind varchar(9) PRIMARY KEY CHECK (kind IN ('a', 'b'))); \
    CREATE SEQUENCE orders.numbers START 40; SELECT nextval('orders.numbers'); \
    CREATE FUNCTION orders.price(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2'; \
    CREATE FUNCTION orders.seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
    CREATE TRIGGER seen BEFORE UPDATE ON orders.counters FOR EACH ROW EXECUTE FUNCTION orders.seen(); \
    CREATE VIEW orders.some AS SELECT id FROM orders.counters WHERE n > 3; \
    GRANT SELECT ON orders.counters TO PUBLIC";

/// What of it a server has.
const THERE: &str = "SELECT concat_ws(' ', to_regclass('orders.by_n'), to_regclass('orders.numbers'), \
    to_regclass('orders.some'), orders.price(21), \
    (SELECT string_agg(conname, ' ' ORDER BY conname) FROM pg_constraint WHERE contype = 'c' AND connamespace = 'orders'::regnamespace), \
    (SELECT tgname FROM pg_trigger WHERE tgname = 'seen'), \
    has_table_privilege('public', 'orders.counters', 'SELECT'))";

/// A schema whose destination has become its owner, and whose way back is proved.
async fn moved(clusters: &Clusters) -> (PostgresMover, Job) {
    clusters.all[0].ask(&schema(50)).await;
    let (mover, forth) = (mover(clusters), job(clusters, 0, 1));
    before_the_cut(&mover, &forth).await;
    the_cut(&mover, &forth).await;
    complete(&mover, &forth, Action::EnableReverse).await;
    (mover, forth)
}

async fn refused(mover: &impl Mover, job: &Job) -> DriverError {
    let error = mover.perform(job, &soon(), &permit()).await.unwrap_err();
    println!("{error}");
    assert_eq!(error.retry, Retry::Permanent);
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_at_the_owner_is_at_the_old_copy_when_it_comes_back() {
    let Some(clusters) = Clusters::start(2) else { return };
    let [home, away] = [&clusters.all[0], &clusters.all[1]];
    let (mover, forth) = moved(&clusters).await;
    complete(&mover, &forth, Action::Retire).await;
    cleanup(&mover, &forth, false).await;

    away.ask(CHANGES).await;
    let changed = away.text(THERE).await;
    // Of somebody else, and in the way.
    home.ask("CREATE VIEW public.theirs AS SELECT count(*) FROM orders.counters").await;
    let back = Job { migration: MigrationId(8), ..forth.mirrored(Generation(2)) };
    let error = mover.perform(&back, &Action::Prepare, &permit()).await.unwrap_err();
    assert!(error.retry == Retry::Permanent && error.detail.contains("public.theirs"), "{error}");
    home.ask("DROP VIEW public.theirs; CREATE TABLE orders.notes (id int PRIMARY KEY)").await;
    let error = mover.perform(&back, &Action::Prepare, &permit()).await.unwrap_err();
    assert!(error.retry == Retry::Permanent && error.detail.contains("notes"), "{error}");
    home.ask("DROP TABLE orders.notes").await;

    before_the_cut(&mover, &back).await;
    the_cut(&mover, &back).await;
    for action in [Action::EnableReverse, Action::Retire] {
        complete(&mover, &back, action).await;
    }
    cleanup(&mover, &back, false).await;
    assert_eq!(home.text(THERE).await, changed);
    assert_eq!(home.text("SELECT nextval('orders.numbers')").await, "41");
    assert_eq!(mover.leaks().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_while_it_is_copied_keeps_the_schema_where_it_is_and_no_write_is_held() {
    let Some(clusters) = Clusters::start(2) else { return };
    let [home, away] = [&clusters.all[0], &clusters.all[1]];
    home.ask(&schema(50)).await;
    let (mover, job) = (mover(&clusters), job(&clusters, 0, 1));
    before_the_cut(&mover, &job).await;
    home.ask(CHANGES).await;
    let error = refused(&mover, &job).await;
    for word in [
        "INDEX orders.by_n is new",
        "SEQUENCE orders.numbers is new",
        "ACL orders.TABLE counters was changed",
    ] {
        assert!(error.detail.contains(word), "{error}");
    }
    home.ask("UPDATE orders.counters SET n = 5").await;
    // Who made the same change there, too, has lost nothing.
    complete(&mover, &job, Action::StopReplication).await;
    cleanup(&mover, &job, true).await;
    before_the_cut(&mover, &job).await;
    home.ask("CREATE FUNCTION orders.late() RETURNS int LANGUAGE sql AS 'SELECT 1'").await;
    assert!(refused(&mover, &job).await.detail.contains("FUNCTION orders.late() is new"));
    away.ask("CREATE FUNCTION orders.late() RETURNS int LANGUAGE sql AS 'SELECT 1'").await;
    the_cut(&mover, &job).await;
    assert_eq!(away.text(THERE).await, home.text(THERE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_when_writes_are_held_already_is_named_at_the_cut() {
    let Some(clusters) = Clusters::start(2) else { return };
    let home = &clusters.all[0];
    home.ask(&schema(50)).await;
    let (mover, job) = (mover(&clusters), job(&clusters, 0, 1));
    before_the_cut(&mover, &job).await;
    complete(&mover, &job, soon()).await;
    home.ask("CREATE INDEX late ON orders.counters (n)").await;
    let found = complete(&mover, &job, Action::VerifyAtCut).await;
    assert_eq!(found.equal, Some(false), "{found:?}");
    assert!(found.differences.iter().any(|d| d.contains("INDEX orders.late is new")), "{found:?}");
    complete(&mover, &job, Action::Unfence).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_at_the_new_owner_is_not_lost_by_going_back() {
    let Some(clusters) = Clusters::start(2) else { return };
    let [home, away] = [&clusters.all[0], &clusters.all[1]];
    let (mover, forth) = moved(&clusters).await;
    away.ask("ALTER TABLE orders.counters ADD COLUMN note text").await;
    let back = forth.mirrored(Generation(3));
    let error = refused(&mover, &back).await;
    assert!(error.detail.contains("TABLE orders.counters was changed"), "{error}");
    away.ask("UPDATE orders.counters SET n = 9 WHERE id = 1").await;
    home.ask("ALTER TABLE orders.counters ADD COLUMN note text").await;
    complete(&mover, &back, soon()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferrable_primary_key_is_refused_before_it_keeps_anybody_from_writing() {
    let Some(clusters) = Clusters::start(2) else { return };
    let home = &clusters.all[0];
    home.ask(&schema(10)).await;
    home.ask("CREATE TABLE orders.late (id int PRIMARY KEY DEFERRABLE, v int); INSERT INTO orders.late VALUES (1, 1)")
        .await;
    let (mover, job) = (mover(&clusters), job(&clusters, 0, 1));
    let error = mover.perform(&job, &Action::Prepare, &permit()).await.unwrap_err();
    assert!(error.retry == Retry::Permanent, "{error}");
    for word in ["DEFERRABLE", "late"] {
        assert!(error.detail.contains(word), "{error}");
    }
    home.ask("UPDATE orders.late SET v = 2").await;
    assert_eq!(mover.leaks().await.unwrap(), []);
}
