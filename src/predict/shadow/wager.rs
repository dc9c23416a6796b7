//! Evidence that may be looked at as often as one likes. A [`Wager`] bets on the sign of a bounded gain:
//! its wealth is a test martingale where the mean gain is 0 or less, so it reaches `1/α` with a chance of
//! at most α, whenever one stops (Ville's inequality; Waudby-Smith & Ramdas 2024, "Estimating means of
//! bounded random variables by betting", §4; of forecasters: Choe & Ramdas 2023, "Comparing sequential
//! forecasters"). An [`Alarm`] begins anew whenever it has lost, so that a change is found however long all
//! went well; it rings wrongly once in at least as many steps as its threshold (Shin, Ramdas & Rinaldo
//! 2023, "E-detectors", Theorem 2.4).

use serde::{Deserialize, Serialize};

/// Shares of the wealth that are bet at once; the evidence is the mean over them (a mixture).
const STAKES: [f64; 6] = [0.03, 0.07, 0.15, 0.3, 0.55, 0.9];

/// Evidence that the mean gain is over 0.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Wager {
    /// Logarithm of the wealth by stake.
    wealth: [f64; STAKES.len()],
}

impl Wager {
    /// Takes one gain; what lies outside −1 to 1 is cut.
    pub fn take(&mut self, gain: f64) {
        let gain = if gain.is_nan() { 0.0 } else { gain.clamp(-1.0, 1.0) };
        for (wealth, stake) in self.wealth.iter_mut().zip(STAKES) {
            *wealth += (stake * gain).ln_1p();
        }
    }

    /// The mean wealth: 1 at the begin.
    pub fn evidence(&self) -> f64 {
        mean_exp(&self.wealth)
    }
}

/// Evidence that the mean gain has come over 0 at some time.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Alarm {
    wealth: [f64; STAKES.len()],
}

impl Alarm {
    /// Takes one gain; what lies outside −1 to 1 is cut.
    pub fn take(&mut self, gain: f64) {
        let gain = if gain.is_nan() { 0.0 } else { gain.clamp(-1.0, 1.0) };
        for (wealth, stake) in self.wealth.iter_mut().zip(STAKES) {
            *wealth = wealth.max(0.0) + (stake * gain).ln_1p();
        }
    }

    /// The mean wealth since each bet last began anew.
    pub fn evidence(&self) -> f64 {
        mean_exp(&self.wealth)
    }
}

fn mean_exp(logs: &[f64]) -> f64 {
    logs.iter().map(|l| l.min(600.0).exp()).sum::<f64>() / logs.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rng::Random;

    #[test]
    fn chance_alone_seldom_makes_evidence_however_often_one_looks() {
        let mut reached = 0;
        for seed in 0..400 {
            let mut random = Random::new(seed);
            let mut wager = Wager::default();
            // Mean 0, seldom large: as failures are.
            reached += usize::from((0..2000).any(|_| {
                let gain =
                    if random.chance(0.05) { if random.chance(0.5) { 0.4 } else { -0.4 } } else { 0.0 };
                wager.take(gain);
                wager.evidence() >= 20.0
            }));
        }
        assert!(reached <= 20, "{reached} of 400 at a level of 1 in 20");
    }

    #[test]
    fn a_real_gain_is_seen_after_some_tens_of_failures() {
        let mut wager = Wager::default();
        let needed = (1..).find(|_| {
            wager.take(0.3);
            wager.evidence() >= 20.0
        });
        assert!((10..40).contains(&needed.unwrap()), "{needed:?}");
    }

    #[test]
    fn an_alarm_finds_a_change_after_long_years_of_calm_and_a_wager_does_not() {
        let (mut alarm, mut wager) = (Alarm::default(), Wager::default());
        for _ in 0..100_000 {
            alarm.take(-0.01);
            wager.take(-0.01);
        }
        for _ in 0..60 {
            alarm.take(0.4);
            wager.take(0.4);
        }
        assert!(alarm.evidence() > 1e5 && wager.evidence() < 1.0);
    }
}
