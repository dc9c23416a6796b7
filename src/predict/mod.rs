//! Samples → scores, forecasts, probabilities. Pure: no clock, no network, no lock; model files are
//! read here alone.

pub mod anomaly;
pub mod assess;
pub mod assessment;
pub mod baseline;
pub mod breach;
pub mod calibrate;
mod chances;
pub mod cholesky;
mod column;
pub mod combined;
pub mod context;
mod detail;
mod deviation;
pub mod drift;
pub mod failure;
pub mod forecast;
pub mod gap;
pub mod health;
pub mod hysteresis;
pub mod keep;
mod learning;
mod level;
mod missing;
pub mod models;
pub mod options;
mod others;
mod own;
mod past;
mod peers;
pub mod project;
mod reach;
pub mod rebuilt;
mod recall;
mod resume;
mod scene;
mod schedule;
pub mod season;
pub mod shadow;
pub mod shape;
mod speaker;
pub mod train;
pub mod watch;

pub use assess::Assessor;
pub use assessment::{
    Anomaly, Assessment, Calibration, Confidence, Contribution, Crossing, FailureForecast, Forecast,
    HostRisk, Maturity, WorkloadProjection,
};
pub use context::{Context, Outcome, PastFailure, Subject};
pub use detail::{MetricInsight, PartitionInsight};
pub use gap::Gap;
pub use hysteresis::{Evacuation, HysteresisOptions, PredictionMachine, Reading, WindowThreshold};
pub use options::{AssessOptions, ForecastOptions, MetricWeight};
pub use others::WindowWhy;
pub use watch::Taught;

#[cfg(test)]
mod assess_tests;
#[cfg(test)]
mod combined_tests;
#[cfg(test)]
mod lacking_tests;
#[cfg(test)]
mod missing_tests;
#[cfg(test)]
mod odd_input_tests;
#[cfg(test)]
pub(crate) mod test_fleet;
