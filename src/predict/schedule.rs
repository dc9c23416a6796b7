//! Forecasts on a rolling schedule, so that a cycle's cost is bounded whatever the fleet's size.
//!
//! Suspects are refreshed every few cycles, everybody else when their turn comes (partition `p` in
//! cycle `c` where `(c + p) mod every_cycles = 0`), partitions without any as long as the cycle's
//! budget of series lasts. Of a partition the most unusual metrics are forecast, then those that have
//! a bound, nearest to it first. The network of an application, where one was trained, is tried on so many
//! series a cycle, the most urgent first; ARIMA, which costs the most, on a few series of suspects.

use rayon::prelude::*;

use super::assess::Assessor;
use super::assessment::{Crossing, Forecast};
use super::column::Column;
use super::forecast::clean::coarse;
use super::forecast::{Effort, Network, Seasons, short};
use super::health;
use super::options::ForecastOptions;
use super::train::ForecastModel;
use crate::fleet::{MetricName, Span, Timestamp};
use crate::telemetry::{MetricIx, PartitionIx, Windows};

/// A partition is a suspect for the schedule from this instability on.
const SUSPECT: f32 = 5.0;
/// A metric is forecast because it is unusual from this deviation on.
const UNUSUAL: f64 = 3.0;
/// Crossings further ahead than this are not looked for.
const SIGHT: Span = Span::hours(24);

impl Assessor {
    /// Makes the forecasts that are due in this cycle.
    pub(super) fn forecast_due(&mut self, windows: &Windows, now: Timestamp) {
        let options = self.options.forecast;
        let due = self.due(&options, windows.partitions().len());
        let width = self.columns.len();
        let with_network = options.networks / options.metrics.max(1);
        let with_arima = options.arimas / options.metrics.max(1);
        let made: Vec<(u32, Vec<Forecast>)> = due
            .into_par_iter()
            .enumerate()
            .map(|(turn, p)| {
                let cells = p as usize * width..(p as usize + 1) * width;
                let metrics = chosen(
                    &self.columns,
                    &self.levels[cells.clone()],
                    &self.deviations[cells],
                    windows.metrics().len(),
                    options.metrics,
                );
                let network = (turn < with_network).then(|| self.network_of(windows, p)).flatten();
                let thorough = turn < with_arima && self.rows[p as usize].instability >= SUSPECT;
                let effort = if thorough { Effort::Thorough } else { Effort::Quick };
                let forecasts = metrics
                    .into_iter()
                    .filter_map(|m| self.forecast(windows, PartitionIx(p), m, (effort, network), now))
                    .collect();
                (p, forecasts)
            })
            .collect();
        for (p, forecasts) in made {
            let last = &self.last[p as usize * width..(p as usize + 1) * width];
            let missed: Vec<&MetricName> =
                self.columns.iter().zip(last).filter(|(_, l)| l.is_missed).map(|(c, _)| &c.name).collect();
            let row = &mut self.rows[p as usize];
            // What is missing may still be on its way to its bound.
            row.forecasts.retain(|f| missed.contains(&&f.metric));
            row.forecasts.splice(0..0, forecasts);
            row.forecast_cycle = Some(self.cycle);
        }
        // What is not known any more has no future either.
        for row in self.rows.iter_mut().filter(|r| r.gap.is_some() && !r.forecasts.is_empty()) {
            row.forecasts.clear();
            row.forecast_cycle = None;
        }
    }

    /// Who is due, most urgent first, within the budget.
    fn due(&self, options: &ForecastOptions, count: usize) -> Vec<u32> {
        let every = u64::from(options.every_cycles.max(1));
        let suspects_every = u64::from(options.suspects_every_cycles.max(1));
        let most = options.budget / options.metrics.max(1);
        let mut due: Vec<(u8, f32, u32)> = Vec::new();
        for (p, row) in self.rows.iter().take(count).enumerate().filter(|(_, r)| r.gap.is_none()) {
            let age = row.forecast_cycle.map(|made| self.cycle.saturating_sub(made));
            let urgency = match age {
                _ if row.instability >= SUSPECT && age.is_none_or(|a| a >= suspects_every) => 0,
                Some(_) if (self.cycle + p as u64).is_multiple_of(every) => 1,
                Some(age) if age > every => 1,
                None => 2,
                Some(_) => continue,
            };
            due.push((urgency, row.instability, p as u32));
        }
        due.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
        due.truncate(most);
        due.into_iter().map(|d| d.2).collect()
    }

    /// From now on this network is among the candidates for the series of its application. One for other
    /// steps than forecasts are made in is left out; says whether it is used.
    pub fn use_forecaster(&mut self, model: ForecastModel) -> bool {
        let fits = model.step == self.options.forecast.step;
        if fits {
            self.forecasters.insert(model.application.clone(), model);
        }
        fits
    }

    /// The network that may be tried on a partition's window: it has seen nothing of it.
    fn network_of(&self, windows: &Windows, partition: u32) -> Option<&Network> {
        let model = self.forecasters.get(self.derived.group_name(partition as usize))?;
        (model.until <= windows.tail()).then_some(&model.network)
    }

    fn forecast(
        &self,
        windows: &Windows,
        partition: PartitionIx,
        metric: usize,
        (effort, network): (Effort, Option<&Network>),
        now: Timestamp,
    ) -> Option<Forecast> {
        let options = &self.options.forecast;
        let column = &self.columns[metric];
        let step = windows.config().step;
        let slots = (options.step.0 / step.0).max(1) as usize;
        let step = Span(step.0 * slots as i64);
        let history = coarse(windows.row(partition, MetricIx(metric as u16)), slots);
        let seen = short(&history, options.horizon, Seasons::default(), effort, network)?;
        // Predictions are made for the time after the newest slot, which may be behind now.
        let start = windows.head().max(now - step) + step;
        let level = self.levels[partition.0 as usize * self.columns.len() + metric];
        let mut forecast = seen.named(column.name.clone(), start, step, column.bound);
        if let Some(bound) = column.bound {
            let over = if column.bad_direction < 0 { level <= bound } else { level >= bound };
            if over {
                forecast.crossing = Some(Crossing { bound, at: now, between: (now, Some(now)) });
            } else if forecast.crossing.is_none() {
                forecast.crossing = beyond(&forecast, bound);
            }
        }
        Some(forecast)
    }
}

/// Which metrics of a partition are forecast.
fn chosen(
    columns: &[Column],
    levels: &[f32],
    deviations: &[f32],
    measured: usize,
    most: usize,
) -> Vec<usize> {
    let mut found: Vec<(f64, usize)> = (0..measured.min(columns.len()))
        .filter(|&m| !levels[m].is_nan())
        .filter_map(|m| {
            let deviation = health::bad_deviation(f64::from(deviations[m]), columns[m].bad_direction);
            let near = columns[m].bound.map(|b| f64::from(levels[m] / b.max(1e-6)).clamp(0.0, 1.0));
            match (deviation >= UNUSUAL, near) {
                (true, _) => Some((1.0 + deviation, m)),
                (false, Some(near)) => Some((near, m)),
                (false, None) => None,
            }
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.into_iter().take(most).map(|f| f.1).collect()
}

/// A crossing beyond the forecast's end, within a day: median and 90 % interval go on as they rose over
/// the forecast's last half, the interval's edges from the present level.
fn beyond(forecast: &Forecast, bound: f32) -> Option<Crossing> {
    let n = forecast.median.len();
    let last = *forecast.median.last()?;
    let middle = *forecast.median.get(n / 2)?;
    let rising = last < bound;
    let toward = |v: f32| if rising { v } else { -v };
    let rate = toward(last - middle) / (n - n / 2).max(1) as f32;
    let left = toward(bound - last);
    let end = forecast.start + Span(forecast.step.0 * (n as i64 - 1));
    let after = |steps: f32| end + Span((f64::from(steps) * forecast.step.0 as f64) as i64);
    // Less than a tenth of what is left in a day is no trend.
    let sight = SIGHT.0 as f32 / forecast.step.0.max(1) as f32;
    if !(rate.is_finite() && rate > 0.0 && left / rate <= sight) {
        return None;
    }
    let edges = (*forecast.band90.0.last()?, *forecast.band90.1.last()?);
    let (near, far) = if rising { (edges.1, edges.0) } else { (edges.0, edges.1) };
    let first = *forecast.median.first()?;
    let rate_of = |edge: f32| toward(edge - first) / n.max(1) as f32;
    let fast = (left / rate_of(near).max(rate)).max(0.0);
    let slow = rate_of(far);
    let latest = (slow > 0.0).then(|| left / slow).filter(|steps| *steps <= sight);
    Some(Crossing {
        bound,
        at: after(left / rate),
        between: (after(fast), latest.map(|steps| after(steps.max(left / rate)))),
    })
}
