//! k-of-n hysteresis over a score: an alarm needs `k` of the last `n` rows over the on-threshold, and ends
//! when all of the last `n` are under the off-threshold.

use serde::{Deserialize, Serialize};

use super::bytes::{Reader, Writer};

/// The rule and its state for one partition; 32 bytes.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Hysteresis {
    on: f32,
    off: f32,
    k: u8,
    n: u8,
    over: u64,
    above_off: u64,
    alarmed: bool,
}

impl Hysteresis {
    /// `k` of the last `n` rows (n ≤ 64, both at least 1) over `on`; `off` is cut to at most `on`.
    pub fn new(on: f32, off: f32, k: u8, n: u8) -> Hysteresis {
        let n = n.clamp(1, 64);
        Hysteresis { on, off: off.min(on), k: k.clamp(1, n), n, over: 0, above_off: 0, alarmed: false }
    }

    /// Takes the next score and says whether the alarm stands. A score that is NaN changes nothing.
    #[inline]
    pub fn step(&mut self, score: f32) -> bool {
        if score.is_nan() {
            return self.alarmed;
        }
        let mask = u64::MAX >> (64 - self.n);
        self.over = ((self.over << 1) | u64::from(score >= self.on)) & mask;
        self.above_off = ((self.above_off << 1) | u64::from(score >= self.off)) & mask;
        self.alarmed = self.over.count_ones() >= u32::from(self.k) || (self.alarmed && self.above_off != 0);
        self.alarmed
    }

    /// Whether the alarm stands.
    pub fn alarmed(&self) -> bool {
        self.alarmed
    }

    /// What it carries from row to row, without the rule.
    pub(super) fn put(&self, to: &mut Writer) {
        to.u64(self.over);
        to.u64(self.above_off);
        to.u8(u8::from(self.alarmed));
    }

    pub(super) fn take(&mut self, from: &mut Reader<'_>) -> Option<()> {
        let mask = u64::MAX >> (64 - self.n);
        (self.over, self.above_off) = (from.u64()? & mask, from.u64()? & mask);
        self.alarmed = from.flag()?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spike_is_no_alarm_and_an_alarm_ends_only_when_it_is_calm() {
        let mut h = Hysteresis::new(1.0, 0.5, 2, 3);
        assert!(![0.0, 2.0, 0.0, 0.0, 0.0].iter().any(|&s| h.step(s)));
        assert!(!h.step(2.0));
        assert!(h.step(2.0));
        assert!(h.step(f32::NAN));
        assert!(h.step(0.6) && h.step(0.6) && h.step(0.6), "over the off-threshold it stands");
        assert!(h.step(0.1) && h.step(0.1));
        assert!(!h.step(0.1));
    }
}
