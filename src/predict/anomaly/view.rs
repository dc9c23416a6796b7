//! One view of a partition: its rows in one scaling, and the three linear voters on them.

use serde::{Deserialize, Serialize};

use super::{
    block::{BLOCK, Block, multiply, square_columns},
    bytes::{Reader, Writer},
    moments::{EWMA, Moments},
    packed::Packed,
    scaler::{Scaler, Scaling, quantile, sorted_sample, standardised},
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
    level: Packed,
    offset: Vec<f32>,
    step: Packed,
    norms: [Norm; VOTERS],
}

/// Room for one row's numbers, used again for the next.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    pub(super) views: [Room; Scaling::BOTH.len()],
    /// A row as it is read, plain and settled.
    pub(super) rows: [Vec<f32>; 2],
    /// Contributions of a row.
    pub(super) shares: Vec<f32>,
    /// What each voter says of it.
    pub(super) votes: Vec<f32>,
    /// The pull of each metric.
    pub(super) pulls: Vec<f32>,
}

/// Of one view.
#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    /// `[z(t), z(t−1), ewma(t−1), 1]`
    now: Vec<f32>,
    white: Vec<f32>,
    left: Vec<f32>,
    parts: Vec<f32>,
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

    pub(super) fn bytes(&self) -> usize {
        std::mem::size_of::<Self>() + 4 * (self.last.len() + self.mean.len())
    }

    pub(super) fn put(&self, to: &mut Writer) {
        to.f32s(&self.last);
        to.f32s(&self.mean);
    }

    pub(super) fn take(from: &mut Reader<'_>, metrics: usize) -> Option<Memory> {
        Some(Memory { last: from.f32s(metrics)?, mean: from.f32s(metrics)? })
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
            level: Packed::of(&whiteners.level, metrics),
            offset: whiteners.offset,
            step: Packed::of(&whiteners.step, metrics),
            norms: [Norm { median: 0.0, spread: 1.0 }; VOTERS],
        };
        let votes = view.log_votes(columns);
        for (norm, values) in view.norms.iter_mut().zip(&votes) {
            *norm = Norm::of(&values[1.min(values.len() - 1)..]);
        }
        (view, moments)
    }

    pub(super) fn put(&self, to: &mut Writer) {
        self.scaler.put(to);
        self.level.put(to);
        to.f32s(&self.offset);
        self.step.put(to);
        self.norms.iter().for_each(|norm| to.f32s(&[norm.median, norm.spread]));
    }

    pub(super) fn take(from: &mut Reader<'_>, metrics: usize) -> Option<View> {
        let scaler = Scaler::take(from, metrics)?;
        let level = Packed::take(from, metrics, metrics)?;
        let offset = from.f32s(metrics)?;
        let step = Packed::take(from, metrics, 3 * metrics + 1)?;
        let mut norms = [Norm { median: 0.0, spread: 1.0 }; VOTERS];
        for norm in &mut norms {
            *norm = Norm { median: from.f32()?, spread: from.f32().filter(|s| *s > 0.0)? };
        }
        Some(View { scaler, level, offset, step, norms })
    }

    pub(super) fn bytes(&self) -> usize {
        std::mem::size_of::<Self>() + 4 * 3 * self.offset.len() + self.level.bytes() + self.step.bytes()
    }

    /// Puts the next row into `room`, a missing value as the metric's running mean.
    pub(super) fn load_row(&self, memory: &Memory, row: &[f32], room: &mut Room) {
        let d = self.offset.len();
        room.now.resize(3 * d + 1, 1.0);
        for part in [&mut room.white, &mut room.left, &mut room.parts] {
            part.resize(d, 0.0);
        }
        // Of each metric the z-score, or its mean, without a branch; what is absent at the end keeps its mean.
        let now = &mut room.now[..d];
        now.copy_from_slice(&memory.mean);
        let Scaler { location, inverse } = &self.scaler;
        for (((z, &value), &location), &inverse) in now.iter_mut().zip(row).zip(location).zip(inverse) {
            let scaled = standardised(value, location, inverse);
            *z = if value.is_finite() & !scaled.is_nan() { scaled } else { *z };
        }
        room.now[d..2 * d].copy_from_slice(&memory.last);
        room.now[2 * d..3 * d].copy_from_slice(&memory.mean);
    }

    /// Each voter's vote on the row in `room`; where `shares` are asked for, what `weight` of it is by metric
    /// is added to them.
    pub(super) fn vote_row(
        &self,
        first: bool,
        weight: f32,
        mut shares: Option<&mut [f32]>,
        room: &mut Room,
    ) -> [f32; VOTERS] {
        let d = self.offset.len();
        let Room { now, white, left, parts } = room;
        let mut votes = [0.0; VOTERS];
        for voter in Voter::ALL {
            let norm = self.norms[voter as usize];
            let square = self.square(voter, now, white);
            let log =
                if first && voter == Voter::Residual { norm.median } else { (1.0 + square / d as f32).ln() };
            let vote = norm.apply(log);
            votes[voter as usize] = vote;
            if let Some(shares) = shares.as_deref_mut() {
                match voter {
                    Voter::Distance => parts.iter_mut().zip(&*white).for_each(|(p, z)| *p = z * z),
                    Voter::Mahalanobis => self.level.quadratic_parts(white, left, parts),
                    Voter::Residual => self.step.quadratic_parts(white, left, parts),
                }
                spread_over(vote * weight, parts, shares);
            }
        }
        votes
    }

    /// The pull of each metric of the row in `room` (see [`super::calm`]); `scales` are [`View::pull_scales`]. To be
    /// asked after [`View::vote_row`], whose last voter is the residual.
    pub(super) fn pull_row(&self, scales: &[f32], room: &Room, pulls: &mut Vec<f32>) {
        pulls.resize(self.offset.len(), 0.0);
        self.step.turned_product(&room.white, pulls);
        pulls.iter_mut().zip(scales).for_each(|(pull, scale)| *pull = pull_of(*pull * scale));
    }

    /// What makes a metric's part of `Wᵀ y` a number of deviations.
    pub(super) fn pull_scales(&self) -> Vec<f32> {
        self.step.lengths().into_iter().map(|length| 1.0 / length.max(f32::MIN_POSITIVE)).collect()
    }

    /// The pulls of every row, `[metric][row]`; that of the first one is 0.
    pub(super) fn pulls(&self, columns: &[&[f32]]) -> Vec<Vec<f32>> {
        let scales = self.pull_scales();
        let d = self.offset.len();
        let rows = columns.first().map_or(0, |c| c.len());
        let step = self.step.dense();
        let width = 3 * d + 1;
        let turned: Vec<f32> = (0..d * d).map(|at| step[at % d * width + at / d]).collect();
        let (mut memory, mut block) = (Memory::new(d), Block::new(d));
        let (mut white, mut pulled) = (vec![0.0f32; d * BLOCK], vec![0.0f32; d * BLOCK]);
        let mut pulls: Vec<Vec<f32>> = vec![Vec::with_capacity(rows); d];
        for from in (0..rows).step_by(BLOCK) {
            let count = block.load(&self.scaler, &mut memory.last, &mut memory.mean, columns, from);
            multiply(&step, &block.values, d, width, &mut white);
            multiply(&turned, &white, d, d, &mut pulled);
            for ((pulls, line), scale) in pulls.iter_mut().zip(pulled.chunks_exact(BLOCK)).zip(&scales) {
                pulls.extend(line[..count].iter().map(|pull| pull_of(pull * scale)));
            }
        }
        pulls.iter_mut().filter_map(|pulls| pulls.first_mut()).for_each(|first| *first = 0.0);
        pulls
    }

    /// The row in `room` is now the last one.
    pub(super) fn pass_row(memory: &mut Memory, room: &Room) {
        let d = memory.last.len();
        memory.last.copy_from_slice(&room.now[..d]);
        for (mean, z) in memory.mean.iter_mut().zip(&room.now) {
            *mean += EWMA * (z - *mean);
        }
    }

    /// One voter's square of a row; `white` is left as what was squared.
    fn square(&self, voter: Voter, now: &[f32], white: &mut [f32]) -> f32 {
        let d = self.offset.len();
        match voter {
            Voter::Distance => white.copy_from_slice(&now[..d]),
            Voter::Mahalanobis => {
                white.copy_from_slice(&self.offset);
                self.level.add_product(&now[..d], white);
            }
            Voter::Residual => {
                white.fill(0.0);
                self.step.add_product(now, white);
            }
        }
        dot(white, white)
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
        let (level, step) = (self.level.dense(), self.step.dense());
        for from in (0..rows).step_by(BLOCK) {
            let count = block.load(&self.scaler, &mut memory.last, &mut memory.mean, columns, from);
            let z = &block.values[..d * BLOCK];
            let mut sums = [[0.0f32; BLOCK]; VOTERS];
            square_columns(z, &mut sums[0]);
            multiply(&level, z, d, d, &mut white);
            for (line, offset) in white.chunks_exact_mut(BLOCK).zip(&self.offset) {
                line.iter_mut().for_each(|y| *y += offset);
            }
            square_columns(&white, &mut sums[1]);
            multiply(&step, &block.values, d, 3 * d + 1, &mut white);
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

/// `ln(1 + a²)`, the logarithm by the exponent and a polynomial of the fourth degree, to within 2e-4: it is asked of
/// each metric of each row, and this the processor does for several at once.
#[inline]
fn pull_of(deviations: f32) -> f32 {
    let bits = (1.0 + deviations * deviations).to_bits();
    let m = f32::from_bits(bits & 0x007f_ffff | 0x3f80_0000);
    let digits = (2.821_202_6 + (-1.469_956_8 + (0.447_179_55 - 0.056_570_85 * m) * m) * m) * m - 1.741_793_9;
    ((bits >> 23) as i32 as f32 - 127.0) * std::f32::consts::LN_2 + digits
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Parts of |y|² by metric, for y = W r with W the lower triangle in the first columns of `matrix`:
/// r_m (Wᵀ y)_m, which is the Shapley value of metric m. What [`Packed::quadratic_parts`] is held to.
#[cfg(test)]
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
