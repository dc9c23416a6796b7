//! The forecast that the engine asks for on every metric it watches: a window as it is, with gaps, and a
//! horizon; out come the median and the two bands that are shown. It never fails: where nothing can be said
//! it says so by giving nothing.

use super::{
    candidate::{Method, Seasons},
    clean::without_gaps,
    network::Network,
    outlook::outlook,
};
use crate::fleet::{MetricName, Span, Timestamp};
use crate::predict::assessment::{Crossing, Forecast};

/// Values looked at; older ones are left out so that the cost per metric is bounded.
const MOST: usize = 2048;
/// Fewest finite values, and their smallest share, below which nothing is said.
const FEWEST: usize = 8;

/// A forecast without its metric and time.
#[derive(Clone, PartialEq, Debug)]
pub struct ShortForecast {
    /// Median, one value a step.
    pub median: Vec<f32>,
    /// 50 % interval: low and high.
    pub band50: (Vec<f32>, Vec<f32>),
    /// 90 % interval: low and high.
    pub band90: (Vec<f32>, Vec<f32>),
    /// What was combined, with orders.
    pub method: String,
}

/// How much may be spent on one forecast.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Effort {
    /// About a million values a second: ridge autoregressions, seasonal naive, smoothing.
    #[default]
    Quick,
    /// ARIMA with automatic order among the candidates, too: some milliseconds for a window of sixty values.
    Thorough,
}

/// Forecasts `horizon` steps after `history` (NaN = missing, oldest first; the newest 2,048 values count).
/// `None` where fewer than 8 values, or under a tenth of them, are there. `network`: an LSTM to be tried
/// beside the other methods, trained on what lies before this history.
pub fn short(
    history: &[f32],
    horizon: usize,
    seasons: Seasons,
    effort: Effort,
    network: Option<&Network>,
) -> Option<ShortForecast> {
    let history = &history[history.len().saturating_sub(MOST)..];
    let finite = history.iter().filter(|v| v.is_finite()).count();
    if finite < FEWEST || finite * 10 < history.len() || horizon == 0 {
        return None;
    }
    let known = seasons.within(history.len());
    let x = without_gaps(history, (known.short > 0).then_some(known.short))?;
    let mut methods = if known.short > 0 { Method::SEASONAL.to_vec() } else { Method::PLAIN.to_vec() };
    if effort == Effort::Thorough {
        let missing: Vec<Method> =
            [Method::Ets, Method::Arima].into_iter().filter(|m| !methods.contains(m)).collect();
        methods.extend(missing);
    }
    let seen = outlook(&x, known, horizon, &methods, network)?;
    let narrow = |(low, high): (Vec<f64>, Vec<f64>)| {
        (low.iter().map(|&v| v as f32).collect(), high.iter().map(|&v| v as f32).collect())
    };
    Some(ShortForecast {
        median: seen.median.iter().map(|&v| v as f32).collect(),
        band50: narrow(seen.band(0.5)),
        band90: narrow(seen.band(0.9)),
        method: seen.method,
    })
}

/// When the median of `forecast` first crosses `bound` (from the side on which it starts), and the earliest
/// and latest by the 90 % interval. `None` where not even the interval reaches it, or it is over it already
/// (then the breach is now, not ahead).
pub fn crossing(forecast: &ShortForecast, start: Timestamp, step: Span, bound: f32) -> Option<Crossing> {
    let first = *forecast.median.first()?;
    let rising = first < bound;
    let beyond = |v: f32| if rising { v >= bound } else { v <= bound };
    let (near, far) = if rising {
        (&forecast.band90.1, &forecast.band90.0)
    } else {
        (&forecast.band90.0, &forecast.band90.1)
    };
    let at = |k: usize| Timestamp(start.0 + step.0 * k as i64);
    let place = |values: &[f32]| values.iter().position(|&v| beyond(v));
    let median = place(&forecast.median)?;
    let earliest = place(near).unwrap_or(median).min(median);
    Some(Crossing { bound, at: at(median), between: (at(earliest), place(far).map(at)) })
}

impl ShortForecast {
    /// With its metric, the time of its first step and its step; `bound` is where a breach begins.
    pub fn named(self, metric: MetricName, start: Timestamp, step: Span, bound: Option<f32>) -> Forecast {
        let crossing = bound.and_then(|b| crossing(&self, start, step, b));
        Forecast {
            metric,
            start,
            step,
            median: self.median,
            band50: self.band50,
            band90: self.band90,
            method: self.method,
            crossing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filling_disk_crosses_its_bound_in_time_with_an_interval() {
        let history: Vec<f32> = (0..240)
            .map(|t| if t % 17 == 3 { f32::NAN } else { 40.0 + 0.2 * t as f32 + (t % 3) as f32 * 0.1 })
            .collect();
        let seen = short(&history, 60, Seasons::default(), Effort::Quick, None).expect("forecast");
        // 88 now, 0.2 a step: 95 in about 35 steps
        let crossed = crossing(&seen, Timestamp(0), Span(60_000), 95.0).expect("crosses");
        let steps = crossed.at.0 / 60_000;
        assert!((25..=45).contains(&steps), "{steps} {} {:?}", seen.method, seen.median);
        assert!(crossed.between.0 <= crossed.at && crossed.between.1.is_none_or(|l| l >= crossed.at));
        assert!(crossing(&seen, Timestamp(0), Span(1), 1e6).is_none());
    }

    #[test]
    fn gaps_constants_and_shreds_are_taken_as_they_are() {
        let constant = short(&[3.0; 120], 10, Seasons::default(), Effort::Quick, None).expect("forecast");
        assert!(constant.median.iter().all(|&v| v == 3.0));
        assert!(constant.band90.0.iter().chain(&constant.band90.1).all(|&v| v == 3.0));
        assert!(short(&[f32::NAN; 100], 10, Seasons::default(), Effort::Quick, None).is_none());
        assert!(short(&[1.0, 2.0], 10, Seasons::default(), Effort::Quick, None).is_none());
        let mut shreds = vec![f32::NAN; 300];
        (0..60).for_each(|k| shreds[k * 5] = k as f32);
        assert!(short(&shreds, 10, Seasons::HOURLY, Effort::Thorough, None).is_some());
    }
}
