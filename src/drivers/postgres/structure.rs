//! The structure of a schema as a destination gets it: what `pg_dump` says of the source's, without what is ours.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use super::PostgresMover;
use super::rows_guard::ROWS_GUARD;
use super::scope::{Scope, Tenant};
use super::session::{Session, ident, literal, system};
use super::shape::{Shape, keep_sql};
use super::stage::{Stage, refuse};
use crate::drivers::error::{DriverError, Retry};

/// What a copy's structure stood on when it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Made {
    /// Nothing.
    Schema,
    /// A schema without anything in it.
    Tables,
}

impl Made {
    /// As it stands in the mark.
    pub(super) fn word(self) -> &'static str {
        match self {
            Made::Schema => "schema",
            Made::Tables => "tables",
        }
    }
}

impl PostgresMover {
    /// Makes the structure where no table stands, and says so in the mark, in one transaction.
    pub(super) async fn build(
        &self,
        destination: &Session,
        stage: &Stage,
        mark: impl Fn(Made) -> String,
    ) -> Result<(), DriverError> {
        let (doing, schema) = ("making the structure", stage.scope.marked());
        let dump = self.dump(stage, &stage.source).await?;
        let kept = match stage.scope.tenant() {
            None => keep_sql(&self.workload_of(&stage.scope.label()), &Shape::read(&dump)),
            Some(_) => String::new(),
        };
        // The dump changes the session's settings.
        destination.throw_away();
        let there = format!("SELECT 1 FROM pg_namespace WHERE nspname = {}", literal(schema));
        let made = if destination.ask(doing, &there).await?.is_empty() { Made::Schema } else { Made::Tables };
        if let Some(other) = destination.ask(doing, &objects(schema)).await?.first() {
            let why = format!(
                "the schema {schema} is there already with {} {}, which is none of ours; drop it or the schema there",
                other.text(0).to_lowercase(),
                other.text(1)
            );
            return refuse(&destination.address, doing, why);
        }
        let sql = format!("{dump};\n{}; {kept}", mark(made));
        destination.ask_long(doing, &sql, self.options.scan_timeout).await?;
        destination.ask("resetting", "RESET ALL").await.map(|_| ())
    }

    /// The structure at a cluster as `pg_dump` writes it, without what only its own client understands and
    /// without what is ours.
    pub(super) async fn dump(&self, stage: &Stage, address: &str) -> Result<String, DriverError> {
        let doing = "reading the structure with pg_dump";
        let fail = |retry, why: String| DriverError::new(retry, system(address), doing, why);
        let program = self.pg_dump().ok_or_else(|| {
            fail(
                Retry::Permanent,
                "there is no pg_dump on this machine; install PostgreSQL's client programs".into(),
            )
        })?;
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "5432"));
        let mut command = Command::new(program);
        command
            .args(["--schema-only", "--no-subscriptions", "--no-password"])
            .args(["--host", host.trim_start_matches('[').trim_end_matches(']'), "--port", port])
            .args(["--username", &self.options.username, "--dbname", &self.options.database])
            .args(match &stage.scope {
                Scope::Database(_) => ["--exclude-schema".to_string(), "foreshift".to_string()],
                Scope::Schema(schema) | Scope::Tenant(Tenant { schema, .. }) => {
                    ["--no-publications".to_string(), format!("--schema={}", ident(schema))]
                }
            })
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

/// What of a dump makes structure: without `psql`'s own commands, and without our guards and digests
/// (each is one line).
fn only_structure(dump: &str) -> String {
    let ours = |line: &str| {
        line.starts_with("\\restrict ")
            || line.starts_with("\\unrestrict ")
            // Newer than the oldest server that is moved.
            || line.starts_with("SET transaction_timeout")
            || ["CREATE", "ALTER"].iter().any(|does| line.starts_with(&format!("{does} PUBLICATION fs_")))
            || ["foreshift_guard ", ROWS_GUARD, "foreshift_kept_", "fs_"].iter().any(|of| line.starts_with(&format!("CREATE TRIGGER {of}")))
            || (line.starts_with("ALTER TABLE ")
                && ["fs_", "foreshift_kept_"].iter().any(|of| line.contains(&format!(" ENABLE ALWAYS TRIGGER {of}"))))
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
            CREATE TRIGGER foreshift_guard BEFORE INSERT ON s.t FOR EACH STATEMENT EXECUTE FUNCTION foreshift.guard_1();\n\
            CREATE TRIGGER fs_aa_rows AFTER INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION foreshift.fs_aa_0();\n\
            ALTER TABLE s.t ENABLE ALWAYS TRIGGER fs_aa_rows;\nCREATE TRIGGER theirs BEFORE INSERT ON s.t;\n\\unrestrict x";
        assert_eq!(
            only_structure(dump),
            "-- a comment\nCREATE TABLE s.t (id int);\nCREATE TRIGGER theirs BEFORE INSERT ON s.t;"
        );
    }
}
