//! Columnar windows: `[partition][metric][time]`, `f32`, on one fixed time grid for the whole
//! fleet. Missing is NaN and nothing else; how old the newest sample is stands beside it. Names are
//! interned here, once, and everything behind works with dense numbers.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::schema::CANONICAL;
use super::source::Ingest;
use crate::fleet::{HostId, MetricName, PartitionId, Span, Timestamp};

/// The dense number of a partition within one [`Windows`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PartitionIx(pub u32);

/// The dense number of a metric within one [`Windows`]; the first sixteen are the canonical ones in
/// their order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MetricIx(pub u16);

/// The size of the windows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct WindowsConfig {
    /// Width of one slot of the grid.
    pub step: Span,
    /// Slots kept; `step × len` is the span that is held in memory.
    pub len: usize,
    /// Metrics kept for a partition; what comes beyond is dropped and counted.
    pub max_metrics: usize,
    /// How far a sample may be ahead of the engine's clock before it is dropped and counted.
    pub max_skew: Span,
}

impl Default for WindowsConfig {
    /// Two hours and four minutes in slots of 30 seconds; 64 metrics; one minute of skew.
    fn default() -> Self {
        Self { step: Span::seconds(30), len: 248, max_metrics: 64, max_skew: Span::minutes(1) }
    }
}

/// What was met on the way in; every sample is in exactly one of the counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WindowCounters {
    /// Samples taken.
    pub taken: u64,
    /// NaN or infinite.
    pub not_finite: u64,
    /// Older than the window.
    pub late: u64,
    /// Ahead of the engine's clock by more than the allowed skew.
    pub future: u64,
    /// Of a metric beyond the most that is kept.
    pub metric_overflow: u64,
}

/// The windows of the whole fleet.
#[derive(Clone, Debug)]
pub struct Windows {
    config: WindowsConfig,
    partitions: Vec<PartitionId>,
    partition_index: HashMap<PartitionId, PartitionIx>,
    metrics: Vec<MetricName>,
    metric_index: HashMap<MetricName, MetricIx>,
    /// Series handed out by `Ingest::series`: partition and metric; `None` = dropped metric.
    series: Vec<(PartitionIx, Option<MetricIx>)>,
    series_index: HashMap<(PartitionIx, MetricIx), u32>,
    /// Series whose metric was dropped, by name.
    dropped: HashMap<(PartitionIx, String), u32>,
    labels: HashMap<HostId, HashMap<String, String>>,
    /// `[partition][metric][slot % len]`
    values: Vec<f32>,
    /// Samples averaged into each slot.
    counts: Counts,
    /// `[partition][metric]`: time of the newest sample in ms; `i64::MIN` = never.
    newest: Vec<i64>,
    /// Metrics a partition has room for now.
    width: usize,
    /// Number of the newest slot: its start divided by the step.
    head: i64,
    now: Timestamp,
    counters: WindowCounters,
}

impl Windows {
    /// Empty windows whose newest slot holds `now`.
    ///
    /// # Panics
    /// Never for a step of at least a millisecond and at least two slots; smaller values are raised
    /// to these.
    pub fn new(config: WindowsConfig, now: Timestamp) -> Self {
        let config = WindowsConfig {
            step: config.step.max(Span::millis(1)),
            len: config.len.max(2),
            max_metrics: config.max_metrics.max(CANONICAL.len()),
            ..config
        };
        let metrics: Vec<MetricName> = CANONICAL.iter().map(|m| MetricName::from(m.name)).collect();
        let metric_index = metrics.iter().cloned().zip((0u16..).map(MetricIx)).collect();
        Self {
            config,
            partitions: Vec::new(),
            partition_index: HashMap::new(),
            width: metrics.len(),
            metrics,
            metric_index,
            series: Vec::new(),
            series_index: HashMap::new(),
            dropped: HashMap::new(),
            labels: HashMap::new(),
            values: Vec::new(),
            counts: Counts::new(config.len),
            newest: Vec::new(),
            head: now.0.div_euclid(config.step.0),
            now,
            counters: WindowCounters::default(),
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> WindowsConfig {
        self.config
    }

    /// The time up to which the windows were advanced.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Partitions, in the order of their numbers.
    pub fn partitions(&self) -> &[PartitionId] {
        &self.partitions
    }

    /// Metrics, in the order of their numbers.
    pub fn metrics(&self) -> &[MetricName] {
        &self.metrics
    }

    /// The number of a partition.
    pub fn partition(&self, id: &PartitionId) -> Option<PartitionIx> {
        self.partition_index.get(id).copied()
    }

    /// The number of a metric.
    pub fn metric(&self, name: &str) -> Option<MetricIx> {
        self.metric_index.get(&MetricName::from(name)).copied()
    }

    /// What was counted on the way in since the start.
    pub fn counters(&self) -> WindowCounters {
        self.counters
    }

    /// Labels that sources reported for hosts.
    pub fn labels(&self) -> &HashMap<HostId, HashMap<String, String>> {
        &self.labels
    }

    /// Start of the newest slot.
    pub fn head(&self) -> Timestamp {
        Timestamp(self.head * self.config.step.0)
    }

    /// Start of the oldest slot.
    pub fn tail(&self) -> Timestamp {
        Timestamp((self.head + 1 - self.config.len as i64) * self.config.step.0)
    }

    /// Interns a partition, with room for all metrics.
    pub fn intern(&mut self, id: &PartitionId) -> PartitionIx {
        if let Some(&ix) = self.partition_index.get(id) {
            return ix;
        }
        let ix = PartitionIx(u32::try_from(self.partitions.len()).expect("fewer than 2^32 partitions"));
        self.partitions.push(id.clone());
        self.partition_index.insert(id.clone(), ix);
        let rows = self.partitions.len() * self.width;
        self.values.resize(rows * self.config.len, f32::NAN);
        self.counts.resize(rows);
        self.newest.resize(rows, i64::MIN);
        ix
    }

    /// Moves the grid on so that its newest slot holds `now`. Time going backwards leaves the grid
    /// where it is.
    pub fn advance(&mut self, now: Timestamp) {
        self.now = now;
        let head = now.0.div_euclid(self.config.step.0);
        let len = self.config.len as i64;
        if head <= self.head {
            return;
        }
        if head - self.head >= len {
            self.values.fill(f32::NAN);
            self.counts.clear();
        } else {
            let fresh: Vec<usize> =
                (self.head + 1..=head).map(|slot| slot.rem_euclid(len) as usize).collect();
            for values in self.values.chunks_exact_mut(len as usize) {
                for &slot in &fresh {
                    values[slot] = f32::NAN;
                }
            }
            self.counts.clear_slots(&fresh);
        }
        self.head = head;
    }

    /// One sample; several in a slot are averaged.
    pub fn put(&mut self, partition: PartitionIx, metric: MetricIx, at: Timestamp, value: f32) {
        if !value.is_finite() {
            self.counters.not_finite += 1;
            return;
        }
        if at > self.now + self.config.max_skew {
            self.counters.future += 1;
            return;
        }
        let slot = at.0.div_euclid(self.config.step.0).min(self.head);
        if slot <= self.head - self.config.len as i64 {
            self.counters.late += 1;
            return;
        }
        let row = self.row_index(partition, metric);
        let slot = slot.rem_euclid(self.config.len as i64) as usize;
        let cell = row * self.config.len + slot;
        let count = self.counts.get(row, slot);
        self.values[cell] = if count == 0 {
            value
        } else {
            // The difference of two numbers may be more than one can hold.
            let (mean, count) = (f64::from(self.values[cell]), f64::from(count));
            (mean + (f64::from(value) - mean) / (count + 1.0)) as f32
        };
        self.counts.add(row, slot);
        self.newest[row] = self.newest[row].max(at.0);
        self.counters.taken += 1;
    }

    /// Copies one row, oldest slot first, into `out` (as many of the newest slots as fit).
    pub fn copy_row(&self, partition: PartitionIx, metric: MetricIx, out: &mut [f32]) {
        let (older, newer) = self.row(partition, metric);
        let len = older.len() + newer.len();
        let skip = len.saturating_sub(out.len());
        let mut filled = 0;
        for &value in older.iter().chain(newer).skip(skip) {
            out[filled] = value;
            filled += 1;
        }
        out[filled..].fill(f32::NAN);
    }

    /// One row as two runs, oldest slot first.
    pub fn row(&self, partition: PartitionIx, metric: MetricIx) -> (&[f32], &[f32]) {
        let len = self.config.len;
        let start = self.row_index(partition, metric) * len;
        let row = &self.values[start..start + len];
        let split = (self.head + 1).rem_euclid(len as i64) as usize;
        (&row[split..], &row[..split])
    }

    /// The newest value that is not missing among the last `slots` slots.
    pub fn latest(&self, partition: PartitionIx, metric: MetricIx, slots: usize) -> Option<f32> {
        let (older, newer) = self.row(partition, metric);
        newer.iter().rev().chain(older.iter().rev()).take(slots).copied().find(|v| !v.is_nan())
    }

    /// Time of the newest sample of one metric.
    pub fn newest(&self, partition: PartitionIx, metric: MetricIx) -> Option<Timestamp> {
        let at = self.newest[self.row_index(partition, metric)];
        (at != i64::MIN).then_some(Timestamp(at))
    }

    /// Time of the newest sample of any metric of a partition.
    pub fn last_seen(&self, partition: PartitionIx) -> Option<Timestamp> {
        let start = partition.0 as usize * self.width;
        let at = self.newest[start..start + self.width].iter().copied().max()?;
        (at != i64::MIN).then_some(Timestamp(at))
    }

    fn row_index(&self, partition: PartitionIx, metric: MetricIx) -> usize {
        debug_assert!((metric.0 as usize) < self.width);
        partition.0 as usize * self.width + metric.0 as usize
    }

    fn intern_metric(&mut self, name: &str) -> Option<MetricIx> {
        if let Some(ix) = self.metric(name) {
            return Some(ix);
        }
        if self.metrics.len() >= self.config.max_metrics {
            return None;
        }
        let ix = MetricIx(u16::try_from(self.metrics.len()).ok()?);
        let name = MetricName::from(name);
        self.metrics.push(name.clone());
        self.metric_index.insert(name, ix);
        if self.metrics.len() > self.width {
            self.widen((self.width + 8).min(self.config.max_metrics));
        }
        Some(ix)
    }

    /// Lays the rows out anew with room for `width` metrics; rare, because metrics are few.
    fn widen(&mut self, width: usize) {
        let (old, len) = (self.width, self.config.len);
        let rows = self.partitions.len();
        let mut values = vec![f32::NAN; rows * width * len];
        let mut newest = vec![i64::MIN; rows * width];
        for p in 0..rows {
            let (from, to) = (p * old * len, p * width * len);
            values[to..to + old * len].copy_from_slice(&self.values[from..from + old * len]);
            newest[p * width..p * width + old].copy_from_slice(&self.newest[p * old..(p + 1) * old]);
        }
        self.counts = self.counts.widened(old, width);
        (self.values, self.newest, self.width) = (values, newest, width);
    }
}

impl Ingest for Windows {
    fn series(&mut self, partition: &PartitionId, metric: &str) -> u32 {
        let p = self.intern(partition);
        let next = u32::try_from(self.series.len()).expect("fewer than 2^32 series");
        let m = self.intern_metric(metric);
        let series = match m {
            Some(m) => *self.series_index.entry((p, m)).or_insert(next),
            None => *self.dropped.entry((p, metric.to_string())).or_insert(next),
        };
        if series == next {
            self.series.push((p, m));
        }
        series
    }

    fn push(&mut self, series: u32, at: Timestamp, value: f32) {
        match self.series.get(series as usize) {
            Some(&(p, Some(m))) => self.put(p, m, at, value),
            _ => self.counters.metric_overflow += 1,
        }
    }

    fn label(&mut self, host: &HostId, key: &str, value: &str) {
        self.labels.entry(host.clone()).or_default().insert(key.to_string(), value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(len: usize) -> Windows {
        let config = WindowsConfig { step: Span::seconds(10), len, ..WindowsConfig::default() };
        Windows::new(config, Timestamp(1_000_000))
    }

    #[test]
    fn samples_land_on_the_grid_and_gaps_stay_missing() {
        let mut w = windows(4);
        let s = w.series(&"h1".into(), "cpu.busy");
        w.push(s, Timestamp(1_000_000), 10.0);
        w.push(s, Timestamp(1_005_000), 20.0);
        w.advance(Timestamp(1_020_000));
        w.push(s, Timestamp(1_020_000), 40.0);
        let mut row = [0.0; 4];
        w.copy_row(PartitionIx(0), MetricIx(0), &mut row);
        assert!(row[0].is_nan() && row[2].is_nan());
        assert_eq!((row[1], row[3]), (15.0, 40.0));
        assert_eq!(w.last_seen(PartitionIx(0)), Some(Timestamp(1_020_000)));
    }

    #[test]
    fn late_future_and_missing_samples_are_counted_not_stored() {
        let mut w = windows(4);
        let s = w.series(&"h1".into(), "cpu.busy");
        w.push(s, Timestamp(0), 1.0);
        w.push(s, Timestamp(9_000_000), 1.0);
        w.push(s, Timestamp(1_000_000), f32::NAN);
        let c = w.counters();
        assert_eq!((c.late, c.future, c.not_finite, c.taken), (1, 1, 1, 0));
        assert_eq!(w.latest(PartitionIx(0), MetricIx(0), 4), None);
    }

    #[test]
    fn new_metrics_widen_the_rows_and_lose_nothing() {
        let mut w = windows(4);
        let a = w.series(&"h1".into(), "cpu.busy");
        let b = w.series(&"h2".into(), "cpu.busy");
        w.push(a, Timestamp(1_000_000), 1.0);
        w.push(b, Timestamp(1_000_000), 2.0);
        for i in 0..20 {
            let s = w.series(&"h2".into(), &format!("own.{i}"));
            w.push(s, Timestamp(1_000_000), i as f32);
        }
        assert_eq!(w.latest(PartitionIx(0), MetricIx(0), 4), Some(1.0));
        assert_eq!(w.latest(PartitionIx(1), MetricIx(0), 4), Some(2.0));
        let m = w.metric("own.19").unwrap();
        assert_eq!(w.latest(PartitionIx(1), m, 4), Some(19.0));
        assert_eq!(w.latest(PartitionIx(0), m, 4), None);
    }

    #[test]
    fn advancing_past_the_whole_window_empties_it() {
        let mut w = windows(4);
        let s = w.series(&"h1".into(), "cpu.busy");
        w.push(s, Timestamp(1_000_000), 1.0);
        w.advance(Timestamp(2_000_000));
        assert_eq!(w.latest(PartitionIx(0), MetricIx(0), 4), None);
        w.advance(Timestamp(1_500_000));
        assert_eq!(w.head(), Timestamp(2_000_000), "time going backwards leaves the grid");
    }
}
