//! History as it would have come: read in pieces ahead, given on sample by sample when its time has
//! come, in one order whatever the order of the source. No more than a piece is held.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::observe::Pulled;
use crate::fleet::{HostId, PartitionId, Span, Timestamp};
use crate::telemetry::{Ingest, Source, SourceError};

/// Read at once.
const PIECE: Span = Span::hours(1);

/// What was read and not yet given on.
#[derive(Debug, Default)]
struct Held {
    names: Vec<(PartitionId, String)>,
    index: HashMap<(PartitionId, String), u32>,
    points: Vec<(Timestamp, u32, f32)>,
    labels: Vec<(HostId, String, String)>,
}

impl Ingest for Held {
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
        self.points.push((at, series, value));
    }

    fn label(&mut self, host: &HostId, key: &str, value: &str) {
        self.labels.push((host.clone(), key.to_string(), value.to_string()));
    }
}

/// A source read as time passes.
pub struct Feed {
    source: Arc<dyn Source>,
    /// A sample is given on so long after its stamp: a mean of a step is stamped with the step's start,
    /// and an agent's message takes as long to come.
    lag: Span,
    end: Timestamp,
    read_until: Timestamp,
    held: Held,
    next: usize,
    /// Samples given on so far.
    pub points: u64,
    /// The first sample's time.
    pub first: Option<Timestamp>,
    /// The newest sample given on.
    pub last: Option<Timestamp>,
}

impl Feed {
    /// `[from, end)` of the source; `from` and the pieces lie on whole steps of `lag`.
    pub fn new(source: Arc<dyn Source>, from: Timestamp, end: Timestamp, lag: Span) -> Self {
        Self {
            source,
            lag,
            end,
            read_until: from.floor(lag),
            held: Held::default(),
            next: 0,
            points: 0,
            first: None,
            last: None,
        }
    }

    /// What became known since the last call, as of `now`.
    ///
    /// # Errors
    /// As the source's; what was read stays.
    pub async fn until(&mut self, now: Timestamp) -> Result<Pulled, SourceError> {
        let due = now - self.lag;
        while self.read_until <= due && self.read_until < self.end {
            self.read_piece().await?;
        }
        let mut pulled = Pulled::default();
        for (host, key, value) in self.held.labels.drain(..) {
            pulled.label(&host, &key, &value);
        }
        let start = self.next;
        while self.held.points.get(self.next).is_some_and(|p| p.0 <= due) {
            self.next += 1;
        }
        for &(at, series, value) in &self.held.points[start..self.next] {
            let (partition, metric) = &self.held.names[series as usize];
            let own = pulled.series(partition, metric);
            pulled.push(own, at, value);
            self.first.get_or_insert(at);
            self.last = self.last.max(Some(at));
        }
        self.points += (self.next - start) as u64;
        Ok(pulled)
    }

    async fn read_piece(&mut self) -> Result<(), SourceError> {
        let until = (self.read_until + PIECE).min(self.end);
        self.held.points.drain(..self.next);
        self.next = 0;
        self.source.pull(self.read_until, until, &mut self.held).await?;
        // One order whatever the order of the answer: by time, then by name.
        let mut rank: Vec<u32> = (0..self.held.names.len() as u32).collect();
        rank.sort_by_key(|s| &self.held.names[*s as usize]);
        let mut place = vec![0u32; rank.len()];
        for (at, series) in (0u32..).zip(&rank) {
            place[*series as usize] = at;
        }
        self.held.points.sort_by_key(|(at, series, _)| (*at, place[*series as usize]));
        self.held.labels.sort();
        self.held.labels.dedup();
        self.read_until = until;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Windows, WindowsConfig};

    #[tokio::test]
    async fn nothing_is_given_before_its_time_and_everything_once() {
        let mut csv = String::from("time,partition,metric,value\n");
        for second in (0..10_800i64).step_by(30) {
            for partition in ["h2", "h1"] {
                csv += &format!("{},{partition},cpu.busy,{second}\n", 1_700_000_000_000i64 + second * 1000);
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recorded.csv");
        std::fs::write(&file, csv).unwrap();
        let source = crate::telemetry::replay::ReplaySource::open(&[file]).unwrap();
        let start = Timestamp(1_700_000_000_000);
        let step = Span::seconds(30);
        let mut feed = Feed::new(Arc::new(source), start, start + Span::hours(3), step);
        let mut windows = Windows::new(WindowsConfig::default(), start);
        for cycle in 1..=740i64 {
            let now = start + Span::seconds(15 * cycle);
            windows.advance(now);
            feed.until(now).await.unwrap().pour(&mut windows, &HashMap::new());
            let newest = windows.partition(&"h1".into()).and_then(|p| windows.last_seen(p));
            assert!(newest.is_none_or(|at| at + step <= now), "{newest:?} known at {now:?}");
        }
        assert_eq!(feed.points, 720);
        assert_eq!(windows.partitions()[0], "h1".into(), "by name, not as they stood in the file");
    }
}
