//! How far what the models read lies outside what they were trained on: now for each partition, which
//! lowers the confidence in its probabilities, and over the last hour for the fleet, which can be alarmed
//! on.

use crate::fleet::{Span, Timestamp};

use super::assess::Assessor;

/// Time constant of the rolling share.
const MEMORY: Span = Span::hours(1);

/// The rolling share of one window's model.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Drift {
    /// The window.
    pub within: Span,
    /// Share of what it read that lay outside, over the last hour; 0 to 1.
    pub share: f64,
    at: Timestamp,
}

impl Assessor {
    /// Drift of the model's heads that know their training range.
    pub fn drift(&self) -> &[Drift] {
        &self.drift
    }

    /// Takes the share of a cycle, the mean over the partitions.
    pub(super) fn note_drift(&mut self, within: Span, share: f64, now: Timestamp) {
        match self.drift.iter_mut().find(|d| d.within == within) {
            Some(drift) => {
                let age = drift.at.age(now).0 as f64 / MEMORY.0 as f64;
                drift.share += (1.0 - (-age).exp()) * (share - drift.share);
                drift.at = now;
            }
            None => self.drift.push(Drift { within, share, at: now }),
        }
    }
}
