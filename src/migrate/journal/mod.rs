//! The journal of a migration: append-only records in the store, each carrying the hash of the one
//! before. What was intended is durable before it is asked for, what came of it right after; a
//! record that was changed or taken away later breaks the chain.

mod check;
mod hash;

pub use check::{Broken, check, verify};
pub use hash::{Head, RecordHash};
use serde::{Deserialize, Serialize};

use super::stored;
use crate::drivers::{Artifact, CleanupPolicy};
use crate::fleet::{Epoch, Generation, MigrationId, Phase, Timestamp, digits};
use crate::state::Op;

/// What came of an action.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is done.
    Applied,
    /// It certainly is not.
    Failed,
    /// Nobody knows; a probe follows.
    Unknown,
}

/// What a record says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", tag = "kind")]
pub enum Note {
    /// An action will be asked for.
    Intent {
        /// Its name.
        step: String,
        /// Its idempotency key.
        idem: String,
        /// Hash of its arguments, 16 hex digits.
        args: String,
        /// Its state ends at the latest then.
        deadline: Option<Timestamp>,
    },
    /// What came of it.
    Outcome {
        /// Its name.
        step: String,
        /// Its idempotency key.
        idem: String,
        /// What came of it.
        result: Verdict,
        /// What was seen or said.
        evidence: String,
    },
    /// An artifact is about to be made.
    CleanupAdd {
        /// What.
        artifact: Artifact,
        /// When it is to be removed.
        policy: CleanupPolicy,
    },
    /// An artifact is gone.
    CleanupDone {
        /// What.
        artifact: Artifact,
    },
    /// A change of state.
    State {
        /// From.
        from: Phase,
        /// To.
        to: Phase,
        /// Why.
        reason: String,
    },
    /// The judge or a person decided.
    Decision {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
    /// This epoch takes the migration over, or the source is fenced for this generation.
    Fence {
        /// The leader's epoch (the record's own has that name already).
        leader: Epoch,
        /// The generation that is being cut to.
        generation: Generation,
    },
    /// Tokens were taken or given back.
    Budget {
        /// +1 taken, −1 given back.
        change: i8,
        /// What was taken.
        what: String,
    },
}

/// One record.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its number within the migration, from 0.
    pub seq: u64,
    /// Hash of the record before; none for the first.
    pub prev: RecordHash,
    /// The migration.
    pub migration: MigrationId,
    /// When.
    pub at: Timestamp,
    /// The leader's epoch.
    pub epoch: Epoch,
    /// Who: `engine`, or the person.
    pub actor: String,
    /// The phase after it.
    pub phase: Phase,
    /// What it says.
    #[serde(flatten)]
    pub note: Note,
}

impl Record {
    /// The bytes of it that are stored, and hashed.
    pub fn bytes(&self) -> Vec<u8> {
        stored::record_bytes(self)
    }

    /// The record that [`Record::bytes`], or an earlier version, made these bytes of.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(bytes: &[u8]) -> Result<Record, stored::Unreadable> {
        stored::record_of(bytes)
    }

    /// Whether the log on a screen shows it.
    pub fn is_shown(&self) -> bool {
        matches!(self.note, Note::State { .. } | Note::Outcome { .. } | Note::Decision { .. })
    }

    /// In words, for the log on a screen.
    pub fn words(&self) -> String {
        match &self.note {
            Note::Intent { step, .. } => format!("{}: asked for", step.replace('_', " ")),
            Note::Outcome { step, result, evidence, .. } => {
                let step = step.replace('_', " ");
                match result {
                    Verdict::Applied if evidence.is_empty() => format!("{step}: done"),
                    Verdict::Applied => format!("{step}: {evidence}"),
                    Verdict::Failed => format!("{step}: failed: {evidence}"),
                    Verdict::Unknown => format!("{step}: no answer, will be probed: {evidence}"),
                }
            }
            Note::CleanupAdd { artifact, .. } => {
                format!("will make {} {} on {}", artifact.kind, artifact.name, artifact.partition)
            }
            Note::CleanupDone { artifact } => {
                format!("removed {} {} on {}", artifact.kind, artifact.name, artifact.partition)
            }
            Note::State { to, reason, .. } if reason.is_empty() => to.word().to_string(),
            Note::State { to, reason, .. } => format!("{}: {reason}", to.word()),
            Note::Decision { what, why } if why.is_empty() => format!("{what} by {}", self.actor),
            Note::Decision { what, why } => format!("{what} by {}: {why}", self.actor),
            Note::Fence { leader, generation } => format!("epoch {leader} acts for generation {generation}"),
            Note::Budget { change, what } if *change > 0 => format!("took {what}"),
            Note::Budget { what, .. } => format!("gave back {what}"),
        }
    }
}

/// The prefix of everything about one migration.
pub fn prefix(migration: MigrationId) -> String {
    format!("/migrations/{migration}/")
}

/// The key of one record.
pub fn record_key(migration: MigrationId, seq: u64) -> String {
    let mut key = String::with_capacity(48);
    push_journal(&mut key, migration);
    digits::push_number(&mut key, seq, SEQ_DIGITS);
    key
}

/// Digits of a record's number in its key, at the least.
const SEQ_DIGITS: usize = 8;

/// What the keys of all records of one migration begin with.
fn push_journal(key: &mut String, migration: MigrationId) {
    key.push_str("/migrations/");
    migration.push_onto(key);
    key.push_str("/journal/");
}

/// Who, when and in which phase the next records are written.
pub(super) struct Stamp<'a> {
    pub(super) migration: MigrationId,
    pub(super) at: Timestamp,
    pub(super) epoch: Epoch,
    pub(super) actor: &'a str,
    pub(super) phase: Phase,
}

/// Chains `notes` to `head`; yields the puts that write them and the records.
pub(super) fn chain(head: &mut Head, notes: Vec<Note>, stamp: &Stamp<'_>) -> Vec<(Op, Record)> {
    notes
        .into_iter()
        .map(|note| {
            let record = Record {
                seq: head.next,
                prev: head.hash,
                migration: stamp.migration,
                at: stamp.at,
                epoch: stamp.epoch,
                actor: stamp.actor.to_string(),
                phase: stamp.phase,
                note,
            };
            let bytes = record.bytes();
            *head = Head { next: head.next + 1, hash: RecordHash::of(&bytes) };
            (Op::Put(record_key(stamp.migration, record.seq), bytes), record)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Revision;
    use crate::state::Entry;

    fn all_notes() -> Vec<Note> {
        let artifact =
            Artifact { kind: "replica".to_string(), name: "fs_1".to_string(), partition: "h1".into() };
        let text = || "x".to_string();
        vec![
            Note::Intent { step: text(), idem: text(), args: text(), deadline: Some(Timestamp(9)) },
            Note::Outcome { step: text(), idem: text(), result: Verdict::Unknown, evidence: text() },
            Note::CleanupAdd { artifact: artifact.clone(), policy: CleanupPolicy::Always },
            Note::CleanupDone { artifact },
            Note::State { from: Phase::Approved, to: Phase::Admitted, reason: text() },
            Note::Decision { what: text(), why: text() },
            Note::Fence { leader: Epoch(3), generation: Generation(2) },
            Note::Budget { change: -1, what: text() },
        ]
    }

    fn written() -> (Head, Vec<Entry>) {
        let mut head = Head::default();
        let stamp = Stamp {
            migration: MigrationId(4),
            at: Timestamp(1),
            epoch: Epoch(3),
            actor: "engine",
            phase: Phase::Admitted,
        };
        let entries = chain(&mut head, all_notes(), &stamp)
            .into_iter()
            .filter_map(|(op, _)| match op {
                Op::Put(key, value) => {
                    Some(Entry { key, value, created: Revision(1), modified: Revision(1) })
                }
                Op::Delete(_) => None,
            })
            .collect();
        (head, entries)
    }

    #[test]
    fn every_kind_of_record_is_read_as_it_was_written() {
        let (head, entries) = written();
        let records = verify(MigrationId(4), &entries, Some(&head)).unwrap();
        let notes: Vec<Note> = records.into_iter().map(|r| r.note).collect();
        assert_eq!(notes, all_notes());
    }

    #[test]
    fn a_record_that_was_changed_taken_away_or_cut_off_is_found() {
        let (head, entries) = written();
        let mut changed = entries.clone();
        let name = changed[2].value.windows(4).position(|bytes| bytes == b"fs_1").unwrap();
        changed[2].value[name + 3] = b'2';
        assert!(matches!(verify(MigrationId(4), &changed, Some(&head)), Err(Broken::Changed { .. })));
        for bad in [&changed, &entries[..entries.len() - 1].to_vec()] {
            assert_eq!(
                check(MigrationId(4), bad, Some(&head)).unwrap_err(),
                verify(MigrationId(4), bad, Some(&head)).unwrap_err()
            );
        }
        check(MigrationId(4), &entries, Some(&head)).unwrap();
        let mut missing = entries.clone();
        missing.remove(3);
        assert!(matches!(verify(MigrationId(4), &missing, Some(&head)), Err(Broken::Missing { .. })));
        let cut = &entries[..entries.len() - 1];
        assert!(matches!(verify(MigrationId(4), cut, Some(&head)), Err(Broken::End { .. })));
        let mut last = entries.clone();
        *last.last_mut().unwrap().value.last_mut().unwrap() ^= 1;
        assert!(matches!(verify(MigrationId(4), &last, Some(&head)), Err(Broken::End { .. })));
    }
}
