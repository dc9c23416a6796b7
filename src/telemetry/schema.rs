//! The canonical metrics: what the rest of the house calls what Telegraf, node-exporter and our own
//! agent each call otherwise.

use serde::{Deserialize, Serialize};

/// What a metric is measured in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A share of a whole, in percent.
    Percent,
    /// Milliseconds.
    Millis,
    /// Bytes per second.
    BytesPerSecond,
    /// Events per second.
    PerSecond,
    /// Events per minute.
    PerMinute,
    /// Degrees Celsius.
    Celsius,
    /// Volts.
    Volts,
    /// A plain number.
    Count,
}

impl Unit {
    /// The unit as a screen writes it after a number.
    pub fn suffix(self) -> &'static str {
        match self {
            Unit::Percent => "%",
            Unit::Millis => "ms",
            Unit::BytesPerSecond => "B/s",
            Unit::PerSecond => "/s",
            Unit::PerMinute => "/min",
            Unit::Celsius => "°C",
            Unit::Volts => "V",
            Unit::Count => "",
        }
    }
}

/// One canonical metric.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Metric {
    /// Its canonical name.
    pub name: &'static str,
    /// For people: `disk write latency`.
    pub label: &'static str,
    /// What it is measured in.
    pub unit: Unit,
    /// `+1`: high is bad; `−1`: low is bad; `0`: either.
    pub bad_direction: i8,
    /// A bound that a forecast may cross, where one is natural (percent full).
    pub bound: Option<f32>,
}

const fn metric(
    name: &'static str,
    label: &'static str,
    unit: Unit,
    bad_direction: i8,
    bound: Option<f32>,
) -> Metric {
    Metric { name, label, unit, bad_direction, bound }
}

/// The sixteen canonical metrics that every partition has a place for; others are kept beside them
/// under their own names.
pub const CANONICAL: [Metric; 16] = [
    metric("cpu.busy", "cpu", Unit::Percent, 1, None),
    metric("cpu.iowait", "cpu waiting for disk", Unit::Percent, 1, None),
    metric("mem.used", "memory", Unit::Percent, 1, Some(95.0)),
    metric("mem.pressure", "memory pressure", Unit::Percent, 1, None),
    metric("disk.used", "disk space", Unit::Percent, 1, Some(95.0)),
    metric("disk.read_latency", "disk read latency", Unit::Millis, 1, None),
    metric("disk.write_latency", "disk write latency", Unit::Millis, 1, None),
    metric("disk.throughput", "disk throughput", Unit::BytesPerSecond, 0, None),
    metric("net.throughput", "network throughput", Unit::BytesPerSecond, 0, None),
    metric("net.latency", "network latency", Unit::Millis, 1, None),
    metric("net.loss", "packet loss", Unit::Percent, 1, None),
    metric("log.errors", "error logs", Unit::PerMinute, 1, None),
    metric("temp", "temperature", Unit::Celsius, 1, Some(95.0)),
    metric("power.volts", "supply voltage", Unit::Volts, 0, None),
    metric("queue.depth", "queue depth", Unit::Count, 1, None),
    metric("request.latency", "request latency", Unit::Millis, 1, None),
];

/// The canonical metric of that name.
pub fn canonical(name: &str) -> Option<&'static Metric> {
    CANONICAL.iter().find(|m| m.name == name)
}
