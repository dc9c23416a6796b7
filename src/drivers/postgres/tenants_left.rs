//! Taking the rows of one tenant away where they are a copy that is to be no more, and nothing else: rows of
//! other tenants stay as they are, and so does all that refers to the tenant's rows from outside of them.

use super::PostgresMover;
use super::references::references;
use super::scope::{Scope, Tenant};
use super::session::{Session, ident, literal, system};
use super::stage::{Stage, Table, tables};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Job, Permit};
use crate::fleet::WorkloadId;

impl PostgresMover {
    /// Drops the rows that a copy made, where the workload is a tenant's rows (`false` = it is not), and says
    /// in its mark that it is none any more. What was made for them goes where nobody else uses it. Whether
    /// it may go at all is for the caller; that its mark is still what it was is checked.
    pub(super) async fn drop_copied_rows(
        &self,
        session: &Session,
        workload: &WorkloadId,
    ) -> Result<bool, DriverError> {
        let doing = "removing the copy";
        let w = literal(workload.as_str());
        // What is known on the spot counts, and not what the configuration says by now.
        let known = format!(
            "SELECT t.schema_name, t.column_name, t.value, t.kin, t.key, o.mode, o.generation, o.made \
             FROM foreshift.tenant t JOIN foreshift.owner o ON o.workload = t.workload WHERE t.workload = {w}"
        );
        let lines = session.ask_if_there(doing, &known).await?.unwrap_or_default();
        let Some(line) = lines.first() else { return Ok(false) };
        let tenant = Tenant {
            schema: line.text(0).to_string(),
            column: line.text(1).to_string(),
            value: line.text(2).to_string(),
            kin: line.text(3).to_string(),
            shared: self.options.tenant.as_ref().map(|t| t.shared.clone()).unwrap_or_default(),
        };
        let scope = Scope::Tenant(tenant.clone());
        let mut tables = tables(session, &scope).await?;
        // A table without the column holds no row of a tenant.
        tables.retain(|t| t.columns.iter().any(|c| c.name == tenant.column));
        let made = line.text(7);
        let forget = match made {
            "nothing" => {
                format!("UPDATE foreshift.owner SET mode = 'standby', made_by = NULL WHERE workload = {w};")
            }
            _ => format!(
                "DELETE FROM foreshift.owner WHERE workload = {w}; DELETE FROM foreshift.tenant WHERE workload = {w};"
            ),
        };
        let structure = match made {
            "schema" | "tables" => self.unused(session, &tenant.schema, made).await?,
            _ => String::new(),
        };
        let sql = format!(
            "SET LOCAL lock_timeout = {wait}; SET LOCAL session_replication_role = replica; \
             SELECT pg_advisory_xact_lock({kin}); SELECT pg_advisory_xact_lock({key}); \
             DO $foreshift$ DECLARE m foreshift.owner; BEGIN \
             SELECT * INTO m FROM foreshift.owner o WHERE o.workload = {w} FOR UPDATE; \
             IF m.mode IS DISTINCT FROM {mode} OR m.generation <> {generation} THEN \
               RAISE EXCEPTION USING ERRCODE = '40001', MESSAGE = 'it was changed in this moment; nothing was removed'; \
             END IF; {delete} {forget} {structure} END $foreshift$",
            wait = self.options.lock_timeout.0.max(1),
            kin = tenant.lock(),
            key = line.text(4),
            mode = literal(line.text(5)),
            generation = line.number(6),
            delete = delete(session, &scope, &tenant, &tables).await?,
        );
        session.ask_long(doing, &sql, self.options.scan_timeout).await?;
        self.drop_idle_guard(session, &tenant).await?;
        Ok(true)
    }

    /// Drops the tables that were made for a copy, unless another tenant's workload is or was there or a row
    /// is in one of them by now.
    async fn unused(&self, session: &Session, schema: &str, made: &str) -> Result<String, DriverError> {
        let doing = "looking for what the copy made";
        let all = tables(session, &Scope::Schema(schema.to_string())).await?;
        if all.is_empty() {
            return Ok(String::new());
        }
        let names: Vec<String> = all.iter().map(Table::on).collect();
        let empty: Vec<String> =
            names.iter().map(|name| format!("NOT EXISTS (SELECT FROM {name})")).collect();
        let mut drops = String::new();
        match made {
            "schema" => drops.push_str(&format!("DROP SCHEMA IF EXISTS {} CASCADE; ", ident(schema))),
            _ => {
                for line in session.ask(doing, &super::structure::objects(schema)).await? {
                    drops.push_str(&format!("DROP {} IF EXISTS {} CASCADE; ", line.text(0), line.text(1)));
                }
            }
        }
        Ok(format!(
            "IF NOT EXISTS (SELECT FROM foreshift.owner o WHERE o.schema_name = {}) THEN \
             LOCK TABLE {} IN ACCESS EXCLUSIVE MODE; \
             IF {} THEN {drops} END IF; END IF;",
            literal(schema),
            names.join(", "),
            empty.join(" AND ")
        ))
    }

    /// Drops the rows that the move left at the source, in the one transaction that makes certain that they
    /// are a copy and stay one; done again it changes nothing. The mark and the guard stay.
    pub(super) async fn drop_left_rows(
        &self,
        source: &Session,
        job: &Job,
        stage: &Stage,
        tenant: &Tenant,
        permit: &Permit,
    ) -> Result<(), DriverError> {
        let tables = tables(source, &stage.scope).await?;
        let sql = format!(
            "SET LOCAL lock_timeout = {wait}; SET LOCAL session_replication_role = replica; \
             SELECT pg_advisory_xact_lock({lock}); \
             DO $foreshift$ DECLARE m foreshift.owner; BEGIN \
             SELECT * INTO m FROM foreshift.owner o WHERE o.workload = {workload} FOR UPDATE; \
             IF m.epoch > {epoch} THEN RAISE EXCEPTION USING ERRCODE = 'FS001', \
               MESSAGE = format('the leader of epoch e%s was here, ours is e{epoch}: this engine is deposed', m.epoch); \
             END IF; \
             IF m.mode IS DISTINCT FROM 'standby' OR m.generation >= {generation} THEN \
               RAISE EXCEPTION USING ERRCODE = 'FS002', MESSAGE = format( \
               '%s is %s here at g%s, so it is no copy that a move to g{generation} left; nothing was dropped', \
               {workload}, coalesce(m.mode, 'not known'), m.generation); END IF; \
             {delete} END $foreshift$",
            wait = self.options.lock_timeout.0.max(1),
            lock = stage.lock,
            workload = literal(job.workload.as_str()),
            epoch = permit.epoch().0,
            generation = job.generation.0,
            delete = delete(source, &stage.scope, tenant, &tables).await?,
        );
        let doing = "dropping the rows that are left";
        source.ask_long(doing, &sql, self.options.scan_timeout).await?;
        if self.no_row_left(source, &stage.scope).await? {
            return Ok(());
        }
        Err(DriverError::new(
            Retry::Retryable,
            system(&source.address),
            doing,
            format!("rows of {} are there again; they are dropped anew", stage.scope.words()),
        ))
    }

    /// Whether no row of a tenant is here.
    pub(super) async fn no_row_left(&self, session: &Session, scope: &Scope) -> Result<bool, DriverError> {
        let doing = "looking for what is left";
        for table in tables(session, scope).await?.iter().filter(|t| t.ordinary) {
            let sql = format!("SELECT EXISTS (SELECT FROM ONLY {} AS r{})", table.on(), table.only("r"));
            let lines = session.ask_long(doing, &sql, self.options.scan_timeout).await?;
            if lines.last().is_some_and(|line| line.yes(0)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What deletes the tenant's rows, in a function's body: refused where something else refers to one of them.
/// No foreign key and no trigger of anybody is fired meanwhile.
async fn delete(
    session: &Session,
    scope: &Scope,
    tenant: &Tenant,
    tables: &[Table],
) -> Result<String, DriverError> {
    let mut sql = String::new();
    for one in references(session, scope, tables).await? {
        if let Some(condition) = one.others_refer(tenant) {
            let why = format!(
                "{} refers from other rows to rows of {}; change those first, or leave the copy",
                one.named,
                scope.words()
            );
            sql.push_str(&format!(
                "IF {condition} THEN RAISE EXCEPTION USING ERRCODE = 'FS003', MESSAGE = {}; END IF; ",
                literal(&why)
            ));
        }
    }
    for table in tables.iter().filter(|t| t.ordinary) {
        let on = table.on();
        sql.push_str(&format!("DELETE FROM ONLY {on} AS r WHERE {}; ", tenant.condition("r")));
    }
    Ok(sql)
}
