//! Samples → scores, forecasts, probabilities. Pure: no clock, no network, no lock; model files are
//! read here alone.

pub mod assessment;

pub use assessment::{
    Assessment, Calibration, Contribution, Crossing, FailureForecast, Forecast, HostRisk, Maturity,
    WorkloadProjection,
};
