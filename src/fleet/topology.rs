//! What stands where: hosts in racks in sites, partitions on hosts, workloads on partitions.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ids::{ApplicationId, Generation, HostId, PartitionId, RackId, Revision, SiteId, WorkloadId};
use super::state::ServingState;
use super::units::{Bytes, Share};

/// A machine and where it stands. Unknown places are named `unknown`, never left out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub id: HostId,
    /// The site it stands in.
    pub site: SiteId,
    /// The rack it stands in.
    pub rack: RackId,
    /// What it can hold; `None` where nobody says.
    pub capacity: Option<Capacity>,
    /// Free text labels from tags and configuration, for candidate and destination rules.
    pub labels: BTreeMap<String, String>,
}

/// The site and rack of a host of which nobody says where it stands.
pub const UNKNOWN_PLACE: &str = "unknown";

impl Host {
    /// Whether both are known to stand in one site.
    pub fn shares_site(&self, other: &Host) -> bool {
        self.site == other.site && self.site.as_str() != UNKNOWN_PLACE
    }

    /// Whether both are known to stand in one rack of one site, or of sites that nobody names.
    pub fn shares_rack(&self, other: &Host) -> bool {
        self.site == other.site && self.rack == other.rack && self.rack.as_str() != UNKNOWN_PLACE
    }
}

/// What a host can hold and how much of it is used.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Capacity {
    /// Memory or disk for data, whichever the class of workload is bound by.
    pub data: Bytes,
    /// Of it, used.
    pub data_used: Bytes,
    /// Share of the host's processing in use, averaged over the last minutes.
    pub load: Share,
}

/// The unit that runs workloads, is watched, and fails.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Partition {
    /// Its name; contains its host's.
    pub id: PartitionId,
    /// The host it runs on.
    pub host: HostId,
    /// The kind of system and the name of its driver in the configuration, for example `redis/cart`.
    pub class: String,
    /// What it does for its users.
    pub serving: ServingState,
    /// Where to reach it, as its driver writes addresses; empty where it has none.
    pub address: String,
}

/// What is moved.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Workload {
    /// Its name.
    pub id: WorkloadId,
    /// The application it belongs to.
    pub application: ApplicationId,
    /// The class in the configuration: it names mover, router and provisioner.
    pub class: String,
    /// Kind of work, for example `oltp` or `cache`; an input of the predictions.
    pub kind: String,
    /// Where it runs now.
    pub partition: PartitionId,
    /// Other partitions that hold copies of it; anti-affinity looks at these.
    pub replicas: Vec<PartitionId>,
    /// How much data moves with it.
    pub size: Bytes,
    /// Changes of its data per second.
    pub writes_per_s: f64,
    /// Requests per second of all kinds.
    pub requests_per_s: f64,
    /// Workloads that it needs.
    pub depends_on: Vec<WorkloadId>,
    /// Needs no copying of data.
    pub stateless: bool,
    /// How often its ownership has changed.
    pub generation: Generation,
    /// Free text labels.
    pub labels: BTreeMap<String, String>,
}

/// The whole fleet as it was seen at one revision. Lists are sorted by id, so equal fleets are
/// equal values.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Topology {
    /// Grows with every change.
    pub revision: Revision,
    /// All hosts, sorted by id.
    pub hosts: Vec<Host>,
    /// All partitions, sorted by id.
    pub partitions: Vec<Partition>,
    /// All workloads, sorted by id.
    pub workloads: Vec<Workload>,
    /// Partitions that more than one driver knows, each with the classes beside its own: two databases on one
    /// server, for example, each with a driver of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shared: BTreeMap<PartitionId, BTreeSet<String>>,
}

impl Topology {
    /// Sorts the lists by id and drops repeated ids (the first stays; of partitions all classes do).
    pub fn normalise(&mut self) {
        self.hosts.sort_by(|a, b| a.id.cmp(&b.id));
        self.hosts.dedup_by(|a, b| a.id == b.id);
        self.partitions.sort_by(|a, b| a.id.cmp(&b.id));
        let shared = &mut self.shared;
        self.partitions.dedup_by(|again, first| {
            let repeated = again.id == first.id;
            if repeated && again.class != first.class {
                shared.entry(first.id.clone()).or_default().insert(std::mem::take(&mut again.class));
            }
            repeated
        });
        self.workloads.sort_by(|a, b| a.id.cmp(&b.id));
        self.workloads.dedup_by(|a, b| a.id == b.id);
    }

    /// The host of that name.
    pub fn host(&self, id: &HostId) -> Option<&Host> {
        self.hosts.binary_search_by(|h| h.id.cmp(id)).ok().map(|i| &self.hosts[i])
    }

    /// The partition of that name.
    pub fn partition(&self, id: &PartitionId) -> Option<&Partition> {
        self.partitions.binary_search_by(|p| p.id.cmp(id)).ok().map(|i| &self.partitions[i])
    }

    /// Whether the driver of `class` knows the partition; one partition may be known to several.
    pub fn is_of(&self, partition: &Partition, class: &str) -> bool {
        partition.class == class || self.shared.get(&partition.id).is_some_and(|also| also.contains(class))
    }

    /// The workload of that name.
    pub fn workload(&self, id: &WorkloadId) -> Option<&Workload> {
        self.workloads.binary_search_by(|w| w.id.cmp(id)).ok().map(|i| &self.workloads[i])
    }

    /// The workloads that run on `partition`.
    pub fn on_partition<'a>(&'a self, partition: &'a PartitionId) -> impl Iterator<Item = &'a Workload> {
        self.workloads.iter().filter(move |w| &w.partition == partition)
    }

    /// The host that `partition` runs on.
    pub fn host_of(&self, partition: &PartitionId) -> Option<&Host> {
        self.partition(partition).and_then(|p| self.host(&p.host))
    }
}
