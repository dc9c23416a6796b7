//! One tree, grown leaf by leaf: the leaf that gains most is split next.

use super::binning::{Binned, MISSING};
use super::grow::Growth;
use super::{Node, Tree};
use crate::fleet::rng::Random;
use crate::predict::models::matrix::FeatureMatrix;

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

/// Grows trees on the same rows.
pub(super) struct Grower<'a> {
    growth: &'a Growth,
    binned: Binned,
    /// Where each column's bins begin in a histogram.
    offsets: Vec<usize>,
    width: usize,
    pool: Vec<Vec<Sums>>,
    ordered: Vec<[f32; 2]>,
}

impl<'a> Grower<'a> {
    pub(super) fn new(rows: &FeatureMatrix, growth: &'a Growth) -> Self {
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

    pub(super) fn tree(&mut self, derivatives: &[[f32; 2]], random: &mut Random) -> Tree {
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
            let (middle, missing) = self.partition(&leaf, split, &mut order, &mut scratch);
            let mut split = split;
            if missing == 0 {
                // No row says what a missing value means here: it goes with most of them, as scikit-learn's
                // histogram trees do. A fixed side is the sick one wherever high values are.
                split.missing_left = middle - leaf.from >= leaf.to - middle;
            }
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

    /// Sorts the leaf's rows into left and right, each in its old order; returns where right begins
    /// and how many had a missing value.
    fn partition(&self, leaf: &Leaf, split: Split, order: &mut [u32], scratch: &mut [u32]) -> (usize, usize) {
        let column = self.binned.column(split.feature);
        let rows = &mut order[leaf.from..leaf.to];
        let (mut left, mut right, mut missing) = (0, 0, 0);
        for at in 0..rows.len() {
            let row = rows[at];
            let bin = column[row as usize];
            missing += usize::from(bin == MISSING);
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
        (leaf.from + left, missing)
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
