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

/// An expression over one row of a table (called `row`) whose hash is equal on both sides exactly
/// where the row is, whatever the settings of who writes.
pub(super) fn row_hash(table: &Table, row: &str) -> String {
    let columns: Vec<String> =
        table.columns.iter().map(|(name, kind)| column(&format!("{row}.{}", ident(name)), kind)).collect();
    format!("pg_catalog.hash_record_extended(ROW({}), 0)", columns.join(", "))
}

/// The hash of a row's key, for buckets.
pub(super) fn key_hash(table: &Table, row: &str) -> String {
    let kind = |name: &str| {
        table.columns.iter().find(|(n, _)| n == name).map_or("", |(_, kind)| kind.as_str()).to_string()
    };
    let columns: Vec<String> =
        table.key.iter().map(|name| column(&format!("{row}.{}", ident(name)), &kind(name))).collect();
    format!("pg_catalog.hash_record_extended(ROW({}), 1)", columns.join(", "))
}

/// What is hashed of a column. A type's own hash calls values equal that are not the same bits (`1.0`
/// and `1.00`, `0` and `-0`, `30 days` and `1 mon`): of those the bits are taken.
fn column(name: &str, kind: &str) -> String {
    match kind {
        "float4" | "float8" => format!("pg_catalog.{kind}send({name})"),
        "interval" => format!("pg_catalog.interval_send({name})"),
        "text" | "varchar" | "bpchar" | "numeric" | "json" | "jsonb" => {
            format!("({name})::pg_catalog.text COLLATE pg_catalog.\"C\"")
        }
        "int2" | "int4" | "int8" | "bool" | "uuid" | "bytea" | "date" | "time" | "timetz" | "timestamp"
        | "timestamptz" | "oid" | "inet" | "cidr" | "macaddr" | "name" => name.to_string(),
        // By the type's output function, and not by a cast, which its owner could have made.
        _ => format!("pg_catalog.format('%L', {name}) COLLATE pg_catalog.\"C\""),
    }
}

/// Whether the text of some column depends on the session's settings.
fn depends_on_settings(table: &Table) -> bool {
    const FREE: [&str; 22] = [
        "float4",
        "float8",
        "interval",
        "text",
        "varchar",
        "bpchar",
        "int2",
        "int4",
        "int8",
        "bool",
        "uuid",
        "bytea",
        "date",
        "time",
        "timetz",
        "timestamp",
        "timestamptz",
        "oid",
        "numeric",
        "json",
        "jsonb",
        "inet",
    ];
    table.columns.iter().any(|(_, kind)| !FREE.contains(&kind.as_str()))
}

/// The list's name.
pub(super) fn list(digest: &str) -> String {
    format!("foreshift.{}", ident(&format!("{digest}_list")))
}

/// What the lines of a list add up to.
const SUM: &str = "coalesce(sum(plus) - sum(minus) + sum(h), 0)";

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
        "CREATE UNLOGGED TABLE IF NOT EXISTS {list} \
           (rel int NOT NULL, n bigint NOT NULL, plus bigint NOT NULL DEFAULT 0, \
           minus bigint NOT NULL DEFAULT 0, h numeric NOT NULL DEFAULT 0, base boolean NOT NULL DEFAULT false); \
         GRANT INSERT ON {list} TO PUBLIC; \
         SELECT n.nspname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
           JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE t.tgname = {name} AND {covered}",
        list = list(digest),
        name = literal(&format!("{digest}_cleared")),
        covered = scope.covers("n"),
    );
    let have = session.ask(doing, &sql).await?;
    let has = |t: &Table| have.iter().any(|line| t.is(line.text(0), line.text(1)));
    for (number, table) in tables.iter().enumerate().filter(|(_, t)| t.ordinary && !has(t)) {
        let sql = install_sql(digest, number, table);
        let sql = format!("SET LOCAL lock_timeout = {}; {sql}", lock.0.max(1));
        session.ask(&format!("{doing} of {}", table.words()), &sql).await?;
    }
    Ok(())
}

fn install_sql(digest: &str, number: usize, table: &Table) -> String {
    let (list, on) = (list(digest), table.on());
    let cleared = function(digest, number, "cleared");
    let settings = if depends_on_settings(table) {
        "SET timezone = 'UTC' SET datestyle = 'ISO' SET intervalstyle = 'postgres' \
         SET extra_float_digits = 3 SET bytea_output = 'hex'"
    } else {
        ""
    };
    let (new, old) = (row_hash(table, "NEW"), row_hash(table, "OLD"));
    // One function a kind of change, every name written out: with a setting of the function, as the
    // search path, each row would cost several times as much. It runs as who writes, so nothing of a
    // table's owner runs with our rights.
    let mut sql = String::new();
    let mut changed = format!("0, {new}, {old}");
    let (mut if_new, mut if_old, mut if_either) = (String::new(), String::new(), String::new());
    if let Some(tenant) = &table.tenant {
        // Only rows of the tenant count, and one that comes to it or leaves it counts once.
        let (n, o) = (tenant.condition("NEW"), tenant.condition("OLD"));
        let (n, o) = (format!("(({n}) IS TRUE)"), format!("(({o}) IS TRUE)"));
        changed = format!(
            "{n}::pg_catalog.int4 - {o}::pg_catalog.int4, CASE WHEN {n} THEN {new} ELSE 0 END, \
             CASE WHEN {o} THEN {old} ELSE 0 END"
        );
        if_either = format!("WHEN ({n} OR {o})");
        (if_new, if_old) = (format!("WHEN {n}"), format!("WHEN {o}"));
    }
    for (kind, what, when, values) in [
        ("added", "INSERT", if_new, format!("1, {new}, 0")),
        ("changed", "UPDATE", if_either, changed),
        ("gone", "DELETE", if_old, format!("-1, 0, {old}")),
    ] {
        sql.push_str(&format!(
            "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql \
             {settings} AS $digest$ BEGIN \
               INSERT INTO {list} (rel, n, plus, minus) VALUES ({number}, {values}); RETURN NULL; \
             END $digest$; \
             CREATE OR REPLACE TRIGGER {trigger} AFTER {what} ON {on} FOR EACH ROW {when} \
               EXECUTE FUNCTION {function}(); \
             ALTER TABLE {on} ENABLE ALWAYS TRIGGER {trigger}; ",
            function = function(digest, number, kind),
            trigger = ident(&format!("{digest}_{kind}")),
        ));
    }
    format!(
        "{sql} CREATE OR REPLACE FUNCTION {cleared}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
         SET search_path = pg_catalog, pg_temp AS $digest$ BEGIN \
           INSERT INTO {list} (rel, n, h) \
             SELECT {number}, -coalesce(sum(n), 0), -{SUM} FROM {list} WHERE rel = {number}; \
           RETURN NULL; END $digest$; \
         CREATE OR REPLACE TRIGGER {clears} AFTER TRUNCATE ON {on} EXECUTE FUNCTION {cleared}(); \
         ALTER TABLE {on} ENABLE ALWAYS TRIGGER {clears}",
        clears = ident(&format!("{digest}_cleared")),
    )
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
    let list = list(digest);
    let sql = format!(
        "WITH s AS (SELECT count(*) AS n, coalesce(sum({hash}), 0) AS h FROM ONLY {on} AS r{only}), \
           x AS (SELECT coalesce(sum(n), 0) AS n, {SUM} AS h FROM {list} WHERE rel = {number}), \
           i AS (INSERT INTO {list} (rel, n, h, base) SELECT {number}, s.n - x.n, s.h - x.h, true FROM s, x) \
         SELECT n, h FROM s",
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
    format!("SELECT rel, sum(n), {SUM}, bool_or(base) FROM {} GROUP BY rel", list(digest))
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
    let (doing, list) = ("folding the digest", list(digest));
    let there = format!("SELECT to_regclass({}) IS NOT NULL", literal(&list));
    if !session.one(doing, &there).await?.yes(0) {
        return Ok(());
    }
    let long = format!("SELECT count(*) > {LONG} FROM (SELECT 1 FROM {list} LIMIT {}) s", LONG + 1);
    if !session.one(doing, &long).await?.yes(0) {
        return Ok(());
    }
    let sql = format!(
        "WITH gone AS (DELETE FROM {list} RETURNING rel, n, plus, minus, h, base) \
         INSERT INTO {list} (rel, n, h, base) SELECT rel, sum(n), {SUM}, bool_or(base) FROM gone GROUP BY rel"
    );
    session.ask(doing, &sql).await?;
    // The dead lines would be passed over by every sum.
    session.ask(doing, &format!("VACUUM (TRUNCATE OFF) {list}")).await.map(|_| ())
}

/// The tables whose digest is not there: never begun, or lost when the server crashed.
pub(super) async fn missing(
    session: &Session,
    digest: &str,
    tables: &[Table],
) -> Result<Vec<usize>, DriverError> {
    let sql = format!("SELECT DISTINCT rel FROM {} WHERE base", list(digest));
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
    let mut sql = format!("DROP TABLE IF EXISTS {}", list(digest));
    for line in session.ask(doing, &functions).await? {
        sql.push_str(&format!("; DROP FUNCTION IF EXISTS foreshift.{}()", ident(line.text(0))));
    }
    session.ask(doing, &sql).await.map(|_| ())
}
