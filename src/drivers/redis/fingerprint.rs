//! A canonical fingerprint of a key: equal on two nodes exactly when type, value and time to live
//! are equal. `DUMP` would not do: its bytes depend on the encoding that each node happens to use.
//!
//! | type | what is hashed |
//! |---|---|
//! | string | the bytes |
//! | hash, set | the sum of the hashes of its members: order does not matter |
//! | zset, list | members in order |
//! | stream | entries in order, last id, groups with their positions |
//!
//! Nothing is read in pieces larger than [`PIECE`], and not many pieces at once, so that no read
//! blocks a serving node for long.

use std::collections::HashSet;

use super::nodes::Nodes;
use super::wire::{Answers, Reply, Requests, Wire, said};
use crate::drivers::error::{DriverError, Retry};

/// Bytes of a string that are read at once.
pub(super) const PIECE: usize = 65_536;
/// The same as the offset of the last of them.
pub(super) const PIECE_END: &[u8] = b"65535";
/// Members of a collection that are read at once.
const MEMBERS: usize = 1_000;
/// Strings that are read at once: a quarter of a megabyte where they are of usual size, four where
/// all are large.
const STRINGS: usize = 64;
/// Answers of that many bytes are wanted from a round trip over collections.
const ROUND_TRIP: usize = 128 << 10;

/// A key's fingerprint; `None` where there is no such key.
pub(super) type Fingerprint = Option<u128>;

/// Fingerprints of `keys` on one node, in their order; a broken line is made anew once.
pub(super) async fn fingerprints(
    nodes: &Nodes,
    address: &str,
    keys: &[Vec<u8>],
) -> Result<Vec<Fingerprint>, DriverError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let found = fingerprints_over(&mut *nodes.wire(address).await?, keys).await;
    match found {
        Err(error) if error.retry == Retry::Retryable => {
            nodes.drop_wires(address);
            fingerprints_over(&mut *nodes.wire(address).await?, keys).await
        }
        found => found,
    }
}

/// Fingerprints of `keys` over one line, in their order.
pub(super) async fn fingerprints_over(
    wire: &mut Wire,
    keys: &[Vec<u8>],
) -> Result<Vec<Fingerprint>, DriverError> {
    let mut found = vec![None; keys.len()];
    let (mut long, mut others) = (Vec::new(), Vec::new());
    for (nth, keys) in keys.chunks(STRINGS).enumerate() {
        let mut requests = Requests::default();
        for key in keys {
            requests.add(&[b"GETRANGE", key, b"0", PIECE_END]);
            requests.add(&[b"PEXPIRETIME", key]);
        }
        let address = wire.address().to_string();
        let mut answers = wire.exchange(&requests).await?;
        for (i, key) in keys.iter().enumerate() {
            let (value, expires) = (answers.next(), answers.next());
            let expires = match expires {
                Some(Reply::Int(-2)) => continue,
                Some(Reply::Int(at)) => at,
                Some(Reply::Error(words)) => return Err(said(&address, "reading a key", words)),
                _ => -1,
            };
            let at = nth * STRINGS + i;
            match value {
                Some(Reply::Bulk(bytes)) if bytes.len() < PIECE => {
                    found[at] = Some(of_string(key, expires, bytes))
                }
                Some(Reply::Bulk(_)) => long.push((at, expires)),
                Some(Reply::Error(words)) if !words.starts_with(b"WRONGTYPE") => {
                    return Err(said(&address, "reading a key", words));
                }
                _ => others.push((at, expires)),
            }
        }
    }
    for (at, expires) in long {
        found[at] = long_string(wire, &keys[at], expires).await?;
    }
    for (at, fingerprint) in collections(wire, keys, others).await? {
        found[at] = fingerprint;
    }
    Ok(found)
}

/// The fingerprint of a string that was read whole.
pub(super) fn of_string(key: &[u8], expires: i64, value: &[u8]) -> u128 {
    let mut hasher = start(key, expires);
    hasher.update(b"string");
    hasher.update(value);
    finish(&hasher)
}

fn start(key: &[u8], expires: i64) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    part(&mut hasher, key);
    hasher.update(&expires.to_le_bytes());
    hasher
}

fn part(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn finish(hasher: &blake3::Hasher) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(bytes)
}

/// Feeds a value of any shape in a way that no other value is fed.
fn feed(hasher: &mut blake3::Hasher, value: &Reply<'_>) {
    match value {
        Reply::Array(items) => {
            hasher.update(b"[");
            hasher.update(&(items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| feed(hasher, item));
        }
        Reply::Nil => {
            hasher.update(b"-");
        }
        Reply::Bulk(bytes) => {
            hasher.update(b"$");
            part(hasher, bytes);
        }
        other => {
            hasher.update(b"$");
            part(hasher, other.text().as_bytes());
        }
    }
}

async fn long_string(wire: &mut Wire, key: &[u8], expires: i64) -> Result<Fingerprint, DriverError> {
    let mut hasher = start(key, expires);
    hasher.update(b"string");
    let mut at = 0;
    loop {
        let (from, to) = (at.to_string(), (at + PIECE - 1).to_string());
        let answer = wire.one(&[b"GETRANGE", key, from.as_bytes(), to.as_bytes()]).await?;
        let Reply::Bulk(bytes) = answer else { return Ok(None) };
        hasher.update(bytes);
        if bytes.len() < PIECE {
            return Ok(Some(finish(&hasher)));
        }
        at += PIECE;
    }
}

/// Reads the keys that are no strings, page by page, several keys in a round trip.
async fn collections(
    wire: &mut Wire,
    keys: &[Vec<u8>],
    wanted: Vec<(usize, i64)>,
) -> Result<Vec<(usize, Fingerprint)>, DriverError> {
    let mut found = Vec::with_capacity(wanted.len());
    if wanted.is_empty() {
        return Ok(found);
    }
    let mut ask = Requests::default();
    wanted.iter().for_each(|(at, _)| ask.add(&[b"TYPE", &keys[*at]]));
    let mut open = Vec::with_capacity(wanted.len());
    for ((at, expires), kind) in wanted.into_iter().zip(wire.exchange(&ask).await?) {
        match Reading::begin(&kind.text(), start(&keys[at], expires)) {
            Some(reading) => open.push((at, reading)),
            None => found.push((at, None)),
        }
    }
    let mut together = 16;
    while !open.is_empty() {
        let mut next = Vec::new();
        let mut rest = open.into_iter();
        loop {
            let some: Vec<(usize, Reading)> = rest.by_ref().take(together).collect();
            if some.is_empty() {
                break;
            }
            let mut ask = Requests::default();
            some.iter().for_each(|(at, reading)| reading.ask(&keys[*at], &mut ask));
            let mut answers = wire.exchange(&ask).await?;
            together = (ROUND_TRIP / (answers.bytes() / some.len()).max(1)).clamp(1, 256);
            for (at, mut reading) in some {
                match reading.take(&mut answers) {
                    Page::More => next.push((at, reading)),
                    Page::Last => found.push((at, Some(reading.finish()))),
                    // Deleted or replaced while it was read: whoever compares looks again.
                    Page::Gone => found.push((at, None)),
                }
            }
        }
        open = next;
    }
    Ok(found)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hash,
    Set,
    Zset,
    List,
    Stream,
    /// A module's type: its serialised form is all that there is.
    Module,
}

/// Whether a collection goes on behind a page.
enum Page {
    More,
    Last,
    Gone,
}

/// A collection that is being read.
struct Reading {
    kind: Kind,
    hasher: blake3::Hasher,
    /// Where the next page begins: a cursor, or the id behind which a stream goes on.
    cursor: Vec<u8>,
    /// The same of what is counted.
    from: usize,
    /// Of the members of a hash or set, each once: a cursor may yield one twice.
    sum: u128,
    seen: HashSet<u128>,
}

impl Reading {
    fn begin(kind: &str, mut hasher: blake3::Hasher) -> Option<Reading> {
        hasher.update(kind.as_bytes());
        let (kind, cursor): (_, &[u8]) = match kind {
            // A string by now, or gone.
            "none" | "string" | "" => return None,
            "hash" => (Kind::Hash, b"0"),
            "set" => (Kind::Set, b"0"),
            "zset" => (Kind::Zset, b""),
            "list" => (Kind::List, b""),
            "stream" => (Kind::Stream, b"-"),
            _ => (Kind::Module, b""),
        };
        Some(Reading { kind, hasher, cursor: cursor.to_vec(), from: 0, sum: 0, seen: HashSet::new() })
    }

    fn ask(&self, key: &[u8], requests: &mut Requests) {
        let count = MEMBERS.to_string();
        let (from, to) = (self.from.to_string(), (self.from + MEMBERS - 1).to_string());
        let (count, from, to) = (count.as_bytes(), from.as_bytes(), to.as_bytes());
        match self.kind {
            Kind::Hash => requests.add(&[b"HSCAN", key, &self.cursor, b"COUNT", count]),
            Kind::Set => requests.add(&[b"SSCAN", key, &self.cursor, b"COUNT", count]),
            Kind::Zset => requests.add(&[b"ZRANGE", key, from, to, b"WITHSCORES"]),
            Kind::List => requests.add(&[b"LRANGE", key, from, to]),
            Kind::Stream => {
                if self.cursor == b"-" {
                    requests.add(&[b"XINFO", b"STREAM", key]);
                    requests.add(&[b"XINFO", b"GROUPS", key]);
                }
                requests.add(&[b"XRANGE", key, &self.cursor, b"+", b"COUNT", count]);
            }
            Kind::Module => requests.add(&[b"DUMP", key]),
        }
    }

    /// Takes as many answers as were asked for.
    fn take(&mut self, answers: &mut Answers<'_>) -> Page {
        let mut facts = None;
        if self.kind == Kind::Stream && self.cursor == b"-" {
            facts = Some((answers.next(), answers.next()));
        }
        let answer = answers.next();
        match (self.kind, &answer) {
            (Kind::Hash, Some(Reply::Array(page))) => self.members(page, 2),
            (Kind::Set, Some(Reply::Array(page))) => self.members(page, 1),
            (Kind::Zset, Some(Reply::Array(items))) => self.in_order(items, 2),
            (Kind::List, Some(Reply::Array(items))) => self.in_order(items, 1),
            (Kind::Stream, Some(Reply::Array(entries))) => {
                if let Some((stream, groups)) = facts {
                    let (Some(stream @ Reply::Array(_)), Some(Reply::Array(groups))) = (stream, groups)
                    else {
                        return Page::Gone;
                    };
                    self.facts(&stream, &groups);
                }
                entries.iter().for_each(|entry| feed(&mut self.hasher, entry));
                match entries.last().and_then(|e| e.items()?.first()) {
                    Some(id) if entries.len() == MEMBERS => {
                        self.cursor = format!("({}", id.text()).into_bytes();
                        Page::More
                    }
                    _ => Page::Last,
                }
            }
            (Kind::Module, Some(value @ Reply::Bulk(_))) => {
                feed(&mut self.hasher, value);
                Page::Last
            }
            _ => Page::Gone,
        }
    }

    /// A page of a cursor, `width` values a member.
    fn members(&mut self, page: &[Reply<'_>], width: usize) -> Page {
        let [cursor, Reply::Array(items)] = page else { return Page::Gone };
        for member in items.chunks(width) {
            let mut hasher = blake3::Hasher::new();
            member.iter().for_each(|value| feed(&mut hasher, value));
            let hash = finish(&hasher);
            if self.seen.insert(hash) {
                self.sum = self.sum.wrapping_add(hash);
            }
        }
        self.cursor = cursor.text().into_bytes();
        if self.cursor == b"0" { Page::Last } else { Page::More }
    }

    /// A page of what has an order, `width` values a member.
    fn in_order(&mut self, items: &[Reply<'_>], width: usize) -> Page {
        items.iter().for_each(|item| feed(&mut self.hasher, item));
        self.from += MEMBERS;
        if items.len() < MEMBERS * width { Page::Last } else { Page::More }
    }

    fn facts(&mut self, stream: &Reply<'_>, groups: &[Reply<'_>]) {
        for name in ["length", "last-generated-id", "max-deleted-entry-id", "entries-added"] {
            part(&mut self.hasher, field(stream, name).as_bytes());
        }
        for group in groups {
            for name in ["name", "pending", "last-delivered-id"] {
                part(&mut self.hasher, field(group, name).as_bytes());
            }
        }
    }

    fn finish(mut self) -> u128 {
        if matches!(self.kind, Kind::Hash | Kind::Set) {
            self.hasher.update(&self.sum.to_le_bytes());
        }
        finish(&self.hasher)
    }
}

/// A named field of an answer that lists names and values in turn.
fn field(facts: &Reply<'_>, name: &str) -> String {
    let pairs = facts.items().unwrap_or_default();
    pairs
        .chunks(2)
        .find(|pair| matches!(pair[0], Reply::Bulk(bytes) if bytes == name.as_bytes()))
        .and_then(|pair| pair.get(1))
        .map(Reply::text)
        .unwrap_or_default()
}
