//! `foreshift eval`: hold the predictions to public data, by the published protocols.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::json;

use crate::eval::{anomaly, failure, forecast, report};

/// What is held to the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Task {
    /// Anomaly detection: smd, nab.
    Anomaly,
    /// Forecasts and their intervals: m4.
    Forecast,
    /// Failure prediction: cmapss, backblaze (drives.csv or daily files).
    Failure,
}

/// Which data set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// Server Machine Dataset.
    Smd,
    /// Numenta Anomaly Benchmark.
    Nab,
    /// M4 competition, hourly.
    M4,
    /// NASA C-MAPSS turbofan engines.
    Cmapss,
    /// Backblaze drive statistics.
    Backblaze,
}

/// How SMD is split.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Protocol {
    /// Fit on the train file, threshold from its scores alone.
    #[default]
    Ops,
    /// TSB-AD: the first rows of the test file are the training part.
    Tsb,
}

/// What the command takes.
#[derive(Clone, Debug, clap::Args)]
pub struct EvalCommand {
    /// What is held to the data.
    #[arg(value_enum)]
    pub task: Task,
    /// Which data set.
    #[arg(long, value_enum)]
    pub format: Format,
    /// The folder that holds its files, or one up to four above it.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// How SMD is split: ops where not given. For smd alone.
    #[arg(long, value_enum)]
    pub protocol: Option<Protocol>,
    /// Steps ahead: m4 48 hours, cmapss 30 cycles, backblaze 7 days where not given. Not for smd and nab.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub horizon: Option<u32>,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Runs the evaluation and gives what is to be printed.
///
/// # Errors
/// A task that does not go with the format; data that is missing or malformed, with file and line.
pub fn run(command: &EvalCommand) -> anyhow::Result<String> {
    let data = command.data.as_path();
    if !data.is_dir() {
        anyhow::bail!(
            "--data {}: no such folder: give the folder that holds the data set's files",
            data.display()
        );
    }
    if command.protocol.is_some() && command.format != Format::Smd {
        anyhow::bail!(
            "--protocol says how smd is split: leave it out with --format {}",
            word(command.format)
        );
    }
    if command.horizon.is_some() && command.task == Task::Anomaly {
        anyhow::bail!("--horizon is for forecasts and failures: anomaly has none, leave it out");
    }
    let horizon = |usual: usize| command.horizon.map_or(usual, |h| h as usize);
    let report = match (command.task, command.format) {
        (Task::Anomaly, Format::Smd) => anomaly::smd(
            data,
            match command.protocol.unwrap_or_default() {
                Protocol::Ops => anomaly::Protocol::Ops,
                Protocol::Tsb => anomaly::Protocol::Tsb,
            },
        )?,
        (Task::Anomaly, Format::Nab) => anomaly::nab(data)?,
        (Task::Forecast, Format::M4) => forecast::m4(data, command.horizon.map(|h| h as usize))?,
        (Task::Failure, Format::Cmapss) => {
            return of_failure(failure::Format::Cmapss, data, horizon(30), command.json);
        }
        (Task::Failure, Format::Backblaze) => {
            return of_failure(
                failure::Format::Backblaze,
                &within(data, "backblaze"),
                horizon(7),
                command.json,
            );
        }
        (task, format) => anyhow::bail!(
            "{task:?} cannot be evaluated on {format:?}: anomaly takes smd or nab, forecast takes m4, failure takes cmapss or backblaze"
        ),
    };
    Ok(if command.json { report.to_json().to_string() } else { report.to_table() })
}

/// A format as it is typed.
fn word(format: Format) -> String {
    format.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
}

/// The folder itself, or its subfolder of that name.
fn within(data: &Path, name: &str) -> PathBuf {
    let inner = data.join(name);
    if inner.is_dir() { inner } else { data.to_owned() }
}

fn of_failure(format: failure::Format, data: &Path, horizon: usize, as_json: bool) -> anyhow::Result<String> {
    let found = failure::run(format, data, horizon, 0)?;
    let mut value = serde_json::to_value(&found)?;
    value["peak_rss_mb"] = json!(report::peak_rss_mb());
    if as_json {
        return Ok(value.to_string());
    }
    let mut out = format!("{} · {} · {}\n", found.task, found.format, found.protocol);
    for series in &found.series {
        out.push_str(&format!("{} ({})\n", series.name, series.model));
        for (name, measure) in &series.measures {
            out.push_str(&format!("  {name:<34} {}\n", report::shown(*measure)));
        }
    }
    out.push_str("over all\n");
    for (name, measure) in &found.mean {
        out.push_str(&format!("  {name:<34} {}\n", report::shown(*measure)));
    }
    out.push_str(&report::closing(&found.notes, &found.skipped));
    Ok(out)
}

#[cfg(test)]
#[path = "eval_tests.rs"]
mod tests;
