//! What is measured now, and what baselines learn of it: from history, from the window that is there when
//! a partition is first seen, and step by step.

use std::collections::HashMap;

use rayon::prelude::*;

use super::assess::{Assessor, BATCH, FREEZE_ABOVE};
use super::gap::Gap;
use super::level::{level, mean_back, stands_still};
use super::missing::{Common, MOST_MISSING};
use super::past::{Past, most_hours};
use super::season::Season;
use crate::fleet::{PartitionId, Span, Timestamp};
use crate::telemetry::{MetricIx, PartitionIx, Windows};

/// Metrics that say nothing of how much work there is: their level stays.
const NOT_BY_LOAD: [&str; 3] = ["log.errors", "net.loss", "power.volts"];

impl Assessor {
    /// Takes a part of days of history at coarse spacing. `history` is a window of its own, filled by
    /// the same sources with a wide step (for example 5 minutes × 72); it may hold a part of the time and
    /// of the fleet. All parts together count: the next cycle makes the baselines of them. Call it before
    /// or between cycles; what is learnt later goes on from there.
    pub fn observe_history(&mut self, history: &Windows) {
        self.intern(history.partitions(), history.metrics());
        let width = self.columns.len();
        let columns = &self.columns;
        let row_of: HashMap<&PartitionId, u32> =
            history.partitions().iter().enumerate().map(|(i, p)| (p, i as u32)).collect();
        let metric_of: Vec<Option<MetricIx>> =
            columns.iter().map(|c| history.metric(c.name.as_str())).collect();
        let (start, step) = (history.tail(), history.config().step);
        self.pasts.resize_with(self.baselines.len(), || None);
        let most = most_hours(self.pasts.len());
        self.pasts.par_chunks_mut(width.max(1)).zip(&self.partitions).with_min_len(BATCH).for_each(
            |(pasts, id)| {
                let Some(&row) = row_of.get(id) else { return };
                let mut values = vec![f32::NAN; history.config().len];
                for ((past, column), metric) in pasts.iter_mut().zip(columns).zip(&metric_of) {
                    let Some(metric) = metric else { continue };
                    history.copy_row(PartitionIx(row), *metric, &mut values);
                    Past::add(past, &values, start, step, column.shape, most);
                }
            },
        );
    }

    /// What history tells of a host's own series holds for the partitions on it, as its samples do.
    pub fn share_history(&mut self, windows: &Windows, on_host: &HashMap<PartitionId, Vec<PartitionId>>) {
        if self.pasts.is_empty() || on_host.is_empty() {
            return;
        }
        self.intern_windows(windows);
        let width = self.columns.len();
        let rows: HashMap<&PartitionId, usize> =
            self.partitions.iter().enumerate().map(|(row, id)| (id, row * width)).collect();
        for (host, inside) in on_host {
            let Some(&from) = rows.get(host) else { continue };
            for to in inside.iter().filter_map(|id| rows.get(id)) {
                for m in 0..width {
                    if self.pasts[to + m].is_none() {
                        self.pasts[to + m] = self.pasts[from + m].clone();
                    }
                }
            }
        }
    }

    /// Makes baselines of the history that was read since the last cycle, and notes what it said last.
    pub(super) fn settle_history(&mut self) {
        let (pace, width) = (self.pace, self.columns.len().max(1));
        let columns = &self.columns;
        let mut pasts = std::mem::take(&mut self.pasts);
        (pasts.par_chunks_mut(width), self.baselines.par_chunks_mut(width), self.last.par_chunks_mut(width))
            .into_par_iter()
            .with_min_len(BATCH)
            .for_each(|(pasts, baselines, last)| {
                for (m, past) in pasts.iter_mut().enumerate() {
                    let Some(past) = past.take() else { continue };
                    let shape = columns[m].shape;
                    if let Some(made) = past.baseline(shape, pace) {
                        baselines[m].take_over(made);
                    }
                    if let Some(end) = past.end() {
                        last[m].note_history(end, &baselines[m], shape, pace);
                    }
                }
            });
    }

    /// Present levels, and whether anything can be said at all.
    pub(super) fn read_levels(&mut self, windows: &Windows, now: Timestamp) {
        let width = self.columns.len();
        let measured = windows.metrics().len();
        let options = &self.options;
        let step = windows.config().step;
        let in_slots = |span: Span| (span.0 / step.0).clamp(1, windows.config().len as i64) as usize;
        let reach = in_slots(options.max_age).max(options.level_slots) + 1;
        let flat = in_slots(options.flat_line);
        let metric_age = Span(options.max_age.0.saturating_mul(2));
        let (columns, pace) = (&self.columns, self.pace);
        let (kinds, hosted) = (&self.derived.kind, &self.derived.hosted);
        let common = Common::new(windows, &self.derived.members, options.least_peers, metric_age, now);
        let groups = &self.derived.group;
        let placed = hosted.iter().any(|h| *h > 0);
        (self.levels.par_chunks_mut(width), self.noises.par_chunks_mut(width))
            .into_par_iter()
            .zip(self.slots.par_chunks_mut(width))
            .zip(self.judged.par_chunks_mut(width))
            .zip(self.rows.par_iter_mut())
            .zip(self.baselines.par_chunks(width))
            .zip(self.last.par_chunks_mut(width))
            .take(windows.partitions().len())
            .enumerate()
            .with_min_len(BATCH)
            .for_each(|(p, ((((((levels, noises), slots), judged), row), baselines), last))| {
                let (kind, group) = (usize::from(kinds[p]), groups[p]);
                let idle = placed && hosted[p] == 0;
                let p = PartitionIx(p as u32);
                let (mut fresh, mut still, mut most) = (0u32, 0u32, 0u32);
                let (mut there, mut missing) = (0f64, 0f64);
                for m in 0..width {
                    (levels[m], noises[m], judged[m]) = (f32::NAN, f32::NAN, f32::NAN);
                    slots[m] = 0;
                    let weight = columns[m].weights.get(kind).copied().unwrap_or(1.0);
                    let metric = MetricIx(m as u16);
                    let newest = if m < measured { windows.newest(p, metric) } else { None };
                    let cells =
                        newest.filter(|at| at.age(now).0 <= metric_age.0).map(|_| windows.row(p, metric));
                    let seen = cells.map(|cells| (cells, level(cells, options.level_slots, reach)));
                    last[m].at = newest.map_or(last[m].at, |at| at.max(last[m].at).min(now));
                    let Some((cells, seen)) = seen.filter(|(_, seen)| seen.slots > 0) else {
                        let before = newest.map_or((&[][..], &[][..]), |_| windows.row(p, metric));
                        let others = || common.has(group, m);
                        last[m].is_missed = !(idle && columns[m].of_work)
                            && last[m].is_usual(&baselines[m], (before, step), others, pace, now);
                        missing += if last[m].is_missed { weight } else { 0.0 };
                        continue;
                    };
                    last[m].is_missed = false;
                    there += weight;
                    (levels[m], noises[m]) = (seen.value, seen.noise);
                    slots[m] = seen.slots.min(255) as u8;
                    judged[m] = columns[m].shape.to(seen.value);
                    fresh += 1;
                    most = most.max(seen.slots);
                    still += u32::from(stands_still(cells, flat));
                }
                // Of what is silent since before the windows begin, history knows.
                let remembered = || last.iter().map(|l| l.at).max().filter(|at| at.0 != i64::MIN);
                row.seen = windows.last_seen(p).or_else(remembered);
                let all = there + missing;
                row.coverage = if all > 0.0 { (there / all) as f32 } else { f32::from(u8::from(fresh > 0)) };
                row.gap = match row.seen {
                    None => Some(Gap::Never),
                    Some(seen) if (seen - now).0 > options.max_age.0 => Some(Gap::ClockWentBack),
                    Some(seen) if seen.age(now) > options.max_age => Some(Gap::Stale),
                    Some(_) if fresh == 0 || (most as usize) < options.least_slots => Some(Gap::TooFew),
                    Some(_) if row.coverage < 1.0 - MOST_MISSING => Some(Gap::MostMissing),
                    Some(_) if still == fresh => Some(Gap::StandsStill),
                    Some(_) => None,
                };
            });
    }

    /// A partition seen for the first time learns from the window that is there already, less its
    /// newest part, which is to be judged.
    pub(super) fn seed(&mut self, windows: &Windows) {
        let (width, pace) = (self.columns.len(), self.pace);
        let columns = &self.columns;
        let measured = windows.metrics().len();
        let len = windows.config().len;
        let step = windows.config().step;
        let slots = (pace.step.0 / step.0).max(1) as usize;
        self.baselines
            .par_chunks_mut(width)
            .zip(self.rows.par_iter_mut())
            .take(windows.partitions().len())
            .enumerate()
            .with_min_len(BATCH)
            .filter(|(_, (_, row))| !row.seeded && row.gap.is_none())
            .for_each(|(p, (baselines, row))| {
                row.seeded = true;
                let blocks = len / slots;
                let mut means = vec![f32::NAN; blocks.saturating_sub(2)];
                for m in 0..measured {
                    let cells = windows.row(PartitionIx(p as u32), MetricIx(m as u16));
                    for (b, mean) in means.iter_mut().enumerate() {
                        let newest = len - (b + 1) * slots;
                        *mean = mean_back(cells, newest, newest + slots);
                    }
                    baselines[m].learn_row(&means, pace.step, columns[m].shape, pace);
                }
            });
    }

    /// Baselines take one step for each learning step that has ended since the last cycle.
    pub(super) fn learn(&mut self, windows: &Windows) {
        let (width, pace) = (self.columns.len(), self.pace);
        let ended = windows.head().0.div_euclid(pace.step.0);
        let last = self.last_learnt.replace(ended);
        // What lies further back than a few steps was a gap or is in the seed already.
        let Some(first) = last.filter(|l| *l < ended).map(|l| l.max(ended - 6)) else { return };
        let step = windows.config().step;
        let columns = &self.columns;
        let measured = windows.metrics().len();
        let head = windows.head();
        self.baselines
            .par_chunks_mut(width)
            .zip(self.rows.par_iter_mut())
            .take(windows.partitions().len())
            .enumerate()
            .with_min_len(BATCH)
            .for_each(|(p, (baselines, row))| {
                for block in first..ended {
                    let settling = row.settling > 0;
                    row.settling = row.settling.saturating_sub(1);
                    let start = Timestamp(block * pace.step.0);
                    let to = ((head - start).0 / step.0 + 1).max(0) as usize;
                    let from = to.saturating_sub((pace.step.0 / step.0).max(1) as usize);
                    let season = Season::at(start + Span(pace.step.0 / 2));
                    for m in 0..measured {
                        let cells = windows.row(PartitionIx(p as u32), MetricIx(m as u16));
                        let mean = mean_back(cells, from, to);
                        if mean.is_nan() {
                            continue;
                        }
                        let (shape, baseline) = (columns[m].shape, &mut baselines[m]);
                        let y = shape.to(mean);
                        if settling && !NOT_BY_LOAD.contains(&columns[m].name.as_str()) {
                            baseline.rebase(y, season, shape, pace);
                            continue;
                        }
                        let expected = baseline.normal(y, season, pace);
                        let z = (y - expected) / baseline.scale().max(shape.floor(expected));
                        if row.instability >= FREEZE_ABOVE && z.abs() <= 6.0 {
                            continue;
                        }
                        let noise = shape.spread(mean, level(cells, 1, 12).noise);
                        baseline.learn(y, noise, z, season, shape, pace);
                    }
                }
            });
    }
}
