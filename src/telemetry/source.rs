//! The ports to time series: a [`Source`] is read, a [`Sink`] is written.
//!
//! A pull covers the whole fleet at once and pushes readings into an [`Ingest`], which interns the
//! names. A source is asked again with the watermark that its last pull reported, so a gap is
//! filled when a server returns.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::fleet::{HostId, PartitionId, Span, Timestamp};

/// What takes the readings of a pull. `series` interns a name once; `push` is the hot path.
pub trait Ingest: Send {
    /// The dense number of one series; the same names give the same number. `metric` is a
    /// canonical name (see `telemetry::schema`); an adapter maps its own names before it asks.
    fn series(&mut self, partition: &PartitionId, metric: &str) -> u32;

    /// One sample of the series. NaN means missing and is counted, not stored.
    fn push(&mut self, series: u32, at: Timestamp, value: f32);

    /// What a source learnt about a host from its tags: key and value, for example
    /// `rack`, `r3`.
    fn label(&mut self, host: &HostId, key: &str, value: &str);
}

/// A port to time series.
#[async_trait]
pub trait Source: Send + Sync {
    /// A short name for the header and the log, without secrets: `influx 127.0.0.1:8086/telegraf`.
    fn name(&self) -> String;

    /// Reads everything in `[since, until)` for the whole fleet.
    ///
    /// # Errors
    /// Says whether trying again can help; whatever was already pushed stays valid, because
    /// readings are idempotent.
    async fn pull(
        &self,
        since: Timestamp,
        until: Timestamp,
        into: &mut dyn Ingest,
    ) -> Result<PullReport, SourceError>;

    /// Reads everything in `[since, until)` of some partitions alone, beside the pulls: they give what they
    /// would have given. `None` where only the whole fleet can be read.
    ///
    /// # Errors
    /// As `pull`.
    async fn pull_of(
        &self,
        _partitions: &[PartitionId],
        _since: Timestamp,
        _until: Timestamp,
        _into: &mut dyn Ingest,
    ) -> Result<Option<PullReport>, SourceError> {
        Ok(None)
    }

    /// Tries the connection and says what was found, in a sentence for `foreshift check`.
    ///
    /// # Errors
    /// As `pull`.
    async fn check(&self) -> Result<String, SourceError>;
}

/// What one pull did.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PullReport {
    /// Samples pushed.
    pub points: u64,
    /// Samples or rows that could not be understood, counted.
    pub rejected: u64,
    /// Samples that the source had taken and lost since the last pull, counted.
    pub lost: u64,
    /// Bytes of the answers.
    pub bytes: u64,
    /// The newest sample's time; `None` where there was none.
    pub newest: Option<Timestamp>,
}

/// Why a pull failed.
#[derive(Clone, Debug, Error)]
pub enum SourceError {
    /// The server did not answer in time or cannot be reached; try again.
    #[error("{source_name} does not answer: {detail}")]
    Unreachable {
        /// The source.
        source_name: String,
        /// What the network said.
        detail: String,
    },
    /// The store of this very engine does not work; it is opened again by itself.
    #[error("{detail}")]
    Broken {
        /// What the store said.
        detail: String,
    },
    /// The server refused the credentials.
    #[error("{source_name} refused the credentials ({detail}); check the token in the configuration")]
    Unauthorised {
        /// The source.
        source_name: String,
        /// What the server said.
        detail: String,
    },
    /// The server says the request is wrong: a missing bucket, a query it does not take.
    #[error("{source_name} refused the query: {detail}")]
    Refused {
        /// The source.
        source_name: String,
        /// What the server said.
        detail: String,
    },
    /// The answer could not be understood.
    #[error("{source_name} answered nonsense at {place}: {detail}")]
    Nonsense {
        /// The source.
        source_name: String,
        /// Row and column, or byte offset.
        place: String,
        /// Expected and got.
        detail: String,
    },
}

impl SourceError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Broken { .. } | Self::Nonsense { .. })
    }
}

/// What does not work where pulls fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failing {
    /// A server, or the way to it.
    Server,
    /// The store of this very engine: what is sent to it is not kept either.
    OwnStore,
}

/// The state of a source as the header shows it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum SourceStatus {
    /// The last pull succeeded.
    Live,
    /// Nothing was pulled yet.
    Starting,
    /// The last pulls failed; tried again at `retry_at`.
    Failing {
        /// What does not work.
        what: Failing,
        /// The error in words.
        reason: String,
        /// Since when.
        since: Timestamp,
        /// When it is tried again.
        retry_at: Timestamp,
    },
}

/// One value to be written, in canonical names.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reading {
    /// When it was so.
    pub at: Timestamp,
    /// The measurement it belongs to, for example `foreshift_score`.
    pub measurement: String,
    /// Tags: key and value, in a fixed order.
    pub tags: Vec<(String, String)>,
    /// Fields: key and value; a value that is not finite is left out by the writer.
    pub fields: Vec<(String, f64)>,
}

/// A port that takes what the engine has to say: scores, forecasts, states of migrations.
#[async_trait]
pub trait Sink: Send + Sync {
    /// A short name without secrets.
    fn name(&self) -> String;

    /// Writes the readings; asked again with the same readings it changes nothing.
    ///
    /// # Errors
    /// Says whether trying again can help.
    async fn write(&self, readings: &[Reading]) -> Result<Written, SinkError>;

    /// Whether readings would be taken, in one sentence; nothing is written.
    ///
    /// # Errors
    /// It cannot be reached, or refuses us.
    async fn check(&self) -> Result<String, SinkError>;
}

/// What a write did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Readings that the server took.
    pub accepted: u64,
    /// Readings left out because no field was finite.
    pub left_out: u64,
}

/// Why a write failed.
#[derive(Clone, Debug, Error)]
#[error("{sink} did not take the readings: {detail}")]
pub struct SinkError {
    /// The sink's name.
    pub sink: String,
    /// What it said.
    pub detail: String,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// How long the server asked us to wait, where it said so.
    pub wait: Option<Span>,
}
