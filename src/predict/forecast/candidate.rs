//! The methods a forecast is chosen from, behind one door: fit once, forecast from any later origin with
//! the parameters as they are. Backtests need that, and it keeps them cheap.

use super::{
    arima::{self, Arima},
    clean::Bounds,
    ets::Ets,
    ridge_ar::{RidgeAr, lags_for},
    seasonal_naive::seasonal_naive,
};

/// Ridge of the autoregressions, in units of the series' power. Flat between 1e-5 and 3e-3 on the last 48
/// hours of the M4 hourly *training* series.
const RIDGE: f64 = 1e-3;

/// Seasons of a series, in steps; 0 = none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seasons {
    /// The shorter one: a day.
    pub short: usize,
    /// The longer one: a week.
    pub long: usize,
}

impl Seasons {
    /// Hourly data: a day and a week.
    pub const HOURLY: Seasons = Seasons { short: 24, long: 168 };

    /// Only the seasons that `rows` values hold at least twice.
    pub fn within(self, rows: usize) -> Seasons {
        let kept = |s: usize| if s >= 2 && rows >= 2 * s { s } else { 0 };
        Seasons { short: kept(self.short), long: kept(self.long) }
    }
}

/// A method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// The last value.
    Last,
    /// Seasonal naive, the short season.
    SeasonalShort,
    /// Seasonal naive, the long season.
    SeasonalLong,
    /// Ridge autoregression.
    Ar,
    /// The same on the logarithm (positive series alone).
    LogAr,
    /// The same on differences at the short season, or from step to step where there is none: this one
    /// follows a trend.
    DifferencedAr,
    /// Exponential smoothing.
    Ets,
    /// ARIMA with automatic order.
    Arima,
}

impl Method {
    /// What is combined by default where the series has a season.
    pub const SEASONAL: [Method; 5] =
        [Method::Ar, Method::LogAr, Method::DifferencedAr, Method::SeasonalShort, Method::SeasonalLong];
    /// What is combined by default where it has none.
    pub const PLAIN: [Method; 4] = [Method::Last, Method::Ar, Method::DifferencedAr, Method::Ets];
}

/// A method with its parameters.
#[derive(Clone, PartialEq, Debug)]
pub enum Fitted {
    /// Repeats what was this many steps ago; 0 = the last value.
    Naive(usize),
    /// See [`RidgeAr`].
    Ar(RidgeAr),
    /// On the logarithm.
    LogAr(RidgeAr),
    /// On differences at this season.
    DifferencedAr(RidgeAr, usize),
    /// A straight line of this slope a step.
    Drift(f64),
    /// See [`Ets`].
    Ets(Ets),
    /// See [`Arima`].
    Arima(Box<Arima>),
}

impl Fitted {
    /// Fits `method` to a finite series; `None` where it does not apply (too short, constant, no season,
    /// not positive).
    pub fn fit(method: Method, x: &[f64], seasons: Seasons) -> Option<Fitted> {
        let seasons = seasons.within(x.len());
        let long = (seasons.long > 0).then_some(seasons.long);
        let season = if seasons.short > 0 { seasons.short } else { 4 };
        match method {
            Method::Last => (!x.is_empty()).then_some(Fitted::Naive(0)),
            Method::SeasonalShort => (seasons.short > 0).then_some(Fitted::Naive(seasons.short)),
            Method::SeasonalLong => (seasons.long > 0).then_some(Fitted::Naive(seasons.long)),
            Method::Ar => RidgeAr::fit(x, &lags_for(season, long, x.len()), RIDGE).map(Fitted::Ar),
            Method::LogAr => {
                let logs = logarithms(x)?;
                RidgeAr::fit(&logs, &lags_for(season, long, x.len()), RIDGE).map(Fitted::LogAr)
            }
            Method::DifferencedAr => {
                let step = seasons.short.max(1);
                let d = differences(x, step);
                match RidgeAr::fit(&d, &lags_for(season, long, d.len()), RIDGE) {
                    Some(ar) => Some(Fitted::DifferencedAr(ar, step)),
                    // a straight line has constant differences, and nothing to regress
                    None => (d.len() >= 8).then(|| Fitted::Drift(d.iter().sum::<f64>() / d.len() as f64)),
                }
            }
            Method::Ets => Ets::fit(x, seasons.short).map(Fitted::Ets),
            Method::Arima => arima::automatic(x, seasons).map(|a| Fitted::Arima(Box::new(a))),
        }
    }

    /// `horizon` values after `x`, cut to a sane range. `x` may go on beyond what was fitted to.
    pub fn forecast(&self, x: &[f64], horizon: usize) -> Vec<f64> {
        self.forecast_within(x, horizon, Bounds::around(x))
    }

    /// The same with bounds that are known already.
    pub fn forecast_within(&self, x: &[f64], horizon: usize, bounds: Bounds) -> Vec<f64> {
        let last = x.last().copied().unwrap_or(0.0);
        let tail = |rows: usize| &x[x.len() - rows.min(x.len())..];
        let mut out = match self {
            Fitted::Naive(season) => seasonal_naive(x, *season, horizon),
            Fitted::Drift(slope) => (1..=horizon).map(|h| last + slope * h as f64).collect(),
            Fitted::Ar(ar) => ar.forecast(x, horizon),
            Fitted::LogAr(ar) => match logarithms(tail(ar.longest_lag())) {
                Some(logs) => ar.forecast(&logs, horizon).into_iter().map(f64::exp).collect(),
                None => vec![last; horizon],
            },
            Fitted::DifferencedAr(ar, season) => {
                let recent = tail(ar.longest_lag() + season);
                let steps = ar.forecast(&differences(recent, *season), horizon);
                let mut whole: Vec<f64> = tail(*season).to_vec();
                for (t, step) in steps.into_iter().enumerate() {
                    whole.push(whole[t] + step);
                }
                whole.split_off(*season)
            }
            Fitted::Ets(ets) => ets.forecast(x, horizon),
            Fitted::Arima(arima) => arima.forecast(x, horizon),
        };
        bounds.clip(&mut out, last);
        out
    }

    /// As it is shown: `ARIMA(2,1,1)`, `ridge AR (log)`.
    pub fn name(&self) -> String {
        match self {
            Fitted::Naive(0) => "last value".to_owned(),
            Fitted::Naive(season) => format!("seasonal naive ({season})"),
            Fitted::Ar(_) => "ridge AR".to_owned(),
            Fitted::LogAr(_) => "ridge AR (log)".to_owned(),
            Fitted::DifferencedAr(_, 1) => "ridge AR (steps)".to_owned(),
            Fitted::DifferencedAr(_, season) => format!("ridge AR (differences at {season})"),
            Fitted::Drift(_) => "straight line".to_owned(),
            Fitted::Ets(ets) => ets.name().to_owned(),
            Fitted::Arima(arima) => arima.name(),
        }
    }
}

fn logarithms(x: &[f64]) -> Option<Vec<f64>> {
    x.iter().all(|&v| v > 0.0).then(|| x.iter().map(|v| v.ln()).collect())
}

fn differences(x: &[f64], season: usize) -> Vec<f64> {
    x[season.min(x.len())..].iter().zip(x).map(|(a, b)| a - b).collect()
}
