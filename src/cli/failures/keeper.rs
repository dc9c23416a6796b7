//! Who keeps the failure history: the files of an engine that does not run, or the engine that runs on them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{Failure, Label, Origin};
use crate::cli::engine::{person, running_at};
use crate::cli::place;
use crate::config::Config;
use crate::engine::failures::{Failures, PREFIX};
use crate::protocol::client::RemoteLink;
use crate::protocol::{Command, Link, Refusal, Reply};
use crate::state::RedbStore;
use crate::state::redb::read_entries;

/// Records in one transaction.
const BATCH: usize = 4096;
/// The count is said after so many that an engine took.
const TOLD: usize = 1000;

/// Where the history is found.
pub(super) struct Ground {
    /// The data directory.
    dir: PathBuf,
    /// Where the engine of that directory listens, where the configuration says so.
    listen: Option<SocketAddr>,
}

/// Who takes changes.
pub(super) enum Keeper {
    /// The files.
    Disk(RedbStore, Failures),
    /// The engine, and what its history was.
    Engine(RemoteLink, Vec<Failure>),
}

impl Ground {
    /// The named directory, or the configuration's and its engine.
    ///
    /// # Errors
    /// As a configuration that cannot be read.
    pub(super) fn find(dir: Option<PathBuf>, config: Option<&Path>) -> Result<Self> {
        if let Some(dir) = dir {
            return Ok(Self { dir, listen: None });
        }
        Ok(match place::load(config)? {
            Some((_, config)) => Self::of(&config),
            None => Self { dir: place::default_data_dir(), listen: None },
        })
    }

    /// The configuration's directory and its engine.
    pub(super) fn of(config: &Config) -> Self {
        Self { dir: config.engine.data_dir.clone(), listen: Some(config.engine.listen) }
    }

    /// The history as it is; none where there is no store, and none is made.
    ///
    /// # Errors
    /// Where neither files nor engine can be asked.
    pub(super) async fn records(&self) -> Result<Vec<Failure>> {
        let file = place::state_file(&self.dir);
        if !file.exists() {
            return Ok(Vec::new());
        }
        let on_disk = read_entries(&file, PREFIX)
            .and_then(|entries| Failures::of_entries(&entries, &file.display().to_string()));
        match on_disk {
            Ok(failures) => Ok(failures.records().to_vec()),
            Err(error) => match self.engine().await {
                Some(engine) => asked(&engine).await,
                None => Err(error.into()),
            },
        }
    }

    /// Who takes changes now.
    ///
    /// # Errors
    /// Where neither files nor engine can be had.
    pub(super) async fn open(&self) -> Result<Keeper> {
        match place::open_state(&self.dir) {
            Ok(store) => {
                let failures = Failures::load(&store).await?;
                Ok(Keeper::Disk(store, failures))
            }
            Err(error) => match self.engine().await {
                Some(engine) => {
                    let records = asked(&engine).await?;
                    Ok(Keeper::Engine(engine, records))
                }
                None => Err(error.into()),
            },
        }
    }

    /// The engine that runs.
    async fn engine(&self) -> Option<RemoteLink> {
        running_at(self.listen?).await.ok()
    }
}

impl Keeper {
    /// The history as it was when it was opened.
    pub(super) fn records(&self) -> &[Failure] {
        match self {
            Keeper::Disk(_, failures) => failures.records(),
            Keeper::Engine(_, records) => records,
        }
    }

    /// Adds a record; in words what was done.
    ///
    /// # Errors
    /// As every call of the store; the engine's refusal.
    pub(super) async fn add(&mut self, failure: Failure) -> Result<String> {
        let engine = match self {
            Keeper::Disk(store, failures) => {
                return Ok(format!("recorded as {}", failures.add(store, failure).await?));
            }
            Keeper::Engine(engine, _) => engine,
        };
        let Failure { at, subject, cause, label, origin, .. } = failure;
        let imported = origin == Origin::Import;
        match send(engine, Command::RecordFailure { subject, at, cause, label, imported }).await? {
            Reply::Done { said } => Ok(said),
            other => bail!("the engine answered {other:?} to a failure that was recorded"),
        }
    }

    /// Adds records: to files some thousand in a transaction, to an engine one after the other, with the count.
    ///
    /// # Errors
    /// As `add`.
    pub(super) async fn add_all(&mut self, records: Vec<Failure>) -> Result<()> {
        if let Keeper::Disk(store, failures) = self {
            for batch in records.chunks(BATCH) {
                failures.add_all(store, batch.to_vec()).await?;
            }
            return Ok(());
        }
        let all = records.len();
        for (taken, record) in records.into_iter().enumerate() {
            if taken > 0 && taken.is_multiple_of(TOLD) {
                note!("{taken} of {all} records taken by the engine");
            }
            self.add(record).await?;
        }
        Ok(())
    }

    /// Changes the label and, where given, the cause; `false` where there is no record of that number.
    ///
    /// # Errors
    /// As every call of the store; the engine's refusal.
    pub(super) async fn correct(&mut self, number: u64, label: Label, cause: Option<String>) -> Result<bool> {
        match self {
            Keeper::Disk(store, failures) => Ok(failures.correct(store, number, label, cause).await?),
            Keeper::Engine(engine, _) => {
                match send(engine, Command::CorrectFailure { number, label, cause }).await {
                    Ok(_) => Ok(true),
                    Err(Refusal::NotFound { .. }) => Ok(false),
                    Err(refusal) => Err(refusal.into()),
                }
            }
        }
    }
}

async fn send(engine: &RemoteLink, command: Command) -> Result<Reply, Refusal> {
    engine.send(person(), command).await
}

async fn asked(engine: &RemoteLink) -> Result<Vec<Failure>> {
    match send(engine, Command::ListFailures).await? {
        Reply::Failures { records } => Ok(records),
        other => bail!("the engine answered {other:?} to a question for the failure history"),
    }
}
