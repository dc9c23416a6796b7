//! The fast way through a forest. Trees of up to 32 leaves are answered by `masks`; through
//! larger ones rows step down: nodes of twelve bytes, the children side by side, leaves that lead to
//! themselves, so that eight rows step at once without a branch.

use super::masks::{self, MaskTree, Masks};
use super::{Forest, Tree};
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
enum FlatTree {
    Masked(MaskTree),
    Stepped { start: u32, depth: u32 },
}

/// A forest laid out for speed. Gives the same sums as [`Forest::margin`], to the bit.
#[derive(Clone, Debug)]
pub struct FlatForest {
    width: usize,
    base: f32,
    masks: Masks,
    steps: Vec<Step>,
    values: Vec<f32>,
    trees: Vec<FlatTree>,
}

/// Rows that step down together.
const TOGETHER: usize = 8;
/// Groups of rows that pass all trees before the next are looked at; they stay in the nearest cache.
const GROUPS: usize = 4;
const BLOCK: usize = GROUPS * masks::LANES;

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
            masks: Masks::default(),
            steps: Vec::new(),
            values: Vec::new(),
            trees: Vec::new(),
        };
        for tree in &forest.trees {
            let laid_out = flat.masks.add(tree).map(FlatTree::Masked);
            let laid_out = laid_out.unwrap_or_else(|| flat.add_steps(tree));
            flat.trees.push(laid_out);
        }
        flat
    }

    fn add_steps(&mut self, tree: &Tree) -> FlatTree {
        let start = self.steps.len();
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
            self.steps.push(Step {
                threshold: if leaf { f32::INFINITY } else { node.threshold },
                child: (start + if leaf { place } else { places[node.left as usize] }) as u32,
                feature: node.feature as u16,
                missing_left: u16::from(leaf || node.missing_left),
            });
            self.values.push(node.value);
        }
        FlatTree::Stepped { start: start as u32, depth: tree.depth() as u32 }
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
        let mut margins = vec![0f32; rows.rows()];
        let mut turned = Vec::new();
        for (block, out) in margins.chunks_mut(BLOCK).enumerate() {
            let first = block * BLOCK * self.width;
            let values = &rows.values()[first..first + out.len() * self.width];
            if self.trees.iter().any(|tree| matches!(tree, FlatTree::Masked(_))) {
                masks::turn(values, self.width, &mut turned);
            }
            // What `Sum` begins with: nought and minus nought are the same to a person, not to the bit.
            let mut sums = [[-0f32; masks::LANES]; GROUPS];
            for tree in &self.trees {
                match tree {
                    FlatTree::Masked(tree) => {
                        for (rows, sums) in turned.chunks_exact(self.width).zip(&mut sums) {
                            self.masks.add_values(tree, rows, sums);
                        }
                    }
                    FlatTree::Stepped { start, depth } => {
                        let sums = &mut sums.as_flattened_mut()[..out.len()];
                        for (group, sums) in sums.chunks_mut(TOGETHER).enumerate() {
                            let at = group * TOGETHER * self.width;
                            let values = &values[at..at + sums.len() * self.width];
                            self.step_down(*start, *depth, values, sums);
                        }
                    }
                }
            }
            for (margin, sum) in out.iter_mut().zip(sums.as_flattened()) {
                *margin = self.base + sum;
            }
        }
        margins
    }

    fn step_down(&self, start: u32, depth: u32, values: &[f32], sums: &mut [f32]) {
        let mut at = [start; TOGETHER];
        if sums.len() == TOGETHER {
            for _ in 0..depth {
                for (lane, at) in at.iter_mut().enumerate() {
                    *at = self.next(*at, values, lane);
                }
            }
        } else {
            for _ in 0..depth {
                for (lane, at) in at.iter_mut().enumerate().take(sums.len()) {
                    *at = self.next(*at, values, lane);
                }
            }
        }
        for (sum, &at) in sums.iter_mut().zip(&at) {
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
    use crate::fleet::rng::Random;
    use crate::predict::models::trees::{Growth, Node, grow};

    /// Values that are easily told apart wrongly.
    const EDGES: [f32; 7] = [f32::NEG_INFINITY, f32::MIN, -0.0, 0.0, 0.25, f32::MAX, f32::INFINITY];

    fn same_to_the_bit(forest: &Forest, rows: &FeatureMatrix) -> Result<(), TestCaseError> {
        let fast = FlatForest::new(forest).margins(rows);
        prop_assert_eq!(fast.len(), rows.rows());
        for (r, margin) in fast.iter().enumerate() {
            let plain = forest.margin(rows.row(r));
            prop_assert_eq!(margin.to_bits(), plain.to_bits(), "row {}: {} for {}", r, margin, plain);
        }
        Ok(())
    }

    /// A tree of so many leaves; a `chain` has one inner node a level.
    fn tree(random: &mut Random, leaves: usize, width: usize, chain: bool) -> Tree {
        let mut nodes = vec![Node::leaf(random.normal() as f32, 1.0)];
        for _ in 1..leaves {
            let ends: Vec<usize> = (0..nodes.len()).filter(|&n| nodes[n].is_leaf()).collect();
            let newest = ends.len().saturating_sub(1 + random.below(2));
            let at = ends[if chain { newest } else { random.below(ends.len()) }];
            let edge = random.chance(0.3);
            nodes[at] = Node {
                feature: random.below(width) as u32,
                threshold: if edge { EDGES[random.below(7)] } else { random.normal() as f32 },
                left: nodes.len() as u32,
                right: nodes.len() as u32 + 1,
                missing_left: random.chance(0.5),
                ..Node::leaf(0.0, 1.0)
            };
            nodes.extend([random.normal(), random.normal()].map(|v| Node::leaf(v as f32, 1.0)));
        }
        Tree { nodes }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_fast_walk_agrees_with_the_plain_one(seed in 0u64..1000, count in 30usize..300) {
            let mut random = Random::new(seed);
            let values = (0..count * 5)
                .map(|_| if random.chance(0.1) { f32::NAN } else { random.normal() as f32 })
                .collect();
            let rows = FeatureMatrix::from_values(5, values);
            let labels: Vec<f32> = (0..count).map(|r| f32::from(rows.row(r)[2] > 0.3)).collect();
            let growth = Growth { trees: 8, leaf_rows: 3, ..Growth::default() };
            same_to_the_bit(&grow(&rows, &labels, &[], None, &growth), &rows)?;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn trees_of_any_shape_and_values_of_any_kind_give_the_same_to_the_bit(
            seed in 0u64..1_000_000,
            sizes in proptest::collection::vec(
                prop_oneof![1usize..80, Just(1), Just(2), Just(31), Just(32), Just(33)],
                0..12,
            ),
            count in 0usize..150,
            width in 1usize..9,
        ) {
            let mut random = Random::new(seed);
            let trees = sizes.iter().map(|&leaves| {
                let chain = random.chance(0.4);
                tree(&mut random, leaves, width, chain)
            });
            let forest = Forest { width, base: 0.5, trees: trees.collect() };
            prop_assert_eq!(forest.check(), Ok(()));
            let asked: Vec<f32> = forest
                .trees
                .iter()
                .flat_map(|t| t.nodes.iter().filter(|n| !n.is_leaf()).map(|n| n.threshold))
                .collect();
            let values = (0..count * width)
                .map(|_| match random.below(4) {
                    0 => f32::NAN,
                    1 => EDGES[random.below(7)],
                    2 => asked.get(random.below(asked.len())).copied().unwrap_or(1.0),
                    _ => random.normal() as f32,
                })
                .collect();
            same_to_the_bit(&forest, &FeatureMatrix::from_values(width, values))?;
        }
    }

    #[test]
    fn a_forest_of_minus_nought_says_minus_nought() {
        let rows = FeatureMatrix::from_values(1, vec![1.0]);
        for trees in [vec![], vec![Tree { nodes: vec![Node::leaf(-0.0, 1.0)] }]] {
            let forest = Forest { width: 1, base: -0.0, trees };
            assert_eq!(FlatForest::new(&forest).margins(&rows)[0].to_bits(), forest.margin(&[1.0]).to_bits());
        }
    }
}
