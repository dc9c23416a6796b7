//! A second model of failure beside the one that speaks: the challenger that wants its place, or the one
//! before it that can have it back. Both say their chances of the same partitions at the same times
//! ([`super::Assessor::beside`]); the [`Ledger`] keeps what they said until it is known what happened, bets on
//! the difference ([`Wager`]) and says what follows ([`Decision`]). Nothing of it reaches an assessment:
//! all of this reads the assessor through `&`.
//!
//! Cost: once in [`ShadowOptions::every`] the features and two models' probabilities of at most
//! [`ShadowOptions::most`] partitions, at most 12 bytes and a name of each kept for the longest window.

mod beside;
mod decide;
mod ledger;
mod wager;

pub use beside::Said;
pub use decide::{Decision, Figures};
pub use ledger::{LabelOf, Ledger, Look};
pub use wager::{Alarm, Wager};

use crate::fleet::Span;

/// How a model runs in shadow, and what it takes to change places.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ShadowOptions {
    /// Between two looks at a partition.
    pub every: Span,
    /// Most partitions in one look; of a larger fleet hosts take turns, a day each.
    pub most: usize,
    /// What became of a row is asked so long after its window has ended: records come late.
    pub grace: Span,
    /// A host counts once in so long: its rows depend on each other.
    pub block: Span,
    /// Fewest failures (blocks in which the host failed) before a challenger takes over.
    pub least_failures: usize,
    /// Evidence from which on a challenger takes over; chance alone reaches it once in so many models.
    pub certainty: f64,
    /// It does not take over, nor is it taken for worse, before it has run for so long.
    pub at_least: Span,
    /// A challenger that was not better within this time is retired.
    pub at_most: Span,
    /// A wrong return to the model before comes about once in this time.
    pub false_revert_every: Span,
}

impl Default for ShadowOptions {
    fn default() -> Self {
        Self {
            every: Span::minutes(5),
            most: 1000,
            grace: Span::minutes(10),
            block: Span::days(1),
            least_failures: 10,
            certainty: 20.0,
            at_least: Span::days(1),
            at_most: Span::days(30),
            false_revert_every: Span::days(365),
        }
    }
}
