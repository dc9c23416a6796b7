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
/// moved away within it, or the row lies in the `recovery` after a failure. That it survived something
/// says nothing of what comes later within the horizon.
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
            // Who survived something may fail of something else a minute later.
            let ended = |e: &&&Event| e.outcome != Outcome::Survived;
            let first = own.iter().filter(within).filter(ended).min_by_key(|e| e.at).map(|e| e.outcome);
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

    #[test]
    fn who_survived_a_minute_before_it_failed_has_failed() {
        let minute = Span::minutes(1);
        for n in 0..40 {
            let at = Timestamp(Span::hours(10 + n).0);
            let (survived, failed) =
                (event((at - minute).0, Outcome::Survived), event(at.0, Outcome::Failed));
            let times =
                [at - Span::minutes(50), at - Span::minutes(10), at - Span::millis(1), at - Span::hours(2)];
            let label = |events: &[Event]| {
                label_rows(&"h1".into(), &times, events, Span::hours(1), Span::ZERO, at + Span::hours(1))
            };
            let kept = label(&[survived, failed.clone()]);
            assert_eq!(kept, [Some(true), Some(true), Some(true), Some(false)]);
            assert_eq!(kept, label(&[failed]));
        }
    }

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
