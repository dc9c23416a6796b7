//! What is known of a metric itself, laid out once for the whole fleet: its shape, bad direction,
//! bound, weights, and the shipped expectation for a partition of which nothing is known.

use super::options::AssessOptions;
use super::shape::Shape;
use crate::fleet::MetricName;
use crate::telemetry::{Unit, schema};

/// One metric, for all partitions.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: MetricName,
    pub(super) label: String,
    pub(super) unit: Option<Unit>,
    pub(super) shape: Shape,
    pub(super) bad_direction: i8,
    pub(super) bound: Option<f32>,
    /// Location and standard deviation on the scale of judgement that the shipped model expects.
    pub(super) prior: Option<(f32, f32)>,
    /// Only work has it: of a partition that hosts nothing it is not expected.
    pub(super) of_work: bool,
    /// Weight by kind of hosted work, in the order of `Derived::kinds`.
    pub(super) weights: Vec<f64>,
}

impl Column {
    pub(super) fn new(name: &MetricName, options: &AssessOptions) -> Self {
        let metric = schema::canonical(name.as_str());
        let shape = Shape::of(metric);
        let own = options.bounds.iter().find(|b| b.0 == name.as_str()).map(|b| b.1);
        Column {
            name: name.clone(),
            label: metric.map_or_else(|| name.to_string(), |m| m.label.to_string()),
            unit: metric.map(|m| m.unit),
            shape,
            bad_direction: metric.map_or(0, |m| m.bad_direction),
            bound: own.or(metric.and_then(|m| m.bound)),
            prior: prior(name.as_str(), shape),
            of_work: ["request.", "queue."].iter().any(|of| name.as_str().starts_with(of)),
            weights: Vec::new(),
        }
    }

    /// Weights for `kinds`.
    pub(super) fn weigh(&mut self, kinds: &[String], options: &AssessOptions) {
        self.weights = kinds
            .iter()
            .map(|k| options.weight_of(self.name.as_str(), (!k.is_empty()).then_some(k.as_str())))
            .collect();
    }

    /// A value with its unit, as a person reads it.
    pub(super) fn value(&self, x: f32) -> String {
        let (x, suffix) = match self.unit {
            Some(Unit::BytesPerSecond) => {
                let bytes = crate::fleet::Bytes(if x.is_finite() { x.max(0.0) as u64 } else { 0 });
                return format!("{bytes}/s");
            }
            Some(unit) => (x, unit.suffix()),
            None => (x, ""),
        };
        let number = digits(x);
        match suffix {
            "" => number,
            "/s" | "/min" => format!("{number}{suffix}"),
            _ => format!("{number} {suffix}"),
        }
    }

    /// A range with its unit.
    pub(super) fn range(&self, low: f32, high: f32) -> String {
        match self.unit {
            Some(Unit::BytesPerSecond) => format!("{}–{}", self.value(low), self.value(high)),
            _ => format!("{}–{}", digits(low), self.value(high)),
        }
    }
}

/// Two or three significant digits.
fn digits(x: f32) -> String {
    match x.abs() {
        a if a >= 10.0 => format!("{x:.0}"),
        a if a >= 1.0 => {
            let text = format!("{x:.1}");
            text.strip_suffix(".0").map(str::to_string).unwrap_or(text)
        }
        a if a >= 0.005 => format!("{x:.2}"),
        _ => "0".to_string(),
    }
}

/// Wide expectations of an ordinary server, for the first minutes of a fleet without history.
fn prior(name: &str, shape: Shape) -> Option<(f32, f32)> {
    let (typical, sd) = match name {
        "cpu.busy" => (40.0, 20.0),
        "cpu.iowait" => (3.0, 6.0),
        "mem.used" => (60.0, 18.0),
        "mem.pressure" => (2.0, 6.0),
        "disk.used" => (50.0, 22.0),
        "disk.read_latency" | "disk.write_latency" => (3.0, 1.0),
        "net.latency" => (1.5, 1.2),
        "net.loss" => (0.0, 1.0),
        "log.errors" => (1.0, 1.0),
        "temp" => (45.0, 12.0),
        "queue.depth" => (10.0, 1.5),
        "request.latency" => (20.0, 1.3),
        _ => return None,
    };
    Some((shape.to(typical), sd))
}
