//! Grows a forest: leaf by leaf from gradient histograms (Ke et al. 2017, LightGBM; Chen and
//! Guestrin 2016, XGBoost, eq. 6–7), with missing values sent to the side that gains more, row and
//! column sampling, L2, and early stopping on held-back rows. Deterministic by seed, one thread.

use super::Forest;
use super::leafwise::Grower;
use super::objective::Objective;
use crate::fleet::rng::Random;
use crate::predict::models::matrix::FeatureMatrix;

/// How a forest is grown.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Growth {
    /// What is fitted.
    pub objective: Objective,
    /// The most trees.
    pub trees: usize,
    /// Share of a tree's step that is taken.
    pub rate: f64,
    /// The most leaves of a tree.
    pub leaves: usize,
    /// The most steps from root to leaf.
    pub depth: usize,
    /// The fewest rows of a leaf.
    pub leaf_rows: usize,
    /// The least sum of second derivatives of a leaf.
    pub leaf_weight: f64,
    /// L2 penalty on leaf values.
    pub l2: f64,
    /// Share of rows that each tree sees.
    pub row_share: f64,
    /// Share of columns that each tree sees.
    pub column_share: f64,
    /// Trees without a better held-back loss until growing stops.
    pub patience: usize,
    /// Seed of the sampling.
    pub seed: u64,
}

impl Default for Growth {
    /// 200 trees of 31 leaves, rate .1: what LightGBM starts from.
    fn default() -> Self {
        Self {
            objective: Objective::Logistic,
            trees: 200,
            rate: 0.1,
            leaves: 31,
            depth: 10,
            leaf_rows: 20,
            leaf_weight: 1e-3,
            l2: 0.0,
            row_share: 1.0,
            column_share: 1.0,
            patience: 30,
            seed: 0,
        }
    }
}

/// Rows held back to say when to stop.
#[derive(Clone, Copy, Debug)]
pub struct HeldBack<'a> {
    /// The features.
    pub rows: &'a FeatureMatrix,
    /// Their labels.
    pub labels: &'a [f32],
}

/// Grows a forest on `rows` and `labels` (one a row), seen with `weights` (one a row; all alike
/// where empty). With held-back rows it is cut back to the trees that served them best.
pub fn grow(
    rows: &FeatureMatrix,
    labels: &[f32],
    weights: &[f32],
    held_back: Option<HeldBack<'_>>,
    growth: &Growth,
) -> Forest {
    let count = rows.rows().min(labels.len());
    let base = growth.objective.base_margin(&labels[..count], weights);
    let mut forest = Forest { width: rows.width(), base: base as f32, trees: Vec::new() };
    if count == 0 || rows.width() == 0 {
        return forest;
    }
    let mut grower = Grower::new(rows, growth);
    let mut margins = vec![forest.base; count];
    let mut held_margins = held_back.map(|h| vec![forest.base; h.rows.rows()]).unwrap_or_default();
    let mut best = (f64::INFINITY, 0usize);
    let mut random = Random::new(growth.seed);
    let mut derivatives = vec![[0f32; 2]; count];
    for _ in 0..growth.trees {
        growth.objective.derive(&margins, &labels[..count], weights, &mut derivatives);
        let tree = grower.tree(&derivatives, &mut random);
        if tree.nodes.len() < 2 {
            break;
        }
        for (row, margin) in margins.iter_mut().enumerate() {
            *margin += tree.value(rows.row(row));
        }
        if let Some(held) = held_back {
            for (row, margin) in held_margins.iter_mut().enumerate() {
                *margin += tree.value(held.rows.row(row));
            }
            forest.trees.push(tree);
            let loss = growth.objective.loss(&held_margins, held.labels);
            if loss < best.0 - 1e-9 {
                best = (loss, forest.trees.len());
            } else if forest.trees.len() >= best.1 + growth.patience {
                break;
            }
        } else {
            forest.trees.push(tree);
        }
    }
    if held_back.is_some() {
        forest.trees.truncate(best.1);
    }
    forest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::models::trees::FlatForest;

    fn rings(count: usize, seed: u64) -> (FeatureMatrix, Vec<f32>) {
        let mut random = Random::new(seed);
        let mut rows = FeatureMatrix::empty(4);
        let mut labels = Vec::new();
        for _ in 0..count {
            let x: Vec<f32> = (0..4).map(|_| random.normal() as f32).collect();
            labels.push(f32::from(x[0] * x[0] + x[1] * x[1] > 1.5));
            rows.push(&x);
        }
        (rows, labels)
    }

    #[test]
    fn a_ring_that_no_line_parts_is_learnt() {
        let (rows, labels) = rings(2000, 1);
        let (test, truth) = rings(1000, 2);
        let forest = grow(&rows, &labels, &[], None, &Growth { trees: 60, ..Growth::default() });
        forest.check().unwrap();
        let right =
            (0..test.rows()).filter(|&r| (forest.margin(test.row(r)) > 0.0) == (truth[r] > 0.5)).count();
        assert!(right > 950, "{right} of 1000");
    }

    #[test]
    fn the_same_seed_grows_the_same_forest() {
        let (rows, labels) = rings(500, 1);
        let growth = Growth { trees: 10, row_share: 0.5, column_share: 0.5, seed: 9, ..Growth::default() };
        assert_eq!(grow(&rows, &labels, &[], None, &growth), grow(&rows, &labels, &[], None, &growth));
        let other = Growth { seed: 10, ..growth };
        assert_ne!(grow(&rows, &labels, &[], None, &growth), grow(&rows, &labels, &[], None, &other));
    }

    #[test]
    fn missing_values_go_where_their_labels_are() {
        let mut rows = FeatureMatrix::empty(1);
        let mut labels = Vec::new();
        for i in 0..300 {
            rows.push(&[if i % 3 == 0 { f32::NAN } else { (i % 10) as f32 }]);
            labels.push(f32::from(i % 3 == 0));
        }
        let forest = grow(&rows, &labels, &[], None, &Growth { trees: 30, ..Growth::default() });
        assert!(forest.margin(&[f32::NAN]) > 2.0 && forest.margin(&[4.0]) < -2.0);
        assert!(FlatForest::new(&forest).margins(&rows)[0] > 2.0);
    }

    #[test]
    fn a_value_that_was_never_missing_in_training_goes_with_most_rows() {
        let mut rows = FeatureMatrix::empty(1);
        let mut labels = Vec::new();
        for i in 0..1000 {
            rows.push(&[(i % 50) as f32]);
            labels.push(f32::from(i % 50 >= 48));
        }
        let forest = grow(&rows, &labels, &[], None, &Growth { trees: 30, ..Growth::default() });
        assert!(forest.margin(&[49.0]) > 1.0);
        assert!(forest.margin(&[f32::NAN]) < -2.0, "{}", forest.margin(&[f32::NAN]));
    }

    #[test]
    fn constant_and_all_missing_columns_grow_nothing() {
        let rows = FeatureMatrix::from_values(2, [1.0, f32::NAN].repeat(100));
        let labels: Vec<f32> = (0..100).map(|i| f32::from(i % 4 == 0)).collect();
        let forest = grow(&rows, &labels, &[], None, &Growth::default());
        assert!(forest.trees.is_empty());
        assert!((forest.base - (1f32 / 3.0).ln()).abs() < 1e-5);
    }

    #[test]
    fn held_back_rows_stop_the_growth_before_it_learns_noise() {
        let mut random = Random::new(5);
        let noise = |random: &mut Random| {
            let rows = FeatureMatrix::from_values(3, (0..900).map(|_| random.unit() as f32).collect());
            let labels: Vec<f32> = (0..300).map(|_| f32::from(random.chance(0.5))).collect();
            (rows, labels)
        };
        let (rows, labels) = noise(&mut random);
        let (held, truth) = noise(&mut random);
        let held_back = HeldBack { rows: &held, labels: &truth };
        let forest = grow(&rows, &labels, &[], Some(held_back), &Growth::default());
        assert!(forest.trees.len() < 20, "{} trees of noise", forest.trees.len());
    }
}
