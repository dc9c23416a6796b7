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
//! Nothing is read in pieces larger than [`PIECE`], so that no read blocks a serving node for long.

use std::collections::HashSet;

use redis::{Pipeline, Value};

use super::nodes::{Lane, Nodes, text};
use crate::drivers::error::DriverError;

/// Bytes of a string, or a thousandth of it members of a collection, that are read at once.
const PIECE: usize = 65_536;
const MEMBERS: usize = 1_000;

/// A key's fingerprint; `None` where there is no such key.
pub(super) type Fingerprint = Option<u128>;

/// Fingerprints of `keys` on one node, in their order.
pub(super) async fn fingerprints(
    nodes: &Nodes,
    address: &str,
    lane: Lane,
    keys: &[Vec<u8>],
) -> Result<Vec<Fingerprint>, DriverError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut first = Pipeline::with_capacity(keys.len() * 2);
    for key in keys {
        first.cmd("GETRANGE").arg(key).arg(0).arg(PIECE - 1);
        first.cmd("PEXPIRETIME").arg(key);
    }
    let answers = nodes.ask_many(address, lane, &first).await?;
    let mut found = Vec::with_capacity(keys.len());
    for (key, answer) in keys.iter().zip(answers.chunks(2)) {
        let (value, expires) = (&answer[0], answer.get(1));
        let expires = match expires {
            Some(Value::Int(-2)) => {
                found.push(None);
                continue;
            }
            Some(Value::Int(at)) => *at,
            Some(Value::ServerError(error)) => return Err(refused(nodes, address, error)),
            _ => -1,
        };
        let mut hasher = start(key, expires);
        match value {
            Value::BulkString(bytes) if bytes.len() < PIECE => {
                hasher.update(b"string");
                hasher.update(bytes);
                found.push(Some(finish(&hasher)));
            }
            Value::BulkString(_) => {
                found.push(long_string(nodes, address, lane, key, hasher).await?);
            }
            Value::ServerError(error) if error.code() != "WRONGTYPE" => {
                return Err(refused(nodes, address, error));
            }
            _ => found.push(collection(nodes, address, lane, key, hasher).await?),
        }
    }
    Ok(found)
}

fn refused(_: &Nodes, address: &str, error: &redis::ServerError) -> DriverError {
    use crate::drivers::error::Retry;
    let retry = match error.code() {
        "LOADING" | "MASTERDOWN" | "MOVED" | "CLUSTERDOWN" | "BUSY" | "TRYAGAIN" => Retry::Retryable,
        _ => Retry::Permanent,
    };
    let detail = format!("{} {}", error.code(), error.details().unwrap_or_default());
    DriverError::new(retry, super::nodes::system(address), "reading a key", detail)
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

fn short(hash: &blake3::Hash) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_le_bytes(bytes)
}

fn finish(hasher: &blake3::Hasher) -> u128 {
    short(&hasher.finalize())
}

/// Feeds a value of any shape in a way that no other value is fed.
fn feed(hasher: &mut blake3::Hasher, value: &Value) {
    match value {
        Value::Array(items) | Value::Set(items) => {
            hasher.update(b"[");
            hasher.update(&(items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| feed(hasher, item));
        }
        Value::Nil => {
            hasher.update(b"-");
        }
        Value::BulkString(bytes) => {
            hasher.update(b"$");
            part(hasher, bytes);
        }
        other => {
            hasher.update(b"$");
            part(hasher, text(other.clone()).as_bytes());
        }
    }
}

/// One question, whose error ends the fingerprint.
async fn one(nodes: &Nodes, address: &str, lane: Lane, ask: Pipeline) -> Result<Value, DriverError> {
    let answer = nodes.ask_many(address, lane, &ask).await?.into_iter().next().unwrap_or(Value::Nil);
    match answer {
        Value::ServerError(error) => Err(refused(nodes, address, &error)),
        answer => Ok(answer),
    }
}

async fn long_string(
    nodes: &Nodes,
    address: &str,
    lane: Lane,
    key: &[u8],
    mut hasher: blake3::Hasher,
) -> Result<Fingerprint, DriverError> {
    hasher.update(b"string");
    let mut at = 0;
    loop {
        let mut ask = Pipeline::new();
        ask.cmd("GETRANGE").arg(key).arg(at).arg(at + PIECE - 1);
        let Value::BulkString(bytes) = one(nodes, address, lane, ask).await? else { return Ok(None) };
        hasher.update(&bytes);
        if bytes.len() < PIECE {
            return Ok(Some(finish(&hasher)));
        }
        at += PIECE;
    }
}

async fn collection(
    nodes: &Nodes,
    address: &str,
    lane: Lane,
    key: &[u8],
    mut hasher: blake3::Hasher,
) -> Result<Fingerprint, DriverError> {
    let mut ask = Pipeline::new();
    ask.cmd("TYPE").arg(key);
    let kind = text(one(nodes, address, lane, ask).await?);
    hasher.update(kind.as_bytes());
    match kind.as_str() {
        "none" => return Ok(None),
        "hash" => hasher.update(&scanned(nodes, address, lane, key, "HSCAN", 2).await?.to_le_bytes()),
        "set" => hasher.update(&scanned(nodes, address, lane, key, "SSCAN", 1).await?.to_le_bytes()),
        "zset" | "list" => {
            let window = if kind == "zset" { "ZRANGE" } else { "LRANGE" };
            let mut from = 0;
            loop {
                let mut ask = Pipeline::new();
                ask.cmd(window).arg(key).arg(from).arg(from + MEMBERS - 1);
                if kind == "zset" {
                    ask.arg("WITHSCORES");
                }
                let Value::Array(items) = one(nodes, address, lane, ask).await? else { break };
                items.iter().for_each(|item| feed(&mut hasher, item));
                if items.len() < MEMBERS {
                    break;
                }
                from += MEMBERS;
            }
            &mut hasher
        }
        "stream" => {
            stream(nodes, address, lane, key, &mut hasher).await?;
            &mut hasher
        }
        // A module's type: its serialised form is all that there is.
        _ => {
            let mut ask = Pipeline::new();
            ask.cmd("DUMP").arg(key);
            feed(&mut hasher, &one(nodes, address, lane, ask).await?);
            &mut hasher
        }
    };
    Ok(Some(finish(&hasher)))
}

/// Sum of the hashes of the members that a cursor yields, `width` values a member; a member that
/// the cursor yields twice counts once.
async fn scanned(
    nodes: &Nodes,
    address: &str,
    lane: Lane,
    key: &[u8],
    command: &str,
    width: usize,
) -> Result<u128, DriverError> {
    let (mut cursor, mut sum, mut seen) = ("0".to_string(), 0u128, HashSet::new());
    loop {
        let mut ask = Pipeline::new();
        ask.cmd(command).arg(key).arg(&cursor).arg("COUNT").arg(MEMBERS);
        let Value::Array(answer) = one(nodes, address, lane, ask).await? else { return Ok(sum) };
        let mut answer = answer.into_iter();
        cursor = answer.next().map(text).unwrap_or_else(|| "0".into());
        if let Some(Value::Array(items)) = answer.next() {
            for member in items.chunks(width) {
                let mut hasher = blake3::Hasher::new();
                member.iter().for_each(|value| feed(&mut hasher, value));
                let hash = finish(&hasher);
                if seen.insert(hash) {
                    sum = sum.wrapping_add(hash);
                }
            }
        }
        if cursor == "0" {
            return Ok(sum);
        }
    }
}

async fn stream(
    nodes: &Nodes,
    address: &str,
    lane: Lane,
    key: &[u8],
    hasher: &mut blake3::Hasher,
) -> Result<(), DriverError> {
    let mut ask = Pipeline::new();
    ask.cmd("XINFO").arg("STREAM").arg(key);
    let facts = one(nodes, address, lane, ask).await?;
    for name in ["length", "last-generated-id", "max-deleted-entry-id", "entries-added"] {
        part(hasher, field(&facts, name).as_bytes());
    }
    let mut ask = Pipeline::new();
    ask.cmd("XINFO").arg("GROUPS").arg(key);
    if let Value::Array(groups) = one(nodes, address, lane, ask).await? {
        for group in &groups {
            for name in ["name", "pending", "last-delivered-id"] {
                part(hasher, field(group, name).as_bytes());
            }
        }
    }
    let mut from = "-".to_string();
    loop {
        let mut ask = Pipeline::new();
        ask.cmd("XRANGE").arg(key).arg(&from).arg("+").arg("COUNT").arg(MEMBERS);
        let Value::Array(entries) = one(nodes, address, lane, ask).await? else { return Ok(()) };
        entries.iter().for_each(|entry| feed(hasher, entry));
        match entries.last() {
            Some(Value::Array(last)) if entries.len() == MEMBERS => {
                from = format!("({}", last.first().cloned().map(text).unwrap_or_default());
            }
            _ => return Ok(()),
        }
    }
}

/// A named field of an answer that lists names and values in turn.
fn field(facts: &Value, name: &str) -> String {
    let Value::Array(items) = facts else { return String::new() };
    items
        .chunks(2)
        .find(|pair| text(pair[0].clone()) == name)
        .and_then(|pair| pair.get(1).cloned())
        .map(text)
        .unwrap_or_default()
}
