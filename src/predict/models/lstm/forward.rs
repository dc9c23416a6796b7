//! Runs the layers over a batch. Partitions stand side by side in the batch, so that one product of
//! matrices serves all of them.

use serde::{Deserialize, Serialize};

use super::kernel::{multiply_add, step_gates};
use super::{Dense, Layer, Predictor};

/// A layer with its weights turned round for speed: `[inputs][4 hidden]`, `[hidden][4 hidden]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Packed {
    inputs: usize,
    hidden: usize,
    w: Vec<f32>,
    r: Vec<f32>,
    b: Vec<f32>,
}

impl Packed {
    /// Of that layer.
    pub fn new(layer: &Layer) -> Self {
        let gates = 4 * layer.hidden;
        Self {
            inputs: layer.inputs,
            hidden: layer.hidden,
            w: transpose(&layer.w, gates, layer.inputs),
            r: transpose(&layer.r, gates, layer.hidden),
            b: layer.b.clone(),
        }
    }

    /// Numbers of one step.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Cells.
    pub(super) fn hidden(&self) -> usize {
        self.hidden
    }

    /// The layer as it was.
    pub(super) fn layer(&self) -> Layer {
        let gates = 4 * self.hidden;
        Layer {
            inputs: self.inputs,
            hidden: self.hidden,
            w: transpose(&self.w, self.inputs, gates),
            r: transpose(&self.r, self.hidden, gates),
            b: self.b.clone(),
        }
    }

    /// Sums of all gates for `rows` rows of inputs, biases included.
    pub(super) fn input_gates(&self, x: &[f32], rows: usize, gates: &mut Vec<f32>) {
        self.untold_gates(rows, gates);
        multiply_add(gates, x, &self.w, (rows, self.inputs, 4 * self.hidden));
    }

    /// What a layer that is told nothing begins each of its steps with: the biases, once a row.
    pub(super) fn untold_gates(&self, rows: usize, gates: &mut Vec<f32>) {
        gates.clear();
        (0..rows).for_each(|_| gates.extend_from_slice(&self.b));
    }

    /// One step for a batch: `gates` holds the sums of the inputs, and is used up.
    pub(super) fn step(&self, gates: &mut [f32], cells: &mut [f32], hidden: &mut [f32]) {
        let rows = hidden.len() / self.hidden.max(1);
        multiply_add(gates, hidden, &self.r, (rows, self.hidden, 4 * self.hidden));
        step_gates(gates, cells, hidden, self.hidden);
    }
}

/// `[columns][rows]` of `[rows][columns]`.
pub fn transpose(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0f32; rows * columns];
    for r in 0..rows {
        for c in 0..columns {
            out[c * rows + r] = x[r * columns + c];
        }
    }
    out
}

pub(super) fn dense(layer: &Dense, x: &[f32], rows: usize, out: &mut Vec<f32>) {
    out.clear();
    for _ in 0..rows {
        out.extend_from_slice(&layer.bias);
    }
    multiply_add(out, x, &layer.weights, (rows, layer.inputs, layer.outputs));
}

/// Windows as they pass through a network: `[step][window][input]` of windows that are `[step][input]` each,
/// so that a step of all windows is one stretch of memory.
pub fn by_time<'a>(
    windows: impl Iterator<Item = &'a [f32]> + Clone,
    steps: usize,
    inputs: usize,
    out: &mut Vec<f32>,
) {
    out.clear();
    for t in 0..steps {
        for window in windows.clone() {
            out.extend_from_slice(&window[t * inputs..(t + 1) * inputs]);
        }
    }
}

/// Windows that pass together; their gates stay in the second cache.
pub(super) const BATCH: usize = 64;

pub(super) fn reset(values: &mut Vec<f32>, len: usize) {
    values.clear();
    values.resize(len, 0.0);
}

/// What a predictor remembers of each partition.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// `[partition][hidden]`.
    pub hidden: Vec<f32>,
    /// `[partition][hidden]`.
    pub cells: Vec<f32>,
}

/// The predictor, ready to run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PredictorRun {
    layer: Packed,
    head: Dense,
}

impl PredictorRun {
    /// Of these weights.
    pub fn new(model: &Predictor) -> Self {
        Self { layer: Packed::new(&model.layer), head: model.head.clone() }
    }

    /// The network, as it stands in a file.
    pub fn predictor(&self) -> Predictor {
        Predictor { layer: self.layer.layer(), head: self.head.clone() }
    }

    /// Metrics of a row.
    pub fn metrics(&self) -> usize {
        self.layer.inputs
    }

    /// Cells.
    pub fn hidden(&self) -> usize {
        self.layer.hidden
    }

    /// Bytes of the weights of a network of so many metrics and cells.
    pub fn bytes_of(metrics: usize, hidden: usize) -> usize {
        std::mem::size_of::<Self>() + 4 * (4 * hidden * (metrics + hidden + 1) + metrics * (hidden + 1))
    }

    /// The memory of `partitions` partitions that have seen nothing yet.
    pub fn start(&self, partitions: usize) -> State {
        let zero = vec![0.0; partitions * self.layer.hidden];
        State { hidden: zero.clone(), cells: zero }
    }

    /// Takes one row of each partition (`[partition][metric]`) into their memory and says their next
    /// rows.
    ///
    /// # Panics
    /// Where rows and state are not of the same number of partitions.
    pub fn step(&self, rows: &[f32], state: &mut State) -> Vec<f32> {
        let count = state.hidden.len() / self.layer.hidden.max(1);
        assert_eq!(rows.len(), count * self.layer.inputs, "one row a partition");
        let mut gates = Vec::new();
        self.layer.input_gates(rows, count, &mut gates);
        self.layer.step(&mut gates, &mut state.cells, &mut state.hidden);
        let mut out = Vec::new();
        dense(&self.head, &state.hidden, count, &mut out);
        out
    }
}
