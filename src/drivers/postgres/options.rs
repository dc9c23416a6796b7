//! What a person says about a set of PostgreSQL clusters: where they are, who we are there, and
//! which databases, schemas or tenants are workloads.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::fleet::{ApplicationId, Span};

/// One database of one PgBouncer, through which the clients of one schema come.
#[derive(Clone)]
pub struct BouncerOptions {
    /// Where it listens, `address:port`.
    pub admin: String,
    /// Who logs in at its console: one of its `admin_users`.
    pub username: String,
    /// Its password; never shown.
    pub password: Option<String>,
    /// Authorities (PEM, on this machine) that must have signed its certificate; `None` = the connection is
    /// not encrypted.
    pub tls_ca: Option<PathBuf>,
    /// The database, as it is called there.
    pub database: String,
    /// The schema, tenant or database whose clients come through it, as workloads are called by it.
    pub schema: String,
    /// The file on this machine that holds the database's line and nothing that others write;
    /// PgBouncer reads it by `%include`.
    pub file: PathBuf,
}

impl fmt::Debug for BouncerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BouncerOptions")
            .field("admin", &self.admin)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "(hidden)"))
            .field("database", &self.database)
            .field("schema", &self.schema)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// What becomes of the copy at the place that a workload has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AfterMove {
    /// It stays, and refuses writes.
    #[default]
    KeepCopy,
    /// It is dropped; that it was there stays marked.
    DropCopy,
}

/// Tables that many tenants share: the rows of each tenant are a workload of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantOptions {
    /// The column of every table whose value is the tenant.
    pub column: String,
    /// The schema of the tables.
    pub schema: String,
    /// The tenants that are workloads; empty = every one that has a row.
    pub values: Vec<String>,
    /// Tables of the schema that are no tenant's; they stay where they are.
    pub shared: Vec<String>,
}

/// How the driver reaches the clusters that one set of schemas is moved between.
#[derive(Clone)]
pub struct PostgresOptions {
    /// The set's name; workloads are called `<name>-<schema>`.
    pub name: String,
    /// `postgres/<name>`: schemas go nowhere but where this driver is.
    pub class: String,
    /// The application that the schemas belong to.
    pub application: ApplicationId,
    /// Kind of work, for example `oltp`; an input of the predictions.
    pub kind: String,
    /// Every cluster, `address:port`; each is a partition. The clusters reach each other under the
    /// same addresses.
    pub clusters: Vec<String>,
    /// The database, called the same on every cluster; where whole databases are workloads, the one that is
    /// logged in to first.
    pub database: String,
    /// The databases that are workloads as a whole, called `<name>-<database>`; `*` = every one but `postgres`
    /// that holds a table; empty = schemas or tenants of `database` are.
    pub databases: Vec<String>,
    /// The schemas that are workloads; empty = every schema that holds a table.
    pub schemas: Vec<String>,
    /// Each tenant of shared tables is a workload, called `<name>-<schema>.<value>`; `None` = each schema is.
    pub tenant: Option<TenantOptions>,
    /// A role that may replicate and make subscriptions: in PostgreSQL 15 a superuser.
    pub username: String,
    /// Its password; never shown.
    pub password: Option<String>,
    /// Path of a password file (`.pgpass`) on the servers, with which they log in at each other.
    /// Without it the password stands in the subscription, where superusers can read it.
    pub passfile: Option<String>,
    /// Authorities (PEM, on this machine) that must have signed the servers' certificates; `None` =
    /// connections are not encrypted. The servers then reach each other encrypted, too.
    pub tls_ca: Option<PathBuf>,
    /// Which host a cluster stands on: `address:port` or `address` → host. One that is not named
    /// stands on a host that is called like its address.
    pub hosts: BTreeMap<String, String>,
    /// How long a connection may take.
    pub connect_timeout: Span,
    /// How long one statement may take, but for those that read or copy all data.
    pub command_timeout: Span,
    /// How long a statement that reads all of a table may take.
    pub scan_timeout: Span,
    /// How long a lock on a table is waited for while something is installed; writers wait behind it.
    pub lock_timeout: Span,
    /// Real reads per second that a canary step sends to each side.
    pub canary_reads_per_s: u32,
    /// What becomes of the copy at the source, once it is retired.
    pub after_move: AfterMove,
    /// The PgBouncers in front of the clusters: their clients wait at a cut and go on at the new owner.
    pub bouncers: Vec<BouncerOptions>,
    /// The program `pg_dump`; `None` = the search path and Debian's folders.
    pub pg_dump: Option<PathBuf>,
}

/// A name among `databases` that stands for every one but the servers' own.
const EVERY_DATABASE: &str = "*";

/// The databases that every server has, which are workloads only where they are named.
const OF_SERVERS: [&str; 3] = ["postgres", "template0", "template1"];

impl PostgresOptions {
    /// Whether a whole database of that name is a workload, if it is there.
    pub(super) fn moves_database(&self, name: &str) -> bool {
        let has = |what: &str| self.databases.iter().any(|d| d == what);
        has(name) || (!OF_SERVERS.contains(&name) && has(EVERY_DATABASE))
    }

    /// Defaults for the set of that name on these clusters, in `database`.
    pub fn new(
        name: impl Into<String>,
        clusters: impl IntoIterator<Item = impl Into<String>>,
        database: impl Into<String>,
    ) -> Self {
        let name = name.into();
        Self {
            class: format!("postgres/{name}"),
            application: ApplicationId::from(name.as_str()),
            name,
            kind: "oltp".into(),
            clusters: clusters.into_iter().map(Into::into).collect(),
            database: database.into(),
            databases: Vec::new(),
            schemas: Vec::new(),
            tenant: None,
            username: "postgres".into(),
            password: None,
            passfile: None,
            tls_ca: None,
            hosts: BTreeMap::new(),
            connect_timeout: Span::seconds(2),
            command_timeout: Span::seconds(5),
            scan_timeout: Span::hours(6),
            lock_timeout: Span::millis(500),
            canary_reads_per_s: 50,
            after_move: AfterMove::default(),
            bouncers: Vec::new(),
            pg_dump: None,
        }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("name", &self.name)
            .field("clusters", &self.clusters)
            .field("database", &self.database)
            .field("databases", &self.databases)
            .field("schemas", &self.schemas)
            .field("tenant", &self.tenant)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "(hidden)"))
            .field("passfile", &self.passfile)
            .field("tls_ca", &self.tls_ca)
            .field("hosts", &self.hosts)
            .field("bouncers", &self.bouncers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let mut options = PostgresOptions::new("shop", ["10.0.0.1:5432"], "shop");
        options.password = Some("opensesame".into());
        options.bouncers = vec![BouncerOptions {
            admin: "10.0.0.9:6432".into(),
            username: "admin".into(),
            password: Some("opensesame".into()),
            tls_ca: None,
            database: "shop".into(),
            schema: "orders".into(),
            file: "shop.ini".into(),
        }];
        assert!(!format!("{options:?}").contains("opensesame"));
    }
}
