//! Which workloads move off a partition, and in which order.

use super::disruption::{disruption, impact};
use super::limits::{Denied, may_move};
use super::options::{CandidateRules, ClassPolicy, StateRule, has_label};
use super::world::World;
use crate::fleet::{Bytes, Span, Workload};

/// A workload that is to move, with what a move of it costs and saves.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) workload: &'a Workload,
    pub(super) class: ClassPolicy,
    pub(super) disruption: f64,
    /// Data to copy; what is at the destination already is taken off by the choice of destination.
    pub(super) data: Bytes,
    pub(super) duration: Span,
    /// What is saved by a second of moving; greatest first.
    urgency: f64,
}

/// Who asks decides which rules bind: a person's request overrides what only restrains the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    Engine,
    Person,
}

/// Whether a workload may move.
///
/// # Errors
/// The one reason why not.
pub(super) fn eligible(workload: &Workload, world: &World, asker: Asker) -> Result<(), Denied> {
    let options = world.input.options;
    if let Some(reason) = world.vetoed(workload) {
        return Err(denied(reason, "release the veto"));
    }
    if let Some(words) = world.input.disputed.get(&workload.id) {
        let relax =
            "look who really owns it, and let its system have it there or wait until the record follows";
        return Err(denied(words.clone(), relax));
    }
    may_move(&workload.id, world.traffic_now(), &options.limits, world.input.now)?;
    match asker {
        Asker::Person => Ok(()),
        Asker::Engine => rules(workload, &options.candidates, &options.class(&workload.class)),
    }
}

fn rules(workload: &Workload, rules: &CandidateRules, class: &ClassPolicy) -> Result<(), Denied> {
    if rules.state == StateRule::StatelessOnly && !workload.stateless {
        return Err(denied(
            "it has state, and only stateless workloads move".to_string(),
            "allow stateful workloads to move",
        ));
    }
    let has = |label: &(String, String)| has_label(&workload.labels, label);
    if let Some((key, _)) = rules.keep_labels.iter().find(|l| has(l)) {
        return Err(denied(format!("its label {key} keeps it where it is"), "remove the label"));
    }
    if let Some((key, _)) = rules.only_labels.iter().find(|l| !has(l)) {
        return Err(denied(format!("it has not the label {key} that lets a workload move"), "add the label"));
    }
    if let Some(most) = rules.most_data.filter(|most| workload.size > *most) {
        return Err(denied(
            format!("its {} are more than the {most} that may move", workload.size),
            "raise the most data of a move",
        ));
    }
    // A write is taken as 512 bytes on the wire; only an order of magnitude matters here.
    let change = workload.writes_per_s.max(0.0) * 512.0;
    if !workload.stateless && change > rules.most_write_share * class.bandwidth.max(1.0) {
        return Err(denied(
            format!("it changes by {} a second, the copy would not catch up", Bytes(change as u64)),
            "slow its writers or raise the class's bandwidth",
        ));
    }
    Ok(())
}

/// The candidate that a workload is.
pub(super) fn candidate<'a>(workload: &'a Workload, world: &World<'a>) -> Candidate<'a> {
    let class = world.input.options.class(&workload.class);
    let disruption = disruption(workload, &world.dependents);
    let data = if workload.stateless { Bytes(0) } else { workload.size };
    let duration = move_time(data, &class);
    let need = impact(workload, &world.dependents) * (2.0 - world.hps(&workload.id) / 100.0);
    // Smith's rule (1956): most saved by a second of moving first, which loses least in all.
    let urgency = need / (duration.as_seconds().max(1.0) * (1.0 + disruption / 100.0));
    Candidate { workload, class, disruption, data, duration, urgency }
}

/// How long a move of that much data takes.
pub(super) fn move_time(data: Bytes, class: &ClassPolicy) -> Span {
    let seconds = data.0 as f64 / class.bandwidth.max(1.0);
    class.overhead + Span((seconds * 1000.0).min(1e15) as i64)
}

/// Most saved by a second first; equal ones by name.
pub(super) fn order(candidates: &mut [Candidate]) {
    candidates
        .sort_by(|a, b| b.urgency.total_cmp(&a.urgency).then_with(|| a.workload.id.cmp(&b.workload.id)));
}

fn denied(reason: String, relax: &str) -> Denied {
    Denied { reason, until: None, relax: relax.to_string() }
}
