//! The threshold that starts a move adjusts itself: moves that were needed lower it, needless or
//! disruptive ones raise it; load and congestion raise it too, because moving costs more then, and a
//! fleet where much fails of late lowers it.

use serde::{Deserialize, Serialize};

use crate::fleet::{Probability, Share};

/// How a move turned out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feedback {
    /// The source failed afterwards: the move was needed.
    Needed,
    /// The partition failed and nothing had been moved: the threshold was too high.
    Missed,
    /// The source went on well for two windows: the move was needless.
    Needless,
    /// The move itself hurt: rolled back, or users felt it.
    Disruptive,
}

/// What is around, when the threshold is asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Surroundings {
    /// Share of the fleet's processing in use.
    pub load: Share,
    /// Share of the network in use, or of the moves allowed at once that run.
    pub congestion: Share,
    /// Failures of the last 30 days by those of the 30 days before; 1 = as ever.
    pub failures_by_usual: f64,
}

/// A threshold's shift, in log-odds, learnt from how moves turned out.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct AdaptiveThreshold {
    shift: f64,
}

/// The learnt shift stays within this, so that feedback alone never switches moving on or off.
const MOST_SHIFT: f64 = 1.5;

impl AdaptiveThreshold {
    /// Takes how one move turned out. A miss weighs most, because a crash costs more than a move.
    pub fn learn(&mut self, feedback: Feedback) {
        let by = match feedback {
            Feedback::Needed => -0.05,
            Feedback::Missed => -0.30,
            Feedback::Needless => 0.10,
            Feedback::Disruptive => 0.20,
        };
        self.shift = (self.shift + by).clamp(-MOST_SHIFT, MOST_SHIFT);
    }

    /// The learnt shift in log-odds; above 0 = stricter than configured.
    pub fn shift(&self) -> f64 {
        self.shift
    }

    /// The threshold in force for one that is configured as `base`, never below 1 % nor above 99 %.
    pub fn of(&self, base: Probability, around: Surroundings) -> Probability {
        let b = base.get().clamp(0.01, 0.99);
        let busy = ((around.load.get() - 0.7).max(0.0) + (around.congestion.get() - 0.7).max(0.0)) * 1.5;
        let failing = if around.failures_by_usual.is_finite() {
            around.failures_by_usual.clamp(0.25, 4.0).ln() * 0.3
        } else {
            0.0
        };
        let odds = (b / (1.0 - b)).ln() + self.shift + busy - failing;
        Probability::clamped((1.0 / (1.0 + (-odds).exp())).clamp(0.01, 0.99)).unwrap_or(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Surroundings =
        Surroundings { load: Share::MIN, congestion: Share::MIN, failures_by_usual: 1.0 };

    #[test]
    fn needed_moves_lower_the_threshold_and_needless_ones_raise_it() {
        let base = Probability::new(0.5).unwrap();
        let mut threshold = AdaptiveThreshold::default();
        assert!((threshold.of(base, CALM).get() - 0.5).abs() < 1e-12);
        (0..5).for_each(|_| threshold.learn(Feedback::Needed));
        let low = threshold.of(base, CALM);
        assert!(low < base);
        (0..50).for_each(|_| threshold.learn(Feedback::Needless));
        let high = threshold.of(base, CALM);
        assert!(high > base && high.get() < 0.9, "bounded: {high}");
        threshold.learn(Feedback::Missed);
        assert!(threshold.of(base, CALM) < high);
    }

    #[test]
    fn load_raises_it_and_a_run_of_failures_lowers_it() {
        let base = Probability::new(0.5).unwrap();
        let threshold = AdaptiveThreshold::default();
        let busy = Surroundings { load: Share::new(0.95).unwrap(), ..CALM };
        let failing = Surroundings { failures_by_usual: 3.0, ..CALM };
        assert!(threshold.of(base, busy) > base && threshold.of(base, failing) < base);
        let odd = Surroundings { failures_by_usual: f64::NAN, ..CALM };
        assert_eq!(threshold.of(base, odd), base);
    }
}
