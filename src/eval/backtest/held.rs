//! Predictions that led to no proposal because nothing could be moved: what was predicted, when, and what held it.
//! A failure that was predicted and held is another fault than one that nobody foresaw.

use std::collections::BTreeMap;

use serde::Serialize;

use super::calls::{Call, Calls, is_over, judge};
use super::error::written;
use super::truth::{Incident, Truth};
use crate::engine::Core;
use crate::fleet::{PartitionId, PredictionState, Probability, Span, Timestamp};

/// One partition over its threshold of which nothing could be moved.
#[derive(Clone, Debug)]
pub(super) struct Held {
    partition: PartitionId,
    at: Timestamp,
    within: Span,
    probability: Probability,
    reasons: Vec<String>,
    relax: Vec<String>,
    /// When it was proposed after all.
    released: Option<Timestamp>,
}

impl Held {
    fn call(&self) -> Call {
        Call { partition: self.partition.clone(), at: self.at, within: self.within }
    }
}

/// Those of a replay, as they come.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    all: Vec<Held>,
    /// Partitions in an episode, with the number in `all`.
    open: BTreeMap<PartitionId, usize>,
}

impl HeldBack {
    /// Notes what the planner held in this cycle; `proposed` tells which partitions are in an episode that was
    /// proposed, `state` how each is.
    pub(super) fn look(
        &mut self,
        core: &Core,
        now: Timestamp,
        proposed: impl Fn(&PartitionId) -> bool,
        state: impl Fn(&PartitionId) -> PredictionState,
    ) {
        self.open.retain(|partition, _| !is_over(state(partition)));
        for (partition, number) in &self.open {
            if proposed(partition) {
                self.all[*number].released.get_or_insert(now);
            }
        }
        for ranked in core.ranking().iter().filter(|r| !proposed(&r.partition)) {
            let holds: Vec<_> = core.holds().iter().filter(|h| h.partition == ranked.partition).collect();
            if holds.is_empty() || self.open.contains_key(&ranked.partition) {
                continue;
            }
            self.open.insert(ranked.partition.clone(), self.all.len());
            self.all.push(Held {
                partition: ranked.partition.clone(),
                at: now,
                within: ranked.within,
                probability: ranked.probability,
                reasons: each_once(holds.iter().map(|h| &h.reason)),
                relax: each_once(holds.iter().map(|h| &h.relax)),
                released: None,
            });
        }
    }

    /// For the report.
    pub(super) fn report(&self, truth: &Truth, least_lead: Span) -> Vec<HeldPrediction> {
        self.all
            .iter()
            .map(|held| {
                let verdict = judge(&held.call(), truth, least_lead);
                HeldPrediction {
                    at: written(held.at),
                    partition: held.partition.to_string(),
                    within_s: held.within.as_seconds(),
                    probability: held.probability.get(),
                    reasons: held.reasons.clone(),
                    relax: held.relax.clone(),
                    proposed_at: held.released.map(written),
                    verdict: verdict.word().into(),
                    lead_s: verdict.lead().map(Span::as_seconds),
                }
            })
            .collect()
    }

    /// For each of these failures, what was predicted of it in time and held, where the calls did not save it.
    pub(super) fn missed<'a>(
        &self,
        failures: impl Iterator<Item = &'a Incident>,
        calls: &Calls<'_>,
        truth: &Truth,
        least_lead: Span,
    ) -> Vec<Option<HeldBefore>> {
        let own: Vec<Call> = self.all.iter().map(Held::call).collect();
        let own = Calls::of(&own);
        let in_time = |calls: &Calls<'_>, partition: &PartitionId, at: Timestamp| {
            let lead = at - calls.before(partition, at, truth)?.at;
            (lead >= least_lead).then_some(lead)
        };
        let before = |failure: &Incident| {
            let lost = failure.partitions.iter().filter(|p| in_time(calls, p, failure.at).is_none());
            let (lead, partition) = lost.filter_map(|p| Some((in_time(&own, p, failure.at)?, p))).min()?;
            let held = self.all.iter().find(|h| &h.partition == partition && h.at == failure.at - lead)?;
            Some(HeldBefore { lead_s: lead.as_seconds(), reasons: held.reasons.clone() })
        };
        failures.map(before).collect()
    }
}

fn each_once<'a>(words: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut words: Vec<String> = words.cloned().collect();
    words.sort();
    words.dedup();
    words
}

/// One partition that was predicted to fail, and of which nothing could be moved.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct HeldPrediction {
    /// When it was first held.
    pub at: String,
    /// The partition.
    pub partition: String,
    /// The window whose threshold was passed, in seconds.
    pub within_s: f64,
    /// With this probability.
    pub probability: f64,
    /// What held its workloads, each reason once.
    pub reasons: Vec<String>,
    /// The nearest changes that would have let them go.
    pub relax: Vec<String>,
    /// When it was proposed after all; `None` = never.
    pub proposed_at: Option<String>,
    /// What a proposal then would have been: `right`, `too late`, `needless`, `outcome unknown`, `undecided`.
    pub verdict: String,
    /// From the prediction to the failure, in seconds.
    pub lead_s: Option<f64>,
}

/// What was predicted of a failure that was missed, and held.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct HeldBefore {
    /// From the prediction to the failure, in seconds.
    pub lead_s: f64,
    /// What held it.
    pub reasons: Vec<String>,
}
