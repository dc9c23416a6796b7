//! What a person says about a Redis Cluster: where it is, who we are there, which node stands on
//! which host, and how far the driver may go.

use std::collections::BTreeMap;
use std::fmt;

use crate::fleet::{ApplicationId, Span};

/// How the driver reaches one cluster and how far it may go.
#[derive(Clone)]
pub struct RedisOptions {
    /// The cluster's name; workloads are called `<cluster>-<lowest slot>`.
    pub cluster: String,
    /// `redis/<cluster>`: shards go nowhere but where this driver is.
    pub class: String,
    /// The application that the shards belong to.
    pub application: ApplicationId,
    /// Kind of work, for example `cache`; an input of the predictions.
    pub kind: String,
    /// Addresses to begin with, `address:port`; the rest is discovered.
    pub seeds: Vec<String>,
    /// ACL user; `None` for the default user.
    pub username: Option<String>,
    /// Password; never shown.
    pub password: Option<String>,
    /// Which host a node stands on: node id, `address:port`, `address` or announced host name →
    /// host. A node that is not named stands on a host that is called like its address.
    pub hosts: BTreeMap<String, String>,
    /// How long a connection may take.
    pub connect_timeout: Span,
    /// How long one command may take.
    pub command_timeout: Span,
    /// The longest time for which writes are held to compare at the cut. The failover's own hold
    /// comes after it and is not part of it.
    pub pause_budget: Span,
    /// The most keys that are compared while writes are held.
    pub keys_at_cut: usize,
    /// Keys in one round trip of the full comparison.
    pub verify_batch: usize,
    /// Real reads per second that a canary step sends to each side.
    pub canary_reads_per_s: u32,
    /// Whether ranges of slots always go key by key, where the servers could move them in one step (Valkey 9,
    /// Redis 8.4), too.
    pub key_by_key: bool,
    /// What becomes of the old master.
    pub after_move: AfterMove,
    /// What to do where the source has died before the cut.
    pub dead_source: DeadSource,
}

/// What becomes of the old master.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AfterMove {
    /// It stays as a replica: the way back.
    #[default]
    KeepAsReplica,
    /// Every node forgets it.
    Forget,
}

/// What to do where the source has died before the cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DeadSource {
    /// The cluster's own election decides.
    #[default]
    LeaveToCluster,
    /// `CLUSTER FAILOVER FORCE` on the destination, once a majority calls the source failed.
    Force,
}

impl RedisOptions {
    /// Defaults for the cluster of that name behind these seeds.
    pub fn new(cluster: impl Into<String>, seeds: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let cluster = cluster.into();
        Self {
            class: format!("redis/{cluster}"),
            application: ApplicationId::from(cluster.as_str()),
            cluster,
            kind: "cache".into(),
            seeds: seeds.into_iter().map(Into::into).collect(),
            username: None,
            password: None,
            hosts: BTreeMap::new(),
            connect_timeout: Span::seconds(2),
            command_timeout: Span::seconds(5),
            pause_budget: Span::millis(40),
            keys_at_cut: 400,
            verify_batch: 256,
            canary_reads_per_s: 100,
            key_by_key: false,
            after_move: AfterMove::default(),
            dead_source: DeadSource::default(),
        }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("cluster", &self.cluster)
            .field("seeds", &self.seeds)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "(hidden)"))
            .field("hosts", &self.hosts)
            .field("after_move", &self.after_move)
            .field("dead_source", &self.dead_source)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let mut options = RedisOptions::new("cart", ["10.0.0.1:6379"]);
        options.password = Some("opensesame".into());
        assert!(!format!("{options:?}").contains("opensesame"));
    }
}
