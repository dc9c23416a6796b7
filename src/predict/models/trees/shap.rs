//! Exact Shapley values of a forest's margin (Lundberg et al. 2020, "From local explanations to
//! global understanding with explainable AI for trees", path-dependent): they sum to the margin less
//! the forest's expected margin.
//!
//! Leaf by leaf: a leaf's part for a feature depends on the row only through which of the features on
//! its path would lead there. What each such pattern gives is worked out once (Yang 2021, "Fast
//! TreeSHAP", version 2), for leaves with so many features on their path as that takes little memory.

use std::sync::OnceLock;

use super::{Forest, Tree};

/// Leaves with up to so many features on their path have a table: 2^6 × 6 numbers at most.
const IN_A_TABLE: usize = 6;

/// Explains margins; holds what does not depend on the row.
#[derive(Clone, Debug)]
pub struct Explainer {
    expected: f64,
    /// The leaves of each tree, worked out when the first row is explained.
    leaves: OnceLock<Vec<Vec<Leaf>>>,
}

/// One leaf, and the way to it.
#[derive(Clone, Debug)]
struct Leaf {
    value: f64,
    /// Features on the way, each once.
    features: Box<[u32]>,
    /// Of each of them, the share of covers that flows this way where the feature is unknown.
    shares: Box<[f64]>,
    /// Nodes on the way: number, place of its feature in `features`, whether the way goes left.
    way: Box<[(u32, u32, bool)]>,
    /// Parts of the features, by the pattern of those that lead here; empty where there are too many.
    table: Box<[f64]>,
}

impl Explainer {
    /// For that forest.
    pub fn new(forest: &Forest) -> Self {
        let expected =
            f64::from(forest.base) + forest.trees.iter().map(|tree| expected(tree, 0)).sum::<f64>();
        Self { expected, leaves: OnceLock::new() }
    }

    /// What the forest says on average over the rows it was grown on.
    pub fn expected(&self) -> f64 {
        self.expected
    }

    /// Adds the Shapley value of each feature of `row` to `out` (as wide as the row). They sum to
    /// the margin less [`Explainer::expected`]. `forest` is the one that it was made for.
    pub fn explain(&self, forest: &Forest, row: &[f32], out: &mut [f64]) {
        let leaves = self.leaves.get_or_init(|| forest.trees.iter().map(leaves_of).collect());
        let (mut left, mut leads, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for (tree, leaves) in forest.trees.iter().zip(leaves) {
            left.clear();
            left.extend(tree.nodes.iter().map(|n| !n.is_leaf() && n.goes_left(row[n.feature as usize])));
            for leaf in leaves {
                leads.clear();
                leads.resize(leaf.features.len(), true);
                for &(node, place, goes_left) in &leaf.way {
                    leads[place as usize] &= left[node as usize] == goes_left;
                }
                let parts = if leaf.table.is_empty() {
                    parts.clear();
                    leaf.parts(&leads, &mut parts);
                    &parts[..]
                } else {
                    let pattern = leads.iter().rev().fold(0, |bits, &leads| bits << 1 | usize::from(leads));
                    &leaf.table[pattern * leads.len()..][..leads.len()]
                };
                for (&feature, part) in leaf.features.iter().zip(parts) {
                    out[feature as usize] += part;
                }
            }
        }
    }
}

impl Leaf {
    /// Adds the part of each feature to `out`, where `leads` says which of them lead here.
    ///
    /// With all subsets of the other features weighted as in Shapley's definition, a leaf is worth
    /// `value × Π share` over the unknown features where all known ones lead to it, else nothing. The
    /// subsets of each size are summed as the coefficients of `Π (share + leads × t)`.
    fn parts(&self, leads: &[bool], out: &mut Vec<f64>) {
        let count = leads.len();
        let mut sums = vec![0.0; count];
        for of in 0..count {
            sums.fill(0.0);
            sums[0] = 1.0;
            for (seen, other) in (0..count).filter(|&i| i != of).enumerate() {
                for size in (0..=seen + 1).rev() {
                    let with = if leads[other] && size > 0 { sums[size - 1] } else { 0.0 };
                    let without = if size <= seen { sums[size] * self.shares[other] } else { 0.0 };
                    sums[size] = with + without;
                }
            }
            // size! (count − 1 − size)! / count!, from one size to the next.
            let (mut weight, mut sum) = (1.0 / count as f64, 0.0);
            for (size, subsets) in sums.iter().enumerate() {
                sum += weight * subsets;
                weight *= (size + 1) as f64 / (count - 1 - size).max(1) as f64;
            }
            out.push(self.value * (f64::from(u8::from(leads[of])) - self.shares[of]) * sum);
        }
    }

    fn tabulate(&mut self) {
        let count = self.features.len();
        if count > IN_A_TABLE {
            return;
        }
        let mut table = Vec::with_capacity(count << count);
        for pattern in 0..1usize << count {
            let leads: Vec<bool> = (0..count).map(|i| pattern >> i & 1 == 1).collect();
            self.parts(&leads, &mut table);
        }
        self.table = table.into();
    }
}

fn leaves_of(tree: &Tree) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    walk(tree, 0, &mut Vec::new(), &mut leaves);
    leaves
}

/// Nodes on the way to a node: number, whether the way goes left, the share that flows this way.
type Way = Vec<(u32, bool, f64)>;

fn walk(tree: &Tree, at: u32, way: &mut Way, leaves: &mut Vec<Leaf>) {
    let node = &tree.nodes[at as usize];
    if node.is_leaf() {
        return leaves.push(leaf(tree, f64::from(node.value), way));
    }
    for (child, goes_left) in [(node.left, true), (node.right, false)] {
        let (share, _) = shares(tree, at as usize, child as usize);
        way.push((at, goes_left, share));
        walk(tree, child, way, leaves);
        way.pop();
    }
}

fn leaf(tree: &Tree, value: f64, way: &Way) -> Leaf {
    let (mut features, mut shares, mut steps) = (Vec::<u32>::new(), Vec::new(), Vec::new());
    for &(node, goes_left, share) in way {
        let feature = tree.nodes[node as usize].feature;
        let place = features.iter().position(|f| *f == feature).unwrap_or_else(|| {
            features.push(feature);
            shares.push(1.0);
            features.len() - 1
        });
        shares[place] *= share;
        steps.push((node, place as u32, goes_left));
    }
    let mut leaf = Leaf {
        value,
        features: features.into(),
        shares: shares.into(),
        way: steps.into(),
        table: Box::default(),
    };
    leaf.tabulate();
    leaf
}

fn expected(tree: &Tree, at: usize) -> f64 {
    let node = &tree.nodes[at];
    if node.is_leaf() {
        return f64::from(node.value);
    }
    let (left, right) = (node.left as usize, node.right as usize);
    let (share, _) = shares(tree, at, left);
    share * expected(tree, left) + (1.0 - share) * expected(tree, right)
}

/// The share of a node's cover that flows into `child`, and into the other one. A forest from a
/// file without covers is explained as if both were alike.
fn shares(tree: &Tree, at: usize, child: usize) -> (f64, f64) {
    let node = &tree.nodes[at];
    let total = f64::from(tree.nodes[node.left as usize].cover + tree.nodes[node.right as usize].cover);
    let share = if total > 0.0 { f64::from(tree.nodes[child].cover) / total } else { 0.5 };
    (share, 1.0 - share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rng::Random;
    use crate::predict::models::matrix::FeatureMatrix;
    use crate::predict::models::trees::{Growth, grow};

    fn forest(width: usize, seed: u64) -> (Forest, FeatureMatrix) {
        let mut random = Random::new(seed);
        let values = (0..400 * width)
            .map(|_| if random.chance(0.05) { f32::NAN } else { random.normal() as f32 })
            .collect();
        let rows = FeatureMatrix::from_values(width, values);
        let labels: Vec<f32> =
            (0..400).map(|r| f32::from(rows.row(r)[0] + rows.row(r)[1] * rows.row(r)[2] > 0.2)).collect();
        let growth = Growth { trees: 12, leaves: 16, depth: 7, ..Growth::default() };
        (grow(&rows, &labels, &[], None, &growth), rows)
    }

    /// The margin where only the features of `known` are known, by definition.
    fn value_of(tree: &Tree, at: usize, row: &[f32], known: u32) -> f64 {
        let node = &tree.nodes[at];
        if node.is_leaf() {
            return f64::from(node.value);
        }
        let (left, right) = (node.left as usize, node.right as usize);
        if known >> node.feature & 1 == 1 {
            let child = if node.goes_left(row[node.feature as usize]) { left } else { right };
            return value_of(tree, child, row, known);
        }
        let (share, other) = shares(tree, at, left);
        share * value_of(tree, left, row, known) + other * value_of(tree, right, row, known)
    }

    #[test]
    fn the_parts_are_the_shapley_values_of_the_definition() {
        let (forest, rows) = forest(4, 3);
        let explainer = Explainer::new(&forest);
        let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
        for r in 0..20 {
            let row = rows.row(r);
            let mut got = vec![0.0; 4];
            explainer.explain(&forest, row, &mut got);
            for (feature, got) in got.iter().enumerate() {
                let mut want = 0.0;
                for set in (0u32..16).filter(|set| set >> feature & 1 == 0) {
                    let size = set.count_ones();
                    let weight = factorial(size) * factorial(3 - size) / factorial(4);
                    for tree in &forest.trees {
                        want += weight
                            * (value_of(tree, 0, row, set | 1 << feature) - value_of(tree, 0, row, set));
                    }
                }
                assert!((got - want).abs() < 1e-9, "row {r} feature {feature}: {got} and {want}");
            }
        }
    }

    #[test]
    fn the_parts_sum_to_the_margin() {
        let (forest, rows) = forest(9, 8);
        let explainer = Explainer::new(&forest);
        for r in 0..100 {
            let mut parts = vec![0.0; 9];
            explainer.explain(&forest, rows.row(r), &mut parts);
            let sum = explainer.expected() + parts.iter().sum::<f64>();
            assert!((sum - f64::from(forest.margin(rows.row(r)))).abs() < 1e-4);
        }
    }
}
