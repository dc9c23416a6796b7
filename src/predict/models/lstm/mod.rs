//! Long short-term memory (Hochreiter and Schmidhuber 1997; the equations of ONNX's LSTM operator):
//! an autoencoder over windows, a stateful one-step predictor, and a forecaster that says many steps at
//! once. [`kernel`] is the arithmetic, [`forward`] runs a batch of partitions, [`train`] fits by
//! back-propagation through time, [`autoencoder`] and [`forecaster`] do both for their kind. The weights stand as ONNX keeps
//! them: gates in the order input, output, forget, cell.

use serde::{Deserialize, Serialize};

pub mod autoencoder;
pub mod forecaster;
pub mod forward;
pub mod kernel;
pub mod train;

/// One layer: `w` is `[4 hidden][inputs]`, `r` is `[4 hidden][hidden]`, `b` is `[4 hidden]`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Layer {
    /// Numbers of one step.
    pub inputs: usize,
    /// Cells.
    pub hidden: usize,
    /// Weights of the inputs.
    pub w: Vec<f32>,
    /// Weights of the last step's output.
    pub r: Vec<f32>,
    /// Biases, those of inputs and of the last step summed.
    pub b: Vec<f32>,
}

/// `y = x · weights + bias`; `weights` is `[inputs][outputs]`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Dense {
    /// Numbers in.
    pub inputs: usize,
    /// Numbers out.
    pub outputs: usize,
    /// `[inputs][outputs]`.
    pub weights: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

/// Rebuilds a window from its own summary: what it can't rebuild is unlike what it was trained on.
/// The encoder goes over the window; the decoder begins with what the encoder remembers in the end and is
/// told nothing more (the unconditioned decoder of Srivastava et al. 2015, "Unsupervised learning of video
/// representations using LSTMs"); a dense layer a step.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Autoencoder {
    /// Steps of a window.
    pub steps: usize,
    /// Reads the window.
    pub encoder: Layer,
    /// Writes it again; it has no inputs, and as many cells as the encoder.
    pub decoder: Layer,
    /// From the decoder's cells to the metrics.
    pub head: Dense,
}

/// Says the next row from all before it, whose memory it carries.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Predictor {
    /// The memory.
    pub layer: Layer,
    /// From the cells to the metrics.
    pub head: Dense,
}

/// Reads the past of one series, a few values a step, and says what follows, all steps ahead at once.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Forecaster {
    /// Steps of a window.
    pub steps: usize,
    /// Reads the window.
    pub layer: Layer,
    /// From the last step's cells to the values ahead.
    pub head: Dense,
}

impl Predictor {
    /// Metrics of a row.
    pub fn metrics(&self) -> usize {
        self.head.outputs
    }
}
