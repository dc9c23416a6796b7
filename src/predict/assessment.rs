//! What prediction says of one partition, workload and host. Everything has its time and how far it
//! may be trusted.

use serde::{Deserialize, Serialize};

use super::health;
use crate::fleet::{HealthScore, HostId, MetricName, PartitionId, Probability, Span, Timestamp, WorkloadId};

/// Which model spoke, by how much data it has seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maturity {
    /// Nothing learnt yet: only the shipped model speaks, and it is shown so.
    #[default]
    Untrained,
    /// The application's pooled model.
    Pooled,
    /// Own location and scale (after 4 hours).
    OwnScale,
    /// Own full model (after a day).
    Own,
}

/// How far a probability may be taken at its word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calibration {
    /// A monotone mapping of instability; no failure was there to learn from.
    #[default]
    Uncalibrated,
    /// Calibrated on other fleets (the shipped model).
    Shipped,
    /// Calibrated on held-back units of this fleet.
    Calibrated,
}

impl Calibration {
    /// What a probability so calibrated is worth of one that states what happened here: its part of
    /// [`Confidence`]. An order of trust, not a measurement: frequencies that were counted on this fleet, on other
    /// fleets, or none at all.
    pub fn trust(self) -> f64 {
        match self {
            Calibration::Calibrated => 1.0,
            Calibration::Shipped => 0.8,
            Calibration::Uncalibrated => 0.5,
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Calibration::Calibrated => "calibrated on this fleet",
            Calibration::Shipped => "calibrated on other fleets",
            Calibration::Uncalibrated => "not calibrated",
        }
    }
}

/// How far what is said of a partition may be relied on, as four shares whose product it is.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Confidence {
    /// How much is known of its normal ([`Maturity`]).
    pub known: f64,
    /// Share of the metrics that it usually has that have data now.
    pub there: f64,
    /// How the model that gave the middle window's probability is calibrated ([`Calibration::trust`]).
    pub calibrated: f64,
    /// 1 less how far it lies outside of what that model was trained on.
    pub inside: f64,
}

impl Confidence {
    /// 0 to 1.
    pub fn value(&self) -> f64 {
        self.known * self.there * self.calibrated * self.inside
    }
}

/// One part of why a score is what it is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Contribution {
    /// The metric or feature, canonical.
    pub metric: MetricName,
    /// Its part of the score, in the score's own unit; the parts sum to the score less its base.
    pub amount: f64,
    /// In words: `disk write latency 48 ms, own normal 6–9 ms`.
    pub words: String,
}

/// A forecast of one metric on an even grid.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Forecast {
    /// The metric.
    pub metric: MetricName,
    /// Time of the first step.
    pub start: Timestamp,
    /// Width of a step.
    pub step: Span,
    /// Median, one value a step, in the metric's unit.
    pub median: Vec<f32>,
    /// 50 % interval: low and high.
    pub band50: (Vec<f32>, Vec<f32>),
    /// 90 % interval: low and high.
    pub band90: (Vec<f32>, Vec<f32>),
    /// The method that was chosen by backtest, with its order: `ARIMA(2,1,1)`.
    pub method: String,
    /// When the metric's bound is crossed, if it is within sight.
    pub crossing: Option<Crossing>,
}

/// When a forecast crosses a bound.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Crossing {
    /// The bound, in the metric's unit.
    pub bound: f32,
    /// When the median crosses it.
    pub at: Timestamp,
    /// The earliest and latest of the 90 % interval; the latest may be beyond the forecast's end.
    pub between: (Timestamp, Option<Timestamp>),
}

/// The probability of failure within a window.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct FailureForecast {
    /// Within this span from the assessment's time.
    pub within: Span,
    /// The probability.
    pub probability: Probability,
    /// How far it may be taken at its word.
    pub calibration: Calibration,
}

/// What the anomaly detector says of the metrics of a partition together: the detector that `foreshift eval
/// anomaly` measures, row for row.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Anomaly {
    /// 0 = an ordinary row, 1 = as unusual as one training row in a thousand.
    pub score: f64,
    /// What of it is news, in units of the level of alarms.
    pub strength: f64,
    /// An alarm stands.
    pub alarmed: bool,
    /// The level rests on days of its own history, not on its last two hours.
    pub by_days: bool,
    /// An alarm has stood for four rows, and does not for most of its peers.
    pub stands_out: bool,
}

impl Anomaly {
    /// Whether it makes the partition suspect: an alarm that stands out, by a level that knows days.
    pub fn is_suspect(&self) -> bool {
        self.alarmed && self.by_days && self.stands_out
    }
}

/// All that is said of one partition at one time. Expired after its time to live, it must not be
/// acted on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Assessment {
    /// The partition.
    pub partition: PartitionId,
    /// The time of the newest sample it rests on.
    pub at: Timestamp,
    /// Not to be acted on after this.
    pub expires: Timestamp,
    /// `None` where the data is missing or too old: unknown, never healthy.
    pub health: Option<HealthScore>,
    /// Distance of its single metrics from their own baseline in robust standard deviations.
    pub instability: Option<f64>,
    /// What the anomaly detector says of its metrics together; `None` where it has no model yet.
    #[serde(default)]
    pub anomaly: Option<Anomaly>,
    /// Probability per window, shortest window first; empty where unknown.
    pub failure: Vec<FailureForecast>,
    /// What drove the health score, greatest first; parts sum to `100 − health`.
    pub why_health: Vec<Contribution>,
    /// What drove the probability of the middle window, greatest first, in points of percent; parts
    /// and the base sum to the probability.
    pub why_failure: Vec<Contribution>,
    /// The base of `why_failure`: what is said of a partition with nothing unusual, in points.
    pub failure_base: f64,
    /// The window of the model's head that gave the probability of the middle window: its own, or a shorter one that
    /// says more. `None` where no model gave it: the mapping of instability stands.
    #[serde(default)]
    pub given_by: Option<Span>,
    /// Which model spoke.
    pub maturity: Maturity,
    /// How far what is said may be relied on.
    pub confidence: Confidence,
}

impl Assessment {
    /// The probability for the window closest to `within`.
    pub fn failure_within(&self, within: Span) -> Option<Probability> {
        self.failure.iter().min_by_key(|f| (f.within.0 - within.0).abs()).map(|f| f.probability)
    }

    /// Takes the points of a finding that no single metric carries (its log-odds) off the health score,
    /// and puts the reason at its place. Nothing where the health is unknown.
    pub(super) fn take_off(&mut self, finding: &str, odds: f64, words: String) {
        let Some(health) = self.health else { return };
        let left = (health.get() - health::shared_points(odds)).max(0.0);
        let amount = health.get() - left;
        self.health = HealthScore::clamped(left);
        let at = self.why_health.partition_point(|c| c.amount >= amount);
        self.why_health.insert(at, Contribution { metric: MetricName::from(finding), amount, words });
    }
}

/// Health Projection Score of one workload.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorkloadProjection {
    /// The workload.
    pub workload: WorkloadId,
    /// 0–100, looking ahead; `None` = unknown.
    pub hps: Option<HealthScore>,
    /// What drove it.
    pub why: Vec<Contribution>,
}

/// Failure Risk Score of one host.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HostRisk {
    /// The host.
    pub host: HostId,
    /// Probability that any of its partitions fails within the planning window; `None` = unknown.
    pub risk: Option<Probability>,
    /// That window.
    pub within: Span,
    /// 0 to 1.
    pub confidence: f64,
    /// The least sure of its partitions that anything is said of, and how sure that is.
    pub least: Option<(PartitionId, Confidence)>,
    /// Of how many of its partitions anything is said, and how many there are.
    pub known: (u32, u32),
}
