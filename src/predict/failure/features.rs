//! The features of a partition at one time, from the newest slots of its window rows: robust z of
//! the value now, exponentially weighted means of 10 and 40 slots, their difference, the deviation
//! over 20 slots, sums of counted events, the instability and health score, and the kind of workload
//! that it hosts. One function computes them for training and for the live cycle. What it is given differs in one place:
//! live, the health score also holds forecast crossings and past failures; training replays history without them.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::predict::models::matrix::FeatureMatrix;
use crate::predict::shape::Shape;
use crate::telemetry::schema;

/// Slots that are looked at; of an average over 40 slots, less than a thousandth lies before them.
pub const LOOK_BACK: usize = 160;
/// z is cut here, so that one broken sensor cannot drown the rest.
pub const CLIP: f32 = 10.0;

const SHORT: usize = 64;
const DEVIATION: usize = 20;
/// A newest value older than this many slots is missing.
const FRESH: usize = 5;
const PER_METRIC: [&str; 5] = ["now", "mean10", "mean40", "drift", "deviation"];
const COUNTED: [(&str, usize); 2] = [("sum20", 20), ("sum120", 120)];

/// What a row of features holds, in order: five of each metric, two of each counted metric, the
/// extras, one of each kind.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct FeatureSpec {
    /// Names of the metrics, in the order in which rows are asked for.
    pub metrics: Vec<String>,
    /// Numbers of those metrics that count events (per slot); their sums are features too.
    #[serde(default)]
    pub counted: Vec<usize>,
    /// Names of further numbers that the caller gives, `instability` and `health` as a rule.
    #[serde(default)]
    pub extras: Vec<String>,
    /// Kinds of workload that are told apart; another kind is none of these.
    #[serde(default)]
    pub kinds: Vec<String>,
}

/// What is known of one partition beside its rows.
#[derive(Clone, Copy, Debug)]
pub struct PartitionContext<'a> {
    /// Location of each metric's baseline on its scale of judgement ([`Shape`]), in the metrics' order.
    pub location: &'a [f32],
    /// Scale of each metric's baseline; a scale that is not above 0 makes the metric missing.
    pub scale: &'a [f32],
    /// In the order of [`FeatureSpec::extras`]; NaN = unknown.
    pub extras: &'a [f32],
    /// Number of the kind of workload that it hosts, from [`FeatureSpec::kind`].
    pub kind: Option<usize>,
}

impl FeatureSpec {
    /// The sixteen canonical metrics, error logs counted, instability and health, these kinds.
    pub fn canonical(kinds: Vec<String>) -> Self {
        let metrics: Vec<String> = schema::CANONICAL.iter().map(|m| m.name.to_string()).collect();
        let counted = metrics.iter().position(|m| m == "log.errors").into_iter().collect();
        Self { metrics, counted, extras: vec!["instability".into(), "health".into()], kinds }
    }

    /// Features of a row.
    pub fn width(&self) -> usize {
        self.metrics.len() * PER_METRIC.len()
            + self.counted.len() * COUNTED.len()
            + self.extras.len()
            + self.kinds.len()
    }

    /// The scale on which each metric is judged: that of the baseline.
    fn shapes(&self) -> Vec<Option<(f32, f32)>> {
        self.metrics
            .iter()
            .map(|name| match schema::canonical(name).map(|m| Shape::of(Some(m))) {
                Some(Shape::Log { offset, floor }) => Some((offset, floor)),
                _ => None,
            })
            .collect()
    }

    /// The number of a kind; `None` for one that is not told apart.
    pub fn kind(&self, kind: &str) -> Option<usize> {
        self.kinds.iter().position(|k| k == kind)
    }

    /// The number of the extra of that name among all features.
    pub fn extra(&self, name: &str) -> Option<usize> {
        let before = self.metrics.len() * PER_METRIC.len() + self.counted.len() * COUNTED.len();
        self.extras.iter().position(|e| e == name).map(|at| before + at)
    }

    /// The number of a metric's mean over ten slots: how far it has been from its own normal lately.
    pub fn mean10(&self, metric: usize) -> usize {
        metric * PER_METRIC.len() + 1
    }

    /// Names of all features: `disk.used.mean10`, `log.errors.sum20`, `health`, `kind.oltp`.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::with_capacity(self.width());
        for metric in &self.metrics {
            names.extend(PER_METRIC.iter().map(|part| format!("{metric}.{part}")));
        }
        for &metric in &self.counted {
            names.extend(COUNTED.iter().map(|(part, _)| format!("{}.{part}", self.metrics[metric])));
        }
        names.extend(self.extras.iter().cloned());
        names.extend(self.kinds.iter().map(|kind| format!("kind.{kind}")));
        names
    }

    /// Names of the groups that people are shown (the metrics, the extras, `kind`), and the group of
    /// each feature.
    pub fn groups(&self) -> (Vec<String>, Vec<usize>) {
        let mut groups = self.metrics.clone();
        groups.extend(self.extras.iter().cloned());
        groups.push("kind".into());
        let mut of = Vec::with_capacity(self.width());
        for metric in 0..self.metrics.len() {
            of.extend([metric; PER_METRIC.len()]);
        }
        for &metric in &self.counted {
            of.extend([metric; COUNTED.len()]);
        }
        of.extend((0..self.extras.len()).map(|e| self.metrics.len() + e));
        of.extend(std::iter::repeat_n(groups.len() - 1, self.kinds.len()));
        (groups, of)
    }
}

/// The features of `partitions` partitions. `row(partition, metric)` gives the window row as two
/// runs, oldest slot first (as `telemetry::Windows::row` does), the metrics in the spec's order;
/// an empty row is a metric that the partition does not have. On all cores.
pub fn compute<'w>(
    spec: &FeatureSpec,
    partitions: usize,
    context: impl Fn(usize) -> PartitionContext<'w> + Sync,
    row: impl Fn(usize, usize) -> (&'w [f32], &'w [f32]) + Sync,
) -> FeatureMatrix {
    let mut out = FeatureMatrix::missing(partitions, spec.width());
    let (weights, shapes) = (Weights::new(), spec.shapes());
    let width = spec.width().max(1);
    out.values_mut().par_chunks_mut(width * 32).enumerate().for_each(|(chunk, values)| {
        for (at, features) in values.chunks_exact_mut(width).enumerate() {
            let partition = chunk * 32 + at;
            let context = context(partition);
            fill(spec, (&weights, &shapes), &context, |metric| row(partition, metric), features);
        }
    });
    out
}

/// One partition's features, as [`compute`] gives them.
pub fn compute_one<'w>(
    spec: &FeatureSpec,
    context: &PartitionContext<'_>,
    row: impl Fn(usize) -> (&'w [f32], &'w [f32]),
) -> Vec<f32> {
    let mut features = vec![f32::NAN; spec.width()];
    fill(spec, (&Weights::new(), &spec.shapes()), context, row, &mut features);
    features
}

fn fill<'w>(
    spec: &FeatureSpec,
    (weights, shapes): (&Weights, &[Option<(f32, f32)>]),
    context: &PartitionContext<'_>,
    row: impl Fn(usize) -> (&'w [f32], &'w [f32]),
    out: &mut [f32],
) {
    let per = PER_METRIC.len();
    let mut raw = [f32::NAN; LOOK_BACK];
    let mut at = spec.metrics.len() * per;
    for metric in 0..spec.metrics.len() {
        let (older, newer) = row(metric);
        gather(older, newer, &mut raw);
        if let Some(counted) = spec.counted.iter().position(|&c| c == metric) {
            for (k, (_, span)) in COUNTED.iter().enumerate() {
                out[at + counted * COUNTED.len() + k] = event_sum(&raw[LOOK_BACK - span..]);
            }
        }
        let scale = context.scale.get(metric).copied().unwrap_or(f32::NAN);
        let location = context.location.get(metric).copied().unwrap_or(f32::NAN);
        if scale > 0.0 && location.is_finite() {
            if let Some((offset, _)) = shapes[metric] {
                logarithms(&mut raw, offset);
            }
            standardise(&mut raw, location, 1.0 / scale);
            out[metric * per..(metric + 1) * per].copy_from_slice(&summarise(&raw, weights));
        }
    }
    at += spec.counted.len() * COUNTED.len();
    for (slot, &extra) in out[at..].iter_mut().zip(context.extras.iter().take(spec.extras.len())) {
        *slot = if extra.is_finite() { extra } else { f32::NAN };
    }
    at += spec.extras.len();
    for (kind, slot) in out[at..].iter_mut().enumerate() {
        *slot = f32::from(u8::from(context.kind == Some(kind)));
    }
}

/// The newest slots, right-aligned; what is before the row's begin is missing.
fn gather(older: &[f32], newer: &[f32], out: &mut [f32; LOOK_BACK]) {
    let newer = &newer[newer.len().saturating_sub(LOOK_BACK)..];
    let older = &older[older.len().saturating_sub(LOOK_BACK - newer.len())..];
    let first = LOOK_BACK - newer.len() - older.len();
    out[..first].fill(f32::NAN);
    out[first..first + older.len()].copy_from_slice(older);
    out[first + older.len()..].copy_from_slice(newer);
}

fn standardise(values: &mut [f32; LOOK_BACK], location: f32, inverse: f32) {
    for x in values {
        *x = ((*x - location) * inverse).clamp(-CLIP, CLIP);
    }
}

/// `ln(x + offset)` of what is there, negative values as 0: the scale of judgement of latencies and
/// rates. Within 2e-6, without a branch (mantissa and exponent parted, a series in
/// `(m − 1) / (m + 1)`).
fn logarithms(values: &mut [f32; LOOK_BACK], offset: f32) {
    for x in values {
        // `max` would take a missing value for 0.
        let y = if *x < 0.0 { offset } else { *x + offset };
        let bits = y.to_bits();
        // Exponent such that the mantissa is within √½ … √2.
        let exponent = (bits.wrapping_sub(0x3f35_04f3) as i32) >> 23;
        let m = f32::from_bits(bits.wrapping_sub((exponent as u32) << 23));
        let s = (m - 1.0) / (m + 1.0);
        let q = s * s;
        let series = 2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0)))));
        let ln = exponent as f32 * std::f32::consts::LN_2 + series;
        *x = if y.is_nan() { f32::NAN } else { ln };
    }
}

/// Sum of events, on a log scale: ten errors more matter less at a thousand than at none.
fn event_sum(raw: &[f32]) -> f32 {
    let (mut sum, mut seen) = (0f32, false);
    for &x in raw {
        if !x.is_nan() {
            sum += x.max(0.0);
            seen = true;
        }
    }
    // More than a number can hold is as many as it can.
    if seen { sum.min(f32::MAX).ln_1p() } else { f32::NAN }
}

struct Weights {
    short: [f32; LOOK_BACK],
    long: [f32; LOOK_BACK],
}

impl Weights {
    /// Weight `(1 − α)^age`, `α = 2 / (span + 1)`, as in an exponentially weighted mean over a span.
    fn new() -> Self {
        let of = |span: f64, kept: usize| {
            std::array::from_fn(|at| {
                let age = LOOK_BACK - 1 - at;
                let weight = (1.0 - 2.0 / (span + 1.0)).powi(age as i32);
                if age < kept { weight as f32 } else { 0.0 }
            })
        };
        Self { short: of(10.0, SHORT), long: of(40.0, LOOK_BACK) }
    }
}

/// `Σ weight × z` and `Σ weight` over the slots that are there; eight sums at once.
fn weighted(z: &[f32], weights: &[f32]) -> (f32, f32) {
    let (mut sums, mut totals) = ([0f32; 8], [0f32; 8]);
    for (z, w) in z.chunks_exact(8).zip(weights.chunks_exact(8)) {
        for lane in 0..8 {
            let there = !z[lane].is_nan();
            sums[lane] += if there { w[lane] * z[lane] } else { 0.0 };
            totals[lane] += if there { w[lane] } else { 0.0 };
        }
    }
    (sums.iter().sum(), totals.iter().sum())
}

fn summarise(z: &[f32; LOOK_BACK], weights: &Weights) -> [f32; 5] {
    let now = z.iter().rev().take(FRESH).copied().find(|x| !x.is_nan()).unwrap_or(f32::NAN);
    let (short, short_weight) = weighted(&z[LOOK_BACK - SHORT..], &weights.short[LOOK_BACK - SHORT..]);
    let (long, long_weight) = weighted(z, &weights.long);
    // Nothing within about the last span of slots: the mean speaks of the past only.
    let mean10 = if short_weight > 0.5 { short / short_weight } else { f32::NAN };
    let mean40 = if long_weight > 0.5 { long / long_weight } else { f32::NAN };
    [now, mean10, mean40, mean10 - mean40, deviation(&z[LOOK_BACK - DEVIATION..])]
}

fn deviation(z: &[f32]) -> f32 {
    let (mut count, mut sum) = (0f32, 0f32);
    for &x in z {
        if !x.is_nan() {
            count += 1.0;
            sum += x;
        }
    }
    if count < 3.0 {
        return f32::NAN;
    }
    let mean = sum / count;
    let squares: f32 = z.iter().map(|&x| if x.is_nan() { 0.0 } else { (x - mean) * (x - mean) }).sum();
    (squares / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> FeatureSpec {
        FeatureSpec {
            metrics: vec!["a".into(), "errors".into()],
            counted: vec![1],
            extras: vec!["health".into()],
            kinds: vec!["oltp".into(), "cache".into()],
        }
    }

    fn context<'a>() -> PartitionContext<'a> {
        PartitionContext { location: &[10.0, 0.0], scale: &[2.0, 1.0], extras: &[90.0], kind: Some(1) }
    }

    #[test]
    fn latencies_are_judged_on_the_scale_of_their_baseline() {
        let mut values = [0.0f32; LOOK_BACK];
        for (at, x) in values.iter_mut().enumerate() {
            *x = (at as f32 - 10.0) * 1.7e3 / (1.0 + at as f32);
        }
        values[3] = f32::NAN;
        let before = values;
        logarithms(&mut values, 0.1);
        for (x, got) in before.iter().zip(values) {
            let want = (x.max(0.0) + 0.1).ln();
            assert!(x.is_nan() == got.is_nan() && (x.is_nan() || (want - got).abs() < 1e-5), "{x}: {got}");
        }
        let spec = FeatureSpec { metrics: vec!["disk.read_latency".into()], ..FeatureSpec::default() };
        let row = [8.0f32; 30];
        let location = [(4.1f32).ln()];
        let context = PartitionContext { location: &location, scale: &[0.1], extras: &[], kind: None };
        let f = compute_one(&spec, &context, |_| (&row[..], &[]));
        assert!((f[0] - ((8.1f32).ln() - (4.1f32).ln()) / 0.1).abs() < 1e-3, "{f:?}");
    }

    #[test]
    fn names_and_groups_are_as_wide_as_the_row() {
        let spec = spec();
        assert_eq!(spec.names().len(), spec.width());
        assert_eq!(spec.groups().1.len(), spec.width());
        assert_eq!(spec.names()[spec.extra("health").unwrap()], "health");
        assert_eq!(FeatureSpec::canonical(vec![]).width(), 16 * 5 + 2 + 2);
    }

    #[test]
    fn a_step_shows_in_the_short_mean_before_the_long_one() {
        let spec = spec();
        let mut row = vec![10.0f32; 200];
        row[190..].fill(16.0);
        let rows = [row.clone(), row];
        let out = compute(&spec, 1, |_| context(), |_, m| (&rows[m][..50], &rows[m][50..]));
        let f = out.row(0);
        assert_eq!(f[0], 3.0);
        assert!(f[1] > 2.4 && f[2] < 1.5 && f[3] > 1.0, "{f:?}");
        assert!((f[4] - 1.5).abs() < 1e-5);
        assert!((f[10] - (10.0 * 10.0 + 160.0f32).ln_1p()).abs() < 1e-5);
        assert_eq!(&f[12..], [90.0, 0.0, 1.0]);
        assert_eq!(compute_one(&spec, &context(), |m| (&rows[m][..50], &rows[m][50..])), f);
    }

    #[test]
    fn counts_beyond_all_bounds_are_no_infinite_feature() {
        let spec = spec();
        let row = [3e38f32; 160];
        let context = PartitionContext { extras: &[f32::INFINITY], ..context() };
        let f = compute_one(&spec, &context, |_| (&row[..], &[]));
        assert!(f.iter().all(|x| !x.is_infinite()), "{f:?}");
        assert!(f[10] > 80.0 && f[12].is_nan(), "{f:?}");
    }

    #[test]
    fn a_recursive_mean_gives_the_same() {
        let spec = FeatureSpec { metrics: vec!["a".into()], ..FeatureSpec::default() };
        let row: Vec<f32> = (0..240).map(|t| (t as f32 * 0.7).sin() + t as f32 / 100.0).collect();
        let context = PartitionContext { location: &[0.0], scale: &[1.0], extras: &[], kind: None };
        let f = compute_one(&spec, &context, |_| (&row[..], &[]));
        for (slot, span) in [(1, 10.0), (2, 40.0)] {
            let a = 2.0 / (span + 1.0);
            let (mut sum, mut weight) = (0f64, 0f64);
            for &x in &row {
                sum = sum * (1.0 - a) + f64::from(x);
                weight = weight * (1.0 - a) + 1.0;
            }
            assert!((f64::from(f[slot]) - sum / weight).abs() < 1e-3, "span {span}");
        }
    }

    #[test]
    fn what_is_missing_stays_missing() {
        let spec = spec();
        let gap = vec![f32::NAN; 248];
        let out = compute(&spec, 1, |_| context(), |_, _| (&gap[..], &[]));
        assert!(out.row(0)[..12].iter().all(|x| x.is_nan()), "{:?}", out.row(0));
        let mut stale = vec![10.0f32; 248];
        stale[200..].fill(f32::NAN);
        let out = compute(&spec, 1, |_| context(), |_, _| (&stale[..], &[]));
        assert!(out.row(0)[0].is_nan() && out.row(0)[1].is_nan());
        let flat = PartitionContext { scale: &[0.0, f32::NAN], ..context() };
        let out = compute(&spec, 1, |_| flat, |_, _| (&stale[..], &[]));
        assert!(out.row(0)[..10].iter().all(|x| x.is_nan()));
        let out = compute(&spec, 1, |_| context(), |_, _| (&[][..], &[][..]));
        assert!(out.row(0)[..12].iter().all(|x| x.is_nan()));
    }
}
