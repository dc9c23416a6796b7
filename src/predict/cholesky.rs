//! The little linear algebra that the fits need: symmetric positive definite systems, dense, f64, row by
//! row. Matrices are at most a few hundred rows, so nothing here is blocked.

/// Lower triangle `L` of `a = L Lᵀ`, in place (the upper triangle is left as it was). `a` is `n × n`, row
/// major. A pivot that is not positive is lifted to a small positive number, so that a singular matrix
/// gives a finite answer.
pub fn factor(a: &mut [f64], n: usize) {
    let tiny = (0..n).map(|i| a[i * n + i].abs()).fold(0.0, f64::max).max(1e-300) * 1e-12;
    for j in 0..n {
        for i in j..n {
            let (head, tail) = a.split_at(i * n);
            let (row_i, row_j): (&[f64], &[f64]) =
                if i == j { (&tail[..j], &tail[..j]) } else { (&tail[..j], &head[j * n..j * n + j]) };
            let dot: f64 = row_i.iter().zip(row_j).map(|(x, y)| x * y).sum();
            let value = a[i * n + j] - dot;
            a[i * n + j] = if i == j { value.max(tiny).sqrt() } else { value / a[j * n + j] };
        }
    }
}

/// Solves `L Lᵀ x = b` in place, `l` from [`factor`].
pub fn solve(l: &[f64], n: usize, b: &mut [f64]) {
    for i in 0..n {
        let dot: f64 = l[i * n..i * n + i].iter().zip(b.iter()).map(|(x, y)| x * y).sum();
        b[i] = (b[i] - dot) / l[i * n + i];
    }
    for i in (0..n).rev() {
        let x = b[i] / l[i * n + i];
        b[i] = x;
        for (k, value) in b.iter_mut().enumerate().take(i) {
            *value -= l[i * n + k] * x;
        }
    }
}

/// The inverse of the lower triangle `l`, itself lower triangular, `n × n` row major with zeros above.
pub fn invert_lower(l: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for c in 0..n {
        out[c * n + c] = 1.0 / l[c * n + c];
        for i in c + 1..n {
            let dot: f64 = (c..i).map(|k| l[i * n + k] * out[k * n + c]).sum();
            out[i * n + c] = -dot / l[i * n + i];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solved_system_gives_back_its_right_side() {
        let a = [4.0, 2.0, 0.6, 2.0, 5.0, 1.0, 0.6, 1.0, 3.0];
        let mut l = a;
        factor(&mut l, 3);
        let mut x = [1.0, -2.0, 0.5];
        solve(&l, 3, &mut x);
        for (i, want) in [1.0, -2.0, 0.5].iter().enumerate() {
            let got: f64 = (0..3).map(|k| a[i * 3 + k] * x[k]).sum();
            assert!((got - want).abs() < 1e-12);
        }
        let inverse = invert_lower(&l, 3);
        for i in 0..3 {
            for j in 0..=i {
                let dot: f64 = (j..=i).map(|k| l[i * 3 + k] * inverse[k * 3 + j]).sum();
                assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_singular_matrix_gives_a_finite_answer() {
        let mut l = [1.0, 1.0, 1.0, 1.0];
        factor(&mut l, 2);
        let mut x = [1.0, 1.0];
        solve(&l, 2, &mut x);
        assert!(x.iter().all(|v| v.is_finite()));
    }
}
