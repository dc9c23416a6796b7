//! Gradient boosted trees: grown here from histograms ([`grow`]), run by a flat walker ([`walk`]),
//! explained by exact Shapley values ([`shap`]). A forest is what an ONNX tree ensemble holds.

pub mod binning;
pub mod grow;
mod leafwise;
mod masks;
mod objective;
pub mod shap;
pub mod walk;

pub use grow::{Growth, grow};
pub use objective::Objective;
pub use shap::Explainer;
pub use walk::FlatForest;

/// One node. An inner node sends `x <= threshold` left, the rest right, a missing value where
/// `missing_left` says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Node {
    /// The feature that is asked; 0 for a leaf.
    pub feature: u32,
    /// Left where `x <= threshold`.
    pub threshold: f32,
    /// The left child's number in the tree; 0 marks a leaf, since no child is the root.
    pub left: u32,
    /// The right child's number.
    pub right: u32,
    /// Where a missing value goes.
    pub missing_left: bool,
    /// A leaf's part of the margin; 0 for an inner node.
    pub value: f32,
    /// Weight of the training rows that came through; what Shapley values average over.
    pub cover: f32,
}

impl Node {
    /// A leaf of that value and cover.
    pub fn leaf(value: f32, cover: f32) -> Self {
        Self { feature: 0, threshold: 0.0, left: 0, right: 0, missing_left: false, value, cover }
    }

    /// Whether it is a leaf.
    pub fn is_leaf(&self) -> bool {
        self.left == 0
    }

    /// Whether `x` goes left.
    pub fn goes_left(&self, x: f32) -> bool {
        if x.is_nan() { self.missing_left } else { x <= self.threshold }
    }
}

/// One tree; node 0 is the root, children come after their parents.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tree {
    /// The nodes.
    pub nodes: Vec<Node>,
}

impl Tree {
    /// Steps from the root to the deepest leaf.
    pub fn depth(&self) -> usize {
        let mut depth = vec![0usize; self.nodes.len()];
        for (at, node) in self.nodes.iter().enumerate() {
            if !node.is_leaf() {
                depth[node.left as usize] = depth[at] + 1;
                depth[node.right as usize] = depth[at] + 1;
            }
        }
        depth.into_iter().max().unwrap_or(0)
    }

    /// The leaf's value for one row.
    pub fn value(&self, row: &[f32]) -> f32 {
        let mut at = 0usize;
        loop {
            let node = &self.nodes[at];
            if node.is_leaf() {
                return node.value;
            }
            at = if node.goes_left(row[node.feature as usize]) { node.left } else { node.right } as usize;
        }
    }
}

/// Trees whose values and `base` sum to a margin: log-odds, or a number in the label's unit.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Forest {
    /// Features of a row.
    pub width: usize,
    /// The margin before any tree.
    pub base: f32,
    /// The trees.
    pub trees: Vec<Tree>,
}

impl Forest {
    /// The margin of one row, tree after tree; the plain walk that the fast one is held to.
    pub fn margin(&self, row: &[f32]) -> f32 {
        self.base + self.trees.iter().map(|tree| tree.value(row)).sum::<f32>()
    }

    /// One forest whose margin is the mean of those of these; `None` of none.
    pub fn mean(forests: Vec<Forest>) -> Option<Forest> {
        let share = 1.0 / forests.len() as f32;
        let width = forests.first()?.width;
        let base = forests.iter().map(|f| f.base * share).sum();
        let mut trees: Vec<Tree> = forests.into_iter().flat_map(|f| f.trees).collect();
        trees.iter_mut().flat_map(|t| &mut t.nodes).for_each(|node| node.value *= share);
        Some(Forest { width, base, trees })
    }

    /// What is wrong with its shape, if anything: a child before its parent or out of range, a
    /// feature beyond the width, a number that is not finite.
    ///
    /// # Errors
    /// The first fault, with tree and node.
    pub fn check(&self) -> Result<(), String> {
        if !self.base.is_finite() {
            return Err(format!("the base value is {}", self.base));
        }
        for (t, tree) in self.trees.iter().enumerate() {
            if tree.nodes.is_empty() {
                return Err(format!("tree {t} has no node"));
            }
            let mut parents = vec![0u8; tree.nodes.len()];
            for (n, node) in tree.nodes.iter().enumerate() {
                let place = format!("tree {t}, node {n}");
                if !node.value.is_finite() || node.threshold.is_nan() || !node.cover.is_finite() {
                    return Err(format!("{place}: a number is not finite"));
                }
                if node.is_leaf() {
                    continue;
                }
                for child in [node.left as usize, node.right as usize] {
                    if child <= n || child >= tree.nodes.len() {
                        return Err(format!("{place}: child {child} is not behind its parent"));
                    }
                    parents[child] = parents[child].saturating_add(1);
                }
                if node.feature as usize >= self.width {
                    let (feature, width) = (node.feature, self.width);
                    return Err(format!("{place}: feature {feature}, but rows have {width}"));
                }
            }
            if let Some(n) = parents.iter().skip(1).position(|&p| p != 1) {
                return Err(format!("tree {t}, node {}: has not exactly one parent", n + 1));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_forests_says_the_mean_of_what_they_say() {
        let stump = |at: f32, low: f32, high: f32| {
            let inner = Node { threshold: at, left: 1, right: 2, cover: 2.0, ..Node::leaf(0.0, 2.0) };
            Tree { nodes: vec![inner, Node::leaf(low, 1.0), Node::leaf(high, 1.0)] }
        };
        let a = Forest { width: 1, base: -2.0, trees: vec![stump(0.0, -1.0, 1.0), stump(3.0, 0.0, 4.0)] };
        let b = Forest { width: 1, base: 1.0, trees: vec![stump(1.0, 0.5, 2.5)] };
        let mean = Forest::mean(vec![a.clone(), b.clone()]).unwrap();
        for x in [-1.0, 0.5, 2.0, 9.0] {
            assert!((mean.margin(&[x]) - (a.margin(&[x]) + b.margin(&[x])) / 2.0).abs() < 1e-6);
        }
        assert_eq!(mean.check(), Ok(()));
        assert!(Forest::mean(Vec::new()).is_none());
    }
}
