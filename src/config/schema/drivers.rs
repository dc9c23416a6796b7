//! Section `drivers`: the systems that hold workloads or send traffic, by a name of your choice.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Secret, quantity};
use crate::fleet::Span;

/// The kind of a system.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverClass {
    /// Redis or Valkey Cluster: moves shards.
    Redis,
    /// PostgreSQL 15 or newer: moves schemas.
    Postgres,
    /// HAProxy: sends traffic.
    Haproxy,
    /// Directories of files: moves them.
    Files,
}

impl DriverClass {
    /// The class as it is written in the file.
    pub fn word(self) -> &'static str {
        match self {
            DriverClass::Redis => "redis",
            DriverClass::Postgres => "postgres",
            DriverClass::Haproxy => "haproxy",
            DriverClass::Files => "files",
        }
    }

    /// Whether it moves workloads; else it sends traffic.
    pub fn is_mover(self) -> bool {
        !matches!(self, DriverClass::Haproxy)
    }

    /// The keys that this class understands beside `class`.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            DriverClass::Redis => &["router", "seeds", "username", "password", "timeout", "application"],
            DriverClass::Postgres => &[
                "router",
                "clusters",
                "database",
                "schemas",
                "username",
                "password",
                "passfile",
                "tls_ca",
                "timeout",
                "application",
            ],
            DriverClass::Haproxy => &["sockets", "timeout"],
            DriverClass::Files => &["router", "roots", "timeout", "application"],
        }
    }
}

/// One system: `[drivers.NAME]`. A workload's class names the driver that moves it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// The kind of the system: `redis`, `postgres`, `haproxy` or `files`.
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
    /// `postgres`: every cluster, `address:port`; each is a partition, and they reach each other so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// `postgres`: the database, called the same on every cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub database: String,
    /// `postgres`: the schemas that are workloads; empty = every one that holds a table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<String>,
    /// `postgres`: path of a password file on the servers, with which they log in at each other;
    /// empty = the password stands in the subscriptions, where superusers can read it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub passfile: String,
    /// `postgres`: authorities (PEM) that must have signed the servers' certificates; without it
    /// connections are not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
    /// `redis`, `postgres`: user; empty = the default user, `postgres`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// `redis`, `postgres`: password of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// `haproxy`: runtime sockets of every HAProxy, as a path or `host:port`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<String>,
    /// `files`: directories, one a partition; each directory below one is a workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<PathBuf>,
    /// How long one call may take.
    #[serde(default = "call_timeout", with = "quantity::span")]
    pub timeout: Span,
}

fn call_timeout() -> Span {
    Span::seconds(5)
}
