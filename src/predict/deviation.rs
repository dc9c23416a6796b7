//! How far each metric is from what is normal for it, and how unstable each partition is by that.

use rayon::prelude::*;

use super::assess::{Assessor, BATCH};
use super::assessment::Maturity;
use super::gap::Gap;
use super::health;
use super::peers::Peers;
use super::season::Season;
use crate::fleet::Timestamp;

impl Assessor {
    /// Normal and deviation of every metric, and how unstable each partition is by itself and
    /// beside its peers.
    pub(super) fn deviate(&mut self, now: Timestamp) {
        let count = self.derived.group.len();
        let width = self.columns.len();
        let (pace, options) = (self.pace, &self.options);
        let season = Season::at(now);
        let judged = &self.judged;
        let peers = Peers::of(judged, width, &self.derived.members, options.least_peers);
        let (columns, derived) = (&self.columns, &self.derived);
        let (noises, slots, levels) = (&self.noises, &self.slots, &self.levels);
        (self.normal.par_chunks_mut(width), self.deviations.par_chunks_mut(width))
            .into_par_iter()
            .zip(self.baselines.par_chunks_mut(width))
            .zip(self.rows.par_iter_mut())
            .zip(self.last.par_chunks_mut(width))
            .take(count)
            .enumerate()
            .with_min_len(BATCH)
            .for_each(|(p, ((((normal, deviations), baselines), row), last))| {
                let groups = [derived.group[p], derived.class[p], 0];
                let (mut own, mut pooled, mut judged_metrics) = (0u16, 0u32, 0u32);
                for m in 0..width {
                    let cell = p * width + m;
                    let (column, baseline) = (&columns[m], &mut baselines[m]);
                    own = own.max(baseline.count());
                    (normal[m], deviations[m]) = ((f32::NAN, f32::NAN), f32::NAN);
                    if levels[cell].is_nan() {
                        // What is missing goes on to say what it said last.
                        if last[m].is_missed {
                            deviations[m] = last[m].deviation;
                        }
                        continue;
                    }
                    let noise = column.shape.spread(levels[cell], noises[cell]);
                    baseline.first_noise(noise);
                    let noise = if baseline.noise().is_finite() { baseline.noise() } else { 0.0 };
                    let n = baseline.count();
                    let found = if n >= pace.own_scale {
                        // A young scale is uncertain: widened by what is not known yet.
                        Some((
                            baseline.normal(judged[cell], season, pace),
                            baseline.scale() * (1.0 + 8.0 / f32::from(n)),
                        ))
                    } else if let Some(found) = peers.normal(groups, m) {
                        pooled += 1;
                        Some(found)
                    } else if n >= 6 {
                        Some((baseline.expected(season, pace), 2.0 * baseline.scale()))
                    } else {
                        column.prior
                    };
                    let Some((location, scale)) = found else { continue };
                    let scale = scale.max(column.shape.floor(location));
                    let sd = (scale * scale + noise * noise / f32::from(slots[cell].max(1))).sqrt();
                    let z = (judged[cell] - location) / sd;
                    let clip = health::CLIP as f32;
                    normal[m] = (location, sd);
                    deviations[m] = if z.is_nan() { clip } else { z.clamp(-clip, clip) };
                    (last[m].level, last[m].deviation) = (levels[cell], deviations[m]);
                    judged_metrics += 1;
                }
                row.maturity = match own {
                    n if n >= pace.day => Maturity::Own,
                    n if n >= pace.own_scale => Maturity::OwnScale,
                    _ if pooled > 0 => Maturity::Pooled,
                    _ => Maturity::Untrained,
                };
                if row.gap.is_none() && judged_metrics == 0 {
                    row.gap = Some(Gap::NoBaseline);
                }
            });
        let common = Peers::of(&self.deviations, width, &self.derived.members, options.least_peers);
        let deviations = &self.deviations;
        self.rows.par_iter_mut().take(count).enumerate().with_min_len(BATCH).for_each(|(p, row)| {
            let z = &deviations[p * width..(p + 1) * width];
            let bad = |m: usize, z: f32| health::bad_deviation(f64::from(z), columns[m].bad_direction);
            let groups = [derived.group[p], derived.class[p], derived.class[p]];
            row.instability = health::instability((0..width).map(|m| bad(m, z[m]))) as f32;
            row.beside_peers = health::instability((0..width).map(|m| {
                let beside = common.normal(groups, m).map_or(z[m], |(middle, sigma)| {
                    let rest = if middle * z[m] > 0.0 {
                        z[m].signum() * (z[m].abs() - middle.abs()).max(0.0)
                    } else {
                        z[m]
                    };
                    rest / sigma.max(1.0)
                });
                bad(m, beside)
            })) as f32;
        });
    }
}
