//! The LSTM voter: does this row follow from all before it? A stateful one-step predictor (Malhotra et
//! al. 2015, "Long short term memory networks for anomaly detection in time series") on rows in standard
//! deviations, its residual whitened by the residuals of training, as that of the linear predictor is.
//!
//! What was compared, by VUS-PR on anomalies put into the last 30 % of three SMD train files (no label of a
//! test): the linear voters .581; with this one as heavy as all of them, its residual not whitened .463, by
//! metric .504, whitened .627; with a network that says the change instead of the next row .569; four,
//! eight, sixteen passes over 16 streams .616, .627, .635, over 8 streams eight passes .636, twelve .642.
//! Whitened in both scalings it is .644 for .627 there, and on the labels of the tests no better.

use serde::{Deserialize, Serialize};

use super::moments::shrunk_whitener;
use super::scaler::{Scaler, Scaling};
use super::view::{Norm, dot, quadratic_parts, spread_over};
use crate::predict::models::lstm::Predictor;
use crate::predict::models::lstm::forward::{PredictorRun, State};
use crate::predict::models::lstm::train::{Training, train_predictor};

/// Fewest rows from which a predictor is trained: with fewer the linear voters are better (8,640 rows of
/// the ASD servers: .36 for .48).
pub const FEWEST_ROWS: usize = 20_000;
/// Deviations at which a row is cut for the predictor.
const CLIP: f32 = 10.0;

/// A trained predictor and what its residuals are like.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sequence {
    scaler: Scaler,
    model: Predictor,
    run: PredictorRun,
    /// `d × d`, lower triangular: whitened residual = W r.
    white: Vec<f32>,
    norm: Norm,
}

/// What it carries from row to row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SequenceState {
    memory: State,
    /// What it expects of the next row; empty at the start and after a gap.
    expected: Vec<f32>,
}

impl Sequence {
    /// Trains on checked columns of equal length.
    pub(super) fn fit(columns: &[&[f32]], training: &Training) -> Sequence {
        let d = columns.len();
        let scaler = Scaler::fit(columns, Scaling::Deviation);
        let mut rows = Vec::with_capacity(d * columns[0].len());
        for t in 0..columns[0].len() {
            rows.extend(columns.iter().enumerate().map(|(m, c)| scaled(&scaler, m, c[t])));
        }
        let model = train_predictor(&rows, d, training, &mut |_, _, _| {});
        let run = PredictorRun::new(&model);
        let norm = Norm { median: 0.0, spread: 1.0 };
        let mut out = Sequence { scaler, model, run, white: Vec::new(), norm };
        let mut residuals = Vec::with_capacity(rows.len());
        let mut state = out.state();
        residuals.extend((0..columns[0].len()).flat_map(|t| out.residual(&mut state, |m| columns[m][t])));
        out.white = whitener(&residuals, d);
        let logs: Vec<f32> = residuals.chunks_exact(d).skip(1).map(|r| log_of(&out.whitened(r))).collect();
        out.norm = Norm::of(&logs);
        out
    }

    /// The network, as it stands in a file.
    pub fn predictor(&self) -> &Predictor {
        &self.model
    }

    pub(super) fn state(&self) -> SequenceState {
        SequenceState { memory: self.run.start(1), expected: Vec::new() }
    }

    pub(super) fn bytes(&self) -> usize {
        let cells = self.model.layer.hidden;
        let weights = 4 * cells * (self.scaler.inverse.len() + cells + 1) + self.model.head.weights.len();
        std::mem::size_of::<Self>() + 4 * (2 * weights + self.white.len() + 2 * self.scaler.inverse.len())
    }

    /// The whitened residual of the next row, empty for the first one, and its vote.
    pub(super) fn vote_row(&self, state: &mut SequenceState, row: &[f32]) -> (Vec<f32>, f32) {
        let first = state.expected.is_empty();
        let residual = self.residual(state, |m| row.get(m).copied().unwrap_or(f32::NAN));
        if first {
            return (Vec::new(), 0.0);
        }
        let white = self.whitened(&residual);
        let vote = self.norm.apply(log_of(&white));
        (white, vote)
    }

    /// Gives `vote` out to the metrics by the whitened residual it rests on.
    pub(super) fn share_out(&self, white: &[f32], vote: f32, shares: &mut [f32]) {
        if white.is_empty() {
            return;
        }
        let mut parts = vec![0.0f32; white.len()];
        quadratic_parts(&self.white, white.len(), white, &mut parts);
        spread_over(vote, &parts, shares);
    }

    /// Its vote on every row.
    pub(super) fn votes(&self, columns: &[&[f32]]) -> Vec<f32> {
        let rows = columns.first().map_or(0, |c| c.len());
        let mut state = self.state();
        (0..rows)
            .map(|t| {
                let residual = self.residual(&mut state, |m| columns[m][t]);
                if t == 0 { 0.0 } else { self.norm.apply(log_of(&self.whitened(&residual))) }
            })
            .collect()
    }

    /// What the row is beyond what was expected of it, in deviations; a missing value is as expected.
    fn residual(&self, state: &mut SequenceState, value: impl Fn(usize) -> f32) -> Vec<f32> {
        let d = self.scaler.inverse.len();
        let mut row: Vec<f32> = (0..d).map(|m| scaled(&self.scaler, m, value(m))).collect();
        for (m, z) in row.iter_mut().enumerate().filter(|(_, z)| z.is_nan()) {
            *z = state.expected.get(m).copied().unwrap_or(0.0);
        }
        let next = self.run.step(&row, &mut state.memory);
        for (z, expected) in row.iter_mut().zip(&state.expected) {
            *z -= expected;
        }
        state.expected = next;
        row
    }

    fn whitened(&self, residual: &[f32]) -> Vec<f32> {
        let d = residual.len();
        (0..d).map(|i| dot(&self.white[i * d..i * d + i + 1], &residual[..=i])).collect()
    }
}

impl SequenceState {
    /// After a gap nothing is expected of the next row.
    pub(super) fn after_gap(&mut self) {
        self.expected.clear();
        self.memory.hidden.fill(0.0);
        self.memory.cells.fill(0.0);
    }
}

fn scaled(scaler: &Scaler, metric: usize, value: f32) -> f32 {
    if value.is_finite() { scaler.z(metric, value).clamp(-CLIP, CLIP) } else { f32::NAN }
}

fn log_of(white: &[f32]) -> f32 {
    (1.0 + dot(white, white) / white.len() as f32).ln()
}

/// Whitener of the residuals about zero, the first row left out.
fn whitener(residuals: &[f32], d: usize) -> Vec<f32> {
    let mut sums = vec![0f64; d * d];
    let rows = (residuals.len() / d.max(1)).max(2) - 1;
    for r in residuals.chunks_exact(d).skip(1) {
        for (i, line) in sums.chunks_exact_mut(d).enumerate() {
            for (sum, b) in line[..=i].iter_mut().zip(r) {
                *sum += f64::from(r[i] * b);
            }
        }
    }
    for i in 0..d {
        for j in 0..=i {
            let mean = sums[i * d + j] / rows as f64;
            (sums[i * d + j], sums[j * d + i]) = (mean, mean);
        }
    }
    shrunk_whitener(sums, d).into_iter().map(|w| w as f32).collect()
}
