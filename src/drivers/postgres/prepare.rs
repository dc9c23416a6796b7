//! Before the copy: what must hold on both sides is checked, the marks and guards are put up, the
//! destination gets the schema's structure, the source publishes.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use super::session::{Session, ident, literal, system};
use super::stage::{Mark, Stage, Table, qualified, refuse, structure, tables};
use super::stream::{self, FirstRow, Publishes};
use super::{PostgresMover, digest, done};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Answer, Job, Permit};

/// What stands in every database that took part.
const MARK: &str = include_str!("mark.sql");
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
            session.ask("putting up the mark", MARK).await?;
        }
        let tables = tables(&source, &stage.schema).await?;
        check_tables(&source, &stage.schema, &tables).await?;
        self.mark_source(&source, job, &stage, permit).await?;
        let made = self.structure_at(&source, &destination, job, &stage, permit).await?;
        for session in [&source, &destination] {
            self.guard(session, job, &stage, &tables).await?;
        }
        let (stream, digest) = (&stage.names.stream, &stage.names.digest);
        digest::install(&source, &stage.schema, digest, &tables, self.options.lock_timeout).await?;
        stream::make_barrier(&source, stream, FirstRow::Made).await?;
        stream::publish(&source, &stage.schema, stream, &tables, Publishes::All).await?;
        Ok(done(format!("{} tables of {} are published; {made}", tables.len(), stage.schema)))
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
        let sql = format!(
            "INSERT INTO foreshift.owner (workload, schema_name, generation, epoch, mode) \
             VALUES ({workload}, {schema}, {generation}, {epoch}, 'writable') ON CONFLICT DO NOTHING; \
             SELECT foreshift.check_owner(o, {workload}, {next}, {epoch}) FROM foreshift.owner o \
               WHERE o.workload = {workload}; \
             UPDATE foreshift.owner o SET epoch = {epoch} WHERE o.workload = {workload}",
            schema = literal(&stage.schema),
            epoch = permit.epoch().0,
            next = job.generation.0,
        );
        source.ask("marking the source", &sql).await.map(|_| ())
    }

    /// The destination's structure: made anew, or that of an older copy, which is emptied.
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
        match &mark {
            Some(mark) if mark.made_by == stage.names.copy => return Ok("the structure is there".into()),
            Some(mark) if mark.epoch > permit.epoch().0 => {
                return refuse(here, doing, "a newer leader was here: this engine is deposed");
            }
            Some(Mark { mode, .. }) if mode != "standby" => {
                return refuse(here, doing, format!("it owns a workload called {}", job.workload));
            }
            _ => {}
        }
        let have = tables(destination, &stage.schema).await?;
        let row = |made: &str| {
            format!(
                "INSERT INTO foreshift.owner AS o \
                   (workload, schema_name, generation, epoch, mode, made_by, made, owner_is) \
                 VALUES ({workload}, {schema}, {generation}, {epoch}, 'standby', {copy}, '{made}', {owner}) \
                 ON CONFLICT (workload) DO UPDATE SET generation = excluded.generation, epoch = excluded.epoch, \
                   made_by = excluded.made_by, made = excluded.made, owner_is = excluded.owner_is",
                workload = literal(job.workload.as_str()),
                schema = literal(&stage.schema),
                generation = job.generation.0.saturating_sub(1),
                epoch = permit.epoch().0,
                copy = literal(&stage.names.copy),
                owner = literal(&stage.source),
            )
        };
        if have.is_empty() {
            let dump = self.dump(stage).await?;
            // The dump changes the session's settings.
            destination.throw_away();
            let there = format!("SELECT 1 FROM pg_namespace WHERE nspname = {}", literal(&stage.schema));
            let made = if destination.ask(doing, &there).await?.is_empty() { "schema" } else { "tables" };
            if let Some(other) = destination.ask(doing, &objects(&stage.schema)).await?.first() {
                let why = format!(
                    "the schema {} is there already with {} {}, which is none of ours; drop it or the schema there",
                    stage.schema,
                    other.text(0).to_lowercase(),
                    other.text(1)
                );
                return refuse(here, doing, why);
            }
            let sql = format!("{dump};\n{}", row(made));
            destination.ask_long(doing, &sql, self.options.scan_timeout).await?;
            destination.ask("resetting", "RESET ALL").await?;
            return Ok("the structure was made".into());
        }
        if mark.is_none() {
            let why = format!(
                "a schema {} with {} tables is there already and is no copy of ours; drop or rename it there",
                stage.schema,
                have.len()
            );
            return refuse(here, doing, why);
        }
        if structure(source, &stage.schema).await? != structure(destination, &stage.schema).await? {
            let why =
                format!("the old copy of {} has another structure; drop the schema there", stage.schema);
            return refuse(here, doing, why);
        }
        let names: Vec<String> = have.iter().map(|t| qualified(&stage.schema, &t.name)).collect();
        let sql = format!(
            "SET LOCAL session_replication_role = replica; SET LOCAL lock_timeout = {}; TRUNCATE {}; {}",
            self.options.lock_timeout.0.max(1),
            names.join(", "),
            row("nothing")
        );
        destination.ask_long("emptying the old copy", &sql, self.options.scan_timeout).await?;
        Ok("the old copy was emptied".into())
    }

    /// The structure as `pg_dump` writes it, without what only its own client understands and without
    /// what is ours.
    async fn dump(&self, stage: &Stage) -> Result<String, DriverError> {
        let doing = "reading the structure with pg_dump";
        let fail = |retry, why: String| DriverError::new(retry, system(&stage.source), doing, why);
        let program = self.pg_dump().ok_or_else(|| {
            fail(
                Retry::Permanent,
                "there is no pg_dump on this machine; install PostgreSQL's client programs".into(),
            )
        })?;
        let (host, port) = stage.source.rsplit_once(':').unwrap_or((&stage.source, "5432"));
        let mut command = Command::new(program);
        command
            .args(["--schema-only", "--no-publications", "--no-subscriptions", "--no-password"])
            .args(["--host", host.trim_start_matches('[').trim_end_matches(']'), "--port", port])
            .args(["--username", &self.options.username, "--dbname", &self.options.database])
            .arg("--schema")
            .arg(ident(&stage.schema))
            .env("PGCONNECT_TIMEOUT", "5")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(password) = &self.options.password {
            command.env("PGPASSWORD", password);
        }
        if let Some(file) = &self.options.tls_ca {
            command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", file);
        }
        let limit = self.options.command_timeout.to_std() * 2;
        let output = tokio::time::timeout(limit, command.output())
            .await
            .map_err(|_| fail(Retry::Retryable, format!("it did not end within {limit:?}")))?
            .map_err(|error| fail(Retry::Retryable, error.to_string()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
            return Err(fail(Retry::Retryable, said));
        }
        Ok(only_structure(&String::from_utf8_lossy(&output.stdout)))
    }

    fn pg_dump(&self) -> Option<PathBuf> {
        if let Some(program) = &self.options.pg_dump {
            return Some(program.clone());
        }
        let mut folders: Vec<PathBuf> =
            std::env::var_os("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default();
        // The newest first: a pg_dump reads older servers, and refuses newer ones.
        folders.extend((15..30).rev().map(|v| PathBuf::from(format!("/usr/lib/postgresql/{v}/bin"))));
        folders.into_iter().map(|folder| folder.join("pg_dump")).find(|program| program.is_file())
    }

    /// Puts the guard on every table; each in a transaction of its own, where it has none.
    pub(super) async fn guard(
        &self,
        session: &Session,
        job: &Job,
        stage: &Stage,
        tables: &[Table],
    ) -> Result<(), DriverError> {
        let have = guarded(session, &stage.schema).await?;
        for table in tables.iter().filter(|t| !have.contains(&t.name)) {
            let sql = format!(
                "SET LOCAL lock_timeout = {}; CREATE OR REPLACE TRIGGER {GUARD} \
                 BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {} FOR EACH STATEMENT \
                 EXECUTE FUNCTION foreshift.guard({}, '{}')",
                self.options.lock_timeout.0.max(1),
                qualified(&stage.schema, &table.name),
                literal(job.workload.as_str()),
                stage.lock,
            );
            session.ask(&format!("guarding {}.{}", stage.schema, table.name), &sql).await?;
        }
        Ok(())
    }

    /// Takes the guard away from every table.
    pub(super) async fn unguard(&self, session: &Session, schema: &str) -> Result<(), DriverError> {
        for table in guarded(session, schema).await? {
            let sql = format!(
                "SET LOCAL lock_timeout = {}; DROP TRIGGER IF EXISTS {GUARD} ON {}",
                self.options.lock_timeout.0.max(1),
                qualified(schema, &table)
            );
            session.ask("taking the guard away", &sql).await?;
        }
        Ok(())
    }
}

async fn guarded(session: &Session, schema: &str) -> Result<Vec<String>, DriverError> {
    let sql = format!(
        "SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
           JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE t.tgname = '{GUARD}' AND t.tgparentid = 0 AND n.nspname = {} ORDER BY 1",
        literal(schema)
    );
    let lines = session.ask("looking for guards", &sql).await?;
    Ok(lines.iter().map(|line| line.text(0).to_string()).collect())
}

/// What asks for everything in a schema that belongs to no extension and to no other object of it: kind and
/// name, as `DROP` takes them.
pub(super) fn objects(schema: &str) -> String {
    let own = |class: &str| {
        format!(
            "NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = '{class}'::regclass \
               AND d.objid = o.oid AND d.refobjid <> o.oid AND d.deptype IN ('e', 'i'))"
        )
    };
    format!(
        "SELECT CASE o.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' \
           WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END, o.oid::regclass::text \
         FROM pg_class o WHERE o.relnamespace = n.oid AND o.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND {} \
         UNION ALL SELECT 'ROUTINE', o.oid::regprocedure::text FROM pg_proc o WHERE o.pronamespace = n.oid AND {} \
         UNION ALL SELECT 'TYPE', o.oid::regtype::text FROM pg_type o \
           WHERE o.typnamespace = n.oid AND o.typtype IN ('e', 'd', 'r') AND {}",
        own("pg_class"),
        own("pg_proc"),
        own("pg_type"),
    )
    .replace("n.oid", &format!("(SELECT oid FROM pg_namespace WHERE nspname = {})", literal(schema)))
}

/// What a cluster must be able to do.
async fn check_cluster(session: &Session) -> Result<(), DriverError> {
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
async fn check_tables(session: &Session, schema: &str, tables: &[Table]) -> Result<(), DriverError> {
    let doing = "checking the tables";
    let here = session.address.as_str();
    if !tables.iter().any(|t| t.ordinary) {
        return refuse(here, doing, format!("the schema {schema} holds no table"));
    }
    let bare: Vec<&str> = tables.iter().filter(|t| t.key.is_empty()).map(|t| t.name.as_str()).collect();
    if !bare.is_empty() {
        return refuse(
            here,
            doing,
            format!("without a primary key, so not to be moved: {}", bare.join(", ")),
        );
    }
    let sql = format!(
        "SELECT c.relname, c.relpersistence <> 'p', c.relreplident NOT IN ('d', 'f') \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = {} AND c.relkind IN ('r', 'p') \
           AND (c.relpersistence <> 'p' OR c.relreplident NOT IN ('d', 'f')) ORDER BY 1",
        literal(schema)
    );
    let odd: Vec<String> = session
        .ask(doing, &sql)
        .await?
        .iter()
        .map(|l| format!("{} ({})", l.text(0), if l.yes(1) { "unlogged" } else { "other replica identity" }))
        .collect();
    if odd.is_empty() { Ok(()) } else { refuse(here, doing, format!("not to be moved: {}", odd.join(", "))) }
}

/// What of a dump makes structure: without `psql`'s own commands, and without our guards and digests
/// (each is one line).
fn only_structure(dump: &str) -> String {
    let ours = |line: &str| {
        line.starts_with('\\')
            || line.starts_with("--")
            // Newer than the oldest server that is moved.
            || line.starts_with("SET transaction_timeout")
            || (line.starts_with("CREATE TRIGGER foreshift_guard ") || line.starts_with("CREATE TRIGGER fs_"))
            || (line.starts_with("ALTER TABLE ") && line.contains(" ENABLE ALWAYS TRIGGER fs_"))
    };
    let there = |line: &str| match line.strip_prefix("CREATE SCHEMA ") {
        Some(name) => format!("CREATE SCHEMA IF NOT EXISTS {name}"),
        None => line.to_string(),
    };
    dump.lines().filter(|line| !ours(line)).map(there).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_carried_out_without_what_is_the_clients_or_ours() {
        let dump = "\\restrict x\n-- a comment\nCREATE TABLE s.t (id int);\n\
            CREATE TRIGGER foreshift_guard BEFORE INSERT ON s.t FOR EACH STATEMENT EXECUTE FUNCTION foreshift.guard('w', '1');\n\
            CREATE TRIGGER fs_aa_rows AFTER INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION foreshift.fs_aa_0();\n\
            ALTER TABLE s.t ENABLE ALWAYS TRIGGER fs_aa_rows;\nCREATE TRIGGER theirs BEFORE INSERT ON s.t;\n\\unrestrict x";
        assert_eq!(
            only_structure(dump),
            "CREATE TABLE s.t (id int);\nCREATE TRIGGER theirs BEFORE INSERT ON s.t;"
        );
    }
}
