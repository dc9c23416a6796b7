//! Section `drivers`: the systems that hold workloads or send traffic, by a name of your choice.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Secret, quantity};
use crate::fleet::{HostId, PartitionId, Span, WorkloadId};

/// The kind of a system.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverClass {
    /// Redis or Valkey Cluster: moves shards, or ranges of slots.
    Redis,
    /// PostgreSQL 15 or newer: moves whole databases, schemas, or tenants of shared tables.
    Postgres,
    /// HAProxy: sends traffic.
    Haproxy,
    /// Directories of files: moves them.
    Files,
    /// Processes that hold no data: starts them elsewhere.
    Service,
}

impl DriverClass {
    /// The class as it is written in the file.
    pub fn word(self) -> &'static str {
        match self {
            DriverClass::Redis => "redis",
            DriverClass::Postgres => "postgres",
            DriverClass::Haproxy => "haproxy",
            DriverClass::Files => "files",
            DriverClass::Service => "service",
        }
    }

    /// Whether it moves workloads; else it sends traffic.
    pub fn is_mover(self) -> bool {
        !matches!(self, DriverClass::Haproxy)
    }

    /// The keys that this class understands beside `class`.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            DriverClass::Redis => {
                &["router", "seeds", "slots", "key_by_key", "username", "password", "timeout", "application"]
            }
            DriverClass::Postgres => &[
                "router",
                "clusters",
                "database",
                "databases",
                "schemas",
                "tenant",
                "username",
                "password",
                "passfile",
                "tls_ca",
                "pgbouncers",
                "timeout",
                "application",
            ],
            DriverClass::Haproxy => &["sockets", "backends", "servers", "epochs", "timeout"],
            DriverClass::Files => &["router", "roots", "timeout", "application"],
            DriverClass::Service => {
                &["router", "hosts", "via", "instances", "stop_within", "services", "timeout", "application"]
            }
        }
    }
}

/// How many processes of one service may run at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Instances {
    /// Any number: the new one is started before the old one is stopped, and traffic goes over by share.
    #[default]
    Many,
    /// Never two: the old one is stopped before the new one is started.
    One,
}

/// One service: `[drivers.NAME.services.SERVICE]`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceProfile {
    /// Its systemd unit; empty = the commands below.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// Program and arguments that start it and return.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<String>,
    /// The same for an orderly stop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// The same to ask whether it runs: exit status 0 = it does, 1 to 3 = it does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<String>,
    /// Where its health is asked: `http://{host}:8080/health` (any 2xx) or `tcp://{host}:8080`.
    pub health: String,
}

/// Tables that many tenants share: `[drivers.NAME.tenant]`. The rows of each tenant are a workload, called
/// `NAME-SCHEMA.VALUE`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// The column of every table whose value is the tenant.
    pub column: String,
    /// The schema of the tables.
    pub schema: String,
    /// The tenants that are workloads; empty = every one that has a row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Tables of the schema that are no tenant's; they stay where they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<String>,
}

/// One database of one PgBouncer: `[[drivers.NAME.pgbouncers]]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PgBouncer {
    /// Where it listens, `address:port`.
    pub admin: String,
    /// One of its `admin_users`; empty = `pgbouncer`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Password of that user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Authorities (PEM) that must have signed its certificate; without it the connection is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
    /// The database, as it is called there; empty = as on the clusters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub database: String,
    /// The schema whose clients come through it, or the tenant as `SCHEMA.VALUE`, or the database; empty = the
    /// only one of `schemas`, or the database that is called as it is there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema: String,
    /// The file on this machine that holds the database's line; PgBouncer reads it by `%include`.
    pub file: PathBuf,
}

impl PgBouncer {
    /// The database as it is called there.
    pub fn database_of<'a>(&'a self, driver: &'a Driver) -> &'a str {
        match self.database.as_str() {
            "" if driver.databases.is_empty() => &driver.database,
            "" => self.schema_of(driver).unwrap_or_default(),
            named => named,
        }
    }

    /// The schema, tenant or database whose clients come through it; `None` where nobody can tell.
    pub fn schema_of<'a>(&'a self, driver: &'a Driver) -> Option<&'a str> {
        match (driver.databases.as_slice(), driver.schemas.as_slice()) {
            _ if !self.schema.is_empty() => Some(&self.schema),
            ([], [only]) => Some(only),
            ([], _) => None,
            ([only], _) if only != EVERY_DATABASE => Some(only),
            (_, _) if driver.moves_database(&self.database) => Some(&self.database),
            _ => None,
        }
    }
}

/// One system: `[drivers.NAME]`. A workload's class names the driver that moves it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// The kind of the system: `redis`, `postgres`, `haproxy`, `files` or `service`.
    pub class: DriverClass,
    /// Name of the driver that sends traffic to its workloads; without it nothing is redirected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<String>,
    /// Application that its workloads belong to, where nothing else says; empty = the driver's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub application: String,
    /// `redis`: addresses of some nodes; the others are found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<String>,
    /// `redis`: the ranges of slots that are workloads, like `0-5460`, or `0-5460/8` for eight parts of it;
    /// empty = each shard is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<String>,
    /// `redis`: with `slots`, always go key by key, where the servers could move a range in one step, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key_by_key: bool,
    /// `postgres`: every cluster, `address:port`; each is a partition, and they reach each other so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// `postgres`: the database, called the same on every cluster; with `databases` the one that is logged in to
    /// first, empty = `postgres`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub database: String,
    /// `postgres`: the databases that are workloads as a whole; `*` = every one but `postgres` that holds a table;
    /// empty = schemas or tenants of `database` are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    /// `postgres`: the schemas that are workloads; empty = every one that holds a table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<String>,
    /// `postgres`: tables that many tenants share, each of whom is a workload; without it each schema is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// `postgres`: path of a password file on the servers, with which they log in at each other;
    /// empty = the password stands in the subscriptions, where superusers can read it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub passfile: String,
    /// `postgres`: authorities (PEM) that must have signed the servers' certificates; without it
    /// connections are not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
    /// `postgres`: the PgBouncers in front of the clusters, whose clients wait at a cut and go on at the new
    /// owner; without any they are refused at the cut and have to find it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pgbouncers: Vec<PgBouncer>,
    /// `redis`, `postgres`: user; empty = the default user, `postgres`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// `redis`, `postgres`: password of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// `haproxy`: runtime sockets of every HAProxy, as a path or `host:port`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<String>,
    /// `haproxy`: the backend of a workload, where it is not called like the workload.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub backends: BTreeMap<WorkloadId, String>,
    /// `haproxy`: the server of a partition, where it is not called like the partition with `_` for `/`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<PartitionId, String>,
    /// `haproxy`: a map that every instance has loaded, in which the leader's epoch is kept, so that a
    /// deposed engine is noticed; without it none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<String>,
    /// `files`: directories, one a partition; each directory below one is a workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<PathBuf>,
    /// `service`: the hosts that can run the services; each is a partition, called `HOST/NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostId>,
    /// `service`: program and arguments that run a command on `{host}`; empty = here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<String>,
    /// `service`: whether two processes of one service may run at the same time.
    #[serde(default)]
    pub instances: Instances,
    /// `service`: how long a start, an orderly stop, or the sessions that are still open may take.
    #[serde(default = "stop_within", with = "quantity::span")]
    pub stop_within: Span,
    /// `service`: the services by name; each is a workload.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<WorkloadId, ServiceProfile>,
    /// How long one call may take.
    #[serde(default = "call_timeout", with = "quantity::span")]
    pub timeout: Span,
}

/// Stands for every database among `databases`.
const EVERY_DATABASE: &str = "*";

impl Driver {
    /// Whether a whole database of that name may be a workload.
    pub fn moves_database(&self, name: &str) -> bool {
        !name.is_empty() && self.databases.iter().any(|d| d == name || d == EVERY_DATABASE)
    }
}

fn call_timeout() -> Span {
    Span::seconds(5)
}

fn stop_within() -> Span {
    Span::seconds(30)
}
