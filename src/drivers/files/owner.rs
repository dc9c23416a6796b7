//! Who may write to a workload's directory. Its mark stands in the directory itself, so that it
//! changes places together with the data; writers hold a shared lock while they write, and whoever
//! changes the mark holds it alone, so a fence waits for writes under way and keeps out later ones.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::tree::MARK;
use crate::fleet::{Clock, Epoch, Generation, SystemClock, Timestamp};

/// What may be done in a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// The owner: written to.
    Writable,
    /// Held for the cut; lets go by itself after `until`.
    Fenced {
        until: Timestamp,
        /// The digits of its artifacts' name; 0 where an earlier version held it.
        #[serde(default)]
        fence: u64,
    },
    /// A copy.
    Standby,
}

/// The mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) generation: Generation,
    pub(super) epoch: Epoch,
    pub(super) mode: Mode,
}

impl Owner {
    /// Whether writes are allowed at `now`.
    pub(super) fn writable(&self, now: Timestamp) -> bool {
        match self.mode {
            Mode::Writable => true,
            Mode::Fenced { until, .. } => now > until,
            Mode::Standby => false,
        }
    }
}

/// A directory without a mark belongs to whoever has it, at generation 0.
pub(super) fn read(folder: &Path) -> io::Result<Owner> {
    match fs::read(folder.join(MARK)) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
        Err(e) if e.kind() == io::ErrorKind::NotFound && folder.is_dir() => {
            Ok(Owner { generation: Generation(0), epoch: Epoch(0), mode: Mode::Writable })
        }
        Err(e) => Err(e),
    }
}

/// Writes the mark durably, in one step.
pub(super) fn write(folder: &Path, owner: &Owner) -> io::Result<()> {
    let part = folder.join(format!("{MARK}-part"));
    let mut file = File::create(&part)?;
    file.write_all(&serde_json::to_vec(owner).map_err(io::Error::other)?)?;
    file.sync_all()?;
    fs::rename(part, folder.join(MARK))?;
    File::open(folder)?.sync_all()
}

/// Where the driver keeps locks and half-made things of a root.
pub(super) fn workshop(root: &Path) -> PathBuf {
    root.join(".foreshift")
}

fn lock_file(root: &Path, workload: &str) -> io::Result<File> {
    fs::create_dir_all(workshop(root))?;
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(workshop(root).join(format!("{workload}.lock")))
}

/// Runs `then` while nobody writes to the workload.
pub(super) fn alone<T>(
    root: &Path,
    workload: &str,
    then: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let lock = lock_file(root, workload)?;
    lock.lock()?;
    then(&root.join(workload))
}

/// Why a write was refused.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    /// The directory is fenced or a copy: ask again where the workload is, and write there.
    #[error("{folder} is not written to now; ask where the workload is")]
    NotOwner {
        /// The directory.
        folder: String,
    },
    /// The file system's own words.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes to a workload's directory as its users should: `then` gets the directory and runs only
/// where it may be written to, and no fence falls while it runs.
///
/// # Errors
/// Where the directory may not be written to, or `then` failed.
pub fn write_to<T>(
    root: &Path,
    workload: &str,
    then: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<T, NotWritten> {
    let lock = lock_file(root, workload)?;
    lock.lock_shared()?;
    let folder = root.join(workload);
    match read(&folder) {
        Ok(owner) if owner.writable(SystemClock.now()) => Ok(then(&folder)?),
        Ok(_) => Err(NotWritten::NotOwner { folder: folder.display().to_string() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(NotWritten::NotOwner { folder: folder.display().to_string() })
        }
        Err(e) => Err(e.into()),
    }
}
