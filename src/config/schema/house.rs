//! Sections `fleet` and `engine`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::quantity;
use crate::fleet::{ApplicationId, Bytes, HostId, RackId, SiteId, Span, WorkloadId};

/// Section `[fleet]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fleet {
    /// Name of the installation, shown in the header.
    pub name: String,
    /// Where hosts stand: `[fleet.hosts."db-11"]`. Hosts that are not named here are taken from
    /// tags (`site`, `rack`), else their place is `unknown`.
    pub hosts: BTreeMap<HostId, HostPlace>,
    /// Which host an address belongs to: `"10.0.3.11:7001" = "db-11"`; a whole address or one
    /// without its port. What is not named here belongs to the host of the address itself.
    pub nodes: BTreeMap<String, HostId>,
    /// What the drivers cannot know of workloads: `[fleet.workloads."orders"]`.
    pub workloads: BTreeMap<WorkloadId, WorkloadProfile>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            name: "fleet".to_string(),
            hosts: BTreeMap::new(),
            nodes: BTreeMap::new(),
            workloads: BTreeMap::new(),
        }
    }
}

impl Fleet {
    /// The host that `address` belongs to by the map, with or without its port.
    pub fn host_of_node(&self, address: &str) -> Option<&HostId> {
        self.nodes
            .get(address)
            .or_else(|| address.rsplit_once(':').and_then(|(name, _)| self.nodes.get(name)))
    }
}

/// Where a host stands: `[fleet.hosts."NAME"]`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostPlace {
    /// The site (data centre, region).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteId>,
    /// The rack within the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rack: Option<RackId>,
    /// How much data it can hold; without it the driver's word counts.
    #[serde(with = "capacity", skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Bytes>,
    /// Free text labels, for the rules of candidates and destinations.
    pub labels: BTreeMap<String, String>,
}

/// An optional amount of data in its human form.
mod capacity {
    use super::{Bytes, Deserialize, Serialize, quantity};
    use serde::{Deserializer, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Written(#[serde(with = "quantity::bytes")] Bytes);

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<Written>::deserialize(from)?.map(|w| w.0))
    }

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Bytes>, to: S) -> Result<S::Ok, S::Error> {
        bytes.map(Written).serialize(to)
    }
}

/// What the drivers cannot know of a workload: `[fleet.workloads."NAME"]`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkloadProfile {
    /// The application it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationId>,
    /// Kind of work, for example `oltp` or `cache`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Workloads that it needs.
    pub depends_on: Vec<WorkloadId>,
    /// The host it should move to first, where that is possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_host: Option<HostId>,
    /// Free text labels, for the rules of candidates.
    pub labels: BTreeMap<String, String>,
}

/// Section `[engine]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// How often everything is looked at: one cycle.
    #[serde(with = "quantity::span")]
    pub interval: Span,
    /// Where agents, consoles and the API are listened to.
    pub listen: SocketAddr,
    /// Journal, state and the embedded time series.
    pub data_dir: PathBuf,
    /// `read_only` changes nothing, `advise` waits for a person, `auto` acts within the limits.
    pub mode: ModeSetting,
    /// Data older than this says nothing: the partition is unknown.
    #[serde(with = "quantity::span")]
    pub stale_after: Span,
    /// This engine's name in the journal and, with several engines, in the election; empty = the
    /// host's name.
    pub name: String,
    /// Threads for the predictions; 0 = as many as there are cores.
    pub threads: usize,
    /// What is logged: a level (`error warn info debug trace`) or a filter (`foreshift=debug,info`).
    pub log: String,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            interval: Span::seconds(15),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7117)),
            data_dir: PathBuf::from("foreshift-data"),
            mode: ModeSetting::Advise,
            stale_after: Span::minutes(2),
            name: String::new(),
            threads: 0,
            log: "info".to_string(),
        }
    }
}

/// What the engine may do on its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeSetting {
    /// Changes nothing, ever.
    ReadOnly,
    /// Proposals wait for a person.
    #[default]
    Advise,
    /// Acts within the limits.
    Auto,
}
