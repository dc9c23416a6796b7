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
}

/// What is tried.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidates {
    /// Forests.
    pub forests: Vec<Growth>,
    /// Penalties of logistic regressions.
    pub penalties: Vec<f64>,
}

impl Candidates {
    /// A forest of many small, well-damped trees and one of few large ones; penalties a step of three
    /// apart.
    pub fn thorough(seed: u64) -> Self {
        let small = Growth {
            trees: 1500,
            rate: 0.03,
            leaves: 8,
            depth: 6,
            leaf_rows: 50,
            l2: 10.0,
            row_share: 0.5,
            column_share: 0.3,
            patience: 100,
            seed,
            ..Growth::default()
        };
        let large = Growth { trees: 600, rate: 0.05, patience: 50, seed, ..Growth::default() };
        Self { forests: vec![small, large], penalties: vec![10.0, 30.0, 100.0, 300.0] }
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
        Self { forests: vec![forest], penalties: vec![10.0, 100.0] }
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
        let forest = grow(train.rows, &labels, &[], Some(held_back), growth);
        let name = format!("{} trees of {} leaves", forest.trees.len(), growth.leaves);
        let Ok(trees) = Trees::new(forest) else { continue };
        let margins: Vec<f64> = trees.margins(validation.rows).into_iter().map(f64::from).collect();
        forests.push((average_precision(&margins, validation.labels), name, trees, margins));
    }
    let mut lines = Vec::new();
    for &penalty in &candidates.penalties {
        let line = linear::fit(train.rows, &labels, &[], penalty);
        let margins: Vec<f64> =
            (0..validation.rows.rows()).map(|r| f64::from(line.margin(validation.rows.row(r)))).collect();
        let name = format!("logistic regression (penalty {penalty})");
        lines.push((average_precision(&margins, validation.labels), name, line, margins));
    }
    tried.extend(forests.iter().map(|f| (f.1.clone(), f.0)));
    tried.extend(lines.iter().map(|l| (l.1.clone(), l.0)));
    let best_forest = forests.into_iter().reduce(|a, b| if b.0 > a.0 { b } else { a });
    let best_line = lines.into_iter().reduce(|a, b| if b.0 > a.0 { b } else { a });

    let mut options: Vec<(f64, String, Scorer, Vec<f64>)> = Vec::new();
    if let (Some(f), Some(l)) = (&best_forest, &best_line) {
        let margins: Vec<f64> = f.3.iter().zip(&l.3).map(|(a, b)| (a + b) / 2.0).collect();
        let quality = average_precision(&margins, validation.labels);
        let name = format!("blend of {} and {}", f.1, l.1);
        tried.push((name.clone(), quality));
        options.push((quality, name, Scorer::Blend(Box::new(f.2.clone()), l.2.clone()), margins));
    }
    options.extend(best_forest.map(|f| (f.0, f.1, Scorer::Trees(Box::new(f.2)), f.3)));
    options.extend(best_line.map(|l| (l.0, l.1, Scorer::Linear(l.2), l.3)));
    // The first of equals, so the blend where it is no worse: two kinds of model err differently.
    let (_, chosen, scorer, margins) = options.into_iter().reduce(|a, b| if b.0 > a.0 { b } else { a })?;
    let calibrator = calibrate(&margins, validation.labels, validation.units);
    let probabilities: Vec<f64> = margins.iter().map(|&m| calibrator.probability(m)).collect();
    let validation = Quality::of(&probabilities, validation.labels);
    Some(Fitted { scorer, calibrator, chosen, tried, validation })
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
