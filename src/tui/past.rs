//! What was shown before, so that a person can look back: one snapshot a cycle, as far as there is
//! room. Snapshots share what did not change, and what is kept is bounded by rows, not by time alone.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::fleet::Span;
use crate::protocol::Snapshot;

/// Snapshots of one cycle are one step, and those nearer together than this.
const STEP: Span = Span::seconds(5);
/// Steps that are kept at most: an hour of ten-second cycles.
const MOST: usize = 360;
/// Rows that all kept snapshots may have together.
const ROWS: usize = 120_000;

/// The snapshots that were shown, oldest first.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Past {
    kept: VecDeque<Arc<Snapshot>>,
    rows: usize,
}

fn rows(snapshot: &Snapshot) -> usize {
    snapshot.partitions.len() + snapshot.workloads.len() + snapshot.hosts.len()
}

impl Past {
    /// Keeps a snapshot, if it is a step away from the last; the newest of a step is the one kept.
    pub fn keep(&mut self, snapshot: &Arc<Snapshot>) {
        if snapshot.sequence == 0 {
            return;
        }
        if self.kept.back().is_some_and(|last| last.sequence >= snapshot.sequence) {
            // Another engine, or the same one started anew: its past is another one.
            *self = Self::default();
        }
        let steps = self.kept.len();
        let same_cycle = self.kept.back().is_some_and(|last| last.next_cycle == snapshot.next_cycle);
        let near = steps >= 2 && snapshot.at - self.kept[steps - 2].at < STEP;
        // Two in the same step: the later says all that the earlier said.
        if (same_cycle || near)
            && let Some(last) = self.kept.pop_back()
        {
            self.rows -= rows(&last);
        }
        self.rows += rows(snapshot);
        self.kept.push_back(Arc::clone(snapshot));
        while self.kept.len() > MOST || self.rows > ROWS && self.kept.len() > 2 {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.rows -= rows(&oldest);
        }
    }

    /// The step before `shown`; `None` where that is the oldest.
    pub fn before(&self, shown: &Snapshot) -> Option<Arc<Snapshot>> {
        self.kept.iter().rev().find(|kept| kept.sequence < shown.sequence).cloned()
    }

    /// The step after `shown`; `None` where that is the newest.
    pub fn after(&self, shown: &Snapshot) -> Option<Arc<Snapshot>> {
        self.kept.iter().find(|kept| kept.sequence > shown.sequence).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Timestamp;

    /// Cycles of ten seconds.
    fn at(sequence: u64, seconds: i64) -> Arc<Snapshot> {
        cycle_of(sequence, seconds, 10)
    }

    fn cycle_of(sequence: u64, seconds: i64, cycle: i64) -> Arc<Snapshot> {
        let next_cycle = Timestamp((seconds / cycle + 1) * cycle * 1000);
        Arc::new(Snapshot { sequence, at: Timestamp(seconds * 1000), next_cycle, ..Snapshot::default() })
    }

    #[test]
    fn one_looks_back_and_comes_forward_in_steps() {
        let mut past = Past::default();
        // Between the last two a migration made five snapshots, the last of them late in the cycle.
        for (sequence, seconds) in [(1, 0), (2, 10), (3, 20), (4, 21), (5, 22), (6, 23), (7, 28), (8, 30)] {
            past.keep(&at(sequence, seconds));
        }
        let mut shown = at(8, 30);
        let mut back = Vec::new();
        while let Some(earlier) = past.before(&shown) {
            back.push(earlier.at.0 / 1000);
            shown = earlier;
        }
        assert_eq!(back, [28, 10, 0]);
        assert_eq!(past.after(&shown).map(|s| s.sequence), Some(2));
        assert!(past.after(&at(8, 30)).is_none());
    }

    #[test]
    fn short_cycles_are_taken_together() {
        let mut past = Past::default();
        (1..=20).for_each(|i| past.keep(&cycle_of(i, i as i64, 1)));
        let seconds: Vec<i64> = past.kept.iter().map(|s| s.at.0 / 1000).collect();
        assert_eq!(seconds, [1, 5, 9, 13, 17, 20]);
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut past = Past::default();
        for i in 1..2_000 {
            past.keep(&at(i, i as i64 * 10));
        }
        assert_eq!(past.kept.len(), MOST);
        assert_eq!(past.kept.back().map(|s| s.sequence), Some(1_999));
    }
}
