//! Logistic regression: standardised features, L2, fitted by Newton's method (iteratively
//! reweighted least squares; Hastie et al. 2009, §4.4.1). Missing values count as the mean.

use super::matrix::FeatureMatrix;

/// `margin = intercept + Σ weight × (x − mean) / scale`, folded into raw units.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Linear {
    /// Margin of a row at the means.
    pub intercept: f64,
    /// One a feature, for raw values.
    pub weights: Vec<f32>,
    /// What a missing value is taken for, and what contributions are measured from.
    pub means: Vec<f32>,
}

impl Linear {
    /// The margin of one row.
    pub fn margin(&self, row: &[f32]) -> f32 {
        let sum: f64 = (0..self.weights.len()).map(|f| self.part(row, f)).sum();
        (self.intercept + sum) as f32
    }

    /// The part of feature `f` in the margin of `row`: exact, and its Shapley value where features
    /// are taken as independent.
    pub fn part(&self, row: &[f32], f: usize) -> f64 {
        let x = row[f];
        if x.is_nan() { 0.0 } else { f64::from(self.weights[f]) * (f64::from(x) - f64::from(self.means[f])) }
    }
}

/// Fits `labels` (0 or 1) seen with `weights` (all alike where empty); `l2` is the penalty on
/// standardised weights. A constant or all-missing feature gets the weight 0.
pub fn fit(rows: &FeatureMatrix, labels: &[f32], weights: &[f32], l2: f64) -> Linear {
    let (count, width) = (rows.rows().min(labels.len()), rows.width());
    let (means, scales) = moments(rows, count);
    let kept: Vec<usize> = (0..width).filter(|&f| scales[f] > 0.0).collect();
    let d = kept.len() + 1;
    let mut x = vec![1f32; count * d];
    for (row, x) in x.chunks_exact_mut(d).enumerate() {
        let raw = rows.row(row);
        for (slot, &f) in x[1..].iter_mut().zip(&kept) {
            let z = (f64::from(raw[f]) - means[f]) / scales[f];
            *slot = if z.is_finite() { z.clamp(-30.0, 30.0) as f32 } else { 0.0 };
        }
    }
    let beta = newton(&x, d, &labels[..count], weights, l2);
    let mut model = Linear {
        intercept: beta.first().copied().unwrap_or(0.0),
        weights: vec![0.0; width],
        means: means.iter().map(|&m| m as f32).collect(),
    };
    for (k, &f) in kept.iter().enumerate() {
        model.weights[f] = (beta[k + 1] / scales[f]) as f32;
    }
    model
}

/// Mean and standard deviation of the values that are there; scale 0 where nothing varies.
fn moments(rows: &FeatureMatrix, count: usize) -> (Vec<f64>, Vec<f64>) {
    let width = rows.width();
    let (mut sums, mut seen) = (vec![0f64; width], vec![0f64; width]);
    for row in 0..count {
        for (f, &x) in rows.row(row).iter().enumerate() {
            if x.is_finite() {
                sums[f] += f64::from(x);
                seen[f] += 1.0;
            }
        }
    }
    let means: Vec<f64> = sums.iter().zip(&seen).map(|(s, n)| if *n > 0.0 { s / n } else { 0.0 }).collect();
    let mut squares = vec![0f64; width];
    for row in 0..count {
        for (f, &x) in rows.row(row).iter().enumerate() {
            if x.is_finite() {
                squares[f] += (f64::from(x) - means[f]).powi(2);
            }
        }
    }
    let scales = squares
        .iter()
        .zip(&seen)
        .zip(&means)
        .map(|((s, n), mean)| {
            let scale = (s / n.max(1.0)).sqrt();
            if scale > 1e-7 * (1.0 + mean.abs()) { scale } else { 0.0 }
        })
        .collect();
    (means, scales)
}

/// Newton steps with halving until the penalised loss no longer falls. `x` is `[row][d]`, its first
/// column all ones.
fn newton(x: &[f32], d: usize, labels: &[f32], weights: &[f32], l2: f64) -> Vec<f64> {
    let mut beta = vec![0f64; d];
    let mut best = penalised_loss(x, d, labels, weights, &beta, l2);
    for _ in 0..30 {
        let (gradient, hessian) = derivatives(x, d, labels, weights, &beta, l2);
        let Some(step) = solve(hessian, &gradient) else { break };
        let mut share = 1.0;
        let improved = loop {
            let tried: Vec<f64> = beta.iter().zip(&step).map(|(b, s)| b - share * s).collect();
            let loss = penalised_loss(x, d, labels, weights, &tried, l2);
            if loss < best {
                let fell = best - loss;
                (beta, best) = (tried, loss);
                break fell;
            }
            share /= 2.0;
            if share < 1e-4 {
                break 0.0;
            }
        };
        if improved < 1e-7 * (1.0 + best.abs()) {
            break;
        }
    }
    beta
}

fn dot(x: &[f32], beta: &[f64]) -> f64 {
    x.iter().zip(beta).map(|(&x, b)| f64::from(x) * b).sum()
}

fn penalised_loss(x: &[f32], d: usize, labels: &[f32], weights: &[f32], beta: &[f64], l2: f64) -> f64 {
    let mut loss = 0.5 * l2 * beta[1..].iter().map(|b| b * b).sum::<f64>();
    for (row, (x, &y)) in x.chunks_exact(d).zip(labels).enumerate() {
        let m = dot(x, beta);
        let weight = f64::from(weights.get(row).copied().unwrap_or(1.0));
        loss += weight * (m.max(0.0) + (-m.abs()).exp().ln_1p() - f64::from(y) * m);
    }
    loss
}

fn derivatives(
    x: &[f32],
    d: usize,
    labels: &[f32],
    weights: &[f32],
    beta: &[f64],
    l2: f64,
) -> (Vec<f64>, Vec<f64>) {
    let mut gradient = vec![0f64; d];
    let count = labels.len();
    // √(w p (1−p)) × x, so that the Hessian is one product of matrices.
    let mut scaled = vec![0f32; count * d];
    for (row, (x, &y)) in x.chunks_exact(d).zip(labels).enumerate() {
        let weight = f64::from(weights.get(row).copied().unwrap_or(1.0));
        let p = 1.0 / (1.0 + (-dot(x, beta)).exp());
        let slope = weight * (p - f64::from(y));
        for (g, &x) in gradient.iter_mut().zip(x) {
            *g += slope * f64::from(x);
        }
        let curve = (weight * p * (1.0 - p)).max(1e-12).sqrt() as f32;
        for (s, &x) in scaled[row * d..(row + 1) * d].iter_mut().zip(x) {
            *s = curve * x;
        }
    }
    let mut hessian = vec![0f64; d * d];
    let mut part = vec![0f32; d * d];
    for chunk in scaled.chunks(4096 * d) {
        gram(chunk, d, &mut part);
        for (h, &p) in hessian.iter_mut().zip(&part) {
            *h += f64::from(p);
        }
    }
    for k in 1..d {
        gradient[k] += l2 * beta[k];
        hessian[k * d + k] += l2;
    }
    for k in 0..d {
        hessian[k * d + k] += 1e-6;
    }
    (gradient, hessian)
}

/// `part = xᵀ x` for `x` of `[row][d]`.
#[allow(unsafe_code)]
fn gram(x: &[f32], d: usize, part: &mut [f32]) {
    let rows = x.len() / d;
    assert!(part.len() == d * d && x.len() == rows * d);
    let d_stride = d as isize;
    // SAFETY: both factors are `x`, read as d × rows and rows × d within its length, and `part` has
    // d × d cells, as asserted above.
    unsafe {
        matrixmultiply::sgemm(
            d,
            rows,
            d,
            1.0,
            x.as_ptr(),
            1,
            d_stride,
            x.as_ptr(),
            d_stride,
            1,
            0.0,
            part.as_mut_ptr(),
            d_stride,
            1,
        );
    }
}

/// Solves `a x = b` for a symmetric positive definite `a` by Cholesky; `None` where it is not.
fn solve(mut a: Vec<f64>, b: &[f64]) -> Option<Vec<f64>> {
    let d = b.len();
    for i in 0..d {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| a[i * d + k] * a[j * d + k]).sum();
            let rest = a[i * d + j] - sum;
            if i == j {
                if rest <= 0.0 || !rest.is_finite() {
                    return None;
                }
                a[i * d + i] = rest.sqrt();
            } else {
                a[i * d + j] = rest / a[j * d + j];
            }
        }
    }
    let mut x = b.to_vec();
    for i in 0..d {
        let sum: f64 = (0..i).map(|k| a[i * d + k] * x[k]).sum();
        x[i] = (x[i] - sum) / a[i * d + i];
    }
    for i in (0..d).rev() {
        let sum: f64 = (i + 1..d).map(|k| a[k * d + i] * x[k]).sum();
        x[i] = (x[i] - sum) / a[i * d + i];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rng::Random;

    #[test]
    fn known_weights_are_found_again() {
        let mut random = Random::new(4);
        let mut rows = FeatureMatrix::empty(4);
        let mut labels = Vec::new();
        for _ in 0..20_000 {
            let (a, b) = (random.normal() as f32, 5.0 + 2.0 * random.normal() as f32);
            let p = 1.0 / (1.0 + (-(1.5 * a - 0.5 * (b - 5.0) - 1.0)).exp());
            labels.push(f32::from(random.chance(f64::from(p))));
            rows.push(&[a, b, 7.0, f32::NAN]);
        }
        let model = fit(&rows, &labels, &[], 1.0);
        assert!((model.weights[0] - 1.5).abs() < 0.1, "{:?}", model.weights);
        assert!((model.weights[1] + 0.5).abs() < 0.05, "{:?}", model.weights);
        assert_eq!(&model.weights[2..], [0.0, 0.0]);
        assert!((model.intercept + 1.0).abs() < 0.1);
        let row = [1.0, f32::NAN, 7.0, 3.0];
        let parts: f64 = (0..4).map(|f| model.part(&row, f)).sum();
        assert!((model.intercept + parts - f64::from(model.margin(&row))).abs() < 1e-6);
    }

    #[test]
    fn labels_that_a_line_parts_perfectly_stay_finite() {
        let rows = FeatureMatrix::from_values(1, (0..100).map(|i| i as f32).collect());
        let labels: Vec<f32> = (0..100).map(|i| f32::from(i >= 50)).collect();
        let model = fit(&rows, &labels, &[], 1.0);
        assert!(model.weights[0].is_finite() && model.margin(&[90.0]) > 1.0);
    }
}
