//! Affiliation precision and recall (Huet, Navarro, Rossi, KDD 2022): each predicted interval belongs to
//! the nearest true event; precision and recall are the chance that a random point of that event's zone
//! would be farther away. Integrals are exact: every piece is linear in time.

/// A half-open interval in rows.
type Interval = (f64, f64);

/// `count` values even from `low` to `high`, both included.
pub(super) fn linspace(low: f64, high: f64, count: usize) -> impl Iterator<Item = f64> {
    let step = (high - low) / (count - 1) as f64;
    (0..count).map(move |k| if k + 1 == count { high } else { low + k as f64 * step })
}

/// TSB-AD's affiliation F at the best of 100 thresholds even between the lowest and highest score: an
/// oracle figure. 0 where nothing is labelled.
pub fn affiliation_f(score: &[f64], truth: &[bool]) -> f64 {
    let low = score.iter().copied().fold(f64::INFINITY, f64::min);
    let high = score.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let real = intervals(truth);
    if real.is_empty() {
        return 0.0;
    }
    let mut best = 0.0f64;
    let mut alarm = vec![false; score.len()];
    for cut in linspace(low, high, 100) {
        for (a, s) in alarm.iter_mut().zip(score) {
            *a = *s > cut;
        }
        if let Some((p, r)) = precision_recall(&intervals(&alarm), &real, score.len() as f64) {
            best = best.max(2.0 * p * r / (p + r + 1e-15));
        }
    }
    best
}

fn intervals(rows: &[bool]) -> Vec<Interval> {
    super::events_of(rows).into_iter().map(|(a, b)| (a as f64, b as f64)).collect()
}

/// Zones of influence: borders half-way between neighbours, `span` at both ends.
fn zones(events: &[Interval], span: Interval) -> Vec<Interval> {
    (0..events.len())
        .map(|j| {
            let left = if j == 0 { span.0 } else { (events[j - 1].1 + events[j].0) / 2.0 };
            let right = if j + 1 == events.len() { span.1 } else { (events[j].1 + events[j + 1].0) / 2.0 };
            (left, right)
        })
        .collect()
}

fn cut(a: Interval, b: Interval) -> Option<Interval> {
    let both = (a.0.max(b.0), a.1.min(b.1));
    (both.0 < both.1).then_some(both)
}

/// Mean affiliation precision and recall; `None` where nothing was predicted.
fn precision_recall(predicted: &[Interval], real: &[Interval], rows: f64) -> Option<(f64, f64)> {
    let mut precisions = Vec::new();
    let mut recall = 0.0;
    let mut from = 0;
    for (&event, zone) in real.iter().zip(zones(real, (0.0, rows))) {
        while from < predicted.len() && predicted[from].1 <= zone.0 {
            from += 1;
        }
        let own: Vec<Interval> =
            predicted[from..].iter().take_while(|p| p.0 < zone.1).filter_map(|&p| cut(p, zone)).collect();
        if own.is_empty() {
            continue;
        }
        let length: f64 = own.iter().map(|p| p.1 - p.0).sum();
        precisions.push(own.iter().map(|&p| precision_integral(p, event, zone)).sum::<f64>() / length);
        let covered: f64 = own
            .iter()
            .zip(zones(&own, zone))
            .filter_map(|(&p, near)| cut(event, near).map(|part| recall_integral(p, part, zone)))
            .sum();
        recall += covered / (event.1 - event.0);
    }
    if precisions.is_empty() {
        return None;
    }
    Some((precisions.iter().sum::<f64>() / precisions.len() as f64, recall / real.len() as f64))
}

/// ∫ over the predicted interval of the survival probability of the distance to the event.
fn precision_integral(p: Interval, event: Interval, zone: Interval) -> f64 {
    let middle = cut(p, event).map_or(0.0, |m| m.1 - m.0);
    let beside = |side: Interval| {
        let nearest = (side.0 - event.1).max(event.0 - side.1);
        let farthest = (side.1 - event.1).max(event.0 - side.0);
        let margin = (event.0 - zone.0).min(zone.1 - event.1);
        let capped = 0.5 * (farthest.min(margin).powi(2) - nearest.min(margin).powi(2))
            + margin * (farthest.max(margin) - nearest.max(margin));
        let linear = 0.5 * (farthest * farthest - nearest * nearest);
        let rest = (event.1 - event.0) * (side.1 - side.0);
        (side.1 - side.0) - (capped + linear + rest) / (zone.1 - zone.0)
    };
    let before = cut(p, (f64::NEG_INFINITY, event.0)).map_or(0.0, beside);
    let after = cut(p, (event.1, f64::INFINITY)).map_or(0.0, beside);
    before + middle + after
}

/// ∫ over a part of the event of the survival probability of the distance to the predicted interval.
fn recall_integral(p: Interval, event: Interval, zone: Interval) -> f64 {
    let middle = cut(event, p).map_or(0.0, |m| m.1 - m.0);
    let beside = |part: Interval, pivot: f64| {
        if pivot <= zone.0 || pivot >= zone.1 {
            return 0.0;
        }
        // min(distance to the pivot, distance to the zone's edge) + distance: linear between these knots
        let value = |t: f64| {
            let d = (pivot - t).abs();
            d.min((t - zone.0).min(zone.1 - t)) + d
        };
        let mut knots = vec![part.0, part.1];
        for knot in [(zone.0 + zone.1) / 2.0, (zone.0 + pivot) / 2.0, (zone.1 + pivot) / 2.0] {
            if knot > part.0 && knot < part.1 {
                knots.push(knot);
            }
        }
        knots.sort_unstable_by(f64::total_cmp);
        let integral: f64 = knots.windows(2).map(|k| (k[1] - k[0]) * (value(k[0]) + value(k[1])) / 2.0).sum();
        (part.1 - part.0) - integral / (zone.1 - zone.0)
    };
    let before = cut(event, (f64::NEG_INFINITY, p.0)).map_or(0.0, |part| beside(part, p.0));
    let after = cut(event, (p.1, f64::INFINITY)).map_or(0.0, |part| beside(part, p.1));
    before + middle + after
}
