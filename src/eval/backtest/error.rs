//! Why a backtest could not be made.

use crate::fleet::{Span, Timestamp};
use crate::state::StoreError;
use crate::telemetry::SourceError;

/// Why a backtest could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// The source cannot be read; trying again may help where the source says so.
    #[error("history cannot be read: {0}")]
    Source(#[from] SourceError),
    /// The replay's own state, which is in memory, failed.
    #[error("the replay's own state failed: {0} (permanent)")]
    Store(#[from] StoreError),
    /// There is not one sample in the span.
    #[error(
        "{source_name} holds no sample between {from} and {to}: choose a span that it holds with --from and \
         --to (`foreshift check` says how long it keeps data and how old the newest sample is) (permanent)"
    )]
    NoData {
        /// The source.
        source_name: String,
        /// From.
        from: String,
        /// To.
        to: String,
    },
    /// The span is empty or shorter than two cycles.
    #[error(
        "the span from {from} to {to} is shorter than two cycles of {cycle}: --from has to lie before --to"
    )]
    Empty {
        /// From.
        from: String,
        /// To.
        to: String,
        /// The engine's interval.
        cycle: Span,
    },
}

/// A point in time as people read it.
pub fn written(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis()).map_or_else(|_| format!("{} ms", at.0), |t| t.to_string())
}
