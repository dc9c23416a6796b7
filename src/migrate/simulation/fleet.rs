//! The simulated fleet of a seed, and the proposals that are to be carried out on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::drivers::Capabilities;
use crate::fleet::rng::Random;
use crate::fleet::topology::Capacity;
use crate::fleet::{
    Bytes, Generation, Host, HostId, Partition, PartitionId, Probability, ProposalId, Revision, ServingState,
    Share, Span, Timestamp, Topology, Workload,
};
use crate::plan::Proposal;
use crate::plan::proposal::{CanaryPlan, CanaryStep, Move, Outlook, Trigger};

/// Our record is the truth; the way back is proved before the cut.
pub(super) const PLAIN: &str = "plain";
/// The system itself votes.
pub(super) const VOTING: &str = "voting";
/// No data; traffic goes by share.
pub(super) const STATELESS: &str = "stateless";

/// What each class can do.
pub(super) fn capabilities(class: &str) -> Capabilities {
    let base = Capabilities {
        online: true,
        digest: true,
        reverse_proved_before_cut: true,
        reverse: true,
        fence_checked_by_target: true,
        canary_reads: true,
        canary_traffic: false,
        system_votes: false,
        follows: true,
        drops_source: false,
    };
    match class {
        VOTING => Capabilities { system_votes: true, reverse_proved_before_cut: false, ..base },
        STATELESS => Capabilities {
            digest: false,
            follows: false,
            reverse_proved_before_cut: false,
            canary_reads: false,
            ..base
        },
        _ => base,
    }
}

/// Hosts, partitions and workloads of a seed: 8 to 11 hosts, one partition each, three workloads on
/// each, in two sites and four racks.
pub(super) fn topology(random: &mut Random) -> Topology {
    let hosts = 8 + random.below(4);
    let mut topology = Topology { revision: Revision(1), ..Topology::default() };
    let partition_of = |i: usize| PartitionId::of(&HostId::new(format!("h{i:02}")), "");
    for i in 0..hosts {
        let id = HostId::new(format!("h{i:02}"));
        topology.hosts.push(Host {
            id: id.clone(),
            site: format!("s{}", i % 2).into(),
            rack: format!("r{}", i % 4).into(),
            capacity: Some(Capacity { data: Bytes(1 << 40), data_used: Bytes(0), load: Share::MIN }),
            labels: BTreeMap::new(),
        });
        topology.partitions.push(Partition {
            id: partition_of(i),
            host: id,
            class: PLAIN.to_string(),
            serving: ServingState::Active,
            address: String::new(),
        });
        for j in 0..3 {
            let class = match random.below(5) {
                0 | 1 => PLAIN,
                2 | 3 => VOTING,
                _ => STATELESS,
            };
            let replicated = random.chance(0.3);
            let replicas = (1..3).map(|k| partition_of((i + k) % hosts)).filter(|_| replicated).collect();
            topology.workloads.push(Workload {
                id: format!("w{i:02}-{j}").into(),
                application: "shop".into(),
                class: class.to_string(),
                kind: "oltp".to_string(),
                partition: partition_of(i),
                replicas,
                size: Bytes(1_000_000),
                writes_per_s: 10.0,
                requests_per_s: 100.0,
                depends_on: Vec::new(),
                stateless: class == STATELESS,
                generation: Generation(1),
                labels: BTreeMap::new(),
            });
        }
    }
    topology.normalise();
    topology
}

/// Hosts that every run empties; the others are kept for a run that comes to its end too early.
pub(super) const EMPTIED: usize = 7;

/// At least 20 moves in [`EMPTIED`] proposals: each empties one host.
pub(super) fn proposals(random: &mut Random, topology: &Topology, now: Timestamp) -> Vec<Arc<Proposal>> {
    (0..EMPTIED).map(|i| evacuation(random, topology, i, now)).collect()
}

/// The proposal that empties the `i`-th host.
pub(super) fn evacuation(
    random: &mut Random,
    topology: &Topology,
    i: usize,
    now: Timestamp,
) -> Arc<Proposal> {
    let partitions = &topology.partitions;
    let source = &partitions[i];
    let moves: Vec<Move> = topology
        .on_partition(&source.id)
        .map(|workload| {
            let mut to = random.below(partitions.len());
            if to == i {
                to = (to + 1) % partitions.len();
            }
            Move {
                workload: workload.id.clone(),
                class: workload.class.clone(),
                source: source.id.clone(),
                destination: partitions[to].id.clone(),
                generation: workload.generation,
                because: "healthy".to_string(),
                data: workload.size,
                duration: Span::seconds(2),
                blackout: Span::millis(20),
                disruption: 1.0,
                capabilities: capabilities(&workload.class),
                in_time: None,
            }
        })
        .collect();
    Arc::new(proposal(random, i as u64 + 1, source, moves, now))
}

fn proposal(random: &mut Random, id: u64, source: &Partition, moves: Vec<Move>, now: Timestamp) -> Proposal {
    let predicted = random.chance(0.5);
    let step = |share: f64| CanaryStep {
        share: Share::clamped(share).unwrap_or(Share::MIN),
        duration: Span::seconds(4),
    };
    let steps = match random.below(3) {
        0 => Vec::new(),
        1 => vec![step(0.25)],
        _ => vec![step(0.05), step(0.5)],
    };
    Proposal {
        id: ProposalId(id),
        trigger: match predicted {
            true => Trigger::PredictiveFailure {
                partition: source.id.clone(),
                within: Span::hours(1),
                probability: Probability::MAX,
            },
            false => Trigger::Operator { host: source.host.clone(), actor: "operator".to_string() },
        },
        title: format!("evacuate {}", source.id),
        moves,
        canary: CanaryPlan { steps, p99_tolerance: 0.3, latency_margin_ms: 0.2, min_samples: 8 },
        soak: Span::seconds(6),
        made: now,
        expires: now + Span::hours(if random.chance(0.15) { 1 } else { 12 }),
        topology: Revision(1),
        outlook: Outlook::default(),
        rejected: Vec::new(),
        risks: Vec::new(),
        blocked: None,
    }
}
