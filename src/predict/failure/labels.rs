//! What happened, as training sees it: a failure makes the rows before it positive; a partition that
//! was evacuated in time says nothing about what would have been, so those rows are left out; all
//! else survived.

use serde::{Deserialize, Serialize};

use crate::fleet::{PartitionId, Span, Timestamp};

/// What became of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It failed.
    Failed,
    /// It was watched, and did not fail.
    Survived,
    /// Work was moved away before; whether it would have failed is not known, and never counts as
    /// survived.
    MitigatedUnknown,
}

/// One event in the history of a partition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// The partition.
    pub partition: PartitionId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub outcome: Outcome,
}

/// The label of each of `times` for `partition`: 1 where it failed within `horizon` after, 0 where
/// it did not, `None` where nobody can know: the horizon reaches beyond `known_until`, or work was
/// moved away within it, or the row lies in the `recovery` after a failure.
pub fn label_rows(
    partition: &PartitionId,
    times: &[Timestamp],
    events: &[Event],
    horizon: Span,
    recovery: Span,
    known_until: Timestamp,
) -> Vec<Option<bool>> {
    let own: Vec<&Event> = events.iter().filter(|e| &e.partition == partition).collect();
    times
        .iter()
        .map(|&at| {
            let end = at + horizon;
            let within = |e: &&&Event| e.at > at && e.at <= end;
            let recovering =
                own.iter().any(|e| e.outcome == Outcome::Failed && e.at <= at && at < e.at + recovery);
            let first = own.iter().filter(within).min_by_key(|e| e.at).map(|e| e.outcome);
            match first {
                _ if recovering => None,
                Some(Outcome::Failed) => Some(true),
                Some(Outcome::MitigatedUnknown) => None,
                Some(Outcome::Survived) | None => (end <= known_until).then_some(false),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: i64, outcome: Outcome) -> Event {
        Event { partition: "h1".into(), at: Timestamp(at), outcome }
    }

    #[test]
    fn a_mitigated_partition_never_counts_as_survived() {
        let times: Vec<Timestamp> = [0, 50, 90, 120, 500].map(Timestamp).into();
        let label = |events: &[Event]| {
            label_rows(&"h1".into(), &times, events, Span::millis(60), Span::millis(40), Timestamp(550))
        };
        let failed = label(&[event(100, Outcome::Failed)]);
        assert_eq!(failed, [Some(false), Some(true), Some(true), None, None]);
        let moved = label(&[event(100, Outcome::MitigatedUnknown)]);
        assert_eq!(moved, [Some(false), None, None, Some(false), None]);
        // moved away first, failed later all the same: the failure came to an empty partition
        let both = label(&[event(95, Outcome::MitigatedUnknown), event(100, Outcome::Failed)]);
        assert_eq!(both[1], None);
        let other = label_rows(
            &"h2".into(),
            &times,
            &[event(100, Outcome::Failed)],
            Span::millis(60),
            Span::ZERO,
            Timestamp(1000),
        );
        assert_eq!(other, [Some(false); 5]);
    }
}
