//! What is known of the fleet besides its metrics: what stands where, what is hosted, what failed.
//! Names become dense numbers here, once for each change of the topology, so that a cycle touches
//! no name.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

pub use super::failure::Outcome;
use crate::fleet::{ApplicationId, HostId, PartitionId, Span, Timestamp, Topology, Workload, WorkloadId};

/// Whose failure it was.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A partition.
    Partition(PartitionId),
    /// A workload.
    Workload(WorkloadId),
    /// A host, and so every partition on it.
    Host(HostId),
}

/// One entry of the failure history.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PastFailure {
    /// Whose.
    pub subject: Subject,
    /// When.
    pub at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
}

/// What an assessment is told besides the windows.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What stands where.
    pub topology: &'a Topology,
    /// What failed of late, in any order; only entries with [`Outcome::Failed`] count.
    pub failures: &'a [PastFailure],
}

/// The application whose work is done where these workloads stand: that of most of them, of several the
/// first by name. It does not follow the load, so that no model takes turns with another by the minute.
pub fn application_of<'t>(work: impl Iterator<Item = &'t Workload>) -> Option<&'t ApplicationId> {
    let mut counts: BTreeMap<&ApplicationId, usize> = BTreeMap::new();
    work.for_each(|workload| *counts.entry(&workload.application).or_default() += 1);
    let most = counts.iter().rev().max_by_key(|(_, count)| **count);
    most.map(|(application, _)| *application)
}

/// Past failures count half after this long.
const HALF_LIFE: Span = Span::days(14);

/// The context by dense number of partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Derived {
    key: Option<(u64, usize, usize, usize, i64)>,
    /// Group of partitions that are alike: same class, most of the same kind of work.
    pub(super) group: Vec<u32>,
    /// Group of the same class.
    pub(super) class: Vec<u32>,
    /// Members of each group, sorted; group 0 is the whole fleet.
    pub(super) members: Vec<Vec<u32>>,
    /// Kind of work that most of the hosted work is; index into `kinds`.
    pub(super) kind: Vec<u16>,
    /// Kinds of work; the first is none.
    pub(super) kinds: Vec<String>,
    /// The application whose work a partition does, see [`application_of`].
    pub(super) application: Vec<Option<ApplicationId>>,
    /// Past failures of the partition and its host, fading with time.
    pub(super) failures: Vec<f32>,
    /// Changes when other work is hosted.
    pub(super) regime: Vec<u64>,
    /// How many workloads are hosted.
    pub(super) hosted: Vec<u32>,
    /// The topology knows it.
    pub(super) known: Vec<bool>,
    /// Names of the groups, `class/kind`, by their number; those of classes are empty.
    group_names: Vec<String>,
}

impl Derived {
    /// `class/kind` of a partition's group: its application for models that are shared.
    pub(super) fn group_name(&self, partition: usize) -> &str {
        let group = self.group.get(partition).copied().unwrap_or(0);
        self.group_names.get(group as usize).map_or("", String::as_str)
    }

    /// Brings the dense arrays up to date; cheap where nothing has changed. Returns whether they
    /// changed.
    pub(super) fn refresh(&mut self, context: &Context, partitions: &[PartitionId], now: Timestamp) -> bool {
        let topology = context.topology;
        let key = (
            topology.revision.0,
            partitions.len(),
            topology.partitions.len() ^ (topology.workloads.len() << 32),
            context.failures.iter().filter(|f| f.outcome == Outcome::Failed).count(),
            // Past failures fade by the hour.
            now.0.div_euclid(3_600_000),
        );
        if self.key == Some(key) {
            return false;
        }
        *self = Derived { key: Some(key), kinds: vec![String::new()], ..Derived::default() };
        let mut hosted: HashMap<&PartitionId, Vec<usize>> = HashMap::new();
        for (i, workload) in topology.workloads.iter().enumerate() {
            hosted.entry(&workload.partition).or_default().push(i);
        }
        let mut failed: HashMap<&Subject, f32> = HashMap::new();
        for failure in context.failures.iter().filter(|f| f.outcome == Outcome::Failed) {
            let age = failure.at.age(now).0 as f64 / HALF_LIFE.0 as f64;
            *failed.entry(&failure.subject).or_default() += (0.5f64).powf(age) as f32;
        }
        let mut groups: HashMap<(String, Option<u16>), u32> = HashMap::new();
        self.members = vec![(0..partitions.len() as u32).collect()];
        self.group_names = vec![String::new()];
        for (ix, id) in partitions.iter().enumerate() {
            let partition = topology.partition(id);
            let mut kinds: BTreeMap<&str, f64> = BTreeMap::new();
            let mut regime = 0u64;
            for &w in hosted.get(id).map_or(&[][..], Vec::as_slice) {
                let workload = &topology.workloads[w];
                *kinds.entry(&workload.kind).or_default() += 1.0 + workload.requests_per_s.max(0.0);
                let digest = blake3::hash(workload.id.as_str().as_bytes());
                let word: [u8; 8] = digest.as_bytes()[..8].try_into().expect("a hash has 32 bytes");
                regime ^= u64::from_le_bytes(word);
            }
            let most = kinds.iter().max_by(|a, b| a.1.total_cmp(b.1)).map_or("", |k| k.0);
            let kind = match self.kinds.iter().position(|k| k == most) {
                Some(kind) => kind,
                None if self.kinds.len() < usize::from(u16::MAX) => {
                    self.kinds.push(most.to_string());
                    self.kinds.len() - 1
                }
                None => 0,
            } as u16;
            let class = partition.map_or("", |p| p.class.as_str());
            let next = self.members.len() as u32;
            let of_class = *groups.entry((class.to_string(), None)).or_insert(next);
            if of_class == next {
                self.members.push(Vec::new());
                self.group_names.push(String::new());
            }
            let next = self.members.len() as u32;
            let group = *groups.entry((class.to_string(), Some(kind))).or_insert(next);
            if group == next {
                self.members.push(Vec::new());
                self.group_names.push(format!("{class}/{most}"));
            }
            let work = hosted.get(id).into_iter().flatten().map(|&w| &topology.workloads[w]);
            self.application.push(application_of(work).cloned());
            self.members[of_class as usize].push(ix as u32);
            self.members[group as usize].push(ix as u32);
            self.group.push(group);
            self.class.push(of_class);
            self.kind.push(kind);
            self.regime.push(regime);
            self.hosted.push(hosted.get(id).map_or(0, Vec::len) as u32);
            self.known.push(partition.is_some());
            let of_partition = failed.get(&Subject::Partition(id.clone())).copied().unwrap_or(0.0);
            let host = partition.map_or_else(|| id.host(), |p| p.host.clone());
            let of_host = failed.get(&Subject::Host(host)).copied().unwrap_or(0.0);
            self.failures.push((of_partition + of_host).min(4.0));
        }
        true
    }
}
