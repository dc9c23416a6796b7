//! Rows of features: the one shape that every model of failure reads.

/// `[row][feature]`, `f32`, row after row; missing = NaN.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct FeatureMatrix {
    width: usize,
    values: Vec<f32>,
}

impl FeatureMatrix {
    /// `rows` rows of `width` features, all missing.
    pub fn missing(rows: usize, width: usize) -> Self {
        Self { width, values: vec![f32::NAN; rows * width] }
    }

    /// No rows yet, `width` features each.
    pub fn empty(width: usize) -> Self {
        Self { width, values: Vec::new() }
    }

    /// Takes `values` as they are; a last row that is not complete is dropped.
    pub fn from_values(width: usize, mut values: Vec<f32>) -> Self {
        let whole = values.len().checked_div(width).unwrap_or(0) * width;
        values.truncate(whole);
        Self { width, values }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// Features of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    /// One row, to be written.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.width..(row + 1) * self.width]
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, to be written.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Takes rows that hold an infinite number for missing: no model can read them, and the others go on.
    pub fn drop_infinite(&mut self) {
        let width = self.width.max(1);
        for row in self.values.chunks_exact_mut(width) {
            if row.iter().any(|x| x.is_infinite()) {
                row.fill(f32::NAN);
            }
        }
    }

    /// Appends one row; what is beyond the width is cut, what is short of it is missing.
    pub fn push(&mut self, row: &[f32]) {
        let taken = row.len().min(self.width);
        self.values.extend_from_slice(&row[..taken]);
        self.values.extend(std::iter::repeat_n(f32::NAN, self.width - taken));
    }

    /// The rows of these numbers, in their order.
    pub fn select(&self, rows: &[usize]) -> Self {
        let mut out = Self { width: self.width, values: Vec::with_capacity(rows.len() * self.width) };
        for &row in rows {
            out.values.extend_from_slice(self.row(row));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_an_infinite_number_is_missing_and_the_others_stay() {
        let mut rows = FeatureMatrix::from_values(2, vec![1.0, f32::NAN, f32::INFINITY, 2.0, 3.0, 4.0]);
        rows.drop_infinite();
        assert!(rows.row(0)[0] == 1.0 && rows.row(1).iter().all(|x| x.is_nan()));
        assert_eq!(rows.row(2), [3.0, 4.0]);
    }
}
