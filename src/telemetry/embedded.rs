//! The embedded time-series store: on disk (or in memory), in this process, no server. Agents and
//! the simulator write batches into it, the engine reads it through the same ports as any server.
//!
//! `tsink` underneath does the write-ahead log, compression, compaction and retention. What is put
//! into it is not points but blocks (see `block`): one row for all metrics of a partition over one
//! message, stamped with its last point in time, so a pull since a watermark reads what is new and
//! nothing else. Values that the engine writes back ([`Sink`]) are series of their own.

mod aside;
mod block;
mod labels;
mod options;
mod port;
mod scan;
mod upkeep;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tsink::{DataPoint, Label, Row, TsinkError, Value};

pub use aside::Aside;
pub use block::Batch;
pub use options::{EmbeddedOptions, StoreError};

use labels::{Labels, read_labels, write_labels};
use scan::{Late, Scan};
use upkeep::Upkeep;

use crate::fleet::{Clock, HostId, PartitionId, Span, SystemClock, Timestamp};

/// Longest span of one block; how much too much a query by range may read.
const BLOCK_SPAN: Span = Span::hours(6);
/// Name of the series that hold blocks; one a partition.
const BLOCKS: &str = "b";
/// Prefix of the series that hold values written back.
const WRITTEN: &str = "w:";
/// Rows handed to the store in one call.
const ROWS_A_CALL: usize = 4096;

/// What an append did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Appended {
    /// Samples kept.
    pub samples: u64,
    /// Samples refused because they are older than what is kept.
    pub expired: u64,
}

/// Values written back, by their tags, with their points in time.
pub type WrittenSeries = Vec<(Vec<(String, String)>, Vec<(Timestamp, f64)>)>;

/// The store. Cheap to clone; closed when the last clone is dropped.
#[derive(Clone)]
pub struct EmbeddedStore(Arc<Inner>);

struct Inner {
    store: Upkeep,
    path: Option<PathBuf>,
    temporary: bool,
    retention: Option<Span>,
    /// Makes stamps different: two blocks of a partition may end in the same millisecond.
    sequence: AtomicU64,
    /// The newest sample that a pull has reported; older ones that come later go to `late`.
    reported: AtomicI64,
    late: Mutex<Late>,
    labels: Mutex<Labels>,
}

impl EmbeddedStore {
    /// Opens or makes the store.
    ///
    /// # Errors
    /// Where the folder cannot be used.
    pub fn open(options: EmbeddedOptions) -> Result<Self, StoreError> {
        Self::build(options, false)
    }

    /// A store in memory that keeps everything: for tests and short demonstrations.
    ///
    /// # Errors
    /// As `open`.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::build(EmbeddedOptions { retention: None, memory: 512 << 20, ..Default::default() }, false)
    }

    /// A store on disk in a new folder under the system's folder for temporary files, removed when
    /// the last clone is dropped; keeps everything, so simulated time may be any time.
    ///
    /// # Errors
    /// As `open`.
    pub fn temporary() -> Result<Self, StoreError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("foreshift-{}-{}-{number}", std::process::id(), SystemClock.now().0);
        let options = EmbeddedOptions {
            path: Some(std::env::temp_dir().join(name)),
            retention: None,
            ..Default::default()
        };
        Self::build(options, true)
    }

    fn build(options: EmbeddedOptions, temporary: bool) -> Result<Self, StoreError> {
        // A process may change its folder; the store stays where it was opened.
        let path = options.path.map(|path| std::path::absolute(&path).unwrap_or(path));
        let retention = options.retention;
        let logged = path.is_some() && !temporary;
        let store = Upkeep::open(EmbeddedOptions { path: path.clone(), ..options }, logged)?;
        let labels = path
            .as_deref()
            .map(read_labels)
            .transpose()
            .map_err(|detail| StoreError::Open { place: store.place().to_string(), detail })?;
        Ok(Self(Arc::new(Inner {
            store,
            path,
            temporary,
            retention,
            sequence: AtomicU64::new(0),
            reported: AtomicI64::new(i64::MIN),
            late: Mutex::default(),
            labels: Mutex::new(labels.unwrap_or_default()),
        })))
    }

    /// Appends one batch.
    ///
    /// # Errors
    /// Where the store is full or failed.
    pub fn append(&self, partition: &PartitionId, batch: &Batch) -> Result<Appended, StoreError> {
        self.append_many(std::slice::from_ref(&(partition.clone(), batch.clone())))
    }

    /// Appends many batches; the quick way in.
    ///
    /// # Errors
    /// Where the store is full or failed; what was appended before stays.
    pub fn append_many(&self, batches: &[(PartitionId, Batch)]) -> Result<Appended, StoreError> {
        let inner = &*self.0;
        let oldest = inner.retention.map(|kept| SystemClock.now() - kept + Span::minutes(1));
        let reported = Timestamp(inner.reported.load(Ordering::Acquire));
        let mut done = Appended::default();
        let mut rows = Vec::with_capacity(batches.len().min(ROWS_A_CALL));
        for (partition, batch) in batches {
            for piece in batch.split(BLOCK_SPAN) {
                let Some((first, last)) = piece.range() else { continue };
                let samples = piece.samples();
                if oldest.is_some_and(|oldest| last < oldest) {
                    done.expired += samples;
                    continue;
                }
                done.samples += samples;
                let stamp = self.stamp(last);
                rows.push(Row::with_labels(
                    BLOCKS,
                    vec![Label::new("p", partition.as_str())],
                    DataPoint::new(stamp, Value::Bytes(piece.encode())),
                ));
                if first < reported {
                    lock(&inner.late).put(partition.clone(), piece, samples);
                }
                if rows.len() == ROWS_A_CALL {
                    self.insert_rows(&mut rows)?;
                }
            }
        }
        self.insert_rows(&mut rows)?;
        Ok(done)
    }

    /// Appends samples of one metric.
    ///
    /// # Errors
    /// As `append_many`.
    pub fn insert(
        &self,
        partition: &PartitionId,
        metric: &str,
        samples: &[(Timestamp, f32)],
    ) -> Result<Appended, StoreError> {
        let (times, values) = samples.iter().copied().unzip();
        self.append(partition, &Batch::new(times).with_column(metric, values))
    }

    /// Keeps a label of a host (`rack`, `site`, …) beside the samples.
    ///
    /// # Errors
    /// Where it cannot be written to disk.
    pub fn put_label(&self, host: &HostId, key: &str, value: &str) -> Result<(), StoreError> {
        let mut labels = lock(&self.0.labels);
        let of_host = labels.entry(host.clone()).or_default();
        if of_host.get(key).is_some_and(|known| known == value) {
            return Ok(());
        }
        of_host.insert(key.to_string(), value.to_string());
        match &self.0.path {
            Some(path) if !self.0.temporary => write_labels(path, &labels).map_err(|e| self.failed(e)),
            _ => Ok(()),
        }
    }

    /// The labels of all hosts.
    pub fn labels(&self) -> BTreeMap<HostId, BTreeMap<String, String>> {
        lock(&self.0.labels).clone()
    }

    /// The partitions that have samples, sorted.
    ///
    /// # Errors
    /// Where the store failed.
    pub fn partitions(&self) -> Result<Vec<PartitionId>, StoreError> {
        let series = self.0.store.ask(|store| store.list_metrics())?;
        let mut partitions: Vec<PartitionId> = series
            .into_iter()
            .filter(|s| s.name == BLOCKS)
            .filter_map(|s| s.labels.into_iter().find(|l| l.name == "p"))
            .map(|label| PartitionId::from(label.value))
            .collect();
        partitions.sort();
        partitions.dedup();
        Ok(partitions)
    }

    /// All samples of one metric in `[from, to)`, oldest first, each point in time once.
    ///
    /// # Errors
    /// Where the store failed.
    pub fn history(
        &self,
        partition: &PartitionId,
        metric: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(Timestamp, f32)>, StoreError> {
        Ok(self.histories(partition, Some(metric), from, to)?.remove(metric).unwrap_or_default())
    }

    /// The same for every metric of the partition, or for the one that is named, by name.
    ///
    /// # Errors
    /// Where the store failed.
    pub fn histories(
        &self,
        partition: &PartitionId,
        only: Option<&str>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<BTreeMap<String, Vec<(Timestamp, f32)>>, StoreError> {
        let label = [Label::new("p", partition.as_str())];
        let (start, end) = self.block_range(from, to);
        if start >= end {
            return Ok(BTreeMap::new());
        }
        let points = self.0.store.ask(|store| match store.select(BLOCKS, &label, start, end) {
            Err(TsinkError::NoDataPoints { .. }) => Ok(Vec::new()),
            points => points,
        })?;
        let mut scan = Scan::default();
        scan.take(partition.clone(), &points, only, from, to);
        let mut histories: BTreeMap<String, Vec<(Timestamp, f32)>> = BTreeMap::new();
        for row in scan.rows {
            histories.entry(row.metric.to_string()).or_default().extend(row.samples);
        }
        for samples in histories.values_mut() {
            samples.sort_by_key(|(at, _)| *at);
            samples.dedup_by_key(|(at, _)| *at);
        }
        Ok(histories)
    }

    /// What the engine wrote back: the values of a field of a measurement in `[from, to)`, by tags.
    ///
    /// # Errors
    /// Where the store failed.
    pub fn written(
        &self,
        measurement: &str,
        field: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<WrittenSeries, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let name = written_name(measurement, field);
        let series = self.0.store.ask(|store| store.select_all(&name, nanos(from), nanos(to)))?;
        Ok(series
            .into_iter()
            .map(|(labels, points)| {
                let tags = labels.into_iter().map(|l| (l.name, l.value)).collect();
                let values = points
                    .iter()
                    .filter_map(|p| Some((Timestamp(p.timestamp.div_euclid(1_000_000)), p.value_as_f64()?)));
                (tags, values.collect())
            })
            .collect())
    }

    /// Bytes of memory in use for what is not yet on disk.
    pub fn memory_used(&self) -> usize {
        self.0.store.memory_used()
    }

    fn stamp(&self, at: Timestamp) -> i64 {
        let number = self.0.sequence.fetch_add(1, Ordering::Relaxed) % 1_000_000;
        nanos(at).saturating_add(number as i64)
    }

    /// Stamps of the blocks that may hold samples of `[from, to)`: a block is stamped with its last
    /// point in time and is at most [`BLOCK_SPAN`] long.
    fn block_range(&self, from: Timestamp, to: Timestamp) -> (i64, i64) {
        (nanos(from), nanos(to + BLOCK_SPAN))
    }

    fn insert_rows(&self, rows: &mut Vec<Row>) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let done = self.0.store.write(rows);
        rows.clear();
        done
    }

    /// What is stored of `[since, until)`. Blocks on disk; not on a runtime's thread.
    fn scan(&self, since: Timestamp, until: Timestamp) -> Result<Scan, StoreError> {
        let mut scan = Scan::default();
        let (start, end) = self.block_range(since, until);
        if start < end {
            let series = self.0.store.ask(|store| store.select_all(BLOCKS, start, end))?;
            for (labels, points) in series {
                let Some(label) = labels.into_iter().find(|l| l.name == "p") else { continue };
                scan.take(PartitionId::from(label.value), &points, None, since, until);
            }
        }
        Ok(scan)
    }

    /// The same, and what came behind the watermark; each of those is given once.
    fn follow(&self, since: Timestamp, until: Timestamp) -> Result<Scan, StoreError> {
        let mut scan = self.scan(since, until)?;
        let late = std::mem::take(&mut *lock(&self.0.late));
        for (partition, batch) in late.waiting {
            scan.take_late(partition, &batch, since);
        }
        Ok(scan)
    }

    fn failed(&self, detail: String) -> StoreError {
        StoreError::Failed { place: self.0.store.place().to_string(), detail }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.store.close() {
            tracing::warn!(place = %self.store.place(), %error, "the embedded store did not close cleanly");
        }
        if let (true, Some(path)) = (self.temporary, &self.path) {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanos(at: Timestamp) -> i64 {
    at.0.saturating_mul(1_000_000)
}

fn written_name(measurement: &str, field: &str) -> String {
    format!("{WRITTEN}{measurement}:{field}")
}

#[cfg(test)]
mod tests;
