//! An ingest that keeps everything, so that a test can look at what a source gave.

#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;

use foreshift::fleet::{HostId, PartitionId, Timestamp};
use foreshift::telemetry::Ingest;

/// Everything that was pushed.
#[derive(Default)]
pub struct Ingested {
    names: Vec<(String, String)>,
    /// By partition and metric: the samples in the order they came.
    pub samples: BTreeMap<(String, String), Vec<(i64, f32)>>,
    /// By host: its labels.
    pub labels: BTreeMap<String, BTreeMap<String, String>>,
}

impl Ingested {
    /// The samples of one series.
    pub fn of(&self, partition: &str, metric: &str) -> &[(i64, f32)] {
        self.samples.get(&(partition.to_string(), metric.to_string())).map_or(&[], Vec::as_slice)
    }

    /// Its newest value.
    pub fn last(&self, partition: &str, metric: &str) -> Option<f32> {
        self.of(partition, metric).iter().max_by_key(|(at, _)| *at).map(|(_, value)| *value)
    }

    /// How many samples came.
    pub fn points(&self) -> usize {
        self.samples.values().map(Vec::len).sum()
    }

    /// The partitions that have samples.
    pub fn partitions(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.samples.keys().map(|(partition, _)| partition.as_str()).collect();
        names.dedup();
        names
    }
}

impl Ingest for Ingested {
    fn series(&mut self, partition: &PartitionId, metric: &str) -> u32 {
        let name = (partition.to_string(), metric.to_string());
        if let Some(index) = self.names.iter().position(|n| *n == name) {
            return index as u32;
        }
        self.names.push(name);
        self.names.len() as u32 - 1
    }

    fn push(&mut self, series: u32, at: Timestamp, value: f32) {
        let name = self.names[series as usize].clone();
        self.samples.entry(name).or_default().push((at.0, value));
    }

    fn label(&mut self, host: &HostId, key: &str, value: &str) {
        self.labels.entry(host.to_string()).or_default().insert(key.into(), value.into());
    }
}
