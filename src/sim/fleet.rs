//! The layout of the demo fleet: 24 hosts in six racks at two sites, 66 partitions, more than 200
//! workloads of fourteen applications, drawn by seed. What stands where at the start; what becomes
//! of it is `world`'s.

use std::collections::BTreeMap;

use super::load::{Kind, Traits};
use crate::fleet::rng::Random;
use crate::fleet::{ApplicationId, Bytes, HostId, PartitionId, RackId, SiteId, WorkloadId};

/// The class of everything simulated.
pub const CLASS: &str = "sim";

/// Sites and how many hours their clocks are ahead of UTC.
const SITES: [(&str, f32); 2] = [("fra", 1.0), ("nyc", -5.0)];
const RACKS: usize = 3;
/// Partitions of the four hosts of a rack.
const PARTITIONS: [usize; 4] = [3, 2, 3, 3];

/// Applications: name, kind, workloads, what they need.
const APPLICATIONS: [(&str, Kind, usize, &[&str]); 14] = [
    ("orders", Kind::Oltp, 20, &["customers", "events"]),
    ("payments", Kind::Oltp, 14, &["customers"]),
    ("customers", Kind::Oltp, 16, &[]),
    ("stock", Kind::Oltp, 14, &[]),
    ("sessions", Kind::Cache, 18, &[]),
    ("prices", Kind::Cache, 14, &["stock"]),
    ("events", Kind::Stream, 18, &[]),
    ("shipping", Kind::Stream, 12, &["orders"]),
    ("catalogue", Kind::Search, 16, &["stock"]),
    ("advice", Kind::Search, 12, &["sessions"]),
    ("reports", Kind::Batch, 14, &["orders"]),
    ("billing", Kind::Batch, 12, &["payments"]),
    ("shop", Kind::Web, 20, &["catalogue", "sessions", "orders"]),
    ("gateway", Kind::Web, 16, &["payments", "prices"]),
];

/// A host as it is built.
#[derive(Clone, Debug)]
pub(crate) struct HostPlan {
    pub(crate) id: HostId,
    pub(crate) site: SiteId,
    pub(crate) rack: RackId,
    pub(crate) capacity: Bytes,
    /// Indices into [`Layout::partitions`].
    pub(crate) partitions: Vec<usize>,
}

/// A partition as it is built.
#[derive(Clone, Debug)]
pub(crate) struct PartitionPlan {
    pub(crate) id: PartitionId,
    pub(crate) host: usize,
    pub(crate) traits: Traits,
    /// Requests per second that fill it.
    pub(crate) capacity: f64,
}

/// A workload as it is built.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadPlan {
    pub(crate) id: WorkloadId,
    pub(crate) application: usize,
    pub(crate) partition: usize,
    pub(crate) replicas: Vec<usize>,
    pub(crate) size: Bytes,
    pub(crate) writes_per_s: f64,
    pub(crate) requests_per_s: f64,
    pub(crate) depends_on: Vec<WorkloadId>,
}

/// An application.
#[derive(Clone, Debug)]
pub(crate) struct ApplicationPlan {
    pub(crate) id: ApplicationId,
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
    pub(crate) zone_h: f32,
}

/// Everything as it is built. Lists are sorted by id.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) hosts: Vec<HostPlan>,
    pub(crate) partitions: Vec<PartitionPlan>,
    pub(crate) applications: Vec<ApplicationPlan>,
    pub(crate) workloads: Vec<WorkloadPlan>,
    pub(crate) partition_index: BTreeMap<PartitionId, usize>,
    pub(crate) workload_index: BTreeMap<WorkloadId, usize>,
}

impl Layout {
    /// The layout of `seed`.
    pub(crate) fn draw(seed: u64) -> Self {
        let root = Random::new(seed).fork("layout");
        let (hosts, kinds) = hosts();
        let applications: Vec<ApplicationPlan> = APPLICATIONS
            .iter()
            .map(|(name, kind, _, _)| {
                let mut random = root.fork(name);
                let zone_h = SITES[random.below(SITES.len())].1;
                ApplicationPlan { id: ApplicationId::from(*name), kind: *kind, seed: random.bits(), zone_h }
            })
            .collect();
        let mut partitions: Vec<PartitionPlan> = hosts
            .iter()
            .enumerate()
            .flat_map(|(h, host)| (0..host.partitions.len()).map(move |p| (h, host, p)))
            .zip(&kinds)
            .map(|((h, host, p), kind)| {
                let id = PartitionId::of(&host.id, &format!("p{}", p + 1));
                let traits = Traits::draw(*kind, &mut root.fork(id.as_str()));
                PartitionPlan { id, host: h, traits, capacity: 0.0 }
            })
            .collect();
        let mut workloads = workloads(&root, &hosts, &partitions);
        workloads.sort_by(|a, b| a.id.cmp(&b.id));
        let mut random = root.fork("capacity");
        for (p, partition) in partitions.iter_mut().enumerate() {
            let asked: f64 = workloads.iter().filter(|w| w.partition == p).map(|w| w.requests_per_s).sum();
            partition.capacity = asked.max(500.0) / random.between(0.34, 0.5);
        }
        let partition_index = partitions.iter().enumerate().map(|(i, p)| (p.id.clone(), i)).collect();
        let workload_index = workloads.iter().enumerate().map(|(i, w)| (w.id.clone(), i)).collect();
        Self { hosts, partitions, applications, workloads, partition_index, workload_index }
    }
}

/// The hosts, and for each of their partitions in order the kind of its work, so that every kind
/// has partitions in every rack.
fn hosts() -> (Vec<HostPlan>, Vec<Kind>) {
    let (mut hosts, mut kinds, mut next) = (Vec::new(), Vec::new(), 0usize);
    // Twelve parts: as much of each kind as there is work of it.
    const TURN: [Kind; 12] = [
        Kind::Oltp,
        Kind::Web,
        Kind::Cache,
        Kind::Oltp,
        Kind::Search,
        Kind::Stream,
        Kind::Batch,
        Kind::Oltp,
        Kind::Web,
        Kind::Cache,
        Kind::Stream,
        Kind::Search,
    ];
    for (site, _) in SITES {
        for rack in 1..=RACKS {
            for (i, count) in PARTITIONS.iter().enumerate() {
                let partitions = (next..next + count).collect();
                // 11 partitions a rack: the turn moves on by one from rack to rack.
                kinds.extend((next..next + count).map(|p| TURN[p % TURN.len()]));
                next += count;
                hosts.push(HostPlan {
                    id: HostId::new(format!("{site}-r{rack}-{:02}", 10 * rack + i + 1)),
                    site: SiteId::from(site),
                    rack: RackId::new(format!("{site}-r{rack}")),
                    capacity: Bytes(240_000_000_000),
                    partitions,
                });
            }
        }
    }
    (hosts, kinds)
}

fn workloads(root: &Random, hosts: &[HostPlan], partitions: &[PartitionPlan]) -> Vec<WorkloadPlan> {
    let mut all = Vec::new();
    let mut dealt: BTreeMap<Kind, usize> = BTreeMap::new();
    for (a, (name, kind, count, needs)) in APPLICATIONS.iter().enumerate() {
        let mut random = root.fork(&format!("workloads of {name}"));
        let home: Vec<usize> =
            (0..partitions.len()).filter(|p| partitions[*p].traits.kind == *kind).collect();
        for i in 0..*count {
            let turn = dealt.entry(*kind).or_default();
            let partition = home[*turn % home.len()];
            *turn += 1;
            let stateless = *kind == Kind::Web;
            let (gigabytes, requests, write_share) = match kind {
                Kind::Oltp => (random.between(1.0, 8.0), random.between(200.0, 1500.0), 0.25),
                Kind::Cache => (random.between(0.5, 3.0), random.between(2000.0, 12_000.0), 0.1),
                Kind::Stream => (random.between(1.0, 9.0), random.between(800.0, 4000.0), 0.9),
                Kind::Search => (random.between(1.0, 7.0), random.between(120.0, 600.0), 0.05),
                Kind::Batch => (random.between(2.0, 10.0), random.between(100.0, 400.0), 0.4),
                Kind::Web => (0.0, random.between(300.0, 2500.0), 0.0),
            };
            let copies = if stateless { 0 } else { 1 + usize::from(random.chance(0.3)) };
            let replicas = replicas(partition, copies, &home, hosts, partitions, &mut random);
            let depends_on = needs
                .iter()
                .map(|needed| {
                    let of = APPLICATIONS.iter().find(|b| b.0 == *needed).map_or(1, |b| b.2);
                    named(needed, i % of)
                })
                .collect();
            all.push(WorkloadPlan {
                id: named(name, i),
                application: a,
                partition,
                replicas,
                size: Bytes((gigabytes * 1e3) as u64 * 1_000_000),
                writes_per_s: (requests * write_share).round(),
                requests_per_s: requests.round(),
                depends_on,
            });
        }
    }
    all
}

fn named(application: &str, i: usize) -> WorkloadId {
    WorkloadId::new(format!("{application}-{:02}", i + 1))
}

/// Copies on partitions of the same kind, each in a rack of its own.
fn replicas(
    owner: usize,
    copies: usize,
    home: &[usize],
    hosts: &[HostPlan],
    partitions: &[PartitionPlan],
    random: &mut Random,
) -> Vec<usize> {
    let rack = |p: usize| &hosts[partitions[p].host].rack;
    let mut taken = vec![owner];
    let from = random.below(home.len());
    for offset in 0..home.len() {
        let p = home[(from + offset) % home.len()];
        if taken.len() <= copies && taken.iter().all(|t| rack(*t) != rack(p)) {
            taken.push(p);
        }
    }
    taken.remove(0);
    taken.sort_unstable();
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_fleet_has_the_size_it_is_said_to_have() {
        let layout = Layout::draw(1);
        let racks: std::collections::BTreeSet<_> = layout.hosts.iter().map(|h| h.rack.clone()).collect();
        assert_eq!((layout.hosts.len(), racks.len(), layout.partitions.len()), (24, 6, 66));
        assert!(layout.workloads.len() > 200, "{}", layout.workloads.len());
        assert!(layout.hosts.is_sorted_by(|a, b| a.id < b.id));
        assert!(layout.partitions.is_sorted_by(|a, b| a.id < b.id));
        let empty = (0..66).filter(|p| !layout.workloads.iter().any(|w| w.partition == *p)).count();
        assert_eq!(empty, 0, "every partition has work");
    }

    #[test]
    fn copies_of_a_workload_never_share_a_rack_and_all_needs_exist() {
        for seed in 0..20 {
            let layout = Layout::draw(seed);
            for w in &layout.workloads {
                let racks: std::collections::BTreeSet<_> = w
                    .replicas
                    .iter()
                    .chain([&w.partition])
                    .map(|p| &layout.hosts[layout.partitions[*p].host].rack)
                    .collect();
                assert_eq!(racks.len(), 1 + w.replicas.len(), "{}", w.id);
                assert!(
                    w.depends_on.iter().all(|d| layout.workload_index.contains_key(d)),
                    "{:?}",
                    w.depends_on
                );
            }
        }
    }
}
