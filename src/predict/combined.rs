//! The anomaly detector ([`AnomalyModel`]) over every partition: is this *combination* of metrics, and the
//! way it follows from the last rows, like the partition itself? Rows are slots of the window; each is read
//! once, two slots after it began, when its samples have arrived, by the very function that `foreshift eval
//! anomaly` reads test files with ([`AnomalyModel::read`]).
//!
//! A partition's model is fitted from days of its history where somebody teaches it ([`Taught`]); until then
//! from its own window, its correlations blended with those of its application (the partitions of the same
//! class and kind of work) by n / (n + 1500). Fits from windows are made on a rolling schedule: at most
//! [`CombinedOptions::fits`] a cycle, those without a model first, then the oldest, never while the
//! partition is unusual.
//!
//! What it finds costs points of health beside those of the single metrics, because no single metric
//! carries it. An alarm whose level rests on days makes the partition suspect, unless most of its peers
//! alarm too; one of a window of two hours does not (it knows no evening). Probabilities do not rest on it.

use std::collections::HashMap;

use rayon::prelude::*;

use super::anomaly::{AnomalyModel, FitOptions, Moments, Stream};
use super::assess::{Assessor, BATCH, Row};
use super::assessment::Anomaly;
use super::health;
use super::watch::{Origin, Taught, Watch};
use crate::fleet::{Span, Timestamp};
use crate::telemetry::{MetricIx, PartitionIx, Windows};

/// Slots that are left for samples to arrive before a slot is scored.
pub(super) const LATE: i64 = 2;
/// A partition this far from its normal teaches nothing.
const UNUSUAL: f32 = 5.0;
/// Rows after which an application's moments are taken anew.
const POOL_ROWS: f64 = 20_000.0;
/// Partitions that are fitted at once: bounds the memory that moments take meanwhile.
const PART: usize = 64;
/// Rows for which an alarm must have stood before it is compared with what the peers do: they do not all
/// cross their levels in the same row.
const SETTLED: u32 = 4;
/// Log-odds that a combination far over its alarm level adds at most.
const MOST_ODDS: f64 = 4.0;

/// How models of combinations are fitted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CombinedOptions {
    /// Most fits in one cycle; 0 = no models at all.
    pub fits: usize,
    /// Fewest slots with data of a window from which a model is fitted.
    pub least_slots: usize,
    /// The newest slots of a window are kept out: what is beginning now is not to be learnt.
    pub held_out: usize,
    /// A model is fitted anew after so many cycles.
    pub every_cycles: u64,
}

impl Default for CombinedOptions {
    /// 128 fits a cycle, from an hour of slots of 30 s on, without the newest ten minutes, anew after
    /// 720 cycles (two hours at 10 s).
    fn default() -> Self {
        Self { fits: 128, least_slots: 120, held_out: 20, every_cycles: 720 }
    }
}

/// The moments of one application: those in use, and those that are being gathered.
#[derive(Clone, Debug, Default)]
struct Pool {
    full: Option<Vec<Moments>>,
    young: Vec<Moments>,
}

impl Pool {
    fn add(&mut self, own: Vec<Moments>) {
        if self.young.is_empty() {
            self.young = own;
        } else {
            self.young.iter_mut().zip(&own).for_each(|(pool, own)| pool.merge(own));
        }
        if self.young.first().is_some_and(|m| m.rows() >= POOL_ROWS) {
            self.full = Some(std::mem::take(&mut self.young));
        }
    }

    fn moments(&self, metrics: usize) -> Option<&[Moments]> {
        let found = self.full.as_deref().unwrap_or(&self.young);
        found.first().is_some_and(|m| m.metrics() == metrics).then_some(found)
    }
}

/// The pools by application (`class/kind`).
#[derive(Clone, Debug, Default)]
pub(super) struct Pools(HashMap<String, Pool>);

impl Assessor {
    /// What the anomaly detector says of a partition; `None` where there is no model of it, or no data.
    pub fn anomaly(&self, partition: PartitionIx) -> Option<Anomaly> {
        self.rows.get(partition.0 as usize)?.watch.as_ref()?.said
    }

    /// Whether a partition's model was fitted from days of history.
    pub fn is_taught(&self, partition: PartitionIx) -> bool {
        let watch = self.rows.get(partition.0 as usize).and_then(|row| row.watch.as_ref());
        watch.is_some_and(|w| matches!(w.origin, Origin::History(_)))
    }

    /// From now on this model watches the partition, beginning with what the window holds. Says whether it
    /// could be used: the windows must have all of its metrics.
    pub fn teach(&mut self, windows: &Windows, partition: PartitionIx, taught: Taught) -> bool {
        let p = partition.0 as usize;
        let found: Option<Vec<MetricIx>> =
            taught.metrics.iter().map(|name| windows.metric(name.as_str())).collect();
        let Some(places) = found.filter(|all| all.len() == taught.model.metrics()) else { return false };
        if p >= windows.partitions().len() {
            return false;
        }
        self.intern_windows(windows);
        let mut watch = Watch::taught(taught, places, windows);
        watch.read(windows, partition, windows.head() - Span(LATE * windows.config().step.0));
        self.rows[p].watch = Some(Box::new(watch));
        true
    }

    /// The partitions that a partition shares models with (`class/kind`), as of the last cycle.
    pub fn application_of(&self, partition: PartitionIx) -> &str {
        self.derived.group_name(partition.0 as usize)
    }

    /// Partitions of which a model is to be fitted from history: those that have none such first, then
    /// those whose is `every` old; not while they are unusual.
    pub fn lessons_due(&self, windows: &Windows, every: Span) -> Vec<PartitionIx> {
        let mut due: Vec<(Timestamp, u32)> = self
            .calm(windows)
            .filter_map(|(p, row)| match row.watch.as_deref() {
                Some(w) if w.stream.alarmed() => None,
                Some(Watch { origin: Origin::History(at), .. }) => {
                    (*at + every <= windows.now()).then_some((*at, p as u32))
                }
                _ => Some((Timestamp(i64::MIN), p as u32)),
            })
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, p)| PartitionIx(p)).collect()
    }

    /// Bytes of what is kept of one partition's normal behaviour: baselines with their weekly profile, and
    /// the detector with its stream; without the network of an LSTM voter, which may serve others too.
    pub fn model_bytes(&self, partition: PartitionIx) -> usize {
        let row = self.rows.get(partition.0 as usize);
        let watch = row.and_then(|row| row.watch.as_ref()).map_or(0, |w| {
            std::mem::size_of::<Watch>() - std::mem::size_of::<AnomalyModel>() - std::mem::size_of::<Stream>()
                + w.model.bytes()
                + w.stream.bytes()
                + std::mem::size_of::<MetricIx>() * w.places.len()
        });
        let width = self.columns.len();
        let baselines = self.baselines.chunks(width.max(1)).nth(partition.0 as usize).unwrap_or(&[]);
        watch + baselines.iter().map(super::baseline::Baseline::bytes).sum::<usize>()
    }

    /// From now on at most so many models of combinations are fitted in a cycle.
    pub fn allow_fits(&mut self, fits: usize) {
        self.options.combined.fits = fits;
    }

    /// Scores the slots that have ended, and makes the fits that are due.
    pub(super) fn watch_combinations(&mut self, windows: &Windows) {
        if self.options.combined.fits == 0 {
            return;
        }
        let step = windows.config().step;
        let metrics = windows.metrics().len();
        let until = windows.head() - Span(LATE * step.0);
        self.rows.par_iter_mut().take(windows.partitions().len()).enumerate().with_min_len(BATCH).for_each(
            |(p, row)| {
                let Some(watch) = &mut row.watch else { return };
                if row.gap.is_some() || !watch.fits(metrics) {
                    watch.said = None;
                    return;
                }
                watch.read(windows, PartitionIx(p as u32), until);
            },
        );
        self.fit_due(windows, until);
        self.compare_alarms();
    }

    /// The partitions that may be learnt from now: measured without a gap, and not unusual.
    fn calm(&self, windows: &Windows) -> impl Iterator<Item = (usize, &Row)> {
        let rows = self.rows.iter().take(windows.partitions().len()).enumerate();
        rows.filter(|(_, row)| row.gap.is_none() && row.instability < UNUSUAL)
    }

    fn fit_due(&mut self, windows: &Windows, until: Timestamp) {
        let options = self.options.combined;
        let (cycle, metrics) = (self.cycle, windows.metrics().len());
        let mut due: Vec<(u64, u32)> = self
            .calm(windows)
            .filter_map(|(p, row)| match row.watch.as_deref() {
                None => Some((0, p as u32)),
                Some(w) if !w.fits(metrics) => Some((0, p as u32)),
                Some(w) if w.stream.alarmed() => None,
                Some(Watch { origin: Origin::Window(at), .. }) => {
                    (cycle - at >= options.every_cycles).then_some((*at, p as u32))
                }
                Some(_) => None,
            })
            .collect();
        due.sort_unstable();
        due.truncate(options.fits);
        for part in due.chunks(PART) {
            self.fit_part(windows, until, part);
        }
    }

    /// Fits the models of a few partitions at once: their moments first, which the application's pool
    /// takes in, then the models that blend with it.
    fn fit_part(&mut self, windows: &Windows, until: Timestamp, due: &[(u64, u32)]) {
        let (options, step) = (self.options.combined, windows.config().step);
        let (cycle, metrics) = (self.cycle, windows.metrics().len());
        let blocks: Vec<(u32, Vec<f32>)> = due
            .par_iter()
            .filter_map(|&(_, p)| Some((p, training(windows, PartitionIx(p), &options)?)))
            .collect();
        let own: Vec<Option<Vec<Moments>>> = blocks
            .par_iter()
            .map(|(_, block)| fit(block, metrics, None, step).map(|(_, moments)| moments))
            .collect();
        for ((p, _), moments) in blocks.iter().zip(own) {
            let name = self.derived.group_name(*p as usize);
            if let Some(moments) = moments {
                self.pools.0.entry(name.to_string()).or_default().add(moments);
            }
        }
        let (pools, derived) = (&self.pools.0, &self.derived);
        let fitted: Vec<(u32, Watch)> = blocks
            .par_iter()
            .filter_map(|(p, block)| {
                let pool = pools.get(derived.group_name(*p as usize));
                let (model, _) = fit(block, metrics, pool.and_then(|pool| pool.moments(metrics)), step)?;
                let mut watch = Watch::new(model, windows, Origin::Window(cycle));
                watch.read(windows, PartitionIx(*p), until);
                Some((*p, watch))
            })
            .collect();
        // Copied once what the fits needed is free again, so that what stays lies together and the next
        // fits find the room of these: else the heap grows by it with every part.
        drop(blocks);
        for (p, watch) in &fitted {
            self.rows[*p as usize].watch = Some(Box::new(watch.clone()));
        }
    }

    /// An alarm stands out when it has stood for a while, and not where most of the partitions of the same
    /// class and work alarm too by then: that is the load.
    fn compare_alarms(&mut self) {
        let least = self.options.least_peers.max(2);
        let mut tally: HashMap<u32, (usize, usize)> = HashMap::new();
        for (row, group) in self.rows.iter().zip(&self.derived.group) {
            if let Some(said) = row.watch.as_ref().and_then(|w| w.said) {
                let (all, alarmed) = tally.entry(*group).or_default();
                *all += 1;
                *alarmed += usize::from(said.alarmed);
            }
        }
        for (row, group) in self.rows.iter_mut().zip(&self.derived.group) {
            let Some(watch) = &mut row.watch else { continue };
            if let Some(said) = &mut watch.said {
                let (all, alarmed) = tally.get(group).copied().unwrap_or_default();
                said.stands_out = watch.standing >= SETTLED && !(all >= least && 2 * alarmed > all);
            }
        }
    }

    /// Writes what the detector says, and takes the points of unusual combinations off the health scores,
    /// with the reason.
    pub(super) fn weigh_combinations(&mut self) {
        for (out, row) in self.assessments.iter_mut().zip(&self.rows) {
            let Some((watch, said)) = row.watch.as_ref().and_then(|w| Some((w, w.said?))) else { continue };
            if out.health.is_none() {
                continue;
            }
            out.anomaly = Some(said);
            if !said.alarmed || said.strength <= 1.0 {
                continue;
            }
            let words = format!(
                "its metrics together are unlike it: {:.1} × its alarm level, mostly {}",
                said.strength,
                watch.most().map(|m| self.columns[m].label.to_string()).collect::<Vec<_>>().join(" and ")
            );
            out.take_off("combination", health::saturated(said.strength, MOST_ODDS), words);
        }
    }
}

/// A partition's window without its newest part, `[metric][slot]`; `None` where too few slots have data.
fn training(windows: &Windows, p: PartitionIx, options: &CombinedOptions) -> Option<Vec<f32>> {
    let len = windows.config().len;
    let kept = len.checked_sub(options.held_out)?;
    let metrics = windows.metrics().len();
    let mut block = vec![f32::NAN; metrics * kept];
    let mut row = vec![f32::NAN; len];
    for (m, out) in block.chunks_exact_mut(kept).enumerate() {
        windows.copy_row(p, MetricIx(m as u16), &mut row);
        out.copy_from_slice(&row[..kept]);
    }
    let filled = (0..kept).filter(|t| (0..metrics).any(|m| block[m * kept + t].is_finite())).count();
    // What lies before the first sample is not a gap.
    let first = (0..kept).find(|t| (0..metrics).any(|m| block[m * kept + t].is_finite()))?;
    if filled < options.least_slots {
        return None;
    }
    if first == 0 {
        return Some(block);
    }
    Some(block.chunks_exact(kept).flat_map(|row| row[first..].iter().copied()).collect())
}

fn fit(
    block: &[f32],
    metrics: usize,
    pooled: Option<&[Moments]>,
    step: Span,
) -> Option<(AnomalyModel, Vec<Moments>)> {
    let columns: Vec<&[f32]> = block.chunks_exact(block.len() / metrics.max(1)).collect();
    let rows_per_day = rows_per_day(step);
    AnomalyModel::fit(&columns, &FitOptions { pooled, rows_per_day, ..FitOptions::default() }).ok()
}

/// Rows of a day on a grid.
pub fn rows_per_day(step: Span) -> f32 {
    (Span::days(1).as_seconds() / step.as_seconds().max(1e-3)) as f32
}
