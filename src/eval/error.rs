//! What can go wrong when public data is read for an evaluation.

use std::path::PathBuf;

/// Why an evaluation could not run. All are permanent until the data is mended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EvalError {
    /// A file or folder cannot be read.
    #[error("{path}: {said}: check that it is there, readable and whole (permanent)")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        said: String,
    },
    /// Nothing of the format in the folder.
    #[error(
        "{folder}: no {expected} found: give --data the folder that holds them, or one up to four above it (permanent)"
    )]
    Nothing {
        /// The folder.
        folder: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// Two files that could both be meant, neither deeper in the folder than the other.
    #[error("{first} and {second} could both be meant: give --data the folder of one of them (permanent)")]
    Ambiguous {
        /// One of them.
        first: PathBuf,
        /// Another.
        second: PathBuf,
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
    pub(crate) fn unreadable(path: &std::path::Path, said: &dyn std::fmt::Display) -> EvalError {
        EvalError::Unreadable { path: path.to_owned(), said: said.to_string() }
    }

    pub(crate) fn malformed(path: &std::path::Path, line: usize, expected: &str, found: &str) -> EvalError {
        let found: String = found.chars().take(60).collect();
        EvalError::Malformed { path: path.to_owned(), line, expected: expected.to_owned(), found }
    }
}
