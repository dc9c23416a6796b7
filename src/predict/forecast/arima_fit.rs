//! Fitting an ARIMA model of a given order to a differenced series: Hannan–Rissanen start (Biometrika 1982),
//! then conditional sum of squares by Levenberg–Marquardt. Each of the four polynomials is parametrised by
//! its partial autocorrelations (Monahan 1984), so every step is stationary and invertible.

use super::arima::Order;
use crate::predict::cholesky;

/// Expanded polynomials as (lag, coefficient): x(t) = Σ a x(t − lag) + e(t) + Σ b e(t − lag), x less its mean.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Coefficients {
    pub(super) mean: f64,
    pub(super) ar: Vec<(usize, f64)>,
    pub(super) ma: Vec<(usize, f64)>,
}

/// One-step errors; 0 before the longest autoregressive lag.
pub(super) fn residuals(w: &[f64], c: &Coefficients) -> Vec<f64> {
    let n = w.len();
    let start = c.ar.last().map_or(0, |l| l.0).min(n);
    let mut e = vec![0.0; n];
    let longest = c.ma.last().map_or(0, |l| l.0).max(start).min(n);
    for t in start..n {
        let mut value = w[t] - c.mean;
        for &(lag, a) in &c.ar {
            value -= a * (w[t - lag] - c.mean);
        }
        if t >= longest {
            for &(lag, b) in &c.ma {
                value -= b * e[t - lag];
            }
        } else {
            for &(lag, b) in c.ma.iter().filter(|m| m.0 <= t) {
                value -= b * e[t - lag];
            }
        }
        e[t] = value;
    }
    e
}

/// Coefficients of the order and the sum of squares over the rows from `from`; `None` where the series is
/// too short or the sum is not finite.
pub(super) fn fit(w: &[f64], o: Order, with_mean: bool, from: usize) -> Option<(Coefficients, f64)> {
    let n = w.len();
    let longest = o.p + o.seasonal_p * o.season;
    if n < longest + o.q + o.seasonal_q * o.season + 8 || n <= from + 4 {
        return None;
    }
    let from = from.max(longest);
    let average = w.iter().sum::<f64>() / n as f64;
    let scale = (w.iter().map(|v| (v - average).powi(2)).sum::<f64>() / n as f64).sqrt().max(1e-12);
    let mut theta = start(w, o, average);
    theta.push(if with_mean { average / scale } else { 0.0 });
    let free = theta.len() - usize::from(!with_mean);
    let errors = |theta: &[f64]| -> Vec<f64> {
        let mut e = residuals(w, &expand(theta, o, scale));
        e.drain(..from);
        e
    };
    let squares = |e: &[f64]| e.iter().map(|v| v * v).sum::<f64>();
    let mut e = errors(&theta);
    let mut cost = squares(&e);
    if !cost.is_finite() {
        return None;
    }
    let mut damping = 1e-2;
    for _ in 0..12 {
        if free == 0 {
            break;
        }
        let jacobian: Vec<Vec<f64>> = (0..free)
            .map(|k| {
                let mut moved = theta.clone();
                moved[k] += 1e-5;
                errors(&moved).iter().zip(&e).map(|(a, b)| (a - b) / 1e-5).collect()
            })
            .collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let mut gram = vec![0.0; free * free];
        for i in 0..free {
            for j in 0..=i {
                let value = dot(&jacobian[i], &jacobian[j]);
                gram[i * free + j] = value;
                gram[j * free + i] = value;
            }
        }
        let gradient: Vec<f64> = jacobian.iter().map(|j| -dot(j, &e)).collect();
        let mut improved = 0.0;
        for _ in 0..4 {
            let mut damped = gram.clone();
            for i in 0..free {
                damped[i * free + i] += damping * gram[i * free + i] + 1e-12;
            }
            let mut step = gradient.clone();
            cholesky::factor(&mut damped, free);
            cholesky::solve(&damped, free, &mut step);
            let next: Vec<f64> = theta
                .iter()
                .enumerate()
                .map(|(k, t)| if k < free { t + step[k].clamp(-1.0, 1.0) } else { *t })
                .collect();
            let found = errors(&next);
            let next_cost = squares(&found);
            if next_cost < cost {
                improved = (cost - next_cost) / cost;
                (theta, e, cost) = (next, found, next_cost);
                damping = (damping / 5.0).max(1e-9);
                break;
            }
            damping *= 6.0;
        }
        if improved < 1e-6 {
            break;
        }
    }
    cost.is_finite().then(|| (expand(&theta, o, scale), cost))
}

/// Unconstrained parameters [p, P, q, Q, mean / scale] → expanded polynomials.
fn expand(theta: &[f64], o: Order, scale: f64) -> Coefficients {
    let (ar, rest) = theta.split_at(o.p);
    let (seasonal_ar, rest) = rest.split_at(o.seasonal_p);
    let (ma, rest) = rest.split_at(o.q);
    let (seasonal_ma, mean) = rest.split_at(o.seasonal_q);
    let plain: Vec<f64> = from_partial(ar);
    let seasonal: Vec<f64> = from_partial(seasonal_ar);
    let plain_ma: Vec<f64> = from_partial(ma).iter().map(|v| -v).collect();
    let seasonal_ma: Vec<f64> = from_partial(seasonal_ma).iter().map(|v| -v).collect();
    Coefficients {
        mean: mean[0] * scale,
        ar: product(&plain, &seasonal, o.season, -1.0),
        ma: product(&plain_ma, &seasonal_ma, o.season, 1.0),
    }
}

/// (1 + s Σ aᵢ Bⁱ)(1 + s Σ cⱼ B^{mj}) − 1, over s, as sorted (lag, coefficient).
fn product(a: &[f64], c: &[f64], m: usize, sign: f64) -> Vec<(usize, f64)> {
    let mut out: Vec<(usize, f64)> = Vec::with_capacity((a.len() + 1) * (c.len() + 1));
    out.extend(a.iter().enumerate().map(|(i, v)| (i + 1, *v)));
    for (j, cv) in c.iter().enumerate() {
        out.push(((j + 1) * m, *cv));
        out.extend(a.iter().enumerate().map(|(i, av)| ((j + 1) * m + i + 1, sign * av * cv)));
    }
    out.sort_unstable_by_key(|l| l.0);
    out
}

/// tanh of the parameters are partial autocorrelations; Durbin–Levinson gives stationary coefficients.
fn from_partial(u: &[f64]) -> Vec<f64> {
    let mut phi: Vec<f64> = Vec::with_capacity(u.len());
    for &v in u {
        let r = v.tanh() * 0.999;
        let before = phi.clone();
        let k = before.len();
        for (i, value) in phi.iter_mut().enumerate() {
            *value -= r * before[k - 1 - i];
        }
        phi.push(r);
    }
    phi
}

/// The way back; coefficients outside the stationary region are pulled inwards first.
fn to_partial(coefficients: &[f64]) -> Vec<f64> {
    let mut phi = coefficients.to_vec();
    'shrink: for _ in 0..60 {
        let mut work = phi.clone();
        let mut partial = vec![0.0; work.len()];
        for k in (0..work.len()).rev() {
            let r: f64 = work[k];
            if r.abs() >= 0.98 {
                for (i, v) in phi.iter_mut().enumerate() {
                    *v *= 0.93f64.powi(i as i32 + 1);
                }
                continue 'shrink;
            }
            partial[k] = (r / 0.999).atanh();
            let head: Vec<f64> = (0..k).map(|i| (work[i] + r * work[k - 1 - i]) / (1.0 - r * r)).collect();
            work.truncate(k);
            work.copy_from_slice(&head);
        }
        return partial;
    }
    vec![0.0; coefficients.len()]
}

/// Hannan–Rissanen: errors of a long autoregression stand in for the noise, then one least squares on lags
/// of the series and of them.
fn start(w: &[f64], o: Order, mean: f64) -> Vec<f64> {
    let n = w.len();
    let z: Vec<f64> = w.iter().map(|v| v - mean).collect();
    let (ar, ma) = (lags(o.p, o.seasonal_p, o.season), lags(o.q, o.seasonal_q, o.season));
    let long = (10.0 * (n as f64).log10()).floor() as usize;
    let long: Vec<usize> = (1..=long.min(n / 4).max(1)).collect();
    let noise = if ma.is_empty() { vec![0.0; n] } else { regress(&z, &z, &long, &z, &[]).1 };
    let (weights, _) = regress(&z, &z, &ar, &noise, &ma);
    let seasonal_first = |from: &[f64], plain: usize| {
        let mut out = to_partial(&from[..plain]);
        out.extend(to_partial(&from[plain..]));
        out
    };
    let mut theta = seasonal_first(&weights[..ar.len()], o.p);
    let signed: Vec<f64> = weights[ar.len()..].iter().map(|v| -v).collect();
    theta.extend(seasonal_first(&signed, o.q));
    theta
}

fn lags(plain: usize, seasonal: usize, m: usize) -> Vec<usize> {
    (1..=plain).chain((1..=seasonal).map(|k| k * m)).collect()
}

/// Least squares of `y` on lags of `a` and of `b`; gives weights and errors (0 before the longest lag).
fn regress(y: &[f64], a: &[f64], a_lags: &[usize], b: &[f64], b_lags: &[usize]) -> (Vec<f64>, Vec<f64>) {
    let n = y.len();
    let p = a_lags.len() + b_lags.len();
    let first = a_lags.iter().chain(b_lags).copied().max().unwrap_or(0).min(n);
    let column = |k: usize| -> &[f64] {
        match k.checked_sub(a_lags.len()) {
            None => &a[first - a_lags[k]..n - a_lags[k]],
            Some(j) => &b[first - b_lags[j]..n - b_lags[j]],
        }
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let mut gram = vec![0.0; p * p];
    let mut weights = vec![0.0; p];
    for i in 0..p {
        for j in 0..=i {
            let value = dot(column(i), column(j));
            gram[i * p + j] = value;
            gram[j * p + i] = value;
        }
        weights[i] = dot(column(i), &y[first..]);
    }
    for i in 0..p {
        gram[i * p + i] += 1e-6 * gram[i * p + i] + 1e-12;
    }
    cholesky::factor(&mut gram, p);
    cholesky::solve(&gram, p, &mut weights);
    let mut errors = vec![0.0; n];
    for t in first..n {
        let fitted: f64 = (0..p).map(|k| weights[k] * column(k)[t - first]).sum();
        errors[t] = y[t] - fitted;
    }
    (weights, errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_autocorrelations_go_there_and_back() {
        let phi = [1.2, -0.6, 0.1];
        let back = from_partial(&to_partial(&phi));
        assert!(phi.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-6), "{back:?}");
        assert!(to_partial(&[1.5]).iter().all(|v| v.is_finite()));
    }
}
