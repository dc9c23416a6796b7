//! `foreshift failures`: the failure history that predictions learn from, on the disk or with the engine
//! that runs on it.

mod csv;
mod keeper;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};

pub(in crate::cli) use self::csv::parse_lined;
use self::csv::{Lined, export, one_line, parse_csv_until, parse_moment, write_time};
pub use self::csv::{parse_csv, parse_time};
use self::keeper::{Ground, Keeper};
use crate::config::Config;
use crate::engine::failures::{Failure, Label, Origin};
use crate::fleet::{Clock, SystemClock, Timestamp};

/// Arguments of `foreshift failures`.
#[derive(Args, Debug)]
pub struct FailuresArgs {
    /// Data directory of an engine that does not run; default: the configuration's, whose engine is asked where it
    /// runs.
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
        /// When, from 2000 on: RFC 3339, or seconds or milliseconds since 1970, told apart by size; default: now.
        #[arg(long)]
        at: Option<String>,
        /// What became of it.
        #[arg(long, value_enum, default_value = "failed")]
        label: LabelArg,
    },
    /// Take records from a CSV file with the columns at, subject, cause, label.
    ///
    /// A header names the columns in any order; without one they stand in that order. Times are RFC 3339, or seconds
    /// or milliseconds since 1970, told apart by size. What is recorded already is left out. Everything is checked
    /// before anything is written: a wrong line, a time before 2000 or ahead, or two labels for one subject at one
    /// time.
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

/// Runs it.
///
/// # Errors
/// Where the store is in use and its engine cannot be asked, or the input is wrong; the error names file and line.
pub fn run(args: FailuresArgs, config: Option<&Path>) -> Result<ExitCode> {
    let ground = Ground::find(args.data_dir, config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.act {
            Act::List { json } => list(&ground.records().await?, json)?,
            Act::Export => export(&ground.records().await?),
            Act::Add { .. } | Act::Import { .. } | Act::Correct { .. } => {
                let change = Change::read(args.act, SystemClock.now())?;
                change.make(ground.open().await?).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The failure history of a configuration, from its files or from the engine that runs on them.
///
/// # Errors
/// Where neither can be asked.
pub(in crate::cli) async fn recorded(config: &Config) -> Result<Vec<Failure>> {
    Ground::of(config).records().await
}

/// What is written into the history, checked before anything is opened.
enum Change {
    /// One record, said by a person.
    Record(Failure),
    /// The records of a file, with their lines.
    Records(PathBuf, Vec<Lined>),
    /// Another label, and maybe another cause, for the record of that number.
    Correction(u64, Label, Option<String>),
}

impl Change {
    fn read(act: Act, now: Timestamp) -> Result<Change> {
        Ok(match act {
            Act::Add { subject, cause, at, label } => {
                let at = at.as_deref().map(parse_moment).transpose()?.unwrap_or(now);
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
                Change::Records(file, records)
            }
            Act::Correct { number, label, cause } => Change::Correction(number, label.into(), cause),
            Act::List { .. } | Act::Export => bail!("this only looks"),
        })
    }

    async fn make(self, mut keeper: Keeper) -> Result<()> {
        match self {
            Change::Record(failure) => {
                if let Some(said) = failure.known_in(keeper.records()) {
                    say!("{said}");
                } else if let Some(other) = failure.contradicted_in(keeper.records()) {
                    bail!(contradiction(&failure, other));
                } else {
                    say!("{}", keeper.add(failure).await?);
                }
            }
            Change::Records(file, records) => {
                let all = records.len();
                let new = not_known(keeper.records(), records, &file)?;
                let taken = new.len();
                keeper.add_all(new).await?;
                match all - taken {
                    0 => say!("{taken} records taken"),
                    n => say!("{taken} records taken; {n} left out that were there already"),
                }
            }
            Change::Correction(number, label, cause) => {
                if !keeper.correct(number, label, cause).await? {
                    bail!("there is no record {number}; `foreshift failures list` shows the numbers");
                }
                say!("record {number} corrected");
            }
        }
        Ok(())
    }
}

fn contradiction(said: &Failure, other: &Failure) -> String {
    format!(
        "{} at {} {}, but record {} says that it {}: `foreshift failures correct {} {}` where that one is wrong",
        one_line(&said.subject),
        write_time(said.at),
        said.label.word(),
        other.number,
        other.label.word(),
        other.number,
        said.label.word()
    )
}

/// The records of a file that `known` does not hold, each once.
///
/// # Errors
/// One that says otherwise than `known`, with its line and the record's number.
fn not_known(known: &[Failure], records: Vec<Lined>, file: &Path) -> Result<Vec<Failure>> {
    let identity = |f: &Failure| (f.at, f.subject.clone(), f.label.word(), f.cause.clone());
    let mut seen: HashSet<_> = known.iter().map(identity).collect();
    let mut labels: HashMap<(Timestamp, &str), Vec<&Failure>> = HashMap::new();
    for record in known {
        labels.entry((record.at, record.subject.as_str())).or_default().push(record);
    }
    let mut new = Vec::new();
    for (line, record) in records {
        if !seen.insert(identity(&record)) {
            continue;
        }
        let same = labels.get(&(record.at, record.subject.as_str()));
        if let Some(other) = same.and_then(|same| same.iter().find(|o| o.label != record.label)) {
            bail!("{}:{line}: {}", file.display(), contradiction(&record, other));
        }
        new.push(record);
    }
    Ok(new)
}

fn list(records: &[Failure], json: bool) -> Result<()> {
    if json {
        say!("{}", serde_json::to_string(records)?);
        return Ok(());
    }
    for f in records {
        let (label, subject, cause) = (f.label.word(), one_line(&f.subject), one_line(&f.cause));
        say!("{:>6}  {}  {label:<9}  {subject}  {cause}", f.number, write_time(f.at));
    }
    Ok(())
}
