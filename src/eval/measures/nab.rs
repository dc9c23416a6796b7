//! The Numenta Anomaly Benchmark's score (Lavin & Ahmad 2015; numenta/NAB `sweeper.py`): early detection
//! inside a labelled window earns up to 1, a detection outside costs more the farther it is from the last
//! window, a missed window costs the false-negative weight. One threshold for all series; the profile's
//! score is that of the best threshold, between the silent detector (0) and the perfect one (100).

/// Weights of a true positive, a false positive and a missed window.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct NabProfile {
    /// Weight of a false positive.
    pub false_positive: f64,
    /// Weight of a missed window.
    pub false_negative: f64,
}

impl NabProfile {
    /// NAB's `standard`.
    pub const STANDARD: NabProfile = NabProfile { false_positive: 0.11, false_negative: 1.0 };
    /// NAB's `reward_low_FP_rate`.
    pub const LOW_FP: NabProfile = NabProfile { false_positive: 0.22, false_negative: 1.0 };
    /// NAB's `reward_low_FN_rate`.
    pub const LOW_FN: NabProfile = NabProfile { false_positive: 0.11, false_negative: 2.0 };
}

/// One scored series.
#[derive(Clone, Debug)]
pub struct NabSeries {
    /// One anomaly score a row, 0 to 1.
    pub score: Vec<f64>,
    /// Labelled windows, first and last row inclusive, in order.
    pub windows: Vec<(usize, usize)>,
}

/// Rows at the start that are not scored: 15 % of the series, at most 750.
pub fn probation(rows: usize) -> usize {
    (0.15 * rows as f64).floor().min(750.0) as usize
}

fn scaled_sigmoid(position: f64) -> f64 {
    if position > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

/// One row as the sweep sees it: its anomaly score, its worth, and the window it lies in.
struct Point {
    score: f64,
    worth: f64,
    window: Option<usize>,
}

fn points(series: &[NabSeries], profile: NabProfile) -> (Vec<Point>, usize) {
    let best = scaled_sigmoid(-1.0);
    let mut out = Vec::new();
    let mut windows = 0;
    for one in series {
        let quiet = probation(one.score.len());
        let mut next = 0;
        let mut past: Option<(usize, usize)> = None;
        for (i, &score) in one.score.iter().enumerate() {
            while next < one.windows.len() && i > one.windows[next].1 {
                past = Some(one.windows[next]);
                next += 1;
            }
            let inside = next < one.windows.len() && i >= one.windows[next].0;
            let worth = if inside {
                let (a, b) = one.windows[next];
                scaled_sigmoid(-((b - i + 1) as f64) / (b - a + 1) as f64) / best
            } else {
                let raw = past.map_or(-1.0, |(a, b)| scaled_sigmoid((i - b) as f64 / (b - a).max(1) as f64));
                raw * profile.false_positive
            };
            if i >= quiet {
                out.push(Point { score, worth, window: inside.then_some(windows + next) });
            }
        }
        windows += one.windows.len();
    }
    (out, windows)
}

/// The normalised score (0 = says nothing, 100 = perfect) at the best threshold over all series, and that
/// threshold. NAB optimises the threshold on the corpus it is scored on; so does this. As there, a series
/// without windows adds its false positives alone. NaN where no series has a window: silence is perfect then.
pub fn nab_score(series: &[NabSeries], profile: NabProfile) -> (f64, f64) {
    let (mut rows, windows) = points(series, profile);
    rows.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut scorable = vec![false; windows];
    for row in &rows {
        if let Some(w) = row.window {
            scorable[w] = true;
        }
    }
    let silent = -profile.false_negative * scorable.iter().filter(|&&s| s).count() as f64;
    let mut worth: Vec<f64> = vec![-profile.false_negative; windows];
    let (mut total, mut best, mut threshold) = (silent, silent, 1.1);
    for (k, row) in rows.iter().enumerate() {
        match row.window {
            Some(w) if row.worth > worth[w] => {
                total += row.worth - worth[w];
                worth[w] = row.worth;
            }
            Some(_) => {}
            None => total += row.worth,
        }
        let last = k + 1 == rows.len() || rows[k + 1].score.total_cmp(&row.score).is_ne();
        if last && total > best {
            (best, threshold) = (total, row.score);
        }
    }
    let perfect = windows as f64;
    if perfect - silent == 0.0 {
        return (f64::NAN, threshold);
    }
    (100.0 * (best - silent) / (perfect - silent), threshold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_zero_and_an_early_hit_in_every_window_is_a_hundred() {
        let mut early = vec![0.0; 1000];
        early[500] = 1.0;
        let one = |score| vec![NabSeries { score, windows: vec![(500, 599)] }];
        assert_eq!(nab_score(&one(vec![0.0; 1000]), NabProfile::STANDARD).0.max(0.0), 0.0);
        assert!((nab_score(&one(early), NabProfile::STANDARD).0 - 100.0).abs() < 1e-9);
    }

    #[test]
    fn a_series_without_windows_costs_its_false_alarms_alone_and_alone_has_no_score() {
        let mut early = vec![0.0; 1000];
        early[500] = 1.0;
        let hit = NabSeries { score: early.clone(), windows: vec![(500, 599)] };
        let quiet = NabSeries { score: vec![0.0; 1000], windows: Vec::new() };
        let noisy = NabSeries { score: early, windows: Vec::new() };
        let score = |other: &NabSeries| nab_score(&[hit.clone(), other.clone()], NabProfile::STANDARD).0;
        assert!((score(&quiet) - 100.0).abs() < 1e-9);
        let one_false = 100.0 * (2.0 - NabProfile::STANDARD.false_positive) / 2.0;
        assert!((score(&noisy) - one_false).abs() < 1e-9, "{}", score(&noisy));
        assert!(nab_score(&[noisy], NabProfile::STANDARD).0.is_nan());
    }

    #[test]
    fn a_late_hit_is_worth_less_and_probation_is_not_scored() {
        let mut late = vec![0.0; 1000];
        late[590] = 1.0;
        late[10] = 2.0;
        let series = vec![NabSeries { score: late, windows: vec![(500, 599)] }];
        let (score, _) = nab_score(&series, NabProfile::LOW_FP);
        assert!(score > 50.0 && score < 75.0, "{score}");
    }
}
