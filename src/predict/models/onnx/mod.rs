//! Models as ONNX files. Each kind of model has one graph ([`graphs`]): it is written so, and a file
//! is taken by the built-in kernels only where writing it again gives the same graph, so that what
//! they compute is what the file says. ONNX Runtime runs the same files, and any others.

pub mod build;
pub mod graphs;
pub mod proto;
#[cfg(test)]
mod tests;
mod trees;

use prost::Message;
use proto::{ModelProto, OperatorSetId, StringEntry};

use super::error::ModelError;
use super::linear::Linear;
use super::lstm::{Autoencoder, Forecaster, Predictor};
use super::trees::Forest;

/// A model that the built-in kernels can run.
#[derive(Clone, PartialEq, Debug)]
pub enum Model {
    /// `x [N, features]` → `margin [N, 1]`; missing values are NaN.
    Forest(Forest),
    /// `x [N, features]` → `label [N]`, `probabilities [N, 2]`: the logistic of the margin.
    Classifier(Forest),
    /// `x [N, features]` → `margin [N, 1]`; NaN counts as the mean.
    Linear(Linear),
    /// `x [N, features]` → `margin [N, 1]`: the mean of a forest's and a linear margin.
    Blend(Forest, Linear),
    /// `windows [N, steps, metrics]` → `rebuilt [N, steps, metrics]`.
    Autoencoder(Autoencoder),
    /// `row [N, metrics]`, `hidden`, `cells` `[1, N, hidden]` → `next [N, metrics]`, `hidden_out`,
    /// `cells_out`.
    Predictor(Predictor),
    /// `windows [N, steps, inputs]` → `ahead [N, horizon]`.
    Forecaster(Forecaster),
}

impl Model {
    /// The kind, as a card names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Forest(_) => "forest",
            Self::Classifier(_) => "classifier",
            Self::Linear(_) => "linear",
            Self::Blend(..) => "blend",
            Self::Autoencoder(_) => "lstm-autoencoder",
            Self::Predictor(_) => "lstm-predictor",
            Self::Forecaster(_) => "lstm-forecaster",
        }
    }
}

/// The largest file that is read.
pub const MOST_BYTES: usize = 256 << 20;

/// The model as the bytes of an ONNX file.
pub fn encode(model: &Model) -> Vec<u8> {
    let opset =
        |domain: &str, version| OperatorSetId { domain: Some(domain.to_string()), version: Some(version) };
    ModelProto {
        ir_version: Some(8),
        producer_name: Some("foreshift".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        graph: Some(graphs::graph_of(model)),
        opset_import: vec![opset("", 17), opset("ai.onnx.ml", 3)],
        metadata_props: vec![StringEntry { key: Some(KIND.into()), value: Some(model.kind().into()) }],
    }
    .encode_to_vec()
}

const KIND: &str = "foreshift.kind";

/// Reads a file that [`encode`] wrote; `file` is named in errors.
///
/// # Errors
/// Corrupt bytes, a foreign graph, contradicting numbers. Never panics.
pub fn decode(bytes: &[u8], file: &str) -> Result<Model, ModelError> {
    let corrupt = |detail: String| ModelError::Corrupt { file: file.into(), detail };
    if bytes.is_empty() || bytes.len() > MOST_BYTES {
        return Err(corrupt(format!("{} bytes", bytes.len())));
    }
    let proto = ModelProto::decode(bytes).map_err(|e| corrupt(e.to_string()))?;
    let Some(graph) = proto.graph else { return Err(corrupt("it holds no graph".into())) };
    let kind = proto
        .metadata_props
        .iter()
        .find(|p| p.key.as_deref() == Some(KIND))
        .and_then(|p| p.value.clone())
        .unwrap_or_default();
    let model = graphs::model_of(&kind, &graph, file)?;
    if graphs::graph_of(&model) != graph {
        let detail = format!("it says {kind}, but its graph is another");
        return Err(ModelError::Foreign { file: file.into(), detail });
    }
    Ok(model)
}
