//! How well failures are predicted, on public data: C-MAPSS engines ([`cmapss`]) and Backblaze drives
//! ([`backblaze`]), through the code of features, models and calibration that the product has. What is searched
//! through is not the same: C-MAPSS chooses among more candidates than `foreshift train` does, and Backblaze, with few
//! failures, chooses by folds of drives. The figures are those of the methods, not of the shipped models.

pub mod actions;
pub mod backblaze;
pub mod cmapss;
mod engines;
pub mod judge;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use thiserror::Error;

use super::datasets::Skipped;
use super::error::EvalError;

/// Which data set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// NASA's turbofan engines: fails within a number of cycles.
    Cmapss,
    /// Backblaze's drives: fails within a number of days.
    Backblaze,
}

/// Why there is no report.
#[derive(Clone, Debug, Error)]
pub enum FailureEvalError {
    /// A file or folder can't be read.
    #[error("{path}: {detail}; --data names the folder that holds the data set's files")]
    Unreadable {
        /// Which.
        path: String,
        /// What the system said.
        detail: String,
    },
    /// A line is not what the format says.
    #[error("{path}:{line}: expected {expected}, got {got:?}: mend the line or remove it")]
    Malformed {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What the format says.
        expected: String,
        /// What stands there.
        got: String,
    },
    /// Files that are missing, or not as the format says.
    #[error(transparent)]
    Files(#[from] EvalError),
    /// There is too little to train and test on.
    #[error("{path}: {detail}")]
    TooLittle {
        /// Where.
        path: String,
        /// What is missing.
        detail: String,
    },
}

/// One series of the report.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Series {
    /// `FD001`, or `FD001 test` for the second test, or `drives`.
    pub name: String,
    /// By name ([`judge::judge`], and those of the format); NaN, in JSON null, where there is nothing to measure.
    #[serde(flatten)]
    pub measures: BTreeMap<String, f64>,
    /// What was chosen on validation, in words.
    pub model: String,
}

/// The whole report.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FailureReport {
    /// `failure`.
    pub task: String,
    /// `cmapss` or `backblaze`.
    pub format: String,
    /// How the data was split.
    pub protocol: String,
    /// One a test.
    pub series: Vec<Series>,
    /// Means over the first tests (not the second ones) that have the measure; NaN where none has.
    pub mean: BTreeMap<String, f64>,
    /// What is to be known of the figures.
    pub notes: Vec<String>,
    /// What of the data was left out.
    pub skipped: Vec<Skipped>,
}

/// Runs the protocol of a format over whatever it finds in `data`; `horizon` in cycles or days (30
/// and 7 are what published figures use). Deterministic by `seed`.
///
/// # Errors
/// Files that can't be read or understood, too little data.
pub fn run(
    format: Format,
    data: &Path,
    horizon: usize,
    seed: u64,
) -> Result<FailureReport, FailureEvalError> {
    let (name, protocol, (series, skipped), notes) = match format {
        Format::Cmapss => {
            let split = "train units by number 60/15/25, then test_* with RUL_*";
            let note = format!("a false action is one with no failure within {} cycles", 2 * horizon);
            ("cmapss", split, cmapss::run(data, horizon, seed)?, vec![note])
        }
        Format::Backblaze => {
            let (series, notes) = backblaze::run(data, horizon, seed)?;
            ("backblaze", "by date, with gaps", (series, Vec::new()), notes)
        }
    };
    let first: Vec<&Series> = series.iter().filter(|s| !s.name.ends_with(" test")).collect();
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (key, value) in first.iter().flat_map(|one| &one.measures) {
        let sum = sums.entry(key.clone()).or_default();
        if !value.is_nan() {
            *sum = (sum.0 + value, sum.1 + 1.0);
        }
    }
    let mean = sums.into_iter().map(|(key, (sum, count))| (key, sum / count)).collect();
    let (format, protocol) = (name.into(), protocol.into());
    Ok(FailureReport { task: "failure".into(), format, protocol, series, mean, notes, skipped })
}
