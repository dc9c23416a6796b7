//! Anomaly detection: how far a partition is from its own normal behaviour, row by row, and which metrics carry it.
//!
//! Three linear voters ([`Voter`]) look at the standardised row in two scalings ([`Scaling`]); from two weeks of
//! minutes on an LSTM ([`sequence`]) may vote with the weight of all six, where it tells anomalies better that are
//! put into held-back history (`trial`). Each vote is brought to one scale by its own training scores; the weighted
//! mean is the score: 0 = an ordinary row, 1 = as unusual as one training row in a thousand. [`AnomalyModel::fit`]
//! learns it, [`AnomalyModel::read`] streams it with a state of about 2 KB a partition and says when it is an alarm
//! ([`calm`]; the engine and `foreshift eval` both call it), [`AnomalyModel::score_columns`] scores history in
//! blocks. [`univariate`] is for a single series with nothing to train on.
//!
//! What was tried on SMD and is not here: a per-metric tail vote (VUS-PR .25 alone, and it pulls the mean down),
//! one scaling (.58 by deviation, .56 by range, .67 together), normalising by cross-fitted scores (no difference),
//! leaving out of the score what has lasted for half a day metric by metric (VUS-PR .57 to .66 for .67; the alarms
//! do it, see [`accept`]: without it one gauge moved for good hid half of a machine's later events), an alarm on
//! the largest residual of a metric beside (more false ones, no more events; what [`calm`] does with metrics is
//! another matter: each regressed on the others, by a level of its own). Trailing means of 1, 10 and 30 rows
//! together stand against noise without coming late.
//!
//! An LSTM autoencoder as a voter, beside the predictor or in its place, wins nothing. Judged by 918 anomalies put
//! into held-back 30 % of three SMD train files (no label), as average precision of the score with half of the
//! weight on the LSTM: linear voters alone .609; with the predictor's whitened residual .655; with that of the last
//! row of the autoencoder's window .646 (32 rows, 32 cells), .648 (16 cells), .654 (16 rows), .645 (64 cells, half
//! as long again and twice the windows), with both networks .652 and .655. By the residual as it is: predictor
//! .551, autoencoder .53 to .55; by the mean of the last eight rows' .50, of the whole window's .42 to .47. By both
//! residuals, as the predictor votes: .617, autoencoder .603 to .615, all four .611 to .618. In the alarms, found
//! at one false event a day: linear voters .565, with the predictor .554 (.577 with its residuals as two voters),
//! with the autoencoder .53 to .59 by which of its errors votes, with both .53 to .58. It takes 32 to 64 steps of a
//! cell a row for the predictor's one, and trained three to twenty times as long.
//!
//! Of the alarms, by the same anomalies at their own levels (.540 found at .93 false events a day): three
//! predictors of other seeds .539; the predictor's two residuals as two voters .550; the voters' running means over
//! 3, 5, 7, 15, 20, 30 rows .54, .574, .556, .52, .51, .50 (what 5 rows win is anomalies of fewer than ten rows,
//! none of the longer ones); over 5 and 60 rows at once .51, over 2 and 10 .559; the mean of the two or three
//! furthest .54; cumulative sums beside .44 to .54, and alone .42 to .54; the multivariate running mean of the
//! whitened residuals beside .54 to .58; a level from stretches of 2 to 8 hours instead of days .55 to .58 at 1.0
//! to 1.1. With each metric beside, in one budget with the voters (see [`calm`]): its |z| .49, its |residual| of
//! the LSTM predictor .57, that residual or the linear one regressed on the other metrics .78 to .81.

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
