//! Pulls without ever making the loop wait: a task of its own asks the source, with a deadline and
//! back-off, from where the last pull that succeeded ended. A source gives every sample once, what
//! came late with the next pull, so a gap is filled when a server returns and nothing is counted
//! twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::fleet::{Clock, HostId, PartitionId, Span, Timestamp};
use crate::telemetry::{Failing, Ingest, PullReport, Source, SourceError, SourceStatus, Windows};

/// Longest wait between tries.
const MOST_BACK_OFF: Span = Span::minutes(1);

/// The readings of one pull, held until the loop takes them.
#[derive(Debug, Default)]
pub struct Pulled {
    names: Vec<(PartitionId, String)>,
    index: HashMap<(PartitionId, String), u32>,
    points: Vec<(u32, Timestamp, f32)>,
    labels: Vec<(HostId, String, String)>,
}

impl Pulled {
    /// Pours everything into the windows, in the order in which it was read. What was measured of
    /// a host as a whole is so of every partition on it: `on_host` names these by their host.
    pub fn pour(self, windows: &mut Windows, on_host: &HashMap<PartitionId, Vec<PartitionId>>) {
        let series: Vec<Vec<u32>> = self
            .names
            .iter()
            .map(|(partition, metric)| match on_host.get(partition) {
                Some(inside) => inside.iter().map(|p| windows.series(p, metric)).collect(),
                None => vec![windows.series(partition, metric)],
            })
            .collect();
        for (own, at, value) in self.points {
            for &series in &series[own as usize] {
                windows.push(series, at, value);
            }
        }
        for (host, key, value) in self.labels {
            windows.label(&host, &key, &value);
        }
    }

    /// Whether nothing at all was read.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}

impl Ingest for Pulled {
    fn series(&mut self, partition: &PartitionId, metric: &str) -> u32 {
        let key = (partition.clone(), metric.to_string());
        if let Some(&series) = self.index.get(&key) {
            return series;
        }
        let series = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(key.clone());
        self.index.insert(key, series);
        series
    }

    fn push(&mut self, series: u32, at: Timestamp, value: f32) {
        self.points.push((series, at, value));
    }

    fn label(&mut self, host: &HostId, key: &str, value: &str) {
        self.labels.push((host.clone(), key.to_string(), value.to_string()));
    }
}

/// Where the next pull begins.
#[derive(Clone, Copy, Debug)]
pub struct Watermark {
    covered: Timestamp,
}

impl Watermark {
    /// Nothing later than `start` was pulled yet.
    pub fn at(start: Timestamp, step: Span) -> Self {
        Self { covered: start.floor(step) }
    }

    /// The span of the next pull.
    pub fn next(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        (self.covered.min(now), now)
    }

    /// A pull up to `until` succeeded.
    pub fn covered(&mut self, until: Timestamp) {
        self.covered = self.covered.max(until);
    }
}

/// What the task hands over.
#[derive(Debug)]
pub struct Delivery {
    /// The readings.
    pub pulled: Pulled,
    /// What the source said of the pull.
    pub report: PullReport,
    /// Up to when everything was read.
    pub until: Timestamp,
}

/// How the task behaves.
#[derive(Clone, Copy, Debug)]
pub struct PullOptions {
    /// Between the starts of two pulls.
    pub interval: Span,
    /// Longest time for one pull.
    pub deadline: Span,
    /// Step of the grid.
    pub step: Span,
    /// How far the first pull reaches back.
    pub reach: Span,
}

/// Pulls for ever; ends when `deliveries` is closed. At most two deliveries wait; while they do, no
/// new pull is started (nothing is dropped: the watermark stands).
pub async fn pull_for_ever(
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    options: PullOptions,
    deliveries: mpsc::Sender<Delivery>,
    status: watch::Sender<SourceStatus>,
) {
    let mut watermark = Watermark::at(clock.now() - options.reach, options.step);
    let mut failing_since: Option<Timestamp> = None;
    let mut back_off = options.interval.max(Span::seconds(1));
    loop {
        let started = std::time::Instant::now();
        let (since, until) = watermark.next(clock.now());
        let mut pulled = Pulled::default();
        let pull = source.pull(since, until, &mut pulled);
        let result = tokio::time::timeout(options.deadline.to_std(), pull).await;
        let failure = match result {
            Ok(Ok(report)) => {
                watermark.covered(until);
                failing_since = None;
                back_off = options.interval.max(Span::seconds(1));
                status.send_replace(SourceStatus::Live);
                if deliveries.send(Delivery { pulled, report, until }).await.is_err() {
                    return;
                }
                None
            }
            Ok(Err(error @ SourceError::Broken { .. })) => Some((Failing::OwnStore, error.to_string())),
            Ok(Err(error)) => Some((Failing::Server, error.to_string())),
            Err(_) => {
                let said = format!("{} did not answer within {}", source.name(), options.deadline);
                Some((Failing::Server, said))
            }
        };
        let wait = match failure {
            None => options.interval.to_std().saturating_sub(started.elapsed()),
            Some((what, reason)) => {
                let now = clock.now();
                let since = *failing_since.get_or_insert(now);
                tracing::warn!(%reason, source = source.name(), "pull failed");
                status.send_replace(SourceStatus::Failing { what, reason, since, retry_at: now + back_off });
                let wait = back_off.to_std();
                back_off = Span(back_off.0 * 2).min(MOST_BACK_OFF);
                wait
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait.max(Duration::from_millis(20))) => {}
            () = deliveries.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Core;
    use crate::engine::test_parts::parts;
    use crate::fleet::SystemClock;
    use crate::protocol::Severity;
    use crate::telemetry::{EmbeddedOptions, EmbeddedStore};

    #[test]
    fn what_is_measured_of_a_host_is_so_of_every_partition_on_it() {
        let mut pulled = Pulled::default();
        let series = pulled.series(&"h1".into(), "disk.write_latency");
        pulled.push(series, Timestamp(0), 48.0);
        let mut windows = Windows::new(crate::telemetry::WindowsConfig::default(), Timestamp(1000));
        let inside = vec![PartitionId::from("h1/a"), PartitionId::from("h1/b")];
        pulled.pour(&mut windows, &HashMap::from([("h1".into(), inside.clone())]));
        let metric = windows.metric("disk.write_latency").unwrap();
        for partition in &inside {
            let ix = windows.partition(partition).unwrap();
            assert_eq!(windows.latest(ix, metric, 4), Some(48.0));
        }
        assert!(windows.partition(&"h1".into()).is_none());
    }

    #[test]
    fn a_gap_is_asked_for_again_until_it_was_filled() {
        let mut mark = Watermark::at(Timestamp(0), Span::seconds(30));
        assert_eq!(mark.next(Timestamp(600_000)).0, Timestamp(0));
        assert_eq!(mark.next(Timestamp(900_000)).0, Timestamp(0), "a failed pull moves nothing");
        mark.covered(Timestamp(900_000));
        assert_eq!(mark.next(Timestamp(1_000_000)), (Timestamp(900_000), Timestamp(1_000_000)));
    }

    /// An engine whose own store is broken says so as loudly as it can, and is quiet again when it works.
    #[tokio::test]
    async fn a_broken_store_of_ones_own_is_a_critical_alert_until_it_works_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("series");
        let options = EmbeddedOptions { path: Some(path.clone()), ..EmbeddedOptions::default() };
        let store = EmbeddedStore::open(options).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let pull = PullOptions {
            interval: Span::seconds(1),
            deadline: Span::seconds(30),
            step: Span::seconds(1),
            reach: Span::minutes(1),
        };
        let (delivered, mut deliveries) = mpsc::channel(2);
        let (status, mut seen) = watch::channel(SourceStatus::Starting);
        let source: Arc<dyn Source> = Arc::new(store.clone());
        tokio::spawn(pull_for_ever(source, clock.clone(), pull, delivered, status));
        tokio::spawn(async move { while deliveries.recv().await.is_some() {} });
        let mut core = Core::start(parts(clock.now()), clock.now()).await.unwrap();
        let mut open = Vec::new();
        for wanted in [vec![], vec![Severity::Critical], vec![]] {
            if !wanted.is_empty() {
                std::fs::remove_dir_all(&path).unwrap();
            }
            let arrives = async {
                loop {
                    seen.changed().await.unwrap();
                    core.source_status(&seen.borrow_and_update().clone(), clock.now());
                    core.publish(clock.now());
                    open = core.snapshot().alerts.iter().map(|a| a.severity).collect();
                    if open == wanted {
                        break;
                    }
                }
            };
            let arrived = tokio::time::timeout(Duration::from_secs(60), arrives).await;
            assert!(arrived.is_ok(), "{wanted:?} wanted, {open:?} open");
        }
        let now = clock.now();
        store.insert(&"h1".into(), "temp", &[(now, 40.0)]).unwrap();
        assert_eq!(store.history(&"h1".into(), "temp", now, now + Span::seconds(1)).unwrap(), [(now, 40.0)]);
    }
}
