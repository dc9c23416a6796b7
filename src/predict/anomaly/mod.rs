//! Anomaly detection: how far a partition is from its own normal behaviour, row by row, and which metrics
//! carry it.
//!
//! Three linear voters ([`Voter`]) look at the standardised row in two scalings ([`Scaling`]); from two
//! weeks of minutes on an LSTM ([`sequence`]) may vote with the weight of all six, where it tells anomalies
//! better that are put into held-back history (`trial`). Each vote is brought to one scale by its own
//! training scores; the weighted mean is the score: 0 = an ordinary row, 1 =
//! as unusual as one training row in a thousand. [`AnomalyModel::fit`] learns it,
//! [`AnomalyModel::read`] streams it with a state of about 2 KB a partition and says when it is an
//! alarm ([`calm`]; the engine and `foreshift eval` both call it), [`AnomalyModel::score_columns`] scores history in
//! blocks. [`univariate`] is for a single series with
//! nothing to train on.
//!
//! What was tried on SMD and is not here: a per-metric tail vote (VUS-PR .25 alone, and it pulls the mean
//! down), one scaling (.58 by deviation, .56 by range, .67 together), normalising by cross-fitted scores (no
//! difference), leaving out of the score what has lasted for half a day metric by metric (VUS-PR .57 to .66
//! for .67; the alarms do it, see [`accept`]: without it one gauge moved for good hid half of a machine's
//! later events), an alarm on the largest residual of a metric beside (more false ones, no more events).
//! Trailing means of 1, 10 and 30 rows together stand against noise without coming late.

pub mod accept;
pub mod alarm;
mod block;
pub(in crate::predict) mod bytes;
pub mod calm;
pub mod error;
pub mod hysteresis;
pub mod model;
pub mod moments;
mod packed;
pub mod scaler;
pub mod sequence;
pub mod state;
pub mod stream;
mod trial;
pub mod univariate;
mod view;

#[cfg(test)]
mod tests;

pub use alarm::AlarmRule;
pub use error::AnomalyError;
pub use hysteresis::Hysteresis;
pub use model::{AnomalyModel, FitOptions, Scores};
pub use moments::Moments;
pub use scaler::{Scaler, Scaling};
pub use sequence::Sequencing;
pub use state::{AnomalyState, RowScore};
pub use stream::{Reading, Readings, Stream, Wanted};
pub use view::{Scratch, Voter};
