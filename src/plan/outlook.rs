//! What a plan changes: risk and load before and after, what happens if nothing is done, how it is
//! undone, and what may go wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::input::PlanInput;
use super::options::ClassPolicy;
use super::proposal::{CanaryPlan, Move, Outlook, Proposal};
use super::survival::{finish_times, survival};
use super::world::World;
use crate::fleet::{HostId, PartitionId, PredictionState, Probability, ServingState, Span, WorkloadId};

/// The outlook of `moves`, all of which leave their sources as planned.
pub(super) fn outlook(moves: &[Move], world: &World) -> Outlook {
    let (risk_before, risk_after) = risk(moves, world);
    Outlook {
        risk_before,
        risk_after,
        loads: loads(moves, world),
        if_nothing: if_nothing(moves, world),
        way_back: way_back(moves, world.input.options.soak),
    }
}

/// Workloads expected to be lost within the planning window, in the whole fleet: the sum of the
/// probabilities of their partitions. A moved one is lost where its source fails before it is off,
/// or else its destination fails.
fn risk(moves: &[Move], world: &World) -> (f64, f64) {
    let p = |partition: &PartitionId| world.probability(partition).map_or(0.0, Probability::get);
    let before: f64 = world.input.topology.workloads.iter().map(|w| p(&w.partition)).sum();
    let change: f64 = moves
        .iter()
        .map(|m| {
            let off = m.in_time.map_or(1.0, Probability::get);
            let after = (1.0 - off) + off * p(&m.destination);
            after.min(p(&m.source).max(p(&m.destination))) - p(&m.source)
        })
        .sum();
    (before, (before + change).max(0.0))
}

fn loads(moves: &[Move], world: &World) -> Vec<(HostId, f64, f64)> {
    let mut change: BTreeMap<HostId, f64> = BTreeMap::new();
    for m in moves {
        let Some(workload) = world.input.topology.workload(&m.workload) else { continue };
        let load = world.load_of(workload);
        for (partition, sign) in [(&m.source, -1.0), (&m.destination, 1.0)] {
            if let Some(host) = world.host_of(partition) {
                *change.entry(host.id.clone()).or_default() += sign * load;
            }
        }
    }
    change
        .into_iter()
        .filter_map(|(id, change)| {
            let before = world.input.topology.host(&id)?.capacity?.load.get();
            Some((id, before, (before + change).max(0.0)))
        })
        .collect()
}

fn if_nothing(moves: &[Move], world: &World) -> String {
    let (mut with_copy, mut without) = (Vec::new(), Vec::new());
    let (mut failover, mut restore) = (Span::ZERO, Span::ZERO);
    for m in moves {
        let Some(workload) = world.input.topology.workload(&m.workload) else { continue };
        let class = world.input.options.class(&m.class);
        if workload.replicas.is_empty() && !workload.stateless {
            without.push(&m.workload);
            restore = restore.max(class.restore);
        } else {
            with_copy.push(&m.workload);
            failover = failover.max(class.failover);
        }
    }
    let mut parts = Vec::new();
    if !with_copy.is_empty() {
        parts.push(format!("{} unavailable about {failover} until a copy takes over", names(&with_copy)));
    }
    if !without.is_empty() {
        parts.push(format!(
            "{} without a copy: about {restore} until restored from a backup",
            names(&without)
        ));
    }
    format!("{}: {}", threat(moves, world), parts.join("; "))
}

/// Less than that within the window is no threat to speak of.
const WORTH_SAYING: f64 = 0.01;

/// Sources that are named one by one; of more the first and the last are.
const NAMED: usize = 3;

/// What the sources are threatened by, the worst first: `with 28 % (h1/p2), 3 % (h1/p1) within 1 h`.
fn threat(moves: &[Move], world: &World) -> String {
    let sources: BTreeSet<&PartitionId> = moves.iter().map(|m| &m.source).collect();
    let out = |p: &PartitionId| {
        world.input.topology.partition(p).is_some_and(|p| p.serving == ServingState::Fenced)
    };
    let (dead, alive): (Vec<&PartitionId>, Vec<&PartitionId>) = sources.into_iter().partition(|p| out(p));
    let mut known: Vec<(Probability, &PartitionId)> =
        alive.iter().filter_map(|p| world.probability(p).map(|chance| (chance, *p))).collect();
    known.sort_by(|a, b| b.0.get().total_cmp(&a.0.get()).then(a.1.cmp(b.1)));
    let mut words = Vec::new();
    if !dead.is_empty() {
        let names: Vec<&str> = dead.iter().map(|p| p.as_str()).collect();
        words.push(format!("out of service already ({})", names.join(", ")));
    }
    if let (Some(worst), Some(least)) = (known.first(), known.last())
        && worst.0.get() >= WORTH_SAYING
    {
        let within = world.input.options.window.as_window();
        let each: Vec<String> = known.iter().map(|(chance, p)| format!("{chance} ({p})")).collect();
        words.push(match known.len() {
            _ if worst.0.to_string() == least.0.to_string() => format!("with {} within {within}", worst.0),
            n if n <= NAMED => format!("with {} within {within}", each.join(", ")),
            n => format!("with {} down to {} within {within}, {n} partitions", each[0], each[n - 1]),
        });
    }
    if words.is_empty() { "if the host fails".to_string() } else { words.join("; ") }
}

fn way_back(moves: &[Move], soak: Span) -> String {
    let blackout = moves.iter().map(|m| m.blackout).max().unwrap_or_default();
    let all = |can: fn(&Move) -> bool| moves.iter().all(can);
    if all(|m| m.capabilities.reverse_proved_before_cut) {
        format!("from any step; after the cut by switching back, about {blackout}, proved before the cut")
    } else if all(|m| m.capabilities.reverse) {
        format!("from any step; after the cut by switching back, about {blackout}, proved within {soak}")
    } else {
        "before the cut from any step; after it only by a new move the other way".to_string()
    }
}

/// What may go wrong and is not hidden: what drivers cannot do, too little time, copies that the
/// emptied partitions hold.
pub(super) fn risks(moves: &[Move], sources: &[PartitionId], world: &World) -> Vec<String> {
    let mut risks = Vec::new();
    let classes: BTreeSet<&str> = moves.iter().map(|m| m.class.as_str()).collect();
    for class in classes {
        missing(&world.input.options.class(class), &mut risks);
    }
    risks.extend(late(moves));
    for source in sources {
        let copies = world.copies(source);
        if !copies.is_empty() {
            let ids: Vec<&WorkloadId> = copies.iter().map(|w| &w.id).collect();
            risks.push(format!("{source} also holds copies, which stay there: {}", names(&ids)));
        }
        if world.live(source).is_none() {
            risks.push(silent(source));
        }
    }
    let blind: BTreeSet<&str> = moves
        .iter()
        .filter_map(|m| world.host_of(&m.destination))
        .filter(|h| h.capacity.is_none())
        .map(|h| h.id.as_str())
        .collect();
    for host in blind {
        risks.push(format!("nobody says what {host} can hold"));
    }
    risks
}

/// The moves that may not be done in time, in words.
fn late(moves: &[Move]) -> Vec<String> {
    let late = |m: &Move| {
        let p = m.in_time.filter(|p| p.get() < 0.9)?;
        Some(format!("{} is off before the failure with {p} only", m.workload))
    };
    moves.iter().filter_map(late).collect()
}

fn silent(source: &PartitionId) -> String {
    format!("nothing is known of {source} now: it may fail at any time")
}

/// The probability of each move that its work is off the source before that fails, in this order on the lanes that a
/// host has: it is copied and tried before the cut, and a lane is free again when the new owner has been watched.
pub(super) fn time(moves: &mut [Move], world: &World, canary: &CanaryPlan, soak: Span) {
    let limits = &world.input.options.limits;
    let steps = canary.steps.iter().fold(Span::ZERO, |all, step| all + step.duration);
    let tried = |m: &Move| match m.capabilities.canary_reads || m.capabilities.canary_traffic {
        true => steps,
        false => Span::ZERO,
    };
    let taken: Vec<Span> = moves.iter().map(|m| m.duration + tried(m) + soak).collect();
    let finish = finish_times(&taken, limits.host.min(limits.fleet));
    for (m, finish) in moves.iter_mut().zip(finish.into_iter().map(|finish| finish - soak)) {
        // Where nothing threatens the source there is nothing to be in time for.
        m.in_time = world
            .live(&m.source)
            .filter(|_| world.state(&m.source) != PredictionState::Healthy)
            .map(|a| survival(&a.failure, finish));
    }
}

/// Explains proposals that wait with what is known now: chances, outlook and the risks that come of them. What would
/// be executed, and so the hash, stays as it is.
pub fn look_again(waiting: &mut [Proposal], input: &PlanInput) {
    let world = World::new(input);
    for proposal in waiting {
        let sources: BTreeSet<PartitionId> = proposal.moves.iter().map(|m| m.source.clone()).collect();
        let mut old = late(&proposal.moves);
        old.extend(sources.iter().map(silent));
        proposal.risks.retain(|risk| !old.contains(risk));
        time(&mut proposal.moves, &world, &proposal.canary, proposal.soak);
        proposal.risks.extend(late(&proposal.moves));
        proposal.risks.extend(sources.iter().filter(|s| world.live(s).is_none()).map(silent));
        proposal.outlook = outlook(&proposal.moves, &world);
    }
}

fn missing(class: &ClassPolicy, risks: &mut Vec<String>) {
    let c = &class.capabilities;
    let mut miss = |has: bool, words: &str| {
        if !has {
            risks.push(format!("{}: {words}", class.class));
        }
    };
    miss(c.online, "serves nothing while it is being moved");
    miss(c.digest, "the data of both sides cannot be compared in full");
    miss(c.reverse, "no way back after the cut but a new move");
    miss(!c.reverse || c.reverse_proved_before_cut, "the way back is proved after the cut only");
    miss(c.canary_reads || c.canary_traffic, "nothing can be tried at the destination before the cut");
    miss(
        c.fence_checked_by_target || c.system_votes,
        "the target does not itself refuse a deposed leader's commands",
    );
}

/// `carts-04, orders-17 and 3 more`.
fn names(ids: &[&WorkloadId]) -> String {
    let shown: Vec<&str> = ids.iter().take(3).map(|id| id.as_str()).collect();
    match ids.len() {
        0..=3 => shown.join(", "),
        n => format!("{} and {} more", shown.join(", "), n - 3),
    }
}
