//! Numbers and texts as bytes: whole numbers in groups of seven bits, the lowest first (LEB128, as in DWARF 5,
//! §7.6), signed ones with the sign in the lowest bit, texts with their length before them.

use std::sync::Arc;

use thiserror::Error;

use crate::drivers::{Artifact, CleanupPolicy};
use crate::fleet::{PartitionId, Phase, Share, Span, Timestamp};
use crate::migrate::journal::RecordHash;

pub(super) const POLICIES: [CleanupPolicy; 3] =
    [CleanupPolicy::Always, CleanupPolicy::OnFailure, CleanupPolicy::DeferredOnSuccess];

/// Why stored bytes cannot be read.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// They are in a form that is not known here.
    #[error(
        "expected form {known} or JSON, got form {got}: a newer foreshift wrote it, which can go on with it"
    )]
    Form {
        /// The form that is known.
        known: u8,
        /// The first byte.
        got: u8,
    },
    /// They end too early.
    #[error("it ends where {0} was expected")]
    Short(&'static str),
    /// Something else stands there.
    #[error("expected {what}, got {got}")]
    Odd {
        /// What was expected.
        what: &'static str,
        /// What stands there.
        got: u64,
    },
    /// There is more than it says.
    #[error("{0} bytes are left behind its end")]
    Long(usize),
    /// It is JSON, of an earlier version, and not what was expected.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Writes.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// Begins with the form's number, in a buffer with `room` bytes.
    pub(super) fn new(form: u8, room: usize) -> Self {
        let mut bytes = Vec::with_capacity(room);
        bytes.push(form);
        Self(bytes)
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    pub(super) fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        let mut left = number.into();
        while left > 0x7f {
            self.0.push(left as u8 | 0x80);
            left >>= 7;
        }
        self.byte(left as u8)
    }

    pub(super) fn time(&mut self, at: Timestamp) -> &mut Self {
        self.number(((at.0 << 1) ^ (at.0 >> 63)) as u64)
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64).bytes(text.as_bytes())
    }

    pub(super) fn phase(&mut self, phase: Phase) -> &mut Self {
        self.byte(phase as u8)
    }

    pub(super) fn span(&mut self, span: Span) -> &mut Self {
        self.time(Timestamp(span.0))
    }

    pub(super) fn float(&mut self, float: f64) -> &mut Self {
        self.bytes(&float.to_le_bytes())
    }

    pub(super) fn share(&mut self, share: Share) -> &mut Self {
        self.float(share.get())
    }

    /// As many as whoever reads them expects.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Up to eight, the first in the lowest bit.
    pub(super) fn flags<const N: usize>(&mut self, flags: [bool; N]) -> &mut Self {
        const { assert!(N <= 8) }
        self.byte(flags.into_iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(flag)))
    }

    pub(super) fn hash(&mut self, hash: RecordHash) -> &mut Self {
        let bytes = hash.bytes();
        self.byte(bytes.len() as u8).bytes(bytes)
    }

    pub(super) fn artifact(&mut self, artifact: &Artifact) -> &mut Self {
        self.text(&artifact.kind).text(&artifact.name).text(artifact.partition.as_str())
    }

    pub(super) fn policy(&mut self, policy: CleanupPolicy) -> &mut Self {
        self.byte(policy as u8)
    }
}

/// Reads.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Behind the form's number.
    pub(super) fn of(form: u8, bytes: &'a [u8]) -> Result<Self, Unreadable> {
        match bytes.split_first() {
            Some((first, rest)) if *first == form => Ok(Self(rest)),
            Some((first, _)) => Err(Unreadable::Form { known: form, got: *first }),
            None => Err(Unreadable::Short("the number of its form")),
        }
    }

    pub(super) fn byte(&mut self, what: &'static str) -> Result<u8, Unreadable> {
        let (first, rest) = self.0.split_first().ok_or(Unreadable::Short(what))?;
        self.0 = rest;
        Ok(*first)
    }

    fn slice(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Unreadable> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(Unreadable::Short(what))?;
        self.0 = rest;
        Ok(front)
    }

    pub(super) fn number(&mut self, what: &'static str) -> Result<u64, Unreadable> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Unreadable::Odd { what, got: number })
    }

    pub(super) fn small(&mut self, what: &'static str) -> Result<u32, Unreadable> {
        let number = self.number(what)?;
        u32::try_from(number).map_err(|_| Unreadable::Odd { what, got: number })
    }

    pub(super) fn time(&mut self, what: &'static str) -> Result<Timestamp, Unreadable> {
        let bits = self.number(what)?;
        Ok(Timestamp((bits >> 1) as i64 ^ -((bits & 1) as i64)))
    }

    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, Unreadable> {
        let count = self.number(what)?;
        let bytes = self.slice(usize::try_from(count).unwrap_or(usize::MAX), what)?;
        std::str::from_utf8(bytes).map_err(|e| Unreadable::Odd {
            what,
            got: bytes.get(e.valid_up_to()).copied().map_or(0, u64::from),
        })
    }

    /// A byte that stands for one of `all`.
    pub(super) fn one_of<T: Copy>(&mut self, all: &[T], what: &'static str) -> Result<T, Unreadable> {
        let got = self.byte(what)?;
        all.get(usize::from(got)).copied().ok_or(Unreadable::Odd { what, got: u64::from(got) })
    }

    pub(super) fn phase(&mut self) -> Result<Phase, Unreadable> {
        self.one_of(&Phase::ALL, "a state of a migration")
    }

    pub(super) fn span(&mut self, what: &'static str) -> Result<Span, Unreadable> {
        self.time(what).map(|at| Span(at.0))
    }

    pub(super) fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Unreadable> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Unreadable::Short(what))?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(super) fn float(&mut self, what: &'static str) -> Result<f64, Unreadable> {
        self.bytes(what).map(f64::from_le_bytes)
    }

    pub(super) fn flags<const N: usize>(&mut self, what: &'static str) -> Result<[bool; N], Unreadable> {
        let bits = self.byte(what)?;
        match u16::from(bits) >> N {
            0 => Ok(std::array::from_fn(|at| bits & 1 << at != 0)),
            _ => Err(Unreadable::Odd { what, got: u64::from(bits) }),
        }
    }

    pub(super) fn share(&mut self) -> Result<Share, Unreadable> {
        let what = "a share from 0 to 1";
        let share = self.float(what)?;
        Share::new(share).map_err(|_| Unreadable::Odd { what, got: share.to_bits() })
    }

    pub(super) fn hash(&mut self) -> Result<RecordHash, Unreadable> {
        let what = "the hash of a record";
        let count = self.byte(what)?;
        let bytes = self.slice(usize::from(count), what)?;
        RecordHash::of_bytes(bytes).ok_or(Unreadable::Odd { what, got: u64::from(count) })
    }

    pub(super) fn artifact(&mut self) -> Result<Artifact, Unreadable> {
        let what = "an artifact";
        let (kind, name) = (self.text(what)?.to_string(), self.text(what)?.to_string());
        let partition: Arc<str> = self.text(what)?.into();
        Ok(Artifact { kind, name, partition: PartitionId::new(partition) })
    }

    pub(super) fn policy(&mut self) -> Result<CleanupPolicy, Unreadable> {
        self.one_of(&POLICIES, "when an artifact is to be removed")
    }

    /// What was read, where nothing is left.
    pub(super) fn ended<T>(self, read: T) -> Result<T, Unreadable> {
        match self.0.len() {
            0 => Ok(read),
            left => Err(Unreadable::Long(left)),
        }
    }
}
