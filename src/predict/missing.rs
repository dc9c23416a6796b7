//! Metrics that a partition usually has and that are missing now.
//!
//! What a metric said last goes on counting while it is missing, its deviation and the crossing that was
//! forecast: a metric that disappears never makes its partition look healthier than it last did. This ends
//! when it is measured again, and after [`AssessOptions::freeze_at_most`](super::AssessOptions) (a day),
//! when a partition without it is the new normal. Confidence falls with the share of the weights that is
//! missing; where more than half is, the partition is unknown ([`Gap::MostMissing`](super::Gap)).
//! A metric is usual once it was learnt for as long as an own scale takes (four hours), of history or live.
//! Of a partition that was emptied nothing is expected that only work has (`request.…`, `queue.…`).

use super::baseline::Baseline;
use super::health;
use super::past::End;
use super::season::{Pace, Season};
use super::shape::Shape;
use crate::fleet::{Span, Timestamp};

/// Where more than this share of the weights of what is usual is missing, nothing can be said.
pub(super) const MOST_MISSING: f32 = 0.5;

/// What a metric said last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    /// When; the beginning of time where it was never measured.
    pub(super) at: Timestamp,
    /// In the metric's unit.
    pub(super) level: f32,
    /// Robust standard deviations from normal.
    pub(super) deviation: f32,
    /// It is usual, and not there now.
    pub(super) is_missed: bool,
}

impl Default for Last {
    fn default() -> Self {
        Last { at: Timestamp(i64::MIN), level: f32::NAN, deviation: f32::NAN, is_missed: false }
    }
}

impl Last {
    /// Takes what history says last, where that is newer.
    pub(super) fn note_history(&mut self, end: End, baseline: &Baseline, shape: Shape, pace: Pace) {
        if end.at <= self.at {
            return;
        }
        if baseline.count() < pace.own_scale {
            *self = Last { at: end.at, ..Last::default() };
            return;
        }
        let normal = baseline.normal(end.middle, Season::at(end.at), pace);
        let z = (end.middle - normal) / baseline.scale().max(shape.floor(normal));
        let clip = health::CLIP as f32;
        let deviation = if z.is_nan() { 0.0 } else { z.clamp(-clip, clip) };
        *self = Last { at: end.at, level: shape.from(end.middle), deviation, is_missed: false };
    }

    /// Whether the partition usually has it.
    pub(super) fn is_usual(&self, baseline: &Baseline, pace: Pace, now: Timestamp) -> bool {
        let most = Span(pace.step.0.saturating_mul(i64::from(pace.freeze)));
        baseline.count() >= pace.own_scale && self.at.age(now) <= most
    }
}
