//! One partition's detector with its stream: reads the slots of the window, each once.

use super::anomaly::{AnomalyModel, Scratch, Stream, Wanted};
use super::assessment::Anomaly;
use super::keep::KeptStream;
use super::keep::record::print_of;
use crate::fleet::{MetricName, Span, Timestamp};
use crate::telemetry::{MetricIx, PartitionIx, Windows};

/// After a gap of more slots the stream begins anew.
const GAP: i64 = 30;
/// From this share of the level of alarms on it is worked out which metrics carry a row.
const NOTICED: f32 = 0.5;

/// A model of one partition that was fitted elsewhere, from days of its history on the window's grid.
#[derive(Clone, Debug)]
pub struct Taught {
    /// The model.
    pub model: AnomalyModel,
    /// Its metrics, in its order.
    pub metrics: Vec<MetricName>,
    /// When it was fitted.
    pub fitted: Timestamp,
    /// The history that it was fitted from begins here …
    pub from: Timestamp,
    /// … and ends here.
    pub until: Timestamp,
}

/// Whence a model is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Origin {
    /// From the window, in this cycle.
    Window(u64),
    /// From days of history, at this time.
    History(Timestamp),
}

/// One partition's model and its stream.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) model: AnomalyModel,
    pub(super) stream: Stream,
    /// Start of the last slot that was scored.
    pub(super) scored: Timestamp,
    /// Whence the model is.
    pub(super) origin: Origin,
    /// The window's metric of each of the model's; empty = in the same order.
    pub(super) places: Vec<MetricIx>,
    /// What is said now; none where nothing can be.
    pub(super) said: Option<Anomaly>,
    /// Rows for which the alarm has stood.
    pub(super) standing: u32,
    /// See [`super::keep::record::print_of`]; 0 of a model of the window, which is not kept.
    pub(super) print: u64,
}

impl Watch {
    pub(super) fn new(model: AnomalyModel, windows: &Windows, origin: Origin) -> Watch {
        Watch {
            stream: model.stream(),
            model,
            scored: windows.tail(),
            origin,
            places: Vec::new(),
            said: None,
            standing: 0,
            print: 0,
        }
    }

    /// Of a model that was fitted elsewhere.
    pub(super) fn taught(taught: Taught, places: Vec<MetricIx>, windows: &Windows) -> Watch {
        let print = print_of(&taught.model);
        Watch { places, print, ..Watch::new(taught.model, windows, Origin::History(taught.fitted)) }
    }

    /// Whether it can still read windows of so many metrics: metrics that came later are none of a model
    /// that was taught.
    pub(super) fn fits(&self, metrics: usize) -> bool {
        !self.places.is_empty() || self.model.metrics() == metrics
    }

    /// The window's metric of a metric of the model.
    fn place(&self, m: usize) -> MetricIx {
        self.places.get(m).copied().unwrap_or(MetricIx(m as u16))
    }

    /// Reads every slot after the last one that was read, until `until`.
    pub(super) fn read(&mut self, windows: &Windows, p: PartitionIx, until: Timestamp) {
        let step = windows.config().step.0;
        let ahead = (until - self.scored).0 / step;
        if ahead > GAP {
            self.stream.after_gap();
        }
        self.read_slots(windows, p, ahead);
    }

    /// Goes on with a stream that was kept: over the slots since, as if it had read them one by one. Where
    /// the window no longer holds them all, or they have a gap, it begins anew behind that.
    pub(super) fn go_on(&mut self, kept: KeptStream, windows: &Windows, p: PartitionIx, until: Timestamp) {
        let KeptStream { stream, scored, standing, said, .. } = kept;
        (self.stream, self.scored, self.standing, self.said) = (stream, scored, standing, said);
        let ahead = (until - scored).0 / windows.config().step.0;
        let held = scored + windows.config().step >= windows.tail();
        if held && self.longest_gap(windows, p, ahead) <= GAP {
            self.read_slots(windows, p, ahead);
        } else {
            self.read(windows, p, until);
        }
    }

    /// The most slots in a row without a value of any of its metrics, of those that are not read yet.
    fn longest_gap(&self, windows: &Windows, p: PartitionIx, ahead: i64) -> i64 {
        let (len, step) = (windows.config().len, windows.config().step.0);
        let behind = (windows.head() - self.scored).0 / step;
        let mut filled = vec![false; len];
        for m in 0..self.model.metrics() {
            let (older, newer) = windows.row(p, self.place(m));
            let values = older.iter().chain(newer);
            filled.iter_mut().zip(values).for_each(|(there, value)| *there |= value.is_finite());
        }
        let (mut longest, mut run) = (0, 0);
        for k in (1..=ahead).filter(|k| behind - k < len as i64) {
            let at = len - 1 - (behind - k) as usize;
            run = if filled[at] { 0 } else { run + 1 };
            longest = longest.max(run);
        }
        longest
    }

    /// Reads so many slots after the last one that was read, those that the window holds.
    fn read_slots(&mut self, windows: &Windows, p: PartitionIx, ahead: i64) {
        if ahead <= 0 {
            return;
        }
        let (step, len) = (windows.config().step.0, windows.config().len as i64);
        let behind = (windows.head() - self.scored).0 / step;
        let rows: Vec<(&[f32], &[f32])> =
            (0..self.model.metrics()).map(|m| windows.row(p, self.place(m))).collect();
        let mut row = vec![f32::NAN; rows.len()];
        let (mut shares, mut room) = (vec![0.0; rows.len()], Scratch::default());
        for k in (1..=ahead).filter(|k| behind - k < len) {
            let at = (len - 1 - (behind - k)) as usize;
            for (value, (older, newer)) in row.iter_mut().zip(&rows) {
                *value = older
                    .get(at)
                    .or_else(|| newer.get(at - older.len().min(at)))
                    .copied()
                    .unwrap_or(f32::NAN);
            }
            let wanted = Wanted { into: &mut shares, from: NOTICED * self.model.event_level() };
            let said = self.model.read(&mut self.stream, &row, Some(wanted), &mut room);
            self.standing = if said.alarmed { self.standing.saturating_add(1) } else { 0 };
            if said.score.present > 0.0 {
                self.said = Some(Anomaly {
                    score: f64::from(said.score.score),
                    strength: f64::from(said.news / self.model.event_level()).max(0.0),
                    alarmed: said.alarmed,
                    by_days: self.model.knows_days(),
                    stands_out: false,
                });
            }
        }
        self.scored += Span(ahead * step);
    }

    /// The two metrics that carry most of the score; first the one that is furthest by itself, where alarms
    /// rest on that.
    pub(super) fn most(&self) -> impl Iterator<Item = usize> {
        let shares = self.stream.contributions();
        let alone = self.model.furthest(&self.stream);
        let mut order: Vec<usize> = (0..shares.len()).collect();
        order.sort_by(|a, b| {
            let by_share = shares[*b].total_cmp(&shares[*a]).then(a.cmp(b));
            (Some(*b) == alone).cmp(&(Some(*a) == alone)).then(by_share)
        });
        order.into_iter().take(2).map(|m| usize::from(self.place(m).0))
    }
}
