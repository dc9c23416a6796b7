//! The report of an evaluation: one JSON object for programs, a table for people.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::datasets::Skipped;

/// One series, machine or group of units.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SeriesReport {
    /// `machine-1-7`, `H1`, `FD001`.
    pub name: String,
    /// Measures in the order in which they are shown; NaN where the series has not the measure.
    pub measures: Vec<(&'static str, f64)>,
    /// Seconds of training.
    pub train_s: f64,
    /// Samples scored a second, one thread.
    pub score_points_per_s: f64,
}

/// A whole evaluation.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Report {
    /// `anomaly`, `forecast`, `failure`.
    pub task: &'static str,
    /// `smd`, `nab`, …
    pub format: &'static str,
    /// How the data was split and judged.
    pub protocol: String,
    /// One entry a series.
    pub series: Vec<SeriesReport>,
    /// Over all series that have the measure; the plain mean unless it is one of the whole set.
    pub mean: Vec<(&'static str, f64)>,
    /// Measures whose threshold was chosen with the labels in sight.
    pub oracle: Vec<&'static str>,
    /// What a reader must know to take the figures rightly.
    pub notes: Vec<String>,
    /// What of the data was left out.
    pub skipped: Vec<Skipped>,
}

impl Report {
    /// The plain mean of every measure over the series that have it; NaN where none has.
    pub fn mean_of(series: &[SeriesReport]) -> Vec<(&'static str, f64)> {
        let Some(first) = series.first() else { return Vec::new() };
        first
            .measures
            .iter()
            .enumerate()
            .map(|(k, (name, _))| {
                let values = series.iter().filter_map(|s| s.measures.get(k)).map(|m| m.1);
                let (sum, count) =
                    values.filter(|v| !v.is_nan()).fold((0.0, 0.0), |(s, n), v| (s + v, n + 1.0));
                (*name, sum / count)
            })
            .collect()
    }

    /// One object: task, format, protocol, series, mean, oracle, notes, skipped, peak_rss_mb. A measure that a
    /// series has not is null.
    pub fn to_json(&self) -> Value {
        let measures = |list: &[(&'static str, f64)]| -> Map<String, Value> {
            list.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
        };
        let series: Vec<Value> = self
            .series
            .iter()
            .map(|s| {
                let mut one = Map::new();
                one.insert("name".to_owned(), json!(s.name));
                one.extend(measures(&s.measures));
                one.insert("train_s".to_owned(), json!(s.train_s));
                one.insert("score_points_per_s".to_owned(), json!(s.score_points_per_s));
                Value::Object(one)
            })
            .collect();
        json!({
            "task": self.task,
            "format": self.format,
            "protocol": self.protocol,
            "series": series,
            "mean": measures(&self.mean),
            "oracle": self.oracle,
            "notes": self.notes,
            "skipped": self.skipped,
            "peak_rss_mb": peak_rss_mb(),
        })
    }

    /// A table; oracle figures stand under names that say so.
    pub fn to_table(&self) -> String {
        let mut out = format!("{} · {} · {}\n", self.task, self.format, self.protocol);
        let name = |m: &str| if self.oracle.contains(&m) { format!("{m} (oracle)") } else { m.to_owned() };
        let wide = self.series.iter().map(|s| s.name.chars().count()).max().unwrap_or(0).max(6);
        let columns: Vec<String> =
            self.series.first().map(|s| s.measures.iter().map(|m| name(m.0)).collect()).unwrap_or_default();
        let _ = write!(out, "{:wide$}", "");
        for column in &columns {
            let _ = write!(out, "  {column:>12}");
        }
        let _ = writeln!(out, "  {:>8}  {:>10}", "train s", "M points/s");
        for s in &self.series {
            let _ = write!(out, "{:wide$}", s.name);
            for (column, (_, value)) in columns.iter().zip(&s.measures) {
                let _ = write!(out, "  {:>w$}", shown(*value), w = column.chars().count().max(12));
            }
            let _ = writeln!(out, "  {:>8.3}  {:>10.2}", s.train_s, s.score_points_per_s / 1e6);
        }
        let _ = writeln!(out, "over all");
        for (measure, value) in &self.mean {
            let _ = writeln!(out, "  {:<34} {}", name(measure), shown(*value));
        }
        out + &closing(&self.notes, &self.skipped)
    }
}

/// A measure, or a dash where there is none.
pub fn shown(value: f64) -> String {
    if value.is_nan() { "–".to_owned() } else { format!("{value:.4}") }
}

/// What stands below the figures: memory, notes, and what was left out.
pub fn closing(notes: &[String], skipped: &[Skipped]) -> String {
    let mut out = format!("  {:<34} {:.0}\n", "peak_rss_mb", peak_rss_mb());
    for note in notes {
        let _ = writeln!(out, "note: {note}");
    }
    for one in skipped {
        let _ = writeln!(out, "skipped: {}: {}", one.name, one.reason);
    }
    out
}

/// The most memory this process has held, in MB; 0 where the system does not say.
pub fn peak_rss_mb() -> f64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find(|l| l.starts_with("VmHWM:"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        })
        .map_or(0.0, |kb| (kb / 1024.0 * 10.0).round() / 10.0)
}
