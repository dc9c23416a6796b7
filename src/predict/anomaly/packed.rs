//! A whitener as it is kept and applied to one row: the zeros above its diagonal are left out, what follows
//! its triangle is kept in half precision, and it lies column by column, so that a product runs over whole
//! columns at once. Of 16 metrics 1.6 KB for 3.1 KB.

use serde::{Deserialize, Serialize};

use super::bytes::{Reader, Writer};
use super::view::dot;

/// The greatest number in half precision.
const MOST_HALF: f32 = 65_504.0;

/// A matrix of `lines` lines whose first `lines` columns are lower triangular; further columns are full.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Packed {
    lines: usize,
    /// Column `k` of the triangle from its diagonal on, one after the other.
    triangle: Vec<f32>,
    /// The other columns, IEEE 754 binary16.
    rest: Vec<u16>,
}

impl Packed {
    /// Of a row-major matrix, `lines × (dense.len() / lines)`.
    pub(super) fn of(dense: &[f32], lines: usize) -> Packed {
        let width = dense.len() / lines.max(1);
        let triangle = (0..lines).flat_map(|k| (k..lines).map(move |i| dense[i * width + k])).collect();
        let rest =
            (lines..width).flat_map(|k| (0..lines).map(move |i| halved(dense[i * width + k]))).collect();
        Packed { lines, triangle, rest }
    }

    /// Row major, with the zeros; what was rounded stays so.
    pub(super) fn dense(&self) -> Vec<f32> {
        let d = self.lines;
        let width = d + self.rest.len() / d.max(1);
        let mut out = vec![0.0; d * width];
        for k in 0..d {
            for (i, value) in (k..d).zip(self.column(k)) {
                out[i * width + k] = *value;
            }
        }
        for (k, column) in (d..width).zip(self.rest.chunks_exact(d.max(1))) {
            for (i, half) in column.iter().enumerate() {
                out[i * width + k] = whole(*half);
            }
        }
        out
    }

    /// Bytes that lie elsewhere.
    pub(super) fn bytes(&self) -> usize {
        4 * self.triangle.len() + 2 * self.rest.len()
    }

    pub(super) fn put(&self, to: &mut Writer) {
        to.f32s(&self.triangle);
        self.rest.iter().for_each(|half| to.u16(*half));
    }

    /// One of `lines` lines, `width` columns in all.
    pub(super) fn take(from: &mut Reader<'_>, lines: usize, width: usize) -> Option<Packed> {
        let triangle = from.f32s(lines * (lines + 1) / 2)?;
        let rest = from.u16s(lines * width.checked_sub(lines)?)?;
        Some(Packed { lines, triangle, rest })
    }

    /// Column `k` of the triangle, from its diagonal on.
    fn column(&self, k: usize) -> &[f32] {
        let from = k * self.lines - k * k.saturating_sub(1) / 2;
        &self.triangle[from..from + self.lines - k]
    }

    /// `y += W x`, for `x` of a column a number. Four columns pass over `y` at once; every sum is taken column
    /// after column all the same.
    pub(super) fn add_product(&self, x: &[f32], y: &mut [f32]) {
        let (first, others) = x.split_at(self.lines.min(x.len()));
        self.add_triangle(first, y);
        self.add_rest(others, y);
    }

    fn add_triangle(&self, x: &[f32], y: &mut [f32]) {
        let mut columns = self.triangle.as_slice();
        let (fours, left) = x.as_chunks::<4>();
        for (four, x) in fours.iter().enumerate() {
            let y = &mut y[4 * four..];
            let [a, b, c, e];
            (a, columns) = columns.split_at(y.len());
            (b, columns) = columns.split_at(y.len() - 1);
            (c, columns) = columns.split_at(y.len() - 2);
            (e, columns) = columns.split_at(y.len() - 3);
            let (corner, y) = y.split_at_mut(3);
            corner[0] += a[0] * x[0];
            corner[1] = corner[1] + a[1] * x[0] + b[0] * x[1];
            corner[2] = corner[2] + a[2] * x[0] + b[1] * x[1] + c[0] * x[2];
            for ((((y, a), b), c), e) in y.iter_mut().zip(&a[3..]).zip(&b[2..]).zip(&c[1..]).zip(e) {
                *y = *y + a * x[0] + b * x[1] + c * x[2] + e * x[3];
            }
        }
        for (k, x) in left.iter().enumerate() {
            let y = &mut y[4 * fours.len() + k..];
            let column;
            (column, columns) = columns.split_at(y.len());
            y.iter_mut().zip(column).for_each(|(y, w)| *y += w * x);
        }
    }

    fn add_rest(&self, x: &[f32], y: &mut [f32]) {
        let d = self.lines.max(1);
        let mut columns = self.rest.chunks_exact(4 * d);
        let (fours, left) = x.as_chunks::<4>();
        for (columns, x) in columns.by_ref().zip(fours) {
            let (ab, ce) = columns.split_at(2 * d);
            let ((a, b), (c, e)) = (ab.split_at(d), ce.split_at(d));
            // The exponents are put right in x: these are z-scores, far from where that would overflow.
            let x = x.map(|x| x * EXPONENTS);
            for ((((y, a), b), c), e) in y.iter_mut().zip(a).zip(b).zip(c).zip(e) {
                *y = *y + spread(*a) * x[0] + spread(*b) * x[1] + spread(*c) * x[2] + spread(*e) * x[3];
            }
        }
        for (column, x) in columns.remainder().chunks_exact(d).zip(left) {
            let x = x * EXPONENTS;
            y.iter_mut().zip(column).for_each(|(y, w)| *y += spread(*w) * x);
        }
    }

    /// `Wᵀ y`, a number a column, for W the triangle.
    pub(super) fn turned_product(&self, y: &[f32], out: &mut [f32]) {
        let mut columns = self.triangle.as_slice();
        for (out, m) in out.iter_mut().zip(0..self.lines) {
            let column;
            (column, columns) = columns.split_at(self.lines - m);
            *out = dot_of_eights(column, &y[m..]);
        }
    }

    /// The length of each column of the triangle.
    pub(super) fn lengths(&self) -> Vec<f32> {
        (0..self.lines).map(|m| dot(self.column(m), self.column(m)).sqrt()).collect()
    }

    /// Parts of |y|² by metric, for y = W r with W the triangle: r_m (Wᵀ y)_m, which is the Shapley value
    /// of metric m. `left` is room for `lines` numbers.
    pub(super) fn quadratic_parts(&self, y: &[f32], left: &mut [f32], parts: &mut [f32]) {
        left.copy_from_slice(y);
        for (m, part) in parts.iter_mut().enumerate() {
            let column = self.column(m);
            let r = left[m] / column[0];
            left[m..].iter_mut().zip(column).for_each(|(y, w)| *y -= w * r);
            *part = r * dot(column, &y[m..]);
        }
    }
}

/// Eight sums side by side, which the processor adds at once.
fn dot_of_eights(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_left), (b, b_left)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0f32; 8];
    for (a, b) in a.iter().zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (x, y))| *sum += x * y);
    }
    sums.iter().sum::<f32>() + dot(a_left, b_left)
}

/// Rounded to half precision; greater numbers are cut.
fn halved(value: f32) -> u16 {
    let scaled = value.clamp(-MOST_HALF, MOST_HALF) * EXPONENTS.recip();
    let sign = (scaled.to_bits() >> 16) as u16 & 0x8000;
    sign | (((scaled.to_bits() & 0x7fff_ffff) + 0x1000) >> 13) as u16
}

/// What a number in half precision is.
fn whole(half: u16) -> f32 {
    spread(half) * EXPONENTS
}

/// The same by [`EXPONENTS`] too small: sign, exponent and digits at their places in single precision. The
/// shift brings three copies of the sign along, which are cut away.
#[inline]
fn spread(half: u16) -> f32 {
    f32::from_bits(((u32::from(half) << 16).cast_signed() >> 3).cast_unsigned() & 0x8fff_e000)
}

/// 2^112: how far the exponents of both precisions are apart.
const EXPONENTS: f32 = 5.192_297e33;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rng::Random;
    use crate::predict::anomaly::view::quadratic_parts;

    #[test]
    fn half_precision_keeps_three_digits_and_cuts_what_is_too_great() {
        assert_eq!(EXPONENTS, 2f32.powi(112));
        for value in [0.0f32, 1.0, -1.0, 0.333_333, -123.456, 9.87e-5, 65_000.0] {
            let kept = whole(halved(value));
            assert!((kept - value).abs() <= value.abs() / 2000.0 + 1e-7, "{value} {kept}");
        }
        assert_eq!(whole(halved(1e9)), MOST_HALF);
        assert_eq!(whole(halved(-1e9)), -MOST_HALF);
    }

    #[test]
    fn every_number_in_half_precision_is_what_it_stands_for() {
        for half in (0..=u16::MAX).filter(|half| half & 0x7c00 != 0x7c00) {
            let (exponent, digits) = (i32::from(half >> 10 & 31), f32::from(half & 0x3ff) / 1024.0);
            let size = match exponent {
                0 => digits * 2f32.powi(-14),
                _ => (1.0 + digits) * 2f32.powi(exponent - 15),
            };
            let sign = if half >> 15 == 1 { -1.0 } else { 1.0 };
            assert_eq!(whole(half).to_bits(), (sign * size).to_bits(), "{half:#06x}");
        }
    }

    #[test]
    fn four_columns_at_once_give_what_one_after_the_other_does_to_the_bit() {
        let mut random = Random::new(1);
        for d in 1..41 {
            let width = 3 * d + 1;
            let dense: Vec<f32> = (0..d * width)
                .map(
                    |at| if at % width < d && at % width > at / width { 0.0 } else { random.normal() as f32 },
                )
                .collect();
            let packed = Packed::of(&dense, d);
            let x: Vec<f32> = (0..width).map(|_| 20.0 * random.normal() as f32).collect();
            for width in [d, width] {
                let mut expected = vec![0.5f32; d];
                for (k, x) in x[..d].iter().enumerate() {
                    expected[k..].iter_mut().zip(packed.column(k)).for_each(|(y, w)| *y += w * x);
                }
                for (x, column) in x[d..width].iter().zip(packed.rest.chunks(d)) {
                    expected.iter_mut().zip(column).for_each(|(y, w)| *y += whole(*w) * x);
                }
                let mut y = vec![0.5f32; d];
                packed.add_product(&x[..width], &mut y);
                let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
                assert_eq!(bits(&y), bits(&expected), "{d} lines, {width} columns");
            }
        }
    }

    #[test]
    fn what_is_packed_multiplies_and_shares_out_as_the_whole_matrix_does() {
        let (d, width) = (4, 7);
        let dense: Vec<f32> = (0..d * width)
            .map(|at| if at % width < d && at % width > at / width { 0.0 } else { 1.0 + (at % 5) as f32 })
            .collect();
        let packed = Packed::of(&dense, d);
        assert_eq!(packed.dense(), dense);
        assert_eq!(packed.bytes(), 4 * 10 + 2 * 12);
        let x: Vec<f32> = (0..width).map(|k| k as f32 - 2.5).collect();
        let mut y = vec![0.0; d];
        packed.add_product(&x, &mut y);
        let whole: Vec<f32> = dense.chunks(width).map(|line| dot(line, &x)).collect();
        assert_eq!(y, whole);
        let (mut ours, mut theirs, mut left) = ([0.0; 4], [0.0; 4], [0.0; 4]);
        packed.quadratic_parts(&y, &mut left, &mut ours);
        quadratic_parts(&dense, width, &y, &mut theirs);
        assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-3 * b.abs().max(1.0)));
        assert!((ours.iter().sum::<f32>() - dot(&y, &y)).abs() < 1e-2);
    }
}
