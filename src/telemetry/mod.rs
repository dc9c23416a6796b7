//! Time series: the ports to where they are kept, the adapters, and the windows that the rest of
//! the house reads.

mod counts;
pub mod embedded;
pub mod influx;
pub mod replay;
pub mod schema;
pub mod source;
pub mod window;

pub use embedded::{Batch, EmbeddedOptions, EmbeddedStore, StoreError};
pub(crate) use replay::since_epoch;
pub use replay::{ReplayError, ReplaySource};
pub use schema::{CANONICAL, Metric, Unit};
pub use source::{
    Failing, Ingest, PullReport, Reading, Sink, SinkError, Source, SourceError, SourceStatus, Written,
};
pub use window::{MetricIx, PartitionIx, WindowCounters, Windows, WindowsConfig};
