//! The judge of a canary step or a soak: destination against source over the same minutes. Latency
//! is compared by the Mann–Whitney rank sum test (Mann and Whitney 1947, normal approximation with
//! tie correction) with the Hodges–Lehmann shift (1963) as effect size, in the manner of Kayenta's
//! `MannWhitneyClassifier`; errors by the two-proportion z test; a differing value fails at once.
//! Too few samples, or none, is never a pass: it is inconclusive.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use crate::drivers::CanarySample;
use crate::protocol::JudgeLine;

/// What the judge says of one metric or of all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// Nothing speaks against the destination.
    Pass,
    /// Not enough to say anything.
    Inconclusive,
    /// The destination is worse.
    Fail,
}

/// A ruling with its lines.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Judgement {
    /// The worst of the lines; a critical line that fails decides alone.
    pub ruling: Ruling,
    /// A critical metric failed: stop at once.
    pub critical: bool,
    /// Why, in words.
    pub why: String,
    /// One line a metric.
    pub lines: Vec<JudgeLine>,
}

/// What the judge goes by.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds {
    /// The destination's latency may be higher by this share of the source's.
    pub tolerance: f64,
    /// A latency that is higher by less than so many milliseconds is no effect, however significant: a hop
    /// on the network costs as much.
    pub margin_ms: f64,
    /// Fewest samples of a side.
    pub min_samples: u64,
    /// Which look at the same data this is, from 1; the level of each look is spent so that all
    /// looks together err with at most 5 % (α·1/(k(k+1)), Bonferroni over the metrics).
    pub look: u32,
}

/// Error level of all looks and metrics together.
const ALPHA: f64 = 0.05;
/// Metrics that are tested by chance (errors, latency).
const METRICS: f64 = 2.0;
/// Values a side for the Hodges–Lehmann shift; more are thinned evenly after sorting.
const SHIFT_SAMPLES: usize = 128;
/// An error share that is higher by less than this is no effect, however significant.
const ERROR_EFFECT: f64 = 0.005;
/// The least margin of latency, in milliseconds, where the source was measured before and not in the same
/// minutes.
const LATENCY_EFFECT_EARLIER: f64 = 5.0;

/// Judges what was measured.
pub fn judge(source: &CanarySample, destination: &CanarySample, bounds: Bounds) -> Judgement {
    let k = f64::from(bounds.look.max(1));
    let level = ALPHA / (METRICS * k * (k + 1.0));
    let parts = [
        errors(source, destination, bounds.min_samples, level),
        latency(source, destination, bounds, level),
        values(destination),
    ];
    let critical = parts.iter().any(|p| p.critical && p.ruling == Ruling::Fail);
    let ruling = parts.iter().map(|p| p.ruling).max().unwrap_or(Ruling::Inconclusive);
    let why = parts
        .iter()
        .filter(|p| p.ruling == ruling && ruling != Ruling::Pass)
        .map(|p| format!("{}: {}", p.line.what, p.line.verdict))
        .collect::<Vec<_>>()
        .join("; ");
    Judgement { ruling, critical, why, lines: parts.into_iter().map(|p| p.line).collect() }
}

/// The judgement where nothing could be measured.
pub fn no_data(why: &str) -> Judgement {
    Judgement {
        ruling: Ruling::Inconclusive,
        critical: false,
        why: format!("nothing was measured: {why}"),
        lines: Vec::new(),
    }
}

struct Part {
    ruling: Ruling,
    critical: bool,
    line: JudgeLine,
}

/// As `format!`, in one piece of memory: the judge looks often, and its words are of this length.
fn worded(words: fmt::Arguments<'_>) -> String {
    let mut text = String::with_capacity(48);
    text.write_fmt(words).expect("text can be written to");
    text
}

fn part(what: &str, sides: (String, String), ruling: Ruling, words: String) -> Part {
    let verdict = match ruling {
        Ruling::Pass if words.is_empty() => "pass".to_string(),
        Ruling::Pass => worded(format_args!("pass ({words})")),
        Ruling::Inconclusive => worded(format_args!("inconclusive ({words})")),
        Ruling::Fail => worded(format_args!("fail ({words})")),
    };
    Part {
        ruling,
        critical: false,
        line: JudgeLine { what: what.to_string(), source: sides.0, destination: sides.1, verdict },
    }
}

fn errors(source: &CanarySample, destination: &CanarySample, least: u64, level: f64) -> Part {
    let side = |s: &CanarySample| match s.requests {
        0 => "no requests".to_string(),
        n => worded(format_args!("{:.2} % (n {n})", 100.0 * s.errors as f64 / n as f64)),
    };
    let sides = (side(source), side(destination));
    if destination.requests < least.max(1) || source.requests < least.max(1) {
        let few = format!("fewer than {} requests on a side", least.max(1));
        return part("errors", sides, Ruling::Inconclusive, few);
    }
    let (n, m) = (source.requests as f64, destination.requests as f64);
    let (p, q) = (source.errors as f64 / n, destination.errors as f64 / m);
    let pooled = (source.errors + destination.errors) as f64 / (n + m);
    let spread = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    let z = if spread > 0.0 { (q - p) / spread } else { 0.0 };
    let chance = upper_tail(z);
    let worse = chance < level && q - p > ERROR_EFFECT;
    let ruling = if worse { Ruling::Fail } else { Ruling::Pass };
    part("errors", sides, ruling, worded(format_args!("p {chance:.2}")))
}

fn latency(source: &CanarySample, destination: &CanarySample, bounds: Bounds, level: f64) -> Part {
    let (a, b) = (sorted(&source.latencies_ms), sorted(&destination.latencies_ms));
    let side = |v: &[f64]| match v.is_empty() {
        true => "not measured".to_string(),
        false => worded(format_args!("{:.2} / {:.2} ms", quantile(v, 0.5), quantile(v, 0.99))),
    };
    let sides = (side(&a), side(&b));
    let least = (bounds.min_samples.max(1)) as usize;
    if a.len() < least || b.len() < least {
        let few = format!("{} and {} samples, {least} are needed", a.len(), b.len());
        return part("latency p50 / p99", sides, Ruling::Inconclusive, few);
    }
    let chance = mann_whitney(&a, &b);
    let shift = hodges_lehmann(&a, &b);
    let tolerance = bounds.tolerance.max(0.0);
    let margin = bounds.margin_ms.max(0.0);
    let least = if source.earlier { margin.max(LATENCY_EFFECT_EARLIER) } else { margin };
    let allowed = |of: f64| (tolerance * quantile(&a, of)).max(least);
    let tail = quantile(&b, 0.99) - quantile(&a, 0.99) > allowed(0.99);
    let shifted = chance < level && shift > allowed(0.5);
    // The tail alone decides only where there are enough samples for a 99th percentile.
    let heavy = tail && chance < level && a.len().min(b.len()) >= 500;
    let ruling = if shifted || heavy { Ruling::Fail } else { Ruling::Pass };
    part("latency p50 / p99", sides, ruling, worded(format_args!("p {chance:.2}, Δ {shift:+.2} ms")))
}

fn values(destination: &CanarySample) -> Part {
    let (n, bad) = (destination.compared, destination.mismatches);
    let ruling = if bad > 0 { Ruling::Fail } else { Ruling::Pass };
    let words = match bad {
        0 => String::new(),
        _ => format!("differ: {}", destination.examples.join(", ")),
    };
    let sides = (String::new(), worded(format_args!("{} equal, {bad} differ", n.saturating_sub(bad))));
    Part { critical: true, ..part("values compared", sides, ruling, words) }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut v: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
    v.sort_unstable_by(f64::total_cmp);
    v
}

/// The q-quantile of sorted values (nearest rank).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// One-sided p value that `b` is larger than `a`; both sorted.
fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    let (n, m) = (a.len() as f64, b.len() as f64);
    let (mut i, mut j, mut rank, mut rank_sum_b, mut ties) = (0, 0, 1.0, 0.0, 0.0);
    while i < a.len() || j < b.len() {
        let value = match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) => x.min(*y),
            (Some(x), None) => *x,
            (_, Some(y)) => *y,
            (None, None) => break,
        };
        let of_a = a[i..].iter().take_while(|x| **x <= value).count();
        let of_b = b[j..].iter().take_while(|x| **x <= value).count();
        let t = (of_a + of_b) as f64;
        rank_sum_b += of_b as f64 * (rank + (t - 1.0) / 2.0);
        ties += t * t * t - t;
        rank += t;
        i += of_a;
        j += of_b;
    }
    let u = rank_sum_b - m * (m + 1.0) / 2.0;
    let total = n + m;
    let variance = n * m / 12.0 * ((total + 1.0) - ties / (total * (total - 1.0)));
    if variance <= 0.0 { 0.5 } else { upper_tail((u - n * m / 2.0 - 0.5) / variance.sqrt()) }
}

/// Median of all differences `b − a`; both sorted.
fn hodges_lehmann(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (thinned(a), thinned(b));
    match a.len() * b.len() {
        0 => 0.0,
        n => nth_difference(&a, &b, n / 2),
    }
}

/// The `n`-th smallest, from 0, of all differences `b − a`; both sorted, and `n` less than their number. Each
/// value of `a` has a row of differences, which is sorted as `b` is: the weighted median of the rows' medians
/// leaves out a fourth of what is still asked for, and nothing is laid out (Johnson and Mizoguchi 1978).
fn nth_difference(a: &[f64], b: &[f64], n: usize) -> f64 {
    let mut rows = vec![(0, b.len()); a.len()];
    let mut medians: Vec<(f64, usize)> = Vec::with_capacity(a.len());
    loop {
        medians.clear();
        let left = rows.iter().zip(a).filter(|((from, to), _)| from < to);
        medians.extend(left.map(|((from, to), x)| (b[(from + to) / 2] - x, to - from)));
        medians.sort_unstable_by(|p, q| p.0.total_cmp(&q.0));
        let half = medians.iter().map(|(_, weight)| weight).sum::<usize>() / 2;
        let mut weight = 0;
        let pivot = medians.iter().find(|(_, of)| {
            weight += of;
            weight > half
        });
        let Some((pivot, _)) = pivot.copied() else { return f64::NAN };
        let below = |d: f64| d.total_cmp(&pivot).is_lt();
        let until = |d: f64| d.total_cmp(&pivot).is_le();
        let less = steps(a, b, below);
        let up_to = steps(a, b, until);
        if n < less.iter().sum() {
            rows.iter_mut().zip(less).for_each(|(row, less)| row.1 = row.1.min(less));
        } else if n >= up_to.iter().sum() {
            rows.iter_mut().zip(up_to).for_each(|(row, up_to)| row.0 = row.0.max(up_to));
        } else {
            return pivot;
        }
    }
}

/// Of each row of differences, how many hold; those that do come first, and the more the greater the row's `a`.
fn steps(a: &[f64], b: &[f64], holds: impl Fn(f64) -> bool) -> Vec<usize> {
    let mut j = 0;
    let row = |x: &f64| {
        while b.get(j).is_some_and(|y| holds(y - x)) {
            j += 1;
        }
        j
    };
    a.iter().map(row).collect()
}

fn thinned(sorted: &[f64]) -> Cow<'_, [f64]> {
    if sorted.len() <= SHIFT_SAMPLES {
        return Cow::Borrowed(sorted);
    }
    (0..SHIFT_SAMPLES).map(|i| sorted[i * (sorted.len() - 1) / (SHIFT_SAMPLES - 1)]).collect()
}

/// P(Z > z) of a standard normal (Abramowitz and Stegun 26.2.17, error under 7.5e-8).
fn upper_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let poly = t
        * (0.319_381_530
            + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * poly;
    if z >= 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rng::Random;

    fn sample(random: &mut Random, n: usize, mean: f64, errors: u64) -> CanarySample {
        CanarySample {
            latencies_ms: (0..n).map(|_| mean * (1.0 + 0.2 * random.normal()).max(0.1)).collect(),
            requests: n as u64,
            errors,
            compared: n as u64,
            ..CanarySample::default()
        }
    }

    const BOUNDS: Bounds = Bounds { tolerance: 0.25, margin_ms: 0.2, min_samples: 50, look: 1 };

    #[test]
    fn the_rank_sum_test_agrees_with_a_worked_example() {
        // Hollander and Wolfe, permeability data: W = 30 of 5 and 10; exact one-sided p 0.127.
        let x = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
        let y = [1.15, 0.88, 0.90, 0.74, 1.21];
        let p = mann_whitney(&sorted(&y), &sorted(&x));
        assert!((p - 0.127).abs() < 0.015, "p {p}");
        assert!((hodges_lehmann(&sorted(&y), &sorted(&x)) - 0.305).abs() < 0.05);
    }

    #[test]
    fn the_shift_is_the_median_of_all_differences_laid_out() {
        let mut random = Random::new(11);
        for (n, m) in [(1, 1), (1, 7), (9, 2), (12, 12), (12, 13), (40, 128), (128, 128)] {
            for round in 0..40 {
                // Every second round has many ties.
                let mut side = |n: usize| {
                    let draw = |_| random.between(0.5, 9.5);
                    let drawn: Vec<f64> = (0..n).map(draw).collect();
                    sorted(
                        &drawn
                            .iter()
                            .map(|x| if round % 2 == 0 { x.round() } else { *x })
                            .collect::<Vec<_>>(),
                    )
                };
                let (a, b) = (side(n), side(m));
                let mut all: Vec<f64> = a.iter().flat_map(|x| b.iter().map(move |y| y - x)).collect();
                all.sort_unstable_by(f64::total_cmp);
                assert_eq!(hodges_lehmann(&a, &b).to_bits(), all[n * m / 2].to_bits(), "{a:?} {b:?}");
            }
        }
        assert_eq!(hodges_lehmann(&[], &[1.0]).to_bits(), 0.0f64.to_bits());
    }

    #[test]
    fn equal_sides_pass_and_a_slow_destination_fails() {
        let mut random = Random::new(3);
        let (a, b) = (sample(&mut random, 400, 1.0, 0), sample(&mut random, 300, 1.0, 0));
        assert_eq!(judge(&a, &b, BOUNDS).ruling, Ruling::Pass);
        let slow = sample(&mut random, 300, 1.6, 0);
        let judgement = judge(&a, &slow, BOUNDS);
        assert_eq!(judgement.ruling, Ruling::Fail);
        assert!(judgement.why.contains("latency"), "{}", judgement.why);
        let slightly = sample(&mut random, 300, 1.1, 0);
        assert_eq!(judge(&a, &slightly, BOUNDS).ruling, Ruling::Pass, "within the tolerance");
    }

    #[test]
    fn a_hundredth_of_a_millisecond_is_no_reason_to_go_back() {
        let mut random = Random::new(7);
        let (a, b) = (sample(&mut random, 2000, 0.04, 0), sample(&mut random, 2000, 0.06, 0));
        let judgement = judge(&a, &b, BOUNDS);
        assert_eq!(judgement.ruling, Ruling::Pass, "{}", judgement.why);
        let slow = sample(&mut random, 2000, 0.4, 0);
        assert_eq!(judge(&a, &slow, BOUNDS).ruling, Ruling::Fail);
        // Unless the operator said that a hop may cost as much.
        assert_eq!(judge(&a, &slow, Bounds { margin_ms: 1.0, ..BOUNDS }).ruling, Ruling::Pass);
    }

    #[test]
    fn what_was_measured_at_another_time_is_compared_less_strictly() {
        let mut random = Random::new(8);
        let (mut a, b) = (sample(&mut random, 200, 1.0, 0), sample(&mut random, 200, 2.5, 0));
        assert_eq!(judge(&a, &b, BOUNDS).ruling, Ruling::Fail);
        a.earlier = true;
        assert_eq!(judge(&a, &b, BOUNDS).ruling, Ruling::Pass);
        assert_eq!(judge(&a, &sample(&mut random, 200, 20.0, 0), BOUNDS).ruling, Ruling::Fail);
        assert_eq!(judge(&a, &sample(&mut random, 200, 1.0, 30), BOUNDS).ruling, Ruling::Fail, "errors");
    }

    #[test]
    fn too_few_samples_are_inconclusive_and_never_a_pass() {
        let mut random = Random::new(4);
        let (a, b) = (sample(&mut random, 400, 1.0, 0), sample(&mut random, 10, 9.0, 5));
        assert_eq!(judge(&a, &b, BOUNDS).ruling, Ruling::Inconclusive);
        assert_eq!(
            judge(&CanarySample::default(), &CanarySample::default(), BOUNDS).ruling,
            Ruling::Inconclusive
        );
        assert_eq!(no_data("no answer").ruling, Ruling::Inconclusive);
    }

    #[test]
    fn one_differing_value_fails_at_once_and_is_named() {
        let mut random = Random::new(5);
        let (a, mut b) = (sample(&mut random, 400, 1.0, 0), sample(&mut random, 10, 1.0, 0));
        b.mismatches = 1;
        b.examples = vec!["user:17".to_string()];
        let judgement = judge(&a, &b, BOUNDS);
        assert!(judgement.critical && judgement.ruling == Ruling::Fail);
        assert!(judgement.why.contains("user:17"), "{}", judgement.why);
    }

    #[test]
    fn errors_at_the_destination_fail() {
        let mut random = Random::new(6);
        let (a, b) = (sample(&mut random, 1000, 1.0, 1), sample(&mut random, 500, 1.0, 25));
        assert_eq!(judge(&a, &b, BOUNDS).ruling, Ruling::Fail);
    }

    #[test]
    fn looking_often_at_equal_sides_seldom_fails_them() {
        let mut failed = 0;
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let (mut a, mut b) = (sample(&mut random, 60, 1.0, 0), sample(&mut random, 60, 1.0, 0));
            for look in 1..10 {
                a.latencies_ms.extend(sample(&mut random, 20, 1.0, 0).latencies_ms);
                b.latencies_ms.extend(sample(&mut random, 20, 1.0, 0).latencies_ms);
                if judge(&a, &b, Bounds { tolerance: 0.0, margin_ms: 0.2, min_samples: 50, look }).ruling
                    == Ruling::Fail
                {
                    failed += 1;
                    break;
                }
            }
        }
        assert!(failed <= 5, "{failed} of 100 equal pairs failed");
    }
}
