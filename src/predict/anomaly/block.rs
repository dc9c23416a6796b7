//! Rows in blocks, column after column, so that the voters are matrix products over many rows at once.

use ndarray::{ArrayView2, ArrayViewMut2, s};

use super::{moments::EWMA, scaler::Scaler};

/// Rows scored together.
pub(super) const BLOCK: usize = 256;

/// A block of rows as `[z(t), z(t−1), ewma(t−1), 1] × BLOCK`.
pub(super) struct Block {
    metrics: usize,
    pub(super) values: Vec<f32>,
}

impl Block {
    pub(super) fn new(metrics: usize) -> Block {
        let mut values = vec![0.0; (3 * metrics + 1) * BLOCK];
        values[3 * metrics * BLOCK..].fill(1.0);
        Block { metrics, values }
    }

    /// Loads rows `from..from + BLOCK` (or fewer) and moves the state on; gives how many.
    pub(super) fn load(
        &mut self,
        scaler: &Scaler,
        last: &mut [f32],
        mean: &mut [f32],
        columns: &[&[f32]],
        from: usize,
    ) -> usize {
        let d = self.metrics;
        let (now, rest) = self.values.split_at_mut(d * BLOCK);
        let (before, means) = rest.split_at_mut(d * BLOCK);
        let mut count = 0;
        for (m, column) in columns.iter().enumerate() {
            let values = &column[from..column.len().min(from + BLOCK)];
            count = values.len();
            let line = m * BLOCK;
            let (mut before_this, mut running) = (last[m], mean[m]);
            for (t, &value) in values.iter().enumerate() {
                let scaled = if value.is_finite() { scaler.z(m, value) } else { f32::NAN };
                let z = if scaled.is_nan() { running } else { scaled };
                now[line + t] = z;
                before[line + t] = before_this;
                means[line + t] = running;
                before_this = z;
                running += EWMA * (z - running);
            }
            (last[m], mean[m]) = (before_this, running);
        }
        count
    }
}

/// `out[i][t] = Σ_k a[i][k] block[k][t]`, `a` = `lines × width`, `block` = `width × BLOCK`.
pub(super) fn multiply(a: &[f32], block: &[f32], lines: usize, width: usize, out: &mut [f32]) {
    let left = ArrayView2::from_shape((lines, width), a);
    let right = ArrayView2::from_shape((width, BLOCK), &block[..width * BLOCK]);
    let target = ArrayViewMut2::from_shape((lines, BLOCK), out);
    if let (Ok(left), Ok(right), Ok(mut target)) = (left, right, target) {
        ndarray::linalg::general_mat_mul(1.0, &left, &right, 0.0, &mut target);
    }
}

/// `out = B Bᵀ` over the first `count` of `stride` columns of the `width × stride` matrix `block`.
pub(super) fn multiply_transposed(block: &[f32], stride: usize, width: usize, count: usize, out: &mut [f32]) {
    let whole = ArrayView2::from_shape((width, stride), block);
    let target = ArrayViewMut2::from_shape((width, width), out);
    if let (Ok(whole), Ok(mut target)) = (whole, target) {
        let part = whole.slice(s![.., ..count]);
        ndarray::linalg::general_mat_mul(1.0, &part, &part.t(), 0.0, &mut target);
    }
}

pub(super) fn square_columns(lines: &[f32], sums: &mut [f32; BLOCK]) {
    for line in lines.chunks_exact(BLOCK) {
        for (sum, v) in sums.iter_mut().zip(line) {
            *sum += v * v;
        }
    }
}
