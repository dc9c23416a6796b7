//! Forecast measures of the M4 competition (Makridakis et al. 2020) and its reference forecaster Naive2.

/// Symmetric mean absolute percentage error, in percent: mean of 200 |y − ŷ| / (|y| + |ŷ|).
pub fn smape(actual: &[f64], forecast: &[f64]) -> f64 {
    let sum: f64 = actual
        .iter()
        .zip(forecast)
        .map(|(y, f)| {
            let size = y.abs() + f.abs();
            if size == 0.0 { 0.0 } else { 200.0 * (y - f).abs() / size }
        })
        .sum();
    sum / actual.len().max(1) as f64
}

/// The in-sample mean absolute error of the seasonal naive forecast, the scale of MASE.
pub fn mase_scale(history: &[f64], season: usize) -> f64 {
    if history.len() <= season {
        return 0.0;
    }
    let sum: f64 = history[season..].iter().zip(history).map(|(a, b)| (a - b).abs()).sum();
    sum / (history.len() - season) as f64
}

/// Mean absolute error over `scale` (see [`mase_scale`]); NaN where the scale is 0: there is nothing to hold it to.
pub fn mase(actual: &[f64], forecast: &[f64], scale: f64) -> f64 {
    let mae: f64 =
        actual.iter().zip(forecast).map(|(y, f)| (y - f).abs()).sum::<f64>() / actual.len().max(1) as f64;
    if scale > 0.0 { mae / scale } else { f64::NAN }
}

/// Share of actual values within `[low, high]`.
pub fn coverage(actual: &[f64], low: &[f64], high: &[f64]) -> f64 {
    let inside = actual.iter().zip(low).zip(high).filter(|((y, l), h)| *l <= *y && *y <= *h).count();
    inside as f64 / actual.len().max(1) as f64
}

/// M4's Naive2: the last value of the series after its multiplicative seasonal indices are divided out
/// (classical decomposition), put back on the forecast; plain naive where the autocorrelation at the
/// season is within 90 % bounds.
pub fn naive2(history: &[f64], season: usize, horizon: usize) -> Vec<f64> {
    let n = history.len();
    let Some(&last) = history.last() else { return vec![0.0; horizon] };
    if !is_seasonal(history, season) {
        return vec![last; horizon];
    }
    let indices = seasonal_indices(history, season);
    let level = last / indices[(n - 1) % season];
    (0..horizon).map(|h| level * indices[(n + h) % season]).collect()
}

/// M4's seasonality test: |r_m| over 1.645 √((1 + 2 Σ_{k<m} r_k²) / n), with at least three seasons.
fn is_seasonal(x: &[f64], season: usize) -> bool {
    let n = x.len();
    if season < 2 || n < 3 * season {
        return false;
    }
    let mean = x.iter().sum::<f64>() / n as f64;
    let variance: f64 = x.iter().map(|v| (v - mean).powi(2)).sum();
    if variance == 0.0 {
        return false;
    }
    let r = |lag: usize| x[lag..].iter().zip(x).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / variance;
    let before: f64 = (1..season).map(|k| r(k).powi(2)).sum();
    r(season).abs() > 1.645 * ((1.0 + 2.0 * before) / n as f64).sqrt()
}

/// R's `decompose(type = "multiplicative")`: ratio to a centred moving average, mean per phase,
/// normalised to mean 1.
fn seasonal_indices(x: &[f64], season: usize) -> Vec<f64> {
    let (n, half) = (x.len(), season / 2);
    let mut sum = vec![0.0; season];
    let mut count = vec![0.0; season];
    for i in half..n.saturating_sub(half) {
        let trend = if season.is_multiple_of(2) {
            let ends = (x[i - half] + x[i + half]) / 2.0;
            (ends + x[i + 1 - half..i + half].iter().sum::<f64>()) / season as f64
        } else {
            x[i - half..=i + half].iter().sum::<f64>() / season as f64
        };
        if trend != 0.0 {
            sum[i % season] += x[i] / trend;
            count[i % season] += 1.0;
        }
    }
    let mut indices: Vec<f64> =
        sum.iter().zip(&count).map(|(s, &c)| if c > 0.0 { s / c } else { 1.0 }).collect();
    let mean = indices.iter().sum::<f64>() / season as f64;
    for index in &mut indices {
        *index = if mean == 0.0 || *index == 0.0 { 1.0 } else { *index / mean };
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naive2_repeats_a_multiplicative_season() {
        let season = [0.5, 1.0, 1.5, 1.0];
        let x: Vec<f64> = (0..80).map(|i| 100.0 * season[i % 4]).collect();
        for (h, f) in naive2(&x, 4, 8).into_iter().enumerate() {
            assert!((f - 100.0 * season[h % 4]).abs() < 1e-9);
        }
        assert_eq!(smape(&[1.0], &[1.0]), 0.0);
        assert_eq!(mase(&[2.0], &[1.0], mase_scale(&[1.0, 2.0, 3.0], 1)), 1.0);
        assert!(mase(&[500.0], &[5.0], mase_scale(&[5.0; 500], 24)).is_nan(), "not perfect");
    }
}
