//! The planner's view of its input: everything by name, built once a plan, and what the plan itself
//! has already placed.

use std::collections::{HashMap, HashSet};

use super::disruption::Dependents;
use super::input::PlanInput;
use super::limits::Traffic;
use crate::fleet::{
    Bytes, Host, HostId, Partition, PartitionId, PredictionState, Probability, Workload, WorkloadId,
};
use crate::predict::{Assessment, WorkloadProjection};

/// The input by name.
pub(super) struct World<'a> {
    pub(super) input: &'a PlanInput<'a>,
    pub(super) dependents: Dependents<'a>,
    assessments: HashMap<&'a PartitionId, &'a Assessment>,
    hosted: HashMap<&'a PartitionId, Vec<&'a Workload>>,
    /// Partitions that hold copies, and of whose workloads.
    copies: HashMap<&'a PartitionId, Vec<&'a Workload>>,
    projections: HashMap<&'a WorkloadId, &'a WorkloadProjection>,
    proposed: HashSet<&'a WorkloadId>,
    /// Requests per second of all workloads on a host, and how many they are.
    traffic: HashMap<&'a HostId, (f64, u32)>,
    /// Hosts that are being emptied; nothing goes there.
    draining: HashSet<HostId>,
    /// Workloads that this plan, open proposals and running moves bring to a partition.
    arriving: HashMap<PartitionId, Vec<&'a Workload>>,
}

impl<'a> World<'a> {
    pub(super) fn new(input: &'a PlanInput<'a>) -> Self {
        let topology = input.topology;
        let mut hosted: HashMap<&PartitionId, Vec<&Workload>> = HashMap::new();
        for workload in &topology.workloads {
            hosted.entry(&workload.partition).or_default().push(workload);
        }
        let mut copies: HashMap<&PartitionId, Vec<&Workload>> = HashMap::new();
        for workload in &topology.workloads {
            for replica in &workload.replicas {
                copies.entry(replica).or_default().push(workload);
            }
        }
        let mut traffic: HashMap<&HostId, (f64, u32)> = HashMap::new();
        for partition in &topology.partitions {
            let (requests, count) = traffic.entry(&partition.host).or_default();
            for workload in hosted.get(&partition.id).map_or(&[][..], Vec::as_slice) {
                *requests += requests_of(workload);
                *count += 1;
            }
        }
        let mut world = World {
            input,
            dependents: Dependents::of(topology),
            assessments: input
                .assessments
                .iter()
                .filter(|a| a.expires >= input.now && a.health.is_some())
                .map(|a| (&a.partition, a))
                .collect(),
            hosted,
            copies,
            projections: input.projections.iter().map(|p| (&p.workload, p)).collect(),
            proposed: HashSet::new(),
            traffic,
            draining: HashSet::new(),
            arriving: HashMap::new(),
        };
        for running in input.running {
            world.arrive(&running.workload, &running.destination);
            world.drain(running.source.clone());
        }
        for m in input.open.iter().flat_map(|p| &p.moves) {
            world.proposed.insert(&m.workload);
            world.arrive(&m.workload, &m.destination);
            world.drain(m.source.clone());
        }
        world
    }

    fn arrive(&mut self, workload: &WorkloadId, destination: &PartitionId) {
        if let Some(workload) = self.input.topology.workload(workload) {
            self.place(workload, destination);
        }
    }

    fn drain(&mut self, partition: PartitionId) {
        let host = self.host_of(&partition).map_or_else(|| partition.host(), |h| h.id.clone());
        self.draining.insert(host);
    }

    /// Nothing goes to this host any more.
    pub(super) fn empty_host(&mut self, host: &HostId) {
        self.draining.insert(host.clone());
    }

    /// This plan brings `workload` to `destination`.
    pub(super) fn place(&mut self, workload: &'a Workload, destination: &PartitionId) {
        self.arriving.entry(destination.clone()).or_default().push(workload);
    }

    pub(super) fn is_draining(&self, host: &HostId) -> bool {
        self.draining.contains(host)
    }

    /// The assessment of a partition, where it is known and has not expired.
    pub(super) fn live(&self, partition: &PartitionId) -> Option<&'a Assessment> {
        self.assessments.get(partition).copied()
    }

    /// The probability that it fails within the planning window.
    pub(super) fn probability(&self, partition: &PartitionId) -> Option<Probability> {
        self.live(partition).and_then(|a| a.failure_within(self.input.options.window))
    }

    /// Its prediction state; unknown where its assessment has expired, whatever the state says.
    pub(super) fn state(&self, partition: &PartitionId) -> PredictionState {
        if self.live(partition).is_none() {
            return PredictionState::Unknown;
        }
        self.input.states.get(partition).copied().unwrap_or(PredictionState::Unknown)
    }

    pub(super) fn host_of(&self, partition: &PartitionId) -> Option<&'a Host> {
        self.input.topology.host_of(partition)
    }

    pub(super) fn hosted(&self, partition: &PartitionId) -> &[&'a Workload] {
        self.hosted.get(partition).map_or(&[], Vec::as_slice)
    }

    /// Whether it holds a copy of any workload.
    pub(super) fn holds_copies(&self, partition: &PartitionId) -> bool {
        self.copies.contains_key(partition)
    }

    /// The workloads of which it holds a copy.
    pub(super) fn copies(&self, partition: &PartitionId) -> &[&'a Workload] {
        self.copies.get(partition).map_or(&[], Vec::as_slice)
    }

    /// What this plan, open proposals and running moves bring there.
    pub(super) fn arriving(&self, partition: &PartitionId) -> &[&'a Workload] {
        self.arriving.get(partition).map_or(&[], Vec::as_slice)
    }

    /// Health Projection Score; 50 where unknown: neither first nor last.
    pub(super) fn hps(&self, workload: &WorkloadId) -> f64 {
        self.projections.get(workload).and_then(|p| p.hps).map_or(50.0, |h| h.get())
    }

    /// Why a person has forbidden to touch it.
    pub(super) fn vetoed(&self, workload: &Workload) -> Option<String> {
        self.input.vetoes.on(workload, self.input.topology)
    }

    /// Why a person has forbidden to touch a partition.
    pub(super) fn vetoed_place(&self, partition: &Partition) -> Option<String> {
        self.input.vetoes.at(partition)
    }

    /// It is in an open proposal.
    pub(super) fn is_proposed(&self, workload: &WorkloadId) -> bool {
        self.proposed.contains(workload)
    }

    pub(super) fn traffic_now(&self) -> Traffic<'a> {
        Traffic { running: self.input.running, ended: self.input.ended }
    }

    /// The share of its host's processing that a workload makes: by requests, evenly where nobody
    /// counts them.
    pub(super) fn load_of(&self, workload: &Workload) -> f64 {
        let Some(host) = self.host_of(&workload.partition) else { return 0.0 };
        let Some(capacity) = host.capacity else { return 0.0 };
        let (requests, count) = self.traffic.get(&host.id).copied().unwrap_or((0.0, 0));
        let share =
            if requests > 0.0 { requests_of(workload) / requests } else { 1.0 / f64::from(count.max(1)) };
        capacity.load.get() * share
    }

    /// The load of a partition after `workload` and all that is on its way have come; `None` where
    /// nobody says what it is now. A request costs there what its own cost now; where it has none, what
    /// the workload costs at its present place.
    pub(super) fn partition_load_after(&self, partition: &PartitionId, workload: &Workload) -> Option<f64> {
        let now = self.input.loads.get(partition)?.get();
        let requests: f64 = self.hosted(partition).iter().map(|w| requests_of(w)).sum();
        let cost = |w: &Workload| {
            if requests > 0.0 { now * requests_of(w) / requests } else { self.cost_at_home(w) }
        };
        let coming = self.arriving(partition).iter().filter(|w| w.id != workload.id);
        Some(now + cost(workload) + coming.map(|w| cost(w)).sum::<f64>())
    }

    /// The part of its own partition's load that a workload makes.
    fn cost_at_home(&self, workload: &Workload) -> f64 {
        let Some(load) = self.input.loads.get(&workload.partition) else { return self.load_of(workload) };
        let hosted = self.hosted(&workload.partition);
        let requests: f64 = hosted.iter().map(|w| requests_of(w)).sum();
        let share =
            if requests > 0.0 { requests_of(workload) / requests } else { 1.0 / hosted.len().max(1) as f64 };
        load.get() * share
    }

    /// Data and load that arrive on a host by this plan, open proposals and running moves.
    pub(super) fn arriving_on(&self, host: &HostId) -> (Bytes, f64) {
        let here = self.arriving.iter().filter(|(partition, _)| {
            self.input.topology.partition(partition).is_some_and(|p| &p.host == host)
        });
        let (mut data, mut load) = (0u64, 0.0);
        let mut workloads: Vec<&Workload> = here.flat_map(|(_, w)| w.iter().copied()).collect();
        workloads.sort_by(|a, b| a.id.cmp(&b.id));
        for workload in workloads {
            data = data.saturating_add(workload.size.0);
            load += self.load_of(workload);
        }
        (Bytes(data), load)
    }
}

fn requests_of(workload: &Workload) -> f64 {
    if workload.requests_per_s.is_finite() { workload.requests_per_s.max(0.0) } else { 0.0 }
}
