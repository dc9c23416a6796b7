//! `foreshift journal`: shows what every migration did and why, and checks that nothing of it was
//! changed afterwards. It reads the store's file directly, so the engine that owns it must be
//! stopped; while it runs, its console shows the same log.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::fleet::MigrationId;
use crate::migrate::Progress;
use crate::migrate::journal::{self, Broken, Head, Record};
use crate::state::redb::read_entries;
use crate::state::{Entry, StoreError};

/// Shows or verifies the journal of migrations.
#[derive(Clone, Debug, Args)]
pub struct JournalArgs {
    /// What to do.
    #[command(subcommand)]
    pub what: What,

    /// The store's file; default: the configuration's.
    #[arg(long, value_name = "FILE", global = true)]
    pub store: Option<PathBuf>,
}

/// What to do with the journal.
#[derive(Clone, Debug, Subcommand)]
pub enum What {
    /// Check the hash chain of one migration, or of all.
    Verify {
        /// The migration, `M-12`; all where it is left out.
        migration: Option<MigrationId>,
    },
    /// Print the records of one migration, or of all.
    Show {
        /// The migration, `M-12`; all where it is left out.
        migration: Option<MigrationId>,
        /// One JSON object a record.
        #[arg(long)]
        json: bool,
    },
}

/// Reads the journal and writes to `out`; the exit status is 1 where it is broken or unreadable.
///
/// # Errors
/// Where `out` cannot be written to.
pub fn run(args: &JournalArgs, out: &mut dyn Write) -> std::io::Result<ExitCode> {
    let store = args.store.clone().unwrap_or_else(|| PathBuf::from("foreshift-data/state.redb"));
    let migration = match &args.what {
        What::Verify { migration } | What::Show { migration, .. } => *migration,
    };
    let journals = match read(&store, migration) {
        Ok(journals) => journals,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    if let Some(id) = migration.filter(|id| !journals.contains_key(id)) {
        writeln!(out, "there is no migration {id} in {}", store.display())?;
        return Ok(ExitCode::FAILURE);
    }
    let mut broken = 0;
    let mut records = 0;
    for (id, journal) in &journals {
        match (&args.what, journal.verified(*id)) {
            (What::Verify { .. }, Ok(verified)) => {
                records += verified.len();
                writeln!(out, "{id}: {} records, the chain holds", verified.len())?;
            }
            (What::Show { json, .. }, Ok(verified)) => {
                records += verified.len();
                for record in &verified {
                    show(out, record, *json)?;
                }
            }
            (_, Err(error)) => {
                broken += 1;
                writeln!(out, "{id}: BROKEN: {error}")?;
            }
        }
    }
    if matches!(args.what, What::Verify { .. }) {
        writeln!(out, "{} migrations, {records} records, {broken} broken", journals.len())?;
    }
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The journal of one migration as it is in the store.
#[derive(Default)]
struct Journal {
    records: Vec<Entry>,
    /// As the state names it.
    head: Option<Result<Head, Broken>>,
}

impl Journal {
    fn verified(&self, id: MigrationId) -> Result<Vec<Record>, Broken> {
        let head = self.head.clone().transpose()?;
        journal::verify(id, &self.records, head.as_ref())
    }
}

fn read(
    store: &std::path::Path,
    migration: Option<MigrationId>,
) -> Result<BTreeMap<MigrationId, Journal>, StoreError> {
    let prefix = migration.map_or_else(|| "/migrations/".to_string(), journal::prefix);
    let mut journals: BTreeMap<MigrationId, Journal> = BTreeMap::new();
    for entry in read_entries(store, &prefix)? {
        let Some((id, rest)) = entry.key.strip_prefix("/migrations/").and_then(|k| k.split_once('/')) else {
            continue;
        };
        let Ok(id) = id.parse::<MigrationId>() else { continue };
        let journal = journals.entry(id).or_default();
        if rest.starts_with("journal/") {
            journal.records.push(entry);
        } else if rest == "state" {
            let state = Progress::read(&entry.value)
                .map_err(|e| Broken::State { key: entry.key, detail: e.to_string() });
            journal.head = Some(state.map(|state| state.journal));
        }
    }
    Ok(journals)
}

fn show(out: &mut dyn Write, record: &Record, json: bool) -> std::io::Result<()> {
    if json {
        return writeln!(out, "{}", serde_json::to_string(record)?);
    }
    let at = record.at.millis();
    let time = jiff::Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |t| t.to_string());
    writeln!(
        out,
        "{time}  {}  {:>3}  {:<12}  {:<10}  {}",
        record.migration,
        record.seq,
        record.phase.word(),
        record.actor,
        record.words()
    )
}
