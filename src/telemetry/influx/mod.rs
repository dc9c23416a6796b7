//! InfluxDB as a source and as a sink: 2.x through Flux, 1.x and 3.x through InfluxQL, both behind
//! the same ports. The whole fleet comes in one query a measurement, windowed on the server,
//! incremental since a watermark.

mod csv;
mod few;
mod flux;
mod gather;
mod influxql;
mod line;
mod mapping;
mod source;
mod transport;
mod write;

pub use gather::Tags;
pub use line::to_lines;
pub use mapping::{AGENT_MEASUREMENT, Combine, Derive, FieldRule, Rule, standard};
pub use source::InfluxSource;
pub use transport::{Credentials, Secret, Timeouts};
pub use write::{InfluxSink, LinesRefused};

use crate::fleet::Span;

/// Which InfluxDB, and where in it.
#[derive(Clone, PartialEq, Debug)]
pub enum Place {
    /// InfluxDB 2.x: Flux.
    Bucket {
        /// The organisation's name.
        org: String,
        /// The bucket's name.
        bucket: String,
    },
    /// InfluxDB 1.x or 3.x: InfluxQL.
    Database {
        /// The database's name.
        database: String,
        /// The retention policy; empty = the default one.
        retention_policy: String,
    },
}

impl Place {
    /// The bucket's or database's name.
    pub fn name(&self) -> &str {
        match self {
            Place::Bucket { bucket, .. } => bucket,
            Place::Database { database, .. } => database,
        }
    }
}

/// How to reach an InfluxDB.
#[derive(Clone, PartialEq, Debug)]
pub struct InfluxOptions {
    /// `http://HOST:PORT`, with a path where a proxy needs one.
    pub url: String,
    /// Which and where.
    pub place: Place,
    /// Who we are.
    pub credentials: Credentials,
    /// How long is waited.
    pub timeouts: Timeouts,
}

/// How an InfluxDB is read.
#[derive(Clone, PartialEq, Debug)]
pub struct ReadOptions {
    /// Width of the steps that the server averages over; only whole steps are read.
    pub every: Span,
    /// How far before the watermark is read again for what agents wrote late; what was seen already
    /// is not given on twice.
    pub overlap: Span,
    /// Which tags say what.
    pub tags: Tags,
    /// The user's rules; they stand over the standard ones, field by field and metric by metric.
    pub rules: Vec<Rule>,
}

impl Default for ReadOptions {
    /// Steps of ten seconds, an overlap of a minute, standard tags and rules.
    fn default() -> Self {
        Self { every: Span::seconds(10), overlap: Span::minutes(1), tags: Tags::default(), rules: Vec::new() }
    }
}
