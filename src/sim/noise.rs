//! Cheap noise that is the same on every machine: sums and products only, no library functions
//! whose last bit differs between systems.

use crate::fleet::rng::Random;

/// Nearly a standard normal deviate, from 64 bits: the sum of four uniform numbers of 16 bits
/// (Irwin and Hall 1927), scaled to variance 1 and given heavier tails by a cubic term.
pub(crate) fn gaussian(bits: u64) -> f32 {
    const SCALE: f32 = 1.732_050_8 / 65_536.0;
    let part = |i: u32| ((bits >> (16 * i)) & 0xffff) as f32;
    let z = (part(0) + part(1) + part(2) + part(3) - 131_070.0) * SCALE;
    z * (0.88 + 0.04 * z * z)
}

/// `e^x` for |x| ≤ 1.5 to 1 %, growing and positive everywhere.
pub(crate) fn exp(x: f32) -> f32 {
    let y = 1.0 + x * 0.25 * (1.0 + x * 0.125 * (1.0 + x / 12.0));
    let y = y.max(0.05);
    y * y * (y * y)
}

/// Sine of `turns` full turns, to 0.2 % (Bhaskara I, 7th century).
pub(crate) fn sine(turns: f32) -> f32 {
    let t = turns - turns.floor();
    let (half, sign) = if t < 0.5 { (t, 1.0) } else { (t - 0.5, -1.0) };
    let p = half * (0.5 - half) * 4.0;
    sign * 16.0 * p / (5.0 - 4.0 * p)
}

/// A smooth random curve between −1 and 1 that is looked up rather than walked: hashes of whole
/// numbers, blended between (value noise).
pub(crate) fn wander(seed: u64, x: f64) -> f32 {
    let cell = x.floor();
    let t = (x - cell) as f32;
    let at = |n: f64| (mixed(seed ^ (n as i64 as u64)) >> 40) as f32 / 8_388_608.0 - 1.0;
    let (a, b) = (at(cell), at(cell + 1.0));
    a + (b - a) * t * t * (3.0 - 2.0 * t)
}

/// A hash of 64 bits (Stafford's variant 13, as in SplitMix64).
pub(crate) fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// First-order noise of one partition: sixteen series, each with variance 1, whose memory is about
/// a minute whatever the step.
#[derive(Clone, Debug)]
pub(crate) struct Noise {
    random: Random,
    state: [f32; 16],
}

/// How long noise remembers, in seconds.
const MEMORY_S: f32 = 60.0;

impl Noise {
    pub(crate) fn new(mut random: Random) -> Self {
        let mut state = [0.0; 16];
        for value in &mut state {
            *value = gaussian(random.bits());
        }
        Self { random, state }
    }

    /// The next values after `step_s` seconds: half of the variance has memory, half is fresh.
    pub(crate) fn next(&mut self, step_s: f32) -> [f32; 16] {
        const HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
        let keep = 1.0 / (1.0 + step_s / MEMORY_S);
        let fresh = (1.0 - keep * keep).sqrt();
        let mut out = [0.0; 16];
        for (state, out) in self.state.iter_mut().zip(&mut out) {
            let bits = self.random.bits();
            *state = *state * keep + gaussian(bits) * fresh;
            *out = (*state + gaussian(mixed(bits))) * HALF;
        }
        out
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.random.bits() >> 40) as f32 / 16_777_216.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_mean_nought_and_variance_one_at_every_step() {
        for step in [5.0, 30.0, 300.0] {
            let mut noise = Noise::new(Random::new(3));
            let (mut sum, mut squares, mut n) = (0.0f64, 0.0f64, 0.0);
            for _ in 0..4000 {
                for value in noise.next(step) {
                    sum += f64::from(value);
                    squares += f64::from(value * value);
                    n += 1.0;
                }
            }
            assert!((sum / n).abs() < 0.05, "mean {}", sum / n);
            assert!((squares / n - 1.0).abs() < 0.1, "variance {}", squares / n);
        }
    }

    #[test]
    fn curves_are_close_to_what_they_stand_for() {
        for i in -15..=15 {
            let x = i as f32 / 10.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 0.02, "exp {x}: {} {}", exp(x), x.exp());
            let turns = x * 3.0;
            let exact = (turns * std::f32::consts::TAU).sin();
            assert!((sine(turns) - exact).abs() < 0.01, "sine {turns}");
        }
        assert!((wander(1, 3.999_999) - wander(1, 4.0)).abs() < 1e-3);
    }
}
