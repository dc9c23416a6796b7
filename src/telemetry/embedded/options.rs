//! How the embedded store is kept, and why it did not do something.

use std::path::PathBuf;

use thiserror::Error;

use crate::fleet::Span;

/// How the store is kept.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Where the files are; `None` = in memory only, gone with the process.
    pub path: Option<PathBuf>,
    /// How long samples are kept, by the machine's clock; `None` = for ever (simulated time).
    pub retention: Option<Span>,
    /// Most memory for what is not yet on disk, in bytes.
    pub memory: usize,
    /// How often the log is forced to disk; what was written since is lost with the power, not with
    /// the process.
    pub sync: Span,
}

impl Default for EmbeddedOptions {
    /// In memory, 30 days, 128 MB, forced to disk every second.
    fn default() -> Self {
        Self { path: None, retention: Some(Span::days(30)), memory: 128 << 20, sync: Span::seconds(1) }
    }
}

/// Why the store did not do it.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The folder cannot be used.
    #[error("the embedded store at {place} cannot be opened: {detail}; name another folder or mend this one")]
    Open {
        /// The folder, or `memory`.
        place: String,
        /// What happened.
        detail: String,
    },
    /// Another process has it: nearly always the engine.
    #[error(
        "another process has the embedded store at {place} open: the engine that runs on it; ask that engine \
         (`foreshift attach`), or stop it first"
    )]
    InUse {
        /// The folder.
        place: String,
    },
    /// The store is full or its disk is: less has to be kept, or more given.
    #[error(
        "the embedded store at {place} is full: {detail}; give it more disk or memory, or keep fewer days"
    )]
    Full {
        /// The folder, or `memory`.
        place: String,
        /// What happened.
        detail: String,
    },
    /// It stopped by itself, or its folder was taken away; it is opened again without anybody's doing.
    #[error(
        "the embedded store at {place} stopped working and nothing is read or written until it is open again, which \
         is tried: {detail}; look at the disk and at who removes files there"
    )]
    Broken {
        /// The folder, or `memory`.
        place: String,
        /// What happened.
        detail: String,
    },
    /// Anything else; whether trying again helps is unknown.
    #[error("the embedded store at {place} failed: {detail}")]
    Failed {
        /// The folder, or `memory`.
        place: String,
        /// What happened.
        detail: String,
    },
}
