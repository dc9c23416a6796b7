//! Fits a head: forests and logistic regressions on the training units, the better of them (or their
//! mean) by average precision on validation units, calibrated on these. Never looks at a test row.

use super::model::{Scorer, Trees};
use super::quality::{Quality, average_precision};
use crate::predict::calibrate::Calibrator;
use crate::predict::models::linear;
use crate::predict::models::matrix::FeatureMatrix;
use crate::predict::models::trees::grow::HeldBack;
use crate::predict::models::trees::{Growth, grow};

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
    /// Parts that the training units are cut into, each scored by a model of the others, so that
    /// calibration rests on them too; 1 = on the validation units alone.
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
    let mut known = Known { margins, labels: validation.labels.to_vec(), units: validation.units.to_vec() };
    let calibrator = if validation.weights.is_empty() {
        let margins = known.margins.clone();
        if candidates.folds > 1 {
            known.extend(out_of_fold(train, recipe, candidates.folds, &labels));
        }
        let calibrator = calibrate(&known.margins, &known.labels, &known.units);
        known.margins = margins;
        calibrator
    } else {
        // Weights set the base rate; steps of few, heavy rows would not bear it.
        Calibrator::platt_weighted(&known.margins, validation.labels, validation.weights)
    };
    let margins = known.margins;
    let probabilities: Vec<f64> = margins.iter().map(|&m| calibrator.probability(m)).collect();
    let validation = Quality::of(&probabilities, validation.labels);
    Some(Fitted { scorer, calibrator, chosen, tried, validation })
}

struct Choice {
    quality: f64,
    name: String,
    scorer: Scorer,
    margins: Vec<f64>,
    recipe: (Option<Growth>, Option<f64>),
}

/// Margins with what became of their rows.
struct Known {
    margins: Vec<f64>,
    labels: Vec<bool>,
    units: Vec<u32>,
}

impl Known {
    fn extend(&mut self, other: Known) {
        self.margins.extend(other.margins);
        self.labels.extend(other.labels);
        self.units.extend(other.units);
    }
}

/// Margins of the training rows, each by a model like `scorer` that did not see its unit.
fn out_of_fold(
    train: &Sample<'_>,
    (growth, penalty): (Option<Growth>, Option<f64>),
    folds: usize,
    labels: &[f32],
) -> Known {
    let mut known = Known { margins: Vec::new(), labels: Vec::new(), units: Vec::new() };
    for fold in 0..folds {
        let outer = |unit: u32| (unit as usize) % folds == fold;
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        for row in 0..train.rows.rows() {
            if outer(train.units[row]) { outside.push(row) } else { inside.push(row) }
        }
        let rows = train.rows.select(&inside);
        let kept: Vec<f32> = inside.iter().map(|&r| labels[r]).collect();
        let held = train.rows.select(&outside);
        let trees = growth.as_ref().map(|growth| grow(&rows, &kept, &[], None, growth));
        let line = penalty.map(|penalty| linear::fit(&rows, &kept, &[], penalty));
        let scorer = match (trees.map(Trees::new), line) {
            (Some(Ok(trees)), Some(line)) => Scorer::Blend(Box::new(trees), line),
            (Some(Ok(trees)), None) => Scorer::Trees(Box::new(trees)),
            (None, Some(line)) => Scorer::Linear(line),
            _ => continue,
        };
        known.margins.extend(scorer.margins(&held));
        known.labels.extend(outside.iter().map(|&r| train.labels[r]));
        known.units.extend(outside.iter().map(|&r| train.units[r]));
    }
    known
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
