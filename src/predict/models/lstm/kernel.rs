//! The arithmetic: products of small matrices and the gates of a cell, written once and compiled
//! twice, plainly and for processors with AVX2 and fused multiply-add, chosen at run time.

/// `out[n][m] += a[n][k] · b[k][m]`, all row after row.
///
/// # Panics
/// Where a slice is shorter than its shape.
pub fn multiply_add(out: &mut [f32], a: &[f32], b: &[f32], (n, k, m): (usize, usize, usize)) {
    assert!(out.len() >= n * m && a.len() >= n * k && b.len() >= k * m, "shapes of a product");
    #[cfg(target_arch = "x86_64")]
    if has_fma() {
        // SAFETY: the processor was just asked and has these instructions.
        #[allow(unsafe_code)]
        unsafe {
            multiply_add_fma(out, a, b, (n, k, m));
        }
        return;
    }
    multiply_add_body::<false>(out, a, b, (n, k, m));
}

/// One step of a layer: `gates` (`[n][4 hidden]`, sums) become activations in place, `cells` and
/// `hidden` (`[n][hidden]`) the new state.
pub fn step_gates(gates: &mut [f32], cells: &mut [f32], hidden: &mut [f32], width: usize) {
    #[cfg(target_arch = "x86_64")]
    if has_fma() {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            step_gates_fma(gates, cells, hidden, width);
        }
        return;
    }
    step_gates_body::<false>(gates, cells, hidden, width);
}

#[cfg(target_arch = "x86_64")]
fn has_fma() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_add_fma(out: &mut [f32], a: &[f32], b: &[f32], shape: (usize, usize, usize)) {
    multiply_add_body::<true>(out, a, b, shape);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn step_gates_fma(gates: &mut [f32], cells: &mut [f32], hidden: &mut [f32], width: usize) {
    step_gates_body::<true>(gates, cells, hidden, width);
}

/// `a × b + c`, fused only where that is one instruction (elsewhere it is a slow call).
#[inline(always)]
fn fused<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

const ROWS: usize = 4;
const COLUMNS: usize = 16;

#[inline(always)]
fn multiply_add_body<const FMA: bool>(
    out: &mut [f32],
    a: &[f32],
    b: &[f32],
    (n, k, m): (usize, usize, usize),
) {
    let whole = m / COLUMNS * COLUMNS;
    let mut row = 0;
    while row + ROWS <= n {
        let mut column = 0;
        while column < whole {
            block::<FMA, ROWS>(out, a, b, (row, column), (k, m));
            column += COLUMNS;
        }
        row += ROWS;
    }
    while row < n {
        let mut column = 0;
        while column < whole {
            block::<FMA, 1>(out, a, b, (row, column), (k, m));
            column += COLUMNS;
        }
        row += 1;
    }
    if whole < m {
        for row in 0..n {
            for at in 0..k {
                let x = a[row * k + at];
                let from = &b[at * m + whole..at * m + m];
                for (o, &y) in out[row * m + whole..row * m + m].iter_mut().zip(from) {
                    *o = fused::<FMA>(x, y, *o);
                }
            }
        }
    }
}

#[inline(always)]
fn block<const FMA: bool, const R: usize>(
    out: &mut [f32],
    a: &[f32],
    b: &[f32],
    (row, column): (usize, usize),
    (k, m): (usize, usize),
) {
    let mut sums = [[0f32; COLUMNS]; R];
    for (r, sums) in sums.iter_mut().enumerate() {
        let start = (row + r) * m + column;
        sums.copy_from_slice(&out[start..start + COLUMNS]);
    }
    let rows: [&[f32]; R] = std::array::from_fn(|r| &a[(row + r) * k..(row + r) * k + k]);
    for at in 0..k {
        let from: &[f32; COLUMNS] =
            b[at * m + column..at * m + column + COLUMNS].try_into().expect("a slice of that length");
        for r in 0..R {
            let x = rows[r][at];
            for c in 0..COLUMNS {
                sums[r][c] = fused::<FMA>(x, from[c], sums[r][c]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let start = (row + r) * m + column;
        out[start..start + COLUMNS].copy_from_slice(sums);
    }
}

#[inline(always)]
fn step_gates_body<const FMA: bool>(gates: &mut [f32], cells: &mut [f32], hidden: &mut [f32], width: usize) {
    for ((gates, cells), hidden) in gates
        .chunks_exact_mut(4 * width)
        .zip(cells.chunks_exact_mut(width))
        .zip(hidden.chunks_exact_mut(width))
    {
        let (three, cell_gate) = gates.split_at_mut(3 * width);
        for x in three.iter_mut() {
            *x = sigmoid::<FMA>(*x);
        }
        for x in cell_gate.iter_mut() {
            *x = tanh::<FMA>(*x);
        }
        let (input, rest) = three.split_at(width);
        let (output, forget) = rest.split_at(width);
        for h in 0..width {
            cells[h] = fused::<FMA>(forget[h], cells[h], input[h] * cell_gate[h]);
        }
        for h in 0..width {
            hidden[h] = output[h] * tanh::<FMA>(cells[h]);
        }
    }
}

/// `eˣ` within 2 ulp on the range that gates need (Cody and Waite reduction, degree 6), without a
/// branch, so that it is done for many at once.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 × 2²³: adding it rounds to a whole number
    let x = x.clamp(-87.0, 88.0);
    let shifted = fused::<FMA>(x, std::f32::consts::LOG2_E, SHIFT);
    let n = shifted - SHIFT;
    let r = fused::<FMA>(n, -355.0 / 512.0, x);
    let r = fused::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.0 / 720.0;
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = fused::<FMA>(p, r, c);
    }
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

#[inline(always)]
fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

#[inline(always)]
fn tanh<const FMA: bool>(x: f32) -> f32 {
    fused::<FMA>(2.0, sigmoid::<FMA>(2.0 * x), -1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rng::Random;

    #[test]
    fn gates_are_as_exact_as_single_precision_allows() {
        let mut x = -90.0f32;
        while x < 90.0 {
            let wide = f64::from(x);
            for (got, want) in [
                (sigmoid::<false>(x), 1.0 / (1.0 + (-wide).exp())),
                (tanh::<false>(x), wide.tanh()),
                (tanh::<true>(x), wide.tanh()),
            ] {
                assert!((f64::from(got) - want).abs() < 3e-7, "at {x}: {got} and {want}");
            }
            x += 0.037;
        }
    }

    #[test]
    fn products_of_any_shape_agree_with_the_definition() {
        let mut random = Random::new(2);
        for shape @ (n, k, m) in [(1, 1, 1), (3, 5, 7), (4, 16, 16), (9, 33, 128), (64, 32, 50)] {
            let a: Vec<f32> = (0..n * k).map(|_| random.normal() as f32).collect();
            let b: Vec<f32> = (0..k * m).map(|_| random.normal() as f32).collect();
            let mut out = vec![1f32; n * m];
            multiply_add(&mut out, &a, &b, shape);
            let mut plain = vec![1f32; n * m];
            multiply_add_body::<false>(&mut plain, &a, &b, shape);
            for r in 0..n {
                for c in 0..m {
                    let want: f64 =
                        1.0 + (0..k).map(|i| f64::from(a[r * k + i]) * f64::from(b[i * m + c])).sum::<f64>();
                    assert!((f64::from(out[r * m + c]) - want).abs() < 1e-4);
                    assert!((f64::from(plain[r * m + c]) - want).abs() < 1e-4);
                }
            }
        }
    }
}
