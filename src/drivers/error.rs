//! Why a driver failed, and what that means for the next try.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a failure means for the next try.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// It was certainly not done, and trying again can help.
    Retryable,
    /// It was certainly not done, and trying again cannot help.
    Permanent,
    /// Nobody knows whether it was done: probe before anything else.
    Unknown,
}

/// A failed call of a driver.
#[derive(Clone, PartialEq, Debug, Error, Serialize, Deserialize)]
#[error("{system}: {doing}: {detail}")]
pub struct DriverError {
    /// The system and its address, without secrets: `redis 127.0.0.3:7003`.
    pub system: String,
    /// What was being done: `CLUSTER FAILOVER on 127.0.0.3:7003`.
    pub doing: String,
    /// What it said, and what a person should do next.
    pub detail: String,
    /// What it means for the next try.
    pub retry: Retry,
}

impl DriverError {
    /// An error of that meaning.
    pub fn new(
        retry: Retry,
        system: impl Into<String>,
        doing: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self { system: system.into(), doing: doing.into(), detail: detail.into(), retry }
    }
}
