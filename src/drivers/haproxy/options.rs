//! Where the HAProxy instances are and how their servers are called.

use std::collections::BTreeMap;

use crate::fleet::{PartitionId, Span, WorkloadId};

/// How the router reaches every HAProxy that sends traffic to the same servers.
#[derive(Clone, Debug)]
pub struct HaproxyOptions {
    /// Runtime sockets of every instance (`level admin`), each a path or `host:port`.
    pub sockets: Vec<String>,
    /// Backend of a workload; one that is not named is called like the workload.
    pub backends: BTreeMap<WorkloadId, String>,
    /// Server of a partition; one that is not named is called like the partition with `_` for `/`.
    pub servers: BTreeMap<PartitionId, String>,
    /// A map that every instance has loaded (`path` or `#id`), in which the leader's epoch of each
    /// backend is kept: HAProxy has no compare-and-set, and so an old leader is at least noticed.
    pub epochs: Option<String>,
    /// How long one command may take.
    pub timeout: Span,
}

impl HaproxyOptions {
    /// Defaults for the instances behind these sockets.
    pub fn new(sockets: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            sockets: sockets.into_iter().map(Into::into).collect(),
            backends: BTreeMap::new(),
            servers: BTreeMap::new(),
            epochs: None,
            timeout: Span::seconds(5),
        }
    }

    pub(super) fn backend(&self, workload: &WorkloadId) -> String {
        self.backends.get(workload).cloned().unwrap_or_else(|| workload.to_string())
    }

    pub(super) fn server(&self, partition: &PartitionId) -> String {
        self.servers.get(partition).cloned().unwrap_or_else(|| partition.as_str().replace('/', "_"))
    }

    /// The partition that a server is.
    pub(super) fn partition(&self, server: &str, asked: &[PartitionId]) -> PartitionId {
        let named = self.servers.iter().find(|(_, s)| *s == server).map(|(p, _)| p.clone());
        named
            .or_else(|| asked.iter().find(|p| self.server(p) == server).cloned())
            .unwrap_or_else(|| PartitionId::from(server.replacen('_', "/", 1)))
    }
}
