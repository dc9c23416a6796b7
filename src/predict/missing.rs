//! Metrics that a partition usually has and that are missing now.
//!
//! What a metric said last goes on counting while it is missing, its deviation and the crossing that was
//! forecast: a metric that disappears never makes its partition look healthier than it last did. This ends
//! when it is measured again, and after [`AssessOptions::freeze_at_most`](super::AssessOptions) (a day),
//! when a partition without it is the new normal. Confidence falls with the share of the weights that is
//! missing; where more than half is, the partition is unknown ([`Gap::MostMissing`](super::Gap)).
//! A metric is usual once it was there for half an hour, of history or live, or where most of the partition's
//! like have it; what is missed is missed until it is there again.
//! Of a partition that was emptied nothing is expected that only work has (`request.…`, `queue.…`).

use std::sync::OnceLock;

use super::baseline::Baseline;
use super::health;
use super::past::End;
use super::season::{Pace, Season};
use super::shape::Shape;
use crate::fleet::{Span, Timestamp};
use crate::telemetry::{MetricIx, PartitionIx, Windows};

/// Where more than this share of the weights of what is usual is missing, nothing can be said.
pub(super) const MOST_MISSING: f32 = 0.5;

/// What was there for so long is usual.
const USUAL_AFTER: Span = Span::minutes(30);

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
        if baseline.count() < usual_steps(pace) {
            *self = Last { at: end.at, ..Last::default() };
            return;
        }
        let normal = baseline.normal(end.middle, Season::at(end.at), pace);
        // A young scale is uncertain, as in the judgement of what is measured.
        let scale = baseline.scale() * if baseline.count() < pace.own_scale { 2.0 } else { 1.0 };
        let z = (end.middle - normal) / scale.max(shape.floor(normal));
        let clip = health::CLIP as f32;
        let deviation = if z.is_nan() { 0.0 } else { z.clamp(-clip, clip) };
        *self = Last { at: end.at, level: shape.from(end.middle), deviation, is_missed: false };
    }

    /// Whether the partition usually has it, which is not there now: `others` says whether its like have it.
    pub(super) fn is_usual(
        &self,
        baseline: &Baseline,
        (cells, step): ((&[f32], &[f32]), Span),
        others: impl FnOnce() -> bool,
        pace: Pace,
        now: Timestamp,
    ) -> bool {
        let most = Span(pace.step.0.saturating_mul(i64::from(pace.freeze)));
        if self.at.age(now) > most {
            return false;
        }
        // Of what is unusual nothing is learnt, and so the window is asked, too.
        let there = || cells.0.iter().chain(cells.1).filter(|x| !x.is_nan()).count() as i64;
        self.is_missed
            || baseline.count() >= usual_steps(pace)
            || there() * step.0 >= USUAL_AFTER.0
            || others()
    }
}

/// Learning steps after which a metric is usual.
fn usual_steps(pace: Pace) -> u16 {
    (USUAL_AFTER.0 / pace.step.0.max(1)).clamp(1, i64::from(pace.own_scale)) as u16
}

/// Which metrics most of the partitions of a group have now; worked out for a group when it is asked for.
pub(super) struct Common<'a> {
    windows: &'a Windows,
    members: &'a [Vec<u32>],
    /// Groups with fewer members have nothing in common.
    least: usize,
    /// A metric whose newest sample is older is not there.
    age: Span,
    now: Timestamp,
    had: Vec<OnceLock<Vec<bool>>>,
}

impl<'a> Common<'a> {
    pub(super) fn new(
        windows: &'a Windows,
        members: &'a [Vec<u32>],
        least: usize,
        age: Span,
        now: Timestamp,
    ) -> Self {
        Self { windows, members, least, age, now, had: vec![OnceLock::new(); members.len()] }
    }

    pub(super) fn has(&self, group: u32, metric: usize) -> bool {
        let group = group as usize;
        let had = self.had.get(group).map(|had| had.get_or_init(|| self.of(group)));
        had.and_then(|had| had.get(metric)).copied().unwrap_or(false)
    }

    fn of(&self, group: usize) -> Vec<bool> {
        let measured = self.windows.partitions().len();
        let members = || self.members[group].iter().filter(|p| (**p as usize) < measured);
        let count = members().count();
        let has = |metric: MetricIx| {
            let newest = members().filter_map(|p| self.windows.newest(PartitionIx(*p), metric));
            2 * newest.filter(|at| at.age(self.now) <= self.age).count() > count
        };
        let metrics = self.windows.metrics().len() as u16;
        (0..metrics).map(|m| count >= self.least.max(2) && has(MetricIx(m))).collect()
    }
}
