//! A partition's prediction, state by state, so that one odd window neither starts a move nor ends
//! a watch: `HEALTHY → SUSPECT → PREDICTIVE_FAILURE → EVACUATING → EVACUATED → PROBATION →
//! HEALTHY`, and `UNKNOWN` on a data gap.
//!
//! A state is entered when k of the last n readings are over the on-threshold, against the
//! partition's own past and beside its peers (for `SUSPECT` also while the anomaly detector alarms), and left only below the lower off-threshold. Unknown
//! readings count for nothing: they neither start nor end anything but `UNKNOWN` itself.

use serde::{Deserialize, Serialize};

use super::assessment::FailureForecast;
use crate::fleet::{PredictionState, Probability, Span, Timestamp};

/// What one cycle says of a partition.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Reading<'a> {
    /// No data young enough.
    Unknown,
    /// An assessment.
    Known {
        /// Distance from its own past in robust standard deviations.
        instability: f64,
        /// The same after what its peers do at the same time was taken off.
        beside_peers: f64,
        /// The anomaly detector makes it suspect ([`super::Anomaly::is_suspect`]).
        alarm: bool,
        /// Probability per window, shortest first.
        failure: &'a [FailureForecast],
    },
}

/// What the migrations of a partition's work say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Evacuation {
    /// No work of it is being moved away.
    #[default]
    None,
    /// Work is being moved away.
    Running,
    /// All that was to be moved is elsewhere and watched there.
    Finished,
    /// It was given up or undone.
    Abandoned,
}

/// The probability within a window that starts the planner.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct WindowThreshold {
    /// The window.
    pub within: Span,
    /// At or over it counts for a predictive failure.
    pub on: Probability,
    /// Below it counts for the end of one; below `on`.
    pub off: Probability,
}

/// When states change.
#[derive(Clone, PartialEq, Debug)]
pub struct HysteresisOptions {
    /// Instability at or over which a reading is suspect, by itself and beside its peers.
    pub suspect_on: f64,
    /// Instability below which a reading is calm.
    pub suspect_off: f64,
    /// Thresholds of the failure windows; one over its own is enough.
    pub thresholds: Vec<WindowThreshold>,
    /// So many readings …
    pub k: u32,
    /// … of the last so many (at most 16) must be over to enter a state.
    pub n: u32,
    /// So many calm readings in a row leave it.
    pub calm: u32,
    /// How long an evacuated or recovered partition is watched before it counts as healthy.
    pub probation: Span,
}

impl Default for HysteresisOptions {
    /// 3 of 4 readings; 30 % within 15 minutes, 50 % within an hour, 85 % within a day, each off at
    /// half; calm after 6 readings; ten minutes of probation.
    fn default() -> Self {
        Self {
            suspect_on: 6.0,
            suspect_off: 4.0,
            thresholds: vec![
                threshold(Span::minutes(15), 0.30),
                threshold(Span::hours(1), 0.50),
                threshold(Span::hours(24), 0.85),
            ],
            k: 3,
            n: 4,
            calm: 6,
            probation: Span::minutes(10),
        }
    }
}

fn threshold(within: Span, on: f64) -> WindowThreshold {
    let p = |x| Probability::clamped(x).unwrap_or(Probability::MAX);
    WindowThreshold { within, on: p(on), off: p(on / 2.0) }
}

/// The prediction state of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PredictionMachine {
    state: PredictionState,
    since: Timestamp,
    /// The newest readings, newest in the lowest bit: suspect.
    suspect: u16,
    /// The same: over a failure threshold.
    failing: u16,
    /// Calm readings in a row.
    calm: u32,
    /// The state before the data gap, to which a partition with a running evacuation returns.
    before_gap: PredictionState,
}

impl Default for PredictionMachine {
    fn default() -> Self {
        Self::new(Timestamp(0))
    }
}

impl PredictionMachine {
    /// Unknown since `now`.
    pub fn new(now: Timestamp) -> Self {
        Self {
            state: PredictionState::Unknown,
            since: now,
            suspect: 0,
            failing: 0,
            calm: 0,
            before_gap: PredictionState::Unknown,
        }
    }

    /// The state.
    pub fn state(&self) -> PredictionState {
        self.state
    }

    /// Since when.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Whether nothing could be said of the partition since the machine began.
    pub fn was_never_known(&self) -> bool {
        self.state == PredictionState::Unknown && self.before_gap == PredictionState::Unknown
    }

    /// Takes the reading of one cycle and returns the state that was left, where it changed.
    pub fn step(
        &mut self,
        reading: Reading<'_>,
        evacuation: Evacuation,
        options: &HysteresisOptions,
        now: Timestamp,
    ) -> Option<PredictionState> {
        let before = self.state;
        let next = match reading {
            Reading::Unknown => self.unknown(),
            Reading::Known { instability, beside_peers, alarm, failure } => {
                self.count(instability, beside_peers, alarm, failure, options);
                self.known(evacuation, options, now)
            }
        };
        if next == before {
            return None;
        }
        self.state = next;
        self.since = now;
        Some(before)
    }

    fn unknown(&mut self) -> PredictionState {
        if self.state != PredictionState::Unknown {
            self.before_gap = self.state;
        }
        self.calm = 0;
        PredictionState::Unknown
    }

    fn count(
        &mut self,
        own: f64,
        beside: f64,
        alarm: bool,
        failure: &[FailureForecast],
        options: &HysteresisOptions,
    ) {
        let probability = |within: Span| {
            failure.iter().min_by_key(|f| (f.within.0 - within.0).abs()).map(|f| f.probability.get())
        };
        let stands_out = beside >= options.suspect_off;
        let over = options.thresholds.iter().any(|t| probability(t.within).is_some_and(|p| p >= t.on.get()));
        let under = options
            .thresholds
            .iter()
            .all(|t| probability(t.within).is_none_or(|p| p < t.off.get().min(t.on.get())));
        let suspect = alarm || (own >= options.suspect_on && beside >= options.suspect_on);
        let off = options.suspect_off.min(options.suspect_on);
        let calm = under && !alarm && (own < off || beside < off);
        self.suspect = self.suspect << 1 | u16::from(suspect || (over && stands_out));
        self.failing = self.failing << 1 | u16::from(over && stands_out);
        self.calm = if calm { self.calm.saturating_add(1) } else { 0 };
    }

    fn known(&self, evacuation: Evacuation, options: &HysteresisOptions, now: Timestamp) -> PredictionState {
        use PredictionState as P;
        let mask = u16::MAX >> (16 - options.n.clamp(1, 16));
        let k = options.k.clamp(1, options.n.clamp(1, 16));
        let suspect = (self.suspect & mask).count_ones() >= k;
        let failing = (self.failing & mask).count_ones() >= k;
        let calm = self.calm >= options.calm.max(1);
        match (self.state, evacuation) {
            (P::Evacuated, Evacuation::Running) => P::Evacuating,
            (P::Evacuated, _) if calm => P::Probation,
            (P::Evacuated, _) => P::Evacuated,
            (_, Evacuation::Running) => P::Evacuating,
            (P::Evacuating | P::PredictiveFailure | P::Suspect, Evacuation::Finished) => P::Evacuated,
            (P::Unknown, Evacuation::Finished) if self.before_gap == P::Evacuating => P::Evacuated,
            (P::Unknown, _) if self.before_gap == P::Evacuated => P::Evacuated,
            (P::Unknown | P::Healthy, _) if failing => P::PredictiveFailure,
            (P::Unknown, _) if suspect => P::Suspect,
            // After a gap nothing is healthy at once that was not before.
            (P::Unknown, _) if !matches!(self.before_gap, P::Unknown | P::Healthy) && !calm => P::Probation,
            (P::Unknown, _) => P::Healthy,
            (P::Healthy, _) if suspect => P::Suspect,
            (P::Healthy, _) => P::Healthy,
            (P::Suspect | P::Probation, _) if failing => P::PredictiveFailure,
            (P::Suspect, _) if calm => P::Healthy,
            (P::Suspect, _) => P::Suspect,
            (P::PredictiveFailure, _) if calm => P::Probation,
            (P::PredictiveFailure, _) => P::PredictiveFailure,
            // The evacuation was given up or undone: what the readings say holds again.
            (P::Evacuating, _) if failing => P::PredictiveFailure,
            (P::Evacuating, _) => P::Suspect,
            (P::Probation, _) if suspect => P::Suspect,
            (P::Probation, _) if now - self.since >= options.probation && self.calm > 0 => P::Healthy,
            (P::Probation, _) => P::Probation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::Calibration;
    use PredictionState as P;

    fn forecast(p: f64) -> Vec<FailureForecast> {
        [15i64, 60, 1440]
            .into_iter()
            .map(|m| FailureForecast {
                within: Span::minutes(m),
                probability: Probability::new(p).unwrap(),
                calibration: Calibration::Uncalibrated,
            })
            .collect()
    }

    struct Walk {
        machine: PredictionMachine,
        now: Timestamp,
        options: HysteresisOptions,
    }

    impl Walk {
        fn new() -> Self {
            Self {
                machine: PredictionMachine::new(Timestamp(0)),
                now: Timestamp(0),
                options: HysteresisOptions::default(),
            }
        }

        fn take(&mut self, own: f64, beside: f64, p: f64, evacuation: Evacuation) -> P {
            self.now += Span::seconds(30);
            let failure = forecast(p);
            self.read(own, beside, false, &failure, evacuation)
        }

        fn read(
            &mut self,
            own: f64,
            beside: f64,
            alarm: bool,
            failure: &[FailureForecast],
            evacuation: Evacuation,
        ) -> P {
            let reading = Reading::Known { instability: own, beside_peers: beside, alarm, failure };
            self.machine.step(reading, evacuation, &self.options, self.now);
            self.machine.state()
        }

        fn gap(&mut self) -> P {
            self.now += Span::seconds(30);
            self.machine.step(Reading::Unknown, Evacuation::None, &self.options, self.now);
            self.machine.state()
        }
    }

    #[test]
    fn a_failure_is_walked_from_healthy_to_healthy() {
        let mut walk = Walk::new();
        assert_eq!(walk.take(1.0, 1.0, 0.0, Evacuation::None), P::Healthy);
        walk.take(8.0, 8.0, 0.1, Evacuation::None);
        walk.take(8.0, 8.0, 0.1, Evacuation::None);
        assert_eq!(walk.take(8.0, 8.0, 0.1, Evacuation::None), P::Suspect);
        for _ in 0..2 {
            walk.take(20.0, 20.0, 0.9, Evacuation::None);
        }
        assert_eq!(walk.take(20.0, 20.0, 0.9, Evacuation::None), P::PredictiveFailure);
        assert_eq!(walk.take(20.0, 20.0, 0.9, Evacuation::Running), P::Evacuating);
        assert_eq!(walk.take(20.0, 20.0, 0.9, Evacuation::Finished), P::Evacuated);
        for _ in 0..6 {
            walk.take(1.0, 1.0, 0.0, Evacuation::None);
        }
        assert_eq!(walk.machine.state(), P::Probation);
        for _ in 0..30 {
            walk.take(1.0, 1.0, 0.0, Evacuation::None);
        }
        assert_eq!(walk.machine.state(), P::Healthy);
    }

    #[test]
    fn one_odd_reading_changes_nothing() {
        let mut walk = Walk::new();
        walk.take(1.0, 1.0, 0.0, Evacuation::None);
        for i in 0..40 {
            let p = if i % 4 == 0 { 0.99 } else { 0.0 };
            assert_eq!(walk.take(p * 20.0, p * 20.0, p, Evacuation::None), P::Healthy);
        }
    }

    #[test]
    fn an_alarm_of_metrics_together_is_watched_and_moves_nothing() {
        let mut walk = Walk::new();
        walk.take(1.0, 1.0, 0.0, Evacuation::None);
        let chances = forecast(0.01);
        for _ in 0..40 {
            walk.read(1.0, 1.0, true, &chances, Evacuation::None);
        }
        assert_eq!(walk.machine.state(), P::Suspect);
        for _ in 0..6 {
            walk.read(1.0, 1.0, false, &chances, Evacuation::None);
        }
        assert_eq!(walk.machine.state(), P::Healthy);
    }

    #[test]
    fn what_all_peers_do_is_the_load_and_not_the_partition() {
        let mut walk = Walk::new();
        walk.take(1.0, 1.0, 0.0, Evacuation::None);
        for _ in 0..20 {
            assert_eq!(walk.take(20.0, 1.0, 0.9, Evacuation::None), P::Healthy);
        }
    }

    #[test]
    fn between_the_thresholds_the_state_stays() {
        let mut walk = Walk::new();
        for _ in 0..4 {
            walk.take(20.0, 20.0, 0.9, Evacuation::None);
        }
        assert_eq!(walk.machine.state(), P::PredictiveFailure);
        for _ in 0..50 {
            assert_eq!(walk.take(5.0, 5.0, 0.4, Evacuation::None), P::PredictiveFailure);
        }
    }

    #[test]
    fn a_gap_is_unknown_at_once_and_heals_nothing() {
        let mut walk = Walk::new();
        for _ in 0..4 {
            walk.take(20.0, 20.0, 0.9, Evacuation::None);
        }
        assert_eq!(walk.gap(), P::Unknown);
        assert_eq!(walk.gap(), P::Unknown);
        assert_ne!(walk.take(1.0, 1.0, 0.0, Evacuation::None), P::Healthy);
    }

    #[test]
    fn an_abandoned_evacuation_leaves_the_partition_under_watch() {
        let mut walk = Walk::new();
        for _ in 0..4 {
            walk.take(20.0, 20.0, 0.9, Evacuation::None);
        }
        walk.take(20.0, 20.0, 0.9, Evacuation::Running);
        assert_eq!(walk.take(20.0, 20.0, 0.9, Evacuation::Abandoned), P::PredictiveFailure);
    }

    proptest::proptest! {
        #[test]
        fn unknown_readings_never_lead_to_any_state_but_unknown(
            steps in proptest::collection::vec((0.0..30.0f64, 0.0..1.0f64), 0..40),
        ) {
            let mut walk = Walk::new();
            for (z, p) in steps {
                walk.take(z, z, p, Evacuation::None);
                proptest::prop_assert_eq!(walk.gap(), P::Unknown);
            }
        }
    }
}
