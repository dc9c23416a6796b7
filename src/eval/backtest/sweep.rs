//! The same predictions under other thresholds: one state machine of the engine
//! ([`PredictionMachine`]) a partition and threshold, fed with the readings of the replay.
//!
//! A threshold is tried on its window alone, off at half, with the configured k of n. What the planner
//! would have added (limits, the storm brake, no place to go) is not in a curve.

use serde::Serialize;

use super::calls::{Call, is_over};
use super::tally::{Rates, Tally, tally};
use super::truth::Truth;
use crate::fleet::{PartitionId, PredictionState, Probability, Span, Timestamp};
use crate::predict::{Evacuation, HysteresisOptions, PredictionMachine, Reading, WindowThreshold};

/// The thresholds that are tried beside the configured one.
const GRID: [f64; 22] = [
    0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85,
    0.9, 0.95, 0.98,
];

/// One threshold on one window, over the whole fleet.
#[derive(Clone, Debug)]
struct Tried {
    threshold: f64,
    configured: bool,
    options: HysteresisOptions,
    machines: Vec<PredictionMachine>,
    /// Partitions in an episode that was called.
    open: Vec<bool>,
    calls: Vec<Call>,
}

/// All thresholds of one window.
#[derive(Clone, Debug)]
struct Window {
    within: Span,
    tried: Vec<Tried>,
}

/// All windows that have a threshold.
#[derive(Clone, Debug)]
pub struct Sweep(Vec<Window>);

/// The curve of one window.
#[derive(Clone, PartialEq, Debug)]
pub struct Curve {
    /// The window.
    pub within: Span,
    /// Lowest threshold first.
    pub points: Vec<Point>,
}

/// One threshold of a curve.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Point {
    /// From this probability on work is moved.
    pub threshold: f64,
    /// It is the one of the configuration.
    pub configured: bool,
    /// What it would have come to.
    #[serde(flatten)]
    pub tally: Tally,
    /// What it would have called.
    #[serde(skip)]
    pub calls: Vec<Call>,
}

impl Sweep {
    /// For the windows and the k of n of these options.
    pub fn new(hysteresis: &HysteresisOptions) -> Self {
        let window = |configured: &WindowThreshold| {
            let on = configured.on.get();
            let mut all: Vec<f64> = GRID.iter().copied().filter(|t| (t - on).abs() > 1e-9).collect();
            all.push(on);
            all.sort_by(f64::total_cmp);
            let tried = all.into_iter().map(|threshold| {
                let own = (threshold - on).abs() <= 1e-9;
                let half = WindowThreshold {
                    within: configured.within,
                    on: Probability::clamped(threshold).unwrap_or(configured.on),
                    off: Probability::clamped(threshold / 2.0).unwrap_or(configured.off),
                };
                let thresholds = vec![if own { *configured } else { half }];
                Tried {
                    threshold,
                    configured: own,
                    options: HysteresisOptions { thresholds, ..hysteresis.clone() },
                    machines: Vec::new(),
                    open: Vec::new(),
                    calls: Vec::new(),
                }
            });
            Window { within: configured.within, tried: tried.collect() }
        };
        Self(hysteresis.thresholds.iter().map(window).collect())
    }

    /// Takes the reading of one partition at one cycle; `index` is its dense number.
    pub fn take(&mut self, index: usize, partition: &PartitionId, reading: Reading<'_>, now: Timestamp) {
        for window in &mut self.0 {
            for tried in &mut window.tried {
                if tried.machines.len() <= index {
                    tried.machines.resize_with(index + 1, || PredictionMachine::new(now));
                    tried.open.resize(index + 1, false);
                }
                let machine = &mut tried.machines[index];
                let _ = machine.step(reading, Evacuation::None, &tried.options, now);
                let open = &mut tried.open[index];
                if machine.state() == PredictionState::PredictiveFailure && !*open {
                    *open = true;
                    tried.calls.push(Call { partition: partition.clone(), at: now, within: window.within });
                } else if is_over(machine.state()) {
                    *open = false;
                }
            }
        }
    }

    /// The curves.
    pub fn finish(self, truth: &Truth, rates: &Rates) -> Vec<Curve> {
        let point = |tried: Tried| Point {
            threshold: tried.threshold,
            configured: tried.configured,
            tally: tally(&tried.calls, truth, rates),
            calls: tried.calls,
        };
        let curve = |w: Window| Curve { within: w.within, points: w.tried.into_iter().map(point).collect() };
        self.0.into_iter().map(curve).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::{Calibration, FailureForecast};

    #[test]
    fn a_lower_threshold_calls_earlier_and_an_episode_is_called_once() {
        let options = HysteresisOptions {
            thresholds: vec![WindowThreshold {
                within: Span::minutes(15),
                on: Probability::new(0.5).unwrap(),
                off: Probability::new(0.3).unwrap(),
            }],
            ..HysteresisOptions::default()
        };
        let mut sweep = Sweep::new(&options);
        for minute in 0..100i64 {
            let p = (minute as f64 / 100.0).min(0.93);
            let failure = [FailureForecast {
                within: Span::minutes(15),
                probability: Probability::new(p).unwrap(),
                calibration: Calibration::Shipped,
            }];
            let reading =
                Reading::Known { instability: 9.0, beside_peers: 9.0, alarm: false, failure: &failure };
            sweep.take(0, &"p".into(), reading, Timestamp(minute * 60_000));
        }
        let truth = Truth::new(Vec::new(), Timestamp(i64::MAX / 2));
        let curves = sweep.finish(&truth, &Rates::default());
        let points = &curves[0].points;
        assert_eq!(points.len(), GRID.len(), "the configured one stands in its place");
        assert_eq!(points.iter().filter(|p| p.configured).map(|p| p.threshold).collect::<Vec<_>>(), [0.5]);
        let first = |threshold: f64| {
            let found = points.iter().find(|p| p.threshold == threshold).unwrap();
            assert!(found.calls.len() <= 1, "one episode");
            found.calls.first().map(|c| c.at.0 / 60_000)
        };
        // The third reading of four at or over it.
        assert_eq!((first(0.2), first(0.5), first(0.95)), (Some(22), Some(52), None));
    }
}
