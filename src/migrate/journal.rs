//! The journal of a migration: append-only records in the store, each carrying the hash of the one
//! before. What was intended is durable before it is asked for, what came of it right after; a
//! record that was changed or taken away later breaks the chain.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::drivers::{Artifact, CleanupPolicy};
use crate::fleet::{Epoch, Generation, MigrationId, Phase, Timestamp, digits};
use crate::state::{Entry, Op, stored};

/// The end of a chain: how many records there are and the hash of the last.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Head {
    /// How many records there are; the next one has this number.
    pub next: u64,
    /// BLAKE3 of the last record's bytes in hex; empty where there is none.
    pub hash: String,
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
    /// Hash of the record before, in hex; empty for the first.
    pub prev: String,
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
        stored(self, 448).expect("plain data serialises")
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
                prev: std::mem::take(&mut head.hash),
                migration: stamp.migration,
                at: stamp.at,
                epoch: stamp.epoch,
                actor: stamp.actor.to_string(),
                phase: stamp.phase,
                note,
            };
            let bytes = record.bytes();
            digits::push_hex(&mut head.hash, blake3::hash(&bytes).as_bytes());
            head.next += 1;
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
        expected: String,
        /// The hash of what is there.
        got: String,
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

/// What the chain needs of a record; the rest is not made.
#[derive(Deserialize)]
struct Link<'a> {
    seq: u64,
    #[serde(borrow)]
    prev: &'a str,
}

/// Checks the chain of one migration's records up to `head`, without making the records: what a
/// restart needs, at a third of the cost of [`verify`].
///
/// # Errors
/// The first place where it is broken.
pub fn check(migration: MigrationId, entries: &[Entry], head: Option<&Head>) -> Result<(), Broken> {
    let mut walk = Walk::new(migration);
    for entry in entries {
        if walk.goes_on(entry) {
            continue;
        }
        let link: Link<'_> = serde_json::from_slice(&entry.value)
            .map_err(|e| Broken::Unreadable { key: entry.key.clone(), detail: e.to_string() })?;
        walk.step(entry, link.seq, link.prev)?;
    }
    walk.end(head)
}

/// Follows a chain.
struct Walk {
    migration: MigrationId,
    seen: u64,
    hash: String,
    /// The key that the next record has to have.
    key: String,
    /// The length of what all keys begin with.
    prefix: usize,
    /// What the next record has to begin with, where [`chain`] wrote it.
    front: String,
}

impl Walk {
    fn new(migration: MigrationId) -> Self {
        let mut key = String::with_capacity(48);
        push_journal(&mut key, migration);
        let front = String::with_capacity(128);
        Self { migration, seen: 0, hash: String::new(), prefix: key.len(), key, front }
    }

    /// Takes in the next record where it is as [`chain`] writes it: number and hash stand in front, and are
    /// the right ones. What follows them need not be read: the hash that the next record or the state names
    /// vouches for every byte of it. Otherwise nothing is taken in.
    fn goes_on(&mut self, entry: &Entry) -> bool {
        self.front.clear();
        self.front.push_str("{\"seq\":");
        digits::push_number(&mut self.front, self.seen, 1);
        self.front.push_str(",\"prev\":\"");
        self.front.push_str(&self.hash);
        self.front.push_str("\",\"migration\":");
        self.key.truncate(self.prefix);
        digits::push_number(&mut self.key, self.seen, SEQ_DIGITS);
        let fits = entry.key == self.key
            && entry.value.starts_with(self.front.as_bytes())
            && entry.value.ends_with(b"}");
        if fits {
            self.take(entry);
        }
        fits
    }

    fn step(&mut self, entry: &Entry, seq: u64, prev: &str) -> Result<(), Broken> {
        self.key.truncate(self.prefix);
        digits::push_number(&mut self.key, seq, SEQ_DIGITS);
        if seq != self.seen || entry.key != self.key {
            return Err(Broken::Missing { key: entry.key.clone(), expected: self.seen, got: seq });
        }
        if prev != self.hash {
            let got = std::mem::take(&mut self.hash);
            return Err(Broken::Changed { key: entry.key.clone(), expected: prev.to_string(), got });
        }
        self.take(entry);
        Ok(())
    }

    fn take(&mut self, entry: &Entry) {
        self.hash.clear();
        digits::push_hex(&mut self.hash, blake3::hash(&entry.value).as_bytes());
        self.seen += 1;
    }

    fn end(self, head: Option<&Head>) -> Result<(), Broken> {
        match head {
            Some(head) if head.next != self.seen || head.hash != self.hash => {
                Err(Broken::End { migration: self.migration, expected: head.next, got: self.seen })
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
        let record: Record = serde_json::from_slice(&entry.value)
            .map_err(|e| Broken::Unreadable { key: entry.key.clone(), detail: e.to_string() })?;
        walk.step(entry, record.seq, &record.prev)?;
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
        changed[2].value =
            String::from_utf8(changed[2].value.clone()).unwrap().replace("fs_1", "fs_2").into();
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
        let end = last.len() - 1;
        last[end].value = String::from_utf8(last[end].value.clone()).unwrap().replace("-1", "1").into();
        assert!(matches!(verify(MigrationId(4), &last, Some(&head)), Err(Broken::End { .. })));
    }
}
