//! Before the copy: what must hold on both sides is checked, the marks and guards are put up, the
//! destination gets the schema's structure, the source publishes.

use super::references::refuse_from_elsewhere;
use super::rows_guard::guarded_sql;
use super::scope::Scope;
use super::session::{Session, literal};
use super::stage::{Mark, Stage, Table, qualified, refuse, tables};
use super::stream::{self, FirstRow, Publishes};
use super::tenants::{check_rows, mark_sql, refuse_other_kind};
use super::{PostgresMover, digest, done, large_objects, working};
use crate::drivers::error::DriverError;
use crate::drivers::mover::{Answer, Job, Permit};

/// What stands in every database that took part.
pub(super) const MARK: &str = include_str!("mark.sql");
/// The guard's trigger on every table.
pub(super) const GUARD: &str = "foreshift_guard";
/// Slots, and processes to serve them, that a migration needs on each side.
const SLOTS: i64 = 4;

impl PostgresMover {
    /// Makes ready what the copy needs; done again it changes nothing.
    pub(super) async fn prepare(&self, job: &Job, permit: &Permit) -> Result<Answer, DriverError> {
        let stage = self.stage(job)?;
        let source = self.session(&stage.source).await?;
        let destination = self.session(&stage.destination).await?;
        if let Some(mark) = self.mark(&destination, &job.workload).await?
            && mark.open_at(job.generation)
        {
            return Ok(done("the destination is open already"));
        }
        for session in [&source, &destination] {
            check_cluster(session).await?;
            session.ask("putting up the mark", &mark_sql()).await?;
            refuse_other_kind(session, &stage.scope).await?;
        }
        let tables = tables(&source, &stage.scope).await?;
        check_tables(&source, &stage.scope, &tables).await?;
        large_objects::refuse_any(&source, &stage.scope, &tables, self.options.scan_timeout).await?;
        let made = match stage.scope.tenant() {
            None => {
                refuse_from_elsewhere(&source, &stage.scope, &tables).await?;
                self.mark_source(&source, job, &stage, permit).await?;
                let made = self.structure_at(&source, &destination, job, &stage, permit).await?;
                for session in [&source, &destination] {
                    self.guard(session, job, &stage, &tables).await?;
                }
                made
            }
            Some(tenant) => {
                check_rows(&source, &destination, &stage.scope, tenant, &tables).await?;
                self.check_references(&source, &stage.scope, tenant, &tables).await?;
                self.mark_source(&source, job, &stage, permit).await?;
                let made = self.rows_at(&source, &destination, job, &stage, permit).await?;
                for session in [&source, &destination] {
                    self.guard_rows(session, job, tenant, &tables).await?;
                }
                for session in [&source, &destination] {
                    if let Some(older) = self.older_than_the_guard(session, &job.workload).await? {
                        return Ok(working(older));
                    }
                }
                made
            }
        };
        let (stream, digest) = (&stage.names.stream, &stage.names.digest);
        digest::install(&source, &stage.scope, digest, &tables, self.options.lock_timeout).await?;
        stream::make_barrier(&source, stream, FirstRow::Made).await?;
        stream::publish(&source, stream, &tables, Publishes::All).await?;
        Ok(done(format!("{} tables of {} are published; {made}", tables.len(), stage.scope.words())))
    }

    /// The source's mark: it owns the workload, and no newer leader was here.
    async fn mark_source(
        &self,
        source: &Session,
        job: &Job,
        stage: &Stage,
        permit: &Permit,
    ) -> Result<(), DriverError> {
        let workload = literal(job.workload.as_str());
        let generation = job.generation.0.saturating_sub(1);
        let guarded = stage.scope.tenant().map_or(String::new(), |tenant| {
            format!("; SELECT pg_advisory_xact_lock({}); {}", tenant.lock(), guarded_sql(job, stage, tenant))
        });
        let sql = format!(
            "INSERT INTO foreshift.owner (workload, schema_name, generation, epoch, mode) \
             VALUES ({workload}, {schema}, {generation}, {epoch}, 'writable') ON CONFLICT DO NOTHING; \
             SELECT foreshift.check_owner(o, {workload}, {next}, {epoch}) FROM foreshift.owner o \
               WHERE o.workload = {workload}; \
             UPDATE foreshift.owner o SET epoch = {epoch} WHERE o.workload = {workload}{guarded}",
            schema = literal(stage.scope.marked()),
            epoch = permit.epoch().0,
            next = job.generation.0,
        );
        source.ask("marking the source", &sql).await.map(|_| ())
    }

    /// The destination's structure, made anew: an older copy has none of what was changed at the owner since.
    async fn structure_at(
        &self,
        source: &Session,
        destination: &Session,
        job: &Job,
        stage: &Stage,
        permit: &Permit,
    ) -> Result<String, DriverError> {
        let doing = "making the structure";
        let mark = self.mark(destination, &job.workload).await?;
        let here = destination.address.as_str();
        if mark.as_ref().is_some_and(|mark| mark.made_by == stage.names.copy) {
            return Ok("the structure is there".into());
        }
        refuse_claimed(mark.as_ref(), (here, doing), job, permit)?;
        let have = tables(destination, &stage.scope).await?;
        let row = |made: &str| standby_mark(job, stage, permit, made);
        if have.is_empty() {
            self.build(destination, stage, |made| row(made.word())).await?;
            return Ok("the structure was made".into());
        }
        if mark.is_none() {
            let why = format!(
                "a schema {} with {} tables is there already and is no copy of ours; drop or rename it there",
                stage.scope.marked(),
                have.len()
            );
            return refuse(here, doing, why);
        }
        let owned = tables(source, &stage.scope).await?;
        let others = have.iter().filter(|t| !owned.iter().any(|o| o.is(&t.schema, &t.name)));
        let others: Vec<String> = others.map(Table::words).collect();
        if !others.is_empty() {
            let why = format!(
                "the old copy of {} holds tables that the owner does not have: {}; look whether anybody needs them, \
                 and drop them there",
                stage.scope.marked(),
                others.join(", ")
            );
            return refuse(here, doing, why);
        }
        self.drop_left(destination, job, stage, permit).await?;
        self.build(destination, stage, |made| row(made.word())).await?;
        Ok("the old copy was made anew".into())
    }

    /// Puts the guard on every table; each in a transaction of its own, where it has none.
    async fn guard(
        &self,
        session: &Session,
        job: &Job,
        stage: &Stage,
        tables: &[Table],
    ) -> Result<(), DriverError> {
        let have = guarded(session, &stage.scope).await?;
        let function = qualified("foreshift", &format!("guard_{:016x}", stage.lock));
        let made = guard_sql(&function, job.workload.as_str(), stage.lock);
        for table in tables.iter().filter(|t| !have.contains(&t.on())) {
            let sql = format!(
                "SET LOCAL lock_timeout = {}; {made}; CREATE OR REPLACE TRIGGER {GUARD} \
                 BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
                self.options.lock_timeout.0.max(1),
                table.on(),
            );
            session.ask(&format!("guarding {}", table.words()), &sql).await?;
        }
        Ok(())
    }

    /// Takes the guard away from every table.
    pub(super) async fn unguard(&self, session: &Session, scope: &Scope) -> Result<(), DriverError> {
        for table in guarded(session, scope).await? {
            let sql = format!(
                "SET LOCAL lock_timeout = {}; DROP TRIGGER IF EXISTS {GUARD} ON {}",
                self.options.lock_timeout.0.max(1),
                table
            );
            session.ask("taking the guard away", &sql).await?;
        }
        Ok(())
    }
}

/// What is called before every statement that writes to a table of the workload. It shares a lock that a fence holds
/// alone, so a fence waits for transactions under way and holds up later ones; what it reads after the lock is what
/// the fence left. Every statement pays for it: the workload and its lock are written into it, because arguments would
/// cost a fifth of it; the lock is taken in an expression, which costs a query less; the query that there is compares
/// one column; names and operators are written out, because a setting of the function would cost more than all it
/// does; it runs as who writes.
fn guard_sql(function: &str, workload: &str, lock: i64) -> String {
    let workload = literal(workload);
    let body = format!(
        "BEGIN \
           IF pg_catalog.pg_advisory_xact_lock_shared('{lock}'::pg_catalog.int8) IS NOT NULL AND \
              pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.=) 'read committed' THEN \
             PERFORM FROM foreshift.owner o WHERE o.open OPERATOR(pg_catalog.=) {workload}; \
             IF FOUND THEN RETURN NULL; END IF; \
           END IF; \
           PERFORM foreshift.guard_closely({workload}, TG_TABLE_SCHEMA, TG_TABLE_NAME); \
           RETURN NULL; \
         END"
    );
    format!(
        "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {}; \
         REVOKE ALL ON FUNCTION {function}() FROM PUBLIC",
        literal(&body)
    )
}

/// The statement that marks a destination as the migration's copy.
pub(super) fn standby_mark(job: &Job, stage: &Stage, permit: &Permit, made: &str) -> String {
    format!(
        "INSERT INTO foreshift.owner AS o \
           (workload, schema_name, generation, epoch, mode, made_by, made, owner_is) \
         VALUES ({workload}, {schema}, {generation}, {epoch}, 'standby', {copy}, '{made}', {owner}) \
         ON CONFLICT (workload) DO UPDATE SET generation = excluded.generation, epoch = excluded.epoch, \
           made_by = excluded.made_by, made = excluded.made, owner_is = excluded.owner_is",
        workload = literal(job.workload.as_str()),
        schema = literal(stage.scope.marked()),
        generation = job.generation.0.saturating_sub(1),
        epoch = permit.epoch().0,
        copy = literal(&stage.names.copy),
        owner = literal(&stage.source),
    )
}

/// The guarded tables of a workload, as SQL names them.
async fn guarded(session: &Session, scope: &Scope) -> Result<Vec<String>, DriverError> {
    let sql = format!(
        "SELECT n.nspname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
           JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE t.tgname = '{GUARD}' AND t.tgparentid = 0 AND {} ORDER BY 1, 2",
        scope.covers("n")
    );
    let lines = session.ask("looking for guards", &sql).await?;
    Ok(lines.iter().map(|line| qualified(line.text(0), line.text(1))).collect())
}

/// What a cluster must be able to do.
pub(super) async fn check_cluster(session: &Session) -> Result<(), DriverError> {
    let doing = "checking the cluster";
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('wal_level'), \
        (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), pg_is_in_recovery(), \
        current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots), \
        current_setting('max_logical_replication_workers')::int, \
        current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication), \
        (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database())";
    let found = session.one(doing, sql).await?;
    let here = session.address.as_str();
    if found.number(0) < 150_000 {
        return refuse(here, doing, format!("PostgreSQL 15 or newer is needed, this is {}", found.text(0)));
    }
    if found.text(1) != "logical" {
        let why = format!("wal_level is {}; set wal_level = logical and restart the server", found.text(1));
        return refuse(here, doing, why);
    }
    if !found.yes(2) {
        return refuse(here, doing, "the role must be a superuser: PostgreSQL 15 lets no other subscribe");
    }
    if found.yes(3) {
        return refuse(here, doing, "it is a standby; name the primary instead");
    }
    for (column, name) in
        [(4, "max_replication_slots"), (5, "max_logical_replication_workers"), (6, "max_wal_senders")]
    {
        // A running migration of ours has taken its own already.
        if found.number(column) < 1 {
            let why =
                format!("{name} leaves nothing free; {SLOTS} are needed: raise it and restart the server");
            return refuse(here, doing, why);
        }
    }
    if found.text(7) != "UTF8" {
        return refuse(here, doing, format!("the database is encoded in {}, UTF8 is needed", found.text(7)));
    }
    Ok(())
}

/// What every table must have so that each change finds its row at the destination.
pub(super) async fn check_tables(
    session: &Session,
    scope: &Scope,
    tables: &[Table],
) -> Result<(), DriverError> {
    let doing = "checking the tables";
    let here = session.address.as_str();
    if !tables.iter().any(|t| t.ordinary) {
        return refuse(here, doing, format!("{} holds no table", scope.words()));
    }
    let bare: Vec<String> = tables.iter().filter(|t| t.key.is_empty()).map(Table::words).collect();
    if !bare.is_empty() {
        return refuse(
            here,
            doing,
            format!("without a primary key that is not DEFERRABLE, so not to be moved: {}", bare.join(", ")),
        );
    }
    let sql = format!(
        "SELECT n.nspname || '.' || c.relname, c.relpersistence <> 'p', c.relreplident NOT IN ('d', 'f') \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE {} AND c.relkind IN ('r', 'p') AND {} \
           AND (c.relpersistence <> 'p' OR c.relreplident NOT IN ('d', 'f')) ORDER BY 1",
        scope.covers("n"),
        scope.tables()
    );
    let odd: Vec<String> = session
        .ask(doing, &sql)
        .await?
        .iter()
        .map(|l| format!("{} ({})", l.text(0), if l.yes(1) { "unlogged" } else { "other replica identity" }))
        .collect();
    if !odd.is_empty() {
        return refuse(here, doing, format!("not to be moved: {}", odd.join(", ")));
    }
    let sql = format!(
        "SELECT n.nspname || '.' || c.relname, i.inhparent::regclass FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
           JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class p ON p.oid = i.inhparent \
           JOIN pg_namespace m ON m.oid = p.relnamespace \
         WHERE {} AND NOT {} AND {} ORDER BY 1",
        scope.covers("n"),
        scope.covers("m"),
        scope.tables()
    );
    match session.ask(doing, &sql).await?.first() {
        None => Ok(()),
        Some(line) => refuse(
            here,
            doing,
            format!(
                "{} hangs under {}, through which it is written past every guard of the schema; keep both in one \
                 schema, or take it from there (DETACH PARTITION, NO INHERIT)",
                line.text(0),
                line.text(1)
            ),
        ),
    }
}

/// Refuses where a newer leader was, or where the workload is owned: nothing is copied onto it.
pub(super) fn refuse_claimed(
    mark: Option<&Mark>,
    (here, doing): (&str, &str),
    job: &Job,
    permit: &Permit,
) -> Result<(), DriverError> {
    match mark {
        Some(mark) if mark.epoch > permit.epoch().0 => {
            refuse(here, doing, "a newer leader was here: this engine is deposed")
        }
        Some(Mark { mode, .. }) if mode != "standby" => {
            refuse(here, doing, format!("it owns a workload called {}", job.workload))
        }
        _ => Ok(()),
    }
}
