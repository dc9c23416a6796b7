//! Detectors from days of history: a thread of lowest priority reads what the source holds of a few
//! partitions at a time, on the engine's own grid, fits each one's detector as `foreshift eval anomaly` does
//! from a train file, an LSTM voter included ([`super::networks`] says whose), and hands it to the loop. Until a
//! partition's turn has come, and where there are fewer than three days of it, the detector of its last two
//! hours stands. From what is read the networks for forecasts are trained, too ([`super::forecasters`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::forecasters::{Forecasters, Stage};
use super::networks::{Lent, Networks};
use crate::fleet::{HostId, MetricName, PartitionId, Span, Timestamp};
use crate::predict::anomaly::model::SEQUENCE;
use crate::predict::anomaly::{AnomalyModel, FitOptions, Sequencing};
use crate::predict::combined::rows_per_day;
use crate::predict::keep::{NetworkShelf, Shelf, ShelfError};
use crate::predict::train::ForecastModel;
use crate::predict::{ForecastOptions, Taught};
use crate::telemetry::{Ingest, MetricIx, PartitionIx, Source, SourceError, Windows, WindowsConfig};

/// Partitions that are read at once: about 25 MB for 16 metrics and two weeks of slots of 30 s.
const BATCH: usize = 8;
/// The same where a source can only be read as a whole, so that it is read less often …
const WHOLE_BATCH: usize = 25;
/// … and the largest fleet that is read so.
const WHOLE_FLEET: usize = 200;
/// One read.
const PART: Span = Span::days(1);
/// What held too little is not read again before.
const AGAIN: Span = Span::hours(6);
/// The newest part of the history is kept out: what is beginning now is not to be learnt.
const HELD_OUT: Span = Span::minutes(10);

/// A partition whose detector is to be fitted, and under which names the source may hold it: its own, and
/// its host's where metrics are those of a whole host.
#[derive(Clone, PartialEq, Debug)]
pub struct Due {
    /// The partition.
    pub partition: PartitionId,
    /// Names in the source.
    pub sources: Vec<PartitionId>,
    /// The partitions of which it may borrow a network: `class/kind`.
    pub application: String,
}

/// The loop's end.
pub struct Pupil {
    /// Asked which partitions are due.
    pub asked: mpsc::Receiver<oneshot::Sender<Vec<Due>>>,
    /// Detectors that were fitted.
    pub lessons: mpsc::Receiver<(PartitionId, Taught)>,
    /// Networks for forecasts that were trained.
    pub forecasters: mpsc::Receiver<ForecastModel>,
}

/// The teacher's end.
#[derive(Clone)]
pub struct Desk {
    asks: mpsc::Sender<oneshot::Sender<Vec<Due>>>,
    lessons: mpsc::Sender<(PartitionId, Taught)>,
    models: mpsc::Sender<ForecastModel>,
    shelf: Option<Shelf>,
    kept_networks: Option<NetworkShelf>,
    networks: Arc<Mutex<Networks>>,
    forecasters: Arc<Mutex<Forecasters>>,
    /// Whose history was too short when it was read, and when that was.
    short: Arc<Mutex<HashMap<PartitionId, Timestamp>>>,
}

impl Desk {
    /// What is fitted is also kept there, for the next start.
    pub fn keeping(self, shelf: Shelf) -> Desk {
        Desk { shelf: Some(shelf), ..self }
    }

    /// The same of networks for forecasts.
    pub fn keeping_networks(self, shelf: NetworkShelf) -> Desk {
        Desk { kept_networks: Some(shelf), ..self }
    }

    /// Hands over the networks that can be trained now; says whether the loop still takes them.
    async fn hand_forecasters(&self, at: Stage, live: WindowsConfig, now: Timestamp) -> bool {
        let trained = self.forecasters.lock().unwrap_or_else(PoisonError::into_inner).train(at, live, now);
        for model in trained {
            if let Some(shelf) = &self.kept_networks {
                warn_of(&model.application, shelf.keep(&model));
            }
            if self.models.send(model).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// Both ends, for forecasts as the engine makes them. At most eight detectors and eight networks wait.
pub fn pair(forecasts: &ForecastOptions) -> (Pupil, Desk) {
    let (asks, asked) = mpsc::channel(1);
    let (give, lessons) = mpsc::channel(BATCH);
    let (models, forecasters) = mpsc::channel(BATCH);
    let gathered = Arc::new(Mutex::new(Forecasters::new(forecasts)));
    let networks = Arc::default();
    let (shelf, kept_networks) = (None, None);
    let short = Arc::default();
    let desk =
        Desk { asks, lessons: give, models, shelf, kept_networks, networks, forecasters: gathered, short };
    (Pupil { asked, lessons, forecasters }, desk)
}

fn warn_of(of: &str, kept: Result<(), ShelfError>) {
    if let Err(error) = kept {
        tracing::warn!(of, %error, "what was fitted is not kept");
    }
}

/// How history is read.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TeachOptions {
    /// The engine's windows: their grid and how many metrics.
    pub windows: WindowsConfig,
    /// How far back.
    pub span: Span,
}

/// What one round did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Round {
    /// Partitions that were due, and whose history was not too short a few hours ago.
    pub due: usize,
    /// Detectors that were handed over.
    pub taught: usize,
    /// Too many for a source that can only be read as a whole.
    pub left: usize,
}

/// Fits the detectors of all partitions that are due at `now`.
///
/// # Errors
/// The source fails; what was handed over stays.
pub async fn round(
    source: &dyn Source,
    desk: &Desk,
    options: &TeachOptions,
    now: Timestamp,
) -> Result<Round, SourceError> {
    let (answer, due) = oneshot::channel();
    if desk.asks.send(answer).await.is_err() {
        return Ok(Round::default());
    }
    let Ok(mut due) = due.await else { return Ok(Round::default()) };
    desk.leave_short(&mut due, now);
    let mut done = Round { due: due.len(), ..Round::default() };
    let by_partition = match due.first() {
        Some(one) => reads_partitions(source, one, now).await?,
        None => return Ok(done),
    };
    if !by_partition && due.len() > WHOLE_FLEET {
        done.left = due.len();
        return Ok(done);
    }
    for batch in due.chunks(if by_partition { BATCH } else { WHOLE_BATCH }) {
        let windows = read(source, batch, options, now).await?;
        for one in batch {
            let taught = windows.partition(&one.partition).and_then(|ix| {
                let name = (&one.partition, one.application.as_str());
                let mut gathered = desk.forecasters.lock().unwrap_or_else(PoisonError::into_inner);
                gathered.gather(&windows, ix, name, options.windows, now);
                drop(gathered);
                desk.fitted(&windows, ix, one, now)
            });
            let Some(taught) = taught else {
                desk.note_short(one, now);
                continue;
            };
            if let Some(shelf) = &desk.shelf {
                warn_of(one.partition.as_str(), shelf.keep(&one.partition, &taught));
            }
            if desk.lessons.send((one.partition.clone(), taught)).await.is_err() {
                return Ok(done);
            }
            done.taught += 1;
        }
        if !desk.hand_forecasters(Stage::Within, options.windows, now).await {
            return Ok(done);
        }
    }
    desk.hand_forecasters(Stage::End, options.windows, now).await;
    Ok(done)
}

/// Whether the source can be asked for single partitions: an empty span is.
async fn reads_partitions(source: &dyn Source, one: &Due, now: Timestamp) -> Result<bool, SourceError> {
    let mut nothing = Windows::new(WindowsConfig::default(), now);
    Ok(source.pull_of(&one.sources, now, now, &mut nothing).await?.is_some())
}

async fn read(
    source: &dyn Source,
    batch: &[Due],
    options: &TeachOptions,
    now: Timestamp,
) -> Result<Windows, SourceError> {
    let step = options.windows.step;
    let until = (now - HELD_OUT).floor(step);
    let len = usize::try_from(options.span.0 / step.0.max(1)).unwrap_or(2).max(2);
    let mut windows = Windows::new(WindowsConfig { len, ..options.windows }, until - Span(1));
    let names: Vec<PartitionId> = batch.iter().flat_map(|d| d.sources.iter().cloned()).collect();
    let mut from = until - options.span;
    while from < until {
        let to = (from + PART).min(until);
        let mut only = Only::new(batch, &mut windows);
        if source.pull_of(&names, from, to, &mut only).await?.is_none() {
            source.pull(from, to, &mut only).await?;
        }
        from = to;
    }
    Ok(windows)
}

impl Desk {
    fn short(&self) -> std::sync::MutexGuard<'_, HashMap<PartitionId, Timestamp>> {
        self.short.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves out whose history was too short a while ago.
    fn leave_short(&self, due: &mut Vec<Due>, now: Timestamp) {
        let mut short = self.short();
        short.retain(|_, read| (Span::ZERO..AGAIN).contains(&(now - *read)));
        due.retain(|one| !short.contains_key(&one.partition));
    }

    fn note_short(&self, one: &Due, now: Timestamp) {
        self.short().insert(one.partition.clone(), now);
    }

    /// The detector of what was read, where that is days.
    fn fitted(&self, windows: &Windows, partition: PartitionIx, due: &Due, now: Timestamp) -> Option<Taught> {
        let len = windows.config().len;
        let mut metrics: Vec<MetricName> = Vec::new();
        let mut columns: Vec<Vec<f32>> = Vec::new();
        for (m, name) in windows.metrics().iter().enumerate() {
            let metric = MetricIx(m as u16);
            if windows.newest(partition, metric).is_some() {
                let mut column = vec![f32::NAN; len];
                windows.copy_row(partition, metric, &mut column);
                metrics.push(name.clone());
                columns.push(column);
            }
        }
        let first = (0..len).find(|&t| columns.iter().any(|c| c[t].is_finite()))?;
        let columns: Vec<&[f32]> = columns.iter().map(|c| &c[first..]).collect();
        let networks = || self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        let lent = networks().lent_to(due, &metrics);
        let sequence = match &lent {
            Lent::Own => Sequencing::Trained(SEQUENCE),
            Lent::Of(network) => Sequencing::Borrowed(network),
            Lent::None => Sequencing::Never,
        };
        let rows_per_day = rows_per_day(windows.config().step);
        let options = FitOptions { rows_per_day, sequence, ..FitOptions::default() };
        let (model, _) = AnomalyModel::fit(&columns, &options).ok()?;
        if let Some(voter) = model.sequence().filter(|_| matches!(lent, Lent::Own)) {
            networks().note(due, &metrics, voter.network());
        }
        let (from, until) = (windows.tail() + Span(first as i64 * windows.config().step.0), windows.now());
        model.knows_days().then_some(Taught { model, metrics, fitted: now, from, until })
    }
}

/// Takes the samples of some partitions and leaves the others.
struct Only<'a> {
    by_name: HashMap<&'a PartitionId, Vec<&'a PartitionId>>,
    windows: &'a mut Windows,
    /// The windows' series of each series given out; empty = left.
    series: Vec<Vec<u32>>,
    known: HashMap<(PartitionId, String), u32>,
}

impl<'a> Only<'a> {
    fn new(batch: &'a [Due], windows: &'a mut Windows) -> Self {
        let mut by_name: HashMap<&PartitionId, Vec<&PartitionId>> = HashMap::new();
        for due in batch {
            for name in &due.sources {
                by_name.entry(name).or_default().push(&due.partition);
            }
        }
        Only { by_name, windows, series: vec![Vec::new()], known: HashMap::new() }
    }
}

impl Ingest for Only<'_> {
    fn series(&mut self, partition: &PartitionId, metric: &str) -> u32 {
        let Some(wanted) = self.by_name.get(partition) else { return 0 };
        let key = (partition.clone(), metric.to_string());
        if let Some(&series) = self.known.get(&key) {
            return series;
        }
        let own = wanted.iter().map(|p| self.windows.series(p, metric)).collect();
        self.series.push(own);
        let series = u32::try_from(self.series.len() - 1).unwrap_or(0);
        self.known.insert(key, series);
        series
    }

    fn push(&mut self, series: u32, at: Timestamp, value: f32) {
        for &own in self.series.get(series as usize).map_or(&[][..], Vec::as_slice) {
            self.windows.push(own, at, value);
        }
    }

    fn label(&mut self, _: &HostId, _: &str, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::brain::Brain;
    use crate::fleet::Topology;
    use crate::predict::{AssessOptions, HysteresisOptions};
    use crate::telemetry::{Batch, EmbeddedStore};

    const NOW: Timestamp = Timestamp(Span::days(20_000).0);

    /// A store with so many days of two metrics of a partition.
    fn lived(store: &EmbeddedStore, partition: &PartitionId, days: i64) {
        let step = Span::seconds(30);
        let rows = Span::days(days).0 / step.0;
        let times = (0..rows).map(|t| NOW - Span((rows - t) * step.0)).collect();
        let wave = |t: i64, by: f32| 40.0 + 10.0 * (t as f32 / 458.0).sin() + by * ((t * 7919) % 101) as f32;
        let batch = Batch::new(times)
            .with_column("cpu.busy", (0..rows).map(|t| wave(t, 0.02)).collect())
            .with_column("queue.depth", (0..rows).map(|t| 0.5 * wave(t, 0.03)).collect());
        store.append(partition, &batch).unwrap();
    }

    #[tokio::test]
    async fn a_partition_with_days_of_history_is_watched_by_a_detector_of_days() {
        let store = EmbeddedStore::in_memory().unwrap();
        let (old, young) = (PartitionId::from("h1/p1"), PartitionId::from("h2/p1"));
        lived(&store, &old, 5);
        lived(&store, &young, 1);
        let config = WindowsConfig::default();
        let mut brain =
            Brain::new(config, AssessOptions::default(), HysteresisOptions::default(), NOW - Span::hours(2));
        let mut pulled = crate::engine::observe::Pulled::default();
        store.pull(NOW - Span::hours(2), NOW, &mut pulled).await.unwrap();
        brain.take(pulled, NOW);
        brain.cycle(&Topology::default(), &[], &HashMap::new(), NOW);
        let (mut pupil, desk) = pair(&ForecastOptions::default());
        let options = TeachOptions { windows: config, span: Span::days(14) };
        let due = brain.lessons_due(Span::days(1));
        assert_eq!(due.len(), 2);
        let asked = async {
            let answer = pupil.asked.recv().await.unwrap();
            answer.send(due).unwrap();
        };
        let (done, ()) = tokio::join!(round(&store, &desk, &options, NOW), asked);
        assert_eq!(done.unwrap(), Round { due: 2, taught: 1, left: 0 });
        for (later, read) in [(Span::hours(1), 0), (Span::hours(7), 1)] {
            let young = brain.lessons_due(Span::days(1)).into_iter().filter(|due| due.partition == young);
            let young = young.collect();
            let asked = async { pupil.asked.recv().await.unwrap().send(young).unwrap() };
            let (done, ()) = tokio::join!(round(&store, &desk, &options, NOW + later), asked);
            assert_eq!(done.unwrap().due, read, "a short history is read again after six hours: {later}");
        }
        let (partition, taught) = pupil.lessons.recv().await.unwrap();
        assert_eq!(partition, old);
        assert_eq!(taught.metrics.len(), 2, "metrics without a value are none of its");
        assert!(brain.teach(&partition, taught));
        assert_eq!(brain.lessons_due(Span::days(1)).len(), 1, "it is not due again today");
        brain.cycle(&Topology::default(), &[], &HashMap::new(), NOW);
        let of = |id| brain.windows().partition(id).and_then(|ix| brain.assessor().anomaly(ix));
        assert!(of(&old).unwrap().by_days);
        assert!(of(&young).is_none_or(|a| !a.by_days));
    }
}
