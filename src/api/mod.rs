//! The REST server: snapshots and events out, commands and agents' messages in, metrics for
//! Prometheus. It knows the engine by `protocol` alone.

pub mod auth;
pub mod metrics;
pub mod routes;
pub mod server;

pub use auth::{Access, Token};
pub use server::{ApiError, ApiServer};
