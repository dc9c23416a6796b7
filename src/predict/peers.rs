//! What is normal among partitions that are alike, now: median and robust spread of each metric in
//! each group. It is the baseline of a partition that has none of its own yet, and what an alarm is
//! held against: when all of them rise together it is the load, not the partition.

use rayon::prelude::*;

use super::baseline::median;

/// Median and robust standard deviation of `[group][metric]`; NaN where too few have a value.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    width: usize,
    median: Vec<f32>,
    sigma: Vec<f32>,
}

impl Peers {
    /// Statistics of `values[partition × width + metric]`, NaN = missing, by the members of each
    /// group. The same whatever the number of threads.
    pub(super) fn of(values: &[f32], width: usize, members: &[Vec<u32>], least: usize) -> Self {
        let columns: Vec<Vec<(f32, f32)>> = (0..width)
            .into_par_iter()
            .map(|m| {
                let mut scratch = Vec::new();
                members
                    .iter()
                    .map(|group| {
                        scratch.clear();
                        scratch.extend(
                            group.iter().map(|&p| values[p as usize * width + m]).filter(|v| v.is_finite()),
                        );
                        spread(&mut scratch, least)
                    })
                    .collect()
            })
            .collect();
        let mut peers = Peers {
            width,
            median: vec![f32::NAN; members.len() * width],
            sigma: vec![f32::NAN; members.len() * width],
        };
        for (m, column) in columns.into_iter().enumerate() {
            for (g, (median, sigma)) in column.into_iter().enumerate() {
                peers.median[g * width + m] = median;
                peers.sigma[g * width + m] = sigma;
            }
        }
        peers
    }

    /// Median and robust standard deviation for the first of `groups` that has enough members.
    pub(super) fn normal(&self, groups: [u32; 3], metric: usize) -> Option<(f32, f32)> {
        groups.iter().find_map(|&g| {
            let cell = g as usize * self.width + metric;
            let median = *self.median.get(cell)?;
            median.is_finite().then(|| (median, self.sigma[cell]))
        })
    }
}

fn spread(values: &mut [f32], least: usize) -> (f32, f32) {
    if values.len() < least.max(1) {
        return (f32::NAN, f32::NAN);
    }
    let middle = median(values);
    for v in values.iter_mut() {
        *v = (*v - middle).abs();
    }
    (middle, median(values) * 1.4826)
}
