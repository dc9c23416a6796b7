//! Samples → scores, forecasts, probabilities. Pure: no clock, no network, no lock; model files are
//! read here alone.

pub mod anomaly;
pub mod assessment;
pub mod calibrate;
pub mod cholesky;
pub mod failure;
pub mod models;

pub use assessment::{
    Assessment, Calibration, Contribution, Crossing, FailureForecast, Forecast, HostRisk, Maturity,
    WorkloadProjection,
};
