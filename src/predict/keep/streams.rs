//! What the streams of all detectors carry from row to row, as bytes: a head, then one part a partition with
//! a hash of its own, so that a part that was changed costs the others nothing.

use super::record::{MAGIC, VERSION};
use crate::fleet::{PartitionId, Span, Timestamp};
use crate::predict::anomaly::bytes::{Reader, Writer};
use crate::predict::anomaly::{AnomalyModel, Stream};
use crate::predict::assessment::Anomaly;

/// A stream's part begins with its own mark, after the length.
const MARK: &[u8; 4] = b"FSst";
/// Bytes of a part's hash.
const HASH: usize = 16;

/// Where a stream stood.
#[derive(Clone, PartialEq, Debug)]
pub struct KeptStream {
    /// Of which model.
    pub(in crate::predict) print: u64,
    pub(in crate::predict) stream: Stream,
    /// Start of the last slot that was read.
    pub(in crate::predict) scored: Timestamp,
    /// Rows for which its alarm has stood.
    pub(in crate::predict) standing: u32,
    /// What was said last.
    pub(in crate::predict) said: Option<Anomaly>,
}

/// The part of one stream, read by [`find`] only; borrowed, since all of them are written in one go.
pub(in crate::predict) struct Standing<'a> {
    pub(in crate::predict) print: u64,
    pub(in crate::predict) stream: &'a Stream,
    pub(in crate::predict) scored: Timestamp,
    pub(in crate::predict) standing: u32,
    pub(in crate::predict) said: Option<Anomaly>,
}

impl KeptStream {
    pub(in crate::predict) fn standing(&self) -> Standing<'_> {
        let KeptStream { print, stream, scored, standing, said } = self;
        Standing { print: *print, stream, scored: *scored, standing: *standing, said: *said }
    }
}

/// The head of the file.
pub(in crate::predict) fn begin(step: Span) -> Vec<u8> {
    let mut to = Writer(MAGIC.to_vec());
    to.u16(VERSION);
    to.i64(step.0);
    to.0
}

/// Adds one stream.
pub(in crate::predict) fn add(out: &mut Vec<u8>, partition: &PartitionId, of: &Standing<'_>) {
    let mut to = Writer(MARK.to_vec());
    to.text(partition.as_str());
    to.u64(of.print);
    to.i64(of.scored.0);
    to.u32(of.standing);
    to.u8(u8::from(of.said.is_some()));
    if let Some(said) = &of.said {
        to.f64(said.score);
        to.f64(said.strength);
        to.u8(u8::from(said.alarmed));
    }
    of.stream.put(&mut to);
    let hash = blake3::hash(&to.0);
    out.extend(((to.0.len() + HASH) as u32).to_le_bytes());
    out.extend(&to.0);
    out.extend(&hash.as_bytes()[..HASH]);
}

/// The parts of a file that are whole, by the partition that each names; empty where the file is of another
/// program or grid. What follows a length that was changed is lost with it.
pub(super) fn parts(bytes: &[u8], step: Span) -> Vec<(PartitionId, &[u8])> {
    let mut from = Reader(bytes);
    let ours =
        from.slice(MAGIC.len()) == Some(MAGIC) && from.u16() == Some(VERSION) && from.i64() == Some(step.0);
    let mut out = Vec::new();
    while ours && let Some(part) = from.u32().and_then(|length| from.slice(length as usize)) {
        let Some((body, hash)) = part.split_last_chunk::<HASH>() else { continue };
        if blake3::hash(body).as_bytes()[..HASH] != *hash {
            continue;
        }
        let mut named = Reader(body);
        if named.slice(MARK.len()) == Some(MARK)
            && let Some(partition) = named.text()
        {
            out.push((PartitionId::from(partition), named.0));
        }
    }
    out
}

/// A stream of this model out of its part; `None` where it is of another one.
pub(super) fn take(part: &[u8], model: &AnomalyModel, print: u64) -> Option<KeptStream> {
    let mut from = Reader(part);
    from.u64().filter(|found| *found == print)?;
    let scored = Timestamp(from.i64()?);
    let standing = from.u32()?;
    let said = match from.flag()? {
        true => Some(Anomaly {
            score: from.f64()?,
            strength: from.f64()?,
            alarmed: from.flag()?,
            by_days: model.knows_days(),
            stands_out: false,
        }),
        false => None,
    };
    let stream = model.take_stream(&mut from)?;
    from.ended(KeptStream { print, stream, scored, standing, said })
}
