//! What is wrong with a configuration, with its place and how to mend it. Permanent all of them:
//! the file must be changed.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// One thing that is wrong, with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key with its sections: `plan.thresholds[1].off`; empty where the text is no TOML.
    pub key: String,
    /// What is wrong, what was expected and how to mend it.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// Why there is no configuration.
#[derive(Clone, Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {detail}; name another with --config, or start without one for the demo fleet", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// The file was read and is wrong; every problem on a line of its own.
    #[error("{}", lines(problems))]
    Wrong {
        /// What is wrong: one thing where the text cannot be understood, everything where rules
        /// between keys are broken.
        problems: Vec<Problem>,
    },
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
