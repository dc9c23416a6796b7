//! A database comes and goes. It is made under the copy's own name, so that one that was left half made is known
//! by its name alone; it is called as its clients call it from the moment at which its structure and its mark
//! stand. It loses that name in one transaction with the look at whether it says that it is a copy: no connection
//! is let in while that lasts, so nobody can open it in between. What is dropped never bears a name that clients
//! know.

use std::sync::Arc;

use super::super::PostgresMover;
use super::super::prepare::standby_mark;
use super::super::session::{Clusters, Session, ident, literal};
use super::super::shape::{Shape, keep_sql};
use super::super::stage::{Stage, refuse};
use super::super::tenants::mark_sql;
use super::DatabasesMover;
use crate::drivers::error::DriverError;
use crate::drivers::mover::{Job, Permit};
use crate::fleet::{Span, WorkloadId};

/// How long a server may take to make, rename or drop a database: it waits five seconds for others to leave, and
/// writes a checkpoint.
const LONG: Span = Span::seconds(60);
/// How long it may take to rename one.
const RENAME: Span = Span::seconds(10);

impl DatabasesMover {
    /// Whether a cluster has a database of that name.
    pub(super) async fn is_there(&self, address: &str, database: &str) -> Result<bool, DriverError> {
        let session = self.home.session(address).await?;
        let sql = format!("SELECT 1 FROM pg_database WHERE datname = {}", literal(database));
        Ok(!session.ask("looking for the database", &sql).await?.is_empty())
    }

    /// Makes the database at the destination as it is at the source, but for its rows.
    pub(super) async fn make(
        &self,
        job: &Job,
        inside: &PostgresMover,
        stage: &Stage,
        permit: &Permit,
    ) -> Result<(), DriverError> {
        let doing = "making the database";
        let copy = stage.names.copy.as_str();
        let database = stage.scope.label();
        let source = inside.session(&stage.source).await?;
        let dump = inside.dump(stage, &stage.source).await?;
        // One that was left half made.
        self.drop_ours(&stage.destination, copy).await?;
        let home = self.home.session(&stage.destination).await?;
        for statement in read(&source, &created_sql(copy)).await? {
            home.ask_alone(doing, &statement, LONG).await?;
        }
        let mut options = self.options().clone();
        options.database = copy.to_string();
        let made = Arc::new(Clusters::new(&options)).session(&stage.destination).await?;
        // It has to be left before it is renamed.
        made.throw_away();
        made.ask(doing, &mark_sql()).await?;
        let kept = keep_sql(&job.workload, &Shape::read(&dump));
        let sql = format!("{dump};\n{}; {kept}", standby_mark(job, stage, permit, "database"));
        made.ask_long(doing, &sql, self.options().scan_timeout).await?;
        drop(made);
        for statement in read(&source, &settings_sql(copy)).await? {
            home.ask(doing, &statement).await?;
        }
        let rename = format!("ALTER DATABASE {} RENAME TO {}", ident(copy), ident(&database));
        home.ask_alone("naming the database", &rename, RENAME).await.map(|_| ())
    }

    /// Drops a database that bears a name of ours, if it is there; clients know none of that name.
    pub(super) async fn drop_ours(&self, address: &str, name: &str) -> Result<(), DriverError> {
        let doing = "dropping the copy's database";
        if !name.starts_with("fs_") {
            return refuse(address, doing, format!("{name} is no name that we give"));
        }
        if self.is_there(address, name).await? {
            let home = self.home.session(address).await?;
            let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(name));
            home.ask_alone(doing, &sql, LONG).await?;
        }
        Ok(())
    }

    /// Drops the database of a workload where it says itself that it is a copy of it, and only then.
    pub(super) async fn give_up(
        &self,
        address: &str,
        database: &str,
        workload: &WorkloadId,
        copy: &str,
    ) -> Result<(), DriverError> {
        let doing = "taking the copy's name away";
        let home = self.home.session(address).await?;
        let says = format!("foreshift.copy={workload}");
        let check = |name: &str| {
            format!(
                "SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase \
                 WHERE d.datname = {} AND s.setrole = 0 AND {} = ANY (s.setconfig)",
                literal(name),
                literal(&says)
            )
        };
        // Who is sent away is a client of a copy; of an owner nobody is.
        let leave = format!(
            "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE a.datname = {} \
               AND a.pid <> pg_backend_pid() AND EXISTS ({})",
            literal(database),
            check(database)
        );
        let why = format!("{database} does not say that it is a copy of {workload}; nothing was dropped");
        let surely = |name: &str| {
            format!(
                "DO $foreshift$ BEGIN IF NOT EXISTS ({}) THEN \
                   RAISE EXCEPTION USING ERRCODE = 'FS005', MESSAGE = {}; END IF; END $foreshift$",
                check(name),
                literal(&why)
            )
        };
        // Once more when nobody can be inside.
        let sql = format!(
            "{leave}; {}; ALTER DATABASE {} RENAME TO {}; {}",
            surely(database),
            ident(database),
            ident(copy),
            surely(copy)
        );
        home.ask_alone(doing, &sql, RENAME).await?;
        self.drop_ours(address, copy).await
    }
}

/// The statements that a question to the source is answered with.
async fn read(source: &Session, sql: &str) -> Result<Vec<String>, DriverError> {
    let lines = source.ask("reading the database's settings", sql).await?;
    Ok(lines.iter().map(|line| line.text(0).to_string()).collect())
}

/// What asks for the statements that make the database: encoding and locale cannot be changed later. Columns that
/// some versions call otherwise are read by name.
fn created_sql(copy: &str) -> String {
    format!(
        "SELECT format('CREATE DATABASE %I TEMPLATE template0 ENCODING %L LC_COLLATE %L LC_CTYPE %L CONNECTION LIMIT %s', \
           {copy}, pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, d.datconnlimit) \
         || CASE j->>'datlocprovider' \
              WHEN 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', coalesce(j->>'datlocale', j->>'daticulocale')) \
                || coalesce(format(' ICU_RULES %L', j->>'daticurules'), '') \
              WHEN 'b' THEN format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %L', j->>'datlocale') \
              ELSE ' LOCALE_PROVIDER libc' END \
         FROM pg_database d, to_jsonb(d) j WHERE d.datname = current_database() \
         UNION ALL SELECT format('ALTER DATABASE %I OWNER TO %I', {copy}, pg_get_userbyid(d.datdba)) \
         FROM pg_database d WHERE d.datname = current_database()",
        copy = literal(copy)
    )
}

/// What asks for the statements that bring a database's comment, settings (its own, and those of roles in it) and
/// privileges. The value of a setting that is a list stands quoted in the catalog, as `pg_dump` knows, too.
fn settings_sql(copy: &str) -> String {
    format!(
        "WITH d AS (SELECT * FROM pg_database WHERE datname = current_database()), \
         s AS (SELECT setrole, split_part(c, '=', 1) AS name, substr(c, strpos(c, '=') + 1) AS value \
           FROM pg_db_role_setting, d, unnest(setconfig) c WHERE setdatabase = d.oid) \
         SELECT format('COMMENT ON DATABASE %I IS %L', {copy}, shobj_description(d.oid, 'pg_database')) FROM d \
           WHERE shobj_description(d.oid, 'pg_database') IS NOT NULL \
         UNION ALL SELECT CASE WHEN setrole = 0 THEN format('ALTER DATABASE %I', {copy}) \
             ELSE format('ALTER ROLE %I IN DATABASE %I', pg_get_userbyid(setrole), {copy}) END \
           || format(' SET %s TO ', name) \
           || CASE WHEN lower(name) IN ('search_path', 'temp_tablespaces', 'local_preload_libraries', \
                'session_preload_libraries', 'shared_preload_libraries', 'unix_socket_directories') \
              THEN coalesce(nullif(value, ''), '''''') ELSE quote_literal(value) END \
           FROM s WHERE name NOT LIKE 'foreshift.%' \
         UNION ALL SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', {copy}) FROM d WHERE datacl IS NOT NULL \
         UNION ALL SELECT format('GRANT %s ON DATABASE %I TO %s', a.privilege_type, {copy}, \
             CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END) \
           || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END \
           FROM d, aclexplode(d.datacl) a",
        copy = literal(copy)
    )
}
