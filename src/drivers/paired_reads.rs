//! Reads of a canary whose clients cannot be steered by share: the same thing is read on both sides at a
//! bounded rate, each read is measured, and what certainly differs is named.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};

use super::mover::CanarySample;
use crate::fleet::Timestamp;

/// Reads that are kept.
const KEPT: usize = 20_000;
/// Latencies in one answer.
const ANSWERED: usize = 2_000;

/// One thing read on both sides.
#[derive(Clone)]
pub(super) struct Read {
    pub(super) at: Timestamp,
    /// Milliseconds on the source; `None` where it failed.
    pub(super) source_ms: Option<f64>,
    /// The same on the destination.
    pub(super) destination_ms: Option<f64>,
    /// Its name, where both sides certainly differed.
    pub(super) differs: Option<String>,
}

/// The newest reads; the oldest make room.
#[derive(Clone, Default)]
pub(super) struct Reads(Arc<Mutex<VecDeque<Read>>>);

impl Reads {
    pub(super) fn keep(&self, read: Read) {
        if let Ok(mut kept) = self.0.lock() {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(read);
        }
    }

    /// What was measured since `since`, source first.
    fn since(&self, since: Timestamp) -> (CanarySample, CanarySample) {
        let reads: Vec<Read> = self
            .0
            .lock()
            .map(|kept| kept.iter().filter(|r| r.at >= since).cloned().collect())
            .unwrap_or_default();
        let stride = reads.len().div_ceil(ANSWERED).max(1);
        let compared =
            reads.iter().filter(|r| r.source_ms.is_some() && r.destination_ms.is_some()).count() as u64;
        let differing: Vec<&String> = reads.iter().filter_map(|r| r.differs.as_ref()).collect();
        let side = |ms: fn(&Read) -> Option<f64>| CanarySample {
            latencies_ms: reads.iter().step_by(stride).filter_map(ms).collect(),
            requests: reads.len() as u64,
            errors: reads.iter().filter(|r| ms(r).is_none()).count() as u64,
            compared,
            mismatches: differing.len() as u64,
            examples: differing.iter().take(20).map(|d| (*d).clone()).collect(),
            earlier: false,
        };
        (side(|r| r.source_ms), side(|r| r.destination_ms))
    }
}

/// Reads going on; dropped, they end.
pub(super) struct Sampler {
    reads: Reads,
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
    /// Starts `sample`, which waits for the beat (`rate` times a second) before each read and keeps it.
    pub(super) fn start<F>(rate: u32, sample: impl FnOnce(Interval, Reads) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut beat = tokio::time::interval(Duration::from_secs_f64(1.0 / f64::from(rate.max(1))));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reads = Reads::default();
        let task = tokio::spawn(sample(beat, reads.clone()));
        Self { reads, task, rate }
    }

    /// What was measured since `since`, source first.
    pub(super) fn since(&self, since: Timestamp) -> (CanarySample, CanarySample) {
        self.reads.since(since)
    }
}
