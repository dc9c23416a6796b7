//! Randomness as an argument: one seeded generator, the same numbers on every machine and release.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// A seeded generator. Whoever needs randomness takes `&mut Random`; nobody makes one from entropy
/// but the shell.
#[derive(Clone, Debug)]
pub struct Random(Pcg64Mcg);

impl Random {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// An independent generator for a part named `label`, so that one part drawing more numbers
    /// does not shift another part's.
    pub fn fork(&self, label: &str) -> Self {
        let mut parent = self.0.clone();
        let digest = blake3::hash(label.as_bytes());
        let bytes: [u8; 8] = digest.as_bytes()[..8].try_into().expect("a hash has 32 bytes");
        Self::new(parent.random::<u64>() ^ u64::from_le_bytes(bytes))
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// Uniform in `[low, high)`; `low` where the range is empty.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low).max(0.0) * self.unit()
    }

    /// Uniform whole number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.0.random_range(0..end) }
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Standard normal deviate (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let u = 1.0 - self.unit();
        let v = self.unit();
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_of_one_seed_differ_by_label_and_repeat() {
        let root = Random::new(7);
        assert_eq!(root.fork("a").bits(), root.fork("a").bits());
        assert_ne!(root.fork("a").bits(), root.fork("b").bits());
    }
}
