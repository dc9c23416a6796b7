//! The journal of a migration: append-only records in the store, each carrying the hash of the one
//! before. What was intended is durable before it is asked for, what came of it right after; a
//! record that was changed or taken away later breaks the chain.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::stored;
use crate::drivers::{Artifact, CleanupPolicy};
use crate::fleet::{Epoch, Generation, MigrationId, Phase, Timestamp, digits};
use crate::state::{Entry, Op};

/// BLAKE3 of a record's bytes, or that there is no record. As text it is in hex, or empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecordHash(Option<[u8; blake3::OUT_LEN]>);

impl RecordHash {
    fn of(record: &[u8]) -> Self {
        Self(Some(*blake3::hash(record).as_bytes()))
    }

    /// Its bytes: 32, or none.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |bytes| bytes)
    }

    /// That of 32 bytes, or of none.
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [] => Some(Self(None)),
            bytes => bytes.try_into().ok().map(|bytes| Self(Some(bytes))),
        }
    }
}

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&digits::hex(self.bytes()))
    }
}

impl Serialize for RecordHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RecordHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "" => Ok(Self(None)),
            hex => {
                blake3::Hash::from_hex(hex).map(|hash| Self(Some(*hash.as_bytes()))).map_err(D::Error::custom)
            }
        }
    }
}

/// The end of a chain: how many records there are and the hash of the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Head {
    /// How many records there are; the next one has this number.
    pub next: u64,
    /// That of the last record.
    pub hash: RecordHash,
}

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

/// Where a journal is broken.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Broken {
    /// A record is not readable.
    #[error("{key}: expected a journal record, got: {detail}")]
    Unreadable {
        /// Its key.
        key: String,
        /// What is wrong.
        detail: String,
    },
    /// The state, which names the end of the journal, is not readable.
    #[error("{key}: expected the state of a migration, got: {detail}; where its journal ends is not known")]
    State {
        /// Its key.
        key: String,
        /// What is wrong.
        detail: String,
    },
    /// A record is missing or in the wrong place.
    #[error("{key}: expected record {expected} here, got {got}: records were taken away or added")]
    Missing {
        /// The key that was found.
        key: String,
        /// The expected number.
        expected: u64,
        /// The number found.
        got: u64,
    },
    /// A record before this one was changed.
    #[error("{key}: the record before it was changed (its hash is {got}, expected {expected})")]
    Changed {
        /// The key of the record that names the hash.
        key: String,
        /// The hash that it names.
        expected: RecordHash,
        /// The hash of what is there.
        got: RecordHash,
    },
    /// The end is not the one that the state names.
    #[error(
        "{migration}: the journal ends at record {got}, but the state names {expected} records: its end was cut off or changed"
    )]
    End {
        /// The migration.
        migration: MigrationId,
        /// Records that the state names.
        expected: u64,
        /// Records there are.
        got: u64,
    },
}

/// Checks the chain of one migration's records up to `head`, without making the records: what a
/// restart needs. A record begins with its number and the hash of the one before; what follows need not be
/// read, the hash that the next record or the state names vouches for every byte of it.
///
/// # Errors
/// The first place where it is broken.
pub fn check(migration: MigrationId, entries: &[Entry], head: Option<&Head>) -> Result<(), Broken> {
    let mut walk = Walk::new(migration);
    for entry in entries {
        let (seq, prev) = stored::record_front(&entry.value).map_err(|e| unreadable(entry, &e))?;
        walk.step(entry, seq, prev)?;
    }
    walk.end(head)
}

fn unreadable(entry: &Entry, error: &stored::Unreadable) -> Broken {
    Broken::Unreadable { key: entry.key.clone(), detail: error.to_string() }
}

/// Follows a chain.
struct Walk {
    migration: MigrationId,
    seen: Head,
    /// The key that the next record has to have.
    key: String,
    /// The length of what all keys begin with.
    prefix: usize,
}

impl Walk {
    fn new(migration: MigrationId) -> Self {
        let mut key = String::with_capacity(48);
        push_journal(&mut key, migration);
        Self { migration, seen: Head::default(), prefix: key.len(), key }
    }

    fn step(&mut self, entry: &Entry, seq: u64, prev: RecordHash) -> Result<(), Broken> {
        self.key.truncate(self.prefix);
        digits::push_number(&mut self.key, seq, SEQ_DIGITS);
        let Head { next, hash } = self.seen;
        if seq != next || entry.key != self.key {
            return Err(Broken::Missing { key: entry.key.clone(), expected: next, got: seq });
        }
        if prev != hash {
            return Err(Broken::Changed { key: entry.key.clone(), expected: prev, got: hash });
        }
        self.seen = Head { next: next + 1, hash: RecordHash::of(&entry.value) };
        Ok(())
    }

    fn end(self, head: Option<&Head>) -> Result<(), Broken> {
        match head {
            Some(head) if *head != self.seen => {
                Err(Broken::End { migration: self.migration, expected: head.next, got: self.seen.next })
            }
            _ => Ok(()),
        }
    }
}

/// Reads the records of one migration and checks the chain up to `head`.
///
/// # Errors
/// The first place where it is broken.
pub fn verify(migration: MigrationId, entries: &[Entry], head: Option<&Head>) -> Result<Vec<Record>, Broken> {
    let mut walk = Walk::new(migration);
    let mut records = Vec::with_capacity(entries.len());
    for entry in entries {
        let record = Record::read(&entry.value).map_err(|e| unreadable(entry, &e))?;
        walk.step(entry, record.seq, record.prev)?;
        records.push(record);
    }
    walk.end(head).map(|()| records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Revision;

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
