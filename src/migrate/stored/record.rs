//! A record of a journal. It begins with its number and the hash of the one before, so that a chain can be
//! followed without making the records.

use super::bytes::{Reader, Unreadable, Writer};
use super::{FORM, is_json, read};
use crate::fleet::{Epoch, Generation, MigrationId};
use crate::migrate::journal::{Note, Record, RecordHash, Verdict};
use crate::state::read_stored;

pub(super) const VERDICTS: [Verdict; 3] = [Verdict::Applied, Verdict::Failed, Verdict::Unknown];

/// The bytes of a record that are stored, and hashed.
pub(in crate::migrate) fn put(record: &Record) -> Vec<u8> {
    let Record { seq, prev, migration, at, epoch, actor, phase, note } = record;
    let mut to = Writer::new(FORM, 192);
    to.number(*seq).hash(*prev).number(migration.0).time(*at).number(epoch.0).text(actor).phase(*phase);
    put_note(&mut to, note);
    to.done()
}

fn put_note(to: &mut Writer, note: &Note) {
    match note {
        Note::Intent { step, idem, args, deadline } => {
            to.byte(0).text(step).text(idem).text(args).byte(u8::from(deadline.is_some()));
            if let Some(deadline) = deadline {
                to.time(*deadline);
            }
        }
        Note::Outcome { step, idem, result, evidence } => {
            to.byte(1).text(step).text(idem).byte(*result as u8).text(evidence);
        }
        Note::CleanupAdd { artifact, policy } => {
            to.byte(2).artifact(artifact).policy(*policy);
        }
        Note::CleanupDone { artifact } => {
            to.byte(3).artifact(artifact);
        }
        Note::State { from, to: into, reason } => {
            to.byte(4).phase(*from).phase(*into).text(reason);
        }
        Note::Decision { what, why } => {
            to.byte(5).text(what).text(why);
        }
        Note::Fence { leader, generation } => {
            to.byte(6).number(leader.0).number(generation.0);
        }
        Note::Budget { change, what } => {
            to.byte(7).byte(change.to_le_bytes()[0]).text(what);
        }
    }
}

/// A record from what is stored of it, in this form or as JSON.
///
/// # Errors
/// What is wrong with it.
pub(in crate::migrate) fn take(bytes: &[u8]) -> Result<Record, Unreadable> {
    read(bytes, |from| {
        Ok(Record {
            seq: from.number("its number")?,
            prev: from.hash()?,
            migration: MigrationId(from.number("a migration")?),
            at: from.time("when")?,
            epoch: Epoch(from.number("an epoch")?),
            actor: from.text("who")?.to_string(),
            phase: from.phase()?,
            note: take_note(from)?,
        })
    })
}

fn take_note(from: &mut Reader<'_>) -> Result<Note, Unreadable> {
    let text = |from: &mut Reader<'_>, what| from.text(what).map(str::to_string);
    Ok(match from.byte("a kind of record")? {
        0 => Note::Intent {
            step: text(from, "the name of an action")?,
            idem: text(from, "an idempotency key")?,
            args: text(from, "a hash of arguments")?,
            deadline: match from.one_of(&[false, true], "whether there is a deadline")? {
                true => Some(from.time("a deadline")?),
                false => None,
            },
        },
        1 => Note::Outcome {
            step: text(from, "the name of an action")?,
            idem: text(from, "an idempotency key")?,
            result: from.one_of(&VERDICTS, "what came of an action")?,
            evidence: text(from, "what was seen")?,
        },
        2 => Note::CleanupAdd { artifact: from.artifact()?, policy: from.policy()? },
        3 => Note::CleanupDone { artifact: from.artifact()? },
        4 => Note::State { from: from.phase()?, to: from.phase()?, reason: text(from, "why")? },
        5 => Note::Decision { what: text(from, "what was decided")?, why: text(from, "why")? },
        6 => Note::Fence {
            leader: Epoch(from.number("an epoch")?),
            generation: Generation(from.number("a generation")?),
        },
        7 => Note::Budget {
            change: i8::from_le_bytes([from.byte("how many tokens")?]),
            what: text(from, "what was taken")?,
        },
        kind => return Err(Unreadable::Odd { what: "a kind of record", got: u64::from(kind) }),
    })
}

/// Number and hash that a record begins with.
///
/// # Errors
/// What is wrong with them.
pub(in crate::migrate) fn front(bytes: &[u8]) -> Result<(u64, RecordHash), Unreadable> {
    /// What the chain needs of a record of an earlier version.
    #[derive(serde::Deserialize)]
    struct Front {
        seq: u64,
        prev: RecordHash,
    }
    if is_json(bytes) {
        let Front { seq, prev } = read_stored(bytes)?;
        return Ok((seq, prev));
    }
    let mut from = Reader::of(FORM, bytes)?;
    Ok((from.number("its number")?, from.hash()?))
}
