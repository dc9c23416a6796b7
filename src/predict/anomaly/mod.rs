//! Anomaly detection: how far a partition is from its own normal behaviour, row by row, and which metrics
//! carry it.
//!
//! Four linear voters look at the same standardised row: `distance` (mean squared z-score, what PyOD's PCA
//! amounts to), `mahalanobis` (is this combination of metrics normal), `residual` (does the next row follow
//! from the last ones) and `tail` (how many metrics stand in the tail of their own range). Each is brought
//! to one scale by its own training scores and the mean is the score: 0 = an ordinary row, 1 = the row at
//! the 99th percentile of training. [`AnomalyModel::fit`] learns it, [`AnomalyModel::score_row`] streams it
//! with a state of a few hundred bytes a partition, [`AnomalyModel::score_columns`] scores history in
//! blocks. [`univariate`] is for a single series with nothing to train on.

mod block;
pub mod error;
pub mod hysteresis;
pub mod model;
pub mod moments;
pub mod scaler;
pub mod tail;
pub mod univariate;

#[cfg(test)]
mod tests;

pub use error::AnomalyError;
pub use hysteresis::Hysteresis;
pub use model::{AnomalyModel, AnomalyState, FitOptions, RowScore, Scores, Voter};
pub use moments::Moments;
pub use scaler::Scaler;
