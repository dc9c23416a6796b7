//! Runs the layers over a batch. Partitions stand side by side in the batch, so that one product of
//! matrices serves all of them.

use serde::{Deserialize, Serialize};

use super::kernel::{multiply_add, step_gates};
use super::{Autoencoder, Dense, Layer, Predictor};

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
        gates.clear();
        for _ in 0..rows {
            gates.extend_from_slice(&self.b);
        }
        multiply_add(gates, x, &self.w, (rows, self.inputs, 4 * self.hidden));
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

/// Windows that pass together; their gates stay in the second cache.
pub(super) const BATCH: usize = 64;

/// The autoencoder, ready to run.
#[derive(Clone, Debug)]
pub struct AutoencoderRun {
    steps: usize,
    encoder: Packed,
    decoder: Packed,
    head: Dense,
}

impl AutoencoderRun {
    /// Of these weights.
    pub fn new(model: &Autoencoder) -> Self {
        Self {
            steps: model.steps,
            encoder: Packed::new(&model.encoder),
            decoder: Packed::new(&model.decoder),
            head: model.head.clone(),
        }
    }

    /// Rebuilds windows: `[window][step][metric]` in and out.
    ///
    /// # Panics
    /// Where `windows` is not a whole number of windows.
    pub fn rebuild(&self, windows: &[f32]) -> Vec<f32> {
        let size = self.steps * self.encoder.inputs;
        assert_eq!(windows.len() % size.max(1), 0, "a whole number of windows");
        let mut out = Vec::with_capacity(windows.len());
        let mut scratch = Scratch::default();
        for batch in windows.chunks(BATCH * size.max(1)) {
            self.batch(batch, &mut scratch, &mut out);
        }
        out
    }

    fn batch(&self, windows: &[f32], scratch: &mut Scratch, out: &mut Vec<f32>) {
        let (steps, metrics) = (self.steps, self.encoder.inputs);
        let count = windows.len() / (steps * metrics);
        let Scratch { x, gates, step, cells, hidden, tape, rows } = scratch;
        // Time first, so that a step of all windows is one stretch of memory.
        x.clear();
        for t in 0..steps {
            for window in windows.chunks_exact(steps * metrics) {
                x.extend_from_slice(&window[t * metrics..(t + 1) * metrics]);
            }
        }
        self.encoder.input_gates(x, steps * count, gates);
        reset(cells, count * self.encoder.hidden);
        reset(hidden, count * self.encoder.hidden);
        for gates in gates.chunks_exact_mut(count * 4 * self.encoder.hidden) {
            self.encoder.step(gates, cells, hidden);
        }
        self.decoder.input_gates(hidden, count, gates);
        reset(cells, count * self.decoder.hidden);
        reset(hidden, count * self.decoder.hidden);
        tape.clear();
        for _ in 0..steps {
            step.clear();
            step.extend_from_slice(gates);
            self.decoder.step(step, cells, hidden);
            tape.extend_from_slice(hidden);
        }
        dense(&self.head, tape, steps * count, rows);
        let width = self.head.outputs;
        for window in 0..count {
            for t in 0..steps {
                let start = (t * count + window) * width;
                out.extend_from_slice(&rows[start..start + width]);
            }
        }
    }
}

#[derive(Default)]
struct Scratch {
    x: Vec<f32>,
    gates: Vec<f32>,
    step: Vec<f32>,
    cells: Vec<f32>,
    hidden: Vec<f32>,
    tape: Vec<f32>,
    rows: Vec<f32>,
}

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
