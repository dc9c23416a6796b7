//! Second moments of a partition's standardised rows: all that the Mahalanobis and residual voters need.
//! They add up over partitions, so an application's pooled model is the sum, and a young partition's own
//! moments blend into it by n / (n + 1500).

use serde::{Deserialize, Serialize};

use crate::predict::cholesky;

/// Rows at which own and pooled moments weigh the same.
pub const BLEND_ROWS: f64 = 1500.0;
/// Share of the mean variance that is added to the diagonal, the rest of the covariance shrunk by as much.
pub(super) const SHRINK: f64 = 0.05;
/// Ridge on the predictor's coefficients, per row, in z² units.
const RIDGE: f64 = 0.01;
/// Weight of the newest row in the running mean.
pub(super) const EWMA: f32 = 0.1;

/// Sums over rows of the products of `[z(t), z(t−1), ewma(t−1), 1]`, `(3d + 1)²` row major.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Moments {
    metrics: usize,
    rows: f64,
    sums: Vec<f64>,
}

/// The two linear voters as matrices, f32, row major.
pub(super) struct Whiteners {
    /// `d × d`, lower triangular: whitened row = W z + offset.
    pub(super) level: Vec<f32>,
    /// `d`: the offset of the above.
    pub(super) offset: Vec<f32>,
    /// `d × (3d + 1)`: whitened one-step residual = R [z(t), z(t−1), ewma(t−1), 1].
    pub(super) step: Vec<f32>,
}

impl Moments {
    pub(super) fn new(metrics: usize) -> Moments {
        let width = 3 * metrics + 1;
        Moments { metrics, rows: 0.0, sums: vec![0.0; width * width] }
    }

    /// Metrics a row.
    pub fn metrics(&self) -> usize {
        self.metrics
    }

    /// Rows seen.
    pub fn rows(&self) -> f64 {
        self.rows
    }

    /// Adds a block of `count` rows, `block` = `(3d + 1) × stride`, column per row.
    pub(super) fn add_block(&mut self, block: &[f32], stride: usize, count: usize) {
        let width = 3 * self.metrics + 1;
        let mut product = vec![0.0f32; width * width];
        super::block::multiply_transposed(block, stride, width, count, &mut product);
        for (sum, p) in self.sums.iter_mut().zip(&product) {
            *sum += f64::from(*p);
        }
        self.rows += count as f64;
    }

    /// Adds another partition's moments (each in its own z units): the pooled model of an application.
    pub fn merge(&mut self, other: &Moments) {
        if other.metrics == self.metrics {
            self.rows += other.rows;
            for (a, b) in self.sums.iter_mut().zip(&other.sums) {
                *a += b;
            }
        }
    }

    /// Own moments weigh n / (n + 1500), the pooled the rest. Unchanged where the shapes differ.
    pub fn blended(&self, pooled: &Moments) -> Moments {
        if pooled.metrics != self.metrics || pooled.rows == 0.0 {
            return self.clone();
        }
        if self.rows == 0.0 {
            return pooled.clone();
        }
        let own = self.rows / (self.rows + BLEND_ROWS);
        let rest = (1.0 - own) * self.rows / pooled.rows;
        let sums = self.sums.iter().zip(&pooled.sums).map(|(a, b)| own * a + rest * b).collect();
        Moments { metrics: self.metrics, rows: self.rows, sums }
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        self.sums[i * (3 * self.metrics + 1) + j] / self.rows.max(1.0)
    }

    pub(super) fn whiteners(&self) -> Whiteners {
        let d = self.metrics;
        let one = 3 * d; // place of the constant
        // covariance of z(t)
        let covariance: Vec<f64> =
            pairs(d).map(|(i, j)| self.at(i, j) - self.at(i, one) * self.at(j, one)).collect();
        let white = shrunk_whitener(covariance, d);
        let offset = (0..d)
            .map(|i| -(0..=i).map(|j| white[i * d + j] * self.at(j, one)).sum::<f64>() as f32)
            .collect();
        let level = white.iter().map(|&w| w as f32).collect();
        Whiteners { level, offset, step: self.step_whitener() }
    }

    /// Ridge of z(t) on `x = [z(t−1), ewma(t−1), 1]`, its residual whitened, as one matrix.
    fn step_whitener(&self) -> Vec<f32> {
        let d = self.metrics;
        let p = 2 * d + 1;
        let mut gram: Vec<f64> = pairs(p).map(|(i, j)| self.at(d + i, d + j)).collect();
        for i in 0..2 * d {
            gram[i * p + i] += RIDGE;
        }
        gram[p * p - 1] += 1e-9;
        let plain = gram.clone();
        cholesky::factor(&mut gram, p);
        // coefficients[k] = those of metric k, p long
        let coefficients: Vec<Vec<f64>> = (0..d)
            .map(|k| {
                let mut b: Vec<f64> = (0..p).map(|i| self.at(d + i, k)).collect();
                cholesky::solve(&gram, p, &mut b);
                b
            })
            .collect();
        // E[r rᵀ] = E[z zᵀ] − BᵀX − XᵀB + Bᵀ(G)B with the ridge left out of G
        let gb: Vec<Vec<f64>> = coefficients
            .iter()
            .map(|b| {
                (0..p)
                    .map(|i| {
                        let row: f64 = plain[i * p..(i + 1) * p].iter().zip(b).map(|(g, x)| g * x).sum();
                        row - if i < 2 * d { RIDGE * b[i] } else { 0.0 }
                    })
                    .collect()
            })
            .collect();
        let cross = |k: usize, j: usize| -> f64 {
            coefficients[k].iter().enumerate().map(|(i, b)| b * self.at(d + i, j)).sum()
        };
        let crossed: Vec<f64> = pairs(d).map(|(k, j)| cross(k, j)).collect();
        let residual: Vec<f64> = pairs(d)
            .map(|(k, j)| {
                let quadratic: f64 = coefficients[k].iter().zip(&gb[j]).map(|(a, b)| a * b).sum();
                self.at(k, j) - crossed[k * d + j] - crossed[j * d + k] + quadratic
            })
            .collect();
        let white = shrunk_whitener(residual, d);
        let width = 3 * d + 1;
        let mut step = vec![0.0f32; d * width];
        for i in 0..d {
            for j in 0..=i {
                step[i * width + j] = white[i * d + j] as f32;
            }
            for q in 0..p {
                let sum: f64 = (0..=i).map(|k| white[i * d + k] * coefficients[k][q]).sum();
                step[i * width + d + q] = -sum as f32;
            }
        }
        step
    }
}

fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |i| (0..n).map(move |j| (i, j)))
}

/// W with W C Wᵀ = 1 for the shrunk covariance C (Ledoit–Wolf's target with a fixed share).
pub(super) fn shrunk_whitener(mut c: Vec<f64>, d: usize) -> Vec<f64> {
    let mean: f64 = (0..d).map(|i| c[i * d + i].max(0.0)).sum::<f64>() / d.max(1) as f64;
    for value in &mut c {
        *value *= 1.0 - SHRINK;
    }
    for i in 0..d {
        c[i * d + i] += SHRINK * mean + 1e-6;
    }
    cholesky::factor(&mut c, d);
    cholesky::invert_lower(&c, d)
}
