//! What a backtest found, as one JSON object. Times are RFC 3339, spans seconds. There is nothing in it
//! of this machine or this run, so the same history gives the same bytes.

use serde::Serialize;

use super::calibration::Calibrated;
use super::calls::{Saved, Verdict};
use super::error::written;
use super::held::{HeldBefore, HeldPrediction};
use super::recommend::Recommendation;
use super::replay::Proposed;
use super::sweep;
use super::tally::{Rates, Tally};
use super::truth::Incident;
use crate::fleet::Span;

/// Everything.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// `backtest`.
    pub task: String,
    /// The source's name.
    pub source: String,
    /// The first cycle.
    pub from: String,
    /// The end of the span.
    pub to: String,
    /// Between two cycles, in seconds.
    pub cycle_s: f64,
    /// Cycles.
    pub cycles: u64,
    /// Partitions that had a sample.
    pub partitions: usize,
    /// Samples that the engine was given.
    pub points: u64,
    /// The models that spoke.
    pub models: Vec<String>,
    /// Where what stood where was known from, in words.
    pub placement: String,
    /// What became of proposals in the replay, in words.
    pub carried_out: String,
    /// What things cost.
    pub rates: Rates,
    /// A failure was told to the engine so many seconds after it.
    pub told_after_s: f64,
    /// Recorded failures, and what would have become of them.
    pub failures: Vec<Failed>,
    /// Of those that were missed, predicted in time and held: nothing could be moved.
    pub missed_held: usize,
    /// Records of work that was moved away in time: in no count.
    pub outcomes_unknown: usize,
    /// What would have been proposed, and what came of it.
    pub proposals: Vec<Proposal>,
    /// What was predicted and not proposed, for nothing could be moved, and what held it.
    pub held: Vec<HeldPrediction>,
    /// The sum of it, as configured.
    pub configured: Tally,
    /// Whether the stated probabilities can be taken at their word, a window each.
    pub calibration: Vec<Calibrated>,
    /// Other thresholds, a window each.
    pub curves: Vec<Curve>,
    /// What to set, a window each.
    pub recommendations: Vec<Recommendation>,
    /// What a reader has to know beside.
    pub notes: Vec<String>,
}

/// One recorded failure.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Failed {
    /// When.
    pub at: String,
    /// As recorded.
    pub subject: String,
    /// As recorded.
    pub cause: String,
    /// Where it is recorded.
    pub record: String,
    /// Partitions that it struck.
    pub partitions: Vec<String>,
    /// Of them, would have been emptied in time.
    pub in_time: usize,
    /// All of them.
    pub caught: bool,
    /// From the proposal to empty the last of them to the failure, in seconds; `None` where one was never
    /// proposed.
    pub lead_s: Option<f64>,
    /// The highest probability of the middle window that was said in that window before it.
    pub highest: Option<f64>,
    /// What was predicted of it in time and held; `None` where it was caught, or nobody foresaw it.
    pub held: Option<HeldBefore>,
}

impl Failed {
    pub(super) fn of(
        incident: &Incident,
        saved: &Saved,
        highest: Option<f64>,
        held: Option<HeldBefore>,
    ) -> Self {
        Self {
            at: written(incident.at),
            subject: incident.subject.clone(),
            cause: incident.cause.clone(),
            record: incident.place.clone(),
            partitions: incident.partitions.iter().map(ToString::to_string).collect(),
            in_time: saved.in_time,
            caught: saved.caught(),
            lead_s: saved.lead.map(Span::as_seconds),
            highest,
            held,
        }
    }
}

/// One partition that would have been emptied.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Proposal {
    /// When it was first proposed.
    pub at: String,
    /// The partition.
    pub partition: String,
    /// What was proposed.
    pub title: String,
    /// Why, in words.
    pub because: String,
    /// The window whose threshold was passed, in seconds.
    pub within_s: f64,
    /// With this probability.
    pub probability: f64,
    /// Workloads to be moved.
    pub moves: usize,
    /// Where to.
    pub destinations: Vec<String>,
    /// When it first could have been carried out; `None` = never.
    pub could_at: Option<String>,
    /// Why it could not when it was proposed, if so.
    pub blocked: Option<String>,
    /// `right`, `too late`, `needless`, `outcome unknown`, `undecided`, `blocked`.
    pub verdict: String,
    /// From when it could have been carried out to the failure, in seconds.
    pub lead_s: Option<f64>,
}

impl Proposal {
    pub(super) fn of(proposed: &Proposed, verdict: Option<Verdict>) -> Self {
        Self {
            at: written(proposed.at),
            partition: proposed.partition.to_string(),
            title: proposed.title.clone(),
            because: proposed.because.clone(),
            within_s: proposed.within.as_seconds(),
            probability: proposed.probability.get(),
            moves: proposed.moves,
            destinations: proposed.destinations.iter().map(ToString::to_string).collect(),
            could_at: proposed.acted.map(written),
            blocked: proposed.blocked.clone(),
            verdict: verdict.map_or("blocked", Verdict::word).into(),
            lead_s: verdict.and_then(Verdict::lead).map(Span::as_seconds),
        }
    }
}

/// Other thresholds on one window.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Curve {
    /// The window, in seconds.
    pub within_s: f64,
    /// Lowest threshold first.
    pub points: Vec<sweep::Point>,
}

impl Curve {
    pub(super) fn of(curve: sweep::Curve) -> Self {
        Self { within_s: curve.within.as_seconds(), points: curve.points }
    }
}
/// What becomes of proposals in a replay.
pub(super) const CARRIED_OUT: &str = "a proposal that nothing blocks counts as carried out at once; what that \
     would have changed in the metrics is not known";

/// Where what stood where was known from.
pub(super) fn placement(discovered: bool) -> String {
    if discovered {
        "as the drivers see it now, over the whole span".into()
    } else {
        "no driver says what stood where: every partition is taken to hold one workload".into()
    }
}
