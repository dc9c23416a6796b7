//! Fits a head: forests and logistic regressions on the training units, the better of them (or their
//! mean) by average precision on validation units, calibrated on these ([`fit`]); or, where failures are
//! too few to spare some, all of it by folds of units ([`fit_crossed`]). Never looks at a test row.

use super::model::{Scorer, Trees};
use super::quality::{Quality, average_precision};
use crate::predict::calibrate::Calibrator;
use crate::predict::models::linear;
use crate::predict::models::linear::Linear;
use crate::predict::models::matrix::FeatureMatrix;
use crate::predict::models::trees::grow::HeldBack;
use crate::predict::models::trees::{FlatForest, Forest, Growth, grow};

/// Rows, what became of each, and the unit (partition, engine, drive) that each belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The features.
    pub rows: &'a FeatureMatrix,
    /// Whether it failed within the window.
    pub labels: &'a [bool],
    /// Whose row it is; rows of one unit are never parted.
    pub units: &'a [u32],
    /// How much each row counts; all alike where empty.
    pub weights: &'a [f32],
}

/// What is tried.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidates {
    /// Forests.
    pub forests: Vec<Growth>,
    /// Penalties of logistic regressions.
    pub penalties: Vec<f64>,
    /// Parts that the units are cut into, each scored by a model of the others, so that calibration
    /// rests on all of them; what is then used is the mean of those models, which has learnt from
    /// the validation units too. 1 = calibrated on the validation units alone, and not taught by them.
    pub folds: usize,
}

impl Candidates {
    /// A forest of many small, well-damped trees and one of few large ones; penalties a step of three
    /// apart.
    pub fn thorough(seed: u64) -> Self {
        let small = Growth {
            trees: 1000,
            rate: 0.05,
            leaves: 8,
            depth: 6,
            leaf_rows: 50,
            l2: 10.0,
            row_share: 0.5,
            column_share: 0.3,
            patience: 60,
            seed,
            ..Growth::default()
        };
        let large = Growth { trees: 600, rate: 0.05, patience: 50, seed, ..Growth::default() };
        Self { forests: vec![small, large], penalties: vec![10.0, 30.0, 100.0, 300.0], folds: 4 }
    }

    /// One forest small enough to be shipped and explained every cycle.
    pub fn compact(seed: u64) -> Self {
        let forest = Growth {
            trees: 120,
            rate: 0.1,
            leaves: 12,
            depth: 5,
            leaf_rows: 40,
            l2: 5.0,
            row_share: 0.7,
            column_share: 0.5,
            patience: 25,
            seed,
            ..Growth::default()
        };
        Self { forests: vec![forest], penalties: vec![10.0, 100.0], folds: 1 }
    }
}

/// A head's parts, and how they came about.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// Gives the margin.
    pub scorer: Scorer,
    /// Makes it a probability.
    pub calibrator: Calibrator,
    /// In words: `blend of 361 trees and logistic regression (penalty 30)`.
    pub chosen: String,
    /// Average precision of each candidate on the validation units, by name.
    pub tried: Vec<(String, f64)>,
    /// On the validation units, which chose and calibrated it: an upper bound of what to expect.
    pub validation: Quality,
    /// The margin of each validation row (with folds: of a model that did not see its unit).
    pub margins: Vec<f64>,
}

/// Fits on `train`, chooses and calibrates on `validation`. `None` where either holds but one kind of
/// label.
pub fn fit(train: &Sample<'_>, validation: &Sample<'_>, candidates: &Candidates) -> Option<Fitted> {
    let both = |labels: &[bool]| labels.iter().any(|&y| y) && labels.iter().any(|&y| !y);
    if !both(train.labels) || !both(validation.labels) {
        return None;
    }
    let numbers = |labels: &[bool]| labels.iter().map(|&y| f32::from(u8::from(y))).collect::<Vec<f32>>();
    let (labels, truth) = (numbers(train.labels), numbers(validation.labels));
    let mut tried = Vec::new();

    let mut forests = Vec::new();
    for growth in &candidates.forests {
        let held_back = HeldBack { rows: validation.rows, labels: &truth };
        let forest = grow(train.rows, &labels, train.weights, Some(held_back), growth);
        let name = format!("{} trees of {} leaves", forest.trees.len(), growth.leaves);
        let Ok(trees) = Trees::new(forest) else { continue };
        let margins: Vec<f64> = trees.margins(validation.rows).into_iter().map(f64::from).collect();
        let recipe = Growth { trees: trees.forest().trees.len(), ..*growth };
        forests.push((average_precision(&margins, validation.labels), name, trees, margins, recipe));
    }
    let mut lines = Vec::new();
    for &penalty in &candidates.penalties {
        let line = linear::fit(train.rows, &labels, train.weights, penalty);
        let margins: Vec<f64> =
            (0..validation.rows.rows()).map(|r| f64::from(line.margin(validation.rows.row(r)))).collect();
        let name = format!("logistic regression (penalty {penalty})");
        lines.push((average_precision(&margins, validation.labels), name, line, margins, penalty));
    }
    tried.extend(forests.iter().map(|f| (f.1.clone(), f.0)));
    tried.extend(lines.iter().map(|l| (l.1.clone(), l.0)));
    let best_forest = forests.into_iter().reduce(|a, b| if b.0 > a.0 { b } else { a });
    let best_line = lines.into_iter().reduce(|a, b| if b.0 > a.0 { b } else { a });

    let mut options: Vec<Choice> = Vec::new();
    if let (Some(f), Some(l)) = (&best_forest, &best_line) {
        let margins: Vec<f64> = f.3.iter().zip(&l.3).map(|(a, b)| (a + b) / 2.0).collect();
        let quality = average_precision(&margins, validation.labels);
        let name = format!("blend of {} and {}", f.1, l.1);
        tried.push((name.clone(), quality));
        let scorer = Scorer::Blend(Box::new(f.2.clone()), l.2.clone());
        options.push(Choice { quality, name, scorer, margins, recipe: (Some(f.4), Some(l.4)) });
    }
    options.extend(best_forest.map(|f| Choice {
        quality: f.0,
        name: f.1,
        scorer: Scorer::Trees(Box::new(f.2)),
        margins: f.3,
        recipe: (Some(f.4), None),
    }));
    options.extend(best_line.map(|l| Choice {
        quality: l.0,
        name: l.1,
        scorer: Scorer::Linear(l.2),
        margins: l.3,
        recipe: (None, Some(l.4)),
    }));
    // The first of equals, so the blend where it is no worse: two kinds of model err differently.
    let Choice { name: chosen, scorer, margins, recipe, .. } =
        options.into_iter().reduce(|a, b| if b.quality > a.quality { b } else { a })?;
    if validation.weights.is_empty() && candidates.folds > 1 {
        let all = Joined::of(train, validation);
        let crossed = Crossed::of(&all.sample(), recipe, candidates.folds);
        let calibrator = calibrate(&crossed.margins, &all.labels, &all.units);
        let margins = crossed.margins[train.labels.len()..].to_vec();
        let validation = quality(&calibrator, &margins, validation.labels);
        let scorer = crossed.scorer()?;
        return Some(Fitted { scorer, calibrator, chosen, tried, validation, margins });
    }
    let calibrator = if validation.weights.is_empty() {
        calibrate(&margins, validation.labels, validation.units)
    } else {
        // Weights set the base rate; steps of few, heavy rows would not bear it.
        Calibrator::platt_weighted(&margins, validation.labels, validation.weights)
    };
    let validation = quality(&calibrator, &margins, validation.labels);
    Some(Fitted { scorer, calibrator, chosen, tried, validation, margins })
}

/// Fits without sparing any units: every candidate is judged, and the chosen one calibrated, by margins
/// of rows whose unit the model did not see; what is used is the mean of the chosen one's models. Forests
/// grow to their full number of trees. `None` where there is but one kind of label.
pub fn fit_crossed(sample: &Sample<'_>, candidates: &Candidates) -> Option<Fitted> {
    if sample.labels.iter().all(|&y| y) || !sample.labels.iter().any(|&y| y) {
        return None;
    }
    let mut tried = Vec::new();
    let mut best: [Option<(f64, String, Crossed)>; 2] = [None, None];
    let recipes = candidates.forests.iter().map(|&growth| (Some(growth), None));
    let recipes = recipes.chain(candidates.penalties.iter().map(|&penalty| (None, Some(penalty))));
    for recipe in recipes {
        let crossed = Crossed::of(sample, recipe, candidates.folds.max(2));
        let quality = average_precision(&crossed.margins, sample.labels);
        let name = match recipe {
            (Some(growth), _) => {
                format!("{} × {} trees of depth {}", crossed.models, growth.trees, growth.depth)
            }
            (None, penalty) => format!("logistic regression (penalty {})", penalty.unwrap_or_default()),
        };
        tried.push((name.clone(), quality));
        let slot = &mut best[usize::from(recipe.0.is_none())];
        if slot.as_ref().is_none_or(|b| quality > b.0) {
            *slot = Some((quality, name, crossed));
        }
    }
    let mut options: Vec<(f64, String, Crossed)> = Vec::new();
    if let [Some(forest), Some(line)] = &best {
        let both = forest.2.blended(&line.2);
        let name = format!("blend of {} and {}", forest.1, line.1);
        options.push((average_precision(&both.margins, sample.labels), name, both));
        tried.push((options[0].1.clone(), options[0].0));
    }
    options.extend(best.into_iter().flatten());
    let (_, chosen, crossed) = options.into_iter().reduce(|a, b| if b.0 > a.0 { b } else { a })?;
    let calibrator = calibrate(&crossed.margins, sample.labels, sample.units);
    let validation = quality(&calibrator, &crossed.margins, sample.labels);
    let margins = crossed.margins.clone();
    Some(Fitted { scorer: crossed.scorer()?, calibrator, chosen, tried, validation, margins })
}

fn quality(calibrator: &Calibrator, margins: &[f64], labels: &[bool]) -> Quality {
    let probabilities: Vec<f64> = margins.iter().map(|&m| calibrator.probability(m)).collect();
    Quality::of(&probabilities, labels)
}

struct Choice {
    quality: f64,
    name: String,
    scorer: Scorer,
    margins: Vec<f64>,
    recipe: (Option<Growth>, Option<f64>),
}

/// Training and validation rows as one sample.
struct Joined {
    rows: FeatureMatrix,
    labels: Vec<bool>,
    units: Vec<u32>,
}

impl Joined {
    fn of(a: &Sample<'_>, b: &Sample<'_>) -> Self {
        Self {
            rows: FeatureMatrix::from_values(a.rows.width(), [a.rows.values(), b.rows.values()].concat()),
            labels: [a.labels, b.labels].concat(),
            units: [a.units, b.units].concat(),
        }
    }

    fn sample(&self) -> Sample<'_> {
        Sample { rows: &self.rows, labels: &self.labels, units: &self.units, weights: &[] }
    }
}

/// One recipe fitted as often as there are folds of units, each time without one of them.
#[derive(Clone)]
struct Crossed {
    /// Of every row, by the model that did not see its unit.
    margins: Vec<f64>,
    models: usize,
    /// The mean of the folds' forests.
    forest: Option<Forest>,
    /// Of all rows: so few weights hardly differ between folds.
    line: Option<Linear>,
}

impl Crossed {
    fn of(sample: &Sample<'_>, (growth, penalty): (Option<Growth>, Option<f64>), folds: usize) -> Self {
        let labels: Vec<f32> = sample.labels.iter().map(|&y| f32::from(u8::from(y))).collect();
        let parts = f64::from(u8::from(growth.is_some()) + u8::from(penalty.is_some())).max(1.0);
        let mut margins = vec![0f64; labels.len()];
        let mut forests = Vec::new();
        for fold in 0..folds {
            let (outside, inside): (Vec<usize>, Vec<usize>) =
                (0..labels.len()).partition(|&row| sample.units[row] as usize % folds == fold);
            let rows = sample.rows.select(&inside);
            let kept: Vec<f32> = inside.iter().map(|&r| labels[r]).collect();
            let held = sample.rows.select(&outside);
            if let Some(growth) = &growth {
                let forest = grow(&rows, &kept, &[], None, growth);
                for (&row, margin) in outside.iter().zip(FlatForest::new(&forest).margins(&held)) {
                    margins[row] += f64::from(margin) / parts;
                }
                forests.push(forest);
            }
            if let Some(penalty) = penalty {
                let line = linear::fit(&rows, &kept, &[], penalty);
                for (at, &row) in outside.iter().enumerate() {
                    margins[row] += f64::from(line.margin(held.row(at))) / parts;
                }
            }
        }
        Self {
            margins,
            models: folds,
            forest: Forest::mean(forests),
            line: penalty.map(|penalty| linear::fit(sample.rows, &labels, &[], penalty)),
        }
    }

    /// The mean of two that were fitted apart.
    fn blended(&self, other: &Self) -> Self {
        Self {
            margins: self.margins.iter().zip(&other.margins).map(|(a, b)| (a + b) / 2.0).collect(),
            models: self.models,
            forest: self.forest.clone().or_else(|| other.forest.clone()),
            line: self.line.clone().or_else(|| other.line.clone()),
        }
    }

    fn scorer(self) -> Option<Scorer> {
        match (self.forest.map(Trees::new), self.line) {
            (Some(Ok(trees)), Some(line)) => Some(Scorer::Blend(Box::new(trees), line)),
            (Some(Ok(trees)), None) => Some(Scorer::Trees(Box::new(trees))),
            (None, Some(line)) => Some(Scorer::Linear(line)),
            _ => None,
        }
    }
}

/// Platt or isotonic, whichever has the lesser log loss on units that it was not fitted on (five
/// folds by unit).
pub fn calibrate(margins: &[f64], labels: &[bool], units: &[u32]) -> Calibrator {
    let folds = 5u32;
    let fold_of = |unit: u32| unit.wrapping_mul(2_654_435_761) >> 8;
    let mut losses = [0f64; 2];
    for fold in 0..folds {
        let (mut inner, mut inner_labels) = (Vec::new(), Vec::new());
        let (mut outer, mut outer_labels) = (Vec::new(), Vec::new());
        for row in 0..margins.len() {
            if fold_of(units[row]) % folds == fold {
                outer.push(margins[row]);
                outer_labels.push(labels[row]);
            } else {
                inner.push(margins[row]);
                inner_labels.push(labels[row]);
            }
        }
        let methods = [Calibrator::platt(&inner, &inner_labels), Calibrator::isotonic(&inner, &inner_labels)];
        for (loss, method) in losses.iter_mut().zip(&methods) {
            for (&margin, &y) in outer.iter().zip(&outer_labels) {
                let p = method.probability(margin);
                *loss -= if y { p.ln() } else { (1.0 - p).ln() };
            }
        }
    }
    if losses[0] <= losses[1] {
        Calibrator::platt(margins, labels)
    } else {
        Calibrator::isotonic(margins, labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rng::Random;

    /// Forty units with ten equal rows each, their label by lot: who has seen a unit knows its label.
    fn lots(from: u32) -> (FeatureMatrix, Vec<bool>, Vec<u32>) {
        let mut random = Random::new(u64::from(from) + 3);
        let (mut rows, mut labels, mut units) = (FeatureMatrix::empty(2), Vec::new(), Vec::new());
        for unit in from..from + 40 {
            let (a, b, fails) = (random.unit() as f32, random.unit() as f32, random.chance(0.4));
            for _ in 0..10 {
                rows.push(&[a, b]);
                labels.push(fails);
                units.push(unit);
            }
        }
        (rows, labels, units)
    }

    fn candidates() -> Candidates {
        let growth = Growth { trees: 80, leaf_rows: 1, ..Growth::default() };
        Candidates { forests: vec![growth], penalties: vec![10.0], folds: 4 }
    }

    #[test]
    fn no_row_is_judged_or_calibrated_by_a_model_that_saw_its_unit() {
        let (rows, labels, units) = lots(0);
        let sample = Sample { rows: &rows, labels: &labels, units: &units, weights: &[] };
        let fitted = fit_crossed(&sample, &candidates()).unwrap();
        assert!(fitted.validation.auprc < 0.8, "it knows what it cannot know: {:?}", fitted.validation);
        let mean: f64 = fitted.margins.iter().map(|&m| fitted.calibrator.probability(m)).sum::<f64>() / 400.0;
        let share = labels.iter().filter(|&&y| y).count() as f64 / 400.0;
        assert!((mean - share).abs() < 0.05, "{mean} said, {share} failed");
        let known = average_precision(&fitted.scorer.margins(&rows), &labels);
        assert!(known > 0.9 || fitted.chosen.starts_with("logistic"), "{known} by {}", fitted.chosen);
    }

    #[test]
    fn validation_units_are_learnt_from_but_not_told_by_what_they_taught() {
        let (a, b) = (lots(0), lots(40));
        let sample = |s: &'_ (FeatureMatrix, Vec<bool>, Vec<u32>)| (s.0.clone(), s.1.clone(), s.2.clone());
        let (x, y) = (sample(&a), sample(&b));
        let train = Sample { rows: &x.0, labels: &x.1, units: &x.2, weights: &[] };
        let validation = Sample { rows: &y.0, labels: &y.1, units: &y.2, weights: &[] };
        let fitted = fit(&train, &validation, &candidates()).unwrap();
        assert_eq!(fitted.margins.len(), 400);
        assert!(average_precision(&fitted.margins, &b.1) < 0.8);
        let one_kind = Sample { labels: &[true; 400], ..train };
        assert!(fit(&one_kind, &validation, &candidates()).is_none());
        assert!(fit_crossed(&one_kind, &candidates()).is_none());
    }
}
