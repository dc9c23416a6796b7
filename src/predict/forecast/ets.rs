//! Exponential smoothing with additive errors, a damped additive trend and, where the season is known, an
//! additive season: ETS(A,Ad,A) of Hyndman et al., *Forecasting with Exponential Smoothing* (2008), ch. 2.
//! Parameters by coordinate search over the in-sample squared error; starting states from the first two
//! seasons.

/// A fitted model: smoothing of level, trend and season, and damping.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ets {
    season: usize,
    alpha: f64,
    beta: f64,
    gamma: f64,
    phi: f64,
}

struct States {
    level: f64,
    trend: f64,
    season: Vec<f64>,
    squares: f64,
}

impl Ets {
    /// Fits to `x`; `season` below 2 means none. `None` where there are fewer than two seasons, or four
    /// values.
    pub fn fit(x: &[f64], season: usize) -> Option<Ets> {
        let season = if season < 2 { 1 } else { season };
        if x.len() < (2 * season).max(4) {
            return None;
        }
        let start = Ets { season, alpha: 0.3, beta: 0.05, gamma: 0.2, phi: 0.95 };
        let cost = |m: &Ets| {
            let s = m.filter(x);
            if s.squares.is_finite() { s.squares } else { f64::INFINITY }
        };
        let mut best = (cost(&start), start);
        let mut width = 0.3;
        for _ in 0..6 {
            for which in 0..4 {
                for direction in [-1.0, 1.0] {
                    let mut next = best.1;
                    let place = match which {
                        0 => &mut next.alpha,
                        1 => &mut next.beta,
                        2 => &mut next.gamma,
                        _ => &mut next.phi,
                    };
                    let (low, high) = if which == 3 { (0.8, 0.98) } else { (1e-4, 0.9999) };
                    *place =
                        (*place + direction * width * if which == 3 { 0.2 } else { 1.0 }).clamp(low, high);
                    next.beta = next.beta.min(next.alpha);
                    next.gamma = next.gamma.min(1.0 - next.alpha).max(0.0);
                    let found = cost(&next);
                    if found < best.0 {
                        best = (found, next);
                    }
                }
            }
            width /= 2.0;
        }
        best.0.is_finite().then_some(best.1)
    }

    fn filter(&self, x: &[f64]) -> States {
        let m = self.season;
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let first = mean(&x[..m]);
        let trend = if x.len() >= 2 * m { (mean(&x[m..2 * m]) - first) / m as f64 } else { 0.0 };
        let season = if m > 1 { x[..m].iter().map(|v| v - first).collect() } else { vec![0.0] };
        let mut s = States { level: first, trend, season, squares: 0.0 };
        for (t, &value) in x.iter().enumerate() {
            let expected = s.level + self.phi * s.trend;
            let phase = t % m;
            let error = value - expected - s.season[phase];
            s.level = expected + self.alpha * error;
            s.trend = self.phi * s.trend + self.beta * error;
            if m > 1 {
                s.season[phase] += self.gamma * error;
            }
            s.squares += error * error;
        }
        s
    }

    /// `horizon` values after `x`, which may be longer or shorter than what was fitted to, but no shorter
    /// than a season.
    pub fn forecast(&self, x: &[f64], horizon: usize) -> Vec<f64> {
        if x.len() < self.season {
            return vec![x.last().copied().unwrap_or(0.0); horizon];
        }
        let s = self.filter(x);
        let mut damp = 0.0;
        let mut power = 1.0;
        (0..horizon)
            .map(|h| {
                power *= self.phi;
                damp += power;
                s.level + damp * s.trend + s.season[(x.len() + h) % self.season]
            })
            .collect()
    }

    /// `ETS(A,Ad,A)` or, without a season, `ETS(A,Ad,N)`.
    pub fn name(&self) -> &'static str {
        if self.season > 1 { "ETS(A,Ad,A)" } else { "ETS(A,Ad,N)" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rising_season_is_continued() {
        let wave = [0.0, 5.0, 2.0, -7.0];
        let x: Vec<f64> = (0..80).map(|t| 100.0 + 0.5 * t as f64 + wave[t % 4]).collect();
        let fit = Ets::fit(&x, 4).expect("fits");
        for (h, f) in fit.forecast(&x, 4).into_iter().enumerate() {
            let t = 80 + h;
            assert!((f - (100.0 + 0.5 * t as f64 + wave[t % 4])).abs() < 1.5, "{h}: {f}");
        }
        assert!(Ets::fit(&[1.0, 2.0], 0).is_none());
        assert_eq!(fit.name(), "ETS(A,Ad,A)");
    }
}
