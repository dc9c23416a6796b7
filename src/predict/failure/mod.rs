//! The probability that a partition fails within 15 minutes, an hour, a day: features of its recent
//! past ([`features`]), a boosted forest or logistic regression or both ([`model`]), calibrated on
//! units held back ([`super::calibrate`]), raised at once by failures like it ([`signature`]), with
//! contributions that sum to what is shown. Labels say what happened ([`labels`]).

mod explain;
pub mod features;
pub mod fit;
pub mod labels;
pub mod live;
pub mod model;
pub mod open;
pub mod quality;
pub mod ranges;
pub mod reliability;
pub mod shipped;
pub mod signature;
pub mod truth;

pub use explain::Explanation;
pub use features::{FeatureSpec, PartitionContext, compute};
pub use labels::{Event, Outcome, label_rows};
pub use model::{FailureModel, Head, Predictions, Scorer};
pub use open::{Opened, open, open_whole};
pub use ranges::Ranges;
pub use reliability::Reliability;
pub use signature::SignatureMemory;
pub use truth::{Incident, Truth};
