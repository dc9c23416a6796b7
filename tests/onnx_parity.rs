//! The built-in kernels and ONNX Runtime say the same of the same file, to 1e-5.

use std::sync::Arc;

use foreshift::fleet::rng::Random;
use foreshift::predict::models::linear;
use foreshift::predict::models::lstm::autoencoder::train_autoencoder;
use foreshift::predict::models::lstm::forecaster::train_forecaster;
use foreshift::predict::models::lstm::train::{Training, train_predictor};
use foreshift::predict::models::onnx::{self, Model};
use foreshift::predict::models::runtime::kernels::Kernels;
use foreshift::predict::models::runtime::{Runtime, Tensor, locate, native::Native};
use foreshift::predict::models::trees::{Forest, Growth, grow};
use foreshift::predict::models::{FeatureMatrix, ModelError};

/// ONNX Runtime, or `None` with a word where it is not installed.
fn native() -> Option<Arc<dyn Runtime>> {
    let configured = std::env::var_os("FORESHIFT_TEST_ONNXRUNTIME").map(std::path::PathBuf::from);
    match locate::find(configured.as_deref()) {
        Some(path) => Some(Arc::new(Native::open(&path).expect("a usable ONNX Runtime"))),
        None => {
            println!("skipped: needs ONNX Runtime (pip install onnxruntime)");
            assert!(std::env::var("CI").is_err(), "CI installs ONNX Runtime");
            None
        }
    }
}

fn normals(count: usize, gaps: f64, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| if random.chance(gaps) { f32::NAN } else { random.normal() as f32 }).collect()
}

fn forest() -> (Forest, linear::Linear) {
    let rows = FeatureMatrix::from_values(12, normals(12 * 2000, 0.1, 1));
    let labels: Vec<f32> =
        (0..2000).map(|r| f32::from(rows.row(r)[0] + rows.row(r)[5] * rows.row(r)[7] > 0.5)).collect();
    let grown = grow(&rows, &labels, &[], None, &Growth { trees: 60, ..Growth::default() });
    (grown, linear::fit(&rows, &labels, &[], 1.0))
}

fn models() -> Vec<Model> {
    let (forest, linear) = forest();
    let training = Training { hidden: 32, epochs: 1, steps: 32, ..Training::default() };
    let windows = normals(64 * 32 * 16, 0.0, 2);
    let autoencoder = train_autoencoder(&windows, 16, &training, &mut |_, _, _| {});
    let predictor = train_predictor(&windows, 16, &training, &mut |_, _, _| {});
    let draw = &mut |random: &mut Random, window: &mut Vec<f32>, ahead: &mut Vec<f32>| {
        window.extend((0..32 * 6).map(|_| random.normal() as f32));
        ahead.extend((0..24).map(|_| random.normal() as f32));
    };
    let forecaster = train_forecaster((6, 24), &training, 5, draw, &mut |_, _, _| {});
    vec![
        Model::Forest(forest.clone()),
        Model::Classifier(forest.clone()),
        Model::Linear(linear.clone()),
        Model::Blend(forest, linear),
        Model::Autoencoder(autoencoder),
        Model::Predictor(predictor),
        Model::Forecaster(forecaster),
    ]
}

fn inputs(model: &Model, rows: usize) -> Vec<Tensor> {
    let shape =
        |dims: &[usize], gaps| Tensor::new(dims.to_vec(), normals(dims.iter().product(), gaps, rows as u64));
    match model {
        Model::Autoencoder(m) => vec![shape(&[m.steps, rows, m.metrics()], 0.0)],
        Model::Forecaster(m) => vec![shape(&[rows, m.steps, m.inputs()], 0.0)],
        Model::Predictor(m) => {
            let state = [1, rows, m.layer.hidden];
            vec![shape(&[rows, m.layer.inputs], 0.0), shape(&state, 0.0), shape(&state, 0.0)]
        }
        _ => vec![shape(&[rows, 12], 0.1)],
    }
}

#[test]
fn both_runtimes_say_the_same_of_every_kind_of_model() {
    let Some(native) = native() else { return };
    println!("{}", native.name());
    for model in models() {
        let bytes = onnx::encode(&model);
        let mut ours = Kernels.load(&bytes, model.kind()).unwrap();
        let mut theirs = native.load(&bytes, model.kind()).unwrap();
        assert_eq!(ours.inputs(), theirs.inputs(), "{}", model.kind());
        for rows in [1, 7, 64, 200] {
            let inputs = inputs(&model, rows);
            let (a, b) = (ours.run(&inputs).unwrap(), theirs.run(&inputs).unwrap());
            assert_eq!(a.len(), b.len());
            let mut worst = 0f32;
            for (a, b) in a.iter().zip(&b) {
                assert_eq!(a.shape, b.shape, "{}", model.kind());
                for (x, y) in a.values.iter().zip(&b.values) {
                    worst = worst.max((x - y).abs());
                }
            }
            assert!(worst <= 1e-5, "{} at {rows} rows: {worst}", model.kind());
        }
    }
}

#[test]
fn a_file_that_was_written_is_read_as_it_was() {
    for model in models() {
        let back = onnx::decode(&onnx::encode(&model), "m.onnx").unwrap();
        // An intercept is kept in 32 bits.
        if !matches!(model, Model::Linear(_) | Model::Blend(..)) {
            assert_eq!(back, model);
        }
        assert_eq!(onnx::encode(&back), onnx::encode(&model));
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused_by_both() {
    let model = models().remove(4);
    let bytes = onnx::encode(&model);
    let mut bad = inputs(&model, 3);
    bad[0].values[700] = f32::NAN;
    let mut runtimes: Vec<Arc<dyn Runtime>> = vec![Arc::new(Kernels)];
    runtimes.extend(native());
    for runtime in runtimes {
        let mut session = runtime.load(&bytes, "ae.onnx").unwrap();
        let error = session.run(&bad).unwrap_err();
        assert!(matches!(error, ModelError::NotFinite { index: 700, .. }), "{error}");
        let error = session.run(&[Tensor::new([2, 2], vec![0.0; 4])]).unwrap_err();
        assert!(error.to_string().contains("expected [32, any, 16], got [2, 2]"), "{error}");
    }
}

#[test]
fn a_file_that_is_no_model_is_refused_with_words() {
    let mut runtimes: Vec<Arc<dyn Runtime>> = vec![Arc::new(Kernels)];
    runtimes.extend(native());
    let good = onnx::encode(&models()[0]);
    for runtime in runtimes {
        for junk in [&b""[..], b"not a model", &good[..good.len() / 2], &[0xff; 4096]] {
            let error = runtime.load(junk, "odd.onnx").err().expect("refused").to_string();
            assert!(error.starts_with("odd.onnx:"), "{error}");
        }
    }
}
