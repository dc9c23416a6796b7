//! The immutable picture of everything that a console shows. The engine publishes one a cycle and
//! one for each change between cycles. Lists that can be long are behind `Arc`, so that a snapshot
//! that changes one migration shares the rest with the one before.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::moves::{MigrationView, ProposalView};
use crate::fleet::{
    ApplicationId, Bytes, Generation, HealthScore, HostId, PartitionId, PredictionState, Probability, RackId,
    ServingState, Share, ShownState, SiteId, Span, Timestamp, WorkloadId,
};

/// Whether the engine acts on its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Changes nothing, ever.
    ReadOnly,
    /// Proposals wait for a person.
    #[default]
    Advise,
    /// Acts within the limits of the configuration.
    Auto,
}

impl Mode {
    /// As the header shows it.
    pub fn word(self) -> &'static str {
        match self {
            Mode::ReadOnly => "READ-ONLY",
            Mode::Advise => "ADVISE",
            Mode::Auto => "AUTO",
        }
    }
}

/// Everything a console shows, as of one moment.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Grows with every snapshot of one engine.
    pub sequence: u64,
    /// The engine's time when it was made.
    pub at: Timestamp,
    /// Name of the installation: `prod-eu`, `demo`.
    pub fleet_name: String,
    /// Whether the engine acts on its own.
    pub mode: Mode,
    /// The leader's name; empty while there is none.
    pub leader: String,
    /// Everything is halted by an operator: who and since when.
    pub stopped: Option<(String, Timestamp)>,
    /// Automatic mode is frozen by the engine itself (storm brake), with the reason.
    pub frozen: Option<String>,
    /// State of the data.
    pub data: DataStatus,
    /// When the next cycle starts.
    pub next_cycle: Timestamp,
    /// How long the last cycle took, and parts of it, in milliseconds.
    pub cycle_ms: f64,
    /// Which models and which runtime speak.
    pub models: ModelStatus,
    /// Failure windows, shortest first, in the order of `PartitionView::failure`.
    pub windows: Vec<Span>,
    /// Hosts, sorted by site, rack, name.
    pub hosts: Arc<Vec<HostView>>,
    /// Partitions, sorted by name.
    pub partitions: Arc<Vec<PartitionView>>,
    /// Workloads, sorted by name.
    pub workloads: Arc<Vec<WorkloadView>>,
    /// Proposals that wait for a decision, most urgent first, then those decided of late.
    pub proposals: Arc<Vec<ProposalView>>,
    /// Migrations, running ones first, then the newest ended ones (at most 200).
    pub migrations: Arc<Vec<MigrationView>>,
    /// Open alerts, newest first.
    pub alerts: Arc<Vec<AlertView>>,
    /// Newest entries of the audit log, newest first (at most 200).
    pub audit: Arc<Vec<AuditView>>,
}

/// The state of the data.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct DataStatus {
    /// The source's name without secrets.
    pub source: String,
    /// Time of the newest sample; `None` = none yet.
    pub newest: Option<Timestamp>,
    /// Why the source cannot be read now, and when it is tried again; `None` = live.
    pub failing: Option<(String, Timestamp)>,
    /// Samples taken since the start.
    pub taken: u64,
    /// Samples dropped since the start, by reason.
    pub dropped: Vec<(String, u64)>,
    /// Why the last write-back failed, if it did.
    pub sink_failing: Option<String>,
}

/// Which models speak.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ModelStatus {
    /// `ONNX Runtime 1.31.1 (path)` or `built-in kernels`.
    pub runtime: String,
    /// One line a model: name, version, trained when on what, calibration.
    pub models: Vec<String>,
    /// Which version runs in shadow, how far it is from a verdict, and its figures; empty = none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadow: Vec<String>,
    /// How far what the models read lies outside what they were trained on; empty = nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<String>,
    /// The version that `Command::RevertModels` would go back to, in words; `None` = there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_back: Option<String>,
}

/// How sure something is, as four shares whose product it is, each 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sure {
    /// How much is known of its normal.
    pub known: f64,
    /// Share of the metrics that it usually has that have data now.
    pub there: f64,
    /// How the model that speaks is calibrated: on this fleet, on others, not at all.
    pub calibrated: f64,
    /// 1 less how far it lies outside of what that model was trained on.
    pub inside: f64,
}

/// What the confidence of a host is made of: that of its least sure partition, by the share of partitions that
/// anything is said of.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HostSure {
    /// The window that the score speaks of.
    pub within: Span,
    /// The least sure one.
    pub least: PartitionId,
    /// How sure that one is.
    pub parts: Sure,
    /// Of how many of its partitions anything is said.
    pub known: u32,
}

/// A host.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HostView {
    /// Its name.
    pub id: HostId,
    /// Where it stands.
    pub site: SiteId,
    /// Where it stands.
    pub rack: RackId,
    /// Failure Risk Score; `None` = unknown.
    pub risk: Option<Probability>,
    /// Confidence of it, 0 to 1.
    pub confidence: f64,
    /// What that is made of; `None` where nothing is known of it.
    #[serde(default)]
    pub sure: Option<HostSure>,
    /// Share of its capacity in use; `None` = unknown.
    pub load: Option<Share>,
    /// Its partitions, as indices into `Snapshot::partitions`.
    pub partitions: Vec<u32>,
}

/// A partition, as a row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PartitionView {
    /// Its name.
    pub id: PartitionId,
    /// Its host.
    pub host: HostId,
    /// The kind of system.
    pub class: String,
    /// What it does for its users.
    pub serving: ServingState,
    /// What the prediction says.
    pub prediction: PredictionState,
    /// The one word.
    pub shown: ShownState,
    /// In the present prediction state since; where it is forbidden to serve, forbidden since.
    pub since: Timestamp,
    /// Time of the newest sample; `None` = never.
    pub seen: Option<Timestamp>,
    /// `None` = unknown.
    pub health: Option<HealthScore>,
    /// Health over the last two hours, 24 values, oldest first; NaN = missing, written as null.
    #[serde(with = "nan_as_null")]
    pub trend: Vec<f32>,
    /// Probability of failure per window; empty = unknown.
    pub failure: Vec<Probability>,
    /// Whether the probabilities are calibrated, in a word: `calibrated`, `shipped model`,
    /// `uncalibrated`.
    pub calibration: String,
    /// The top reasons in a few words.
    pub because: String,
    /// Distance from its own baseline in robust standard deviations.
    pub instability: Option<f64>,
    /// How many workloads run there.
    pub workloads: u32,
    /// Data of these.
    pub data: Bytes,
}

/// A workload, as a row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorkloadView {
    /// Its name.
    pub id: WorkloadId,
    /// Its application.
    pub application: ApplicationId,
    /// Kind of work.
    pub kind: String,
    /// Class.
    pub class: String,
    /// Where it runs.
    pub partition: PartitionId,
    /// Copies elsewhere.
    pub replicas: Vec<PartitionId>,
    /// Data.
    pub size: Bytes,
    /// Health Projection Score; `None` = unknown.
    pub hps: Option<HealthScore>,
    /// 0–100.
    pub disruption: f64,
    /// How often ownership has changed.
    pub generation: Generation,
}

/// Why a score is what it is: metric, its part, words.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reason {
    /// Metric or feature, for people.
    pub what: String,
    /// Its part, in the score's own unit.
    pub amount: f64,
    /// In words.
    pub words: String,
}

/// One metric of one partition with history, normal range and forecast.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MetricDetail {
    /// Canonical name.
    pub metric: String,
    /// For people.
    pub label: String,
    /// Unit suffix.
    pub unit: String,
    /// Time of the first value.
    pub start: Timestamp,
    /// Width of a slot.
    pub step: Span,
    /// History, oldest first; NaN = missing, written as null.
    #[serde(with = "nan_as_null")]
    pub history: Vec<f32>,
    /// Its own normal range now.
    pub normal: Option<(f32, f32)>,
    /// Robust standard deviations from normal now.
    pub deviation: Option<f64>,
    /// The forecast, if one was made.
    pub forecast: Option<ForecastView>,
}

/// A forecast, to be drawn.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ForecastView {
    /// Time of the first step.
    pub start: Timestamp,
    /// Width of a step.
    pub step: Span,
    /// Median.
    pub median: Vec<f32>,
    /// 50 % interval.
    pub low50: Vec<f32>,
    /// 50 % interval.
    pub high50: Vec<f32>,
    /// 90 % interval.
    pub low90: Vec<f32>,
    /// 90 % interval.
    pub high90: Vec<f32>,
    /// The method with its order.
    pub method: String,
    /// The bound that is crossed, when, and between when and when.
    pub crossing: Option<(f32, Timestamp, Timestamp, Option<Timestamp>)>,
}

/// Everything about one partition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PartitionDetail {
    /// The partition.
    pub id: PartitionId,
    /// As of.
    pub at: Timestamp,
    /// Its metrics, most unusual first.
    pub metrics: Vec<MetricDetail>,
    /// What drove the health score; parts sum to 100 − health.
    pub why_health: Vec<Reason>,
    /// What drove the probability of the middle window, in points of percent.
    pub why_failure: Vec<Reason>,
    /// The base of it, in points.
    pub failure_base: f64,
    /// The same of the other windows, where a model gave their chances.
    #[serde(default)]
    pub why_others: Vec<WindowReasons>,
    /// How such predictions turned out: `of 41 calls between 60 and 80 %, 29 failed in time`.
    pub track_record: String,
    /// Which model spoke, trained when on what.
    pub model: String,
    /// How mature the model of this partition is, in words.
    pub maturity: String,
    /// 0 to 1.
    pub confidence: f64,
    /// What that is made of.
    #[serde(default)]
    pub sure: Option<Sure>,
    /// Its workloads.
    pub workloads: Vec<WorkloadId>,
    /// What happened to it of late: time and words, newest first.
    pub events: Vec<(Timestamp, String)>,
}

/// Why a partition's chance of one window is what it is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WindowReasons {
    /// Fails within this span.
    pub within: Span,
    /// The chance.
    pub probability: Probability,
    /// What is said where nothing is known, in points of percent.
    pub base: f64,
    /// Its parts, in points; with the base they sum to it.
    pub parts: Vec<Reason>,
}

/// How bad an alert is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For the record.
    Info,
    /// Look soon.
    Warning,
    /// Look now.
    Critical,
}

/// An open alert.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AlertView {
    /// Since.
    pub at: Timestamp,
    /// How bad.
    pub severity: Severity,
    /// What it is about: a partition, a migration, the engine.
    pub subject: String,
    /// In a sentence.
    pub text: String,
}

/// One entry of the audit log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AuditView {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What was asked.
    pub act: String,
    /// What came of it: done, refused why.
    pub outcome: String,
}

/// NaN means missing in memory; JSON has no NaN, so it is written as null.
mod nan_as_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &[f32], s: S) -> Result<S::Ok, S::Error> {
        let values: Vec<Option<f32>> = values.iter().map(|v| v.is_finite().then_some(*v)).collect();
        values.serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f32>, D::Error> {
        let values = Vec::<Option<f32>>::deserialize(d)?;
        Ok(values.into_iter().map(|v| v.unwrap_or(f32::NAN)).collect())
    }
}
