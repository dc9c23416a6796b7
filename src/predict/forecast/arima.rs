//! ARIMA(p,d,q)(P,D,Q)[m]: the automatic order, and what a fitted model forecasts.
//!
//! Order by the stepwise search of Hyndman & Khandakar (JSS 2008): differences by the KPSS test and by the
//! strength of the season, then AICc over neighbours of the best model so far. Each model is fitted by
//! conditional sum of squares from a Hannan–Rissanen start ([`super::arima_fit`]).

use std::collections::HashSet;

use super::{
    arima_fit::{Coefficients, fit, residuals},
    candidate::Seasons,
};

/// Orders of a model; `season` = 1 where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Order {
    /// Autoregressive terms.
    pub p: usize,
    /// Differences.
    pub d: usize,
    /// Moving-average terms.
    pub q: usize,
    /// Seasonal autoregressive terms.
    pub seasonal_p: usize,
    /// Seasonal differences.
    pub seasonal_d: usize,
    /// Seasonal moving-average terms.
    pub seasonal_q: usize,
    /// Steps of a season.
    pub season: usize,
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ARIMA({},{},{})", self.p, self.d, self.q)?;
        if self.season > 1 {
            let Order { seasonal_p, seasonal_d, seasonal_q, season, .. } = self;
            write!(f, "({seasonal_p},{seasonal_d},{seasonal_q})[{season}]")?;
        }
        Ok(())
    }
}

/// A fitted model.
#[derive(Clone, PartialEq, Debug)]
pub struct Arima {
    /// Its order.
    pub order: Order,
    /// Corrected Akaike criterion on the differenced series: comparable within one (d, D, m).
    pub aicc: f64,
    /// Whether it is a model of the logarithm.
    pub on_log: bool,
    pub(super) coefficients: Coefficients,
}

/// The best order for each season there is and, for positive series, for the logarithm; of these the one
/// that forecasts best from four origins in the last third (AICc cannot compare across differences and
/// transforms). `None` for series of fewer than 10 values or constant ones.
pub fn automatic(x: &[f64], seasons: Seasons) -> Option<Arima> {
    let seasons = seasons.within(x.len() * 2 / 3);
    let mut choices = vec![(seasons.short.max(1), false)];
    if seasons.long > 1 {
        choices.push((seasons.long, false));
    }
    if seasons.short > 1 && x.iter().all(|&v| v > 0.0) {
        choices.push((seasons.short, true));
    }
    let logs: Vec<f64> = x.iter().map(|v| v.max(f64::MIN_POSITIVE).ln()).collect();
    let mut fits = choices.into_iter().filter_map(|(season, on_log)| {
        Some(Arima { on_log, ..best_order(if on_log { &logs } else { x }, season)? })
    });
    let first = fits.next()?;
    let ahead = (x.len() / 12).clamp(1, 48);
    let cost = |fit: &Arima| -> f64 {
        (1..=4)
            .map(|k| x.len() - k * ahead)
            .map(|o| {
                fit.forecast(&x[..o], ahead).iter().zip(&x[o..]).map(|(f, y)| (f - y).abs()).sum::<f64>()
            })
            .sum()
    };
    let mut best: Option<(f64, Arima)> = None;
    for fit in std::iter::once(first).chain(fits) {
        let found = cost(&fit);
        if best.as_ref().is_none_or(|b| found < b.0) {
            best = Some((found, fit));
        }
    }
    best.map(|b| b.1)
}

/// The stepwise search at one season (1 = none).
pub fn best_order(x: &[f64], season: usize) -> Option<Arima> {
    if x.len() < 10 || x.iter().any(|v| !v.is_finite()) || x.iter().all(|v| v == &x[0]) {
        return None;
    }
    let seasonal_d = usize::from(season > 1 && x.len() > 3 * season && seasonal_strength(x, season) > 0.64);
    let mut w = difference(x, season, seasonal_d);
    let mut d = 0;
    while d < 2 && w.len() > 10 && kpss(&w) > KPSS_5_PERCENT {
        w = difference(&w, 1, 1);
        d += 1;
    }
    let mut search = Search { w: &w, d, seasonal_d, season, tried: HashSet::new() };
    let s = usize::from(season > 1);
    let mut best: Option<Arima> = None;
    for (p, q, sp, sq) in [(2, 2, s, s), (0, 0, 0, 0), (1, 0, s, 0), (0, 1, 0, s), (1, 1, 0, 0)] {
        search.consider(p, q, sp, sq, &mut best);
    }
    while let Some(now) = best.as_ref().map(|b| b.order) {
        for (p, q, sp, sq) in neighbours(now) {
            search.consider(p, q, sp, sq, &mut best);
        }
        if best.as_ref().is_some_and(|b| b.order == now) {
            break;
        }
    }
    best
}

/// Orders one step away from `o`, within p, q ≤ 5, P, Q ≤ 2.
fn neighbours(o: Order) -> Vec<(usize, usize, usize, usize)> {
    let mut out = Vec::new();
    let seasonal: i64 = if o.season > 1 { 1 } else { 0 };
    for (dp, dq, ds, dt) in [
        (1, 0, 0, 0),
        (-1, 0, 0, 0),
        (0, 1, 0, 0),
        (0, -1, 0, 0),
        (1, 1, 0, 0),
        (-1, -1, 0, 0),
        (0, 0, seasonal, 0),
        (0, 0, -seasonal, 0),
        (0, 0, 0, seasonal),
        (0, 0, 0, -seasonal),
    ] {
        let moved =
            |v: usize, by: i64, most: usize| usize::try_from(v as i64 + by).ok().filter(|&v| v <= most);
        if let (Some(p), Some(q), Some(sp), Some(sq)) =
            (moved(o.p, dp, 5), moved(o.q, dq, 5), moved(o.seasonal_p, ds, 2), moved(o.seasonal_q, dt, 2))
        {
            out.push((p, q, sp, sq));
        }
    }
    out
}

struct Search<'a> {
    w: &'a [f64],
    d: usize,
    seasonal_d: usize,
    season: usize,
    tried: HashSet<(usize, usize, usize, usize)>,
}

impl Search<'_> {
    fn consider(&mut self, p: usize, q: usize, sp: usize, sq: usize, best: &mut Option<Arima>) {
        if !self.tried.insert((p, q, sp, sq)) {
            return;
        }
        let order = Order {
            p,
            d: self.d,
            q,
            seasonal_p: sp,
            seasonal_d: self.seasonal_d,
            seasonal_q: sq,
            season: self.season,
        };
        // all models of one search are judged on the same rows
        let from = (2 * self.season + 5).min(self.w.len() / 3);
        let with_mean = self.d + self.seasonal_d < 2;
        let Some((coefficients, squares)) = fit(self.w, order, with_mean, from) else { return };
        let rows = (self.w.len() - from) as f64;
        let k = (p + q + sp + sq + usize::from(with_mean) + 1) as f64;
        if rows <= k + 2.0 {
            return;
        }
        let aicc =
            rows * (squares / rows).max(1e-300).ln() + 2.0 * k + 2.0 * k * (k + 1.0) / (rows - k - 1.0);
        if best.as_ref().is_none_or(|b| aicc < b.aicc - 1e-9) {
            *best = Some(Arima { order, aicc, on_log: false, coefficients });
        }
    }
}

impl Arima {
    /// Fits one given order. `None` where the series is too short for it.
    pub fn with_order(x: &[f64], order: Order) -> Option<Arima> {
        let w = difference(&difference(x, order.season, order.seasonal_d), 1, order.d);
        let (coefficients, squares) = fit(&w, order, order.d + order.seasonal_d < 2, 0)?;
        let rows = w.len() as f64;
        Some(Arima { order, aicc: rows * (squares / rows).max(1e-300).ln(), on_log: false, coefficients })
    }

    /// As it is shown: `ARIMA(2,1,1)`.
    pub fn name(&self) -> String {
        if self.on_log { format!("{} on log", self.order) } else { self.order.to_string() }
    }

    /// `horizon` values after `x` (positive for a model of the logarithm).
    pub fn forecast(&self, x: &[f64], horizon: usize) -> Vec<f64> {
        if !self.on_log {
            return self.forecast_plain(x, horizon);
        }
        let logs: Vec<f64> = x.iter().map(|v| v.max(f64::MIN_POSITIVE).ln()).collect();
        self.forecast_plain(&logs, horizon).into_iter().map(f64::exp).collect()
    }

    fn forecast_plain(&self, x: &[f64], horizon: usize) -> Vec<f64> {
        let o = self.order;
        let seasonal = difference(x, o.season, o.seasonal_d);
        // the series after each difference, innermost last
        let mut levels = vec![seasonal];
        for _ in 0..o.d {
            levels.push(difference(&levels[levels.len() - 1], 1, 1));
        }
        let w = &levels[o.d];
        if w.is_empty() {
            return vec![x.last().copied().unwrap_or(0.0); horizon];
        }
        let mut ahead = self.continue_stationary(w, horizon);
        for level in levels[..o.d].iter().rev() {
            let mut last = level.last().copied().unwrap_or(0.0);
            for value in &mut ahead {
                last += *value;
                *value = last;
            }
        }
        if o.seasonal_d > 0 {
            let mut whole: Vec<f64> = x[x.len() - o.season..].to_vec();
            for (t, step) in ahead.iter().enumerate() {
                whole.push(whole[t] + step);
            }
            ahead = whole.split_off(o.season);
        }
        ahead
    }

    fn continue_stationary(&self, w: &[f64], horizon: usize) -> Vec<f64> {
        let c = &self.coefficients;
        let mut e = residuals(w, c);
        let mut z: Vec<f64> = w.iter().map(|v| v - c.mean).collect();
        for _ in 0..horizon {
            let t = z.len();
            let past = |lag: usize, series: &[f64]| if lag <= t { series[t - lag] } else { 0.0 };
            let ar: f64 = c.ar.iter().map(|&(lag, a)| a * past(lag, &z)).sum();
            let ma: f64 = c.ma.iter().map(|&(lag, b)| b * past(lag, &e)).sum();
            z.push(ar + ma);
            e.push(0.0);
        }
        z[w.len()..].iter().map(|v| v + c.mean).collect()
    }
}

fn difference(x: &[f64], lag: usize, times: usize) -> Vec<f64> {
    let mut out = x.to_vec();
    for _ in 0..times {
        out = if out.len() > lag {
            out[lag..].iter().zip(&out).map(|(a, b)| a - b).collect()
        } else {
            Vec::new()
        };
    }
    out
}

const KPSS_5_PERCENT: f64 = 0.463;

/// The KPSS statistic for level stationarity (Kwiatkowski et al. 1992), Bartlett window of 4 (n/100)^¼ lags.
fn kpss(x: &[f64]) -> f64 {
    let n = x.len();
    let mean = x.iter().sum::<f64>() / n as f64;
    let e: Vec<f64> = x.iter().map(|v| v - mean).collect();
    let lags = (4.0 * (n as f64 / 100.0).powf(0.25)).floor() as usize;
    let mut variance: f64 = e.iter().map(|v| v * v).sum::<f64>();
    for lag in 1..=lags.min(n - 1) {
        let weight = 1.0 - lag as f64 / (lags + 1) as f64;
        variance += 2.0 * weight * e[lag..].iter().zip(&e).map(|(a, b)| a * b).sum::<f64>();
    }
    let mut sum = 0.0;
    let squares: f64 = e
        .iter()
        .map(|v| {
            sum += v;
            sum * sum
        })
        .sum();
    if variance <= 0.0 { 0.0 } else { squares / (n as f64 * variance) }
}

/// 1 − Var(remainder) / Var(season + remainder) after a centred moving average is taken out (Wang, Smith,
/// Hyndman 2006; the threshold .64 is auto.arima's).
fn seasonal_strength(x: &[f64], season: usize) -> f64 {
    let (n, half) = (x.len(), season / 2);
    let mut sum: f64 = x[..2 * half + 1].iter().sum();
    let mut free = Vec::with_capacity(n);
    for t in half..n - half {
        if t > half {
            sum += x[t + half] - x[t - half - 1];
        }
        let ends = if season.is_multiple_of(2) { (x[t - half] + x[t + half]) / 2.0 } else { 0.0 };
        free.push(x[t] - (sum - ends) / season as f64);
    }
    let mut means = vec![(0.0f64, 0.0f64); season];
    for (t, v) in free.iter().enumerate() {
        means[t % season].0 += v;
        means[t % season].1 += 1.0;
    }
    let variance = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
    };
    let rest: Vec<f64> = free
        .iter()
        .enumerate()
        .map(|(t, v)| v - means[t % season].0 / means[t % season].1.max(1.0))
        .collect();
    let whole = variance(&free);
    if whole <= 0.0 { 0.0 } else { (1.0 - variance(&rest) / whole).max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A series of the given coefficients, driven by normal noise.
    fn simulated(ar: &[f64], d: usize, ma: &[f64], rows: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        let mut uniform = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        let mut normal = move || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
        let (mut x, mut e): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        for t in 0..rows + 100 {
            e.push(normal());
            let past = |s: &[f64], k: usize| if t > k { s[t - 1 - k] } else { 0.0 };
            let value = e[t]
                + ar.iter().enumerate().map(|(k, a)| a * past(&x, k)).sum::<f64>()
                + ma.iter().enumerate().map(|(k, b)| b * past(&e, k)).sum::<f64>();
            x.push(value);
        }
        let mut x = x.split_off(100);
        for _ in 0..d {
            let mut sum = 0.0;
            x.iter_mut().for_each(|v| {
                sum += *v;
                *v = sum;
            });
        }
        x
    }

    #[test]
    fn the_known_order_of_simulated_series_is_found() {
        let cases: [(&[f64], usize, &[f64], &str); 4] = [
            (&[0.7], 0, &[], "ARIMA(1,0,0)"),
            (&[], 0, &[0.7], "ARIMA(0,0,1)"),
            (&[1.2, -0.6], 0, &[], "ARIMA(2,0,0)"),
            (&[0.7], 1, &[], "ARIMA(1,1,0)"),
        ];
        for (ar, d, ma, name) in cases {
            let found: Vec<String> = (1..=10)
                .filter_map(|seed| best_order(&simulated(ar, d, ma, 1000, seed), 1).map(|m| m.name()))
                .collect();
            let hits = found.iter().filter(|f| *f == name).count();
            assert!(hits >= 6, "{name}: {found:?}");
        }
    }

    #[test]
    fn a_seasonal_random_walk_repeats_its_season() {
        let wave = [10.0, 20.0, 15.0, 5.0, 1.0, 7.0];
        let noise = simulated(&[], 0, &[], 240, 3);
        let x: Vec<f64> = (0..240).map(|t| 10.0 * wave[t % 6] + noise[t]).collect();
        let model = best_order(&x, 6).expect("fits");
        assert_eq!(model.order.seasonal_d, 1, "{}", model.name());
        for (h, f) in model.forecast(&x, 6).into_iter().enumerate() {
            assert!((f - 10.0 * wave[h]).abs() < 4.0, "{h}: {f}");
        }
    }

    #[test]
    fn odd_series_are_refused_not_fitted() {
        assert!(best_order(&[1.0; 50], 1).is_none());
        assert!(best_order(&[1.0, 2.0], 1).is_none());
        assert!(best_order(&[f64::NAN; 50], 1).is_none());
    }
}
