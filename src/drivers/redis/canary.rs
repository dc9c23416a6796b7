//! Canary reads: Redis clients cannot be steered by share, so the canary sends real reads of real
//! keys to both sides at a bounded rate, measures each, and compares the values.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::compare::{Comparison, Pair};
use super::fingerprint::fingerprints;
use super::view::slot_of_key;
use crate::drivers::mover::CanarySample;
use crate::fleet::{Clock, SystemClock, Timestamp};

/// Reads that are kept.
const KEPT: usize = 20_000;
/// Latencies in one answer.
const ANSWERED: usize = 2_000;

/// One key read on both sides.
#[derive(Clone)]
struct Read {
    at: Timestamp,
    /// Milliseconds on the source; `None` where it failed.
    source_ms: Option<f64>,
    /// The same on the destination.
    destination_ms: Option<f64>,
    /// The key's name, where the values certainly differed.
    differs: Option<String>,
}

/// Reads going on; dropped, they end.
pub(super) struct Sampler {
    reads: Arc<Mutex<VecDeque<Read>>>,
    task: JoinHandle<()>,
    /// Reads per second.
    pub(super) rate: u32,
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sampler {
    /// Starts reading `rate` keys a second on both sides of `pair`, whose owner is the source. `slot` is
    /// any slot of the shard.
    pub(super) fn start(pair: Pair, slot: u16, rate: u32) -> Self {
        let absent = absent_key(slot);
        let reads = Arc::new(Mutex::new(VecDeque::new()));
        let kept = reads.clone();
        let task = tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_secs_f64(1.0 / f64::from(rate.max(1))));
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            for turn in 0u64.. {
                beat.tick().await;
                let read = one_read(&pair, &absent, turn.is_multiple_of(2)).await;
                if let Ok(mut kept) = kept.lock() {
                    if kept.len() == KEPT {
                        kept.pop_front();
                    }
                    kept.push_back(read);
                }
            }
        });
        Self { reads, task, rate }
    }

    /// What was measured since `since`, source first.
    pub(super) fn since(&self, since: Timestamp) -> (CanarySample, CanarySample) {
        let reads: Vec<Read> = self
            .reads
            .lock()
            .map(|kept| kept.iter().filter(|r| r.at >= since).cloned().collect())
            .unwrap_or_default();
        let stride = reads.len().div_ceil(ANSWERED).max(1);
        let side = |ms: fn(&Read) -> Option<f64>| {
            let differing: Vec<&String> = reads.iter().filter_map(|r| r.differs.as_ref()).collect();
            let errors = reads.iter().filter(|r| ms(r).is_none()).count() as u64;
            CanarySample {
                latencies_ms: reads.iter().step_by(stride).filter_map(ms).collect(),
                requests: reads.len() as u64,
                errors,
                compared: reads.iter().filter(|r| r.source_ms.is_some() && r.destination_ms.is_some()).count()
                    as u64,
                mismatches: differing.len() as u64,
                examples: differing.into_iter().take(20).cloned().collect(),
            }
        };
        (side(|r| r.source_ms), side(|r| r.destination_ms))
    }
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
