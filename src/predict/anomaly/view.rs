//! One view of a partition: its rows in one scaling, and the three linear voters on them.

use serde::{Deserialize, Serialize};

use super::{
    block::{BLOCK, Block, multiply, square_columns},
    moments::{EWMA, Moments},
    scaler::{Scaler, Scaling, quantile, sorted_sample},
};

/// One opinion on what is unusual.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Voter {
    /// Mean squared z-score, metric by metric (what PyOD's PCA with few components amounts to).
    Distance,
    /// Shrunk Mahalanobis distance: is this combination of metrics normal?
    Mahalanobis,
    /// Whitened residual of the ridge one-step predictor: does this row follow from the last ones?
    Residual,
}

impl Voter {
    /// All three, in the order of their places.
    pub const ALL: [Voter; 3] = [Voter::Distance, Voter::Mahalanobis, Voter::Residual];
}

/// Voters a view.
pub(super) const VOTERS: usize = Voter::ALL.len();

/// Where a voter's log score stands in training: its median, and from there to its 99.9th percentile.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Norm {
    pub(super) median: f32,
    pub(super) spread: f32,
}

/// One scaling with its voters.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct View {
    pub(super) scaler: Scaler,
    level: Vec<f32>,
    offset: Vec<f32>,
    step: Vec<f32>,
    norms: [Norm; VOTERS],
}

/// What a view carries from row to row: the last row and the running mean, in its z units.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Memory {
    last: Vec<f32>,
    mean: Vec<f32>,
}

impl Memory {
    pub(super) fn new(metrics: usize) -> Memory {
        Memory { last: vec![0.0; metrics], mean: vec![0.0; metrics] }
    }
}

impl View {
    /// Learns from checked columns of equal length.
    pub(super) fn fit(columns: &[&[f32]], scaling: Scaling, pooled: Option<&Moments>) -> (View, Moments) {
        let metrics = columns.len();
        let scaler = Scaler::fit(columns, scaling);
        let mut moments = Moments::new(metrics);
        let mut memory = Memory::new(metrics);
        let mut block = Block::new(metrics);
        for from in (0..columns[0].len()).step_by(BLOCK) {
            let count = block.load(&scaler, &mut memory.last, &mut memory.mean, columns, from);
            moments.add_block(&block.values, BLOCK, count);
        }
        let whiteners = pooled.map_or_else(|| moments.whiteners(), |p| moments.blended(p).whiteners());
        let mut view = View {
            scaler,
            level: whiteners.level,
            offset: whiteners.offset,
            step: whiteners.step,
            norms: [Norm { median: 0.0, spread: 1.0 }; VOTERS],
        };
        let votes = view.log_votes(columns);
        for (norm, values) in view.norms.iter_mut().zip(&votes) {
            *norm = Norm::of(&values[1.min(values.len() - 1)..]);
        }
        (view, moments)
    }

    pub(super) fn bytes(&self) -> usize {
        std::mem::size_of::<Self>()
            + 4 * (2 * self.offset.len() + self.level.len() + self.offset.len() + self.step.len())
    }

    /// Adds this view's part (`weight` a voter) of the score of a row, and of it by metric.
    pub(super) fn score_row(
        &self,
        memory: &mut Memory,
        first: bool,
        row: &[f32],
        weight: f32,
        shares: &mut [f32],
    ) -> f32 {
        let d = self.offset.len();
        let mut now = vec![0.0f32; 3 * d + 1];
        for (m, z) in now[..d].iter_mut().enumerate() {
            let value = row.get(m).copied().filter(|v| v.is_finite());
            let scaled = value.map(|v| self.scaler.z(m, v)).filter(|z| !z.is_nan());
            *z = scaled.unwrap_or(memory.mean[m]);
        }
        now[d..2 * d].copy_from_slice(&memory.last);
        now[2 * d..3 * d].copy_from_slice(&memory.mean);
        now[3 * d] = 1.0;
        let mut score = 0.0;
        let mut parts = vec![0.0f32; d];
        for voter in Voter::ALL {
            let norm = self.norms[voter as usize];
            let log = if first && voter == Voter::Residual {
                norm.median
            } else {
                (1.0 + self.parts(voter, &now, &mut parts) / d as f32).ln()
            };
            let vote = norm.apply(log) * weight;
            score += vote;
            spread_over(vote, &parts, shares);
        }
        memory.last.copy_from_slice(&now[..d]);
        for (mean, z) in memory.mean.iter_mut().zip(&now) {
            *mean += EWMA * (z - *mean);
        }
        score
    }

    /// One voter's square of a row, and its parts by metric (Shapley values of the quadratic form).
    fn parts(&self, voter: Voter, now: &[f32], parts: &mut [f32]) -> f32 {
        let d = self.offset.len();
        let y: Vec<f32> = match voter {
            Voter::Distance => {
                parts.iter_mut().zip(now).for_each(|(p, z)| *p = z * z);
                return parts.iter().sum();
            }
            Voter::Mahalanobis => {
                let y: Vec<f32> = (0..d)
                    .map(|i| self.offset[i] + dot(&self.level[i * d..i * d + i + 1], &now[..=i]))
                    .collect();
                quadratic_parts(&self.level, d, &y, parts);
                y
            }
            Voter::Residual => {
                let width = 3 * d + 1;
                let y: Vec<f32> = (0..d).map(|i| dot(&self.step[i * width..(i + 1) * width], now)).collect();
                quadratic_parts(&self.step, width, &y, parts);
                y
            }
        };
        dot(&y, &y)
    }

    /// Each voter's normalised score of every row.
    pub(super) fn votes(&self, columns: &[&[f32]]) -> [Vec<f32>; VOTERS] {
        let mut votes = self.log_votes(columns);
        for (vote, norm) in votes.iter_mut().zip(&self.norms) {
            vote.iter_mut().for_each(|v| *v = norm.apply(*v));
        }
        votes
    }

    fn log_votes(&self, columns: &[&[f32]]) -> [Vec<f32>; VOTERS] {
        let d = self.offset.len();
        let rows = columns.first().map_or(0, |c| c.len());
        let mut votes: [Vec<f32>; VOTERS] = std::array::from_fn(|_| Vec::with_capacity(rows));
        let mut memory = Memory::new(d);
        let mut block = Block::new(d);
        let mut white = vec![0.0f32; d * BLOCK];
        for from in (0..rows).step_by(BLOCK) {
            let count = block.load(&self.scaler, &mut memory.last, &mut memory.mean, columns, from);
            let z = &block.values[..d * BLOCK];
            let mut sums = [[0.0f32; BLOCK]; VOTERS];
            square_columns(z, &mut sums[0]);
            multiply(&self.level, z, d, d, &mut white);
            for (line, offset) in white.chunks_exact_mut(BLOCK).zip(&self.offset) {
                line.iter_mut().for_each(|y| *y += offset);
            }
            square_columns(&white, &mut sums[1]);
            multiply(&self.step, &block.values, d, 3 * d + 1, &mut white);
            square_columns(&white, &mut sums[2]);
            for (vote, sum) in votes.iter_mut().zip(&sums) {
                vote.extend(sum[..count].iter().map(|s| (1.0 + s / d as f32).ln()));
            }
        }
        if let Some(first) = votes[Voter::Residual as usize].first_mut() {
            *first = self.norms[Voter::Residual as usize].median;
        }
        votes
    }
}

impl Norm {
    pub(super) fn of(values: &[f32]) -> Norm {
        let sorted = sorted_sample(values);
        if sorted.is_empty() {
            return Norm { median: 0.0, spread: 1.0 };
        }
        let median = quantile(&sorted, 0.5);
        Norm { median, spread: (quantile(&sorted, 0.999) - median).max(0.02) }
    }

    #[inline]
    pub(super) fn apply(self, value: f32) -> f32 {
        (value - self.median) / self.spread
    }
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Parts of |y|² by metric, for y = W r with W the lower triangle in the first columns of `matrix`:
/// r_m (Wᵀ y)_m, which is the Shapley value of metric m.
pub(super) fn quadratic_parts(matrix: &[f32], width: usize, y: &[f32], parts: &mut [f32]) {
    let d = y.len();
    let mut r = vec![0.0f32; d];
    for i in 0..d {
        let line = &matrix[i * width..i * width + i + 1];
        r[i] = (y[i] - dot(&line[..i], &r[..i])) / line[i];
    }
    for (m, part) in parts.iter_mut().enumerate() {
        let pulled: f32 = (m..d).map(|i| matrix[i * width + m] * y[i]).sum();
        *part = r[m] * pulled;
    }
}

/// Gives `vote` out to the metrics in proportion to their parts (parts below zero pull the other way and
/// get nothing); evenly where there is no part.
pub(super) fn spread_over(vote: f32, parts: &[f32], shares: &mut [f32]) {
    let total: f32 = parts.iter().map(|p| p.max(0.0)).sum();
    for (share, part) in shares.iter_mut().zip(parts) {
        *share += if total > 0.0 { vote * part.max(0.0) / total } else { vote / parts.len() as f32 };
    }
}
