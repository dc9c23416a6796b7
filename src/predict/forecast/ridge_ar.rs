//! Seasonal ridge autoregression: the next value as a linear function of chosen earlier ones.
//!
//! The Gram matrix of lagged copies of one series is nearly Toeplitz: along a diagonal, neighbours differ by
//! one product at each end. So it costs one dot product per distinct lag difference instead of one per pair
//! of lags, and 53 lags on 700 values fit in about 0.1 ms.

use crate::predict::cholesky;

/// A fitted autoregression on a centred series.
#[derive(Clone, PartialEq, Debug)]
pub struct RidgeAr {
    /// Runs of neighbouring lags: the longest lag of the run, and its weights from there down.
    runs: Vec<(usize, Vec<f64>)>,
    mean: f64,
}

/// Lags for a season of `season` steps and a longer one `long`: 1 … season+1, two seasons, and the
/// neighbourhood of the long one. Hourly (24, 168) gives {1–25, 48, 49, 144–169}. Only those that leave at
/// least twice as many rows as lags in `rows` values are kept.
pub fn lags_for(season: usize, long: Option<usize>, rows: usize) -> Vec<usize> {
    let near = season.clamp(2, 48) + 1;
    let mut lags: Vec<usize> = (1..=near).collect();
    if season > 48 {
        lags.extend([season - 1, season, season + 1]);
    }
    lags.extend([2 * season, 2 * season + 1]);
    if let Some(long) = long.filter(|&l| l > 2 * season) {
        lags.extend(long.saturating_sub(season.min(24)).max(2 * season + 2)..=long + 1);
    }
    lags.sort_unstable();
    lags.dedup();
    while let Some(&last) = lags.last() {
        if lags.len() > 1 && rows < last + 2 * lags.len() {
            lags.pop();
        } else {
            break;
        }
    }
    lags
}

impl RidgeAr {
    /// Least squares of x(t) on x(t − lag), ridge `ridge` × the mean square of the centred series. `None`
    /// where the series is no longer than its longest lag, constant or not finite. `lags` ascend.
    pub fn fit(x: &[f64], lags: &[usize], ridge: f64) -> Option<RidgeAr> {
        let n = x.len();
        let longest = *lags.last()?;
        if n < longest + 2 {
            return None;
        }
        let mean = x.iter().sum::<f64>() / n as f64;
        let c: Vec<f64> = x.iter().map(|v| v - mean).collect();
        let power = c.iter().map(|v| v * v).sum::<f64>();
        if !power.is_finite() || power <= 1e-18 * (1.0 + mean * mean) * n as f64 {
            return None;
        }
        let p = lags.len();
        // place[l] = row of lag l; lag 0 is the target, in the last row
        let mut place = vec![usize::MAX; longest + 1];
        for (k, &lag) in lags.iter().enumerate() {
            place[lag] = k;
        }
        place[0] = p;
        let width = p + 1;
        let mut gram = vec![0.0; width * width];
        for difference in 0..=longest {
            let mut sum = dot(&c[longest..], &c[longest - difference..n - difference]);
            for a in 0..=longest - difference {
                let (i, j) = (place[a], place[a + difference]);
                if i != usize::MAX && j != usize::MAX {
                    gram[i * width + j] = sum;
                    gram[j * width + i] = sum;
                }
                if a + difference < longest {
                    sum += c[longest - 1 - a] * c[longest - 1 - a - difference]
                        - c[n - 1 - a] * c[n - 1 - a - difference];
                }
            }
        }
        let mut left = vec![0.0; p * p];
        let mut right = vec![0.0; p];
        for i in 0..p {
            left[i * p..(i + 1) * p].copy_from_slice(&gram[i * width..i * width + p]);
            left[i * p + i] += ridge * power;
            right[i] = gram[i * width + p];
        }
        cholesky::factor(&mut left, p);
        cholesky::solve(&left, p, &mut right);
        right.iter().all(|w| w.is_finite()).then(|| RidgeAr { runs: runs(lags, &right), mean })
    }

    /// `horizon` values after `x`, each fed back for the next. A history shorter
    /// than the longest lag gets its last value.
    pub fn forecast(&self, x: &[f64], horizon: usize) -> Vec<f64> {
        let longest = self.longest_lag();
        if x.len() < longest {
            return vec![x.last().copied().unwrap_or(self.mean); horizon];
        }
        let mut tail: Vec<f64> = x[x.len() - longest..].iter().map(|v| v - self.mean).collect();
        tail.reserve(horizon);
        for _ in 0..horizon {
            let t = tail.len();
            let next = self.runs.iter().map(|(lag, w)| dot(w, &tail[t - lag..t - lag + w.len()])).sum();
            tail.push(next);
        }
        tail[longest..].iter().map(|v| v + self.mean).collect()
    }

    /// Shortest history that [`RidgeAr::forecast`] takes.
    pub fn longest_lag(&self) -> usize {
        self.runs.last().map_or(0, |r| r.0)
    }
}

fn runs(lags: &[usize], weights: &[f64]) -> Vec<(usize, Vec<f64>)> {
    let mut out: Vec<(usize, Vec<f64>)> = Vec::new();
    for (&lag, &weight) in lags.iter().zip(weights) {
        match out.last_mut() {
            Some(run) if run.0 + 1 == lag => {
                run.0 = lag;
                run.1.insert(0, weight);
            }
            _ => out.push((lag, vec![weight])),
        }
    }
    out
}

/// Eight running sums, so that the compiler can use wide registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0f64; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = left.remainder().iter().zip(right.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in left.zip(right) {
        for k in 0..8 {
            sums[k] += x[k] * y[k];
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hourly_lags_are_the_days_and_the_week() {
        let lags = lags_for(24, Some(168), 700);
        let expected: Vec<usize> = (1..=25).chain([48, 49]).chain(144..=169).collect();
        assert_eq!(lags, expected);
        assert!(*lags_for(24, Some(168), 100).last().expect("some") < 100);
    }

    #[test]
    fn a_linear_recursion_is_found_and_continued() {
        let mut x = vec![1.0, 0.5];
        let mut seed = 7u64;
        for t in 2..600 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let noise = (seed >> 40) as f64 / (1u64 << 24) as f64 - 0.5;
            x.push(1.6 * x[t - 1] - 0.98 * x[t - 2] + noise);
        }
        let fit = RidgeAr::fit(&x, &[1, 2], 1e-9).expect("fits");
        let weights = &fit.runs[0].1; // lag 2, then lag 1
        assert!((weights[1] - 1.6).abs() < 0.05 && (weights[0] + 0.98).abs() < 0.05);
        assert!(RidgeAr::fit(&[3.0; 50], &[1, 2], 1e-3).is_none(), "a constant has nothing to fit");
    }

    #[test]
    fn the_fast_gram_matrix_gives_the_plain_least_squares() {
        let x: Vec<f64> = (0..200).map(|t| ((t * t) as f64 * 0.37).sin() + (t as f64 / 5.0).cos()).collect();
        let lags = [1, 2, 5, 9];
        let fast = RidgeAr::fit(&x, &lags, 1e-4).expect("fits");
        // runs are [2, 1], [5], [9]
        let weights = [fast.runs[0].1[1], fast.runs[0].1[0], fast.runs[1].1[0], fast.runs[2].1[0]];
        let mean = x.iter().sum::<f64>() / 200.0;
        let c: Vec<f64> = x.iter().map(|v| v - mean).collect();
        let power: f64 = c.iter().map(|v| v * v).sum();
        // the normal equations hold: Xᵀ(y − Xw) = ridge · power · w
        for (k, lag) in lags.iter().enumerate() {
            let slope: f64 = (9..200)
                .map(|t| {
                    let fitted: f64 = lags.iter().zip(&weights).map(|(l, w)| w * c[t - l]).sum();
                    (c[t] - fitted) * c[t - lag]
                })
                .sum();
            assert!((slope - 1e-4 * power * weights[k]).abs() < 1e-8);
        }
    }
}
