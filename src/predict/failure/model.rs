//! The model of failure: one head a window, each a scorer and its calibration. Called once a cycle
//! for the whole fleet.

use rayon::prelude::*;

use super::features::FeatureSpec;
use super::ranges::Ranges;
use super::signature::SignatureMemory;
use crate::fleet::{Span, Timestamp};
use crate::predict::assessment::Calibration;
use crate::predict::calibrate::Calibrator;
use crate::predict::models::linear::Linear;
use crate::predict::models::matrix::FeatureMatrix;
use crate::predict::models::trees::{Explainer, FlatForest, Forest};

/// What gives a row its margin.
#[derive(Clone, Debug)]
pub enum Scorer {
    /// Boosted trees.
    Trees(Box<Trees>),
    /// Logistic regression.
    Linear(Linear),
    /// The mean of both margins.
    Blend(Box<Trees>, Linear),
    /// Nothing was learnt: the margin rises with instability and the missing health.
    Mapping {
        /// Log-odds of a partition that is as calm as ever.
        base: f64,
        /// Log-odds a robust deviation.
        slope: f64,
        /// The feature that holds instability.
        feature: usize,
    },
}

/// A forest, its fast walk and its explainer.
#[derive(Clone, Debug)]
pub struct Trees {
    forest: Forest,
    flat: FlatForest,
    explainer: Explainer,
}

impl Trees {
    /// Of a sound forest.
    ///
    /// # Errors
    /// What [`Forest::check`] finds.
    pub fn new(forest: Forest) -> Result<Self, String> {
        forest.check()?;
        if forest.width > 1 << 16 {
            return Err(format!("{} features, at most 65536 are taken", forest.width));
        }
        let flat = FlatForest::new(&forest);
        let explainer = Explainer::new(&forest);
        Ok(Self { forest, flat, explainer })
    }

    /// The forest.
    pub fn forest(&self) -> &Forest {
        &self.forest
    }

    /// Margins of all rows.
    pub fn margins(&self, rows: &FeatureMatrix) -> Vec<f32> {
        self.flat.margins(rows)
    }
}

/// One window's answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// Fails within this span.
    pub within: Span,
    /// Gives the margin.
    pub scorer: Scorer,
    /// Makes it a probability.
    pub calibrator: Calibrator,
    /// How far the probability may be taken at its word.
    pub calibration: Calibration,
    /// What it was trained on, where its card says so.
    pub ranges: Option<Box<Ranges>>,
}

/// The model: what it reads, and one head a window, shortest first.
#[derive(Clone, Debug)]
pub struct FailureModel {
    /// What its rows hold.
    pub spec: FeatureSpec,
    /// Shortest window first.
    pub heads: Vec<Head>,
    /// Until when it has learnt the failures of this fleet; none = it learnt on others.
    pub trained_until: Option<Timestamp>,
    /// Failures since it was trained.
    pub signatures: SignatureMemory,
}

/// Probabilities of a whole fleet.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Predictions {
    heads: usize,
    probabilities: Vec<f64>,
    givers: Vec<u16>,
}

impl Predictions {
    /// One row's probabilities, shortest window first, never falling; NaN where the row holds nothing.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.probabilities[row * self.heads..(row + 1) * self.heads]
    }

    /// Which head gave each of one row's probabilities: its own, or that of a shorter window that says more, because
    /// a longer window is never less likely.
    pub fn givers(&self, row: usize) -> &[u16] {
        &self.givers[row * self.heads..(row + 1) * self.heads]
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.probabilities.len().checked_div(self.heads).unwrap_or(0)
    }
}

/// Rows that one thread takes at a time.
const CHUNK: usize = 512;

impl FailureModel {
    /// The model of a fleet without a recorded failure: a monotone mapping of instability, marked
    /// uncalibrated. Log-odds at calm: one failure of a partition in about ten years, by window.
    pub fn uncalibrated(spec: FeatureSpec, windows: &[Span]) -> Self {
        let feature = spec.extra("instability").unwrap_or(usize::MAX);
        let mut windows = windows.to_vec();
        windows.sort();
        let heads = windows
            .into_iter()
            .map(|within| {
                let years = within.as_seconds() / (365.25 * 86_400.0);
                let calm = (years / 10.0).clamp(1e-7, 0.5);
                // Twelve deviations are even odds within a day; shorter windows less, by their share.
                let share = (within.as_seconds() / 86_400.0).clamp(1e-3, 1.0);
                let top = 0.5 * share.powf(0.35);
                let base = (calm / (1.0 - calm)).ln();
                let slope = ((top / (1.0 - top)).ln() - base) / 12.0;
                Head {
                    within,
                    scorer: Scorer::Mapping { base, slope, feature },
                    calibrator: Calibrator::default(),
                    calibration: Calibration::Uncalibrated,
                    ranges: None,
                }
            })
            .collect();
        Self { spec, heads, trained_until: None, signatures: SignatureMemory::default() }
    }

    /// The probabilities of all rows, on all cores.
    ///
    /// # Panics
    /// Where the rows are not as wide as the spec.
    pub fn predict(&self, rows: &FeatureMatrix) -> Predictions {
        self.predict_from(rows, &[])
    }

    /// The same by what it was trained on alone, without the failures that were recorded since.
    ///
    /// # Panics
    /// As [`FailureModel::predict`].
    pub fn predict_learnt(&self, rows: &FeatureMatrix) -> Predictions {
        self.predict_with(rows, &[], &SignatureMemory::default())
    }

    /// The same as [`FailureModel::predict`] from margins that a runtime gave, `[head][row]`; a head without any is
    /// run here.
    pub fn predict_from(&self, rows: &FeatureMatrix, margins: &[Vec<f32>]) -> Predictions {
        self.predict_with(rows, margins, &self.signatures)
    }

    fn predict_with(
        &self,
        rows: &FeatureMatrix,
        margins: &[Vec<f32>],
        memory: &SignatureMemory,
    ) -> Predictions {
        assert_eq!(rows.width(), self.spec.width(), "features of the rows and of the model");
        let width = rows.width().max(1);
        let heads = self.heads.len();
        let parts: Vec<(Vec<f64>, Vec<u16>)> = rows
            .values()
            .par_chunks(CHUNK * width)
            .enumerate()
            .map(|(chunk, values)| {
                let part = FeatureMatrix::from_values(width, values.to_vec());
                let range = chunk * CHUNK..chunk * CHUNK + part.rows();
                let given: Vec<Option<&[f32]>> =
                    (0..heads).map(|h| margins.get(h).and_then(|m| m.get(range.clone()))).collect();
                self.predict_chunk(&part, &given, memory)
            })
            .collect();
        let (probabilities, givers): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        Predictions { heads, probabilities: probabilities.concat(), givers: givers.concat() }
    }

    fn predict_chunk(
        &self,
        rows: &FeatureMatrix,
        given: &[Option<&[f32]>],
        memory: &SignatureMemory,
    ) -> (Vec<f64>, Vec<u16>) {
        let heads = self.heads.len();
        let mut out = vec![f64::NAN; rows.rows() * heads];
        let mut givers: Vec<u16> = (0..rows.rows()).flat_map(|_| 0..heads as u16).collect();
        let raises: Vec<f64> = (0..rows.rows()).map(|r| memory.raise(&self.spec, rows.row(r)).0).collect();
        for (h, head) in self.heads.iter().enumerate() {
            let margins = match given[h] {
                Some(margins) => margins.iter().map(|m| f64::from(*m)).collect(),
                None => head.scorer.margins(rows),
            };
            for (r, margin) in margins.into_iter().enumerate() {
                out[r * heads + h] = head.calibrator.probability(margin + raises[r]);
            }
        }
        let every = out.chunks_exact_mut(heads.max(1)).zip(givers.chunks_exact_mut(heads.max(1)));
        for (r, (row, givers)) in every.enumerate() {
            if rows.row(r)[..self.spec.metrics.len() * 5].iter().all(|x| x.is_nan()) {
                row.fill(f64::NAN);
            }
            // Who fails within a quarter of an hour fails within a day.
            for h in 1..row.len() {
                if row[h] < row[h - 1] {
                    (row[h], givers[h]) = (row[h - 1], givers[h - 1]);
                }
            }
        }
        (out, givers)
    }
}

impl Scorer {
    /// The margin of every row.
    pub fn margins(&self, rows: &FeatureMatrix) -> Vec<f64> {
        match self {
            Self::Trees(trees) => trees.margins(rows).into_iter().map(f64::from).collect(),
            Self::Linear(linear) => (0..rows.rows()).map(|r| f64::from(linear.margin(rows.row(r)))).collect(),
            Self::Blend(trees, linear) => trees
                .margins(rows)
                .into_iter()
                .enumerate()
                .map(|(r, m)| (f64::from(m) + f64::from(linear.margin(rows.row(r)))) / 2.0)
                .collect(),
            Self::Mapping { base, slope, feature } => {
                (0..rows.rows()).map(|r| base + slope * known_instability(rows.row(r), *feature)).collect()
            }
        }
    }

    /// The margin where nothing is known.
    pub(super) fn expected(&self) -> f64 {
        match self {
            Self::Trees(trees) => trees.explainer.expected(),
            Self::Linear(linear) => linear.intercept,
            Self::Blend(trees, linear) => (trees.explainer.expected() + linear.intercept) / 2.0,
            Self::Mapping { base, .. } => *base,
        }
    }

    /// Adds the part of each feature in the margin of `row` to `out`; returns the margin where
    /// nothing is known.
    pub(super) fn explain(&self, row: &[f32], out: &mut [f64]) -> f64 {
        match self {
            Self::Trees(trees) => {
                trees.explainer.explain(&trees.forest, row, out);
                trees.explainer.expected()
            }
            Self::Linear(linear) => {
                for (f, slot) in out.iter_mut().enumerate() {
                    *slot += linear.part(row, f);
                }
                linear.intercept
            }
            Self::Blend(trees, linear) => {
                trees.explainer.explain(&trees.forest, row, out);
                for (f, slot) in out.iter_mut().enumerate() {
                    *slot = (*slot + linear.part(row, f)) / 2.0;
                }
                (trees.explainer.expected() + linear.intercept) / 2.0
            }
            Self::Mapping { base, slope, feature } => {
                if let Some(slot) = out.get_mut(*feature) {
                    *slot += slope * known_instability(row, *feature);
                }
                *base
            }
        }
    }
}

fn known_instability(row: &[f32], feature: usize) -> f64 {
    row.get(feature).copied().filter(|x| x.is_finite()).map_or(0.0, |x| f64::from(x).clamp(0.0, 20.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rng::Random;
    use crate::predict::models::linear;
    use crate::predict::models::trees::{Growth, grow};

    fn windows() -> [Span; 3] {
        [Span::hours(24), Span::minutes(15), Span::hours(1)]
    }

    fn spec() -> FeatureSpec {
        FeatureSpec {
            metrics: vec!["a".into(), "b".into()],
            extras: vec!["instability".into()],
            kinds: vec!["oltp".into(), "cache".into()],
            ..FeatureSpec::default()
        }
    }

    /// Fails where `a` is high, and under `cache` where `b` is high too.
    fn learnt() -> (FailureModel, FeatureMatrix) {
        let spec = spec();
        let mut random = Random::new(3);
        let mut rows = FeatureMatrix::empty(spec.width());
        let mut labels = Vec::new();
        for i in 0..3000 {
            let mut row = vec![0.0f32; spec.width()];
            for x in &mut row[..10] {
                *x = random.normal() as f32;
            }
            row[11 + i % 2] = 1.0;
            labels.push(f32::from(row[1] > 1.5 || (i % 2 == 1 && row[6] > 1.0)));
            rows.push(&row);
        }
        let forest = grow(&rows, &labels, &[], None, &Growth { trees: 40, ..Growth::default() });
        let linear = linear::fit(&rows, &labels, &[], 1.0);
        let scorer = Scorer::Blend(Box::new(Trees::new(forest).unwrap()), linear);
        let head = |within, offset| Head {
            within,
            scorer: scorer.clone(),
            calibrator: Calibrator::Platt { slope: 1.0, offset },
            calibration: Calibration::Calibrated,
            ranges: None,
        };
        let heads = vec![head(Span::minutes(15), -1.0), head(Span::hours(1), 0.0)];
        let signatures = SignatureMemory::default();
        (FailureModel { spec, heads, trained_until: None, signatures }, rows)
    }

    #[test]
    fn parts_and_base_sum_to_the_probability_that_is_shown() {
        let (model, rows) = learnt();
        let shown = model.predict(&rows);
        let wanted: Vec<usize> = (0..200).collect();
        for (row, why) in model.explain(&rows, &wanted, 1).iter().enumerate() {
            let sum = why.base + why.features.iter().sum::<f64>() + why.signature.0;
            assert!((sum - shown.row(row)[1]).abs() < 1e-9);
            let groups: f64 = why.by_group(&model.spec).iter().map(|(_, part)| part).sum();
            assert!((why.base + groups - shown.row(row)[1]).abs() < 1e-9);
        }
    }

    #[test]
    fn a_chance_raised_to_that_of_a_shorter_window_is_explained_by_the_head_that_gave_it() {
        let (mut model, rows) = learnt();
        // The head of 15 minutes looks at `b`, that of the hour at `a`.
        let looks_at = |metric: usize| {
            let labels: Vec<f32> =
                (0..rows.rows()).map(|r| f32::from(rows.row(r)[metric * 5 + 1] > 1.0)).collect();
            Scorer::Linear(linear::fit(&rows, &labels, &[], 1.0))
        };
        let scorers = [looks_at(1), looks_at(0)];
        for (head, scorer) in model.heads.iter_mut().zip(scorers) {
            (head.scorer, head.calibrator) = (scorer, Calibrator::Platt { slope: 1.0, offset: 0.0 });
        }
        let shown = model.predict(&rows);
        let raised = (0..rows.rows()).find(|r| shown.givers(*r)[1] == 0 && shown.row(*r)[1] > 0.5).unwrap();
        let why = &model.explain(&rows, &[raised], 1)[0];
        assert_eq!((why.head, why.probability), (0, shown.row(raised)[0]));
        let parts = why.by_group(&model.spec);
        assert!((why.base + parts.iter().map(|p| p.1).sum::<f64>() - shown.row(raised)[1]).abs() < 1e-9);
        assert!(parts[0].0 == "b" && parts[0].1 > 0.0, "{parts:?}");
        // What is named is what counts: without it the chance is less, without the hour's metric it is not.
        let without = |metric: usize| {
            let mut row = rows.row(raised).to_vec();
            row[metric * 5..metric * 5 + 5].fill(0.0);
            model.predict(&FeatureMatrix::from_values(model.spec.width(), row)).row(0)[1]
        };
        assert!(without(1) < 0.5 * shown.row(raised)[1] && without(0) > 0.9 * shown.row(raised)[1]);
    }

    #[test]
    fn the_same_metrics_under_another_kind_of_workload_score_differently() {
        let (model, _) = learnt();
        let mut row = vec![0.0f32; model.spec.width()];
        row[6] = 2.0;
        let (mut oltp, mut cache) = (row.clone(), row);
        oltp[11] = 1.0;
        cache[12] = 1.0;
        let rows = FeatureMatrix::from_values(model.spec.width(), [oltp, cache].concat());
        let shown = model.predict(&rows);
        assert!(shown.row(1)[1] > 3.0 * shown.row(0)[1], "{shown:?}");
    }

    #[test]
    fn a_recorded_failure_raises_the_same_look_at_once() {
        let (mut model, _) = learnt();
        let mut row = vec![0.0f32; model.spec.width()];
        row[1] = 0.5;
        row[6] = 4.0;
        row[11] = 1.0;
        let rows = FeatureMatrix::from_values(model.spec.width(), row.clone());
        let before = model.predict(&rows).row(0)[1];
        model.signatures.remember("h7", &model.spec, [row.as_slice()]);
        let after = model.predict(&rows).row(0)[1];
        assert!(after > 2.0 * before, "{before} then {after}");
        let why = &model.explain(&rows, &[0], 1)[0];
        assert!(why.signature.0 > 0.0 && why.signature.1.as_deref() == Some("h7"));
        assert!((why.base + why.features.iter().sum::<f64>() + why.signature.0 - after).abs() < 1e-9);
    }

    #[test]
    fn without_a_failure_to_learn_from_the_probability_rises_with_instability() {
        let model = FailureModel::uncalibrated(spec(), &windows());
        assert_eq!(model.heads[0].within, Span::minutes(15));
        let mut last = [0.0; 3];
        for instability in [0.0, 2.0, 5.0, 8.0, 12.0, 20.0, 50.0] {
            let mut row = vec![0.0f32; model.spec.width()];
            row[10] = instability;
            let rows = FeatureMatrix::from_values(model.spec.width(), row);
            let shown = model.predict(&rows);
            let p = shown.row(0);
            assert!(p[0] <= p[1] && p[1] <= p[2]);
            assert!(p.iter().zip(&last).all(|(p, l)| p >= l), "{p:?} after {last:?}");
            last = [p[0], p[1], p[2]];
        }
        assert!(last[2] > 0.5 && model.heads[2].calibration == Calibration::Uncalibrated);
    }

    #[test]
    fn nothing_known_gives_no_probability() {
        let (model, _) = learnt();
        let rows = FeatureMatrix::missing(2, model.spec.width());
        assert!(model.predict(&rows).row(1).iter().all(|p| p.is_nan()));
        assert!(model.explain(&rows, &[0], 1)[0].probability.is_nan());
        assert_eq!(model.predict(&FeatureMatrix::empty(model.spec.width())).rows(), 0);
    }
}
