//! The sweep: every key of both nodes, compared while both go on serving.
//!
//! The owner's keys are walked once and each is read on both sides at the same time. Strings are
//! compared byte by byte and hashed once; collections by fingerprint. That the other side has no
//! key more follows from the counts: where all keys of a slot were seen and both nodes count as
//! many, there is none; only slots that do not add up are walked on the other side too. Times to
//! live are read for each key, unless both nodes say, at the start and again at the end, that not
//! one key has any.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::try_join;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::compare::{Comparison, Pair};
use super::counts::counts;
use super::fingerprint::{PIECE, PIECE_END, fingerprints_over, of_string};
use super::nodes::{Nodes, system};
use super::view::{SLOTS, slot_of_key};
use super::wire::{Reply, Requests, said};
use crate::drivers::error::{DriverError, Retry};

/// Round trips under way at once to each node: while one answer is looked at, others are made. A
/// node serves them in turn, so a client waits behind that many at most.
const WORKERS: usize = 4;
/// Bytes that are wanted from one round trip: about half a millisecond of a node's time.
const ROUND_TRIP: usize = 256 << 10;
/// Keys of the first round trip, before their size is known, and of the longest.
const FIRST: usize = 64;
const MOST: usize = 512;

/// Whether times to live are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expiry {
    OfEach,
    /// No key has one; both nodes say so.
    NoneHas,
}

/// What was seen so far.
struct Tally {
    /// Keys that are equal, and the sum of their fingerprints.
    keys: u64,
    digest: u128,
    /// Keys that are looked at again.
    again: Vec<Vec<u8>>,
    /// Keys of the owner that were seen, slot by slot.
    seen: Vec<u32>,
}

impl Tally {
    fn new() -> Self {
        Self { keys: 0, digest: 0, again: Vec::new(), seen: vec![0; usize::from(SLOTS)] }
    }

    fn add(&mut self, other: Tally) {
        self.keys += other.keys;
        self.digest = self.digest.wrapping_add(other.digest);
        self.again.extend(other.again);
        self.seen.iter_mut().zip(other.seen).for_each(|(a, b)| *a += b);
    }
}

/// What one round trip found.
#[derive(Default)]
struct Batch {
    keys: u64,
    digest: u128,
    again: Vec<Vec<u8>>,
    /// Bytes of the larger answer.
    bytes: usize,
}

impl Pair {
    /// Compares every key of both sides.
    pub(super) async fn compare_all(&self) -> Result<Comparison, DriverError> {
        if self.nothing_expires().await? {
            let found = self.sweep(Expiry::NoneHas).await?;
            self.wait_until_applied(Duration::from_secs(2)).await?;
            if self.nothing_expires().await? {
                return Ok(found);
            }
            // Somebody began to use times to live in the meantime.
        }
        self.sweep(Expiry::OfEach).await
    }

    /// Whether both nodes say that no key has a time to live.
    async fn nothing_expires(&self) -> Result<bool, DriverError> {
        let (ours, theirs) = try_join(self.nodes.info(&self.owner), self.nodes.info(&self.other)).await?;
        Ok(ours.expiring() == Some(0) && theirs.expiring() == Some(0))
    }

    async fn sweep(&self, expiry: Expiry) -> Result<Comparison, DriverError> {
        let scan = Arc::new(Mutex::new(Scan::of(&self.owner, self.batch)));
        // Dropped, it ends them.
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let (pair, scan) = (self.clone(), scan.clone());
            workers.spawn(async move { pair.work(&scan, expiry).await });
        }
        let mut tally = Tally::new();
        while let Some(done) = workers.join_next().await {
            tally.add(done.map_err(|error| {
                DriverError::new(
                    Retry::Retryable,
                    system(&self.owner),
                    "comparing",
                    format!("the comparison was broken off: {error}"),
                )
            })??);
        }
        let mut found = Comparison {
            keys: tally.keys,
            slots: tally.seen.iter().filter(|n| **n > 0).count(),
            digests: (tally.digest, tally.digest),
            ..Comparison::default()
        };
        tally.again.sort();
        tally.again.dedup();
        self.look_again(tally.again, &mut found).await?;
        let mut odd = self.slots_that_do_not_add_up(&tally.seen).await?;
        if found.different > 0 {
            // A key that is missing hides another that is too many from the counts.
            odd.fill(true);
        }
        if odd.contains(&true) {
            let more = self.only_on_the_other_side(&odd, &found).await?;
            self.look_again(more, &mut found).await?;
        }
        Ok(found)
    }

    /// Takes keys up until there are none left.
    async fn work(&self, scan: &Mutex<Scan>, expiry: Expiry) -> Result<Tally, DriverError> {
        let (mut tally, mut together) = (Tally::new(), FIRST);
        loop {
            let Some(keys) = scan.lock().await.next(&self.nodes).await? else { return Ok(tally) };
            let mut rest = keys.as_slice();
            while !rest.is_empty() {
                let (some, more) = rest.split_at(together.min(rest.len()));
                let batch = match self.compare_batch(some, expiry).await {
                    Err(error) if error.retry == Retry::Retryable => {
                        self.nodes.drop_wires(&self.owner);
                        self.nodes.drop_wires(&self.other);
                        self.compare_batch(some, expiry).await?
                    }
                    batch => batch?,
                };
                some.iter().for_each(|key| tally.seen[usize::from(slot_of_key(key))] += 1);
                tally.keys += batch.keys;
                tally.digest = tally.digest.wrapping_add(batch.digest);
                tally.again.extend(batch.again);
                self.done.fetch_add(batch.keys, Ordering::Relaxed);
                together = (ROUND_TRIP / (batch.bytes / some.len()).max(1)).clamp(1, MOST);
                rest = more;
            }
        }
    }

    /// Reads some keys on both sides at the same time.
    async fn compare_batch(&self, keys: &[Vec<u8>], expiry: Expiry) -> Result<Batch, DriverError> {
        let (mut ours, mut theirs) =
            try_join(self.nodes.wire(&self.owner), self.nodes.wire(&self.other)).await?;
        let mut requests = Requests::default();
        for key in keys {
            requests.add(&[b"GETRANGE", key, b"0", PIECE_END]);
            if expiry == Expiry::OfEach {
                requests.add(&[b"PEXPIRETIME", key]);
            }
        }
        let (mut batch, mut others) = (Batch::default(), Vec::new());
        {
            let (mut a, mut b) = try_join(ours.exchange(&requests), theirs.exchange(&requests)).await?;
            batch.bytes = a.bytes().max(b.bytes());
            for key in keys {
                let (x, y) = (a.next(), b.next());
                let (mut expires_x, mut expires_y) = (-1, -1);
                if expiry == Expiry::OfEach {
                    expires_x = whole(&self.owner, a.next())?;
                    expires_y = whole(&self.other, b.next())?;
                }
                match (x, y) {
                    (Some(Reply::Error(words)), _) if !words.starts_with(b"WRONGTYPE") => {
                        return Err(said(&self.owner, "reading a key", words));
                    }
                    (_, Some(Reply::Error(words))) if !words.starts_with(b"WRONGTYPE") => {
                        return Err(said(&self.other, "reading a key", words));
                    }
                    // Gone on both sides in the meantime.
                    (Some(Reply::Bulk(_)), Some(Reply::Bulk(_))) if expires_x == -2 && expires_y == -2 => {}
                    // Without a time to live that is asked for, an empty text may be no key at all.
                    (Some(Reply::Bulk(x)), Some(Reply::Bulk(y)))
                        if x.len() < PIECE
                            && y.len() < PIECE
                            && !(x.is_empty() && expiry == Expiry::NoneHas) =>
                    {
                        if x == y && expires_x == expires_y {
                            batch.keys += 1;
                            batch.digest = batch.digest.wrapping_add(of_string(key, expires_x, x));
                        } else {
                            batch.again.push(key.clone());
                        }
                    }
                    _ => others.push(key.clone()),
                }
            }
        }
        if !others.is_empty() {
            let both =
                try_join(fingerprints_over(&mut ours, &others), fingerprints_over(&mut theirs, &others));
            let (ours, theirs) = both.await?;
            for ((key, x), y) in others.into_iter().zip(ours).zip(theirs) {
                if x != y {
                    batch.again.push(key);
                } else if let Some(x) = x {
                    batch.keys += 1;
                    batch.digest = batch.digest.wrapping_add(x);
                }
            }
        }
        Ok(batch)
    }

    /// Slots of which the owner has other keys than were seen, or the other side other than many.
    async fn slots_that_do_not_add_up(&self, seen: &[u32]) -> Result<Vec<bool>, DriverError> {
        let (ours, theirs) =
            try_join(counts(&self.nodes, &self.owner, 0..SLOTS), counts(&self.nodes, &self.other, 0..SLOTS))
                .await?;
        let seen = seen.iter().map(|n| Some(i64::from(*n)));
        Ok(seen.zip(ours).zip(theirs).map(|((seen, ours), theirs)| seen != ours || seen != theirs).collect())
    }

    /// Keys in these slots of the other side that the owner does not have.
    async fn only_on_the_other_side(
        &self,
        slots: &[bool],
        found: &Comparison,
    ) -> Result<Vec<Vec<u8>>, DriverError> {
        let mut more = Vec::new();
        let mut scan = Scan::of(&self.other, self.batch * 4);
        while let Some(mut keys) = scan.next(&self.nodes).await? {
            keys.retain(|key| slots[usize::from(slot_of_key(key))]);
            if keys.is_empty() {
                continue;
            }
            let mut requests = Requests::default();
            keys.iter().for_each(|key| requests.add(&[b"EXISTS", key]));
            let mut wire = self.nodes.wire(&self.owner).await?;
            let answers = wire.exchange(&requests).await?;
            let missing = keys.iter().zip(answers).filter(|(_, answer)| *answer == Reply::Int(0));
            more.extend(missing.map(|(key, _)| key.clone()));
        }
        more.sort();
        more.dedup();
        // What was found to differ already is not found twice.
        more.retain(|key| !found.has_named(key));
        Ok(more)
    }
}

fn whole(address: &str, answer: Option<Reply<'_>>) -> Result<i64, DriverError> {
    match answer {
        Some(Reply::Int(n)) => Ok(n),
        Some(Reply::Error(words)) => Err(said(address, "reading a time to live", words)),
        _ => Ok(-1),
    }
}

/// All keys of one node, batch by batch; a key may come twice.
pub(super) struct Scan {
    address: String,
    batch: String,
    /// `None` at the end.
    cursor: Option<String>,
}

impl Scan {
    pub(super) fn of(address: &str, batch: usize) -> Self {
        Self { address: address.into(), batch: batch.to_string(), cursor: Some("0".into()) }
    }

    /// The next page; `None` at the end.
    pub(super) async fn next(&mut self, nodes: &Nodes) -> Result<Option<Vec<Vec<u8>>>, DriverError> {
        let Some(cursor) = self.cursor.take() else { return Ok(None) };
        let page = match self.page(nodes, &cursor).await {
            Err(error) if error.retry == Retry::Retryable => {
                nodes.drop_wires(&self.address);
                self.page(nodes, &cursor).await
            }
            page => page,
        };
        let (next, keys) = page?;
        self.cursor = (next != "0").then_some(next);
        Ok(Some(keys))
    }

    async fn page(&self, nodes: &Nodes, cursor: &str) -> Result<(String, Vec<Vec<u8>>), DriverError> {
        let mut wire = nodes.wire(&self.address).await?;
        let answer = wire.one(&[b"SCAN", cursor.as_bytes(), b"COUNT", self.batch.as_bytes()]).await?;
        let Some([next, Reply::Array(keys)]) = answer.items() else {
            let detail = "expected a cursor and keys";
            return Err(DriverError::new(Retry::Permanent, system(&self.address), "SCAN", detail));
        };
        let bytes = |key: &Reply<'_>| match key {
            Reply::Bulk(key) => Some(key.to_vec()),
            _ => None,
        };
        Ok((next.text(), keys.iter().filter_map(bytes).collect()))
    }
}
