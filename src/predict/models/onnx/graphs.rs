//! The graph of each kind of model, written and read.

use super::Model;
use super::build::{Dim, FLOAT, INT64, Reader, floats, int, node, value, whole};
use super::proto::{GraphProto, NodeProto, TensorProto};
use super::trees::{ensemble, forest_of};
use crate::predict::models::error::ModelError;
use crate::predict::models::linear::Linear;
use crate::predict::models::lstm::{Autoencoder, Dense, Forecaster, Layer, Predictor};
use crate::predict::models::trees::Forest;

use Dim::{Fixed, Free};

const REGRESSOR: &str = "TreeEnsembleRegressor";
const CLASSIFIER: &str = "TreeEnsembleClassifier";

/// The graph of a model.
pub(super) fn graph_of(model: &Model) -> GraphProto {
    let graph = match model {
        Model::Forest(forest) => {
            margin_graph(forest.width, vec![ensemble(forest, REGRESSOR, "x", &["margin"])], Vec::new())
        }
        Model::Classifier(forest) => classifier(forest),
        Model::Linear(linear) => {
            let (nodes, constants) = linear_part(linear, "margin");
            margin_graph(linear.weights.len(), nodes, constants)
        }
        Model::Blend(forest, linear) => {
            let mut nodes = vec![ensemble(forest, REGRESSOR, "x", &["margin_trees"])];
            let (part, constants) = linear_part(linear, "margin_linear");
            nodes.extend(part);
            nodes.push(node("Mean", &["margin_trees", "margin_linear"], &["margin"], Vec::new()));
            margin_graph(forest.width, nodes, constants)
        }
        Model::Autoencoder(model) => autoencoder(model),
        Model::Predictor(model) => predictor(model),
        Model::Forecaster(model) => forecaster(model),
    };
    GraphProto { name: Some(model.kind().into()), ..graph }
}

/// The model of a graph that says it is of that kind.
pub(super) fn model_of(kind: &str, graph: &GraphProto, file: &str) -> Result<Model, ModelError> {
    let reader = Reader { graph, file };
    match kind {
        "forest" => Ok(Model::Forest(forest_of(&reader, REGRESSOR, reader.input_dim("x", 1)?)?)),
        "classifier" => Ok(Model::Classifier(forest_of(&reader, CLASSIFIER, reader.input_dim("x", 1)?)?)),
        "linear" => Ok(Model::Linear(linear_of(&reader)?)),
        "blend" => {
            let forest = forest_of(&reader, REGRESSOR, reader.input_dim("x", 1)?)?;
            Ok(Model::Blend(forest, linear_of(&reader)?))
        }
        "lstm-autoencoder" => autoencoder_of(&reader),
        "lstm-predictor" => predictor_of(&reader),
        "lstm-forecaster" => forecaster_of(&reader),
        "" => Err(reader.foreign("it was not written by foreshift")),
        other => Err(reader.foreign(format!("it is of an unknown kind, {other:?}"))),
    }
}

fn margin_graph(width: usize, node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> GraphProto {
    GraphProto {
        node,
        name: None,
        initializer,
        input: vec![value("x", FLOAT, &[Free("N"), Fixed(width)])],
        output: vec![value("margin", FLOAT, &[Free("N"), Fixed(1)])],
    }
}

fn classifier(forest: &Forest) -> GraphProto {
    GraphProto {
        node: vec![ensemble(forest, CLASSIFIER, "x", &["label", "probabilities"])],
        name: None,
        initializer: Vec::new(),
        input: vec![value("x", FLOAT, &[Free("N"), Fixed(forest.width)])],
        output: vec![
            value("label", INT64, &[Free("N")]),
            value("probabilities", FLOAT, &[Free("N"), Fixed(2)]),
        ],
    }
}

/// `where(isnan(x), means, x) − means`, times weights, plus intercept.
fn linear_part(linear: &Linear, output: &str) -> (Vec<NodeProto>, Vec<TensorProto>) {
    let width = linear.weights.len();
    let nodes = vec![
        node("IsNaN", &["x"], &["missing"], Vec::new()),
        node("Where", &["missing", "linear.means", "x"], &["filled"], Vec::new()),
        node("Sub", &["filled", "linear.means"], &["centred"], Vec::new()),
        node("MatMul", &["centred", "linear.weights"], &["weighed"], Vec::new()),
        node("Add", &["weighed", "linear.intercept"], &[output], Vec::new()),
    ];
    let constants = vec![
        floats("linear.means", &[width], &linear.means),
        floats("linear.weights", &[width, 1], &linear.weights),
        floats("linear.intercept", &[1], &[linear.intercept as f32]),
    ];
    (nodes, constants)
}

fn linear_of(reader: &Reader<'_>) -> Result<Linear, ModelError> {
    let width = reader.input_dim("x", 1)?;
    Ok(Linear {
        intercept: f64::from(reader.floats_of("linear.intercept", &[1])?[0]),
        weights: reader.floats_of("linear.weights", &[width, 1])?,
        means: reader.floats_of("linear.means", &[width])?,
    })
}

fn layer_constants(name: &str, layer: &Layer) -> Vec<TensorProto> {
    let gates = 4 * layer.hidden;
    // ONNX keeps two biases; the second is nought here.
    let mut biases = layer.b.clone();
    biases.resize(2 * gates, 0.0);
    vec![
        floats(&format!("{name}.W"), &[1, gates, layer.inputs], &layer.w),
        floats(&format!("{name}.R"), &[1, gates, layer.hidden], &layer.r),
        floats(&format!("{name}.B"), &[1, 2 * gates], &biases),
    ]
}

fn layer_of(reader: &Reader<'_>, name: &str) -> Result<Layer, ModelError> {
    let (dims, w) = reader.floats(&format!("{name}.W"))?;
    let &[1, gates, inputs] = dims.as_slice() else {
        return Err(reader.wrong(format!("{name}.W: expected [1, 4 hidden, inputs], got {dims:?}")));
    };
    let hidden = gates / 4;
    if gates == 0 || gates % 4 != 0 || inputs == 0 {
        return Err(reader.wrong(format!("{name}.W: {gates} rows are not four gates")));
    }
    let r = reader.floats_of(&format!("{name}.R"), &[1, gates, hidden])?;
    let mut b = reader.floats_of(&format!("{name}.B"), &[1, 2 * gates])?;
    b.truncate(gates);
    Ok(Layer { inputs, hidden, w, r, b })
}

fn dense_constants(name: &str, dense: &Dense) -> Vec<TensorProto> {
    vec![
        floats(&format!("{name}.weights"), &[dense.inputs, dense.outputs], &dense.weights),
        floats(&format!("{name}.bias"), &[dense.outputs], &dense.bias),
    ]
}

fn dense_of(reader: &Reader<'_>, name: &str, inputs: usize) -> Result<Dense, ModelError> {
    let (dims, weights) = reader.floats(&format!("{name}.weights"))?;
    let &[got, outputs] = dims.as_slice() else {
        return Err(reader.wrong(format!("{name}.weights: expected two dimensions, got {dims:?}")));
    };
    if got != inputs || outputs == 0 {
        return Err(reader.wrong(format!("{name}.weights: expected {inputs} rows, got {dims:?}")));
    }
    let bias = reader.floats_of(&format!("{name}.bias"), &[outputs])?;
    Ok(Dense { inputs, outputs, weights, bias })
}

/// Windows come and go time first, as the LSTM operator wants them. The decoder has no inputs, which the
/// operator does not know: it gets one that is nought, with weights that are nought. The dense layer is one
/// product over all steps.
fn autoencoder(model: &Autoencoder) -> GraphProto {
    let hidden = |layer: &Layer| vec![int("hidden_size", layer.hidden as i64)];
    let node = vec![
        node(
            "LSTM",
            &["windows", "encoder.W", "encoder.R", "encoder.B"],
            &["", "hidden", "cells"],
            hidden(&model.encoder),
        ),
        node("Shape", &["windows"], &["steps_and_windows"], vec![int("start", 0), int("end", 2)]),
        node("Concat", &["steps_and_windows", "one"], &["untold_shape"], vec![int("axis", 0)]),
        node("ConstantOfShape", &["untold_shape"], &["untold"], Vec::new()),
        node(
            "LSTM",
            &["untold", "decoder.W", "decoder.R", "decoder.B", "", "hidden", "cells"],
            &["told", "", ""],
            hidden(&model.decoder),
        ),
        node("Reshape", &["told", "flat_shape"], &["flat"], Vec::new()),
        node("Gemm", &["flat", "head.weights", "head.bias"], &["rows"], Vec::new()),
        node("Reshape", &["rows", "rebuilt_shape"], &["rebuilt"], Vec::new()),
    ];
    let told_nought = Layer { inputs: 1, w: vec![0.0; 4 * model.decoder.hidden], ..model.decoder.clone() };
    let mut initializer = layer_constants("encoder", &model.encoder);
    initializer.extend(layer_constants("decoder", &told_nought));
    initializer.extend(dense_constants("head", &model.head));
    initializer.push(whole("one", &[1]));
    initializer.push(whole("flat_shape", &[-1, model.decoder.hidden as i64]));
    initializer.push(whole("rebuilt_shape", &[model.steps as i64, -1, model.metrics() as i64]));
    let shape = [Fixed(model.steps), Free("N"), Fixed(model.metrics())];
    GraphProto {
        node,
        name: None,
        initializer,
        input: vec![value("windows", FLOAT, &shape)],
        output: vec![value("rebuilt", FLOAT, &shape)],
    }
}

fn autoencoder_of(reader: &Reader<'_>) -> Result<Model, ModelError> {
    let encoder = layer_of(reader, "encoder")?;
    let told = layer_of(reader, "decoder")?;
    if told.inputs != 1 || told.w.iter().any(|&w| w != 0.0) {
        let detail = "its decoder is told something at each step: train it anew (foreshift train)";
        return Err(reader.wrong(detail));
    }
    let decoder = Layer { inputs: 0, w: Vec::new(), ..told };
    let head = dense_of(reader, "head", decoder.hidden)?;
    let (steps, metrics) = (reader.input_dim("windows", 0)?, reader.input_dim("windows", 2)?);
    if decoder.hidden != encoder.hidden || head.outputs != metrics || encoder.inputs != metrics {
        return Err(reader.wrong("encoder, decoder and head do not fit one another"));
    }
    if steps > 1 << 14 {
        return Err(reader.wrong(format!("windows of {steps} steps")));
    }
    Ok(Model::Autoencoder(Autoencoder { steps, encoder, decoder, head }))
}

fn predictor(model: &Predictor) -> GraphProto {
    let node = vec![
        node("Unsqueeze", &["row", "first"], &["sequence"], Vec::new()),
        node(
            "LSTM",
            &["sequence", "layer.W", "layer.R", "layer.B", "", "hidden", "cells"],
            &["", "hidden_out", "cells_out"],
            vec![int("hidden_size", model.layer.hidden as i64)],
        ),
        node("Squeeze", &["hidden_out", "first"], &["told"], Vec::new()),
        node("MatMul", &["told", "head.weights"], &["weighed"], Vec::new()),
        node("Add", &["weighed", "head.bias"], &["next"], Vec::new()),
    ];
    let mut initializer = layer_constants("layer", &model.layer);
    initializer.extend(dense_constants("head", &model.head));
    initializer.push(whole("first", &[0]));
    let state = [Fixed(1), Free("N"), Fixed(model.layer.hidden)];
    GraphProto {
        node,
        name: None,
        initializer,
        input: vec![
            value("row", FLOAT, &[Free("N"), Fixed(model.layer.inputs)]),
            value("hidden", FLOAT, &state),
            value("cells", FLOAT, &state),
        ],
        output: vec![
            value("next", FLOAT, &[Free("N"), Fixed(model.metrics())]),
            value("hidden_out", FLOAT, &state),
            value("cells_out", FLOAT, &state),
        ],
    }
}

fn predictor_of(reader: &Reader<'_>) -> Result<Model, ModelError> {
    let layer = layer_of(reader, "layer")?;
    let head = dense_of(reader, "head", layer.hidden)?;
    Ok(Model::Predictor(Predictor { layer, head }))
}

fn forecaster(model: &Forecaster) -> GraphProto {
    let perm = super::build::int_list("perm", vec![1, 0, 2]);
    let node = vec![
        node("Transpose", &["windows"], &["by_time"], vec![perm]),
        node(
            "LSTM",
            &["by_time", "layer.W", "layer.R", "layer.B"],
            &["", "summary", ""],
            vec![int("hidden_size", model.layer.hidden as i64)],
        ),
        node("Squeeze", &["summary", "first"], &["told"], Vec::new()),
        node("MatMul", &["told", "head.weights"], &["weighed"], Vec::new()),
        node("Add", &["weighed", "head.bias"], &["ahead"], Vec::new()),
    ];
    let mut initializer = layer_constants("layer", &model.layer);
    initializer.extend(dense_constants("head", &model.head));
    initializer.push(whole("first", &[0]));
    GraphProto {
        node,
        name: None,
        initializer,
        input: vec![value("windows", FLOAT, &[Free("N"), Fixed(model.steps), Fixed(model.inputs())])],
        output: vec![value("ahead", FLOAT, &[Free("N"), Fixed(model.ahead())])],
    }
}

fn forecaster_of(reader: &Reader<'_>) -> Result<Model, ModelError> {
    let layer = layer_of(reader, "layer")?;
    let head = dense_of(reader, "head", layer.hidden)?;
    let steps = reader.input_dim("windows", 1)?;
    if steps > 1 << 14 {
        return Err(reader.wrong(format!("windows of {steps} steps")));
    }
    Ok(Model::Forecaster(Forecaster { steps, layer, head }))
}
