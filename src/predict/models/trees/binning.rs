//! Features cut into at most 255 bins a column, so that a split is found by counting.

use super::super::matrix::FeatureMatrix;

/// The bin of a missing value.
pub const MISSING: u8 = 255;
/// Bins that values may fall into.
const MOST_BINS: usize = 255;
/// Rows that are sorted to find the cuts; more give no better cuts.
const MOST_SORTED: usize = 50_000;

/// A matrix as bins, column after column, with the cuts between them.
#[derive(Clone, Debug)]
pub struct Binned {
    /// Number of rows.
    pub rows: usize,
    /// `[feature][cut]`: bin `b` holds `cuts[b-1] < x <= cuts[b]`; one bin more than cuts.
    pub cuts: Vec<Vec<f32>>,
    /// `[feature][row]`.
    bins: Vec<u8>,
}

impl Binned {
    /// Cuts `matrix` at the quantiles of its columns.
    pub fn new(matrix: &FeatureMatrix) -> Self {
        let cuts: Vec<Vec<f32>> = (0..matrix.width()).map(|f| cuts_of(matrix, f)).collect();
        Self::with_cuts(matrix, cuts)
    }

    /// Bins by cuts that are there already.
    pub fn with_cuts(matrix: &FeatureMatrix, cuts: Vec<Vec<f32>>) -> Self {
        let rows = matrix.rows();
        let mut bins = vec![MISSING; rows * matrix.width()];
        for (f, column) in bins.chunks_exact_mut(rows.max(1)).enumerate() {
            let cuts = &cuts[f];
            for (row, bin) in column.iter_mut().enumerate() {
                let x = matrix.row(row)[f];
                if !x.is_nan() {
                    *bin = cuts.partition_point(|&cut| cut < x) as u8;
                }
            }
        }
        Self { rows, cuts, bins }
    }

    /// The bins of one column.
    pub fn column(&self, feature: usize) -> &[u8] {
        &self.bins[feature * self.rows..(feature + 1) * self.rows]
    }
}

fn cuts_of(matrix: &FeatureMatrix, feature: usize) -> Vec<f32> {
    let stride = matrix.rows().div_ceil(MOST_SORTED).max(1);
    let mut values: Vec<f32> = (0..matrix.rows())
        .step_by(stride)
        .map(|row| matrix.row(row)[feature])
        .filter(|x| !x.is_nan())
        .collect();
    values.sort_unstable_by(f32::total_cmp);
    let total = values.len();
    let mut distinct: Vec<(f32, usize)> = Vec::new();
    for x in values {
        match distinct.last_mut() {
            Some((last, count)) if *last == x => *count += 1,
            _ => distinct.push((x, 1)),
        }
    }
    let mut cuts = Vec::new();
    let share = total.div_ceil(MOST_BINS).max(1);
    let all = distinct.len() <= MOST_BINS;
    let mut filled = 0;
    for pair in distinct.windows(2) {
        filled += pair[0].1;
        if (all || filled >= share) && cuts.len() + 1 < MOST_BINS {
            cuts.push(between(pair[0].0, pair[1].0));
            filled = 0;
        }
    }
    cuts
}

/// A cut with `low <= cut < high`: the midpoint, rounded toward `low`.
fn between(low: f32, high: f32) -> f32 {
    let middle = ((f64::from(low) + f64::from(high)) / 2.0) as f32;
    if middle >= high || middle < low || middle.is_nan() { low } else { middle }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_parts_even_neighbouring_numbers() {
        let low = 1.0f32;
        let high = low.next_up();
        assert_eq!(between(low, high), low);
        assert!(between(f32::NEG_INFINITY, 3.0) < 3.0);
        assert!(between(-3.0, f32::INFINITY) < f32::INFINITY);
    }

    #[test]
    fn values_fall_into_the_bin_that_their_cuts_bound() {
        let matrix = FeatureMatrix::from_values(1, vec![3.0, 1.0, f32::NAN, 2.0, 2.0]);
        let binned = Binned::new(&matrix);
        assert_eq!(binned.column(0), [2, 0, MISSING, 1, 1]);
        assert_eq!(binned.cuts[0], [1.5, 2.5]);
    }
}
