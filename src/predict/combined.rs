//! The linear trio ([`AnomalyModel`]) over every partition: is this *combination* of metrics, and the way
//! it follows from the last rows, like the partition itself?
//!
//! A partition's model is fitted from its own window, its correlations blended with those of its
//! application (the partitions of the same class and kind of work) by n / (n + 1500). Fits are made on a
//! rolling schedule: at most [`CombinedOptions::fits`] a cycle, those without a model first, then the
//! oldest, never while the partition is unusual. Each slot of the window is scored once, two slots after
//! it began, when its samples have arrived.
//!
//! What it finds costs points of health beside those of the single metrics, because no single metric
//! carries it; probabilities do not rest on it.

use std::collections::HashMap;

use rayon::prelude::*;

use super::anomaly::{AnomalyModel, AnomalyState, FitOptions, Moments};
use super::assess::{Assessor, BATCH};
use super::health;
use crate::fleet::{Span, Timestamp};
use crate::telemetry::{MetricIx, PartitionIx, Windows};

/// Slots that are left for samples to arrive before a slot is scored.
const LATE: i64 = 2;
/// After a gap of more slots the stream begins anew.
const GAP: i64 = 30;
/// A partition this far from its normal teaches nothing.
const UNUSUAL: f32 = 5.0;
/// Rows after which an application's moments are taken anew.
const POOL_ROWS: f64 = 20_000.0;
/// Partitions that are fitted at once: bounds the memory that moments take meanwhile.
const PART: usize = 64;
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
    /// How many times its alarm level a score must be before it counts.
    pub counts_from: f32,
}

impl Default for CombinedOptions {
    /// 128 fits a cycle, from an hour of slots of 30 s on, without the newest ten minutes, anew after
    /// 720 cycles (two hours at 10 s).
    fn default() -> Self {
        Self { fits: 128, least_slots: 120, held_out: 20, every_cycles: 720, counts_from: 1.2 }
    }
}

/// One partition's model and its stream.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    model: AnomalyModel,
    state: AnomalyState,
    /// Start of the last slot that was scored.
    scored: Timestamp,
    /// The cycle of the fit.
    fitted: u64,
    /// The score in units of its alarm level.
    pub(super) strength: f32,
    /// Contribution of each metric to the last score.
    shares: Vec<f32>,
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
    /// How unlike itself the combination of a partition's metrics is now, in units of its alarm level; 0
    /// where there is no model of it.
    pub fn strength(&self, partition: PartitionIx) -> f32 {
        let watch = self.rows.get(partition.0 as usize).and_then(|row| row.watch.as_ref());
        watch.map_or(0.0, |w| w.strength)
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
                if row.gap.is_some() || watch.model.metrics() != metrics {
                    watch.strength = 0.0;
                    return;
                }
                watch.score(windows, PartitionIx(p as u32), until);
            },
        );
        self.fit_due(windows, until);
    }

    fn fit_due(&mut self, windows: &Windows, until: Timestamp) {
        let options = self.options.combined;
        let (cycle, metrics) = (self.cycle, windows.metrics().len());
        let mut due: Vec<(u64, u32)> = self
            .rows
            .iter()
            .take(windows.partitions().len())
            .enumerate()
            .filter(|(_, row)| row.gap.is_none() && row.instability < UNUSUAL)
            .filter_map(|(p, row)| match &row.watch {
                None => Some((0, p as u32)),
                Some(w) if w.model.metrics() != metrics => Some((0, p as u32)),
                Some(w) if w.strength >= options.counts_from => None,
                Some(w) => (cycle - w.fitted >= options.every_cycles).then_some((w.fitted, p as u32)),
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
        let options = self.options.combined;
        let (cycle, metrics) = (self.cycle, windows.metrics().len());
        let blocks: Vec<(u32, Vec<f32>)> = due
            .par_iter()
            .filter_map(|&(_, p)| Some((p, training(windows, PartitionIx(p), &options)?)))
            .collect();
        let own: Vec<Option<Vec<Moments>>> = blocks
            .par_iter()
            .map(|(_, block)| fit(block, metrics, None).map(|(_, moments)| moments))
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
                let (model, _) = fit(block, metrics, pool.and_then(|pool| pool.moments(metrics)))?;
                let mut watch = Watch {
                    state: model.state(),
                    model,
                    scored: windows.tail(),
                    fitted: cycle,
                    strength: 0.0,
                    shares: vec![0.0; metrics],
                };
                watch.score(windows, PartitionIx(*p), until);
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

    /// Takes the points of unusual combinations off the health scores, with the reason.
    pub(super) fn weigh_combinations(&mut self) {
        let from = self.options.combined.counts_from;
        for (out, row) in self.assessments.iter_mut().zip(&self.rows) {
            let Some(watch) = &row.watch else { continue };
            let over = f64::from(watch.strength / from);
            if over <= 1.0 {
                continue;
            }
            let words = format!(
                "its metrics together are unlike it: {:.1} × its alarm level, mostly {}",
                watch.strength,
                watch.most().map(|m| self.columns[m].label.to_string()).collect::<Vec<_>>().join(" and ")
            );
            out.take_off("combination", health::saturated(over, MOST_ODDS), words);
        }
    }
}

impl Watch {
    /// Scores every slot after the last scored one, until `until`.
    fn score(&mut self, windows: &Windows, p: PartitionIx, until: Timestamp) {
        let (step, len) = (windows.config().step.0, windows.config().len as i64);
        let behind = (windows.head() - self.scored).0 / step;
        let ahead = (until - self.scored).0 / step;
        if ahead <= 0 {
            return;
        }
        if ahead > GAP {
            self.state.after_gap();
        }
        let rows: Vec<(&[f32], &[f32])> =
            (0..self.model.metrics()).map(|m| windows.row(p, MetricIx(m as u16))).collect();
        let mut row = vec![f32::NAN; rows.len()];
        for k in (1..=ahead).filter(|k| behind - k < len) {
            let at = (len - 1 - (behind - k)) as usize;
            for (value, (older, newer)) in row.iter_mut().zip(&rows) {
                *value = older
                    .get(at)
                    .or_else(|| newer.get(at - older.len().min(at)))
                    .copied()
                    .unwrap_or(f32::NAN);
            }
            let seen = self.model.score_row(&mut self.state, &row, &mut self.shares);
            if seen.present > 0.0 {
                self.strength = seen.score / self.model.alarm_level().max(1.0);
            }
        }
        self.scored += Span(ahead * step);
    }

    /// The two metrics that carry most of the score.
    fn most(&self) -> impl Iterator<Item = usize> {
        let shares = self.state.smooth_contributions();
        let mut order: Vec<usize> = (0..shares.len()).collect();
        order.sort_by(|a, b| shares[*b].total_cmp(&shares[*a]).then(a.cmp(b)));
        order.into_iter().take(2)
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

fn fit(block: &[f32], metrics: usize, pooled: Option<&[Moments]>) -> Option<(AnomalyModel, Vec<Moments>)> {
    let columns: Vec<&[f32]> = block.chunks_exact(block.len() / metrics.max(1)).collect();
    AnomalyModel::fit(&columns, &FitOptions { pooled, rows_per_day: 2880.0, ..FitOptions::default() }).ok()
}
