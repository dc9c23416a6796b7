//! Trees of few leaves, answered without stepping down: every inner node is asked of sixteen rows side by
//! side, and clears the leaves that it sends none of them to; the first leaf that is left is the row's.
//! After QuickScorer (Lucchese et al. 2015, "QuickScorer: a fast algorithm to rank documents with additive
//! ensembles of regression trees") and V-QuickScorer (2016), tree by tree, the bits in registers.

use super::Tree;

/// Most leaves of a tree that is answered so: the bits of one lane.
const LEAVES: usize = 32;
/// Rows that are asked side by side.
pub(super) const LANES: usize = 16;

/// One feature of so many rows.
pub(super) type Lanes = [f32; LANES];

/// An inner node: rows that it sends right cannot come to a leaf of its left side.
#[derive(Clone, Copy, Debug)]
struct Ask {
    threshold: f32,
    feature: u32,
    /// Bit `i` = leaf `i`, counted from the left, is below the left child.
    left: u32,
}

/// Where a tree's parts lie.
#[derive(Clone, Debug)]
pub(super) struct MaskTree {
    /// The first of its nodes.
    first: u32,
    /// The first that sends a missing value right.
    missing_right: u32,
    /// Behind its last node.
    end: u32,
    /// Number of its leaves' values.
    values: u32,
}

/// The nodes and leaves of such trees.
#[derive(Clone, Debug, Default)]
pub(super) struct Masks {
    asks: Vec<Ask>,
    values: Vec<[f32; LEAVES]>,
}

impl Masks {
    /// Takes in a tree that [`super::Forest::check`] finds sound; `None` where it has too many leaves.
    pub(super) fn add(&mut self, tree: &Tree) -> Option<MaskTree> {
        let nodes = &tree.nodes;
        if nodes.iter().filter(|n| n.is_leaf()).count() > LEAVES {
            return None;
        }
        // Children come after their parents.
        let mut leaves = vec![1u32; nodes.len()];
        for (at, node) in nodes.iter().enumerate().rev().filter(|(_, n)| !n.is_leaf()) {
            leaves[at] = leaves[node.left as usize] + leaves[node.right as usize];
        }
        let mut leftmost = vec![0u32; nodes.len()];
        let mut values = [0f32; LEAVES];
        let mut asks: [Vec<Ask>; 2] = Default::default();
        for (at, node) in nodes.iter().enumerate() {
            let (left, right) = (node.left as usize, node.right as usize);
            if node.is_leaf() {
                values[leftmost[at] as usize] = node.value;
                continue;
            }
            leftmost[left] = leftmost[at];
            leftmost[right] = leftmost[at] + leaves[left];
            // The right side has a leaf at least, so that no bit falls out.
            let mask = ((1u32 << leaves[left]) - 1) << leftmost[at];
            let ask = Ask { threshold: node.threshold, feature: node.feature, left: mask };
            asks[usize::from(!node.missing_left)].push(ask);
        }
        let first = self.asks.len();
        let [missing_left, missing_right] = asks;
        let between = first + missing_left.len();
        self.asks.extend(missing_left);
        self.asks.extend(missing_right);
        self.values.push(values);
        Some(MaskTree {
            first: first as u32,
            missing_right: between as u32,
            end: self.asks.len() as u32,
            values: (self.values.len() - 1) as u32,
        })
    }

    /// Adds a tree's value for each row to `sums`; `rows` holds the rows feature after feature.
    pub(super) fn add_values(&self, tree: &MaskTree, rows: &[Lanes], sums: &mut Lanes) {
        let (first, between, end) = (tree.first as usize, tree.missing_right as usize, tree.end as usize);
        let mut gone = [0u32; LANES];
        // A missing value is not greater than a threshold, and not less or equal either.
        clear(&mut gone, &self.asks[first..between], rows, |x, threshold| x > threshold);
        clear(&mut gone, &self.asks[between..end], rows, |x, threshold| !at_most(x, threshold));
        let values = &self.values[tree.values as usize];
        for (sum, gone) in sums.iter_mut().zip(gone) {
            *sum += values[gone.trailing_ones() as usize % LEAVES];
        }
    }
}

/// Marks the leaves that rows cannot come to. No branch depends on a value, and the lanes are of a fixed
/// number, so that many are done at once.
#[inline(always)]
fn clear(gone: &mut [u32; LANES], asks: &[Ask], rows: &[Lanes], goes_right: impl Fn(f32, f32) -> bool) {
    for ask in asks {
        let x = &rows[ask.feature as usize];
        for (gone, &x) in gone.iter_mut().zip(x) {
            *gone |= ask.left & u32::from(goes_right(x, ask.threshold)).wrapping_neg();
        }
    }
}

#[inline(always)]
fn at_most(x: f32, threshold: f32) -> bool {
    x <= threshold
}

/// Turns rows of `width` features round, feature after feature, [`LANES`] rows side by side:
/// `[group][feature][row]`. Lanes without a row hold noughts.
pub(super) fn turn(values: &[f32], width: usize, out: &mut Vec<Lanes>) {
    out.clear();
    for group in values.chunks(LANES * width) {
        let start = out.len();
        out.resize(start + width, [0.0; LANES]);
        for (lane, row) in group.chunks_exact(width).enumerate() {
            for (to, &x) in out[start..].iter_mut().zip(row) {
                to[lane] = x;
            }
        }
    }
}
