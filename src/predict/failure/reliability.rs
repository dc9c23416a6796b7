//! Can the stated probabilities be taken at their word? Reliability, Brier score and calibration error
//! of any number of rows, in memory that does not grow: rows fall into fine cells of equal width in
//! log-odds, from which bins of equal count are made at the end.

use serde::{Deserialize, Serialize};

use crate::fleet::Span;

/// Cells of equal width in log-odds from −`EDGE` to `EDGE`.
const CELLS: usize = 4096;
const EDGE: f64 = 14.0;
/// Bins, of equal width for the table and its error, of equal count for the error by which models are compared.
const BINS: usize = 10;
/// The log loss takes no probability for less.
const LEAST: f64 = 1e-6;

#[derive(Clone, Copy, PartialEq, Debug, Default)]
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
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub struct Reliability {
    within: Span,
    fine: Vec<Cell>,
    wide: [Cell; BINS],
    squared: f64,
    /// Sum of −ln of the probability that was stated of what happened.
    surprise: f64,
}

/// As it is kept: cells that hold a row alone, as number, rows, sum of what was stated, and failures.
#[derive(Serialize, Deserialize)]
struct Kept {
    within: Span,
    fine: Vec<(usize, u64, f64, u64)>,
    wide: Vec<(usize, u64, f64, u64)>,
    squared: f64,
    surprise: f64,
}

impl From<Reliability> for Kept {
    fn from(r: Reliability) -> Self {
        let kept = |cells: &[Cell]| {
            let filled = cells.iter().enumerate().filter(|(_, c)| c.rows > 0);
            filled.map(|(at, c)| (at, c.rows, c.stated, c.happened)).collect()
        };
        let (fine, wide) = (kept(&r.fine), kept(&r.wide));
        Self { within: r.within, fine, wide, squared: r.squared, surprise: r.surprise }
    }
}

impl From<Kept> for Reliability {
    fn from(kept: Kept) -> Self {
        let fill = |cells: &mut [Cell], from: Vec<(usize, u64, f64, u64)>| {
            for (at, rows, stated, happened) in from {
                if let Some(cell) = cells.get_mut(at) {
                    *cell = Cell { rows, stated, happened };
                }
            }
        };
        let mut out = Self::new(kept.within);
        fill(&mut out.fine, kept.fine);
        fill(&mut out.wide, kept.wide);
        (out.squared, out.surprise) = (kept.squared, kept.surprise);
        out
    }
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
    /// Share of them that failed; `None` without a row.
    pub base_rate: Option<f64>,
    /// Mean squared difference between what was stated and what happened; `None` where nothing failed, or
    /// everything: that says nothing of the probabilities.
    pub brier: Option<f64>,
    /// 1 − Brier / Brier of always stating the base rate; `None` as above.
    pub brier_skill: Option<f64>,
    /// Expected calibration error over the bins below; `None` as above.
    pub ece: Option<f64>,
    /// The reliability table; bins without a row are left out.
    pub bins: Vec<Bin>,
}

impl Reliability {
    /// No row yet.
    pub fn new(within: Span) -> Self {
        Self {
            within,
            fine: vec![Cell::default(); CELLS],
            wide: [Cell::default(); BINS],
            squared: 0.0,
            surprise: 0.0,
        }
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
        self.surprise -= (if happened { p } else { 1.0 - p }).max(LEAST).ln();
    }

    /// Mean of −ln of the probability that was stated of what happened (log loss, in nats); no
    /// probability counts as less than a millionth.
    pub fn log_loss(&self) -> f64 {
        self.surprise / self.rows().max(1) as f64
    }

    /// Average precision: the area under precision and recall as a sum of steps, a step a cell, so that
    /// rows of nearly equal probability count together. 0 where nothing failed.
    pub fn average_precision(&self) -> f64 {
        let failed: u64 = self.fine.iter().map(|c| c.happened).sum();
        let (mut rows, mut hits, mut sum) = (0u64, 0u64, 0.0);
        for cell in self.fine.iter().rev().filter(|c| c.rows > 0) {
            rows += cell.rows;
            hits += cell.happened;
            sum += cell.happened as f64 * hits as f64 / rows as f64;
        }
        sum / failed.max(1) as f64
    }

    fn rows(&self) -> u64 {
        self.wide.iter().map(|c| c.rows).sum()
    }

    /// Mean squared difference between what was stated and what happened; 0 without a row.
    pub fn brier(&self) -> f64 {
        self.squared / self.rows().max(1) as f64
    }

    /// What a person is told.
    pub fn finish(&self) -> Calibrated {
        let rows = self.rows();
        let failed: u64 = self.wide.iter().map(|c| c.happened).sum();
        let base_rate = (rows > 0).then(|| failed as f64 / rows as f64);
        let reference = base_rate.map(|rate| rate * (1.0 - rate)).filter(|reference| *reference > 0.0);
        let bins: Vec<Bin> = (0..BINS)
            .zip(&self.wide)
            .filter(|(_, c)| c.rows > 0)
            .map(|(b, c)| Bin {
                from: b as f64 / BINS as f64,
                to: (b + 1) as f64 / BINS as f64,
                rows: c.rows,
                stated: c.stated / c.rows as f64,
                happened: c.happened as f64 / c.rows as f64,
            })
            .collect();
        let off = |bin: &Bin| bin.rows as f64 * (bin.stated - bin.happened).abs();
        Calibrated {
            within_s: self.within.as_seconds(),
            rows,
            rows_failed: failed,
            base_rate,
            brier: reference.map(|_| self.brier()),
            brier_skill: reference.map(|reference| 1.0 - self.brier() / reference),
            ece: reference.map(|_| bins.iter().map(off).sum::<f64>() / rows as f64),
            bins,
        }
    }

    /// Expected calibration error by bins of equal count, by which models are compared: Σ share × |mean stated − share that happened| over ten bins of equal count; a cell that lies in
    /// two bins is split between them in proportion.
    pub fn calibration_error(&self) -> f64 {
        let all = self.rows().max(1) as f64;
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
    use crate::predict::failure::quality::average_precision;

    fn some() -> (Vec<f64>, Vec<bool>, Reliability) {
        let stated: Vec<f64> = (0..900).map(|i| f64::from((i * 37) % 900) / 900.0).collect();
        let happened: Vec<bool> = stated.iter().enumerate().map(|(i, p)| p * 7.0 > (i % 11) as f64).collect();
        let mut all = Reliability::new(Span::hours(1));
        stated.iter().zip(&happened).for_each(|(p, y)| all.add(*p, *y));
        (stated, happened, all)
    }

    #[test]
    fn the_order_is_judged_as_with_all_rows_in_memory() {
        let (stated, happened, all) = some();
        let exact = average_precision(&stated, &happened);
        assert!((all.average_precision() - exact).abs() < 0.01, "{} {exact}", all.average_precision());
        let surprise =
            stated.iter().zip(&happened).map(|(p, y)| -(if *y { *p } else { 1.0 - p }).max(1e-6).ln());
        assert!((all.log_loss() - surprise.sum::<f64>() / 900.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_kept_comes_back_whole() {
        let (_, _, all) = some();
        let kept = serde_json::to_vec(&all).unwrap();
        let back: Reliability = serde_json::from_slice(&kept).unwrap();
        let numbers = |r: &Reliability| {
            let rows = r.finish().rows as f64;
            [rows, r.brier(), r.calibration_error(), r.average_precision(), r.log_loss()]
        };
        // Text keeps a number but for its last digit.
        assert!(numbers(&back).iter().zip(numbers(&all)).all(|(a, b)| (a - b).abs() < 1e-12));
        let empty = Reliability::new(Span::hours(1));
        assert_eq!((empty.average_precision(), empty.log_loss()), (0.0, 0.0));
    }
}
