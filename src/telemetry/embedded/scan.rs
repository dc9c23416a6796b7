//! Reading blocks by range, and the samples that came behind the watermark.

use std::collections::VecDeque;

use tsink::DataPoint;

use super::Batch;
use super::block::Block;
use crate::fleet::{MetricName, PartitionId, Timestamp};

/// Samples that wait for the next pull because they came behind the watermark.
const MOST_LATE: u64 = 4_000_000;

/// One column on its way from the store into the windows.
pub(super) struct Run {
    pub(super) partition: u32,
    pub(super) metric: MetricName,
    pub(super) samples: Vec<(Timestamp, f32)>,
}

/// What a range read gave.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) partitions: Vec<PartitionId>,
    pub(super) rows: Vec<Run>,
    pub(super) bytes: u64,
    pub(super) rejected: u64,
}

#[derive(Default)]
pub(super) struct Late {
    pub(super) waiting: VecDeque<(PartitionId, Batch)>,
    samples: u64,
}

impl Late {
    pub(super) fn put(&mut self, partition: PartitionId, batch: Batch, samples: u64) {
        self.waiting.push_back((partition, batch));
        self.samples += samples;
        while self.samples > MOST_LATE {
            let Some((_, dropped)) = self.waiting.pop_front() else { break };
            self.samples -= dropped.samples();
        }
    }
}

impl Scan {
    fn number_of(&mut self, partition: PartitionId) -> u32 {
        self.partitions.push(partition);
        (self.partitions.len() - 1) as u32
    }

    pub(super) fn take(
        &mut self,
        partition: PartitionId,
        points: &[DataPoint],
        only: Option<&str>,
        from: Timestamp,
        to: Timestamp,
    ) {
        let number = self.number_of(partition);
        for point in points {
            let Some(bytes) = point.value_as_bytes() else { continue };
            self.bytes += bytes.len() as u64;
            let Some(block) = Block::read(bytes) else {
                self.rejected += 1;
                continue;
            };
            for column in block.columns().filter(|c| only.is_none_or(|only| c.metric == only)) {
                let samples = block.times.iter().copied().zip(column.values());
                self.put_row(number, column.metric, samples.filter(|(at, _)| *at >= from && *at < to));
            }
        }
    }

    pub(super) fn take_late(&mut self, partition: PartitionId, batch: &Batch, before: Timestamp) {
        let number = self.number_of(partition);
        for (metric, values) in batch.columns() {
            let samples = batch.times().iter().copied().zip(values.iter().copied());
            self.put_row(number, metric.as_str(), samples.filter(|(at, _)| *at < before));
        }
    }

    fn put_row(&mut self, partition: u32, metric: &str, samples: impl Iterator<Item = (Timestamp, f32)>) {
        let samples: Vec<_> = samples.filter(|(_, value)| !value.is_nan()).collect();
        if !samples.is_empty() {
            self.rows.push(Run { partition, metric: MetricName::from(metric), samples });
        }
    }
}
