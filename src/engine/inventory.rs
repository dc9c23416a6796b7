//! What stands where, put together from drivers, configuration, and the labels that sources
//! report. The revision grows when a placement changes, not when a size does, so that a plan does
//! not go stale because a shard grew by a row.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::fleet::topology::{Capacity, UNKNOWN_PLACE};
use crate::fleet::{
    ApplicationId, Bytes, Host, HostId, Partition, PartitionId, Revision, ServingState, Share, Topology,
    Workload, WorkloadId,
};
use crate::migrate::owner::Owner;
use crate::migrate::runner::overlay;

/// What the configuration says of a host.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Place {
    /// The site; empty = not said.
    pub site: String,
    /// The rack; empty = not said.
    pub rack: String,
    /// How much data it can hold; `None` = what its driver says.
    pub data: Option<Bytes>,
    /// Other labels.
    pub labels: BTreeMap<String, String>,
}

/// What the configuration says of a workload, which its driver cannot know.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Profile {
    /// Its application; `None` = what its driver says.
    pub application: Option<ApplicationId>,
    /// The kind of work; `None` = what its driver says.
    pub kind: Option<String>,
    /// Workloads that it needs, beside those that its driver names.
    pub depends_on: Vec<WorkloadId>,
    /// Labels; they win over the driver's.
    pub labels: BTreeMap<String, String>,
}

/// Sources of the inventory.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// What the configuration says of hosts.
    pub places: BTreeMap<HostId, Place>,
    /// What the configuration says of workloads.
    pub profiles: BTreeMap<WorkloadId, Profile>,
    /// What each driver saw last, by class.
    pub discovered: BTreeMap<String, Topology>,
    /// The owner records, which say how often each workload has moved; they win over what a driver
    /// counts.
    pub owners: BTreeMap<WorkloadId, Owner>,
    /// Hosts and partitions that a person has taken out of service for good. What a driver still sees work on is
    /// in service all the same.
    pub retired: BTreeSet<String>,
    current: Topology,
    structure: Option<blake3::Hash>,
}

/// Words under which sources report where a host stands.
const SITE_KEYS: [&str; 5] = ["site", "dc", "datacenter", "region", "zone"];
const RACK_KEYS: [&str; 2] = ["rack", "chassis"];

fn first_label(labels: Option<&HashMap<String, String>>, keys: &[&str]) -> Option<String> {
    let labels = labels?;
    keys.iter().find_map(|k| labels.get(*k)).filter(|v| !v.is_empty()).cloned()
}

impl Inventory {
    /// An inventory that knows what the configuration says and nothing else.
    pub fn configured(places: BTreeMap<HostId, Place>, profiles: BTreeMap<WorkloadId, Profile>) -> Self {
        Self { places, profiles, ..Self::default() }
    }

    /// The topology as it was put together last.
    pub fn topology(&self) -> &Topology {
        &self.current
    }

    /// Puts the topology together anew. `seen` are the partitions that telemetry knows, `labels`
    /// what sources reported for hosts. Returns whether a placement changed.
    pub fn rebuild(
        &mut self,
        seen: &[PartitionId],
        labels: &HashMap<HostId, HashMap<String, String>>,
    ) -> bool {
        let mut topology = Topology { revision: self.current.revision, ..Topology::default() };
        let mut hosts: BTreeMap<HostId, Host> = BTreeMap::new();
        for found in self.discovered.values() {
            for host in &found.hosts {
                hosts.entry(host.id.clone()).or_insert_with(|| host.clone());
            }
            topology.partitions.extend(found.partitions.iter().cloned());
            topology.workloads.extend(found.workloads.iter().cloned());
        }
        let known: HashSet<&PartitionId> = topology.partitions.iter().map(|p| &p.id).collect();
        let hosts_with_partitions: HashSet<HostId> =
            topology.partitions.iter().map(|p| p.host.clone()).collect();
        let extra: Vec<Partition> = seen
            .iter()
            .filter(|id| !known.contains(id))
            .filter(|id| id.as_str().contains('/') || !hosts_with_partitions.contains(&id.host()))
            .map(|id| Partition {
                id: id.clone(),
                host: id.host(),
                class: "host".into(),
                serving: ServingState::Active,
                address: String::new(),
            })
            .collect();
        topology.partitions.extend(extra);
        for host in topology.partitions.iter().map(|p| &p.host).chain(self.places.keys()) {
            hosts.entry(host.clone()).or_insert_with(|| Host {
                id: host.clone(),
                site: UNKNOWN_PLACE.into(),
                rack: UNKNOWN_PLACE.into(),
                capacity: None,
                labels: BTreeMap::new(),
            });
        }
        for (id, host) in &mut hosts {
            let reported = labels.get(id);
            if let Some(site) = first_label(reported, &SITE_KEYS) {
                host.site = site.into();
            }
            if let Some(rack) = first_label(reported, &RACK_KEYS) {
                host.rack = rack.into();
            }
            for (key, value) in reported.into_iter().flatten() {
                host.labels.entry(key.clone()).or_insert_with(|| value.clone());
            }
            if let Some(place) = self.places.get(id) {
                if !place.site.is_empty() {
                    host.site = place.site.as_str().into();
                }
                if !place.rack.is_empty() {
                    host.rack = place.rack.as_str().into();
                }
                host.labels.extend(place.labels.clone());
            }
        }
        for workload in &mut topology.workloads {
            let Some(profile) = self.profiles.get(&workload.id) else { continue };
            if let Some(application) = &profile.application {
                workload.application = application.clone();
            }
            if let Some(kind) = &profile.kind {
                workload.kind.clone_from(kind);
            }
            for needed in &profile.depends_on {
                if !workload.depends_on.contains(needed) {
                    workload.depends_on.push(needed.clone());
                }
            }
            workload.labels.extend(profile.labels.clone());
        }
        topology.hosts = hosts.into_values().collect();
        topology.normalise();
        overlay(&mut topology, &self.owners);
        self.retire(&mut topology);
        self.give_capacity(&mut topology);
        let structure = structure_of(&topology);
        let changed = self.structure != Some(structure);
        if changed {
            topology.revision = Revision(topology.revision.0 + 1);
            self.structure = Some(structure);
        }
        self.current = topology;
        changed
    }

    fn retire(&self, topology: &mut Topology) {
        let retired = &self.retired;
        let busy: HashSet<&PartitionId> = topology.workloads.iter().map(|w| &w.partition).collect();
        for partition in topology.partitions.iter_mut().filter(|p| !busy.contains(&p.id)) {
            if retired.contains(partition.id.as_str()) || retired.contains(partition.host.as_str()) {
                partition.serving = ServingState::Decommissioned;
            }
        }
    }

    /// Workloads of which our record names another owner than their system does, with both in words. While a
    /// migration works on one, that one is in between and is left out.
    pub fn disputed(&self) -> BTreeMap<WorkloadId, String> {
        let differs = |workload: &Workload| {
            let owner = self.owners.get(&workload.id).filter(|owner| owner.migration.is_none())?;
            (owner.owner != workload.partition).then(|| owner.disputed_by(&workload.partition))
        };
        self.current.workloads.iter().filter_map(|w| Some((w.id.clone(), differs(w)?))).collect()
    }

    /// Hosts get the capacity that the configuration says. What is used of it the driver knows, or it is
    /// the sum of the workloads and copies there.
    fn give_capacity(&self, topology: &mut Topology) {
        if self.places.values().all(|place| place.data.is_none()) {
            return;
        }
        let mut used: HashMap<HostId, u64> = HashMap::new();
        for workload in &topology.workloads {
            let places = std::iter::once(&workload.partition).chain(&workload.replicas);
            for partition in places.filter_map(|id| topology.partition(id)) {
                *used.entry(partition.host.clone()).or_default() += workload.size.0;
            }
        }
        for host in &mut topology.hosts {
            let Some(data) = self.places.get(&host.id).and_then(|place| place.data) else { continue };
            let sum = used.get(&host.id).copied().unwrap_or(0);
            let unsaid = Capacity { data, data_used: Bytes(sum), load: Share::MIN };
            host.capacity = Some(Capacity { data, ..host.capacity.unwrap_or(unsaid) });
        }
    }
}

/// A hash over what a plan rests on: who stands where, in which state, at which generation.
fn structure_of(topology: &Topology) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(text.as_bytes());
        hasher.update(&[0]);
    };
    for host in &topology.hosts {
        add(host.id.as_str());
        add(host.site.as_str());
        add(host.rack.as_str());
    }
    for partition in &topology.partitions {
        add(partition.id.as_str());
        add(partition.host.as_str());
        add(&format!("{:?}", partition.serving));
    }
    for (partition, classes) in &topology.shared {
        add(partition.as_str());
        classes.iter().for_each(|class| add(class));
    }
    for workload in &topology.workloads {
        add(workload.id.as_str());
        add(workload.partition.as_str());
        add(&workload.generation.to_string());
        for replica in &workload.replicas {
            add(replica.as_str());
        }
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Generation;

    fn shard(on: &str, size: u64) -> Topology {
        let partition = |id: &str| Partition {
            id: id.into(),
            host: PartitionId::from(id).host(),
            class: "redis".into(),
            serving: ServingState::Active,
            address: String::new(),
        };
        Topology {
            partitions: vec![partition("h1/a"), partition("h2/b")],
            workloads: vec![Workload {
                id: "w".into(),
                application: "app".into(),
                class: "redis".into(),
                kind: "cache".into(),
                partition: on.into(),
                replicas: Vec::new(),
                size: Bytes(size),
                writes_per_s: 0.0,
                requests_per_s: 0.0,
                depends_on: Vec::new(),
                stateless: false,
                generation: Generation(1),
                labels: BTreeMap::new(),
            }],
            ..Topology::default()
        }
    }

    #[test]
    fn the_revision_grows_with_placement_and_not_with_size() {
        let mut inventory = Inventory::default();
        inventory.discovered.insert("redis".into(), shard("h1/a", 1));
        assert!(inventory.rebuild(&[], &HashMap::new()));
        let first = inventory.topology().revision;
        inventory.discovered.insert("redis".into(), shard("h1/a", 2));
        assert!(!inventory.rebuild(&[], &HashMap::new()));
        inventory.discovered.insert("redis".into(), shard("h2/b", 2));
        assert!(inventory.rebuild(&[], &HashMap::new()));
        assert_eq!(inventory.topology().revision.0, first.0 + 1);
    }

    #[test]
    fn hosts_known_by_telemetry_alone_are_shown_and_placed_by_their_labels() {
        let mut inventory = Inventory::default();
        let labels = HashMap::from([(
            HostId::from("web-1"),
            HashMap::from([("dc".to_string(), "fra".to_string()), ("rack".to_string(), "r7".to_string())]),
        )]);
        inventory.rebuild(&["web-1".into()], &labels);
        let host = inventory.topology().host(&"web-1".into()).unwrap();
        assert_eq!((host.site.as_str(), host.rack.as_str()), ("fra", "r7"));
        assert!(inventory.topology().partition(&"web-1".into()).is_some());
    }

    #[test]
    fn what_the_configuration_says_of_hosts_and_workloads_holds() {
        let place = Place { data: Some(Bytes(1000)), ..Place::default() };
        let profile = Profile {
            application: Some("shop".into()),
            kind: Some("oltp".to_string()),
            depends_on: vec!["customers".into()],
            labels: BTreeMap::from([("move".to_string(), "yes".to_string())]),
        };
        let mut inventory = Inventory::configured(
            BTreeMap::from([("h1".into(), place)]),
            BTreeMap::from([("w".into(), profile)]),
        );
        inventory.discovered.insert("redis".into(), shard("h1/a", 300));
        inventory.rebuild(&[], &HashMap::new());
        let topology = inventory.topology();
        let capacity = topology.host(&"h1".into()).unwrap().capacity.unwrap();
        assert_eq!((capacity.data, capacity.data_used), (Bytes(1000), Bytes(300)));
        assert_eq!(topology.host(&"h2".into()).unwrap().capacity, None);
        let workload = topology.workload(&"w".into()).unwrap();
        assert_eq!((workload.application.as_str(), workload.kind.as_str()), ("shop", "oltp"));
        assert_eq!(workload.depends_on, ["customers".into()]);
        assert_eq!(workload.labels["move"], "yes");
    }
}
