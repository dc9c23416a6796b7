//! Temperatures, voltages and power supplies from `/sys/class/{hwmon,thermal,power_supply}`.

use std::path::Path;

use super::{Metrics, Roots, entries, number, put, text};

pub(super) fn read(roots: &Roots, metrics: &mut Metrics) {
    let class = roots.sys.join("class");
    let mut hottest = None::<f64>;
    let mut volts = None::<(u8, f64)>;
    for chip in entries(&class.join("hwmon")) {
        for file in entries(&chip) {
            let Some(name) = file.file_name().and_then(|n| n.to_str()) else { continue };
            let Some(sensor) = name.strip_suffix("_input") else { continue };
            if sensor.starts_with("temp") {
                hottest = plausible(number(&file).map(|t| t / 1000.0), hottest);
            } else if sensor.starts_with("in") {
                let label = text(&chip.join(format!("{sensor}_label"))).unwrap_or_default();
                let found = number(&file).map(|v| (supply_rank(&label), v / 1000.0));
                volts = volts.max_by_rank(found);
            }
        }
    }
    if hottest.is_none() {
        for zone in entries(&class.join("thermal")) {
            hottest = plausible(number(&zone.join("temp")).map(|t| t / 1000.0), hottest);
        }
    }
    put(metrics, "temp", hottest);
    put(metrics, "power.volts", volts.map(|(_, volts)| volts));
    for supply in entries(&class.join("power_supply")) {
        power_supply(&supply, metrics);
    }
}

/// The state of one supply: whether mains is there, how full a battery is, its voltage.
fn power_supply(supply: &Path, metrics: &mut Metrics) {
    let mut keep_least = |name: &str, value: Option<f64>| {
        if let Some(value) = value {
            let entry = metrics.entry(name.to_string()).or_insert(value);
            *entry = entry.min(value);
        }
    };
    keep_least("power.online", number(&supply.join("online")).map(|online| online.clamp(0.0, 1.0)));
    keep_least("power.charge", number(&supply.join("capacity")));
    if !metrics.contains_key("power.volts") {
        put(metrics, "power.volts", number(&supply.join("voltage_now")).map(|micro| micro / 1e6));
    }
}

/// Sensors that are not connected say −128 or 127 °C and the like.
fn plausible(read: Option<f64>, hottest: Option<f64>) -> Option<f64> {
    match read.filter(|celsius| (-40.0..=125.0).contains(celsius)) {
        Some(read) => Some(hottest.map_or(read, |hottest| hottest.max(read))),
        None => hottest,
    }
}

/// The 12 V rail speaks for the supply, then 5 V, then any other.
fn supply_rank(label: &str) -> u8 {
    match label.trim() {
        label if label.contains("12V") => 3,
        label if label.contains("5V") || label.contains("5VCC") => 2,
        "" => 0,
        _ => 1,
    }
}

trait MaxByRank {
    fn max_by_rank(self, other: Self) -> Self;
}

impl MaxByRank for Option<(u8, f64)> {
    /// The one of higher rank; the first of equals.
    fn max_by_rank(self, other: Self) -> Self {
        match (self, other) {
            (Some(known), Some(new)) if new.0 > known.0 => Some(new),
            (Some(known), _) => Some(known),
            (None, new) => new,
        }
    }
}
