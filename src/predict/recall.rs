//! Failures that were recorded while the windows still show how their partitions looked before: what looks
//! alike is nearer to a failure in the next cycle, without a training. What was recorded is compared with what
//! is remembered in every cycle, so that it is all the same how a record came in, and a record that is
//! corrected is forgotten.

use std::collections::{BTreeSet, HashSet};

use super::assess::Assessor;
use super::context::{Context, Outcome, PastFailure, Subject};
use super::failure::features::{PartitionContext, compute_one};
use super::failure::{FailureModel, FeatureSpec};
use super::season::Season;
use crate::fleet::{PartitionId, Timestamp, Topology};
use crate::telemetry::{MetricIx, PartitionIx, Windows};

/// Failures kept; the oldest is forgotten first.
const MOST: usize = 256;
/// A baseline of fewer values says nothing of what is normal.
const LEAST_VALUES: u16 = 6;

/// What is remembered of failures.
#[derive(Debug, Default)]
pub(super) struct Recall {
    struck: Vec<Struck>,
    /// The models have not heard of it yet.
    changed: bool,
}

/// How the partitions that a failure struck looked before it.
#[derive(Debug)]
struct Struck {
    failure: PastFailure,
    /// What the rows hold.
    spec: FeatureSpec,
    rows: Vec<Vec<f32>>,
}

impl Recall {
    /// Another model speaks: it is to be told of all.
    pub(super) fn tell_again(&mut self) {
        self.changed = true;
    }
}

impl Assessor {
    /// Brings what is remembered in line with what is recorded, and tells the models.
    pub(super) fn recall_failures(&mut self, windows: &Windows, context: &Context, now: Timestamp) {
        self.forget_corrected(context);
        let known: HashSet<(&Subject, Timestamp)> = self.recall.struck.iter().map(Struck::key).collect();
        let of_late = |f: &&PastFailure| f.at > windows.tail() && f.at <= now;
        let fresh: Vec<&PastFailure> = context
            .failures
            .iter()
            .filter(|f| f.outcome == Outcome::Failed)
            .filter(of_late)
            .filter(|f| !known.contains(&(&f.subject, f.at)))
            .collect();
        let fresh: Vec<Struck> =
            fresh.into_iter().filter_map(|f| self.look_back(f, windows, context.topology, now)).collect();
        if !fresh.is_empty() {
            self.recall.struck.extend(fresh);
            self.recall.struck.sort_by_key(|s| s.failure.at);
            let beyond = self.recall.struck.len().saturating_sub(MOST);
            self.recall.struck.drain(..beyond);
            self.recall.changed = true;
        }
        if !std::mem::take(&mut self.recall.changed) {
            return;
        }
        if let Some(mut model) = self.failure_model.take() {
            self.remind(&mut model);
            self.failure_model = Some(model);
        }
        self.remind_own();
    }

    /// Lets a model know of the failures that it was not trained on, and of no others.
    pub(super) fn remind(&self, model: &mut FailureModel) {
        model.signatures.clear();
        for struck in &self.recall.struck {
            if model.trained_until.is_none_or(|until| struck.failure.at > until) {
                let rows: Vec<Vec<f32>> =
                    struck.rows.iter().map(|row| struck.row(&model.spec, row)).collect();
                let name = struck.name();
                model.signatures.remember(&name, &model.spec, rows.iter().map(Vec::as_slice));
            }
        }
    }

    fn forget_corrected(&mut self, context: &Context) {
        let Some(oldest) = self.recall.struck.first().map(|s| s.failure.at) else { return };
        let failed: HashSet<(&Subject, Timestamp)> = context
            .failures
            .iter()
            .filter(|f| f.outcome == Outcome::Failed && f.at >= oldest)
            .map(|f| (&f.subject, f.at))
            .collect();
        let before = self.recall.struck.len();
        self.recall.struck.retain(|s| failed.contains(&s.key()));
        self.recall.changed |= self.recall.struck.len() != before;
    }

    /// How those whom a failure struck looked just before it; `None` where nothing is known of them.
    fn look_back(
        &self,
        failure: &PastFailure,
        windows: &Windows,
        topology: &Topology,
        now: Timestamp,
    ) -> Option<Struck> {
        let metrics = windows.metrics().iter().map(ToString::to_string).collect();
        let kinds = self.derived.kinds.get(1..).unwrap_or_default().to_vec();
        let spec = FeatureSpec { metrics, kinds, ..FeatureSpec::default() };
        let rows: Vec<Vec<f32>> = struck_by(&failure.subject, topology, windows)
            .iter()
            .filter_map(|p| windows.partition(p))
            .filter(|ix| (ix.0 as usize) < self.derived.kind.len())
            .map(|ix| self.row_before(failure.at, &spec, windows, ix, now))
            .filter(|row| (0..spec.metrics.len()).any(|m| row[spec.mean10(m)].is_finite()))
            .collect();
        (!rows.is_empty()).then(|| Struck { failure: failure.clone(), spec, rows })
    }

    fn row_before(
        &self,
        at: Timestamp,
        spec: &FeatureSpec,
        windows: &Windows,
        ix: PartitionIx,
        now: Timestamp,
    ) -> Vec<f32> {
        let usual: Vec<(f32, f32)> = (0..spec.metrics.len()).map(|m| self.usual(ix, m, now)).collect();
        let (location, scale): (Vec<f32>, Vec<f32>) = usual.into_iter().unzip();
        // The first kind is none.
        let kind = usize::from(self.derived.kind[ix.0 as usize]).checked_sub(1);
        let context = PartitionContext { location: &location, scale: &scale, extras: &[], kind };
        let step = windows.config().step;
        let after = ((windows.head() - at.floor(step)).0 / step.0 + 1).max(0) as usize;
        compute_one(spec, &context, |m| {
            let (older, newer) = windows.row(ix, MetricIx(m as u16));
            let kept = (older.len() + newer.len()).saturating_sub(after);
            (&older[..kept.min(older.len())], &newer[..kept.saturating_sub(older.len())])
        })
    }

    /// What is normal for a metric, also of who is silent by now.
    fn usual(&self, ix: PartitionIx, m: usize, now: Timestamp) -> (f32, f32) {
        let width = self.columns.len();
        let cell = ix.0 as usize * width + m;
        let unknown = (f32::NAN, f32::NAN);
        if m >= width {
            return unknown;
        }
        match (self.normal.get(cell), self.baselines.get(cell)) {
            (Some(normal), _) if normal.1 > 0.0 => *normal,
            (_, Some(baseline)) if baseline.count() >= LEAST_VALUES => {
                let location = baseline.expected(Season::at(now), self.pace);
                (location, baseline.scale().max(self.columns[m].shape.floor(location)))
            }
            _ => unknown,
        }
    }
}

impl Struck {
    fn key(&self) -> (&Subject, Timestamp) {
        (&self.failure.subject, self.failure.at)
    }

    /// For people: `db-17 (2026-05-03 14:02 UTC)`.
    fn name(&self) -> String {
        let subject = match &self.failure.subject {
            Subject::Partition(id) => id.as_str(),
            Subject::Workload(id) => id.as_str(),
            Subject::Host(id) => id.as_str(),
        };
        match jiff::Timestamp::from_millisecond(self.failure.at.millis()) {
            Ok(at) => format!("{subject} ({})", at.strftime("%F %H:%M UTC")),
            Err(_) => subject.to_string(),
        }
    }

    /// One of the rows as a model of other features reads it: its means and its kind.
    fn row(&self, spec: &FeatureSpec, row: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; spec.width()];
        for (m, name) in spec.metrics.iter().enumerate() {
            if let Some(own) = self.spec.metrics.iter().position(|own| own == name) {
                out[spec.mean10(m)] = row[self.spec.mean10(own)];
            }
        }
        let (from, to) = (row.len() - self.spec.kinds.len(), spec.width() - spec.kinds.len());
        for (k, kind) in spec.kinds.iter().enumerate() {
            out[to + k] = self.spec.kind(kind).map_or(0.0, |own| row[from + own]);
        }
        out
    }
}

/// The partitions that a failure struck: all of a host, that on which a workload is.
fn struck_by(subject: &Subject, topology: &Topology, windows: &Windows) -> BTreeSet<PartitionId> {
    match subject {
        Subject::Partition(id) => BTreeSet::from([id.clone()]),
        Subject::Workload(id) => topology.workload(id).map(|w| w.partition.clone()).into_iter().collect(),
        Subject::Host(host) => {
            let placed = topology.partitions.iter().filter(|p| p.host == *host).map(|p| p.id.clone());
            let measured = windows.partitions().iter().filter(|p| p.host() == *host).cloned();
            placed.chain(measured).collect()
        }
    }
}
