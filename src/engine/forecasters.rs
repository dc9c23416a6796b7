//! Networks for forecasts, one an application: while the teacher reads the history of partitions for their
//! detectors, stretches of every series are put aside by application, and when there are enough of them, once
//! a day, a network is trained from them by the same thread of lowest priority. Its time and memory are
//! bounded: about 2 s of a core a network, 1.2 MB an application while stretches are gathered.
//!
//! The newest part of the history, as long as the engine's windows, is left out: what the network says of a
//! window is blind, and so is the backtest in which it is chosen or not.

use std::collections::BTreeMap;

use crate::fleet::rng::Random;
use crate::fleet::{PartitionId, Span, Timestamp};
use crate::predict::ForecastOptions;
use crate::predict::forecast::Shape;
use crate::predict::forecast::clean::coarse;
use crate::predict::train::forecaster::NoForecaster;
use crate::predict::train::{ForecastModel, Stretches};
use crate::telemetry::{MetricIx, PartitionIx, Windows, WindowsConfig};

/// Applications whose stretches are gathered at once, 1.2 MB each; others wait until one of them is trained.
const MOST_AT_ONCE: usize = 16;
/// Applications that have a network at all, about 20 KB each.
const MOST: usize = 256;
/// A network is trained anew after this time.
const EVERY: Span = Span::days(1);

/// What is gathered of each application, and when its network was trained.
#[derive(Debug)]
pub struct Forecasters {
    step: Span,
    shape: Shape,
    by_application: BTreeMap<String, Gathered>,
}

#[derive(Debug)]
struct Gathered {
    stretches: Option<Stretches>,
    trained: Option<Timestamp>,
}

impl Forecasters {
    /// For forecasts as these options make them.
    pub fn new(options: &ForecastOptions) -> Self {
        let shape = Shape { ahead: options.horizon.max(1), ..Shape::PLAIN };
        Self { step: options.step, shape, by_application: BTreeMap::new() }
    }

    /// Puts stretches of a partition's series aside. `live` is the grid of the engine's windows: as much of
    /// the newest history as they hold is left out.
    pub fn gather(
        &mut self,
        windows: &Windows,
        partition: PartitionIx,
        (name, application): (&PartitionId, &str),
        live: WindowsConfig,
        now: Timestamp,
    ) {
        if !self.by_application.contains_key(application) {
            if self.by_application.len() >= MOST {
                return;
            }
            let new = Gathered { stretches: None, trained: None };
            self.by_application.insert(application.to_string(), new);
        }
        let at_work = self.by_application.values().filter(|one| one.stretches.is_some()).count();
        let Some(own) = self.by_application.get_mut(application) else { return };
        let due = own.trained.is_none_or(|at| at + EVERY <= now);
        if !due || (own.stretches.is_none() && at_work >= MOST_AT_ONCE) {
            return;
        }
        let stretches = own.stretches.get_or_insert_with(|| Stretches::new(self.shape));
        let step = windows.config().step;
        let slots = (self.step.0 / step.0.max(1)).max(1) as usize;
        let seen = ((until(live, now) - windows.tail()).0 / step.0).clamp(0, windows.config().len as i64);
        let mut row = vec![f32::NAN; windows.config().len];
        let random = Random::new(now.0 as u64).fork(name.as_str());
        for m in 0..windows.metrics().len() {
            let metric = MetricIx(m as u16);
            if windows.newest(partition, metric).is_some() {
                windows.copy_row(partition, metric, &mut row);
                let series = coarse((&row[..seen as usize], &[]), slots);
                let first = series.iter().position(|v| v.is_finite()).unwrap_or(series.len());
                stretches.add(&series[first..], &mut random.fork(windows.metrics()[m].as_str()));
            }
        }
    }

    /// Trains the networks of applications of which enough is gathered: plenty of it, or, at the `end` of a
    /// round, as much as is needed. Logs what came of each.
    pub fn train(&mut self, at: Stage, live: WindowsConfig, now: Timestamp) -> Vec<ForecastModel> {
        let mut out = Vec::new();
        for (application, own) in &mut self.by_application {
            let enough = |s: &mut Stretches| match at {
                Stage::Within => s.are_plenty(),
                Stage::End => s.suffice(),
            };
            let Some(stretches) = own.stretches.take_if(enough) else { continue };
            own.trained = Some(now);
            match ForecastModel::train(application, &stretches, self.step, (now, until(live, now))) {
                Ok(model) => {
                    let [error, last_value] = model.errors;
                    let [series, stretches] = model.trained_on;
                    tracing::info!(%application, series, stretches, error, last_value, "a network for forecasts");
                    out.push(model);
                }
                Err(NoForecaster::TooLittle) => {}
                Err(reason) => tracing::info!(%application, %reason, "no network for forecasts"),
            }
        }
        let waiting = self.by_application.values().filter(|one| one.stretches.is_some()).count();
        if at == Stage::End && waiting >= MOST_AT_ONCE {
            // Too young, all of them: they must not keep others from being gathered.
            self.by_application.values_mut().for_each(|one| one.stretches = None);
        }
        out
    }
}

/// Where in a round of teaching.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// More partitions follow.
    Within,
    /// All were read.
    End,
}

/// Nothing later is looked at.
fn until(live: WindowsConfig, now: Timestamp) -> Timestamp {
    now.floor(live.step) - Span(live.len as i64 * live.step.0)
}
