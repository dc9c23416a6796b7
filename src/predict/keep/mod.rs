//! Detectors that outlive a restart: one file a partition with the model that was fitted from days of its
//! history ([`record`]), written when it is fitted, and one file with what all streams carry from row to row
//! ([`streams`]), written every ten minutes and at the end. After a restart a partition goes on at the row at
//! which its stream was written, over what the window holds since: the same rows give the same scores and the
//! same alarms as without the restart.
//!
//! What does not fit what runs (another version of the format, another step, metrics that are no longer
//! measured, older than [`MOST_AGE`], changed, cut, not ours) is refused for that partition with the reason,
//! and its detector is fitted anew. For 16 metrics a model is 5.3 KB on disk, 33 KB with the network of an
//! LSTM voter (an ONNX file in it), and a stream 1.0 KB, 1.6 KB where contributions were worked out of late
//! and 4.8 KB at most, while metrics are read from new places; a model is [`MOST_BYTES`] at most.
//!
//! Networks for forecasts are kept in a folder of their own ([`networks`]), one an application.

pub mod networks;
pub mod record;
pub mod shelf;
pub mod streams;

pub use networks::{NetworkShelf, NetworkUnfit};
pub use record::{Kept, Unfit};
pub use shelf::{Loaded, Shelf, ShelfError};
pub use streams::KeptStream;

use crate::fleet::Span;

/// A detector that is older is not used any more: it is fitted anew once a day where it runs.
pub const MOST_AGE: Span = Span::days(7);
/// A file of one detector is at most so long (about 240 metrics, with an LSTM voter).
pub const MOST_BYTES: u64 = 3 << 19;
/// A detector of more metrics is not kept.
pub(super) const MOST_METRICS: usize = 240;
/// A clock that was this far ahead when a detector was fitted is taken for right.
pub(super) const SKEW: Span = Span::minutes(10);
