//! Grows a forest: leaf by leaf from gradient histograms (Ke et al. 2017, LightGBM; Chen and
//! Guestrin 2016, XGBoost, eq. 6–7), with missing values sent to the side that gains more, row and
//! column sampling, L2, and early stopping on held-back rows. Deterministic by seed, one thread.

use super::binning::{Binned, MISSING};
use super::{Forest, Node, Tree};
use crate::fleet::rng::Random;
use crate::predict::models::matrix::FeatureMatrix;

/// What is fitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Objective {
    /// Labels 0 or 1; the margin is log-odds.
    Logistic,
    /// Labels are numbers; the margin is their mean.
    Squared,
}

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

/// Sum of first and second derivatives.
type Sums = [f64; 2];

struct Leaf {
    node: usize,
    depth: usize,
    /// Range in the order of rows.
    from: usize,
    to: usize,
    sums: Sums,
    histogram: Vec<Sums>,
    best: Option<Split>,
}

#[derive(Clone, Copy, Debug)]
struct Split {
    gain: f64,
    feature: usize,
    /// Bins up to this one go left.
    bin: u8,
    missing_left: bool,
    left: Sums,
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
    let base = base_margin(&labels[..count], weights, growth.objective);
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
        derive(&margins, &labels[..count], weights, growth.objective, &mut derivatives);
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
            let loss = loss(&held_margins, held.labels, growth.objective);
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

fn base_margin(labels: &[f32], weights: &[f32], objective: Objective) -> f64 {
    let (mut sum, mut total) = (0f64, 0f64);
    for (row, &label) in labels.iter().enumerate() {
        let weight = f64::from(weights.get(row).copied().unwrap_or(1.0));
        sum += weight * f64::from(label);
        total += weight;
    }
    let mean = if total > 0.0 { sum / total } else { 0.0 };
    match objective {
        Objective::Squared => mean,
        Objective::Logistic => {
            let p = mean.clamp(1e-6, 1.0 - 1e-6);
            (p / (1.0 - p)).ln()
        }
    }
}

/// First and second derivatives of the loss by the margin.
fn derive(margins: &[f32], labels: &[f32], weights: &[f32], objective: Objective, out: &mut [[f32; 2]]) {
    for (row, slot) in out.iter_mut().enumerate() {
        let weight = weights.get(row).copied().unwrap_or(1.0);
        *slot = match objective {
            Objective::Squared => [weight * (margins[row] - labels[row]), weight],
            Objective::Logistic => {
                let p = 1.0 / (1.0 + (-margins[row]).exp());
                [weight * (p - labels[row]), weight * (p * (1.0 - p)).max(1e-12)]
            }
        };
    }
}

fn loss(margins: &[f32], labels: &[f32], objective: Objective) -> f64 {
    let sum: f64 = margins
        .iter()
        .zip(labels)
        .map(|(&margin, &label)| {
            let (m, y) = (f64::from(margin), f64::from(label));
            match objective {
                Objective::Squared => (m - y).powi(2),
                // ln(1 + e^m) − y m, safe for large m
                Objective::Logistic => m.max(0.0) + (-m.abs()).exp().ln_1p() - y * m,
            }
        })
        .sum();
    sum / margins.len().max(1) as f64
}

struct Grower<'a> {
    growth: &'a Growth,
    binned: Binned,
    /// Where each column's bins begin in a histogram.
    offsets: Vec<usize>,
    width: usize,
    pool: Vec<Vec<Sums>>,
    ordered: Vec<[f32; 2]>,
}

impl<'a> Grower<'a> {
    fn new(rows: &FeatureMatrix, growth: &'a Growth) -> Self {
        let binned = Binned::new(rows);
        let mut offsets = Vec::with_capacity(rows.width());
        let mut width = 0;
        for cuts in &binned.cuts {
            offsets.push(width);
            // one bin more than cuts, and one for missing
            width += cuts.len() + 2;
        }
        Self { growth, binned, offsets, width, pool: Vec::new(), ordered: Vec::new() }
    }

    fn tree(&mut self, derivatives: &[[f32; 2]], random: &mut Random) -> Tree {
        let columns = self.sample_columns(random);
        let mut order = self.sample_rows(derivatives.len(), random);
        let mut scratch = vec![0u32; order.len()];
        let mut tree = Tree { nodes: vec![Node::leaf(0.0, 0.0)] };
        let mut root = Leaf {
            node: 0,
            depth: 0,
            from: 0,
            to: order.len(),
            sums: sums(derivatives, &order),
            histogram: self.take_histogram(),
            best: None,
        };
        self.count(&mut root, &order, derivatives, &columns);
        root.best = self.best_split(&root, &columns);
        let mut leaves = vec![root];
        while leaves.len() < self.growth.leaves {
            let Some(chosen) = leaves
                .iter()
                .enumerate()
                .filter_map(|(i, leaf)| leaf.best.map(|split| (i, split.gain)))
                .reduce(|a, b| if b.1 > a.1 { b } else { a })
                .map(|(i, _)| i)
            else {
                break;
            };
            let leaf = leaves.swap_remove(chosen);
            let Some(split) = leaf.best else { break };
            let middle = self.partition(&leaf, split, &mut order, &mut scratch);
            let (left, right) = self.split_node(&mut tree, &leaf, split);
            let right_sums = [leaf.sums[0] - split.left[0], leaf.sums[1] - split.left[1]];
            let small_is_left = middle - leaf.from <= leaf.to - middle;
            let mut a = Leaf {
                node: left,
                depth: leaf.depth + 1,
                from: leaf.from,
                to: middle,
                sums: split.left,
                histogram: Vec::new(),
                best: None,
            };
            let mut b = Leaf { node: right, from: middle, to: leaf.to, sums: right_sums, ..a.shell() };
            let (small, large) = if small_is_left { (&mut a, &mut b) } else { (&mut b, &mut a) };
            // The greater child's histogram is the parent's less the smaller child's.
            if small.depth < self.growth.depth && large.to - large.from >= 2 * self.growth.leaf_rows {
                small.histogram = self.take_histogram();
                self.count(small, &order, derivatives, &columns);
                large.histogram = leaf.histogram;
                for &f in &columns {
                    let range = self.bins_of(f);
                    for (l, s) in large.histogram[range.clone()].iter_mut().zip(&small.histogram[range]) {
                        l[0] -= s[0];
                        l[1] -= s[1];
                    }
                }
                small.best = self.best_split(small, &columns);
                large.best = self.best_split(large, &columns);
            } else {
                self.pool.push(leaf.histogram);
            }
            leaves.push(a);
            leaves.push(b);
        }
        for leaf in leaves {
            let value = -leaf.sums[0] / (leaf.sums[1] + self.growth.l2) * self.growth.rate;
            tree.nodes[leaf.node].value = if value.is_finite() { value as f32 } else { 0.0 };
            tree.nodes[leaf.node].cover = (leaf.to - leaf.from) as f32;
            if !leaf.histogram.is_empty() {
                self.pool.push(leaf.histogram);
            }
        }
        for at in (0..tree.nodes.len()).rev() {
            let node = tree.nodes[at];
            if !node.is_leaf() {
                tree.nodes[at].cover =
                    tree.nodes[node.left as usize].cover + tree.nodes[node.right as usize].cover;
            }
        }
        tree
    }

    fn sample_columns(&self, random: &mut Random) -> Vec<usize> {
        let all = self.offsets.len();
        let mut columns: Vec<usize> = (0..all).collect();
        let wanted = ((all as f64 * self.growth.column_share).ceil() as usize).clamp(1, all);
        for at in 0..wanted.min(all.saturating_sub(1)) {
            if wanted == all {
                break;
            }
            let other = at + random.below(all - at);
            columns.swap(at, other);
        }
        columns.truncate(wanted);
        columns.sort_unstable();
        columns
    }

    fn sample_rows(&self, count: usize, random: &mut Random) -> Vec<u32> {
        if self.growth.row_share >= 1.0 {
            return (0..count as u32).collect();
        }
        let rows: Vec<u32> = (0..count as u32).filter(|_| random.unit() < self.growth.row_share).collect();
        if rows.is_empty() { (0..count as u32).collect() } else { rows }
    }

    fn take_histogram(&mut self) -> Vec<Sums> {
        self.pool.pop().unwrap_or_else(|| vec![[0.0; 2]; self.width])
    }

    fn bins_of(&self, feature: usize) -> std::ops::Range<usize> {
        let start = self.offsets[feature];
        start..start + self.binned.cuts[feature].len() + 2
    }

    /// Fills the leaf's histogram, column by column, so that each stays in the nearest cache.
    fn count(&mut self, leaf: &mut Leaf, order: &[u32], derivatives: &[[f32; 2]], columns: &[usize]) {
        let rows = &order[leaf.from..leaf.to];
        self.ordered.clear();
        self.ordered.extend(rows.iter().map(|&row| derivatives[row as usize]));
        let whole = rows.len() == self.binned.rows;
        for &f in columns {
            let mut local = [[0f64; 2]; 256];
            let column = self.binned.column(f);
            if whole {
                for (&bin, d) in column.iter().zip(&self.ordered) {
                    let cell = &mut local[bin as usize];
                    cell[0] += f64::from(d[0]);
                    cell[1] += f64::from(d[1]);
                }
            } else {
                for (&row, d) in rows.iter().zip(&self.ordered) {
                    let cell = &mut local[column[row as usize] as usize];
                    cell[0] += f64::from(d[0]);
                    cell[1] += f64::from(d[1]);
                }
            }
            let range = self.bins_of(f);
            let last = range.len() - 1;
            let cells = &mut leaf.histogram[range];
            cells[..last].copy_from_slice(&local[..last]);
            cells[last] = local[MISSING as usize];
        }
    }

    fn best_split(&self, leaf: &Leaf, columns: &[usize]) -> Option<Split> {
        let growth = self.growth;
        let rows = leaf.to - leaf.from;
        if leaf.depth >= growth.depth || rows < 2 * growth.leaf_rows.max(1) {
            return None;
        }
        // Rows of a bin are estimated from its second derivatives, as LightGBM does.
        let rows_per_weight = rows as f64 / leaf.sums[1].max(1e-300);
        let least_weight = growth.leaf_weight.max(growth.leaf_rows as f64 / rows_per_weight);
        let score = |s: Sums| s[0] * s[0] / (s[1] + growth.l2);
        let parent = score(leaf.sums);
        let mut best: Option<Split> = None;
        for &f in columns {
            let cells = &leaf.histogram[self.bins_of(f)];
            let (values, missing) = (&cells[..cells.len() - 1], cells[cells.len() - 1]);
            let has_missing = missing[1] > 1e-12;
            let mut left = [0f64; 2];
            for (bin, cell) in values[..values.len() - 1].iter().enumerate() {
                left[0] += cell[0];
                left[1] += cell[1];
                if cell[1] == 0.0 {
                    continue;
                }
                let mut consider = |left: Sums, missing_left: bool| {
                    let right = [leaf.sums[0] - left[0], leaf.sums[1] - left[1]];
                    if left[1] < least_weight || right[1] < least_weight {
                        return;
                    }
                    let gain = score(left) + score(right) - parent;
                    if gain > best.map_or(1e-7, |b| b.gain) {
                        best = Some(Split { gain, feature: f, bin: bin as u8, missing_left, left });
                    }
                };
                consider(left, false);
                if has_missing {
                    consider([left[0] + missing[0], left[1] + missing[1]], true);
                }
            }
        }
        best
    }

    /// Sorts the leaf's rows into left and right, each in its old order; returns where right begins.
    fn partition(&self, leaf: &Leaf, split: Split, order: &mut [u32], scratch: &mut [u32]) -> usize {
        let column = self.binned.column(split.feature);
        let rows = &mut order[leaf.from..leaf.to];
        let (mut left, mut right) = (0, 0);
        for at in 0..rows.len() {
            let row = rows[at];
            let bin = column[row as usize];
            let goes_left = if bin == MISSING { split.missing_left } else { bin <= split.bin };
            if goes_left {
                rows[left] = row;
                left += 1;
            } else {
                scratch[right] = row;
                right += 1;
            }
        }
        rows[left..].copy_from_slice(&scratch[..right]);
        leaf.from + left
    }

    fn split_node(&self, tree: &mut Tree, leaf: &Leaf, split: Split) -> (usize, usize) {
        let (left, right) = (tree.nodes.len(), tree.nodes.len() + 1);
        tree.nodes.push(Node::leaf(0.0, 0.0));
        tree.nodes.push(Node::leaf(0.0, 0.0));
        tree.nodes[leaf.node] = Node {
            feature: split.feature as u32,
            threshold: self.binned.cuts[split.feature][split.bin as usize],
            left: left as u32,
            right: right as u32,
            missing_left: split.missing_left,
            value: 0.0,
            cover: 0.0,
        };
        (left, right)
    }
}

impl Leaf {
    /// The same depth, nothing else yet.
    fn shell(&self) -> Self {
        Leaf { node: 0, depth: self.depth, from: 0, to: 0, sums: [0.0; 2], histogram: Vec::new(), best: None }
    }
}

fn sums(derivatives: &[[f32; 2]], rows: &[u32]) -> Sums {
    rows.iter().fold([0.0; 2], |total, &row| {
        let d = derivatives[row as usize];
        [total[0] + f64::from(d[0]), total[1] + f64::from(d[1])]
    })
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
