//! Risk → proposals. One pure call: the same input gives the same proposals, in the same order; a
//! what-if is this call on a changed copy.
//!
//! Sources (partitions that are expected to fail, or a host that a person wants empty) are ranked by
//! risk; for each host one proposal is made: who moves, in which order, where to, whether there is
//! time, what changes. What should move and does not is held with the one reason.

use std::collections::{BTreeMap, HashSet};

use super::candidates::{Asker, Candidate, candidate, eligible, move_time, order};
use super::destinations::{Reject, search};
use super::disruption::impact;
use super::footprint::discrepancy;
use super::input::{Hold, PlanAlert, PlanInput, PlanOutput, Ranked, Request};
use super::limits::{freeze, left_this_hour};
use super::outlook::{outlook, risks, time};
use super::proposal::{Move, Proposal, Rejected, Trigger};
use super::storm::storm;
use super::world::World;
use crate::fleet::{
    Bytes, HostId, PartitionId, PredictionState, Probability, ProposalId, ServingState, Span, Workload,
};
use crate::protocol::Severity;

/// Rejected destinations that are kept for a proposal.
const MOST_REJECTED: usize = 12;

/// Makes the proposals that the input asks for. Nothing is proposed on account of a partition that
/// is unknown, fenced or decommissioned; what is in an open proposal or on its way is left alone.
pub fn propose(input: &PlanInput) -> PlanOutput {
    let mut world = World::new(input);
    let mut output = PlanOutput { ranking: ranking(&world), ..PlanOutput::default() };
    match &input.request {
        Request::Watch => watch(&mut world, &mut output),
        Request::EvacuateHost { host, actor } => evacuate(host, actor, &mut world, &mut output),
    }
    output.holds.sort_by(|a, b| a.workload.cmp(&b.workload));
    output
}

/// Partitions to be emptied together, all on one host.
struct Group {
    trigger: Trigger,
    title: String,
    partitions: Vec<PartitionId>,
    asker: Asker,
}

fn watch(world: &mut World, output: &mut PlanOutput) {
    let ranking = output.ranking.clone();
    let failing: Vec<&PartitionId> = ranking.iter().map(|r| &r.partition).collect();
    output.storm = storm(&failing, world);
    if let Some(reason) = &output.storm {
        output.alerts.push(alert(Severity::Critical, "fleet", reason.clone()));
    }
    let groups = failing_hosts(&ranking, world);
    for group in &groups {
        for partition in &group.partitions {
            if let Some(host) = world.host_of(partition) {
                let host = host.id.clone();
                world.empty_host(&host);
            }
        }
    }
    let mut left = left_this_hour(world.traffic_now(), &world.input.options.limits, world.input.now);
    for group in groups {
        plan_group(group, world, output, &mut left);
    }
    if output.storm.is_none() {
        rebalance(world, output, &mut left);
    }
}

/// Partitions over their threshold, by risk. A partition counts when its state machine says so, or
/// when it is suspect on a host whose Failure Risk Score is over the host's threshold.
fn ranking(world: &World) -> Vec<Ranked> {
    let options = world.input.options;
    let risky: HashSet<&HostId> = world
        .input
        .hosts
        .iter()
        .filter(|h| h.risk.is_some_and(|r| r >= options.host_risk))
        .map(|h| &h.host)
        .collect();
    let mut ranking: Vec<Ranked> = world
        .input
        .topology
        .partitions
        .iter()
        .filter(|p| !matches!(p.serving, ServingState::Fenced | ServingState::Decommissioned))
        .filter(|p| match world.state(&p.id) {
            PredictionState::PredictiveFailure => true,
            PredictionState::Suspect => risky.contains(&p.host),
            _ => false,
        })
        .filter_map(|p| {
            let live = world.live(&p.id)?;
            let planning = world.probability(&p.id)?;
            let (within, probability) = options
                .thresholds
                .iter()
                .filter_map(|t| live.failure_within(t.within).map(|found| (t, found)))
                .find(|(t, found)| found.get() >= t.on.get())
                .map_or((options.window, planning), |(t, found)| (t.within, found));
            let hosted = world.hosted(&p.id);
            let impact: f64 = hosted.iter().map(|w| impact(w, &world.dependents)).sum();
            Some(Ranked {
                partition: p.id.clone(),
                within,
                probability,
                impact,
                risk: planning.get() * impact,
                data: hosted.iter().map(|w| w.size).sum(),
            })
        })
        .collect();
    ranking.sort_by(|a, b| b.risk.total_cmp(&a.risk).then_with(|| a.partition.cmp(&b.partition)));
    ranking
}

/// One group a host, in the order of the ranking.
fn failing_hosts(ranking: &[Ranked], world: &World) -> Vec<Group> {
    let mut groups: Vec<(HostId, Group)> = Vec::new();
    for ranked in ranking {
        let host = world.host_of(&ranked.partition).map_or_else(|| ranked.partition.host(), |h| h.id.clone());
        if let Some((_, group)) = groups.iter_mut().find(|(h, _)| *h == host) {
            group.partitions.push(ranked.partition.clone());
            group.title = format!("evacuate {} partitions of {host}", group.partitions.len());
            continue;
        }
        let trigger = Trigger::PredictiveFailure {
            partition: ranked.partition.clone(),
            within: ranked.within,
            probability: ranked.probability,
        };
        let title = format!("evacuate {}", ranked.partition);
        let group =
            Group { trigger, title, partitions: vec![ranked.partition.clone()], asker: Asker::Engine };
        groups.push((host, group));
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn evacuate(host: &HostId, actor: &str, world: &mut World, output: &mut PlanOutput) {
    if world.input.topology.host(host).is_none() {
        let text = format!("there is no host {host}");
        output.alerts.push(alert(Severity::Warning, host.as_str(), text));
        return;
    }
    let partitions: Vec<PartitionId> =
        world.input.topology.partitions.iter().filter(|p| &p.host == host).map(|p| p.id.clone()).collect();
    world.empty_host(host);
    let trigger = Trigger::Operator { host: host.clone(), actor: actor.to_string() };
    let title = format!("evacuate {host}");
    let group = Group { trigger, title, partitions, asker: Asker::Person };
    plan_group(group, world, output, &mut { usize::MAX });
}

/// Moves what stands off the desired footprint, where that is more than the discrepancy allows.
fn rebalance(world: &mut World, output: &mut PlanOutput, left: &mut usize) {
    let limit = world.input.options.footprint_discrepancy;
    let (misplaced, share) = discrepancy(world);
    if misplaced.is_empty() || limit >= crate::fleet::Share::MAX || share <= limit {
        return;
    }
    let taken: HashSet<PartitionId> = output.ranking.iter().map(|r| r.partition.clone()).collect();
    let workloads: Vec<&Workload> =
        misplaced.iter().map(|m| m.workload).filter(|w| !taken.contains(&w.partition)).collect();
    let sources: Vec<PartitionId> = {
        let mut ids: Vec<PartitionId> = workloads.iter().map(|w| w.partition.clone()).collect();
        ids.sort();
        ids.dedup();
        ids
    };
    let group = Group {
        trigger: Trigger::Footprint { discrepancy: share },
        title: format!("rebalance {} workloads (footprint {share} off)", workloads.len()),
        partitions: sources,
        asker: Asker::Engine,
    };
    plan_workloads(group, workloads, world, output, left);
}

fn plan_group(group: Group, world: &mut World, output: &mut PlanOutput, left: &mut usize) {
    let topology = world.input.topology;
    let mut workloads = Vec::new();
    for partition in &group.partitions {
        let serving = topology.partition(partition).map_or(ServingState::Fenced, |p| p.serving);
        let barred = match serving {
            ServingState::Fenced => Some("its partition is fenced, nothing acts on it"),
            ServingState::Decommissioned => Some("its partition is decommissioned"),
            _ => None,
        };
        for &workload in world.hosted(partition) {
            match barred {
                Some(reason) => output.holds.push(hold(workload, reason, "end the fence first")),
                None => workloads.push(workload),
            }
        }
    }
    plan_workloads(group, workloads, world, output, left);
}

fn plan_workloads<'a>(
    group: Group,
    workloads: Vec<&'a Workload>,
    world: &mut World<'a>,
    output: &mut PlanOutput,
    left: &mut usize,
) {
    let mut candidates = Vec::new();
    let mut open = 0usize;
    for workload in workloads {
        if world.is_proposed(&workload.id) {
            open += 1;
            continue;
        }
        match eligible(workload, world, group.asker) {
            Ok(()) => candidates.push(candidate(workload, world)),
            Err(denied) => output.holds.push(Hold {
                workload: workload.id.clone(),
                partition: workload.partition.clone(),
                reason: denied.reason,
                until: denied.until,
                relax: denied.relax,
            }),
        }
    }
    order(&mut candidates);
    let mut draft = Draft::default();
    for candidate in candidates {
        if draft.moves.len() >= *left {
            let reason = "as many moves as an hour may have are planned or running";
            output.holds.push(hold(candidate.workload, reason, "wait or raise the moves per hour"));
            continue;
        }
        draft.take(candidate, world, output);
    }
    *left = left.saturating_sub(draft.moves.len());
    if draft.moves.is_empty() {
        if open == 0 && !output.holds.is_empty() && group.asker == Asker::Engine {
            let subject = group.partitions.first().map_or("fleet", |p| p.as_str());
            let text = format!("nothing can be moved: {}", output.holds[output.holds.len() - 1].reason);
            output.alerts.push(alert(Severity::Critical, subject, text));
        }
        return;
    }
    let proposal = draft.finish(group, world, output);
    output.proposals.push(proposal);
}

/// A proposal in the making.
#[derive(Default)]
struct Draft {
    moves: Vec<Move>,
    risks: Vec<String>,
    rejected: BTreeMap<(String, String), Vec<crate::fleet::WorkloadId>>,
}

impl Draft {
    fn take<'a>(&mut self, candidate: Candidate<'a>, world: &mut World<'a>, output: &mut PlanOutput) {
        let workload = candidate.workload;
        let search = search(&candidate, world);
        for (partition, reject) in search.rejected.iter().filter(|r| r.1 != Reject::Class).take(4) {
            let key = (partition.to_string(), reject.words());
            self.rejected.entry(key).or_default().push(workload.id.clone());
        }
        let destination = match search.found {
            Ok(destination) => destination,
            Err((reason, relax)) => {
                output.holds.push(Hold {
                    workload: workload.id.clone(),
                    partition: workload.partition.clone(),
                    reason,
                    until: None,
                    relax,
                });
                return;
            }
        };
        if let Some(missed) = destination.preferred_missed {
            output.alerts.push(alert(Severity::Warning, workload.id.as_str(), missed));
        }
        for risk in destination.risks {
            if !self.risks.contains(&risk) {
                self.risks.push(risk);
            }
        }
        world.place(workload, &destination.partition);
        let data = if destination.has_copy { Bytes(0) } else { candidate.data };
        let duration =
            if destination.has_copy { move_time(data, &candidate.class) } else { candidate.duration };
        self.moves.push(Move {
            workload: workload.id.clone(),
            class: workload.class.clone(),
            source: workload.partition.clone(),
            destination: destination.partition,
            generation: workload.generation,
            because: destination.because,
            data,
            duration,
            blackout: candidate.class.blackout,
            disruption: candidate.disruption,
            capabilities: candidate.class.capabilities,
            in_time: None,
        });
    }

    fn finish(mut self, group: Group, world: &World, output: &PlanOutput) -> Proposal {
        let input = world.input;
        let options = input.options;
        time(&mut self.moves, world, &options.canary, options.soak);
        let mut all_risks = risks(&self.moves, &group.partitions, world);
        all_risks.splice(0..0, self.risks);
        let blocked = match group.asker {
            Asker::Engine => blocked(&group, world, output),
            Asker::Person => None,
        };
        if group.asker == Asker::Person
            && let Some(frozen) = freeze(&options.limits, input.now)
        {
            all_risks.push(frozen.reason);
        }
        Proposal {
            id: ProposalId(input.next.0 + output.proposals.len() as u64),
            trigger: group.trigger,
            title: group.title,
            outlook: outlook(&self.moves, world),
            moves: self.moves,
            canary: options.canary.clone(),
            soak: options.soak,
            made: input.now,
            expires: input.now + options.valid_for,
            topology: input.topology.revision,
            rejected: rejected(self.rejected),
            risks: all_risks,
            blocked,
        }
    }
}

/// Why a proposal that the engine made itself cannot be carried out now.
fn blocked(group: &Group, world: &World, output: &PlanOutput) -> Option<String> {
    let limits = &world.input.options.limits;
    if let Some(storm) = &output.storm {
        return Some(storm.clone());
    }
    if let Some(frozen) = freeze(limits, world.input.now) {
        return Some(frozen.reason);
    }
    let topology = world.input.topology;
    let mut hosts: HashSet<&str> = HashSet::new();
    for partition in &topology.partitions {
        let away =
            matches!(world.state(&partition.id), PredictionState::Evacuating | PredictionState::Evacuated)
                || matches!(partition.serving, ServingState::Migrating | ServingState::Standby);
        if away {
            hosts.insert(partition.host.as_str());
        }
    }
    let own: HashSet<&str> =
        group.partitions.iter().filter_map(|p| topology.partition(p)).map(|p| p.host.as_str()).collect();
    if matches!(group.trigger, Trigger::Footprint { .. }) || own.is_subset(&hosts) {
        return None;
    }
    let most = ((topology.hosts.len() as f64 * limits.share_of_hosts.get()).ceil() as usize).max(1);
    (hosts.len() >= most).then(|| {
        let all = topology.hosts.len();
        format!("{} of {all} hosts are emptied or emptying, {} may be", hosts.len(), limits.share_of_hosts)
    })
}

fn rejected(found: BTreeMap<(String, String), Vec<crate::fleet::WorkloadId>>) -> Vec<Rejected> {
    let mut rejected: Vec<(usize, Rejected)> = found
        .into_iter()
        .map(|((candidate, reason), workloads)| {
            let workload = if workloads.len() == 1 { workloads.first().cloned() } else { None };
            (workloads.len(), Rejected { workload, candidate, reason })
        })
        .collect();
    rejected.sort_by_key(|r| std::cmp::Reverse(r.0));
    rejected.into_iter().take(MOST_REJECTED).map(|r| r.1).collect()
}

fn hold(workload: &Workload, reason: &str, relax: &str) -> Hold {
    Hold {
        workload: workload.id.clone(),
        partition: workload.partition.clone(),
        reason: reason.to_string(),
        until: None,
        relax: relax.to_string(),
    }
}

fn alert(severity: Severity, subject: &str, text: String) -> PlanAlert {
    PlanAlert { severity, subject: subject.to_string(), text }
}

/// Whether `probability` is one at which the planner would act, for screens that mark it.
pub fn is_over(probability: Probability, within: Span, input: &PlanInput) -> bool {
    input.options.thresholds.iter().any(|t| t.within == within && probability.get() >= t.on.get())
}
