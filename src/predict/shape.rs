//! The scale on which a metric is judged: one on which it is roughly symmetric, and the least spread that counts there.

use crate::telemetry::{Metric, Unit};

/// The scale on which a metric is judged, and the least spread that is taken seriously there.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Shape {
    /// As it is. The floor is `floor + relative × |location|`.
    Linear {
        /// In the metric's unit.
        floor: f32,
        /// Share of the location.
        relative: f32,
    },
    /// `ln(x + offset)`: latencies and rates, whose spread grows with their level.
    Log {
        /// In the metric's unit; below it differences count little.
        offset: f32,
        /// On the log scale.
        floor: f32,
    },
}

impl Shape {
    /// The shape of a canonical metric by its unit; of a foreign metric without one, linear with a
    /// relative floor.
    pub fn of(metric: Option<&Metric>) -> Self {
        match metric.map(|m| m.unit) {
            Some(Unit::Percent) => Shape::Linear { floor: 1.0, relative: 0.0 },
            Some(Unit::Celsius) => Shape::Linear { floor: 0.7, relative: 0.0 },
            Some(Unit::Volts) => Shape::Linear { floor: 0.0, relative: 0.003 },
            Some(Unit::Millis) => Shape::Log { offset: 0.1, floor: 0.08 },
            Some(Unit::BytesPerSecond) => Shape::Log { offset: 1e5, floor: 0.1 },
            Some(Unit::PerSecond) => Shape::Log { offset: 1.0, floor: 0.1 },
            Some(Unit::PerMinute | Unit::Count) => Shape::Log { offset: 1.0, floor: 0.25 },
            None => Shape::Linear { floor: 1e-6, relative: 0.05 },
        }
    }

    /// From the metric's unit to the scale of judgement; NaN stays NaN.
    pub fn to(self, x: f32) -> f32 {
        match self {
            Shape::Linear { .. } => x,
            Shape::Log { offset, .. } => (x.clamp(0.0, f32::INFINITY) + offset).ln(),
        }
    }

    /// And back.
    pub fn from(self, y: f32) -> f32 {
        match self {
            Shape::Linear { .. } => y,
            Shape::Log { offset, .. } => (y.exp() - offset).max(0.0),
        }
    }

    /// A small spread around `x`, carried over to the scale of judgement.
    pub fn spread(self, x: f32, sd: f32) -> f32 {
        match self {
            Shape::Linear { .. } => sd,
            Shape::Log { offset, .. } => sd / (x.max(0.0) + offset),
        }
    }

    /// The least scale at a location.
    pub fn floor(self, location: f32) -> f32 {
        match self {
            Shape::Linear { floor, relative } => floor + relative * location.abs(),
            Shape::Log { floor, .. } => floor,
        }
    }
}
