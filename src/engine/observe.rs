//! Pulls without ever making the loop wait: a task of its own asks the source, with a deadline and
//! back-off, and hands over whole slots of the grid. A pull begins a little before the last one
//! ended, so that what came late is taken in; slots are replaced, so nothing is counted twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::fleet::{Clock, HostId, PartitionId, Span, Timestamp};
use crate::telemetry::{Ingest, PullReport, Source, SourceStatus, Windows};

/// How far a pull reaches back before the end of the last one: agents stream every 30 s, clocks
/// differ.
pub const OVERLAP: Span = Span::minutes(2);
/// Longest wait between tries.
const MOST_BACK_OFF: Span = Span::minutes(1);

/// The readings of one pull, averaged into slots.
#[derive(Debug, Default)]
pub struct Pulled {
    step: Span,
    /// Slots from here on are covered whole and replace what was there; earlier ones came late and
    /// are added.
    whole_from: Timestamp,
    names: Vec<(PartitionId, String)>,
    index: HashMap<(PartitionId, String), u32>,
    /// Per series and slot: sum, samples, newest.
    slots: HashMap<(u32, i64), (f64, u32, Timestamp)>,
    not_finite: u64,
    labels: Vec<(HostId, String, String)>,
}

impl Pulled {
    /// An empty pull on a grid of that step; from `since` on, which is on the grid, it will hold
    /// everything there is.
    pub fn on_grid(step: Span, since: Timestamp) -> Self {
        Self { step: step.max(Span::millis(1)), whole_from: since, ..Self::default() }
    }

    /// Pours everything into the windows, which must stand on the same grid.
    pub fn pour(self, windows: &mut Windows) {
        let series: Vec<u32> =
            self.names.iter().map(|(partition, metric)| windows.series(partition, metric)).collect();
        let mut slots: Vec<_> = self.slots.into_iter().collect();
        slots.sort_unstable_by_key(|(key, _)| *key);
        for ((own, _), (sum, samples, newest)) in slots {
            let series = series[own as usize];
            match windows.of_series(series) {
                Some((p, m)) if newest >= self.whole_from => {
                    windows.replace(p, m, newest, (sum / f64::from(samples)) as f32, samples);
                }
                _ => windows.push(series, newest, (sum / f64::from(samples)) as f32),
            }
        }
        for _ in 0..self.not_finite {
            if let Some(&first) = series.first() {
                windows.push(first, windows.now(), f32::NAN);
            }
        }
        for (host, key, value) in self.labels {
            windows.label(&host, &key, &value);
        }
    }

    /// Whether nothing at all was read.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
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
        if !value.is_finite() {
            self.not_finite += 1;
            return;
        }
        let slot =
            self.slots.entry((series, at.0.div_euclid(self.step.0))).or_insert((0.0, 0, Timestamp(i64::MIN)));
        slot.0 += f64::from(value);
        slot.1 += 1;
        slot.2 = slot.2.max(at);
    }

    fn label(&mut self, host: &HostId, key: &str, value: &str) {
        self.labels.push((host.clone(), key.to_string(), value.to_string()));
    }
}

/// Where the next pull begins.
#[derive(Clone, Copy, Debug)]
pub struct Watermark {
    step: Span,
    covered: Timestamp,
}

impl Watermark {
    /// Nothing later than `start` was pulled yet.
    pub fn at(start: Timestamp, step: Span) -> Self {
        Self { step, covered: start.floor(step) }
    }

    /// The span of the next pull.
    pub fn next(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        ((self.covered - OVERLAP).floor(self.step).min(now), now)
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
        let mut pulled = Pulled::on_grid(options.step, since);
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
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("{} did not answer within {}", source.name(), options.deadline)),
        };
        let wait = match failure {
            None => options.interval.to_std().saturating_sub(started.elapsed()),
            Some(reason) => {
                let now = clock.now();
                let since = *failing_since.get_or_insert(now);
                tracing::warn!(%reason, source = source.name(), "pull failed");
                status.send_replace(SourceStatus::Failing { reason, since, retry_at: now + back_off });
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
    use crate::telemetry::{PartitionIx, WindowsConfig};

    #[test]
    fn a_repeated_pull_counts_nothing_twice_and_takes_in_what_came_late() {
        let step = Span::seconds(30);
        let config = WindowsConfig { step, len: 8, ..WindowsConfig::default() };
        let mut windows = Windows::new(config, Timestamp(600_000));
        let pull = |values: &[(i64, f32)]| {
            let mut pulled = Pulled::on_grid(step, Timestamp(600_000));
            let s = pulled.series(&"h1".into(), "cpu.busy");
            for (at, value) in values {
                pulled.push(s, Timestamp(*at), *value);
            }
            pulled
        };
        pull(&[(600_000, 10.0), (605_000, 20.0)]).pour(&mut windows);
        pull(&[(600_000, 10.0), (605_000, 20.0), (610_000, 60.0)]).pour(&mut windows);
        let cpu = windows.metric("cpu.busy").unwrap();
        assert_eq!(windows.latest(PartitionIx(0), cpu, 1), Some(30.0));
    }

    #[test]
    fn a_gap_is_asked_for_again_until_it_was_filled() {
        let mut mark = Watermark::at(Timestamp(0), Span::seconds(30));
        assert_eq!(mark.next(Timestamp(600_000)).0, Timestamp(-120_000));
        assert_eq!(mark.next(Timestamp(900_000)).0, Timestamp(-120_000), "a failed pull moves nothing");
        mark.covered(Timestamp(900_000));
        assert_eq!(mark.next(Timestamp(1_000_000)), (Timestamp(780_000), Timestamp(1_000_000)));
    }
}
