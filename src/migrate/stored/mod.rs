//! What is stored of a migration, as bytes. Its records are written and hashed and its progress is written with
//! every step, its ledger with many, and a restart reads them all and its plan, so they are short: the number of the
//! form first, then values one after the other (`bytes` says how), less than half of the same as JSON. Stores of
//! earlier versions hold JSON, which is read as it was. Nothing here may be given another number: what is new gets a
//! new one.

mod acts;
mod bytes;
mod ledger;
mod plan;
mod progress;
mod record;
#[cfg(test)]
mod tests;

pub(super) use acts::alone as act_bytes;
use bytes::Reader;
pub use bytes::Unreadable;
pub(super) use ledger::{put as ledger_bytes, take as ledger_of};
pub(super) use plan::{put as plan_bytes, take as plan_of};
pub(super) use progress::{put as progress_bytes, take as progress_of};
pub(super) use record::{front as record_front, put as record_bytes, take as record_of};
use serde::Deserialize;

use crate::state::read_stored;

/// The number of the form; none is that of `{`.
const FORM: u8 = 1;

/// Whether the bytes are JSON, as earlier versions wrote it.
fn is_json(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'{')
}

/// What is stored as `bytes`: as JSON, or in this form, whose values `take` reads to their end.
fn read<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
    take: impl FnOnce(&mut Reader<'a>) -> Result<T, Unreadable>,
) -> Result<T, Unreadable> {
    if is_json(bytes) {
        return Ok(read_stored(bytes)?);
    }
    let mut from = Reader::of(FORM, bytes)?;
    let read = take(&mut from)?;
    from.ended(read)
}
