//! The forecast that is used: methods held against the last stretch of the history from several origins,
//! the poor ones dropped, the median of the rest, and conformal intervals from the errors that this very
//! combination made there. An LSTM, where there is one, joins the median or takes its place only where that
//! would have been better on this series' own past.

use super::{
    candidate::{Fitted, Method, Seasons},
    clean::Bounds,
    network::Network,
};

/// Origins of the backtest.
const ORIGINS: usize = 10;
/// A method whose backtest error is over this many times the best one's is dropped.
const POOR: f64 = 2.0;
/// The network joins the median where its backtest error is under this share of that without it …
const JOINS: f64 = 0.98;
/// … and speaks alone where its own is under this share.
const REPLACES: f64 = 0.9;
/// Errors of this many steps on both sides are pooled for the interval of one step.
const NEIGHBOURS: usize = 3;
/// Intervals above 80 % are this much wider per unit of level: neighbouring errors are not independent, so
/// the far quantiles of a pool are too near. Set on the last 48 hours of the M4 hourly *training* series.
const TAIL: f64 = 0.7;

/// A forecast with what is needed for any interval.
#[derive(Clone, PartialEq, Debug)]
pub struct Outlook {
    /// One value a step.
    pub median: Vec<f64>,
    /// What was combined: `median of ridge AR, seasonal naive (24)`.
    pub method: String,
    /// Sorted absolute backtest errors, one pool a step; all empty where the history was too short.
    errors: Vec<Vec<f64>>,
}

/// Where the backtest of `n` values begins, newest first, and how many steps of each are looked at: what is
/// held back are `ORIGINS` stretches of that many steps, at most 40 % of the history.
fn origins_of(n: usize, horizon: usize) -> (Vec<usize>, usize) {
    let ahead = horizon.min((n / 5).max(1));
    let most = (n * 2 / 5).saturating_sub(ahead);
    let stride = (most / ORIGINS).min(ahead.div_ceil(2)).max(1);
    let all = (0..ORIGINS.min(most / stride + 1)).map(|k| n - ahead - k * stride);
    (all.filter(|&o| o >= 8).collect(), ahead)
}

/// What the backtest of `n` values leaves to learn from: all before it.
pub fn before_backtest(n: usize, horizon: usize) -> usize {
    origins_of(n, horizon).0.last().copied().unwrap_or(0)
}

/// Forecasts `horizon` steps after the finite series `x` with the given methods, and with a network that
/// was trained on nothing of what the backtest looks at. `None` where `x` is empty or `horizon` is 0. Series
/// too short for a backtest get the last value and no interval.
pub fn outlook(
    x: &[f64],
    seasons: Seasons,
    horizon: usize,
    methods: &[Method],
    network: Option<&Network>,
) -> Option<Outlook> {
    if x.is_empty() || horizon == 0 {
        return None;
    }
    let n = x.len();
    let (origins, ahead) = origins_of(n, horizon);
    let Some(&first) = origins.last() else {
        return Some(Outlook {
            median: Fitted::Naive(0).forecast(x, horizon),
            method: Fitted::Naive(0).name(),
            errors: vec![Vec::new(); horizon],
        });
    };
    let trial: Vec<(Method, Fitted)> =
        methods.iter().filter_map(|&m| Some((m, Fitted::fit(m, &x[..first], seasons)?))).collect();
    let bounds = Bounds::around(&x[..first]);
    // [method][origin][step]
    let mut past: Vec<Vec<Vec<f64>>> = trial
        .iter()
        .map(|(_, fit)| origins.iter().map(|&o| fit.forecast_within(&x[..o], ahead, bounds)).collect())
        .collect();
    let error = |forecasts: &[Vec<f64>]| -> f64 {
        forecasts.iter().zip(&origins).map(|(f, &o)| absolute_error(f, &x[o..])).sum()
    };
    let costs: Vec<f64> = past.iter().map(|p| error(p)).collect();
    let best = costs.iter().copied().fold(f64::INFINITY, f64::min);
    let mut kept: Vec<usize> = (0..trial.len()).filter(|&k| costs[k] <= POOR * best).collect();
    // of the network: what it says now, and what it would have said
    let said = network.and_then(|network| {
        let all: Vec<usize> = origins.iter().copied().chain([n]).collect();
        let mut told = network.say(x, &all, horizon)?;
        let mut now = told.pop()?;
        for (told, &o) in told.iter_mut().zip(&origins) {
            told.truncate(ahead);
            bounds.clip(told, x[o - 1]);
        }
        past.push(told);
        kept = challenge(&kept, &past, error)?;
        Bounds::around(x).clip(&mut now, x[n - 1]);
        Some((now, network.name()))
    });
    let pool = pooled(&kept, &past, &origins, x, ahead, horizon);
    let fits: Vec<Fitted> = kept.iter().filter_map(|&k| Fitted::fit(trial.get(k)?.0, x, seasons)).collect();
    let mut names: Vec<String> = fits.iter().map(Fitted::name).collect();
    let mut forecasts: Vec<Vec<f64>> = fits.iter().map(|f| f.forecast(x, horizon)).collect();
    if let Some((said, name)) = said {
        forecasts.push(said);
        names.push(name);
    }
    if forecasts.is_empty() {
        forecasts.push(Fitted::Naive(0).forecast(x, horizon));
        names.push(Fitted::Naive(0).name());
    }
    let views: Vec<&[f64]> = forecasts.iter().map(Vec::as_slice).collect();
    Some(Outlook { median: median_of(&views), method: named(&names), errors: pool })
}

/// Whether the last of `past` joins those that are kept, or speaks in their place: whichever was better on
/// the series' own past, and clearly so. `None` where neither was.
fn challenge(
    kept: &[usize],
    past: &[Vec<Vec<f64>>],
    error: impl Fn(&[Vec<f64>]) -> f64,
) -> Option<Vec<usize>> {
    let last = past.len() - 1;
    let cost = |of: &[usize]| -> f64 {
        let medians: Vec<Vec<f64>> = (0..past[last].len())
            .map(|k| median_of(&of.iter().map(|&m| past[m][k].as_slice()).collect::<Vec<_>>()))
            .collect();
        error(&medians)
    };
    let without = if kept.is_empty() { f64::INFINITY } else { cost(kept) };
    let mut all = kept.to_vec();
    all.push(last);
    let choices = [(JOINS * without, cost(&all), all), (REPLACES * without, cost(&[last]), vec![last])];
    let better = choices.into_iter().filter(|(allowed, cost, _)| cost < allowed);
    better.min_by(|a, b| a.1.total_cmp(&b.1)).map(|chosen| chosen.2)
}

/// Sorted absolute errors of the combination of `kept`, pooled over neighbouring steps; steps beyond the
/// backtest take the last pool, widened by the square root of the time.
fn pooled(
    kept: &[usize],
    past: &[Vec<Vec<f64>>],
    origins: &[usize],
    x: &[f64],
    ahead: usize,
    horizon: usize,
) -> Vec<Vec<f64>> {
    let by_origin: Vec<Vec<f64>> = origins
        .iter()
        .enumerate()
        .map(|(k, &o)| {
            let views: Vec<&[f64]> = kept.iter().map(|&m| past[m][k].as_slice()).collect();
            median_of(&views).iter().zip(&x[o..]).map(|(f, y)| (y - f).abs()).collect()
        })
        .collect();
    (0..horizon)
        .map(|h| {
            let place = h.min(ahead - 1);
            let grow = ((h + 1) as f64 / (place + 1) as f64).sqrt();
            let window = place.saturating_sub(NEIGHBOURS)..(place + NEIGHBOURS + 1).min(ahead);
            let mut pool: Vec<f64> = by_origin
                .iter()
                .flat_map(|e| e.get(window.clone()).unwrap_or_default())
                .map(|e| e * grow)
                .collect();
            pool.sort_unstable_by(f64::total_cmp);
            pool
        })
        .collect()
}

impl Outlook {
    /// Low and high of the interval that holds `level` (0 to 1) of what comes; `median` itself where no
    /// backtest was possible.
    pub fn band(&self, level: f64) -> (Vec<f64>, Vec<f64>) {
        self.median
            .iter()
            .zip(&self.errors)
            .map(|(m, pool)| {
                let half = conformal_quantile(pool, level) * (1.0 + TAIL * (level - 0.8).max(0.0));
                (m - half, m + half)
            })
            .unzip()
    }

    /// Whether the intervals rest on a backtest.
    pub fn has_intervals(&self) -> bool {
        self.errors.iter().all(|pool| !pool.is_empty())
    }
}

/// The ⌈(n + 1) level⌉-th smallest error (split conformal; Lei et al. 2018), linear between ranks.
fn conformal_quantile(sorted: &[f64], level: f64) -> f64 {
    let n = sorted.len();
    if n == 0 {
        return 0.0;
    }
    let rank = ((n + 1) as f64 * level - 1.0).clamp(0.0, (n - 1) as f64);
    let below = rank.floor() as usize;
    let above = (below + 1).min(n - 1);
    sorted[below] + (rank - below as f64) * (sorted[above] - sorted[below])
}

fn absolute_error(forecast: &[f64], actual: &[f64]) -> f64 {
    forecast.iter().zip(actual).map(|(f, y)| (f - y).abs()).sum()
}

/// The median of several forecasts, step by step.
fn median_of(forecasts: &[&[f64]]) -> Vec<f64> {
    let steps = forecasts.first().map_or(0, |f| f.len());
    let mut values = vec![0.0; forecasts.len()];
    (0..steps)
        .map(|h| {
            values.iter_mut().zip(forecasts).for_each(|(v, f)| *v = f[h]);
            values.sort_unstable_by(f64::total_cmp);
            let k = values.len();
            (values[(k - 1) / 2] + values[k / 2]) / 2.0
        })
        .collect()
}

fn named(names: &[String]) -> String {
    if names.len() == 1 { names[0].clone() } else { format!("median of {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daily_wave_goes_on_and_its_band_holds_the_noise() {
        let mut seed = 5u64;
        let mut noise = move || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 40) as f64 / (1u64 << 24) as f64 - 0.5
        };
        let x: Vec<f64> = (0..600)
            .map(|t| 100.0 + 30.0 * (t as f64 / 24.0 * std::f64::consts::TAU).sin() + noise())
            .collect();
        let (past, future) = x.split_at(552);
        let seen = outlook(past, Seasons::HOURLY, 48, &Method::SEASONAL, None).expect("forecast");
        assert!(absolute_error(&seen.median, future) / 48.0 < 0.6, "{}", seen.method);
        let (low, high) = seen.band(0.8);
        let inside = future.iter().enumerate().filter(|(h, y)| low[*h] <= **y && **y <= high[*h]).count();
        assert!((30..=48).contains(&inside), "{inside} of 48");
        let (wide, _) = seen.band(0.95);
        assert!(wide.iter().zip(&low).all(|(a, b)| a <= b));
    }

    #[test]
    fn short_constant_and_odd_histories_still_get_a_forecast() {
        for x in [vec![1.0], vec![5.0; 100], vec![1.0, 2.0, 3.0], (0..40).map(f64::from).collect()] {
            let seen = outlook(&x, Seasons::HOURLY, 12, &Method::PLAIN, None).expect("forecast");
            assert_eq!(seen.median.len(), 12);
            assert!(seen.median.iter().all(|v| v.is_finite()));
            let (low, high) = seen.band(0.9);
            assert!(low.iter().zip(&high).all(|(l, h)| l <= h));
        }
        assert!(outlook(&[], Seasons::default(), 5, &Method::PLAIN, None).is_none());
    }
}
