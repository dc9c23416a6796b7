//! The keys of the configuration file, typed: one struct a section, one file a group of sections.
//! Every field's comment is what `config.example.toml` tells its reader, too.

mod decide;
mod drivers;
mod house;
mod observe;
mod show;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use decide::{
    AfterMove, AntiAffinity, CanarySetting, Confirm, Limits, MaintenanceWindow, Migration, MovesLimit, Plan,
    PreferredUnavailable, Storm, Threshold, Timeouts, Weekday,
};
pub use drivers::{Driver, DriverClass, Instances, PgBouncer, ServiceProfile, Tenant};
pub use house::{Engine, Fleet, HostPlace, ModeSetting, WorkloadProfile};
pub use observe::{
    Agent, AgentLog, AgentSink, BackgroundTraining, Endpoint, Mapping, Predict, ProcessMatch, RuntimeSetting,
    Shadow, Telemetry, TelemetrySource, WriteBack,
};
pub use show::{Alerts, Console, Glyphs, Keys, Severity, Webhook};

/// The whole configuration. An empty file is the default: the embedded store, advise mode.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The installation: its name, where hosts stand, what addresses belong to which host.
    pub fleet: Fleet,
    /// Where time series come from and where scores are written back.
    pub telemetry: Telemetry,
    /// The running loop: how often, where it listens, what it keeps on disk, what it may do.
    pub engine: Engine,
    /// What is predicted, with which models.
    pub predict: Predict,
    /// When a prediction becomes a proposal, and what a proposal may contain.
    pub plan: Plan,
    /// What may happen at once, per hour, and when.
    pub limits: Limits,
    /// How a migration is carried out.
    pub migration: Migration,
    /// The systems that hold workloads or send traffic, by a name of your choice.
    pub drivers: BTreeMap<String, Driver>,
    /// Who is told.
    pub alerts: Alerts,
    /// The terminal console.
    pub console: Console,
    /// The collector on every host (`foreshift agent`).
    pub agent: Agent,
}
