//! A fleet for the tests of the planner.

use std::collections::BTreeMap;

use super::*;
use crate::fleet::state::ServingState;
use crate::fleet::topology::Capacity;
use crate::fleet::{
    Bytes, HealthScore, Host, HostId, Partition, PartitionId, PredictionState, Probability, ProposalId,
    Share, Span, Timestamp, Topology, Workload,
};
use crate::predict::{
    Assessment, Calibration, Confidence, FailureForecast, HostRisk, Maturity, WorkloadProjection,
};

pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A fleet whose every value a test can change before it asks.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) topology: Topology,
    pub(super) assessments: Vec<Assessment>,
    pub(super) states: BTreeMap<PartitionId, PredictionState>,
    pub(super) loads: BTreeMap<PartitionId, Share>,
    pub(super) hosts: Vec<HostRisk>,
    pub(super) projections: Vec<WorkloadProjection>,
    pub(super) running: Vec<Running>,
    pub(super) ended: Vec<Ended>,
    pub(super) open: Vec<Proposal>,
    pub(super) vetoes: Vetoes,
    pub(super) avoided: BTreeMap<crate::fleet::WorkloadId, BTreeMap<PartitionId, String>>,
    pub(super) disputed: BTreeMap<crate::fleet::WorkloadId, String>,
    pub(super) options: PlanOptions,
    pub(super) request: Request,
}

pub(super) fn share(x: f64) -> Share {
    Share::new(x).unwrap()
}

pub(super) fn probability(x: f64) -> Probability {
    Probability::new(x).unwrap()
}

impl Scene {
    /// `sites` × 2 racks × `hosts` hosts, one partition each, one workload each with one copy on the
    /// host after next.
    pub(super) fn new(sites: usize, hosts: usize) -> Self {
        let mut topology = Topology { revision: crate::fleet::Revision(7), ..Topology::default() };
        for site in 0..sites {
            for rack in 0..2 {
                for h in 0..hosts {
                    let id = HostId::from(format!("s{site}-r{rack}-h{h}"));
                    topology.partitions.push(Partition {
                        id: PartitionId::of(&id, "p1"),
                        host: id.clone(),
                        class: "db".into(),
                        serving: ServingState::Active,
                        address: String::new(),
                    });
                    topology.hosts.push(Host {
                        id,
                        site: format!("s{site}").into(),
                        rack: format!("r{rack}").into(),
                        capacity: Some(Capacity {
                            data: Bytes(100_000_000_000),
                            data_used: Bytes(20_000_000_000),
                            load: share(0.3),
                        }),
                        labels: BTreeMap::new(),
                    });
                }
            }
        }
        topology.normalise();
        let partitions: Vec<PartitionId> = topology.partitions.iter().map(|p| p.id.clone()).collect();
        for (i, partition) in partitions.iter().enumerate() {
            topology.workloads.push(Workload {
                id: format!("w{i:02}").into(),
                application: "shop".into(),
                class: "db".into(),
                kind: "oltp".into(),
                partition: partition.clone(),
                replicas: vec![partitions[(i + 2) % partitions.len()].clone()],
                size: Bytes(4_000_000_000),
                writes_per_s: 50.0,
                requests_per_s: 100.0,
                depends_on: Vec::new(),
                stateless: false,
                generation: crate::fleet::Generation(3),
                labels: BTreeMap::new(),
            });
        }
        let mut scene = Scene {
            topology,
            assessments: Vec::new(),
            states: BTreeMap::new(),
            loads: BTreeMap::new(),
            hosts: Vec::new(),
            projections: Vec::new(),
            running: Vec::new(),
            ended: Vec::new(),
            open: Vec::new(),
            vetoes: Vetoes::default(),
            avoided: BTreeMap::new(),
            disputed: BTreeMap::new(),
            options: PlanOptions::default(),
            request: Request::Watch,
        };
        for id in partitions {
            scene.set(&id, 0.001, PredictionState::Healthy);
        }
        scene
    }

    /// What is predicted of a partition: the probability within the hour, and its state.
    pub(super) fn set(&mut self, id: &PartitionId, p: f64, state: PredictionState) {
        self.assessments.retain(|a| &a.partition != id);
        self.states.insert(id.clone(), state);
        if state == PredictionState::Unknown {
            return;
        }
        let failure = [(15, p / 4.0), (60, p), (1440, (p * 3.0).min(0.99))];
        self.assessments.push(Assessment {
            partition: id.clone(),
            at: NOW,
            expires: NOW + Span::minutes(3),
            health: HealthScore::clamped(100.0 - 70.0 * p),
            instability: Some(20.0 * p),
            anomaly: None,
            failure: failure
                .into_iter()
                .map(|(m, p)| FailureForecast {
                    within: Span::minutes(m),
                    probability: probability(p),
                    calibration: Calibration::Uncalibrated,
                })
                .collect(),
            why_health: Vec::new(),
            why_failure: Vec::new(),
            failure_base: 0.0,
            given_by: None,
            maturity: Maturity::Own,
            confidence: Confidence::default(),
        });
    }

    pub(super) fn fail(&mut self, partition: usize) -> PartitionId {
        let id = self.topology.partitions[partition].id.clone();
        self.set(&id, 0.71, PredictionState::PredictiveFailure);
        id
    }

    pub(super) fn workload(&mut self, id: &str) -> &mut Workload {
        self.topology.workloads.iter_mut().find(|w| w.id.as_str() == id).unwrap()
    }

    pub(super) fn input(&self) -> PlanInput<'_> {
        PlanInput {
            now: NOW,
            request: self.request.clone(),
            topology: &self.topology,
            assessments: &self.assessments,
            states: &self.states,
            loads: &self.loads,
            hosts: &self.hosts,
            projections: &self.projections,
            running: &self.running,
            ended: &self.ended,
            open: &self.open,
            vetoes: &self.vetoes,
            avoided: &self.avoided,
            disputed: &self.disputed,
            next: ProposalId(218),
            options: &self.options,
        }
    }

    pub(super) fn propose(&self) -> PlanOutput {
        propose(&self.input())
    }
}
