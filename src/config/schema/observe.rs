//! Sections `telemetry`, `predict` and `agent`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Secret, quantity};
use crate::fleet::{Bytes, HostId, Span};

/// Where time series come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TelemetrySource {
    /// InfluxDB 2.x, read with Flux.
    Influxdb2,
    /// InfluxDB 1.x (or 3.x), read with InfluxQL.
    Influxdb1,
    /// The engine's own store on disk; agents write to the engine.
    #[default]
    Embedded,
    /// Recorded files.
    Replay,
}

/// Section `[telemetry]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// `embedded`, `influxdb2`, `influxdb1` or `replay`.
    pub source: TelemetrySource,
    /// Address of the server, without credentials.
    pub url: String,
    /// Organisation (`influxdb2`).
    pub org: String,
    /// Bucket that Telegraf or our agent writes to (`influxdb2`).
    pub bucket: String,
    /// Database that Telegraf or our agent writes to (`influxdb1`).
    pub database: String,
    /// Retention policy (`influxdb1`); empty = the database's default.
    pub retention_policy: String,
    /// User (`influxdb1`); empty = none.
    pub username: String,
    /// The user's password (`influxdb1`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Token (`influxdb2`); for write-back it must be allowed to write, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// How long one answer may take.
    #[serde(with = "quantity::span")]
    pub timeout: Span,
    /// Width of a slot on the time grid.
    #[serde(with = "quantity::span")]
    pub step: Span,
    /// How much history is read at the start and used for baselines; 30 days or more is good.
    #[serde(with = "quantity::span")]
    pub history: Span,
    /// Tag that names the host.
    pub host_tag: String,
    /// Tag that names the partition on its host; empty = a host is one partition.
    pub partition_tag: String,
    /// Recorded files (`replay`), as line protocol or CSV.
    pub files: Vec<PathBuf>,
    /// Names of your own for canonical metrics; Telegraf's and our agent's need none.
    pub mapping: Vec<Mapping>,
    /// Writing scores and forecasts back.
    pub write_back: WriteBack,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            source: TelemetrySource::Embedded,
            url: "http://127.0.0.1:8086".to_string(),
            org: String::new(),
            bucket: "telegraf".to_string(),
            database: "telegraf".to_string(),
            retention_policy: String::new(),
            username: String::new(),
            password: None,
            token: None,
            timeout: Span::seconds(10),
            step: Span::seconds(30),
            history: Span::days(30),
            host_tag: "host".to_string(),
            partition_tag: String::new(),
            files: Vec::new(),
            mapping: Vec::new(),
            write_back: WriteBack::default(),
        }
    }
}

/// One field of the time-series database and the metric it is: `[[telemetry.mapping]]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The measurement.
    pub measurement: String,
    /// The field.
    pub field: String,
    /// Only where these tags have these values.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The canonical metric (`disk.write_latency`), or a name of your own.
    pub metric: String,
    /// The value is multiplied by this.
    #[serde(default = "one")]
    pub scale: f64,
}

fn one() -> f64 {
    1.0
}

/// Section `[telemetry.write_back]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteBack {
    /// Whether scores, forecasts and migrations are written back.
    pub enabled: bool,
    /// The bucket (or database) of its own that takes them.
    pub bucket: String,
}

impl Default for WriteBack {
    fn default() -> Self {
        Self { enabled: false, bucket: "foreshift".to_string() }
    }
}

/// What runs the model files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeSetting {
    /// ONNX Runtime where it is found, the built-in kernels where not.
    #[default]
    Auto,
    /// ONNX Runtime, or an error.
    Onnxruntime,
    /// The built-in kernels.
    Builtin,
}

/// Section `[predict]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Predict {
    /// Windows that a probability of failure is given for, shortest first.
    #[serde(with = "quantity::spans")]
    pub windows: Vec<Span>,
    /// Models of your own; without it the shipped ones are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_dir: Option<PathBuf>,
    /// `auto`, `onnxruntime` or `builtin`.
    pub runtime: RuntimeSetting,
    /// Path of the ONNX Runtime library; without it the usual places are searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnxruntime: Option<PathBuf>,
    /// How much a metric counts in the health score, 1 = as usual, 0 = not at all.
    pub weights: BTreeMap<String, f64>,
    /// How much of its past a partition's anomaly detector is fitted from, where `training.detectors` is on.
    #[serde(with = "quantity::span")]
    pub learning_period: Span,
    /// How often it is fitted anew.
    #[serde(with = "quantity::span")]
    pub relearn_every: Span,
    /// A prediction is not acted on when it is older than this.
    #[serde(with = "quantity::span")]
    pub expires_after: Span,
    /// A new model beside the one that speaks.
    pub shadow: Shadow,
    /// Training in the background.
    pub training: BackgroundTraining,
}

/// Section `[predict.shadow]`: a new model says what it would say beside the one that speaks, until the
/// truth of both is known.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shadow {
    /// How often each partition is noted, with what both models say of it.
    #[serde(with = "quantity::span")]
    pub every: Span,
    /// The new one speaks only after so many failures (a host and day count once) …
    pub least_failures: usize,
    /// … and when chance would show such evidence at most once in so many models.
    pub certainty: f64,
    /// It is retired where it was not better within this time.
    #[serde(with = "quantity::span")]
    pub at_most: Span,
    /// After a promotion, the model goes back by itself where it would do so wrongly at most about once
    /// in this time.
    #[serde(with = "quantity::span")]
    pub false_revert_every: Span,
}

impl Default for Shadow {
    fn default() -> Self {
        Self {
            every: Span::minutes(5),
            least_failures: 10,
            certainty: 20.0,
            at_most: Span::days(30),
            false_revert_every: Span::days(365),
        }
    }
}

/// Section `[predict.training]`: the engine trains by itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackgroundTraining {
    /// Whether it does; what comes of it runs in shadow.
    pub enabled: bool,
    /// How often.
    #[serde(with = "quantity::span")]
    pub every: Span,
    /// On how much of the past.
    #[serde(with = "quantity::span")]
    pub from: Span,
    /// Not before so many failures are recorded.
    pub least_failures: usize,
    /// Each partition's anomaly detector is fitted every so often from up to two weeks of its history, also
    /// where nothing else is trained; else from its last two hours. From the same history an LSTM for the
    /// forecasts of each application is trained.
    pub detectors: bool,
}

impl Default for BackgroundTraining {
    fn default() -> Self {
        Self {
            enabled: false,
            every: Span::days(1),
            from: Span::days(30),
            least_failures: 20,
            detectors: true,
        }
    }
}

impl Default for Predict {
    fn default() -> Self {
        Self {
            windows: vec![Span::minutes(15), Span::hours(1), Span::hours(24)],
            model_dir: None,
            runtime: RuntimeSetting::Auto,
            onnxruntime: None,
            weights: BTreeMap::new(),
            learning_period: Span::days(14),
            relearn_every: Span::days(1),
            expires_after: Span::minutes(2),
            shadow: Shadow::default(),
            training: BackgroundTraining::default(),
        }
    }
}

/// Where the agent sends what it collects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentSink {
    /// To engines, as JSON.
    #[default]
    Engine,
    /// To the InfluxDB of `[telemetry]`, as line protocol.
    Influxdb,
}

/// Section `[agent]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// `engine` (JSON) or `influxdb` (line protocol to the server of `[telemetry]`).
    pub send_to: AgentSink,
    /// Addresses of the engines; with several, each is sent everything.
    pub engines: Vec<String>,
    /// Token that the engine asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// This host's name; empty = the system's.
    pub host: HostId,
    /// Labels that are sent along: `site`, `rack`, others.
    pub labels: BTreeMap<String, String>,
    /// How often it collects.
    #[serde(with = "quantity::span")]
    pub collect_every: Span,
    /// How often it sends.
    #[serde(with = "quantity::span")]
    pub send_every: Span,
    /// Addresses (`host:port`) that network latency and loss are measured to.
    pub peers: Vec<String>,
    /// Logs whose errors are counted.
    pub logs: Vec<AgentLog>,
    /// Pages in Prometheus' format that application metrics are read from.
    pub endpoints: Vec<Endpoint>,
    /// Address that application metrics are taken at in StatsD's format (UDP); empty = none.
    pub statsd: String,
    /// The partitions on this host and how their processes are found: `[agent.partitions.p1]`;
    /// none = the host is one partition.
    pub partitions: BTreeMap<String, ProcessMatch>,
    /// Program and arguments that are run before the host is emptied.
    pub unload_hook: Vec<String>,
    /// Where readings wait while nobody takes them.
    pub spool_dir: PathBuf,
    /// How much of them is kept; the oldest are dropped beyond it, and counted.
    #[serde(with = "quantity::bytes")]
    pub spool_size: Bytes,
    /// How old they may become.
    #[serde(with = "quantity::span")]
    pub spool_age: Span,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            send_to: AgentSink::Engine,
            engines: vec!["http://127.0.0.1:7117".to_string()],
            token: None,
            host: HostId::from(""),
            labels: BTreeMap::new(),
            collect_every: Span::seconds(5),
            send_every: Span::seconds(30),
            peers: Vec::new(),
            logs: Vec::new(),
            endpoints: Vec::new(),
            statsd: String::new(),
            partitions: BTreeMap::new(),
            unload_hook: Vec::new(),
            spool_dir: PathBuf::from("foreshift-spool"),
            spool_size: Bytes(500_000_000),
            spool_age: Span::hours(24),
        }
    }
}

/// A log whose errors are counted: `[[agent.logs]]`. Either a file or a unit of the journal.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentLog {
    /// A file that is followed over rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// A unit of the systemd journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// A line counts as an error where it contains one of these words; none = the usual ones.
    pub words: Vec<String>,
    /// The partition it belongs to; empty = the host.
    pub partition: String,
}

/// A page in Prometheus' format: `[[agent.endpoints]]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its address.
    pub url: String,
    /// The partition it belongs to; empty = the host.
    #[serde(default)]
    pub partition: String,
    /// Which of its names is which metric: `app_queue_length = "queue.depth"`. Others are kept
    /// under their own names.
    #[serde(default)]
    pub metrics: BTreeMap<String, String>,
}

/// How a partition's process is found: `[agent.partitions.NAME]`. Exactly one of the three.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessMatch {
    /// By the file that holds its process id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<PathBuf>,
    /// By its systemd unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// By a part of its command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}
