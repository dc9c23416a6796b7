//! The command line: one file a subcommand.

pub mod agent;
pub mod bench;
pub mod check_model;
pub mod eval;
pub mod logging;
