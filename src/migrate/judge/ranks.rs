//! The statistics that the judge goes by: quantiles, the rank sum test of two sides and the shift between them.

use std::borrow::Cow;

/// Values a side for the Hodges–Lehmann shift; more are thinned evenly after sorting.
const SHIFT_SAMPLES: usize = 128;
/// So many differences are sooner laid out than searched.
const LAID_OUT: usize = 400;
/// Values a side whose differences tell about where the median of all lies.
const PROBES: usize = 4;

/// What is finite, in order.
pub(super) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut v = Vec::with_capacity(values.len());
    v.extend(values.iter().copied().filter(|x| x.is_finite()));
    v.sort_unstable_by(f64::total_cmp);
    v
}

/// The q-quantile of sorted values (nearest rank).
pub(super) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// One-sided p value that `b` is larger than `a`; both sorted.
pub(super) fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
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
pub(super) fn hodges_lehmann(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (thinned(a), thinned(b));
    match a.len() * b.len() {
        0 => 0.0,
        n @ 1..=LAID_OUT => nth_laid_out(&a, &b, n / 2),
        n => nth_difference(&a, &b, n / 2),
    }
}

/// The `n`-th smallest, from 0, of all differences `b − a`; both sorted, and `n` less than their number. A few
/// differences say between which two it lies (Floyd and Rivest 1975), and only what lies between them is laid out;
/// where it lies elsewhere, all are.
fn nth_laid_out(a: &[f64], b: &[f64], n: usize) -> f64 {
    let probe = |of: &[f64], k: usize| of[(2 * k + 1) * of.len() / (2 * PROBES)];
    let mut probes = [0.0; PROBES * PROBES];
    for (i, d) in probes.iter_mut().enumerate() {
        *d = probe(b, i % PROBES) - probe(a, i / PROBES);
    }
    probes.sort_unstable_by(f64::total_cmp);
    let middle = n * probes.len() / (a.len() * b.len());
    let (low, high) = (probes[middle.saturating_sub(2)], probes[(middle + 2).min(probes.len() - 1)]);
    let mut between: Vec<i64> = Vec::with_capacity(a.len() * b.len());
    let (mut from, mut to, mut less) = (0, 0, 0);
    for x in a {
        from += b[from..].iter().take_while(|y| **y - x < low).count();
        to = to.max(from);
        to += b[to..].iter().take_while(|y| **y - x <= high).count();
        less += from;
        between.extend(b[from..to].iter().map(|y| turned((y - x).to_bits() as i64)));
    }
    if n < less || n - less >= between.len() {
        between.clear();
        a.iter().for_each(|x| between.extend(b.iter().map(|y| turned((y - x).to_bits() as i64))));
        less = 0;
    }
    let nth = *between.select_nth_unstable(n - less).1;
    f64::from_bits(turned(nth) as u64)
}

/// The bits of a number, turned so that they are ordered as `f64::total_cmp` orders numbers; turned again they are
/// what they were.
fn turned(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
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
pub(super) fn upper_tail(z: f64) -> f64 {
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
        for (n, m) in [(1, 1), (1, 7), (9, 2), (12, 12), (12, 13), (20, 20), (3, 100), (40, 128), (128, 128)]
        {
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
                let median = all[n * m / 2].to_bits();
                assert_eq!(hodges_lehmann(&a, &b).to_bits(), median, "{a:?} {b:?}");
                assert_eq!(nth_difference(&a, &b, n * m / 2).to_bits(), median, "{a:?} {b:?}");
            }
        }
        assert_eq!(hodges_lehmann(&[], &[1.0]).to_bits(), 0.0f64.to_bits());
    }
}
