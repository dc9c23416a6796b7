//! Trains the autoencoder on windows of healthy partitions and says how well it tells them from others.

use std::collections::BTreeMap;

use super::OnProgress;
use super::Progress;
use super::card::{Card, Data, ERROR_OF_HEALTHY, hash};
use super::failure::{HeadFile, Part, part_of};
use super::replay::Replayed;
use crate::predict::failure::features::FeatureSpec;
use crate::predict::failure::quality::Quality;
use crate::predict::models::lstm::autoencoder::{AutoencoderRun, train_autoencoder};
use crate::predict::models::lstm::forward::by_time;
use crate::predict::models::lstm::train::Training;
use crate::predict::models::onnx::{self, Model};

/// Trains on the replay's windows whose row is `healthy`; judged on held-back partitions, where
/// `healthy(row)` is `Some(false)` for a window that something was wrong in and `None` for one that
/// says neither.
pub fn train(
    replayed: &Replayed,
    spec: &FeatureSpec,
    data: &Data,
    training: &Training,
    healthy: &dyn Fn(usize) -> Option<bool>,
    progress: OnProgress<'_>,
) -> HeadFile {
    let (steps, metrics) = (training.steps, spec.metrics.len());
    let size = steps * metrics;
    let window = |w: usize| &replayed.windows[w * size..(w + 1) * size];
    let mut seen = Vec::new();
    let (mut held, mut wrong) = (Vec::new(), Vec::new());
    for (w, &row) in replayed.window_rows.iter().enumerate() {
        let held_back = part_of(replayed.units[row], training.seed) == Part::HeldBack;
        match healthy(row) {
            Some(true) if !held_back => seen.extend_from_slice(window(w)),
            Some(fine) if held_back => {
                held.extend_from_slice(window(w));
                wrong.push(!fine);
            }
            _ => {}
        }
    }
    let model = train_autoencoder(&seen, metrics, training, &mut |epoch, of, loss| {
        let what = format!("training the autoencoder, loss {loss:.3}");
        progress(Progress { what, share: epoch as f64 / of.max(1) as f64 });
    });
    let mut x = Vec::new();
    by_time(held.chunks_exact(size), steps, metrics, &mut x);
    let rebuilt = AutoencoderRun::new(&model).rebuild(&x);
    let mut errors = vec![0f64; wrong.len()];
    for (at, (a, b)) in x.chunks_exact(metrics).zip(rebuilt.chunks_exact(metrics)).enumerate() {
        let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        errors[at % wrong.len()] += squares / size as f64;
    }
    let quality = Quality::of(&errors, &wrong);
    let calm: Vec<f64> = errors.iter().zip(&wrong).filter(|(_, w)| !**w).map(|(e, _)| *e).collect();
    let mean = calm.iter().sum::<f64>() / calm.len().max(1) as f64;
    let measures = BTreeMap::from([
        ("held_back_windows".to_string(), errors.len() as f64),
        (ERROR_OF_HEALTHY.to_string(), mean),
        ("auroc_of_the_error".to_string(), quality.auroc),
        ("auprc_of_the_error".to_string(), quality.auprc),
    ]);
    let file = Model::Autoencoder(model);
    let onnx = onnx::encode(&file);
    let card = Card {
        title: format!("autoencoder of {steps} steps of {metrics} metrics, in robust deviations"),
        application: None,
        kind: file.kind().into(),
        chosen: format!("{} cells, {} epochs", training.hidden, training.epochs),
        hash: hash(&onnx),
        trained_by: concat!("foreshift ", env!("CARGO_PKG_VERSION")).into(),
        seed: training.seed,
        within_seconds: None,
        calibration: None,
        data: Data { rows: seen.len() / size.max(1), ..data.clone() },
        features: FeatureSpec { metrics: spec.metrics.clone(), ..FeatureSpec::default() },
        quality: None,
        measures,
        calibrator: None,
        ranges: None,
        forecast: None,
    };
    HeadFile { name: "autoencoder".into(), onnx, card }
}
