//! Trains a model of failure from replayed history, judges it on partitions that were held back, and
//! compares it with the one that runs.

use std::collections::BTreeSet;

use super::card::{Card, Data, hash};
use super::replay::Replayed;
use super::{OnProgress, Progress};
use crate::fleet::{Span, Timestamp};
use crate::predict::assessment::Calibration;
use crate::predict::failure::features::FeatureSpec;
use crate::predict::failure::fit::{Candidates, Sample, fit};
use crate::predict::failure::model::{FailureModel, Head, Scorer, Trees};
use crate::predict::failure::quality::Quality;
use crate::predict::failure::ranges::Ranges;
use crate::predict::failure::signature::SignatureMemory;
use crate::predict::models::error::ModelError;
use crate::predict::models::onnx::{self, Model};

/// What training is told.
#[derive(Clone, PartialEq, Debug)]
pub struct TrainOptions {
    /// Windows, one head each.
    pub windows: Vec<Span>,
    /// What is tried.
    pub candidates: Candidates,
    /// How far the probabilities may be taken at their word where training succeeds.
    pub calibration: Calibration,
    /// Seed of the split and of the models.
    pub seed: u64,
}

/// One head as files: the ONNX bytes and the card.
#[derive(Clone, PartialEq, Debug)]
pub struct HeadFile {
    /// `failure-1h`.
    pub name: String,
    /// The ONNX file.
    pub onnx: Vec<u8>,
    /// Its card.
    pub card: Card,
}

/// What training gives.
#[derive(Clone, Debug)]
pub struct Trained {
    /// One a window that had both kinds of label; shortest window first.
    pub files: Vec<HeadFile>,
    /// The same, ready to run.
    pub model: FailureModel,
    /// Windows that could not be learnt, each with the reason.
    pub untrained: Vec<Untrained>,
}

/// A window that could not be learnt.
#[derive(Clone, PartialEq, Debug)]
pub struct Untrained {
    /// The window.
    pub within: Span,
    /// Why.
    pub why: String,
}

impl Untrained {
    /// `within 24 h: not trained: …`
    pub fn words(&self) -> String {
        format!("within {}: not trained: {}", self.within.as_window(), self.why)
    }
}

/// Which part of the training a partition belongs to: three fifths train, a fifth chooses and
/// calibrates, a fifth judges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Learnt from.
    Train,
    /// Chosen and calibrated on.
    Validation,
    /// Held back.
    HeldBack,
}

/// The part of a partition, by its number and the seed.
pub fn part_of(unit: u32, seed: u64) -> Part {
    let digest = blake3::hash(&[unit.to_le_bytes().as_slice(), &seed.to_le_bytes()].concat());
    match digest.as_bytes()[0] % 5 {
        0..=2 => Part::Train,
        3 => Part::Validation,
        _ => Part::HeldBack,
    }
}

/// What became of a row within a window; `None` = cannot be known.
pub type LabelOf<'a> = &'a dyn Fn(usize, Span) -> Option<bool>;
/// How much a row counts.
pub type WeightOf<'a> = &'a dyn Fn(usize) -> f32;

/// Trains a head a window. `label(row, window)` says what became of a row (`None` = cannot be known:
/// left out), `weight(row)` how much it counts (1 everywhere keeps the data's own base rate).
///
/// # Errors
/// No window has failures and survivals in every part of the data.
pub fn train_failure(
    replayed: &Replayed,
    spec: &FeatureSpec,
    data: &Data,
    options: &TrainOptions,
    (label, weight): (LabelOf<'_>, WeightOf<'_>),
    progress: OnProgress<'_>,
) -> Result<Trained, ModelError> {
    let mut windows = options.windows.clone();
    windows.sort();
    let (mut files, mut untrained) = (Vec::new(), Vec::new());
    for (k, &within) in windows.iter().enumerate() {
        let what = format!("fitting the window of {within}");
        progress(Progress { what, share: k as f64 / windows.len() as f64 });
        match train_head(replayed, spec, data, options, within, (label, weight)) {
            Some(file) => files.push(file?),
            None => untrained.push(Untrained { within, why: why_not(replayed, options.seed, within, label) }),
        }
    }
    if files.is_empty() {
        let why: Vec<String> = untrained.iter().map(Untrained::words).collect();
        return Err(ModelError::TooFew {
            of: data.source.clone(),
            detail: format!(
                "{} of {} partitions failed, too few to train on: {}",
                data.failures,
                data.partitions,
                why.join("; ")
            ),
        });
    }
    let model = assemble(files.iter().map(|f| (f.onnx.as_slice(), f.card.clone())))?;
    progress(Progress { what: "done".into(), share: 1.0 });
    Ok(Trained { files, model, untrained })
}

/// Why nothing could be learnt of a window.
fn why_not(replayed: &Replayed, seed: u64, within: Span, label: LabelOf<'_>) -> String {
    let (mut known, mut failed) = (0usize, [BTreeSet::new(), BTreeSet::new()]);
    for (row, &unit) in replayed.units.iter().enumerate() {
        let Some(fails) = label(row, within) else { continue };
        known += 1;
        match part_of(unit, seed) {
            Part::Train if fails => _ = failed[0].insert(unit),
            Part::Validation if fails => _ = failed[1].insert(unit),
            _ => {}
        }
    }
    if known == 0 {
        return "the history is too short to know what became of anybody within that time".into();
    }
    format!(
        "hosts on which a partition failed within it: {} to learn from and {} to choose by; both need one, and \
         one on which none did",
        failed[0].len(),
        failed[1].len()
    )
}

fn train_head(
    replayed: &Replayed,
    spec: &FeatureSpec,
    data: &Data,
    options: &TrainOptions,
    within: Span,
    (label, weight): (LabelOf<'_>, WeightOf<'_>),
) -> Option<Result<HeadFile, ModelError>> {
    let gather = |part: Part| {
        let rows: Vec<usize> = (0..replayed.units.len())
            .filter(|&r| part_of(replayed.units[r], options.seed) == part && label(r, within).is_some())
            .collect();
        let labels: Vec<bool> = rows.iter().filter_map(|&r| label(r, within)).collect();
        let units: Vec<u32> = rows.iter().map(|&r| replayed.units[r]).collect();
        let weights: Vec<f32> = rows.iter().map(|&r| weight(r)).collect();
        let even = weights.iter().all(|&w| w == 1.0);
        (replayed.rows.select(&rows), labels, units, if even { Vec::new() } else { weights })
    };
    let [train, validation, held] = [Part::Train, Part::Validation, Part::HeldBack].map(gather);
    let fitted = fit(
        &Sample { rows: &train.0, labels: &train.1, units: &train.2, weights: &train.3 },
        &Sample { rows: &validation.0, labels: &validation.1, units: &validation.2, weights: &validation.3 },
        &options.candidates,
    )?;
    let model = match &fitted.scorer {
        Scorer::Trees(trees) => Model::Forest(trees.forest().clone()),
        Scorer::Linear(linear) => Model::Linear(linear.clone()),
        Scorer::Blend(trees, linear) => Model::Blend(trees.forest().clone(), linear.clone()),
        Scorer::Mapping { .. } => return None,
    };
    let shown: Vec<f64> =
        fitted.scorer.margins(&held.0).into_iter().map(|m| fitted.calibrator.probability(m)).collect();
    let quality = Quality::of(&shown, &held.1);
    // What is no better than the base rate on held-back partitions is calibrated on nothing.
    let calibration = match options.calibration {
        Calibration::Calibrated if !quality.beats_base_rate() => Calibration::Uncalibrated,
        as_told => as_told,
    };
    let onnx = onnx::encode(&model);
    let card = Card {
        title: format!("failure within {}", within.as_window()),
        application: None,
        kind: model.kind().into(),
        chosen: fitted.chosen,
        hash: hash(&onnx),
        trained_by: concat!("foreshift ", env!("CARGO_PKG_VERSION")).into(),
        seed: options.seed,
        within_seconds: Some(within.0 / 1000),
        calibration: Some(calibration),
        data: Data { rows: train.1.len(), ..data.clone() },
        features: spec.clone(),
        quality: Some(quality),
        measures: std::collections::BTreeMap::new(),
        calibrator: Some(fitted.calibrator),
        ranges: Some(Ranges::of(&train.0)),
        forecast: None,
    };
    Some(Ok(HeadFile { name: file_name(within), onnx, card }))
}

/// `failure-15m`, `failure-1h`, `failure-24h`.
pub fn file_name(within: Span) -> String {
    let seconds = within.0 / 1000;
    match seconds {
        s if s % 3600 == 0 => format!("failure-{}h", s / 3600),
        s if s % 60 == 0 => format!("failure-{}m", s / 60),
        s => format!("failure-{s}s"),
    }
}

/// Puts heads together into a model.
///
/// # Errors
/// A card without a window, a graph that is no model of failure, heads that read different features.
pub fn assemble<'a>(heads: impl IntoIterator<Item = (&'a [u8], Card)>) -> Result<FailureModel, ModelError> {
    let mut spec: Option<FeatureSpec> = None;
    let mut trained_until = None;
    let mut out = Vec::new();
    for (bytes, card) in heads {
        let file = card.title.clone();
        let wrong = |detail: String| ModelError::Card { file: file.clone(), detail };
        let Some(within) = card.within() else { return Err(wrong("it has no window".into())) };
        let trees = |forest| Trees::new(forest).map(Box::new).map_err(wrong);
        let (scorer, width) = match onnx::decode(bytes, &file)? {
            Model::Forest(forest) | Model::Classifier(forest) => {
                let width = forest.width;
                (Scorer::Trees(trees(forest)?), width)
            }
            Model::Linear(linear) => {
                let width = linear.weights.len();
                (Scorer::Linear(linear), width)
            }
            Model::Blend(forest, linear) => {
                let width = forest.width;
                (Scorer::Blend(trees(forest)?, linear), width)
            }
            other => return Err(wrong(format!("a {} is no model of failure", other.kind()))),
        };
        if width != card.features.width() {
            return Err(wrong(format!(
                "it names {} features, the model reads {width}",
                card.features.width()
            )));
        }
        if spec.as_ref().is_some_and(|s| *s != card.features) {
            return Err(wrong("it reads other features than the other windows' models".into()));
        }
        if out.iter().any(|head: &Head| head.within == within) {
            return Err(wrong("another model beside it speaks of the same window".into()));
        }
        spec = Some(card.features);
        if card.calibration == Some(Calibration::Calibrated) {
            let until: Option<Timestamp> = trained_until;
            trained_until = Some(until.map_or(card.data.until, |until| until.min(card.data.until)));
        }
        out.push(Head {
            within,
            scorer,
            calibrator: card.calibrator.unwrap_or_default(),
            calibration: card.calibration.unwrap_or_default(),
            ranges: card.ranges.map(Box::new),
        });
    }
    out.sort_by_key(|h| h.within);
    let Some(spec) = spec else {
        let detail = "no head was given".to_string();
        return Err(ModelError::Card { file: "failure model".into(), detail });
    };
    Ok(FailureModel { spec, heads: out, trained_until, signatures: SignatureMemory::default() })
}

/// What became of a comparison.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// The window.
    pub within: Span,
    /// The model that runs.
    pub champion: Quality,
    /// The new one.
    pub challenger: Quality,
    /// Whether the new one should take over.
    pub promote: bool,
    /// In words.
    pub why: String,
}

/// Compares two models on rows that neither was trained on: rolling truth, or held-back partitions.
/// The new one takes over where its average precision is better by more than chance would explain in
/// this many failures, its probabilities are no worse, and they say more than the base rate.
pub fn compare(
    champion: &FailureModel,
    challenger: &FailureModel,
    rows: &crate::predict::models::FeatureMatrix,
    labels: &[bool],
    within: Span,
) -> Option<Verdict> {
    let of = |model: &FailureModel| -> Option<Quality> {
        let head = model.heads.iter().position(|h| h.within == within)?;
        if model.spec.width() != rows.width() {
            return None;
        }
        let shown = model.predict(rows);
        let p: Vec<f64> = (0..rows.rows()).map(|r| shown.row(r)[head]).collect();
        Some(Quality::of(&p, labels))
    };
    let (old, new) = (of(champion)?, of(challenger)?);
    let failures = labels.iter().filter(|&&y| y).count();
    let margin = (0.5 / (failures.max(1) as f64).sqrt()).min(0.05) * (1.0 - old.auprc).max(0.02);
    let ranks_better = new.auprc > old.auprc + margin;
    let states_no_worse = new.brier <= old.brier * 1.02;
    let promote = failures > 0 && ranks_better && states_no_worse && new.beats_base_rate();
    let mut why = format!(
        "average precision {:.3} against {:.3}, Brier {:.5} against {:.5}, on {failures} rows that failed",
        new.auprc, old.auprc, new.brier, old.brier
    );
    if !new.beats_base_rate() {
        why += &format!(
            "; no better than the base rate (Brier skill {:.2}): train over a longer time or with more recorded failures",
            new.brier_skill
        );
    }
    Some(Verdict { within, champion: old, challenger: new, promote, why })
}
