//! What links the records of a journal.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fleet::digits;

/// BLAKE3 of a record's bytes, or that there is no record. As text it is in hex, or empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecordHash(Option<[u8; blake3::OUT_LEN]>);

impl RecordHash {
    pub(super) fn of(record: &[u8]) -> Self {
        Self(Some(*blake3::hash(record).as_bytes()))
    }

    /// Its bytes: 32, or none.
    pub(in crate::migrate) fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |bytes| bytes)
    }

    /// That of 32 bytes, or of none.
    pub(in crate::migrate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
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
