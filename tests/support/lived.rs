//! A life of the simulated fleet that a test can write into any database: samples in steps of 30 s as the
//! agents send them, and what died.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use foreshift::fleet::{Clock, HostId, ManualClock, PartitionId, Span, Timestamp};
use foreshift::sim::{DemoOptions, HistoryPlan, SimFleet};
use foreshift::telemetry::{EmbeddedStore, Ingest, Source};

/// Monday, 2026-01-05T00:00:00Z.
pub const START: Timestamp = Timestamp(1_767_571_200_000);

/// Host, partitions, when.
pub type Death = (String, Vec<PartitionId>, Timestamp);

/// Samples by moment and partition.
#[derive(Default)]
pub struct Rows {
    names: Vec<(PartitionId, String)>,
    rows: BTreeMap<(i64, PartitionId), BTreeMap<String, f32>>,
}

impl Ingest for Rows {
    fn series(&mut self, partition: &PartitionId, metric: &str) -> u32 {
        self.names.push((partition.clone(), metric.into()));
        self.names.len() as u32 - 1
    }

    fn push(&mut self, series: u32, at: Timestamp, value: f32) {
        let (partition, metric) = self.names[series as usize].clone();
        self.rows.entry((at.0, partition)).or_default().insert(metric, value);
    }

    fn label(&mut self, _: &HostId, _: &str, _: &str) {}
}

impl Rows {
    /// Line protocol of our agent's measurement, in bodies of some thousand lines, before `until`.
    pub fn bodies(&self, until: Timestamp) -> Vec<String> {
        let mut lines = Vec::new();
        for ((at, partition), metrics) in self.rows.iter().filter(|((at, _), _)| *at < until.0) {
            let (host, part) = partition.as_str().split_once('/').unwrap_or((partition.as_str(), ""));
            let mut line = format!("foreshift_agent,host={host},partition={part} ");
            for (i, (metric, value)) in metrics.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                write!(line, "{comma}{metric}={value}").unwrap();
            }
            lines.push(format!("{line} {at}\n"));
        }
        lines.chunks(5000).map(<[String]>::concat).collect()
    }
}

/// A day of the simulated fleet's past and `length` of its life, in steps of 30 s, and what died: host,
/// partitions, when.
pub async fn life(seed: u64, length: Span) -> (Rows, Vec<Death>) {
    let clock = Arc::new(ManualClock::at(START));
    let mut options = DemoOptions::new(clock.clone());
    options.history = HistoryPlan { span: Span::days(1), ..HistoryPlan::default() };
    let mut fleet = SimFleet::new(seed, options);
    let store = EmbeddedStore::in_memory().unwrap();
    store.append_many(&fleet.history()).unwrap();
    let mut rows = Rows::default();
    store.pull(START - Span::days(2), START, &mut rows).await.unwrap();
    while clock.now() < START + length {
        clock.advance(Span::seconds(5));
        for message in fleet.step_to(clock.now()) {
            for reading in message.readings.iter().filter(|r| r.at.0 % 30_000 == 0) {
                let partition = PartitionId::of(&message.host, &reading.partition);
                let metrics = reading.metrics.iter().map(|(m, v)| (m.clone(), *v as f32));
                rows.rows.insert((reading.at.0, partition), metrics.collect());
            }
        }
    }
    let ledger = fleet.ledger();
    let died = ledger.failures.iter().filter(|f| !f.harmless).filter_map(|f| {
        Some((f.host.to_string(), f.partitions.clone(), f.died.filter(|at| *at <= START + length)?))
    });
    (rows, died.collect())
}
