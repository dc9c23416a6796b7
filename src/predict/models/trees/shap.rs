//! Exact Shapley values of a forest's margin (Lundberg et al. 2020, "From local explanations to
//! global understanding with explainable AI for trees", path-dependent): they sum to the margin less
//! the forest's expected margin.
//!
//! Leaf by leaf: a leaf's part for a feature depends on the row only through which of the features on
//! its path would lead there. What each such pattern gives is worked out once (Yang 2021, "Fast
//! TreeSHAP", version 2), for leaves with so many features on their path as that takes little memory; for
//! the others the sum over all subsets is an integral of a polynomial, which Gauss and Legendre's rule gives
//! exactly (the weights of Shapley are Beta integrals; compare Yu et al. 2022, "Linear TreeSHAP").

use std::sync::OnceLock;

use super::{Forest, Tree};

/// Leaves with up to so many features on their path have a table: 2^6 × 6 numbers at most.
const IN_A_TABLE: usize = 6;

/// Explains margins; holds what does not depend on the row.
#[derive(Clone, Debug)]
pub struct Explainer {
    expected: f64,
    /// Worked out when the first row is explained.
    worked: OnceLock<Worked>,
}

/// What is worked out once.
#[derive(Clone, Debug)]
struct Worked {
    /// The leaves of each tree.
    leaves: Vec<Vec<Leaf>>,
    /// By half the number of features, rounded up: how the integral is taken.
    rules: Vec<Rule>,
}

/// One leaf, and the way to it.
#[derive(Clone, Debug)]
struct Leaf {
    value: f64,
    /// Features on the way, each once.
    features: Box<[u32]>,
    /// Of each of them, the share of covers that flows this way where the feature is unknown.
    shares: Box<[f64]>,
    /// What has to hold of the tree's inner nodes where a feature leads here.
    turns: Box<[Turns]>,
    /// Parts of the features, by the pattern of those that lead here; empty where there are too many.
    table: Box<[f64]>,
}

/// The turns of one feature on the way to a leaf, at up to 64 inner nodes of its tree.
#[derive(Clone, Copy, Debug)]
struct Turns {
    /// Place of the feature in the leaf's.
    place: u32,
    /// Which 64 inner nodes.
    word: u32,
    /// Those of them that ask the feature on the way.
    nodes: u64,
    /// Where it has to go left of them.
    left: u64,
}

/// Points and weights on `[0, 1]`, [`LANES`] together; what fills the last ones up weighs nothing.
type Rule = Vec<([f64; LANES], [f64; LANES])>;

/// Points of an integral that are gone through at once.
const LANES: usize = 4;

/// Scratch space of one row.
#[derive(Default)]
struct Scratch {
    /// Whether each inner node sends the row left, a bit each.
    left: Vec<u64>,
    leads: Vec<bool>,
    parts: Vec<f64>,
    before: Vec<[f64; LANES]>,
}

impl Explainer {
    /// For that forest.
    pub fn new(forest: &Forest) -> Self {
        let expected =
            f64::from(forest.base) + forest.trees.iter().map(|tree| expected(tree, 0)).sum::<f64>();
        Self { expected, worked: OnceLock::new() }
    }

    /// What the forest says on average over the rows it was grown on.
    pub fn expected(&self) -> f64 {
        self.expected
    }

    /// Adds the Shapley value of each feature of `row` to `out` (as wide as the row). They sum to
    /// the margin less [`Explainer::expected`]. `forest` is the one that it was made for.
    pub fn explain(&self, forest: &Forest, row: &[f32], out: &mut [f64]) {
        let worked = self.worked.get_or_init(|| Worked::of(forest));
        let mut scratch = Scratch::default();
        for (tree, leaves) in forest.trees.iter().zip(&worked.leaves) {
            scratch.turn(tree, row);
            for leaf in leaves {
                let count = leaf.features.len();
                if leaf.table.is_empty() {
                    scratch.leads.clear();
                    scratch.leads.resize(count, true);
                    for turns in &leaf.turns {
                        scratch.leads[turns.place as usize] &= turns.hold(&scratch.left);
                    }
                    leaf.parts(&worked.rules, &mut scratch);
                    for (&feature, part) in leaf.features.iter().zip(&scratch.parts) {
                        out[feature as usize] += part;
                    }
                } else {
                    let mut pattern = (1usize << count) - 1;
                    for turns in &leaf.turns {
                        pattern &= !(usize::from(!turns.hold(&scratch.left)) << turns.place);
                    }
                    for (&feature, part) in leaf.features.iter().zip(&leaf.table[pattern * count..]) {
                        out[feature as usize] += part;
                    }
                }
            }
        }
    }
}

impl Turns {
    #[inline]
    fn hold(&self, left: &[u64]) -> bool {
        (left[self.word as usize] ^ self.left) & self.nodes == 0
    }
}

impl Scratch {
    /// Notes where the inner nodes of a tree send a row, in their order.
    fn turn(&mut self, tree: &Tree, row: &[f32]) {
        self.left.clear();
        let (mut word, mut bits) = (0, 0);
        for node in tree.nodes.iter().filter(|node| !node.is_leaf()) {
            word |= u64::from(node.goes_left(row[node.feature as usize])) << bits;
            bits += 1;
            if bits == u64::BITS {
                self.left.push(std::mem::take(&mut word));
                bits = 0;
            }
        }
        self.left.push(word);
    }
}

impl Worked {
    fn of(forest: &Forest) -> Self {
        let mut leaves: Vec<Vec<Leaf>> = forest.trees.iter().map(leaves_of).collect();
        let most = leaves.iter().flatten().map(|leaf| leaf.features.len()).max().unwrap_or(0);
        let rules: Vec<Rule> = (0..=most.div_ceil(2)).map(gauss_legendre).collect();
        leaves.iter_mut().flatten().for_each(|leaf| leaf.tabulate(&rules));
        Self { leaves, rules }
    }
}

impl Leaf {
    /// The part of each feature, where `scratch.leads` says which of them lead here.
    ///
    /// With all subsets of the other features weighted as in Shapley's definition, a leaf is worth
    /// `value × Π share` over the unknown features where all known ones lead to it, else nothing. The
    /// weight of subsets of one size is `∫ u^size (1 − u)^(count − 1 − size) du` over `[0, 1]`, so that they
    /// sum to the integral of `Π (share (1 − u) + leads × u)`, of degree `count − 1` in `u`.
    fn parts(&self, rules: &[Rule], scratch: &mut Scratch) {
        let Scratch { leads, parts, before, .. } = scratch;
        let count = leads.len();
        parts.clear();
        parts.resize(count, 0.0);
        before.resize(count.max(before.len()), [0.0; LANES]);
        let features = || self.shares.iter().zip(leads.iter());
        for (points, weights) in &rules[count.div_ceil(2)] {
            let factor = |(share, leads): (&f64, &bool), product: &mut [f64; LANES]| {
                let known = f64::from(u8::from(*leads));
                for (product, u) in product.iter_mut().zip(points) {
                    *product *= share * (1.0 - u) + known * u;
                }
            };
            let mut product = *weights;
            for (before, feature) in before.iter_mut().zip(features()) {
                *before = product;
                factor(feature, &mut product);
            }
            let mut product = [1.0; LANES];
            for ((part, before), feature) in parts.iter_mut().zip(&before[..count]).zip(features()).rev() {
                *part += before.iter().zip(&product).map(|(b, p)| b * p).sum::<f64>();
                factor(feature, &mut product);
            }
        }
        for (part, (share, leads)) in parts.iter_mut().zip(features()) {
            *part *= self.value * (f64::from(u8::from(*leads)) - share);
        }
    }

    fn tabulate(&mut self, rules: &[Rule]) {
        let count = self.features.len();
        if count > IN_A_TABLE {
            return;
        }
        let mut table = Vec::with_capacity(count << count);
        let mut scratch = Scratch::default();
        for pattern in 0..1usize << count {
            scratch.leads.clear();
            scratch.leads.extend((0..count).map(|i| pattern >> i & 1 == 1));
            self.parts(rules, &mut scratch);
            table.extend_from_slice(&scratch.parts);
        }
        self.table = table.into();
    }
}

/// Points and weights of Gauss and Legendre's rule on `[0, 1]`: exact for polynomials up to degree
/// `2 × points − 1`. Newton's method on the Legendre polynomial from the usual first guess.
fn gauss_legendre(points: usize) -> Rule {
    let n = points as f64;
    let point = |k: usize| {
        let mut x = (std::f64::consts::PI * (k as f64 + 0.75) / (n + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..100 {
            let (mut p, mut last) = (1.0, 0.0);
            for j in 0..points {
                let j = j as f64;
                (p, last) = (((2.0 * j + 1.0) * x * p - j * last) / (j + 1.0), p);
            }
            slope = n * (x * p - last) / (x * x - 1.0);
            let step = p / slope;
            x -= step;
            if step.abs() < 1e-16 {
                break;
            }
        }
        ((1.0 + x) / 2.0, 1.0 / ((1.0 - x * x) * slope * slope))
    };
    let points: Vec<(f64, f64)> = (0..points).map(point).collect();
    let lane = |some: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        std::array::from_fn(|k| some.get(k).map_or(0.0, of))
    };
    points.chunks(LANES).map(|some| (lane(some, |p| p.0), lane(some, |p| p.1))).collect()
}

fn leaves_of(tree: &Tree) -> Vec<Leaf> {
    let mut inner = 0;
    let number = |node: &super::Node| {
        inner += u32::from(!node.is_leaf());
        inner
    };
    // The number of each inner node among them, from 1.
    let numbers: Vec<u32> = tree.nodes.iter().map(number).collect();
    let mut leaves = Vec::new();
    walk(tree, &numbers, 0, &mut Vec::new(), &mut leaves);
    leaves
}

/// Nodes on the way to a node: number, whether the way goes left, the share that flows this way.
type Way = Vec<(u32, bool, f64)>;

fn walk(tree: &Tree, numbers: &[u32], at: u32, way: &mut Way, leaves: &mut Vec<Leaf>) {
    let node = &tree.nodes[at as usize];
    if node.is_leaf() {
        return leaves.push(leaf(tree, numbers, f64::from(node.value), way));
    }
    for (child, goes_left) in [(node.left, true), (node.right, false)] {
        let (share, _) = shares(tree, at as usize, child as usize);
        way.push((at, goes_left, share));
        walk(tree, numbers, child, way, leaves);
        way.pop();
    }
}

fn leaf(tree: &Tree, numbers: &[u32], value: f64, way: &Way) -> Leaf {
    let (mut features, mut shares, mut turns) = (Vec::<u32>::new(), Vec::new(), Vec::<Turns>::new());
    for &(node, goes_left, share) in way {
        let feature = tree.nodes[node as usize].feature;
        let place = features.iter().position(|f| *f == feature).unwrap_or_else(|| {
            features.push(feature);
            shares.push(1.0);
            features.len() - 1
        });
        shares[place] *= share;
        let number = numbers[node as usize] - 1;
        let (place, word, bit) = (place as u32, number / u64::BITS, number % u64::BITS);
        let known = turns.iter().position(|t| (t.place, t.word) == (place, word)).unwrap_or_else(|| {
            turns.push(Turns { place, word, nodes: 0, left: 0 });
            turns.len() - 1
        });
        turns[known].nodes |= 1 << bit;
        turns[known].left |= u64::from(goes_left) << bit;
    }
    Leaf {
        value,
        features: features.into(),
        shares: shares.into(),
        turns: turns.into(),
        table: Box::default(),
    }
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
    use crate::predict::models::trees::{Growth, Node, grow};

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
    fn trees_of_many_nodes_and_long_ways_are_explained_as_by_definition() {
        let (small, rows) = forest(11, 5);
        let mut random = Random::new(6);
        // A chain that asks for every feature, twice over: 130 inner nodes, the last leaf has all on its way.
        let mut nodes = Vec::new();
        for n in 0..130u32 {
            let (feature, threshold) = (n % 11, -3.0 + 0.01 * random.normal() as f32);
            let next = if n == 129 { 260 } else { 2 * n + 2 };
            let cover = 400.0 - n as f32;
            let inner = Node {
                feature,
                threshold,
                left: 2 * n + 1,
                right: next,
                missing_left: false,
                value: 0.0,
                cover,
            };
            nodes.extend([inner, Node::leaf(random.normal() as f32, 1.0)]);
        }
        nodes.push(Node::leaf(4.0, 270.0));
        let mut trees = small.trees;
        trees.push(Tree { nodes });
        let forest = Forest { trees, ..small };
        let explainer = Explainer::new(&forest);
        let weight = |size: u32| (1..=size).map(|k| f64::from(k) / f64::from(11 - size + k)).product::<f64>();
        for r in [3, 17] {
            let row = rows.row(r);
            let mut got = vec![0.0; 11];
            explainer.explain(&forest, row, &mut got);
            let value = |set: u32| forest.trees.iter().map(|tree| value_of(tree, 0, row, set)).sum::<f64>();
            let values: Vec<f64> = (0..1 << 11).map(value).collect();
            for (feature, got) in got.iter().enumerate() {
                let without = (0..1usize << 11).filter(|set| set >> feature & 1 == 0);
                // size! (10 − size)! / 11!, which is 1 / (11 × C(10, size)).
                let want: f64 = without
                    .map(|set| {
                        let size = set.count_ones();
                        let share = weight(size) / f64::from(11 - size);
                        share * (values[set | 1 << feature] - values[set])
                    })
                    .sum();
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
