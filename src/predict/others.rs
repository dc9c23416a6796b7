//! Why the chances of the windows beside the middle one are what they are: worked out when somebody asks, from what the
//! model reads at that time.

use super::assess::Assessor;
use super::assessment::Contribution;
use super::chances::{has_a_say, heads_of, speaks_on, words};
use super::failure::live;
use crate::fleet::{MetricName, Probability, Span};
use crate::telemetry::{PartitionIx, Windows};

/// The chance of one window and its parts, in points of percent; the parts and the base sum to it.
#[derive(Clone, PartialEq, Debug)]
pub struct WindowWhy {
    /// Fails within this span.
    pub within: Span,
    /// The chance that was said.
    pub probability: Probability,
    /// What is said where nothing is known.
    pub base: f64,
    /// The parts, greatest first.
    pub parts: Vec<Contribution>,
}

/// What is read now may differ by so much from what was said in the cycle before; beyond that nothing is explained until
/// the next one.
const SAME: f64 = 0.02;

impl Assessor {
    /// Of every window but the middle one for which a model spoke; none where what was said is not what would be now.
    pub(super) fn why_others(&self, windows: &Windows, partition: PartitionIx) -> Vec<WindowWhy> {
        let p = partition.0 as usize;
        let Some(out) = self.assessments().get(p).filter(|out| !out.failure.is_empty()) else {
            return Vec::new();
        };
        let own = self.own_speaker(partition).map(|own| &own.model);
        let Some(model) = own.or(self.failure_model.as_deref()).filter(|_| speaks_on(windows)) else {
            return Vec::new();
        };
        let rows = live::features_of(&model.spec, self, windows, &[partition.0]);
        if !has_a_say(&model.spec, out, rows.row(0)) {
            return Vec::new();
        }
        let said = model.predict(&rows);
        let heads = heads_of(model, &self.options.windows);
        let scene = self.scene(p, &[], windows.head());
        let windows = heads.iter().zip(&out.failure).enumerate().filter(|(w, _)| *w != self.options.middle());
        let explained = windows.filter_map(|(_, (head, forecast))| {
            let head = (*head)?;
            let stated = forecast.probability.get();
            let off = (said.row(0)[head] - stated).abs();
            if off.is_nan() || off >= SAME {
                return None;
            }
            let why = model.explain_said(rows.row(0), usize::from(said.givers(0)[head]), stated)?;
            let part = |(name, part): (String, f64)| Contribution {
                words: words(&name, Some(&why), &scene),
                metric: MetricName::from(name.as_str()),
                amount: 100.0 * part,
            };
            let mut parts: Vec<Contribution> = why.by_group(&model.spec).into_iter().map(part).collect();
            parts.sort_by(|a, b| b.amount.total_cmp(&a.amount));
            Some(WindowWhy {
                within: forecast.within,
                probability: forecast.probability,
                base: 100.0 * why.base,
                parts,
            })
        });
        explained.collect()
    }
}
