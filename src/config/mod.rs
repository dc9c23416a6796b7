//! Typed configuration: one TOML file. [`Config::load`] reads it, refuses what it does not know
//! with file, line, column and the nearest known key, and checks the rules that hold between keys.
//! Everything has a default, so that an empty file is a configuration.

pub mod check;
pub mod error;
pub mod load;
pub mod place;
pub mod quantity;
pub mod schema;
pub mod secrets;
pub mod shape;
#[cfg(test)]
mod wrong;

pub use error::{ConfigError, Problem};
pub use schema::*;
pub use secrets::{Revealed, Secret, SecretError};
