//! How many samples were averaged into each slot of a window, in four bits a slot: half the memory of a
//! byte, and as good, because a slot of 30 seconds rarely gets more than a handful.

/// The greatest count that is told apart; with more samples a slot the later ones weigh more.
const MOST: u8 = 15;

/// Counters `[row][slot]`, each 0 to 15.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    /// Two slots a byte, the even one in the low half; rows begin at whole bytes.
    bytes: Vec<u8>,
    bytes_per_row: usize,
}

impl Counts {
    /// No rows yet, of `slots` slots each.
    pub(super) fn new(slots: usize) -> Self {
        Self { bytes: Vec::new(), bytes_per_row: slots.div_ceil(2).max(1) }
    }

    /// Makes it so many rows; new ones are 0.
    pub(super) fn resize(&mut self, rows: usize) {
        self.bytes.resize(rows * self.bytes_per_row, 0);
    }

    /// The count of a slot.
    pub(super) fn get(&self, row: usize, slot: usize) -> u8 {
        self.bytes[row * self.bytes_per_row + slot / 2] >> shift(slot) & MOST
    }

    /// One more in a slot.
    pub(super) fn add(&mut self, row: usize, slot: usize) {
        if self.get(row, slot) < MOST {
            self.bytes[row * self.bytes_per_row + slot / 2] += 1 << shift(slot);
        }
    }

    /// Sets some slots of every row to 0.
    pub(super) fn clear_slots(&mut self, slots: &[usize]) {
        for row in self.bytes.chunks_exact_mut(self.bytes_per_row) {
            for &slot in slots {
                row[slot / 2] &= !(MOST << shift(slot));
            }
        }
    }

    /// Sets all to 0.
    pub(super) fn clear(&mut self) {
        self.bytes.fill(0);
    }

    /// The same counters in rows of which every `old` are followed by room for `new - old` more.
    pub(super) fn widened(&self, old: usize, new: usize) -> Self {
        let (from, to) = (old * self.bytes_per_row, new * self.bytes_per_row);
        let mut bytes = vec![0u8; self.bytes.len() / from.max(1) * to];
        for (to, from) in bytes.chunks_exact_mut(to).zip(self.bytes.chunks_exact(from.max(1))) {
            to[..from.len()].copy_from_slice(from);
        }
        Self { bytes, bytes_per_row: self.bytes_per_row }
    }
}

fn shift(slot: usize) -> u32 {
    if slot.is_multiple_of(2) { 0 } else { 4 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_counted_apart_and_no_count_runs_over() {
        let mut counts = Counts::new(5);
        counts.resize(2);
        for _ in 0..40 {
            counts.add(1, 2);
        }
        counts.add(1, 3);
        let row: Vec<u8> = (0..5).map(|slot| counts.get(1, slot)).collect();
        assert_eq!(row, [0, 0, 15, 1, 0]);
        counts.clear_slots(&[2]);
        assert_eq!((counts.get(1, 2), counts.get(1, 3)), (0, 1));
        let wide = counts.widened(1, 3);
        assert_eq!((wide.get(3, 3), wide.get(1, 3)), (1, 0), "row 1 is the fourth of three a partition");
        counts.clear();
        assert_eq!(counts.get(1, 3), 0);
    }
}
