//! Can the stated probabilities be taken at their word? The measures are those by which the running
//! engine judges a challenger, too ([`crate::predict::failure::reliability`]); they are held to the exact
//! ones of `eval::measures` here.

pub use crate::predict::failure::reliability::{Bin, Calibrated, Reliability};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::measures::{brier, expected_calibration_error};
    use crate::fleet::Span;
    use proptest::prelude::*;

    const BINS: usize = 10;

    fn all(rows: &[(f64, bool)]) -> Reliability {
        let mut reliability = Reliability::new(Span::minutes(15));
        rows.iter().for_each(|(p, y)| reliability.add(*p, *y));
        reliability
    }

    fn of(rows: &[(f64, bool)]) -> Calibrated {
        all(rows).finish()
    }

    #[test]
    fn a_hand_computed_case() {
        // Ten rows, one a bin of equal count: |.05−0| five times, |.95−1| four times, |.95−0| once.
        let rows: Vec<(f64, bool)> =
            [(0.05, false); 5].into_iter().chain([(0.95, true); 4]).chain([(0.95, false)]).collect();
        let found = of(&rows);
        // The upper cell has 4 failures in 5 rows: stated .95, happened .8.
        assert!((found.ece.unwrap() - (5.0 * 0.05 + 5.0 * 0.15) / 10.0).abs() < 1e-12, "{:?}", found.ece);
        assert!((found.brier.unwrap() - (9.0 * 0.0025 + 0.9025) / 10.0).abs() < 1e-12);
        assert_eq!((found.rows, found.rows_failed, found.bins.len()), (10, 4, 2));
        let upper = &found.bins[1];
        assert_eq!((upper.from, upper.rows, upper.happened), (0.9, 5, 0.8));
        assert!((upper.stated - 0.95).abs() < 1e-12);
    }

    #[test]
    fn without_a_row_or_an_outcome_of_either_kind_nothing_is_claimed() {
        let nothing = of(&[]);
        assert_eq!((nothing.rows, nothing.base_rate), (0, None));
        let (calm, doomed) = (of(&[(0.0, false), (0.4, false)]), of(&[(1.0, true)]));
        assert_eq!((calm.base_rate, doomed.base_rate), (Some(0.0), Some(1.0)));
        for found in [nothing, calm, doomed] {
            assert_eq!((found.brier, found.brier_skill, found.ece), (None, None, None));
        }
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
            let found = all(&rows);
            let told = found.finish();
            let shown: f64 =
                told.bins.iter().map(|b| b.rows as f64 * (b.stated - b.happened).abs()).sum::<f64>() / told.rows as f64;
            prop_assert!(told.ece.is_none_or(|ece| (ece - shown).abs() < 1e-12), "{:?} {shown}", told.ece);
            let (p, y): (Vec<f64>, Vec<bool>) = rows.iter().copied().unzip();
            prop_assert!((found.brier() - brier(&p, &y)).abs() < 1e-9);
            // Rows that share a cell at a bin's edge may be told apart by the exact measure.
            let exact = expected_calibration_error(&p, &y, BINS);
            let edges = rows.len() / BINS;
            prop_assert!((found.calibration_error() - exact).abs() <= 2.0 * BINS as f64 / (edges * BINS) as f64 + 1e-6,
                "{} against {exact}", found.calibration_error());
        }
    }
}
