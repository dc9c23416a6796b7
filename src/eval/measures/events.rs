//! Events: consecutive labelled rows are one event, an alarm is a rise of the score over a threshold.
//! What an operator feels is how many events raise an alarm, and how many alarms belong to none.

/// Half-open ranges of consecutive true rows.
pub fn events_of(truth: &[bool]) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut start = None;
    for (i, &t) in truth.iter().enumerate() {
        match (t, start) {
            (true, None) => start = Some(i),
            (false, Some(s)) => {
                out.push((s, i));
                start = None;
            }
            _ => {}
        }
    }
    if let Some(s) = start {
        out.push((s, truth.len()));
    }
    out
}

/// TSB-AD's event F1 (recall of events, precision of rows) at the best of 100 thresholds even between the
/// lowest and highest score: an oracle figure.
pub fn event_f1(score: &[f64], truth: &[bool]) -> f64 {
    let mut events = events_of(truth);
    // TSB-AD cuts one row off an event that lasts until the end
    if let Some(last) = events.last_mut().filter(|e| e.1 == truth.len()) {
        last.1 -= 1;
    }
    if events.is_empty() {
        return 0.0;
    }
    let low = score.iter().copied().fold(f64::INFINITY, f64::min);
    let high = score.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut best = 0.0f64;
    for cut in super::affiliation::linspace(low, high, 100) {
        let mut predicted = 0.0;
        let mut hits = 0.0;
        for (s, t) in score.iter().zip(truth) {
            if *s > cut {
                predicted += 1.0;
                hits += f64::from(u8::from(*t));
            }
        }
        let found = events.iter().filter(|&&(a, b)| score[a..b].iter().any(|&s| s > cut)).count();
        let recall = found as f64 / events.len() as f64;
        let precision = if predicted > 0.0 { hits / predicted } else { 0.0 };
        best = best.max(2.0 * recall * precision / (recall + precision + 1e-15));
    }
    best
}

/// What a threshold gives: events that had an alarm, and alarms that belonged to none.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EventRecall {
    /// Share of events with at least one row over the threshold; NaN where there is no event.
    pub recall: f64,
    /// Runs of rows over the threshold that touch no event, per day.
    pub false_per_day: f64,
    /// The threshold.
    pub threshold: f64,
}

/// Rows that an alarm may stand before and after an event without being a false one.
const LEEWAY: usize = 60;

/// Runs of alarmed rows that touch no labelled row; runs less than `merge` rows apart are one. A run that
/// touches an event counts once for every 60 rows that it stands outside of events, so that an alarm that
/// never ends finds nothing for free.
pub fn false_events(alarm: &[bool], truth: &[bool], merge: usize) -> usize {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (a, b) in events_of(alarm) {
        match runs.last_mut() {
            Some(last) if a < last.1 + merge => last.1 = b,
            _ => runs.push((a, b)),
        }
    }
    runs.into_iter()
        .map(|(a, b)| {
            let inside = truth[a..b].iter().filter(|&&t| t).count();
            let outside = (a..b).filter(|&i| alarm[i] && !truth[i]).count();
            if inside == 0 { 1 } else { outside / LEEWAY }
        })
        .sum()
}

/// Event recall and false events a day of alarms that were raised by whatever rule. `threshold` is
/// carried along for the report.
pub fn judge_alarms(
    alarm: &[bool],
    truth: &[bool],
    merge: usize,
    rows_per_day: f64,
    threshold: f64,
) -> EventRecall {
    let events = events_of(truth);
    let found = events.iter().filter(|&&(a, b)| alarm[a..b].iter().any(|&x| x)).count();
    EventRecall {
        recall: found as f64 / events.len() as f64,
        false_per_day: false_events(alarm, truth, merge) as f64 * rows_per_day / truth.len().max(1) as f64,
        threshold,
    }
}

/// The best event recall over all thresholds that keep false events at or below `budget` a day: an oracle
/// figure, since the labels choose the threshold.
pub fn event_recall_at_budget(
    score: &[f64],
    truth: &[bool],
    merge: usize,
    rows_per_day: f64,
    budget: f64,
) -> EventRecall {
    let mut sorted: Vec<f64> = score.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let mut best = EventRecall { recall: 0.0, false_per_day: 0.0, threshold: f64::INFINITY };
    let mut alarm = vec![false; score.len()];
    for k in 0..400 {
        let rank = ((score.len() as f64).powf(k as f64 / 399.0) as usize).min(score.len().saturating_sub(1));
        let cut = sorted[rank];
        for (a, s) in alarm.iter_mut().zip(score) {
            *a = *s >= cut;
        }
        let found = judge_alarms(&alarm, truth, merge, rows_per_day, cut);
        if found.false_per_day <= budget && found.recall > best.recall {
            best = found;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_found_by_one_row_and_a_run_beside_it_is_one_false_event() {
        let truth = [false, false, true, true, false, false, false, false];
        let alarm = [false, false, false, true, false, true, true, false];
        let judged = judge_alarms(&alarm, &truth, 1, 8.0, 0.5);
        assert_eq!((judged.recall, judged.false_per_day), (1.0, 1.0));
        assert_eq!(false_events(&alarm, &truth, 3), 0, "a run that hangs on to the event belongs to it");
    }

    #[test]
    fn where_nothing_happened_there_is_no_recall_and_every_alarm_is_false() {
        let judged = judge_alarms(&[false, true, false, false], &[false; 4], 1, 4.0, 0.5);
        assert!(judged.recall.is_nan());
        assert_eq!(judged.false_per_day, 1.0);
    }
}
