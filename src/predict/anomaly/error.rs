//! What can go wrong when an anomaly model is fitted.

/// Why an anomaly model could not be fitted. All are permanent for the data given: more or other rows are
/// needed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnomalyError {
    /// No metric at all.
    #[error("no metric to learn from: give at least one column (permanent)")]
    NoMetric,
    /// Columns of different lengths.
    #[error(
        "metric {metric} has {found} rows where the first has {expected}: columns must be one grid (permanent)"
    )]
    Ragged {
        /// Index of the metric.
        metric: usize,
        /// Its rows.
        found: usize,
        /// Rows of the first metric.
        expected: usize,
    },
    /// Too few rows with any value.
    #[error(
        "{found} rows with values where {needed} are needed: use the application's pooled model until then (retryable later)"
    )]
    TooShort {
        /// Rows with at least one finite value.
        found: usize,
        /// Rows needed.
        needed: usize,
    },
    /// A pooled model or a row with another number of metrics.
    #[error("{found} metrics where the model has {expected} (permanent)")]
    Shape {
        /// Metrics given.
        found: usize,
        /// Metrics of the model.
        expected: usize,
    },
}
