//! Making ready where a workload is the rows of one tenant: what its tables must have, and the destination's
//! side, where rows of other tenants may stand in the same tables already and are never touched.

use super::PostgresMover;
use super::prepare::{MARK, refuse_claimed};
use super::references::references;
use super::rows_guard::{guarded_sql, refuse_later_triggers};
use super::scope::{Scope, Tenant};
use super::session::{Session, literal};
use super::stage::{Stage, Table, refuse, structure, tables};
use super::structure::Made;
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Job, Permit};

/// What stands beside the marks for tenants.
const ROWS: &str = include_str!("rows.sql");

/// What stands in every database that took part, of both kinds.
pub(super) fn mark_sql() -> String {
    format!("{MARK}\n{ROWS}")
}

/// Refuses where the same tables are moved in another way: with the database, as a schema, or by tenants.
pub(super) async fn refuse_other_kind(session: &Session, scope: &Scope) -> Result<(), DriverError> {
    let doing = "looking for other workloads";
    let schema = literal(scope.marked());
    let sql = match scope {
        Scope::Tenant(_) => format!(
            "SELECT o.workload FROM foreshift.owner o WHERE o.schema_name IN ({schema}, '') \
             AND NOT EXISTS (SELECT FROM foreshift.tenant t WHERE t.workload = o.workload) LIMIT 1"
        ),
        Scope::Schema(_) => format!(
            "SELECT t.workload FROM foreshift.tenant t WHERE t.schema_name = {schema} \
             UNION ALL SELECT o.workload FROM foreshift.owner o WHERE o.schema_name = '' LIMIT 1"
        ),
        Scope::Database(_) => {
            "SELECT o.workload FROM foreshift.owner o WHERE o.schema_name <> '' LIMIT 1".to_string()
        }
    };
    match session.ask(doing, &sql).await?.first() {
        None => Ok(()),
        Some(line) => refuse(
            &session.address,
            doing,
            format!(
                "{} was moved as {}, and the same tables cannot be moved as {}, too; if it is moved so no more, \
                 DELETE its rows FROM foreshift.owner and foreshift.tenant on every cluster",
                scope.words(),
                line.text(0),
                scope.label()
            ),
        ),
    }
}

/// What every table must have so that the rows of one tenant, and no others, find their place.
pub(super) async fn check_rows(
    source: &Session,
    destination: &Session,
    scope: &Scope,
    tenant: &Tenant,
    tables: &[Table],
) -> Result<(), DriverError> {
    const DOING: &str = "checking the tables";
    let here = source.address.as_str();
    for session in [source, destination] {
        refuse_old_decoding(session).await?;
        refuse_later_triggers(session, scope, tenant).await?;
    }
    let kind = |t: &Table| t.columns.iter().find(|c| c.name == tenant.column).map(|c| c.kind.clone());
    let without: Vec<&str> = tables.iter().filter(|t| kind(t).is_none()).map(|t| t.name.as_str()).collect();
    if !without.is_empty() {
        return refuse(
            here,
            DOING,
            format!(
                "without a column {}, so nobody can tell whose their rows are: {}; add it, or name them in \
                 tenant.shared where they are no tenant's and are to stay",
                tenant.column,
                without.join(", ")
            ),
        );
    }
    for table in tables {
        let kind = kind(table).unwrap_or_default();
        if !["int2", "int4", "int8", "text", "varchar", "uuid"].contains(&kind.as_str()) {
            return refuse(
                here,
                DOING,
                format!(
                    "{}.{}.{} is of the type {kind}; expected smallint, integer, bigint, text, varchar or uuid",
                    scope.marked(),
                    table.name,
                    tenant.column
                ),
            );
        }
        let same = format!("SELECT {0}::{kind}::text = {0}", literal(&tenant.value));
        if !source.one(DOING, &same).await?.yes(0) {
            let why = format!("{} is no tenant: {kind} writes it otherwise", tenant.value);
            return refuse(here, DOING, why);
        }
    }
    let sql = format!(
        "SELECT c.relname, c.relreplident, coalesce(l.collisdeterministic, true), a.attgenerated = '' \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = {} \
           LEFT JOIN pg_collation l ON l.oid = a.attcollation \
         WHERE n.nspname = {} AND c.relkind = 'r' AND {} ORDER BY 1",
        literal(&tenant.column),
        literal(scope.marked()),
        scope.tables()
    );
    for line in source.ask(DOING, &sql).await? {
        let keyed = tables.iter().any(|t| t.name == line.text(0) && t.key.contains(&tenant.column));
        if line.text(1) != "f" && !keyed {
            // With such a publication every UPDATE and DELETE of any tenant would fail there.
            let why = format!(
                "the replica identity of {0}.{1} does not hold {2}, so who changes a row could not be told \
                 whose it is; make {2} a part of its primary key, or ALTER TABLE {0}.{1} REPLICA IDENTITY FULL",
                scope.marked(),
                line.text(0),
                tenant.column
            );
            return refuse(here, DOING, why);
        }
        if !line.yes(2) {
            let why = format!(
                "{}.{}.{} has a collation that calls different texts equal",
                scope.marked(),
                line.text(0),
                tenant.column
            );
            return refuse(here, DOING, why);
        }
        if !line.yes(3) {
            let why = format!(
                "{}.{}.{} is generated, so nobody can tell whose a row is before it is written",
                scope.marked(),
                line.text(0),
                tenant.column
            );
            return refuse(here, DOING, why);
        }
    }
    Ok(())
}

/// Refuses a server whose streams forget, while a transaction of another tenant is under way, that the publication
/// was changed (mended in May 2025; "distribute invalidations" in PostgreSQL's reorder buffer): rows of the tenant
/// would be sent to nobody.
async fn refuse_old_decoding(session: &Session) -> Result<(), DriverError> {
    let doing = "checking the server's version";
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version')";
    let found = session.one(doing, sql).await?;
    if decodes_rightly(found.number(0)) {
        return Ok(());
    }
    let why = format!(
        "rows of tenants need PostgreSQL 15.13, 16.9, 17.5 or newer, this is {}: older ones may send nothing more of \
         a table whose publication is changed while somebody writes to it",
        found.text(1)
    );
    refuse(&session.address, doing, why)
}

/// By `server_version_num`.
fn decodes_rightly(version: i64) -> bool {
    let least = match version / 10_000 {
        15 => 150_013,
        16 => 160_009,
        17 => 170_005,
        _ => 180_000,
    };
    version >= least
}

impl PostgresMover {
    /// Refuses where rows of the tenant and of others refer to each other: they could not part.
    pub(super) async fn check_references(
        &self,
        source: &Session,
        scope: &Scope,
        tenant: &Tenant,
        tables: &[Table],
    ) -> Result<(), DriverError> {
        let doing = "checking foreign keys";
        for one in references(source, scope, tables).await? {
            for (condition, how) in [
                (one.to_others(tenant), "refers from rows of this tenant to rows of another"),
                (one.others_refer(tenant), "refers from other rows to rows of this tenant"),
            ] {
                let Some(condition) = condition else { continue };
                let sql = format!("SELECT {condition}");
                let lines = source.ask_long(doing, &sql, self.options.scan_timeout).await?;
                if lines.last().is_some_and(|line| line.yes(0)) {
                    let why = format!("{} {how}: they cannot part; mend those rows first", one.named);
                    return refuse(&source.address, doing, why);
                }
            }
        }
        Ok(())
    }

    /// The destination's side: the mark, then the tables, where there are none. A first copy is refused where
    /// rows of the tenant stand there already; an older copy of ours is emptied of them.
    pub(super) async fn rows_at(
        &self,
        source: &Session,
        destination: &Session,
        job: &Job,
        stage: &Stage,
        permit: &Permit,
    ) -> Result<String, DriverError> {
        let doing = "making room for the rows";
        let here = destination.address.as_str();
        let Some(tenant) = stage.scope.tenant() else { return Ok(String::new()) };
        let mark = self.mark(destination, &job.workload).await?;
        let ours = mark.as_ref().is_some_and(|m| m.made_by == stage.names.copy);
        refuse_claimed(mark.as_ref(), (here, doing), job, permit)?;
        let have = tables(destination, &stage.scope).await?;
        if !have.is_empty() {
            self.refuse_other_structure(source, destination, &stage.scope).await?;
        }
        if !ours {
            let rows: Vec<&Table> = have.iter().filter(|t| t.ordinary).collect();
            let sql = match mark.is_some() {
                true => empty(tenant, &rows),
                false => refuse_rows(tenant, &rows),
            };
            let sql = format!(
                "SELECT pg_advisory_xact_lock({}); {sql} \
                 INSERT INTO foreshift.owner AS o \
                   (workload, schema_name, generation, epoch, mode, made_by, made, owner_is) \
                 VALUES ({}, {}, {}, {}, 'standby', {}, '{}', {}) \
                 ON CONFLICT (workload) DO UPDATE SET generation = excluded.generation, epoch = excluded.epoch, \
                   made_by = excluded.made_by, made = excluded.made, owner_is = excluded.owner_is; {}",
                tenant.lock(),
                literal(job.workload.as_str()),
                literal(stage.scope.marked()),
                job.generation.0.saturating_sub(1),
                permit.epoch().0,
                literal(&stage.names.copy),
                if mark.is_some() { "nothing" } else { "rows" },
                literal(&stage.source),
                guarded_sql(job, stage, tenant),
            );
            destination.ask_long(doing, &sql, self.options.scan_timeout).await?;
        }
        if !tables(destination, &stage.scope).await?.is_empty() {
            return Ok("the tables are there".into());
        }
        let made = |made: Made| {
            format!(
                "UPDATE foreshift.owner SET made = '{}' WHERE workload = {}",
                made.word(),
                literal(job.workload.as_str())
            )
        };
        if let Err(error) = self.build(destination, stage, made).await {
            // Another tenant's move may have made them in this moment.
            if error.retry == Retry::Unknown || tables(destination, &stage.scope).await?.is_empty() {
                return Err(error);
            }
            self.refuse_other_structure(source, destination, &stage.scope).await?;
        }
        Ok("the tables were made".into())
    }

    async fn refuse_other_structure(
        &self,
        source: &Session,
        destination: &Session,
        scope: &Scope,
    ) -> Result<(), DriverError> {
        if structure(source, scope).await? == structure(destination, scope).await? {
            return Ok(());
        }
        let why = format!(
            "the tables of {} do not look the same as at {}; make them the same on both",
            scope.marked(),
            source.address
        );
        refuse(&destination.address, "comparing the structure", why)
    }

    /// Brings the destination's sequences to where the source's stand, so that little of it is left to the cut.
    pub(super) async fn bring_sequences(
        &self,
        source: &Session,
        destination: &Session,
        scope: &Scope,
    ) -> Result<(), DriverError> {
        if scope.tenant().is_none() {
            return Ok(());
        }
        let (doing, schema) = ("bringing the sequences", literal(scope.marked()));
        let stand = source.one(doing, &format!("SELECT foreshift.sequences({schema})")).await?;
        let sql = format!(
            "SET LOCAL lock_timeout = {}; SELECT foreshift.advance_all({schema}, {})",
            self.options.lock_timeout.0.max(1),
            literal(stand.text(0))
        );
        destination.ask(doing, &sql).await.map(|_| ())
    }
}

/// Empties an older copy of ours; no trigger of anybody is fired but the digests'.
fn empty(tenant: &Tenant, rows: &[&Table]) -> String {
    let mut sql = String::from("SET LOCAL session_replication_role = replica; ");
    for table in rows {
        let on = table.on();
        sql.push_str(&format!("DELETE FROM ONLY {on} AS r WHERE {}; ", tenant.condition("r")));
    }
    sql
}

/// Refuses rows of the tenant that are no copy of ours.
fn refuse_rows(tenant: &Tenant, rows: &[&Table]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut sql = String::from("DO $foreshift$ BEGIN ");
    for table in rows {
        let on = table.on();
        let why = format!(
            "rows of {} {} are in {on} already and are no copy of ours; move or remove them there",
            tenant.column, tenant.value
        );
        sql.push_str(&format!(
            "IF EXISTS (SELECT FROM ONLY {on} AS r{}) THEN \
             RAISE EXCEPTION USING ERRCODE = 'FS004', MESSAGE = {}; END IF; ",
            table.only("r"),
            literal(&why)
        ));
    }
    sql.push_str("END $foreshift$;");
    sql
}

#[cfg(test)]
mod tests {
    use super::decodes_rightly;

    #[test]
    fn servers_whose_streams_forget_a_changed_publication_are_told_from_others() {
        for (version, right) in [
            (140_018, false),
            (150_012, false),
            (150_013, true),
            (150_018, true),
            (160_008, false),
            (160_009, true),
            (170_004, false),
            (170_005, true),
            (180_000, true),
            (190_001, true),
        ] {
            assert_eq!(decodes_rightly(version), right, "{version}");
        }
    }
}
