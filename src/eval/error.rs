//! What can go wrong when public data is read for an evaluation.

use std::path::PathBuf;

/// Why an evaluation could not run. All are permanent until the data is mended.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file or folder cannot be read.
    #[error("{path}: {source}: check that it is there and readable (permanent)")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing of the format in the folder.
    #[error(
        "{folder}: no {expected} found: give --data the folder that holds them, or its parent (permanent)"
    )]
    Nothing {
        /// The folder.
        folder: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// A line that is not as expected.
    #[error("{path}:{line}: expected {expected}, got {found:?}: mend the line or remove it (permanent)")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What should stand there.
        expected: String,
        /// What stands there, shortened.
        found: String,
    },
    /// A series that cannot be evaluated.
    #[error("{name}: {reason} (permanent)")]
    Unusable {
        /// The series.
        name: String,
        /// Why not, and what is needed.
        reason: String,
    },
}

impl EvalError {
    pub(crate) fn malformed(path: &std::path::Path, line: usize, expected: &str, found: &str) -> EvalError {
        let found: String = found.chars().take(60).collect();
        EvalError::Malformed { path: path.to_owned(), line, expected: expected.to_owned(), found }
    }
}
