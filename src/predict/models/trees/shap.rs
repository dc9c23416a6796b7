//! Exact Shapley values of a forest's margin (Lundberg et al. 2020, "From local explanations to
//! global understanding with explainable AI for trees", algorithm 2, path-dependent): they sum to
//! the margin less the forest's expected margin.

use super::{Forest, Tree};

/// Explains margins; holds what does not depend on the row.
#[derive(Clone, Debug)]
pub struct Explainer {
    expected: f64,
    deepest: usize,
}

/// One feature on the way from the root: the share of covers that flow on where the feature is
/// unknown (`zero`) and known (`one`), and the weight of the subsets of each size.
#[derive(Clone, Copy, Debug, Default)]
struct Element {
    feature: u32,
    zero: f64,
    one: f64,
    weight: f64,
}

const NO_FEATURE: u32 = u32::MAX;

impl Explainer {
    /// For that forest.
    pub fn new(forest: &Forest) -> Self {
        let expected =
            f64::from(forest.base) + forest.trees.iter().map(|tree| expected(tree, 0)).sum::<f64>();
        let deepest = forest.trees.iter().map(Tree::depth).max().unwrap_or(0);
        Self { expected, deepest }
    }

    /// What the forest says on average over the rows it was grown on.
    pub fn expected(&self) -> f64 {
        self.expected
    }

    /// Adds the Shapley value of each feature of `row` to `out` (as wide as the row). They sum to
    /// the margin less [`Explainer::expected`].
    pub fn explain(&self, forest: &Forest, row: &[f32], out: &mut [f64]) {
        let depth = self.deepest + 2;
        let mut path = vec![Element::default(); depth * (depth + 1) / 2 + depth];
        for tree in &forest.trees {
            let part = Part { feature: NO_FEATURE, zero: 1.0, one: 1.0 };
            descend(tree, row, out, 0, 0, &mut path, part);
        }
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

#[derive(Clone, Copy)]
struct Part {
    feature: u32,
    zero: f64,
    one: f64,
}

fn descend(
    tree: &Tree,
    row: &[f32],
    out: &mut [f64],
    at: usize,
    length: usize,
    path: &mut [Element],
    part: Part,
) {
    extend(&mut path[..=length], length, part);
    let node = &tree.nodes[at];
    if node.is_leaf() {
        for i in 1..=length {
            let weight = unwound_sum(&path[..=length], length, i);
            let e = path[i];
            out[e.feature as usize] += weight * (e.one - e.zero) * f64::from(node.value);
        }
        return;
    }
    let x = row[node.feature as usize];
    let (hot, cold) = if node.goes_left(x) { (node.left, node.right) } else { (node.right, node.left) };
    let (hot_share, cold_share) = shares(tree, at, hot as usize);
    let (mut zero, mut one, mut length) = (1.0, 1.0, length);
    // A feature that was asked before is taken out and put in again with both answers.
    if let Some(i) = (1..=length).find(|&i| path[i].feature == node.feature) {
        (zero, one) = (path[i].zero, path[i].one);
        unwind(&mut path[..=length], length, i);
        length -= 1;
    }
    for (child, part) in [
        (hot, Part { feature: node.feature, zero: zero * hot_share, one }),
        (cold, Part { feature: node.feature, zero: zero * cold_share, one: 0.0 }),
    ] {
        let (own, rest) = path.split_at_mut(length + 1);
        rest[..=length].copy_from_slice(own);
        descend(tree, row, out, child as usize, length + 1, rest, part);
    }
}

fn extend(path: &mut [Element], length: usize, part: Part) {
    path[length] = Element {
        feature: part.feature,
        zero: part.zero,
        one: part.one,
        weight: if length == 0 { 1.0 } else { 0.0 },
    };
    let all = (length + 1) as f64;
    for i in (0..length).rev() {
        path[i + 1].weight += part.one * path[i].weight * (i + 1) as f64 / all;
        path[i].weight = part.zero * path[i].weight * (length - i) as f64 / all;
    }
}

fn unwind(path: &mut [Element], length: usize, index: usize) {
    let Element { zero, one, .. } = path[index];
    let all = (length + 1) as f64;
    let mut next = path[length].weight;
    for i in (0..length).rev() {
        if one != 0.0 {
            let old = path[i].weight;
            path[i].weight = next * all / ((i + 1) as f64 * one);
            next = old - path[i].weight * zero * (length - i) as f64 / all;
        } else {
            path[i].weight = path[i].weight * all / (zero * (length - i) as f64);
        }
    }
    for i in index..length {
        let Element { feature, zero, one, .. } = path[i + 1];
        path[i] = Element { feature, zero, one, weight: path[i].weight };
    }
}

fn unwound_sum(path: &[Element], length: usize, index: usize) -> f64 {
    let Element { zero, one, .. } = path[index];
    let all = (length + 1) as f64;
    let mut next = path[length].weight;
    let mut total = 0.0;
    for i in (0..length).rev() {
        if one != 0.0 {
            let part = next * all / ((i + 1) as f64 * one);
            total += part;
            next = path[i].weight - part * zero * (length - i) as f64 / all;
        } else if zero != 0.0 {
            total += path[i].weight * all / (zero * (length - i) as f64);
        }
    }
    total
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
