//! The combined model of one partition (or of an application, pooled): fit, score a row, score history.

use serde::{Deserialize, Serialize};

use super::{
    block::{BLOCK, Block, multiply, square_columns},
    error::AnomalyError,
    moments::{EWMA, Moments},
    scaler::Scaler,
    tail::Tails,
};

/// Rows of the trailing mean.
pub const TRAILING: usize = 10;
/// Fewest rows a model is fitted from.
pub const FEWEST_ROWS: usize = 30;

/// One view of what is unusual.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Voter {
    /// Mean squared z-score.
    Distance,
    /// Shrunk Mahalanobis distance.
    Mahalanobis,
    /// Whitened residual of the ridge one-step predictor.
    Residual,
    /// Share of metrics in their tails.
    Tail,
}

impl Voter {
    /// All four, in the order in which [`AnomalyModel::voter_scores`] gives them.
    pub const ALL: [Voter; 4] = [Voter::Distance, Voter::Mahalanobis, Voter::Residual, Voter::Tail];
    /// The default three.
    pub const TRIO: [Voter; 3] = [Voter::Mahalanobis, Voter::Residual, Voter::Tail];
}

/// Where a voter's score stands in training: its median and its distance to the 99th percentile.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Norm {
    median: f32,
    spread: f32,
}

/// How to fit.
#[derive(Clone, Debug)]
pub struct FitOptions<'a> {
    /// Which voters speak.
    pub voters: &'a [Voter],
    /// The application's pooled moments, which own moments blend into.
    pub pooled: Option<&'a Moments>,
}

impl Default for FitOptions<'_> {
    fn default() -> Self {
        FitOptions { voters: &Voter::TRIO, pooled: None }
    }
}

/// What normal looks like for one partition. About 5 KB for 16 metrics.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AnomalyModel {
    metrics: usize,
    rows: usize,
    scaler: Scaler,
    level: Vec<f32>,
    offset: Vec<f32>,
    step: Vec<f32>,
    tails: Tails,
    norms: [Norm; 4],
    voters: Vec<Voter>,
    alarm_raw: f32,
    alarm_smooth: f32,
}

/// What a partition's stream carries from row to row: under 1 KB for 16 metrics.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AnomalyState {
    last: Vec<f32>,
    mean: Vec<f32>,
    seen: u64,
    ring: [f32; TRAILING],
    shares: Vec<f32>,
}

/// The score of one row: 0 = ordinary, 1 = as unusual as the 99th percentile of training.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RowScore {
    /// Of this row alone: for the fast alarm.
    pub raw: f32,
    /// Trailing mean over the last 10 rows: for the state that is shown.
    pub smooth: f32,
    /// Share of metrics that had a value. Where it is 0, the score says nothing.
    pub present: f32,
}

/// Scores of history, one a row.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Scores {
    /// See [`RowScore::raw`].
    pub raw: Vec<f32>,
    /// See [`RowScore::smooth`].
    pub smooth: Vec<f32>,
}

impl AnomalyModel {
    /// Learns from history `columns`, `[metric][time]` on one even grid, NaN = missing. Gives the model and
    /// the partition's own moments (for the application's pooled model).
    pub fn fit(
        columns: &[&[f32]],
        options: &FitOptions<'_>,
    ) -> Result<(AnomalyModel, Moments), AnomalyError> {
        let rows = check(columns)?;
        let metrics = columns.len();
        let scaler = Scaler::fit(columns);
        let mut moments = Moments::new(metrics);
        let mut z: Vec<Vec<f32>> = vec![Vec::with_capacity(rows); metrics];
        let (mut last, mut mean) = (vec![0.0; metrics], vec![0.0; metrics]);
        let mut block = Block::new(metrics);
        for from in (0..rows).step_by(BLOCK) {
            let count = block.load(&scaler, &mut last, &mut mean, columns, from);
            moments.add_block(&block.values, BLOCK, count);
            for (metric, column) in z.iter_mut().enumerate() {
                column.extend_from_slice(&block.values[metric * BLOCK..metric * BLOCK + count]);
            }
        }
        if let Some(pooled) = options.pooled.filter(|p| p.metrics() != metrics) {
            return Err(AnomalyError::Shape { found: pooled.metrics(), expected: metrics });
        }
        let whiteners =
            options.pooled.map_or_else(|| moments.whiteners(), |p| moments.blended(p).whiteners());
        let mut model = AnomalyModel {
            metrics,
            rows,
            scaler,
            level: whiteners.level,
            offset: whiteners.offset,
            step: whiteners.step,
            tails: Tails::fit(&z),
            norms: [Norm { median: 0.0, spread: 1.0 }; 4],
            voters: options.voters.to_vec(),
            alarm_raw: f32::INFINITY,
            alarm_smooth: f32::INFINITY,
        };
        drop(z);
        let votes = model.voter_scores(columns)?;
        for (norm, values) in model.norms.iter_mut().zip(&votes) {
            *norm = Norm::of(&values[1.min(values.len() - 1)..]);
        }
        let scores = model.combined(&votes);
        model.alarm_raw = alarm_level(&scores.raw);
        model.alarm_smooth = alarm_level(&scores.smooth);
        Ok((model, moments))
    }

    /// Metrics a row.
    pub fn metrics(&self) -> usize {
        self.metrics
    }

    /// Rows it was fitted from.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Location and scale of every metric.
    pub fn scaler(&self) -> &Scaler {
        &self.scaler
    }

    /// The raw and smooth scores over which an alarm stands, from the training scores alone.
    pub fn alarm_levels(&self) -> (f32, f32) {
        (self.alarm_raw, self.alarm_smooth)
    }

    /// Bytes of the model.
    pub fn bytes(&self) -> usize {
        std::mem::size_of::<Self>()
            + 4 * (2 * self.metrics + self.level.len() + self.offset.len() + self.step.len())
            + 32 * self.metrics
            + self.voters.len()
    }

    /// A fresh stream.
    pub fn state(&self) -> AnomalyState {
        AnomalyState::new(self.metrics)
    }

    /// Scores the next row (`metrics` values in their own units, NaN = missing) and writes the contribution
    /// of each metric to the raw score into `contributions` (they sum to it). A missing value is taken as
    /// the metric's own running mean. `contributions` and `row` must be `metrics` long; what is beyond is
    /// left alone, what is absent counts as missing.
    pub fn score_row(&self, state: &mut AnomalyState, row: &[f32], contributions: &mut [f32]) -> RowScore {
        let d = self.metrics;
        let mut now = vec![0.0f32; 3 * d + 1];
        let mut present = 0;
        for m in 0..d {
            let value = row.get(m).copied().unwrap_or(f32::NAN);
            let z = if value.is_finite() { self.scaler.z(m, value) } else { f32::NAN };
            present += usize::from(!z.is_nan());
            now[m] = if z.is_nan() { state.mean[m] } else { z };
            now[d + m] = state.last[m];
            now[2 * d + m] = state.mean[m];
        }
        now[3 * d] = 1.0;
        let mut shares = vec![0.0f32; d];
        let mut raw = 0.0;
        for &voter in &self.voters {
            let (value, parts) = self.vote_with_parts(voter, &now, state.seen);
            let vote = self.norms[voter as usize].apply(value) / self.voters.len() as f32;
            raw += vote;
            spread_over(vote, &parts, &mut shares);
        }
        state.last.copy_from_slice(&now[..d]);
        for (mean, z) in state.mean.iter_mut().zip(&now) {
            *mean += EWMA * (z - *mean);
        }
        state.push(raw, &shares);
        for (out, share) in contributions.iter_mut().zip(&shares) {
            *out = *share;
        }
        RowScore { raw, smooth: state.smooth(), present: present as f32 / d as f32 }
    }

    /// One voter's log score of a row and its parts by metric (Shapley values of the quadratic form).
    fn vote_with_parts(&self, voter: Voter, now: &[f32], seen: u64) -> (f32, Vec<f32>) {
        let d = self.metrics;
        let mut parts = vec![0.0f32; d];
        let total: f32 = match voter {
            Voter::Distance => {
                parts.iter_mut().zip(now).for_each(|(p, z)| *p = z * z);
                parts.iter().sum::<f32>() / d as f32
            }
            Voter::Tail => {
                for (m, part) in parts.iter_mut().enumerate() {
                    *part = self.tails.vote(m, now[m]);
                }
                parts.iter().sum::<f32>() / d as f32
            }
            Voter::Mahalanobis => {
                let y: Vec<f32> = (0..d)
                    .map(|i| self.offset[i] + dot(&self.level[i * d..i * d + i + 1], &now[..=i]))
                    .collect();
                quadratic_parts(&self.level, d, &y, &mut parts);
                dot(&y, &y) / d as f32
            }
            Voter::Residual if seen == 0 => return (self.norms[voter as usize].median, parts),
            Voter::Residual => {
                let width = 3 * d + 1;
                let y: Vec<f32> = (0..d).map(|i| dot(&self.step[i * width..(i + 1) * width], now)).collect();
                quadratic_parts(&self.step, width, &y, &mut parts);
                dot(&y, &y) / d as f32
            }
        };
        ((1.0 + total).ln(), parts)
    }

    /// Each voter's log score of every row, in the order of [`Voter::ALL`], not yet normalised.
    pub fn voter_scores(&self, columns: &[&[f32]]) -> Result<[Vec<f32>; 4], AnomalyError> {
        let rows = same_rows(columns)?;
        let d = self.metrics;
        if columns.len() != d {
            return Err(AnomalyError::Shape { found: columns.len(), expected: d });
        }
        let mut votes: [Vec<f32>; 4] = std::array::from_fn(|_| Vec::with_capacity(rows));
        let (mut last, mut mean) = (vec![0.0; d], vec![0.0; d]);
        let mut block = Block::new(d);
        let mut white = vec![0.0f32; d * BLOCK];
        for from in (0..rows).step_by(BLOCK) {
            let count = block.load(&self.scaler, &mut last, &mut mean, columns, from);
            let z = &block.values[..d * BLOCK];
            let mut sums = [[0.0f32; BLOCK]; 4];
            square_columns(z, &mut sums[0]);
            multiply(&self.level, z, d, d, &mut white);
            for (i, line) in white.chunks_exact_mut(BLOCK).enumerate() {
                line.iter_mut().for_each(|y| *y += self.offset[i]);
            }
            square_columns(&white, &mut sums[1]);
            multiply(&self.step, &block.values, d, 3 * d + 1, &mut white);
            square_columns(&white, &mut sums[2]);
            for (m, line) in z.chunks_exact(BLOCK).enumerate() {
                for (sum, &z) in sums[3].iter_mut().zip(line) {
                    *sum += self.tails.vote(m, z);
                }
            }
            for (vote, sum) in votes.iter_mut().zip(&sums) {
                vote.extend(sum[..count].iter().map(|s| (1.0 + s / d as f32).ln()));
            }
        }
        if let Some(first) = votes[Voter::Residual as usize].first_mut() {
            *first = self.norms[Voter::Residual as usize].median;
        }
        Ok(votes)
    }

    /// Scores history `[metric][time]` in blocks; the same values as [`AnomalyModel::score_row`] row by row.
    pub fn score_columns(&self, columns: &[&[f32]]) -> Result<Scores, AnomalyError> {
        let votes = self.voter_scores(columns)?;
        Ok(self.combined(&votes))
    }

    fn combined(&self, votes: &[Vec<f32>; 4]) -> Scores {
        let mut raw = vec![0.0f32; votes[0].len()];
        for &voter in &self.voters {
            let norm = self.norms[voter as usize];
            for (sum, v) in raw.iter_mut().zip(&votes[voter as usize]) {
                *sum += norm.apply(*v) / self.voters.len() as f32;
            }
        }
        let smooth = trailing_mean(&raw, TRAILING);
        Scores { raw, smooth }
    }
}

impl AnomalyState {
    fn new(metrics: usize) -> AnomalyState {
        AnomalyState {
            last: vec![0.0; metrics],
            mean: vec![0.0; metrics],
            seen: 0,
            ring: [0.0; TRAILING],
            shares: vec![0.0; metrics * TRAILING],
        }
    }

    /// After a gap in the data the one-step predictor starts anew; the level is kept.
    pub fn after_gap(&mut self) {
        self.seen = 0;
        self.ring = [0.0; TRAILING];
        self.shares.fill(0.0);
    }

    fn push(&mut self, raw: f32, shares: &[f32]) {
        let place = (self.seen % TRAILING as u64) as usize;
        self.ring[place] = raw;
        self.shares[place * shares.len()..(place + 1) * shares.len()].copy_from_slice(shares);
        self.seen += 1;
    }

    fn filled(&self) -> usize {
        self.seen.min(TRAILING as u64) as usize
    }

    fn smooth(&self) -> f32 {
        self.ring[..self.filled()].iter().sum::<f32>() / self.filled().max(1) as f32
    }

    /// Contributions to the smooth score by metric; they sum to it.
    pub fn smooth_contributions(&self) -> Vec<f32> {
        let d = self.last.len();
        let mut out = vec![0.0f32; d];
        for line in self.shares.chunks_exact(d.max(1)).take(self.filled()) {
            out.iter_mut().zip(line).for_each(|(o, s)| *o += s / self.filled() as f32);
        }
        out
    }

    /// Rows seen since the start or the last gap.
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

impl Norm {
    fn of(values: &[f32]) -> Norm {
        let sorted = super::scaler::sorted_sample(values);
        if sorted.is_empty() {
            return Norm { median: 0.0, spread: 1.0 };
        }
        let median = super::scaler::quantile(&sorted, 0.5);
        Norm { median, spread: (super::scaler::quantile(&sorted, 0.99) - median).max(0.05) }
    }

    #[inline]
    fn apply(self, value: f32) -> f32 {
        (value - self.median) / self.spread
    }
}

fn check(columns: &[&[f32]]) -> Result<usize, AnomalyError> {
    let rows = same_rows(columns)?;
    let found = (0..rows).filter(|&t| columns.iter().any(|c| c[t].is_finite())).count();
    if found < FEWEST_ROWS {
        return Err(AnomalyError::TooShort { found, needed: FEWEST_ROWS });
    }
    Ok(rows)
}

fn same_rows(columns: &[&[f32]]) -> Result<usize, AnomalyError> {
    let rows = columns.first().ok_or(AnomalyError::NoMetric)?.len();
    match columns.iter().position(|c| c.len() != rows) {
        Some(metric) => Err(AnomalyError::Ragged { metric, found: columns[metric].len(), expected: rows }),
        None => Ok(rows),
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Parts of |y|² by metric, for y = W r with W the lower triangle in the first columns of `matrix`:
/// r_m (Wᵀ y)_m, which is the Shapley value of metric m.
fn quadratic_parts(matrix: &[f32], width: usize, y: &[f32], parts: &mut [f32]) {
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
fn spread_over(vote: f32, parts: &[f32], shares: &mut [f32]) {
    let total: f32 = parts.iter().map(|p| p.max(0.0)).sum();
    for (share, part) in shares.iter_mut().zip(parts) {
        *share += if total > 0.0 { vote * part.max(0.0) / total } else { vote / parts.len() as f32 };
    }
}

/// Mean over the last `width` values, fewer at the start.
pub fn trailing_mean(values: &[f32], width: usize) -> Vec<f32> {
    let mut sum = 0.0f64;
    values
        .iter()
        .enumerate()
        .map(|(i, &v)| {
            sum += f64::from(v);
            if i >= width {
                sum -= f64::from(values[i - width]);
            }
            (sum / (i + 1).min(width) as f64) as f32
        })
        .collect()
}

/// Over the highest training score but for one row in two thousand, and half as much again.
fn alarm_level(scores: &[f32]) -> f32 {
    let mut sorted: Vec<f32> = scores.iter().copied().filter(|s| s.is_finite()).collect();
    if sorted.is_empty() {
        return f32::INFINITY;
    }
    sorted.sort_unstable_by(f32::total_cmp);
    super::scaler::quantile(&sorted, 0.9995) * 1.5
}
