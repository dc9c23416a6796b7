//! A record of the failure history, as it is stored, listed and recorded from elsewhere.

use serde::{Deserialize, Serialize};

use crate::fleet::{Span, Timestamp};

/// What became of the subject.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// It failed.
    #[default]
    Failed,
    /// It was predicted to fail, nothing was done, and it did not.
    Survived,
    /// Its work was moved away; what would have been is unknown.
    Mitigated,
}

impl Label {
    /// As it is written in files and said to people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Survived => "survived",
            Self::Mitigated => "mitigated",
        }
    }
}

/// How it became known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The agent's heartbeat was lost or reported the partition absent.
    Heartbeat,
    /// The driver says that it is down.
    Driver,
    /// A person said so.
    Operator,
    /// Imported from elsewhere.
    Import,
    /// Written by the engine after a migration.
    Engine,
}

/// One record.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Its number, from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Partition, workload or host.
    pub subject: String,
    /// Why, in words.
    pub cause: String,
    /// What became of it.
    pub label: Label,
    /// How it became known.
    pub origin: Origin,
}

/// How far a record may lie ahead of this machine's clock: another one wrote the time down.
pub const AHEAD: Span = Span::minutes(5);

impl Failure {
    /// Whether it can be learnt from: something is named, on one line, and it has happened by `now`.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn check(&self, now: Timestamp) -> Result<(), String> {
        let subject = &self.subject;
        if subject.trim().is_empty() || subject.chars().any(char::is_control) {
            return Err(format!("subject {subject:?}: expected the name of a partition, workload or host"));
        }
        if self.at.0 > now.0.saturating_add(AHEAD.0) {
            return Err("its time lies in the future: expected when it failed".to_string());
        }
        Ok(())
    }

    /// Whether both say the same, whatever their numbers and wherever they came from.
    pub fn says_the_same(&self, other: &Failure) -> bool {
        (self.at, &self.subject, self.label, &self.cause)
            == (other.at, &other.subject, other.label, &other.cause)
    }

    /// The one of `records` that says something else became of the same at the same time.
    pub fn contradicted_in<'a>(&self, records: &'a [Failure]) -> Option<&'a Failure> {
        records.iter().find(|r| (r.at, &r.subject) == (self.at, &self.subject) && r.label != self.label)
    }

    /// What to tell a person where one of `records` says the same already; `None` = none does.
    pub fn known_in(&self, records: &[Failure]) -> Option<String> {
        let known = records.iter().find(|known| known.says_the_same(self))?;
        Some(format!("record {} says the same already: nothing was added", known.number))
    }
}
