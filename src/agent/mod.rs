//! The collector that runs on every host: it collects every few seconds, keeps on disk what nobody
//! has taken yet, and sends it to engines as JSON or to an InfluxDB as line protocol. Its message is
//! the heartbeat.

pub mod collect;
pub mod error;
pub mod run;
pub mod spool;
pub mod stream;

pub use collect::{Collectors, Roots};
pub use error::AgentError;
pub use run::{Summary, run};
