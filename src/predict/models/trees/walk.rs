//! The fast walk: nodes of twelve bytes, the children side by side, leaves that lead to themselves,
//! so that eight rows step down a tree at once without a branch.

use super::Forest;
use crate::predict::models::matrix::FeatureMatrix;

#[derive(Clone, Copy, Debug)]
struct Step {
    threshold: f32,
    /// Number of the left child; the right one stands behind it. A leaf names itself.
    child: u32,
    feature: u16,
    /// 1 where a missing value goes left.
    missing_left: u16,
}

#[derive(Clone, Debug)]
struct FlatTree {
    start: u32,
    depth: u32,
}

/// A forest laid out for speed. Gives the same sums as [`Forest::margin`], to the bit.
#[derive(Clone, Debug)]
pub struct FlatForest {
    width: usize,
    base: f32,
    steps: Vec<Step>,
    values: Vec<f32>,
    trees: Vec<FlatTree>,
}

/// Rows that step down together.
const LANES: usize = 8;
/// Rows that pass all trees before the next are looked at; they stay in the nearest cache.
const BLOCK: usize = 64;

impl FlatForest {
    /// Lays out a forest that [`Forest::check`] finds sound.
    ///
    /// # Panics
    /// Where it is not sound, or has more than 65,536 features.
    pub fn new(forest: &Forest) -> Self {
        assert!(forest.width <= 1 << 16, "a forest of {} features", forest.width);
        let mut flat = Self {
            width: forest.width,
            base: forest.base,
            steps: Vec::new(),
            values: Vec::new(),
            trees: Vec::new(),
        };
        for tree in &forest.trees {
            let start = flat.steps.len();
            // Children are given neighbouring places, level by level.
            let mut places = vec![0usize; tree.nodes.len()];
            let mut at = vec![0usize];
            let mut taken = 1;
            let mut order = vec![0usize];
            while let Some(node) = at.pop() {
                if !tree.nodes[node].is_leaf() {
                    for child in [tree.nodes[node].left as usize, tree.nodes[node].right as usize] {
                        places[child] = taken;
                        taken += 1;
                        order.push(child);
                        at.push(child);
                    }
                }
            }
            for (place, &number) in order.iter().enumerate() {
                let node = &tree.nodes[number];
                let leaf = node.is_leaf();
                flat.steps.push(Step {
                    threshold: if leaf { f32::INFINITY } else { node.threshold },
                    child: (start + if leaf { place } else { places[node.left as usize] }) as u32,
                    feature: node.feature as u16,
                    missing_left: u16::from(leaf || node.missing_left),
                });
                flat.values.push(node.value);
            }
            flat.trees.push(FlatTree { start: start as u32, depth: tree.depth() as u32 });
        }
        flat
    }

    /// Features of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The margin of every row.
    ///
    /// # Panics
    /// Where the rows have another width than the forest.
    pub fn margins(&self, rows: &FeatureMatrix) -> Vec<f32> {
        assert_eq!(rows.width(), self.width, "features of the rows and of the forest");
        let mut sums = vec![0f32; rows.rows()];
        for (block, out) in sums.chunks_mut(BLOCK).enumerate() {
            let first = block * BLOCK * self.width;
            let values = &rows.values()[first..first + out.len() * self.width];
            for tree in &self.trees {
                for (group, out) in out.chunks_mut(LANES).enumerate() {
                    let at = group * LANES * self.width;
                    let values = &values[at..at + out.len() * self.width];
                    self.step_down(tree, values, out);
                }
            }
        }
        for sum in &mut sums {
            *sum += self.base;
        }
        sums
    }

    fn step_down(&self, tree: &FlatTree, values: &[f32], out: &mut [f32]) {
        let mut at = [tree.start; LANES];
        if out.len() == LANES {
            for _ in 0..tree.depth {
                for (lane, at) in at.iter_mut().enumerate() {
                    *at = self.next(*at, values, lane);
                }
            }
        } else {
            for _ in 0..tree.depth {
                for (lane, at) in at.iter_mut().enumerate().take(out.len()) {
                    *at = self.next(*at, values, lane);
                }
            }
        }
        for (sum, &at) in out.iter_mut().zip(&at) {
            *sum += self.values[at as usize];
        }
    }

    #[inline(always)]
    fn next(&self, at: u32, values: &[f32], lane: usize) -> u32 {
        let step = self.steps[at as usize];
        let x = values[lane * self.width + step.feature as usize];
        // `x <= threshold` is false for a missing value and for a greater one.
        let stays_left = (x <= step.threshold) | (x.is_nan() & (step.missing_left == 1));
        step.child + u32::from(!stays_left)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::predict::models::trees::{Growth, grow};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_fast_walk_agrees_with_the_plain_one(seed in 0u64..1000, count in 30usize..300) {
            let mut random = crate::fleet::rng::Random::new(seed);
            let values = (0..count * 5)
                .map(|_| if random.chance(0.1) { f32::NAN } else { random.normal() as f32 })
                .collect();
            let rows = FeatureMatrix::from_values(5, values);
            let labels: Vec<f32> = (0..count).map(|r| f32::from(rows.row(r)[2] > 0.3)).collect();
            let growth = Growth { trees: 8, leaf_rows: 3, ..Growth::default() };
            let forest = grow(&rows, &labels, &[], None, &growth);
            let fast = FlatForest::new(&forest).margins(&rows);
            for (row, margin) in fast.iter().enumerate() {
                prop_assert!((margin - forest.margin(rows.row(row))).abs() < 1e-5);
            }
        }
    }
}
