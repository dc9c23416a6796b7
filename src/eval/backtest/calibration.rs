//! Can the stated probabilities be taken at their word? Reliability, Brier score and calibration error
//! of any number of rows, in memory that does not grow: rows fall into fine cells of equal width in
//! log-odds, from which bins of equal count are made at the end.

use serde::Serialize;

use crate::fleet::Span;

/// Cells of equal width in log-odds from −`EDGE` to `EDGE`.
const CELLS: usize = 4096;
const EDGE: f64 = 14.0;
/// Bins, of equal width for the table and of equal count for the calibration error.
const BINS: usize = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    rows: u64,
    stated: f64,
    happened: u64,
}

impl Cell {
    fn add(&mut self, p: f64, happened: bool) {
        self.rows += 1;
        self.stated += p;
        self.happened += u64::from(happened);
    }
}

/// Rows of one window as they come.
#[derive(Clone, Debug)]
pub struct Reliability {
    within: Span,
    fine: Vec<Cell>,
    wide: [Cell; BINS],
    squared: f64,
}

/// One bin of equal width.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Bin {
    /// Stated probabilities from here …
    pub from: f64,
    /// … to below here (the last bin: to and with).
    pub to: f64,
    /// Rows.
    pub rows: u64,
    /// Their mean stated probability.
    pub stated: f64,
    /// The share of them that failed.
    pub happened: f64,
}

/// What all rows of one window came to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Calibrated {
    /// The window, in seconds.
    pub within_s: f64,
    /// Rows (a partition at a cycle) of which it is known what happened.
    pub rows: u64,
    /// Of them, followed by a failure within the window.
    pub rows_failed: u64,
    /// Share of them that failed.
    pub base_rate: f64,
    /// Mean squared difference between what was stated and what happened.
    pub brier: f64,
    /// 1 − Brier / Brier of always stating the base rate; `None` where nothing failed (or everything).
    pub brier_skill: Option<f64>,
    /// Expected calibration error over ten bins of equal count.
    pub ece: f64,
    /// The reliability table; bins without a row are left out.
    pub bins: Vec<Bin>,
}

impl Reliability {
    /// No row yet.
    pub fn new(within: Span) -> Self {
        Self { within, fine: vec![Cell::default(); CELLS], wide: [Cell::default(); BINS], squared: 0.0 }
    }

    /// The window.
    pub fn within(&self) -> Span {
        self.within
    }

    /// One row: what was stated, and whether it failed within the window.
    pub fn add(&mut self, stated: f64, happened: bool) {
        let p = stated.clamp(0.0, 1.0);
        let odds = (p / (1.0 - p)).ln().clamp(-EDGE, EDGE);
        let cell = ((odds + EDGE) / (2.0 * EDGE) * CELLS as f64) as usize;
        self.fine[cell.min(CELLS - 1)].add(p, happened);
        self.wide[((p * BINS as f64) as usize).min(BINS - 1)].add(p, happened);
        self.squared += (p - f64::from(u8::from(happened))).powi(2);
    }

    /// The measures.
    pub fn finish(&self) -> Calibrated {
        let rows: u64 = self.wide.iter().map(|c| c.rows).sum();
        let failed: u64 = self.wide.iter().map(|c| c.happened).sum();
        let all = rows.max(1) as f64;
        let (base_rate, brier) = (failed as f64 / all, self.squared / all);
        let reference = base_rate * (1.0 - base_rate);
        let bins = (0..BINS).zip(&self.wide).filter(|(_, c)| c.rows > 0).map(|(b, c)| Bin {
            from: b as f64 / BINS as f64,
            to: (b + 1) as f64 / BINS as f64,
            rows: c.rows,
            stated: c.stated / c.rows as f64,
            happened: c.happened as f64 / c.rows as f64,
        });
        Calibrated {
            within_s: self.within.as_seconds(),
            rows,
            rows_failed: failed,
            base_rate,
            brier,
            brier_skill: (reference > 0.0).then(|| 1.0 - brier / reference),
            ece: self.calibration_error(all),
            bins: bins.collect(),
        }
    }

    /// Σ share × |mean stated − share that happened| over ten bins of equal count; a cell that lies in
    /// two bins is split between them in proportion.
    fn calibration_error(&self, all: f64) -> f64 {
        let size = all / BINS as f64;
        let (mut error, mut room, mut difference) = (0.0, size, 0.0);
        for cell in self.fine.iter().filter(|c| c.rows > 0) {
            let mut left = cell.rows as f64;
            let off = (cell.stated - cell.happened as f64) / left;
            while left > 1e-9 {
                let taken = left.min(room);
                difference += off * taken;
                left -= taken;
                room -= taken;
                if room <= 1e-9 {
                    error += difference.abs() / all;
                    (room, difference) = (size, 0.0);
                }
            }
        }
        error + difference.abs() / all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::measures::{brier, expected_calibration_error};
    use proptest::prelude::*;

    fn of(rows: &[(f64, bool)]) -> Calibrated {
        let mut reliability = Reliability::new(Span::minutes(15));
        rows.iter().for_each(|(p, y)| reliability.add(*p, *y));
        reliability.finish()
    }

    #[test]
    fn a_hand_computed_case() {
        // Ten rows, one a bin of equal count: |.05−0| five times, |.95−1| four times, |.95−0| once.
        let rows: Vec<(f64, bool)> =
            [(0.05, false); 5].into_iter().chain([(0.95, true); 4]).chain([(0.95, false)]).collect();
        let found = of(&rows);
        // The upper cell has 4 failures in 5 rows: stated .95, happened .8.
        assert!((found.ece - (5.0 * 0.05 + 5.0 * 0.15) / 10.0).abs() < 1e-12, "{}", found.ece);
        assert!((found.brier - (9.0 * 0.0025 + 0.9025) / 10.0).abs() < 1e-12);
        assert_eq!((found.rows, found.rows_failed, found.bins.len()), (10, 4, 2));
        let upper = &found.bins[1];
        assert_eq!((upper.from, upper.rows, upper.happened), (0.9, 5, 0.8));
        assert!((upper.stated - 0.95).abs() < 1e-12);
    }

    #[test]
    fn without_a_row_or_a_failure_nothing_is_claimed() {
        assert_eq!((of(&[]).rows, of(&[]).ece, of(&[]).brier_skill), (0, 0.0, None));
        let calm = of(&[(0.0, false), (1.0, false)]);
        assert_eq!((calm.brier_skill, calm.brier), (None, 0.5));
    }

    proptest! {
        #[test]
        fn it_is_what_all_rows_in_memory_would_give(
            rows in proptest::collection::vec((0.0..1.0f64, any::<bool>()), 1..400)
        ) {
            // As many rows as bins divide, so that both cut at the same places.
            let mut rows = rows;
            while rows.len() % BINS != 0 {
                rows.push((0.5, true));
            }
            let found = of(&rows);
            let (p, y): (Vec<f64>, Vec<bool>) = rows.iter().copied().unzip();
            prop_assert!((found.brier - brier(&p, &y)).abs() < 1e-9);
            // Rows that share a cell at a bin's edge may be told apart by the exact measure.
            let exact = expected_calibration_error(&p, &y, BINS);
            let edges = rows.len() / BINS;
            prop_assert!((found.ece - exact).abs() <= 2.0 * BINS as f64 / (edges * BINS) as f64 + 1e-6,
                "{} against {exact}", found.ece);
        }
    }
}
