//! The built-in kernels: they run the files that foreshift writes, with nothing to install.

use super::{Missing, Runtime, Session, Slot, Tensor, check_inputs};
use crate::predict::models::error::ModelError;
use crate::predict::models::linear::Linear;
use crate::predict::models::lstm::autoencoder::AutoencoderRun;
use crate::predict::models::lstm::forecaster::ForecasterRun;
use crate::predict::models::lstm::forward::{PredictorRun, State};
use crate::predict::models::matrix::FeatureMatrix;
use crate::predict::models::onnx::{self, Model};
use crate::predict::models::trees::FlatForest;

/// The built-in kernels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernels;

impl Runtime for Kernels {
    fn name(&self) -> String {
        "built-in kernels".into()
    }

    fn load(&self, bytes: &[u8], file: &str) -> Result<Box<dyn Session>, ModelError> {
        Ok(Box::new(Loaded::new(onnx::decode(bytes, file)?)))
    }
}

enum Ready {
    Forest(FlatForest),
    Classifier(FlatForest),
    Linear(Linear),
    Blend(FlatForest, Linear),
    Autoencoder(AutoencoderRun),
    Predictor(PredictorRun),
    Forecaster(ForecasterRun),
}

struct Loaded {
    kind: &'static str,
    ready: Ready,
    inputs: Vec<Slot>,
    outputs: Vec<Slot>,
}

fn slot(name: &str, shape: &[Option<usize>]) -> Slot {
    Slot { name: name.into(), shape: shape.to_vec() }
}

impl Loaded {
    fn new(model: Model) -> Self {
        let kind = model.kind();
        let x = |width: usize| vec![slot("x", &[None, Some(width)])];
        let margin = vec![slot("margin", &[None, Some(1)])];
        let (ready, inputs, outputs) = match &model {
            Model::Forest(forest) => (Ready::Forest(FlatForest::new(forest)), x(forest.width), margin),
            Model::Classifier(forest) => {
                let outputs = vec![slot("label", &[None]), slot("probabilities", &[None, Some(2)])];
                (Ready::Classifier(FlatForest::new(forest)), x(forest.width), outputs)
            }
            Model::Linear(linear) => (Ready::Linear(linear.clone()), x(linear.weights.len()), margin),
            Model::Blend(forest, linear) => {
                (Ready::Blend(FlatForest::new(forest), linear.clone()), x(forest.width), margin)
            }
            Model::Autoencoder(model) => {
                let shape = [Some(model.steps), None, Some(model.metrics())];
                let ready = Ready::Autoencoder(AutoencoderRun::new(model));
                (ready, vec![slot("windows", &shape)], vec![slot("rebuilt", &shape)])
            }
            Model::Predictor(model) => {
                let state = [Some(1), None, Some(model.layer.hidden)];
                let inputs = vec![
                    slot("row", &[None, Some(model.layer.inputs)]),
                    slot("hidden", &state),
                    slot("cells", &state),
                ];
                let outputs = vec![
                    slot("next", &[None, Some(model.metrics())]),
                    slot("hidden_out", &state),
                    slot("cells_out", &state),
                ];
                (Ready::Predictor(PredictorRun::new(model)), inputs, outputs)
            }
            Model::Forecaster(model) => {
                let windows = slot("windows", &[None, Some(model.steps), Some(model.inputs())]);
                let ahead = slot("ahead", &[None, Some(model.ahead())]);
                (Ready::Forecaster(ForecasterRun::new(model)), vec![windows], vec![ahead])
            }
        };
        Self { kind, ready, inputs, outputs }
    }

    fn missing(&self) -> Missing {
        match self.ready {
            Ready::Autoencoder(_) | Ready::Predictor(_) | Ready::Forecaster(_) => Missing::Refused,
            _ => Missing::Taken,
        }
    }
}

fn matrix(x: &Tensor) -> FeatureMatrix {
    FeatureMatrix::from_values(x.shape[1], x.values.clone())
}

fn linear_margins(linear: &Linear, rows: &FeatureMatrix) -> Vec<f32> {
    (0..rows.rows()).map(|r| linear.margin(rows.row(r))).collect()
}

impl Session for Loaded {
    fn inputs(&self) -> &[Slot] {
        &self.inputs
    }

    fn outputs(&self) -> &[Slot] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        check_inputs(self.kind, &self.inputs, self.missing(), inputs)?;
        let first = &inputs[0];
        let rows = first.shape[0];
        let column = |values| vec![Tensor::new([rows, 1], values)];
        Ok(match &self.ready {
            Ready::Forest(forest) => column(forest.margins(&matrix(first))),
            Ready::Linear(linear) => column(linear_margins(linear, &matrix(first))),
            Ready::Blend(forest, linear) => {
                let x = matrix(first);
                let both = forest.margins(&x).into_iter().zip(linear_margins(linear, &x));
                column(both.map(|(a, b)| (a + b) / 2.0).collect())
            }
            Ready::Classifier(forest) => {
                let probability = |m: f32| 1.0 / (1.0 + (-m).exp());
                let p: Vec<f32> = forest.margins(&matrix(first)).into_iter().map(probability).collect();
                let labels = p.iter().map(|&p| f32::from(p > 0.5)).collect();
                let pairs = p.iter().flat_map(|&p| [1.0 - p, p]).collect();
                vec![Tensor::new([rows], labels), Tensor::new([rows, 2], pairs)]
            }
            Ready::Autoencoder(run) => {
                vec![Tensor::new(first.shape.clone(), run.rebuild(&first.values))]
            }
            Ready::Forecaster(run) => {
                let ahead = run.ahead_of(&first.values);
                let width = ahead.len().checked_div(rows).unwrap_or(0);
                vec![Tensor::new([rows, width], ahead)]
            }
            Ready::Predictor(run) => {
                for state in &inputs[1..] {
                    if state.shape[1] != rows {
                        return Err(ModelError::Shape {
                            model: self.kind.into(),
                            input: "hidden and cells".into(),
                            expected: format!("the state of {rows} partitions"),
                            got: state.shape[1].to_string(),
                        });
                    }
                }
                let mut state = State { hidden: inputs[1].values.clone(), cells: inputs[2].values.clone() };
                let next = run.step(&first.values, &mut state);
                let shape = inputs[1].shape.clone();
                let width = next.len().checked_div(rows).unwrap_or(0);
                vec![
                    Tensor::new([rows, width], next),
                    Tensor::new(shape.clone(), state.hidden),
                    Tensor::new(shape, state.cells),
                ]
            }
        })
    }
}
