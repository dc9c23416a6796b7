//! The guard of rows: one trigger a table for all tenants of it, that heeds only those that are moved or were.
//! It stands while one of them is guarded, and goes with the last.

use std::time::{Duration, Instant};

use super::PostgresMover;
use super::scope::{Scope, Tenant};
use super::session::{Session, ident, literal};
use super::stage::{Stage, Table, qualified, refuse};
use crate::drivers::error::DriverError;
use crate::drivers::mover::Job;
use crate::fleet::WorkloadId;

/// How long a call waits for transactions that began before the guard.
const PATIENCE: Duration = Duration::from_millis(800);

/// What the guard of rows is called, before the mark of the tables: triggers of one moment go by their names, and
/// it has to be the last, so that it sees what the others make of a row.
pub(super) const ROWS_GUARD: &str = "zz_foreshift_rows_";

/// The guard of rows, and that against TRUNCATE.
fn triggers(tenant: &Tenant) -> (String, String) {
    (format!("{ROWS_GUARD}{}", tenant.suffix()), format!("foreshift_kept_{}", tenant.suffix()))
}

/// Refuses a trigger that could make another tenant's row of one that the guard has let through.
pub(super) async fn refuse_later_triggers(
    session: &Session,
    scope: &Scope,
    tenant: &Tenant,
) -> Result<(), DriverError> {
    let doing = "checking the triggers";
    let ours = triggers(tenant).0;
    // Of a trigger's kind 1 = for each row, 2 = before, 4 = INSERT, 16 = UPDATE.
    let sql = format!(
        "SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
           JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = {} AND c.relkind IN ('r', 'p') AND {} AND t.tgenabled <> 'D' AND NOT t.tgisinternal \
           AND t.tgtype & 3 = 3 AND t.tgtype & 20 <> 0 AND t.tgname > {} ORDER BY 1, 2",
        literal(&tenant.schema),
        scope.tables(),
        literal(&ours)
    );
    let later = session.ask(doing, &sql).await?;
    let Some(one) = later.iter().find(|line| line.text(1) != ours) else { return Ok(()) };
    let why = format!(
        "the trigger {1} of {2}.{0} comes after {ours}, which has to be the last that sees a row before it is \
         written; call it something that comes earlier: ALTER TRIGGER {1} ON {2}.{0} RENAME TO …",
        one.text(0),
        one.text(1),
        tenant.schema
    );
    refuse(&session.address, doing, why)
}

impl PostgresMover {
    /// Puts the guard on every table that has none.
    pub(super) async fn guard_rows(
        &self,
        session: &Session,
        job: &Job,
        tenant: &Tenant,
        tables: &[Table],
    ) -> Result<(), DriverError> {
        let function = format!("SELECT pg_advisory_xact_lock({}); {}", tenant.lock(), guard_function(tenant));
        session.ask("making the guard", &function).await?;
        let (rows, kept) = triggers(tenant);
        // What is put on a partitioned table is put on its partitions, too, on those to come as well.
        let (parents, others): (Vec<_>, Vec<_>) = tables.iter().partition(|t| !t.ordinary);
        for table in parents.into_iter().chain(others) {
            let on = table.on();
            let have = format!(
                "SELECT count(*) FILTER (WHERE tgname = {}), count(*) FILTER (WHERE tgname = {}) \
                 FROM pg_trigger WHERE tgrelid = {}::regclass",
                literal(&rows),
                literal(&kept),
                literal(&on)
            );
            let doing = format!("guarding {}", table.words());
            let have = session.one(&doing, &have).await?;
            let mut sql = String::new();
            if have.number(0) == 0 {
                sql.push_str(&format!(
                    "CREATE OR REPLACE TRIGGER {} BEFORE INSERT OR UPDATE OR DELETE ON {on} FOR EACH ROW \
                     EXECUTE FUNCTION foreshift.{0}(); ",
                    ident(&rows)
                ));
            }
            if have.number(1) == 0 {
                sql.push_str(&format!(
                    "CREATE OR REPLACE TRIGGER {0} BEFORE TRUNCATE ON {on} EXECUTE FUNCTION foreshift.keep_rows({1}); \
                     ALTER TABLE {on} ENABLE ALWAYS TRIGGER {0}",
                    ident(&kept),
                    literal(&tenant.kin)
                ));
            }
            if !sql.is_empty() {
                let wait = self.options.lock_timeout.0.max(1);
                session.ask(&doing, &format!("SET LOCAL lock_timeout = {wait}; {sql}")).await?;
            }
        }
        let since = format!(
            "UPDATE foreshift.tenant SET since = clock_timestamp() WHERE workload = {} AND since IS NULL",
            literal(job.workload.as_str())
        );
        session.ask("putting up the guard", &since).await.map(|_| ())
    }

    /// What the guard waits for: transactions whose snapshot may be older than it, and who would be let through;
    /// `None` = there are none any more.
    pub(super) async fn older_than_the_guard(
        &self,
        session: &Session,
        workload: &WorkloadId,
    ) -> Result<Option<String>, DriverError> {
        let sql = format!(
            "SELECT coalesce(string_agg(a.pid::text, ', '), '') FROM pg_stat_activity a, foreshift.tenant t \
             WHERE t.workload = {} AND a.datname = current_database() AND a.backend_type = 'client backend' \
               AND a.backend_xmin IS NOT NULL AND a.xact_start < t.since AND a.pid <> pg_backend_pid() \
               AND a.application_name <> 'foreshift'",
            literal(workload.as_str())
        );
        let start = Instant::now();
        loop {
            let pids = session.one("looking for older transactions", &sql).await?.text(0).to_string();
            if pids.is_empty() {
                return Ok(None);
            }
            if start.elapsed() > PATIENCE {
                return Ok(Some(format!(
                    "transactions at {} that began before the guard stood: process {pids}",
                    session.address
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// An owner that is moved no more needs no guard; the last tenant takes the triggers with it.
    pub(super) async fn unguard_rows(
        &self,
        session: &Session,
        workload: &WorkloadId,
    ) -> Result<(), DriverError> {
        let doing = "taking the guard away";
        let w = literal(workload.as_str());
        let known = format!("SELECT kin, schema_name FROM foreshift.tenant WHERE workload = {w}");
        let Some(line) = session.ask_if_there(doing, &known).await?.unwrap_or_default().into_iter().next()
        else {
            return Ok(());
        };
        let tenant = Tenant {
            schema: line.text(1).to_string(),
            column: String::new(),
            value: String::new(),
            kin: line.text(0).to_string(),
            shared: Vec::new(),
        };
        let sql = format!(
            "SELECT pg_advisory_xact_lock({}); \
             UPDATE foreshift.tenant t SET guarded = false, since = NULL, digest = NULL WHERE t.workload = {w} \
               AND NOT EXISTS (SELECT FROM foreshift.owner o WHERE o.workload = {w} AND o.mode <> 'writable')",
            tenant.lock()
        );
        session.ask(doing, &sql).await?;
        self.drop_idle_guard(session, &tenant).await
    }

    /// Takes the triggers away where no tenant is guarded any more.
    pub(super) async fn drop_idle_guard(
        &self,
        session: &Session,
        tenant: &Tenant,
    ) -> Result<(), DriverError> {
        let doing = "taking the guard away";
        let (rows, kept) = triggers(tenant);
        let on = format!(
            "SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE t.tgname IN ({}, {}) AND t.tgparentid = 0 AND n.nspname = {} ORDER BY 1, 2",
            literal(&rows),
            literal(&kept),
            literal(&tenant.schema)
        );
        let idle = format!(
            "NOT EXISTS (SELECT FROM foreshift.tenant WHERE kin = {} AND guarded)",
            literal(&tenant.kin)
        );
        if !session.one(doing, &format!("SELECT {idle}")).await?.yes(0) {
            return Ok(());
        }
        for line in session.ask(doing, &on).await? {
            let drop = format!(
                "DROP TRIGGER IF EXISTS {} ON {}",
                ident(line.text(1)),
                qualified(&tenant.schema, line.text(0))
            );
            let sql = format!(
                "SET LOCAL lock_timeout = {}; SELECT pg_advisory_xact_lock({}); \
                 DO $foreshift$ BEGIN IF {idle} THEN {drop}; END IF; END $foreshift$",
                self.options.lock_timeout.0.max(1),
                tenant.lock(),
            );
            session.ask(doing, &sql).await?;
        }
        Ok(())
    }
}

/// Says that the tenant is guarded here, by this migration.
pub(super) fn guarded_sql(job: &Job, stage: &Stage, tenant: &Tenant) -> String {
    format!(
        "INSERT INTO foreshift.tenant AS t \
           (workload, kin, schema_name, column_name, value, key, guarded, digest) \
         VALUES ({}, {}, {}, {}, {}, {}, true, {}) \
         ON CONFLICT (workload) DO UPDATE SET since = CASE WHEN t.guarded THEN t.since END, guarded = true, \
           kin = excluded.kin, schema_name = excluded.schema_name, column_name = excluded.column_name, \
           value = excluded.value, key = excluded.key, digest = excluded.digest",
        literal(job.workload.as_str()),
        literal(&tenant.kin),
        literal(&tenant.schema),
        literal(&tenant.column),
        literal(&tenant.value),
        stage.lock,
        literal(&stage.names.digest),
    )
}

/// The guard of all tenants: for one that is not moved it costs a look at an index; for one that is, it shares
/// the lock that a fence holds alone. It comes before the row is changed: what a publication carries is decided as
/// it stood when a row was written, so one that was written before the owner changed and let through after it
/// would be sent to nobody. A row does not change hands while either is guarded.
fn guard_function(tenant: &Tenant) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION foreshift.{name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $guard$ \
         DECLARE was pg_catalog.text; becomes pg_catalog.text; k pg_catalog.int8; l pg_catalog.int8; BEGIN \
           IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN \
             was := pg_catalog.concat({kin}, OLD.{column}::pg_catalog.text); \
             SELECT t.key INTO k FROM foreshift.tenant t WHERE t.workload OPERATOR(pg_catalog.=) was AND t.guarded; \
           END IF; \
           IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN \
             becomes := pg_catalog.concat({kin}, NEW.{column}::pg_catalog.text); \
             IF was IS NULL OR was OPERATOR(pg_catalog.<>) becomes THEN \
               SELECT t.key INTO l FROM foreshift.tenant t \
                 WHERE t.workload OPERATOR(pg_catalog.=) becomes AND t.guarded; \
               IF was IS NOT NULL AND (k IS NOT NULL OR l IS NOT NULL) THEN \
                 RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', \
                   MESSAGE = pg_catalog.format('foreshift: a row of %s.%s cannot go from %s to %s while one of them is moved', \
                     TG_TABLE_SCHEMA, TG_TABLE_NAME, was, becomes), \
                   HINT = 'Wait until the move has ended, or delete the row and insert it anew.'; \
               END IF; \
             END IF; \
           END IF; \
           IF k IS NOT NULL THEN \
             PERFORM foreshift.admit(was, k, pg_catalog.concat(TG_TABLE_SCHEMA, '.', TG_TABLE_NAME)); \
           ELSIF l IS NOT NULL THEN \
             PERFORM foreshift.admit(becomes, l, pg_catalog.concat(TG_TABLE_SCHEMA, '.', TG_TABLE_NAME)); \
           END IF; \
           IF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN RETURN OLD; END IF; \
           RETURN NEW; END $guard$; \
         REVOKE ALL ON FUNCTION foreshift.{name}() FROM PUBLIC",
        name = ident(&triggers(tenant).0),
        kin = literal(&tenant.kin),
        column = ident(&tenant.column),
    )
}
