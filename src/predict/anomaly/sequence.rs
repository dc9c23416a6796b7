//! The LSTM voter: does this row follow from all before it? A stateful one-step predictor (Malhotra et
//! al. 2015, "Long short term memory networks for anomaly detection in time series") on rows in standard
//! deviations. Its vote is the mean of two: by its residual as it is, and by its residual whitened by those of
//! training, as the linear voters are one distance as it is and two that are whitened.
//!
//! What was compared, by VUS-PR on anomalies put into the last 30 % of three SMD train files (no label of a
//! test): the linear voters .581; with this one as heavy as all of them, its residual whitened .627, with a
//! network that says the change instead of the next row .569; four, eight, sixteen passes over 16 streams
//! .616, .627, .635, over 8 streams eight passes .636, twelve .642. Such anomalies are small, and prefer what
//! real ones do not: inputs squeezed by asinh (.841 for .785 there, by other draws) make the figure on the
//! labels worse (.657 for .676), and the residual as it is beside the whitened one (.721) better (.703).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bytes::{Reader, Writer};
use super::packed::Packed;
use super::scaler::{Scaler, Scaling};
use super::view::{Norm, dot, spread_over};
use super::{model::SEQUENCE, moments::shrunk_whitener};
use crate::predict::models::lstm::forward::{PredictorRun, State};
use crate::predict::models::lstm::train::{Training, train_predictor};
use crate::predict::models::onnx::{self, Model};

/// Fewest rows from which a predictor is trained: with fewer the linear voters are better (8,640 rows of
/// the ASD servers: .36 for .48).
pub const FEWEST_ROWS: usize = 20_000;
/// Deviations at which a row is cut for the predictor.
const CLIP: f32 = 10.0;
/// Most work of a training, in rows read × (metrics + cells): all passes over 30,000 rows of 38 metrics. With
/// the trial before it that is about 4 s of a core (3 s for 23,700 such rows).
const MOST_WORK: usize = SEQUENCE.epochs * 30_000 * (38 + SEQUENCE.hidden);
/// Most cells of a network that is read back.
const MOST_CELLS: usize = 256;
/// No memory of a cell comes so far: it grows by one a row at the most.
const MOST_CELL: f32 = 1e9;

/// A trained predictor and what its residuals are like. The network may be that of a peer; the scale, the
/// whitener and the norms are the partition's own, about 1 KB for 16 metrics.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sequence {
    scaler: Scaler,
    network: Arc<PredictorRun>,
    /// Lower triangular: whitened residual = W r.
    white: Packed,
    /// Of the whitened residual, and of the residual as it is.
    norms: [Norm; 2],
}

/// Who says what the next row will be.
#[derive(Clone, Copy, Debug, Default)]
pub enum Sequencing<'a> {
    /// Nobody: the linear voters alone.
    #[default]
    Never,
    /// A network of its own.
    Trained(Training),
    /// That of another partition.
    Borrowed(&'a Arc<PredictorRun>),
}

/// What it carries from row to row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SequenceState {
    memory: State,
    /// What it expects of the next row; empty at the start and after a gap.
    expected: Vec<f32>,
}

/// What it says of one row.
#[derive(Debug)]
pub(super) struct Surprise {
    residual: Vec<f32>,
    white: Vec<f32>,
    /// By the whitened residual, and by the residual as it is.
    votes: [f32; 2],
}

impl Surprise {
    pub(super) fn vote(&self) -> f32 {
        (self.votes[0] + self.votes[1]) / 2.0
    }
}

impl Sequencing<'_> {
    /// Whether a voter is tried on history of so many rows and metrics.
    pub(super) fn is_tried(self, rows: usize, metrics: usize) -> bool {
        let fits = match self {
            Sequencing::Never => false,
            Sequencing::Trained(_) => true,
            Sequencing::Borrowed(network) => network.metrics() == metrics,
        };
        fits && rows >= FEWEST_ROWS
    }

    /// The same with half of the passes.
    pub(super) fn halved(self) -> Self {
        match self {
            Sequencing::Trained(all) => {
                Sequencing::Trained(Training { epochs: all.epochs.div_ceil(2), ..all })
            }
            other => other,
        }
    }

    /// Randomness of a trial.
    pub(super) fn seed(self) -> u64 {
        match self {
            Sequencing::Trained(training) => training.seed,
            _ => 0,
        }
    }
}

impl Sequence {
    /// From checked columns of equal length; `None` where nobody is to say it.
    pub(super) fn fit(columns: &[&[f32]], sequencing: Sequencing<'_>) -> Option<Sequence> {
        let d = columns.len();
        let scaler = Scaler::fit(columns, Scaling::Deviation);
        let network = match sequencing {
            Sequencing::Never => return None,
            Sequencing::Borrowed(network) => Arc::clone(network),
            Sequencing::Trained(training) => {
                let mut rows = Vec::with_capacity(d * columns[0].len());
                for t in 0..columns[0].len() {
                    rows.extend(columns.iter().enumerate().map(|(m, c)| scaled(&scaler, m, c[t])));
                }
                let training = bounded(training, columns[0].len(), d);
                Arc::new(PredictorRun::new(&train_predictor(&rows, d, &training, &mut |_, _, _| {})))
            }
        };
        let norms = [Norm { median: 0.0, spread: 1.0 }; 2];
        let mut out = Sequence { scaler, network, white: Packed::of(&vec![0.0; d * d], d), norms };
        let mut state = out.state();
        let residuals: Vec<f32> =
            (0..columns[0].len()).flat_map(|t| out.residual(&mut state, |m| columns[m][t])).collect();
        out.white = Packed::of(&whitener(&residuals, d), d);
        let logs =
            |of: &dyn Fn(&[f32]) -> f32| -> Vec<f32> { residuals.chunks_exact(d).skip(1).map(of).collect() };
        out.norms = [Norm::of(&logs(&|r| log_of(&out.whitened(r)))), Norm::of(&logs(&log_of))];
        Some(out)
    }

    /// The network.
    pub fn network(&self) -> &Arc<PredictorRun> {
        &self.network
    }

    pub(super) fn share_network(&mut self, known: &mut Vec<Arc<PredictorRun>>) {
        match known.iter().find(|one| **one == self.network) {
            Some(one) => self.network = Arc::clone(one),
            None => known.push(Arc::clone(&self.network)),
        }
    }

    pub(super) fn state(&self) -> SequenceState {
        SequenceState { memory: self.network.start(1), expected: Vec::new() }
    }

    /// Bytes without those of the network, which may serve others too.
    pub(super) fn bytes(&self) -> usize {
        std::mem::size_of::<Self>() + self.white.bytes() + 8 * self.scaler.inverse.len()
    }

    /// The network as an ONNX file, then the partition's own numbers.
    pub(super) fn put(&self, to: &mut Writer) {
        let file = onnx::encode(&Model::Predictor(self.network.predictor()));
        to.u32(file.len() as u32);
        to.0.extend(file);
        self.scaler.put(to);
        self.white.put(to);
        self.norms.iter().for_each(|norm| to.f32s(&[norm.median, norm.spread]));
    }

    pub(super) fn take(from: &mut Reader<'_>, metrics: usize) -> Option<Sequence> {
        let count = from.u32()? as usize;
        let Ok(Model::Predictor(model)) = onnx::decode(from.slice(count)?, "a kept detector") else {
            return None;
        };
        let shape = (model.layer.inputs, model.head.outputs) == (metrics, metrics)
            && (1..=MOST_CELLS).contains(&model.layer.hidden);
        let weights = [&model.layer.w, &model.layer.r, &model.layer.b, &model.head.weights, &model.head.bias];
        if !shape || weights.into_iter().flatten().any(|w| !w.is_finite()) {
            return None;
        }
        let network = Arc::new(PredictorRun::new(&model));
        let scaler = Scaler::take(from, metrics)?;
        let white = Packed::take(from, metrics, metrics)?;
        let mut norms = [Norm { median: 0.0, spread: 1.0 }; 2];
        for norm in &mut norms {
            *norm = Norm { median: from.f32()?, spread: from.f32().filter(|s| *s > 0.0)? };
        }
        Some(Sequence { scaler, network, white, norms })
    }

    pub(super) fn take_state(&self, from: &mut Reader<'_>) -> Option<SequenceState> {
        let cells = self.network.hidden();
        let memory = State { hidden: from.f32s(cells)?, cells: from.f32s(cells)? };
        let known =
            memory.hidden.iter().all(|h| h.abs() <= 1.0) && memory.cells.iter().all(|c| c.abs() <= MOST_CELL);
        let expected = if from.flag()? { from.f32s(self.network.metrics())? } else { Vec::new() };
        known.then_some(SequenceState { memory, expected })
    }

    /// What it says of the next row; `None` of the first one.
    pub(super) fn vote_row(&self, state: &mut SequenceState, row: &[f32]) -> Option<Surprise> {
        let first = state.expected.is_empty();
        let residual = self.residual(state, |m| row.get(m).copied().unwrap_or(f32::NAN));
        (!first).then(|| self.surprise(residual))
    }

    fn surprise(&self, residual: Vec<f32>) -> Surprise {
        let white = self.whitened(&residual);
        let [of_white, of_plain] = self.norms;
        let votes = [of_white.apply(log_of(&white)), of_plain.apply(log_of(&residual))];
        Surprise { residual, white, votes }
    }

    /// Gives its vote, `weight` of it, out to the metrics by what it rests on.
    pub(super) fn share_out(&self, said: &Surprise, weight: f32, shares: &mut [f32]) {
        let (mut left, mut parts) = (said.white.clone(), said.white.clone());
        let [white, plain] = said.votes.map(|vote| weight * vote / 2.0);
        self.white.quadratic_parts(&said.white, &mut left, &mut parts);
        spread_over(white, &parts, shares);
        parts.iter_mut().zip(&said.residual).for_each(|(part, r)| *part = r * r);
        spread_over(plain, &parts, shares);
    }

    /// Its vote on every row.
    pub(super) fn votes(&self, columns: &[&[f32]]) -> Vec<f32> {
        let rows = columns.first().map_or(0, |c| c.len());
        let mut state = self.state();
        (0..rows)
            .map(|t| {
                let residual = self.residual(&mut state, |m| columns[m][t]);
                if t == 0 { 0.0 } else { self.surprise(residual).vote() }
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
        let next = self.network.step(&row, &mut state.memory);
        for (z, expected) in row.iter_mut().zip(&state.expected) {
            *z -= expected;
        }
        state.expected = next;
        row
    }

    fn whitened(&self, residual: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; residual.len()];
        self.white.add_product(residual, &mut out);
        out
    }
}

impl SequenceState {
    pub(super) fn bytes(&self) -> usize {
        4 * (self.memory.hidden.len() + self.memory.cells.len() + self.expected.len())
    }

    pub(super) fn put(&self, to: &mut Writer) {
        to.f32s(&self.memory.hidden);
        to.f32s(&self.memory.cells);
        to.u8(u8::from(!self.expected.is_empty()));
        to.f32s(&self.expected);
    }

    /// After a gap nothing is expected of the next row.
    pub(super) fn after_gap(&mut self) {
        self.expected.clear();
        self.memory.hidden.fill(0.0);
        self.memory.cells.fill(0.0);
    }
}

/// As many passes as [`MOST_WORK`] allows, one at least.
fn bounded(training: Training, rows: usize, metrics: usize) -> Training {
    let pass = (rows * (metrics + training.hidden)).max(1);
    Training { epochs: training.epochs.min(MOST_WORK / pass).max(1), ..training }
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
