//! `foreshift failures`: the failure history that predictions learn from.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};

use super::place;
use crate::engine::failures::{Failure, Failures, Label, Origin, PREFIX};
use crate::fleet::{Clock, SystemClock, Timestamp};
use crate::state::Store;
use crate::state::redb::read_entries;

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
    match args.act {
        Act::List { json } => list(&history(&dir)?, json)?,
        Act::Export => export(&history(&dir)?),
        Act::Add { .. } | Act::Import { .. } | Act::Correct { .. } => {
            let change = Change::read(args.act, SystemClock.now())?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let store = place::open_state(&dir)?;
            runtime.block_on(change.make(&store))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The history as it is on disk; none where there is no store, and none is made.
fn history(dir: &Path) -> Result<Failures> {
    let file = place::state_file(dir);
    if !file.exists() {
        return Ok(Failures::default());
    }
    Ok(Failures::of_entries(&read_entries(&file, PREFIX)?, &file.display().to_string())?)
}

/// What is written into the history, checked before the store is opened.
enum Change {
    /// One record, said by a person.
    Record(Failure),
    /// The records of a file.
    Records(Vec<Failure>),
    /// Another label, and maybe another cause, for the record of that number.
    Correction(u64, Label, Option<String>),
}

impl Change {
    fn read(act: Act, now: Timestamp) -> Result<Change> {
        Ok(match act {
            Act::Add { subject, cause, at, label } => {
                let at = at.as_deref().map(parse_time).transpose()?.unwrap_or(now);
                let failure =
                    Failure { number: 0, at, subject, cause, label: label.into(), origin: Origin::Operator };
                failure.check(now).map_err(anyhow::Error::msg)?;
                Change::Record(failure)
            }
            Act::Import { file } => {
                let text = std::fs::read_to_string(&file)
                    .with_context(|| format!("{} cannot be read", file.display()))?;
                let records = parse_csv_until(&text, &file, now)?;
                if records.is_empty() {
                    bail!("{}: no record in it: expected lines of at,subject,cause,label", file.display());
                }
                Change::Records(records)
            }
            Act::Correct { number, label, cause } => Change::Correction(number, label.into(), cause),
            Act::List { .. } | Act::Export => bail!("this only looks"),
        })
    }

    async fn make(self, store: &dyn Store) -> Result<()> {
        let mut failures = Failures::load(store).await?;
        match self {
            Change::Record(failure) => {
                match failures.records().iter().find(|known| known.says_the_same(&failure)) {
                    Some(known) => say!("record {} says the same already: nothing was added", known.number),
                    None => say!("recorded as {}", failures.add(store, failure).await?),
                }
            }
            Change::Records(records) => {
                let identity = |f: &Failure| (f.at, f.subject.clone(), label_word(f.label), f.cause.clone());
                let mut known: HashSet<_> = failures.records().iter().map(identity).collect();
                let (mut taken, mut left_out) = (0, 0);
                for record in records {
                    if known.insert(identity(&record)) {
                        failures.add(store, record).await?;
                        taken += 1;
                    } else {
                        left_out += 1;
                    }
                }
                match left_out {
                    0 => say!("{taken} records taken"),
                    n => say!("{taken} records taken; {n} left out that were there already"),
                }
            }
            Change::Correction(number, label, cause) => {
                if !failures.correct(store, number, label, cause).await? {
                    bail!("there is no record {number}; `foreshift failures list` shows the numbers");
                }
                say!("record {number} corrected");
            }
        }
        Ok(())
    }
}

fn list(failures: &Failures, json: bool) -> Result<()> {
    if json {
        say!("{}", serde_json::to_string(failures.records())?);
        return Ok(());
    }
    for f in failures.records() {
        let (label, subject, cause) = (label_word(f.label), one_line(&f.subject), one_line(&f.cause));
        say!("{:>6}  {}  {label:<9}  {subject}  {cause}", f.number, write_time(f.at));
    }
    Ok(())
}

fn export(failures: &Failures) {
    say!("at,subject,cause,label");
    for f in failures.records() {
        let (subject, cause) = (quote(&one_line(&f.subject)), quote(&one_line(&f.cause)));
        say!("{},{subject},{cause},{}", write_time(f.at), label_word(f.label));
    }
}

/// The text without what would begin a new line or reach the terminal as a command.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn quote(text: &str) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
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
    parse_csv_until(text, file, Timestamp(i64::MAX))
}

/// The same, where nothing may lie after `now`.
fn parse_csv_until(text: &str, file: &Path, now: Timestamp) -> Result<Vec<Failure>> {
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
        let (at, subject, cause) = (parse_time(at).with_context(place)?, subject.clone(), cause.clone());
        let record = Failure { number: 0, at, subject, cause, label, origin: Origin::Import };
        record.check(now).map_err(|said| anyhow!("{}: {said}", place()))?;
        records.push(record);
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
