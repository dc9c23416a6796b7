//! Whom people have forbidden to touch.

use std::collections::BTreeMap;

use crate::fleet::{Partition, Topology, Workload};

/// Names of partitions, hosts, workloads and applications that nothing may touch, each with who forbade it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Vetoes(pub BTreeMap<String, String>);

impl Vetoes {
    /// Why a workload may not be touched: by its own name, its application's, or that of the partition or host it
    /// is on.
    pub fn on(&self, workload: &Workload, topology: &Topology) -> Option<String> {
        let host = topology.partition(&workload.partition).map_or("", |p| p.host.as_str());
        let (own, application) = (workload.id.as_str(), workload.application.as_str());
        self.among(&[own, application, workload.partition.as_str(), host])
    }

    /// Why a partition may not be touched: by its or its host's name.
    pub fn at(&self, partition: &Partition) -> Option<String> {
        self.among(&[partition.id.as_str(), partition.host.as_str()])
    }

    fn among(&self, names: &[&str]) -> Option<String> {
        let (name, by) = names.iter().find_map(|name| self.0.get_key_value(*name))?;
        Some(format!("{by} has forbidden to touch {name}"))
    }
}
