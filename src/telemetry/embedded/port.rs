//! The embedded store behind the ports that every time-series database stands behind.

use async_trait::async_trait;
use std::sync::atomic::Ordering;
use tsink::{DataPoint, Label, Row};

use super::scan::Scan;
use super::{EmbeddedStore, StoreError, nanos, written_name};
use crate::fleet::{PartitionId, Span, Timestamp};
use crate::telemetry::source::{Ingest, PullReport, Reading, Sink, SinkError, Source, SourceError, Written};

/// Gives the samples of one series.
fn give(samples: &[(Timestamp, f32)], series: u32, into: &mut dyn Ingest, report: &mut PullReport) {
    for &(at, value) in samples {
        into.push(series, at, value);
        report.newest = report.newest.max(Some(at));
    }
    report.points += samples.len() as u64;
}

impl EmbeddedStore {
    /// Runs a read where it may block.
    async fn apart<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|e| self.failed(e.to_string())).flatten().map_err(|error| match error {
            StoreError::Broken { .. } => SourceError::Broken { detail: error.to_string() },
            error => SourceError::Unreachable { source_name: Source::name(self), detail: error.to_string() },
        })
    }

    /// Runs a read apart, and gives what it found.
    pub(super) async fn deliver(
        &self,
        read: impl FnOnce() -> Result<Scan, StoreError> + Send + 'static,
        into: &mut dyn Ingest,
    ) -> Result<PullReport, SourceError> {
        let scan = self.apart(read).await?;
        let mut report = PullReport { rejected: scan.rejected, bytes: scan.bytes, ..Default::default() };
        for row in &scan.rows {
            let series = into.series(&scan.partitions[row.partition as usize], row.metric.as_str());
            give(&row.samples, series, into, &mut report);
        }
        for (host, labels) in self.labels() {
            labels.iter().for_each(|(key, value)| into.label(&host, key, value));
        }
        Ok(report)
    }
}

#[async_trait]
impl Source for EmbeddedStore {
    fn name(&self) -> String {
        format!("embedded {}", self.0.store.place())
    }

    /// Besides `[since, until)` it gives what was appended behind the last watermark since the last
    /// pull, so that the gap of an agent that was cut off is filled.
    async fn pull(
        &self,
        since: Timestamp,
        until: Timestamp,
        into: &mut dyn Ingest,
    ) -> Result<PullReport, SourceError> {
        let store = self.clone();
        let report = self.deliver(move || store.follow(since, until), into).await?;
        let report = PullReport { lost: self.0.store.take_lost(), ..report };
        if let Some(newest) = report.newest {
            self.0.reported.fetch_max(newest.0, Ordering::AcqRel);
        }
        Ok(report)
    }

    async fn pull_of(
        &self,
        partitions: &[PartitionId],
        since: Timestamp,
        until: Timestamp,
        into: &mut dyn Ingest,
    ) -> Result<Option<PullReport>, SourceError> {
        let mut report = PullReport::default();
        for partition in partitions {
            let (store, wanted) = (self.clone(), partition.clone());
            let read = move || store.histories(&wanted, None, since, until);
            let histories = self.apart(read).await?;
            for (metric, samples) in &histories {
                let series = into.series(partition, metric);
                give(samples, series, into, &mut report);
            }
        }
        Ok(Some(report))
    }

    async fn check(&self) -> Result<String, SourceError> {
        let store = self.clone();
        let partitions = self.apart(move || store.partitions()).await?;
        let kept = match self.0.retention {
            Some(kept) if kept < Span::days(30) => {
                format!("{kept} kept (WARNING: baselines and training want 30 days)")
            }
            Some(kept) => format!("{kept} kept"),
            None => "everything kept".to_string(),
        };
        Ok(format!("embedded store at {}: {} partitions, {kept}", self.0.store.place(), partitions.len()))
    }
}

#[async_trait]
impl Sink for EmbeddedStore {
    fn name(&self) -> String {
        format!("embedded {}", self.0.store.place())
    }

    async fn check(&self) -> Result<String, SinkError> {
        Ok(format!("embedded {}: scores may be written", self.0.store.place()))
    }

    async fn write(&self, readings: &[Reading]) -> Result<Written, SinkError> {
        let mut written = Written::default();
        let mut rows = Vec::new();
        for reading in readings {
            let labels: Vec<Label> = reading
                .tags
                .iter()
                .filter(|(key, _)| !key.is_empty())
                .map(|(key, value)| Label::new(key.as_str(), value.as_str()))
                .collect();
            let before = rows.len();
            for (field, value) in reading.fields.iter().filter(|(_, value)| value.is_finite()) {
                rows.push(Row::with_labels(
                    written_name(&reading.measurement, field),
                    labels.clone(),
                    DataPoint::new(nanos(reading.at), *value),
                ));
            }
            if rows.len() > before {
                written.accepted += 1;
            } else {
                written.left_out += 1;
            }
        }
        let store = self.clone();
        let sink = Sink::name(self);
        tokio::task::spawn_blocking(move || store.insert_rows(&mut rows))
            .await
            .map_err(|e| self.failed(e.to_string()))
            .flatten()
            .map(|()| written)
            .map_err(|e| SinkError {
                sink,
                retryable: !matches!(e, StoreError::Full { .. }),
                detail: e.to_string(),
                wait: None,
            })
    }
}
