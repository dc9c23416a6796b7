//! Canary reads: Redis clients cannot be steered by share, so the canary sends real reads of real
//! keys to both sides at a bounded rate, measures each, and compares the values.

use std::time::Instant;

use super::compare::{Comparison, Pair};
use super::fingerprint::fingerprints;
use super::view::slot_of_key;
use crate::drivers::paired_reads::{Read, Sampler};
use crate::fleet::{Clock, SystemClock};

/// Starts reading `rate` keys a second on both sides of `pair`, whose owner is the source. `slot` is any
/// slot of the shard.
pub(super) fn start(pair: Pair, slot: u16, rate: u32) -> Sampler {
    let absent = absent_key(slot);
    Sampler::start(rate, |mut beat, reads| async move {
        for turn in 0u64.. {
            beat.tick().await;
            reads.keep(one_read(&pair, &absent, turn.is_multiple_of(2)).await);
        }
    })
}

/// A key of that slot that nobody has written.
fn absent_key(slot: u16) -> Vec<u8> {
    let mut tried = (0u64..).map(|n| format!("foreshift:no such key:{{{n}}}").into_bytes());
    tried.find(|key| slot_of_key(key) == slot).unwrap_or_default()
}

/// Reads one random key on both sides; where the shard is empty, `absent`: that nothing is there is an
/// answer too.
async fn one_read(pair: &Pair, absent: &[u8], owner_first: bool) -> Read {
    let at = SystemClock.now();
    let keys = match pair.random_keys(1).await {
        Ok(keys) => keys,
        Err(_) => pair.random_keys_of_other(1).await.unwrap_or_default(),
    };
    let key = keys.into_iter().next().unwrap_or_else(|| absent.to_vec());
    // In turns: who is asked second finds the processor awake.
    let (source, destination) = if owner_first {
        let source = timed(pair, &pair.owner, &key).await;
        (source, timed(pair, &pair.other, &key).await)
    } else {
        let destination = timed(pair, &pair.other, &key).await;
        (timed(pair, &pair.owner, &key).await, destination)
    };
    let mut differs = None;
    if let (Some((a, _)), Some((b, _))) = (&source, &destination)
        && a != b
    {
        // Written to in between, most likely: look again until it is certain.
        // After the cut the sides have changed places.
        for pair in [pair, &pair.swapped()] {
            let mut found = Comparison::default();
            if pair.look_again(vec![key.clone()], &mut found).await.is_ok() {
                differs = found.differences.pop();
                break;
            }
        }
    }
    Read { at, source_ms: source.map(|s| s.1), destination_ms: destination.map(|d| d.1), differs }
}

/// The fingerprint of one key on one side and how long the read took.
async fn timed(pair: &Pair, address: &str, key: &[u8]) -> Option<(Option<u128>, f64)> {
    let start = Instant::now();
    let keys = [key.to_vec()];
    let found = fingerprints(&pair.nodes, address, &keys).await.ok()?;
    Some((found.into_iter().next().flatten(), start.elapsed().as_secs_f64() * 1000.0))
}
