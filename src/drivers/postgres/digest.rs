//! The digest that is maintained on both sides while a workload moves: for every table the number of
//! its rows and the sum of their hashes. A trigger adds what every change adds to it to a list beside
//! the tables, in the same transaction; the apply worker fires it, too. A sum does not depend on the
//! order, so both sides can be compared at the cut in the time that the list takes to add up,
//! whatever the size of the tables. The list is folded all the while, and unlogged: after a crash of
//! the server it is empty, which is noticed, and all rows are read again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::hash::{depends_on_settings, row_hash, whole_row_hash};
use super::scope::Scope;
use super::session::{Clusters, Line, Session, ident, literal};
use super::stage::{Stage, Table, qualified};
use crate::drivers::error::{DriverError, Retry};
use crate::fleet::Span;

/// A list longer than this is folded.
const LONG: u64 = 300;
/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Number of rows and sum of their hashes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Sum {
    pub(super) rows: i64,
    /// In decimal: more than 64 bits.
    pub(super) hash: String,
}

/// The list, to which triggers add a line for every change: the hash that the row has now, and that which it had.
/// Every column of it costs who writes.
fn list(digest: &str) -> String {
    format!("foreshift.{}", ident(&format!("{digest}_list")))
}

/// What was read of the tables, and what the list was folded to.
fn folded(digest: &str) -> String {
    format!("foreshift.{}", ident(&format!("{digest}_sums")))
}

/// What the lines of a list add up to, in the columns of [`folded`].
fn added_up(list: &str) -> String {
    format!(
        "SELECT rel, count(plus) - count(minus) AS n, coalesce(sum(plus), 0) - coalesce(sum(minus), 0) AS h, \
           false AS base FROM {list} GROUP BY rel"
    )
}

/// Both together.
fn all(digest: &str) -> String {
    format!("(SELECT rel, n, h, base FROM {} UNION ALL {}) s", folded(digest), added_up(&list(digest)))
}

fn function(digest: &str, number: usize, kind: &str) -> String {
    format!("foreshift.{}", ident(&format!("{digest}_{number}_{kind}")))
}

/// Makes the list and the triggers of all tables that hold rows; each table in a transaction of its
/// own, and only where it has none yet. `lock` bounds how long writers wait behind us.
pub(super) async fn install(
    session: &Session,
    scope: &Scope,
    digest: &str,
    tables: &[Table],
    lock: Span,
) -> Result<(), DriverError> {
    let doing = "maintaining the digest";
    let sql = format!(
        "CREATE UNLOGGED TABLE IF NOT EXISTS {list} (rel int NOT NULL, plus bigint, minus bigint); \
         CREATE UNLOGGED TABLE IF NOT EXISTS {folded} \
           (rel int NOT NULL, n bigint NOT NULL, h numeric NOT NULL, base boolean NOT NULL); \
         GRANT INSERT ON {list} TO PUBLIC; \
         SELECT n.nspname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
           JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE t.tgname = {name} AND {covered}",
        list = list(digest),
        folded = folded(digest),
        name = literal(&format!("{digest}_cleared")),
        covered = scope.covers("n"),
    );
    let have = session.ask(doing, &sql).await?;
    let has = |t: &Table| have.iter().any(|line| t.is(line.text(0), line.text(1)));
    let here = super::stage::tables(session, scope).await?;
    for (number, table) in tables.iter().enumerate().filter(|(_, t)| t.ordinary && !has(t)) {
        // The columns may stand in another order here than where the tables were read.
        let same = here.iter().any(|t| t.is(&table.schema, &table.name) && t.columns == table.columns);
        let hash = |row: &str| whole_row_hash(table, row).filter(|_| same).unwrap_or(row_hash(table, row));
        let sql = install_sql(digest, number, table, &hash("NEW"), &hash("OLD"));
        let sql = format!("SET LOCAL lock_timeout = {}; {sql}", lock.0.max(1));
        session.ask(&format!("{doing} of {}", table.words()), &sql).await?;
    }
    Ok(())
}

fn install_sql(digest: &str, number: usize, table: &Table, new: &str, old: &str) -> String {
    let (list, on) = (list(digest), table.on());
    let settings = if depends_on_settings(table) {
        "SET timezone = 'UTC' SET datestyle = 'ISO' SET intervalstyle = 'postgres' \
         SET extra_float_digits = 3 SET bytea_output = 'hex'"
    } else {
        ""
    };
    // One function a kind of change, every name written out: with a setting of the function, as the
    // search path, each row would cost several times as much. It runs as who writes, so nothing of a
    // table's owner runs with our rights.
    let mut sql = String::new();
    let mut changed = format!("{new}, {old}");
    let (mut if_new, mut if_old, mut if_either) = (String::new(), String::new(), String::new());
    if let Some(tenant) = &table.tenant {
        // Only rows of the tenant count, and one that comes to it or leaves it counts once.
        let (n, o) = (tenant.condition("NEW"), tenant.condition("OLD"));
        changed = format!("CASE WHEN {n} THEN {new} END, CASE WHEN {o} THEN {old} END");
        if_either = format!("WHEN ({n} OR {o})");
        (if_new, if_old) = (format!("WHEN ({n})"), format!("WHEN ({o})"));
    }
    for (kind, what, when, line) in [
        ("added", "INSERT", if_new, format!("plus) VALUES ({number}, {new}")),
        ("changed", "UPDATE", if_either, format!("plus, minus) VALUES ({number}, {changed}")),
        ("gone", "DELETE", if_old, format!("minus) VALUES ({number}, {old}")),
    ] {
        let body = format!("BEGIN INSERT INTO {list} (rel, {line}); RETURN NULL; END");
        sql.push_str(&format!(
            "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql {settings} AS {body}; \
             CREATE OR REPLACE TRIGGER {trigger} AFTER {what} ON {on} FOR EACH ROW {when} \
               EXECUTE FUNCTION {function}(); \
             ALTER TABLE {on} ENABLE ALWAYS TRIGGER {trigger}; ",
            function = function(digest, number, kind),
            body = literal(&body),
            trigger = ident(&format!("{digest}_{kind}")),
        ));
    }
    format!(
        "{sql} CREATE OR REPLACE FUNCTION {cleared}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
         SET search_path = pg_catalog, pg_temp AS $digest$ BEGIN \
           INSERT INTO {folded} (rel, n, h, base) \
             SELECT {number}, -coalesce(sum(n), 0), -coalesce(sum(h), 0), false FROM {all} WHERE rel = {number}; \
           RETURN NULL; END $digest$; \
         CREATE OR REPLACE TRIGGER {clears} AFTER TRUNCATE ON {on} EXECUTE FUNCTION {cleared}(); \
         ALTER TABLE {on} ENABLE ALWAYS TRIGGER {clears}; COMMENT ON TRIGGER {clears} ON {on} IS {order}",
        order = literal(&order_of(table)),
        cleared = function(digest, number, "cleared"),
        folded = folded(digest),
        all = all(digest),
        clears = ident(&format!("{digest}_cleared")),
    )
}

/// The columns as the triggers hash them, as a comment of one of these says.
fn order_of(table: &Table) -> String {
    serde_json::Value::from_iter(table.columns.iter().map(|c| c.name.as_str())).to_string()
}

/// The table with its columns as its triggers hash them, wherever it was read: they may stand in another order
/// on the other side, and a sum is of one order only.
async fn as_hashed(session: &Session, digest: &str, table: &Table) -> Result<Table, DriverError> {
    let sql = format!(
        "SELECT coalesce(obj_description(oid, 'pg_trigger'), '[]') FROM pg_trigger \
         WHERE tgrelid = to_regclass({}) AND tgname = {}",
        literal(&table.on()),
        literal(&format!("{digest}_cleared"))
    );
    let lines = session.ask("looking for the digest", &sql).await?;
    let order: Vec<String> =
        lines.first().and_then(|line| serde_json::from_str(line.text(0)).ok()).unwrap_or_default();
    let mut table = table.clone();
    table.columns.sort_by_key(|c| order.iter().position(|name| *name == c.name));
    Ok(table)
}

/// Whether every table that holds rows has its trigger here.
pub(super) async fn is_installed(
    session: &Session,
    scope: &Scope,
    digest: &str,
    tables: &[Table],
) -> Result<bool, DriverError> {
    let sql = format!(
        "SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
           JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgname = {} AND {}",
        literal(&format!("{digest}_cleared")),
        scope.covers("n")
    );
    let have = session.one("looking for the digest", &sql).await?.number(0);
    Ok(have as usize >= tables.iter().filter(|t| t.ordinary).count())
}

/// Reads all rows of one table, and begins (or corrects) its digest from them, in one snapshot.
pub(super) async fn begin(
    session: &Session,
    digest: &str,
    number: usize,
    table: &Table,
    limit: Span,
) -> Result<Sum, DriverError> {
    let table = &as_hashed(session, digest, table).await?;
    let sql = format!(
        "WITH seen AS (SELECT count(*) AS n, coalesce(sum({hash}), 0) AS h FROM ONLY {on} AS r{only}), \
           x AS (SELECT coalesce(sum(n), 0) AS n, coalesce(sum(h), 0) AS h FROM {all} WHERE rel = {number}), \
           i AS (INSERT INTO {folded} (rel, n, h, base) SELECT {number}, seen.n - x.n, seen.h - x.h, true FROM seen, x) \
         SELECT n, h FROM seen",
        all = all(digest),
        folded = folded(digest),
        hash = row_hash(table, "r"),
        on = table.on(),
        only = table.only("r"),
    );
    // One at a time: two that do not see each other's line would both add it.
    let sql = format!("SELECT pg_advisory_xact_lock(hashtextextended({}, {number})); {sql}", literal(digest));
    let lines = session.ask_long(&format!("reading {}", table.words()), &sql, limit).await?;
    Ok(lines.last().map(|l| Sum { rows: l.number(0), hash: l.text(1).to_string() }).unwrap_or_default())
}

/// What asks for the digests of all tables, from the list alone; [`sums`] reads the answer.
pub(super) fn sums_sql(digest: &str) -> String {
    format!("SELECT rel, sum(n), sum(h), bool_or(base) FROM {} GROUP BY rel", all(digest))
}

/// The digests of all tables.
///
/// # Errors
/// Where a table's digest was never begun, or was lost when the server crashed.
pub(super) fn sums(
    address: &str,
    lines: &[Line],
    tables: &[Table],
) -> Result<BTreeMap<usize, Sum>, DriverError> {
    let sum = |l: &Line| (l.number(0) as usize, Sum { rows: l.number(1), hash: l.text(2).to_string() });
    let sums: BTreeMap<usize, Sum> = lines.iter().filter(|line| line.yes(3)).map(sum).collect();
    if tables.iter().enumerate().any(|(number, table)| table.ordinary && !sums.contains_key(&number)) {
        return Err(DriverError::new(
            Retry::Retryable,
            super::session::system(address),
            "adding up the digest",
            "the digest of a table is not there: it was not compared yet, or the server crashed since; all rows are to be compared again",
        ));
    }
    Ok(sums)
}

/// Adds the list up into one line a table where it is long. What is deleted and what takes its place
/// change in one statement, so a sum sees either.
pub(super) async fn fold(session: &Session, digest: &str) -> Result<(), DriverError> {
    let (doing, list, folded) = ("folding the digest", list(digest), folded(digest));
    let there = format!("SELECT to_regclass({}) IS NOT NULL", literal(&list));
    if !session.one(doing, &there).await?.yes(0) {
        return Ok(());
    }
    let long = format!("SELECT count(*) > {LONG} FROM (SELECT 1 FROM {list} LIMIT {}) s", LONG + 1);
    if !session.one(doing, &long).await?.yes(0) {
        return Ok(());
    }
    let sql = format!(
        "WITH gone AS (DELETE FROM {list} RETURNING rel, plus, minus), \
           older AS (DELETE FROM {folded} RETURNING rel, n, h, base) \
         INSERT INTO {folded} (rel, n, h, base) SELECT rel, sum(n), sum(h), bool_or(base) \
           FROM ({} UNION ALL SELECT rel, n, h, base FROM older) s GROUP BY rel",
        added_up("gone")
    );
    session.ask(doing, &sql).await?;
    // The dead lines would be passed over by every sum.
    session.ask(doing, &format!("VACUUM (TRUNCATE OFF) {list}, {folded}")).await.map(|_| ())
}

/// The tables whose digest is not there: never begun, or lost when the server crashed.
pub(super) async fn missing(
    session: &Session,
    digest: &str,
    tables: &[Table],
) -> Result<Vec<usize>, DriverError> {
    let sql = format!("SELECT DISTINCT rel FROM {} WHERE base", folded(digest));
    let lines = session.ask_if_there("looking for the digest", &sql).await?.unwrap_or_default();
    let begun: Vec<usize> = lines.iter().map(|line| line.number(0) as usize).collect();
    let holds = tables.iter().enumerate().filter(|(_, table)| table.ordinary);
    Ok(holds.map(|(number, _)| number).filter(|number| !begun.contains(number)).collect())
}

/// Folds on both sides until it is dropped, and begins anew what a crash of a server lost.
pub(super) struct Keeper(JoinHandle<()>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Keeper {
    pub(super) fn start(clusters: Arc<Clusters>, stage: &Stage, scan: Span) -> Self {
        let addresses = [stage.source.clone(), stage.destination.clone()];
        let (scope, digest) = (stage.scope.clone(), stage.names.digest.clone());
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                for address in &addresses {
                    let Ok(session) = clusters.session(address).await else { continue };
                    if let Err(error) = tend(&session, &scope, &digest, scan).await {
                        tracing::debug!(%error, "the digest was not folded");
                    }
                }
            }
        }))
    }
}

async fn tend(session: &Session, scope: &Scope, digest: &str, scan: Span) -> Result<(), DriverError> {
    fold(session, digest).await?;
    let tables = super::stage::tables(session, scope).await?;
    if is_installed(session, scope, digest, &tables).await? {
        for number in missing(session, digest, &tables).await? {
            begin(session, digest, number, &tables[number], scan).await?;
        }
    }
    Ok(())
}

/// Takes triggers, functions and list away, found by name alone.
pub(super) async fn remove(session: &Session, digest: &str, lock: Span) -> Result<(), DriverError> {
    let doing = "removing the digest";
    let triggers = format!(
        "SELECT n.nspname, c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
           JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE starts_with(t.tgname, {}) AND NOT t.tgisinternal ORDER BY 1, 2, 3",
        literal(&format!("{digest}_"))
    );
    for line in session.ask(doing, &triggers).await? {
        let sql = format!(
            "SET LOCAL lock_timeout = {}; DROP TRIGGER IF EXISTS {} ON {}",
            lock.0.max(1),
            ident(line.text(2)),
            qualified(line.text(0), line.text(1))
        );
        session.ask(doing, &sql).await?;
    }
    let functions = format!(
        "SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
         WHERE n.nspname = 'foreshift' AND starts_with(p.proname, {})",
        literal(&format!("{digest}_"))
    );
    let mut sql = format!("DROP TABLE IF EXISTS {}, {}", list(digest), folded(digest));
    for line in session.ask(doing, &functions).await? {
        sql.push_str(&format!("; DROP FUNCTION IF EXISTS foreshift.{}()", ident(line.text(0))));
    }
    session.ask(doing, &sql).await.map(|_| ())
}
