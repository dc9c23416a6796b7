//! The present level of one row of a window: the mean of its newest slots, how noisy single slots
//! are, and whether the row stands still.

/// What the newest slots of a row say.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Level {
    /// Mean of the newest slots with data, in the metric's unit; NaN = none.
    pub(super) value: f32,
    /// Slots that went into it.
    pub(super) slots: u32,
    /// Standard deviation of a single slot, from differences of neighbours; NaN = not known.
    pub(super) noise: f32,
}

/// How far back single slots are looked at for the noise.
const NOISE_SLOTS: usize = 12;

/// The level from the newest `reach` slots of a row, at most `want` of them.
///
/// The noise is `E|x_i − x_{i−1}| × √π/2`, which a slow drift does not inflate (von Neumann 1941,
/// with absolute values).
pub(super) fn level(row: (&[f32], &[f32]), want: usize, reach: usize) -> Level {
    let newest = row.1.iter().rev().chain(row.0.iter().rev());
    let (mut sum, mut slots) = (0.0f64, 0u32);
    let (mut diffs, mut pairs) = (0.0f64, 0u32);
    let mut later = f32::NAN;
    for (back, &v) in newest.take(reach.max(NOISE_SLOTS)).enumerate() {
        if v.is_nan() {
            continue;
        }
        if back < reach && (slots as usize) < want {
            sum += f64::from(v);
            slots += 1;
        }
        if !later.is_nan() {
            diffs += f64::from((later - v).abs());
            pairs += 1;
        }
        later = v;
    }
    Level {
        value: if slots == 0 { f32::NAN } else { (sum / f64::from(slots)) as f32 },
        slots,
        noise: if pairs < 3 { f32::NAN } else { (diffs / f64::from(pairs) * 0.886) as f32 },
    }
}

/// Whether the newest `slots` slots hold one and the same number, at least half of them filled.
pub(super) fn stands_still(row: (&[f32], &[f32]), slots: usize) -> bool {
    let mut seen = 0usize;
    let mut first = f32::NAN;
    for &v in row.1.iter().rev().chain(row.0.iter().rev()).take(slots) {
        if v.is_nan() {
            continue;
        }
        if seen == 0 {
            first = v;
        } else if v.to_bits() != first.to_bits() {
            return false;
        }
        seen += 1;
    }
    slots > 0 && seen * 2 >= slots && row.0.len() + row.1.len() >= slots
}

/// Mean of the slots `from..to` counted back from the newest (0 = the newest); NaN of none.
pub(super) fn mean_back(row: (&[f32], &[f32]), from: usize, to: usize) -> f32 {
    let (older, newer) = row;
    let len = older.len() + newer.len();
    let (mut sum, mut n) = (0.0f64, 0u32);
    for back in from..to.min(len) {
        let i = len - 1 - back;
        let v = if i < older.len() { older[i] } else { newer[i - older.len()] };
        if !v.is_nan() {
            sum += f64::from(v);
            n += 1;
        }
    }
    if n == 0 { f32::NAN } else { (sum / f64::from(n)) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_of_the_newest_slots_that_have_data() {
        let row = ([1.0, 2.0, f32::NAN, 4.0], [f32::NAN, 6.0]);
        let l = level((&row.0, &row.1), 2, 6);
        assert_eq!((l.value, l.slots), (5.0, 2));
        assert!(level((&[], &[f32::NAN; 5]), 2, 6).value.is_nan());
        assert_eq!(mean_back((&row.0, &row.1), 2, 6), 7.0 / 3.0);
    }

    #[test]
    fn only_a_full_row_of_one_number_stands_still() {
        assert!(stands_still((&[3.0; 20], &[3.0; 20]), 30));
        assert!(!stands_still((&[3.0; 20], &[3.0, 3.1, 3.0]), 20));
        assert!(!stands_still((&[f32::NAN; 40], &[3.0]), 30), "one sample proves nothing");
    }
}
