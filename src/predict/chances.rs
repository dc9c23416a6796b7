//! The chances of failure as a model says them: features of all partitions in one batch, one
//! probability a window, and the reasons of the middle one.
//!
//! Where the model has no say, the assessor's own mapping of instability stands, marked as
//! uncalibrated: on a grid other than the one the model was trained on, for a partition that has no
//! baseline yet or lacks most of the model's metrics, and for a window that the model does not have.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::assess::{Assessor, BATCH, SMALLEST};
use super::assessment::{Assessment, Contribution, FailureForecast, Maturity};
use super::failure::open::Opened;
use super::failure::{Explanation, FailureModel, FeatureSpec, live};
use super::models::runtime::{Runtime, Session, Tensor};
use super::models::{FeatureMatrix, ModelError};
use super::rebuilt::Rebuilder;
use super::scene::Scene;
use super::speaker::Lines;
use crate::fleet::{MetricName, Probability, Span, Timestamp};
use crate::telemetry::Windows;

/// Features count slots, so a model speaks only on the grid on which it was trained.
const GRID: Span = Span::seconds(30);
/// A model that was trained on all metrics is not asked where fewer than this share is there.
const LEAST_METRICS: f64 = 0.5;
/// Reasons are worked out from this probability or this instability on; below, nothing stands out.
const WORTH_EXPLAINING: (f64, f64) = (0.05, 5.0);

/// Rows that are given to a runtime at once. More are no quicker, and it keeps the room that the most of them took.
const AT_ONCE: usize = 1024;

/// What runs the heads of the failure model, a session a head; none = the model's own kernels.
#[derive(Default)]
pub(super) struct Heads(Vec<Mutex<Box<dyn Session>>>);

impl std::fmt::Debug for Heads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} sessions", self.0.len())
    }
}

impl Heads {
    /// A session a file.
    pub(super) fn open(runtime: &dyn Runtime, files: &[Vec<u8>]) -> Result<Heads, ModelError> {
        let sessions: Result<Vec<_>, ModelError> =
            files.iter().map(|f| Ok(Mutex::new(runtime.load(f, "failure model")?))).collect();
        Ok(Heads(sessions?))
    }

    /// Margins of all rows by head; empty where there is no session.
    pub(super) fn margins(&self, rows: &FeatureMatrix) -> Result<Vec<Vec<f32>>, ModelError> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        let width = rows.width();
        self.0
            .par_iter()
            .map(|session| {
                let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
                let mut margins = Vec::with_capacity(rows.rows());
                for part in rows.values().chunks((AT_ONCE * width).max(1)) {
                    let input = [Tensor::new([part.len() / width, width], part.to_vec())];
                    margins.append(&mut session.run(&input)?.swap_remove(0).values);
                }
                Ok(margins)
            })
            .collect()
    }
}

impl Assessor {
    /// From now on these models say the chances of failure and watch the course of metrics, run by
    /// `runtime`.
    ///
    /// # Errors
    /// A head that the runtime cannot read; its own kernels run it then. For an autoencoder that cannot run
    /// the shipped one stands in ([`Assessor::take_model_troubles`]).
    pub fn use_models(&mut self, runtime: &dyn Runtime, opened: Opened) -> Result<(), ModelError> {
        self.set_failure_model(opened.model);
        self.lines = Lines::of(&opened.cards);
        self.model_troubles.extend(opened.troubles);
        if let Some((onnx, card)) = &opened.autoencoder {
            let file =
                opened.foreign.as_ref().map_or_else(|| card.title.clone(), |path| path.display().to_string());
            match Rebuilder::open(runtime, &file, onnx, card) {
                Ok(rebuilder) => self.set_rebuilder(rebuilder),
                Err(error) => self.stand_in(&error),
            }
        }
        self.run_heads_on(runtime, &opened.files)
    }

    /// From now on `model` says the chances of failure, where it has a say.
    pub fn set_failure_model(&mut self, model: FailureModel) {
        self.drift.clear();
        self.recall.tell_again();
        self.lines = Lines::default();
        self.failure_model = Some(Box::new(model));
    }

    /// Lets `runtime` run the heads of the failure model: their files, in the order of the heads.
    ///
    /// # Errors
    /// A file that it cannot read; the model's own kernels go on then.
    pub fn run_heads_on(&mut self, runtime: &dyn Runtime, files: &[Vec<u8>]) -> Result<(), ModelError> {
        self.heads = Heads::open(runtime, files)?;
        Ok(())
    }

    /// Puts the models' probabilities over those of the mapping.
    pub(super) fn say_chances(&mut self, windows: &Windows, now: Timestamp) {
        let mut outside = Outside::default();
        self.say_own(windows, now, &mut outside);
        if let Some(model) = self.failure_model.take() {
            let heads = heads_of(&model, &self.options.windows);
            if speaks_on(windows) && heads.iter().any(Option::is_some) {
                self.run(&model, &heads, windows, now, &mut outside);
            }
            self.failure_model = Some(model);
        }
        for (within, sum, count) in outside.0 {
            self.note_drift(within, sum / f64::from(count), now);
        }
    }

    /// Whether the model of an application has spoken of a partition in this cycle.
    fn has_own(&self, p: usize) -> bool {
        self.spoken.get(p).copied().flatten().is_some()
    }

    fn run(
        &mut self,
        model: &FailureModel,
        heads: &[Option<usize>],
        windows: &Windows,
        now: Timestamp,
        outside: &mut Outside,
    ) {
        let rows = live::features(&model.spec, self, windows);
        let margins = match self.heads.margins(&rows) {
            Ok(margins) => margins,
            Err(error) => {
                tracing::error!(%error, "the runtime cannot run the failure model; the built-in kernels do");
                self.heads = Heads::default();
                Vec::new()
            }
        };
        let said = model.predict_from(&rows, &margins);
        let middle = self.options.middle();
        let mut assessments = std::mem::take(&mut self.assessments);
        assessments.par_iter_mut().enumerate().take(said.rows()).with_min_len(BATCH).for_each(|(p, out)| {
            if out.failure.is_empty() || self.has_own(p) || !has_a_say(&model.spec, out, rows.row(p)) {
                return;
            }
            if let Some(head) = speak(model, heads, (said.row(p), said.givers(p)), out, middle) {
                explain(model, head, rows.row(p), &self.scene(p, &[], now), out, middle);
            }
        });
        self.assessments = assessments;
        for p in 0..rows.rows() {
            let said = &self.assessments[p];
            if said.failure.is_empty() || self.has_own(p) || !has_a_say(&model.spec, said, rows.row(p)) {
                continue;
            }
            let far = outside.note(model, heads, rows.row(p));
            if far > 0.0 {
                self.assessments[p].confidence.inside *= 1.0 - far;
            }
        }
    }
}

/// How far what was read in a cycle lies outside of what its model was trained on, by window: the sum of
/// the shares and of how many rows.
#[derive(Default)]
pub(super) struct Outside(Vec<(Span, f64, u32)>);

impl Outside {
    /// Takes one row; says how far it lies outside for the head that it is strangest to.
    pub(super) fn note(&mut self, model: &FailureModel, heads: &[Option<usize>], row: &[f32]) -> f64 {
        let mut farthest = 0f64;
        for head in heads.iter().flatten().map(|h| &model.heads[*h]) {
            let Some(outside) = head.ranges.as_ref().and_then(|ranges| ranges.outside(row)) else { continue };
            farthest = farthest.max(outside);
            match self.0.iter_mut().find(|(within, ..)| *within == head.within) {
                Some((_, sum, count)) => (*sum, *count) = (*sum + outside, *count + 1),
                None => self.0.push((head.within, outside, 1)),
            }
        }
        farthest
    }
}

/// The model's head of each window.
pub(super) fn heads_of(model: &FailureModel, windows: &[Span]) -> Vec<Option<usize>> {
    windows.iter().map(|within| model.heads.iter().position(|h| h.within == *within)).collect()
}

/// Whether models speak on the grid of these windows.
pub(super) fn speaks_on(windows: &Windows) -> bool {
    windows.config().step == GRID
}

/// Whether enough is known of a partition for the model.
pub(super) fn has_a_say(spec: &FeatureSpec, said: &Assessment, row: &[f32]) -> bool {
    let there = (0..spec.metrics.len()).filter(|&m| row[spec.mean10(m)].is_finite()).count();
    said.maturity > Maturity::Untrained && there as f64 >= LEAST_METRICS * spec.metrics.len() as f64
}

/// Writes the probabilities that were `said`, each given by the head of that number. Returns the head that gave that of
/// the middle window, where a model did.
pub(super) fn speak(
    model: &FailureModel,
    heads: &[Option<usize>],
    (said, givers): (&[f64], &[u16]),
    out: &mut Assessment,
    middle: usize,
) -> Option<usize> {
    let (mut given_by, mut floor): (Option<usize>, Option<FailureForecast>) = (None, None);
    let mut of_middle = None;
    for (w, (forecast, head)) in out.failure.iter_mut().zip(heads).enumerate() {
        let chance = head.and_then(|h| Some((usize::from(givers[h]), Probability::new(said[h]).ok()?)));
        if let Some((giver, probability)) = chance {
            forecast.probability = probability;
            forecast.calibration = model.heads[giver].calibration;
        }
        // Longer windows never show less, whoever speaks.
        match floor.filter(|floor| forecast.probability.get() < floor.probability.get()) {
            Some(floor) => {
                (forecast.probability, forecast.calibration) = (floor.probability, floor.calibration);
            }
            None => given_by = chance.map(|(giver, _)| giver),
        }
        floor = Some(*forecast);
        if w == middle {
            of_middle = given_by;
            out.given_by = given_by.map(|giver| model.heads[giver].within);
            out.confidence.calibrated = forecast.calibration.trust();
        }
    }
    if of_middle.is_none() {
        keep_sum(out, middle);
    }
    of_middle
}

/// The mapping has explained what it says of the middle window. Where it says less of a shorter one, but more than the
/// model of the middle one does, that is what stands: the reasons are brought to it by a part of their own.
fn keep_sum(out: &mut Assessment, middle: usize) {
    let Some(shown) = out.failure.get(middle).map(|f| 100.0 * f.probability.get()) else { return };
    let rest = shown - out.failure_base - out.why_failure.iter().map(|c| c.amount).sum::<f64>();
    if rest.abs() > 1e-6 {
        let words =
            "the model of this window says less, and a longer window is never less likely than a shorter one";
        let metric = MetricName::from("the model");
        out.why_failure.push(Contribution { metric, amount: rest, words: words.to_string() });
    }
}

/// Base and parts of the middle window's probability, which `head` gave, in points; they sum to it.
pub(super) fn explain(
    model: &FailureModel,
    head: usize,
    features: &[f32],
    scene: &Scene<'_>,
    out: &mut Assessment,
    middle: usize,
) {
    let shown = out.failure[middle].probability.get();
    let stands_out = shown >= WORTH_EXPLAINING.0 || out.instability.is_some_and(|i| i >= WORTH_EXPLAINING.1);
    let why = if stands_out { model.explain_said(features, head, shown) } else { None };
    let base = why.as_ref().map(|w| w.base).or_else(|| model.base(head)).unwrap_or(shown);
    out.failure_base = 100.0 * base;
    out.why_failure.clear();
    let mut rest = 100.0 * (shown - base);
    for (name, part) in why.iter().flat_map(|w| w.by_group(&model.spec)) {
        let amount = 100.0 * part;
        if amount.abs() < SMALLEST {
            continue;
        }
        let words = words(&name, why.as_ref(), scene);
        out.why_failure.push(Contribution { metric: MetricName::from(name.as_str()), amount, words });
        rest -= amount;
    }
    out.why_failure.sort_by(|a, b| b.amount.total_cmp(&a.amount));
    if let Some(first) = out.why_failure.first_mut().filter(|_| rest.abs() < SMALLEST) {
        // Rounding: the runtime's and the explainer's numbers differ in the sixth digit.
        first.amount += rest;
    } else if rest.abs() > 1e-9 {
        let words = if stands_out { "all else, each too small to name" } else { "nothing stands out" };
        let metric = MetricName::from("all else");
        out.why_failure.push(Contribution { metric, amount: rest, words: words.to_string() });
    }
}

pub(super) fn words(group: &str, why: Option<&Explanation>, scene: &Scene<'_>) -> String {
    match group {
        "instability" => "how far it is from its normal, all metrics together".to_string(),
        "health" => "its health score".to_string(),
        "kind" => "the kind of work that it hosts".to_string(),
        "signature" => match why.and_then(|w| w.signature.1.as_deref()) {
            Some(name) => format!("looks like {name} before it failed"),
            None => "looks like one that failed".to_string(),
        },
        metric => match scene.column(metric) {
            Some(m) => scene.words(m),
            None => format!("{metric} is missing"),
        },
    }
}
