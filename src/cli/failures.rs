//! `foreshift failures`: the failure history that predictions learn from.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};

use super::place;
use crate::engine::failures::{Failure, Failures, Label, Origin};
use crate::fleet::{Clock, SystemClock, Timestamp};
use crate::state::Store;

/// Arguments of `foreshift failures`.
#[derive(Args, Debug)]
pub struct FailuresArgs {
    /// Data directory of the engine, which must not be running; default: the configuration's.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub act: Act,
}

/// What to do with the history.
#[derive(Subcommand, Debug)]
pub enum Act {
    /// Write down that something failed.
    Add {
        /// Partition, workload or host.
        subject: String,
        /// Why.
        #[arg(long, default_value = "recorded by an operator")]
        cause: String,
        /// When: RFC 3339 or milliseconds since 1970; default: now.
        #[arg(long)]
        at: Option<String>,
        /// What became of it.
        #[arg(long, value_enum, default_value = "failed")]
        label: LabelArg,
    },
    /// Take records from a CSV file with the columns at, subject, cause, label.
    Import {
        /// The file.
        file: PathBuf,
    },
    /// Print the history.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change the label of a record.
    Correct {
        /// The record's number.
        number: u64,
        /// What became of it.
        #[arg(value_enum)]
        label: LabelArg,
        /// Why.
        #[arg(long)]
        cause: Option<String>,
    },
    /// Print the history as CSV that `import` takes.
    Export,
}

/// A label on the command line.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum LabelArg {
    /// It failed.
    Failed,
    /// Nothing was done, and it did not fail.
    Survived,
    /// Its work was moved away first; what would have been is unknown.
    Mitigated,
}

impl From<LabelArg> for Label {
    fn from(arg: LabelArg) -> Label {
        match arg {
            LabelArg::Failed => Label::Failed,
            LabelArg::Survived => Label::Survived,
            LabelArg::Mitigated => Label::Mitigated,
        }
    }
}

fn label_word(label: Label) -> &'static str {
    match label {
        Label::Failed => "failed",
        Label::Survived => "survived",
        Label::Mitigated => "mitigated",
    }
}

/// A point in time as people write it.
///
/// # Errors
/// Says what was expected.
pub fn parse_time(text: &str) -> Result<Timestamp> {
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(Timestamp(millis));
    }
    let at: jiff::Timestamp = text.parse().map_err(|_| {
        anyhow!("{text:?} is no time: expected 2026-11-21T03:00:00Z or milliseconds since 1970")
    })?;
    Ok(Timestamp(at.as_millisecond()))
}

fn write_time(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis()).map_or_else(|_| at.0.to_string(), |t| t.to_string())
}

/// Runs it.
///
/// # Errors
/// Where the store is in use or the input is wrong; the error names file and line.
pub fn run(args: FailuresArgs, config: Option<&Path>) -> Result<ExitCode> {
    let dir = match args.data_dir {
        Some(dir) => dir,
        None => place::load(config)?.map(|(_, c)| c.engine.data_dir).unwrap_or_else(place::default_data_dir),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = place::open_state(&dir)?;
    runtime.block_on(act(args.act, &store))
}

async fn act(act: Act, store: &dyn Store) -> Result<ExitCode> {
    let mut failures = Failures::load(store).await?;
    match act {
        Act::Add { subject, cause, at, label } => {
            let at = at.as_deref().map(parse_time).transpose()?.unwrap_or_else(|| SystemClock.now());
            let failure =
                Failure { number: 0, at, subject, cause, label: label.into(), origin: Origin::Operator };
            println!("recorded as {}", failures.add(store, failure).await?);
        }
        Act::Import { file } => {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("{} cannot be read", file.display()))?;
            let records = parse_csv(&text, &file)?;
            let count = records.len();
            for record in records {
                failures.add(store, record).await?;
            }
            println!("{count} records taken");
        }
        Act::List { json: true } => println!("{}", serde_json::to_string(failures.records())?),
        Act::List { json: false } => {
            for f in failures.records() {
                let label = label_word(f.label);
                println!("{:>6}  {}  {:<9}  {}  {}", f.number, write_time(f.at), label, f.subject, f.cause);
            }
        }
        Act::Correct { number, label, cause } => {
            if !failures.correct(store, number, label.into(), cause).await? {
                bail!("there is no record {number}; `foreshift failures list` shows the numbers");
            }
            println!("record {number} corrected");
        }
        Act::Export => {
            println!("at,subject,cause,label");
            for f in failures.records() {
                let (cause, label) = (quote(&f.cause), label_word(f.label));
                println!("{},{},{cause},{label}", write_time(f.at), quote(&f.subject));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn quote(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

/// Splits a CSV line; quotes are doubled inside quotes.
fn fields(line: &str) -> Vec<String> {
    let (mut out, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                field.push('"');
                chars.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    out.push(field);
    out
}

/// The records of a CSV file.
///
/// # Errors
/// Names file, line, what was expected and what is there.
pub fn parse_csv(text: &str, file: &Path) -> Result<Vec<Failure>> {
    let mut records = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
        let place = || format!("{}:{number}", file.display());
        if line.is_empty() || (number == 1 && line.starts_with("at,")) {
            continue;
        }
        let fields = fields(line);
        let [at, subject, cause, label] = fields.as_slice() else {
            bail!("{}: expected at,subject,cause,label, got {} columns", place(), fields.len());
        };
        let label = match label.as_str() {
            "failed" => Label::Failed,
            "survived" => Label::Survived,
            "mitigated" => Label::Mitigated,
            other => bail!("{}: label {other:?}: expected failed, survived or mitigated", place()),
        };
        records.push(Failure {
            number: 0,
            at: parse_time(at).with_context(place)?,
            subject: subject.clone(),
            cause: cause.clone(),
            label,
            origin: Origin::Import,
        });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_line_is_named_with_what_was_expected() {
        let error = parse_csv("at,subject,cause,label\n1000,h1,x,exploded\n", Path::new("f.csv"));
        assert_eq!(
            error.unwrap_err().to_string(),
            "f.csv:2: label \"exploded\": expected failed, survived or mitigated"
        );
        assert!(parse_csv("1000,h1\n", Path::new("f.csv")).unwrap_err().to_string().contains("f.csv:1"));
    }

    #[test]
    fn quoted_causes_survive_export_and_import() {
        let line = format!("2026-11-21T03:00:00Z,h1/p1,{},failed", quote("disk, \"sda\""));
        let records = parse_csv(&line, Path::new("f.csv")).unwrap();
        assert_eq!(records[0].cause, "disk, \"sda\"");
        assert_eq!(records[0].at, Timestamp(1_795_230_000_000));
    }
}
