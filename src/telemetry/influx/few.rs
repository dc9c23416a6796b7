//! Some partitions of what hosts are asked for: the others' samples are left.

use std::collections::HashSet;

use crate::fleet::{HostId, PartitionId, Timestamp};
use crate::telemetry::source::Ingest;

/// Hands the samples of some partitions on.
pub(super) struct Few<'a> {
    partitions: HashSet<&'a PartitionId>,
    /// A counter's first growth is of the step before, which was not asked for.
    since: Timestamp,
    into: &'a mut dyn Ingest,
    /// The number of each series where the samples go; `None` = they are left.
    series: Vec<Option<u32>>,
    /// Samples handed on.
    pub(super) given: u64,
}

impl<'a> Few<'a> {
    pub(super) fn new(partitions: &'a [PartitionId], since: Timestamp, into: &'a mut dyn Ingest) -> Self {
        Self { partitions: partitions.iter().collect(), since, into, series: Vec::new(), given: 0 }
    }
}

impl Ingest for Few<'_> {
    fn series(&mut self, partition: &PartitionId, metric: &str) -> u32 {
        let wanted = self.partitions.contains(partition);
        self.series.push(wanted.then(|| self.into.series(partition, metric)));
        u32::try_from(self.series.len() - 1).unwrap_or(u32::MAX)
    }

    fn push(&mut self, series: u32, at: Timestamp, value: f32) {
        let into = self.series.get(series as usize).copied().flatten();
        if let Some(into) = into.filter(|_| at >= self.since) {
            self.into.push(into, at, value);
            self.given += 1;
        }
    }

    fn label(&mut self, host: &HostId, key: &str, value: &str) {
        self.into.label(host, key, value);
    }
}
