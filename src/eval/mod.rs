//! Public data sets, quality measures, and the protocols that hold predictions to them.

pub mod anomaly;
pub mod backtest;
pub mod datasets;
pub mod error;
pub mod failure;
pub mod forecast;
pub mod measures;
pub mod report;
