//! What the loop needs to know beside its parts; the configuration maps onto it.

use crate::fleet::Span;
use crate::protocol::Mode;
use crate::telemetry::WindowsConfig;

/// How the engine runs.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Name of the installation.
    pub fleet_name: String,
    /// This engine's name, shown as the leader.
    pub name: String,
    /// The mode it starts in; `ReadOnly` can never be left.
    pub mode: Mode,
    /// Between the starts of two cycles.
    pub interval: Span,
    /// Data older than this says nothing.
    pub stale_after: Span,
    /// The windows in memory.
    pub windows: WindowsConfig,
    /// How much history warms the baselines.
    pub history: Span,
    /// Spacing of that history.
    pub history_step: Span,
    /// A host that was silent this long has lost its heartbeat.
    pub heartbeat_lost: Span,
    /// What a person rejected is not proposed again for this long.
    pub rejected_for: Span,
    /// A partition that has taken work over is not emptied on its own account for this long.
    pub settle: Span,
    /// Automatic mode thaws when a storm has been over for this long.
    pub storm_calm: Span,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            fleet_name: "fleet".into(),
            name: "single".into(),
            mode: Mode::Advise,
            interval: Span::seconds(15),
            stale_after: Span::minutes(2),
            windows: WindowsConfig::default(),
            history: Span::days(30),
            history_step: Span::minutes(5),
            heartbeat_lost: Span::seconds(95),
            rejected_for: Span::minutes(30),
            settle: Span::minutes(10),
            storm_calm: Span::minutes(10),
        }
    }
}
