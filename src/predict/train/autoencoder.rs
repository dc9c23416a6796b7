//! Trains the autoencoder on windows of healthy partitions and says how well it tells them from others.

use std::collections::BTreeMap;

use super::OnProgress;
use super::Progress;
use super::card::{Card, Data, ERROR_OF_HEALTHY, hash};
use super::failure::{HeadFile, Part, part_of};
use super::replay::Replayed;
use crate::predict::failure::features::FeatureSpec;
use crate::predict::failure::quality::Quality;
use crate::predict::models::lstm::Autoencoder;
use crate::predict::models::lstm::autoencoder::{AutoencoderRun, train_autoencoder};
use crate::predict::models::lstm::forward::by_time;
use crate::predict::models::lstm::train::Training;
use crate::predict::models::onnx::{self, Model};

/// How well the error tells what was wrong, in a card's measures.
pub const AUROC: &str = "auroc_of_the_error";
/// Windows that are rebuilt at once, which bounds the memory.
const AT_ONCE: usize = 256;

/// What a window's row says: nothing was wrong, something was, or neither can be said.
pub type Healthy<'a> = &'a dyn Fn(usize) -> Option<bool>;

/// Windows of held-back partitions, `[window][step][metric]`, and in which of them something was wrong.
#[derive(Clone, Debug, Default)]
pub struct HeldBack {
    /// The windows, one behind the other.
    pub windows: Vec<f32>,
    /// Whether something was wrong in each.
    pub wrong: Vec<bool>,
    /// Steps and metrics of a window.
    pub shape: (usize, usize),
}

/// What the replay's windows are divided into.
struct Divided {
    /// To learn from: of these nothing was wrong.
    seen: Vec<f32>,
    held: HeldBack,
}

fn divide(replayed: &Replayed, metrics: usize, training: &Training, healthy: Healthy<'_>) -> Divided {
    let size = training.steps * metrics;
    let window = |w: usize| &replayed.windows[w * size..(w + 1) * size];
    let held = HeldBack { shape: (training.steps, metrics), ..HeldBack::default() };
    let mut divided = Divided { seen: Vec::new(), held };
    for (w, &row) in replayed.window_rows.iter().enumerate() {
        let held_back = part_of(replayed.units[row], training.seed) == Part::HeldBack;
        match healthy(row) {
            Some(true) if !held_back => divided.seen.extend_from_slice(window(w)),
            Some(fine) if held_back => {
                divided.held.windows.extend_from_slice(window(w));
                divided.held.wrong.push(!fine);
            }
            _ => {}
        }
    }
    divided
}

impl HeldBack {
    /// How well the error of `model` tells windows in which something was wrong from the others, and its mean
    /// over the others.
    pub fn judge(&self, model: &Autoencoder) -> (Quality, f64) {
        let (steps, metrics) = self.shape;
        let size = steps * metrics;
        let mut errors = Vec::with_capacity(self.wrong.len());
        let run = AutoencoderRun::new(model);
        for part in self.windows.chunks((AT_ONCE * size).max(1)) {
            let count = part.len() / size.max(1);
            let mut x = Vec::with_capacity(part.len());
            by_time(part.chunks_exact(size), steps, metrics, &mut x);
            let rebuilt = run.rebuild(&x);
            let mut of_part = vec![0f64; count];
            for (at, (a, b)) in x.chunks_exact(metrics).zip(rebuilt.chunks_exact(metrics)).enumerate() {
                let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
                of_part[at % count] += squares / size as f64;
            }
            errors.extend(of_part);
        }
        let calm: Vec<f64> = errors.iter().zip(&self.wrong).filter(|(_, w)| !**w).map(|(e, _)| *e).collect();
        (Quality::of(&errors, &self.wrong), calm.iter().sum::<f64>() / calm.len().max(1) as f64)
    }
}

/// Trains on the replay's windows whose row is `healthy`; judged on held-back partitions, which are given back,
/// where `healthy(row)` is `Some(false)` for a window that something was wrong in and `None` for one that
/// says neither.
pub fn train(
    replayed: &Replayed,
    spec: &FeatureSpec,
    data: &Data,
    training: &Training,
    healthy: Healthy<'_>,
    progress: OnProgress<'_>,
) -> (HeadFile, HeldBack) {
    let (steps, metrics) = (training.steps, spec.metrics.len());
    let size = steps * metrics;
    let Divided { seen, held } = divide(replayed, metrics, training, healthy);
    let model = train_autoencoder(&seen, metrics, training, &mut |epoch, of, loss| {
        let what = format!("training the autoencoder, loss {loss:.3}");
        progress(Progress { what, share: epoch as f64 / of.max(1) as f64 });
    });
    let (quality, mean) = held.judge(&model);
    let measures = BTreeMap::from([
        ("held_back_windows".to_string(), held.wrong.len() as f64),
        (ERROR_OF_HEALTHY.to_string(), mean),
        (AUROC.to_string(), quality.auroc),
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
    (HeadFile { name: "autoencoder".into(), onnx, card }, held)
}
