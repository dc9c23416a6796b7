//! The pseudocode of the five designs, walked over the real predictor and planner, as far as these
//! two go; what is then done to real systems is walked by the migration's tests.

use std::collections::BTreeMap;

use super::test_scene::{NOW, Scene, probability, share};
use super::threshold::{AdaptiveThreshold, Feedback, Surroundings};
use super::*;
use crate::fleet::rng::Random;
use crate::fleet::{HealthScore, PartitionId, PredictionState, Probability, Span, Timestamp};
use crate::predict::{
    AssessOptions, Assessor, Context, Evacuation, HostRisk, HysteresisOptions, PredictionMachine,
    WorkloadProjection,
};
use crate::telemetry::{CANONICAL, Ingest, PartitionIx, Windows, WindowsConfig};

/// A measured fleet over the partitions of a scene: samples in, assessments and states out.
struct Measured {
    windows: Windows,
    assessor: Assessor,
    machines: Vec<PredictionMachine>,
    ids: Vec<PartitionId>,
    random: Random,
    now: Timestamp,
}

impl Measured {
    fn over(scene: &Scene) -> Self {
        let ids: Vec<PartitionId> = scene.topology.partitions.iter().map(|p| p.id.clone()).collect();
        let start = NOW - Span::minutes(30);
        let mut measured = Measured {
            windows: Windows::new(WindowsConfig::default(), start),
            assessor: Assessor::new(AssessOptions::default()),
            machines: vec![PredictionMachine::new(start); ids.len()],
            ids,
            random: Random::new(5),
            now: start,
        };
        let config = WindowsConfig { step: Span::minutes(5), len: 600, ..WindowsConfig::default() };
        let mut history = Windows::new(config, start);
        for slot in 0..600 {
            let at = history.tail() + Span(config.step.0 * slot);
            measured.sample(&mut history, at, 1.0, usize::MAX);
        }
        measured.assessor.observe_history(&history);
        measured
    }

    fn sample(&mut self, into: &mut Windows, at: Timestamp, severity: f32, sick: usize) {
        for (p, id) in self.ids.clone().iter().enumerate() {
            for (m, metric) in CANONICAL.iter().enumerate() {
                let ill = matches!(metric.name, "disk.write_latency" | "log.errors" | "disk.read_latency");
                let level = (5.0 + m as f32) * if p == sick && ill { severity } else { 1.0 };
                let series = into.series(id, metric.name);
                into.push(series, at, level * (1.0 + 0.04 * self.random.normal() as f32));
            }
        }
    }

    /// One cycle: samples, assessment, states.
    fn cycle(&mut self, scene: &mut Scene, severity: f32, sick: usize) {
        self.now += self.windows.config().step;
        let mut windows = self.windows.clone();
        windows.advance(self.now);
        self.sample(&mut windows, self.now, severity, sick);
        self.windows = windows;
        let context = Context { topology: &scene.topology, failures: &[] };
        scene.assessments = self.assessor.assess(&self.windows, &context, self.now).to_vec();
        scene.states = BTreeMap::new();
        for (p, machine) in self.machines.iter_mut().enumerate() {
            let reading = self.assessor.reading(PartitionIx(p as u32));
            machine.step(reading, Evacuation::None, &HysteresisOptions::default(), self.now);
            scene.states.insert(self.ids[p].clone(), machine.state());
        }
    }
}

/// `if (prediction_probability > migration_threshold) { candidates = select…; for each … }`, from
/// collected metrics, through the anomaly, the health score and the predictive-failure state.
#[test]
fn design_11366728_a_falling_health_score_starts_a_migration_before_the_failure() {
    let mut scene = Scene::new(2, 3);
    let mut measured = Measured::over(&scene);
    for _ in 0..40 {
        measured.cycle(&mut scene, 1.0, 2);
    }
    assert!(scene.states.values().all(|s| *s == PredictionState::Healthy), "{:?}", scene.states);
    assert!(scene.propose().proposals.is_empty(), "under the threshold nothing is initiated");
    let before = scene.assessments[2].health.unwrap();
    let mut severity = 1.0;
    for _ in 0..20 {
        severity *= 1.25;
        measured.cycle(&mut scene, severity, 2);
    }
    let sick = &scene.assessments[2];
    assert!(sick.health.unwrap() < before);
    assert_eq!(scene.states[&measured.ids[2]], PredictionState::PredictiveFailure);
    let mut input = scene.input();
    input.now = measured.now;
    let plan = propose(&input);
    assert_eq!(plan.proposals.len(), 1);
    let moves = &plan.proposals[0].moves;
    assert!(moves.iter().all(|m| m.source == measured.ids[2]));
    assert!(moves.iter().all(|m| scene.states[&m.destination] == PredictionState::Healthy));
    assert!(matches!(plan.proposals[0].trigger, Trigger::PredictiveFailure { .. }));
}

/// `Identify shards hosted on the failing node. Select healthy destination nodes with sufficient
/// capacity … consistent hashing`; nodes over their thresholds are listed by risk.
#[test]
fn design_10133646_shards_of_the_riskiest_node_go_to_healthy_nodes_with_room() {
    let mut scene = Scene::new(2, 4);
    scene.fail(0);
    let worse = scene.topology.partitions[5].id.clone();
    scene.set(&worse, 0.95, PredictionState::PredictiveFailure);
    let shard = scene.topology.workloads[6].id.to_string();
    scene.workload(&shard).partition = worse.clone();
    let full = scene.topology.hosts[7].id.clone();
    let at = scene.topology.hosts.iter().position(|h| h.id == full).unwrap();
    scene.topology.hosts[at].capacity.as_mut().unwrap().data_used =
        scene.topology.hosts[at].capacity.unwrap().data;
    let plan = scene.propose();
    assert_eq!(plan.ranking[0].partition, worse, "prioritised by risk");
    assert!(plan.ranking.windows(2).all(|r| r[0].risk >= r[1].risk));
    let moves = &plan.proposals[0].moves;
    assert_eq!(moves.len(), 2, "every shard of the node");
    assert!(moves.iter().all(|m| m.destination.host() != full));
}

/// `pfp = map_instability_to_pfp(score); if pfp > threshold: select_workloads_for_shift …`, and the
/// threshold that feedback moves.
#[test]
fn design_11477105_instability_maps_to_a_probability_and_feedback_moves_the_threshold() {
    let mut scene = Scene::new(1, 3);
    let mut measured = Measured::over(&scene);
    for _ in 0..40 {
        measured.cycle(&mut scene, 1.0, 1);
    }
    let mut last = (0.0, Probability::MIN);
    for severity in [1.0, 1.6, 2.5, 4.0, 8.0] {
        for _ in 0..5 {
            measured.cycle(&mut scene, severity, 1);
        }
        let a = &scene.assessments[1];
        let now = (a.instability.unwrap(), a.failure_within(Span::hours(1)).unwrap());
        assert!(severity == 1.0 || now.0 > last.0 && now.1 > last.1, "{severity}: {now:?} {last:?}");
        last = now;
    }
    let around = Surroundings { load: share(0.3), congestion: share(0.0), failures_by_usual: 1.0 };
    let mut threshold = AdaptiveThreshold::default();
    let base = probability(0.5);
    threshold.learn(Feedback::Needless);
    assert!(threshold.of(base, around) > base);
    (0..6).for_each(|_| threshold.learn(Feedback::Needed));
    assert!(threshold.of(base, around) < base);
    // The least disruptive of equals goes first.
    let source = scene.fail(0);
    scene.workload("w01").partition = source.clone();
    scene.workload("w02").depends_on = vec!["w00".into()];
    scene.workload("w03").depends_on = vec!["w00".into()];
    for i in 1..6 {
        let id = scene.topology.partitions[i].id.clone();
        scene.set(&id, 0.001, PredictionState::Healthy);
    }
    let plan = scene.propose();
    let of = |w: &str| plan.proposals[0].moves.iter().find(|m| m.workload.as_str() == w).unwrap().disruption;
    assert!(of("w00") > of("w01"), "who is needed by more is more disruptive to move");
}

/// `if assess_resource_risk(host): if preferred_target is available: transfer … else:
/// log_migration_failure(host)`.
#[test]
fn design_11121981_a_risky_host_goes_to_its_preferred_target_and_its_absence_is_logged() {
    let mut scene = Scene::new(2, 3);
    let source = scene.topology.partitions[0].id.clone();
    let host = scene.topology.hosts[0].id.clone();
    scene.set(&source, 0.3, PredictionState::Suspect);
    scene.hosts = vec![HostRisk {
        host: host.clone(),
        risk: Some(probability(0.4)),
        confidence: 0.8,
        least: None,
        within: Span::hours(1),
        known: (1, 1),
    }];
    assert!(scene.propose().proposals.is_empty(), "under the host's threshold");
    scene.hosts[0].risk = Some(probability(0.8));
    let target = scene.topology.hosts[8].id.clone();
    let preferred = Preferred { subject: host.to_string(), target: target.to_string() };
    scene.options.destinations.preferred = vec![preferred];
    assert_eq!(scene.propose().proposals[0].moves[0].destination.host(), target);
    let id = scene.topology.partitions[8].id.clone();
    scene.set(&id, 0.0, PredictionState::Unknown);
    let plan = scene.propose();
    assert!(plan.alerts.iter().any(|a| a.text.contains(target.as_str())), "{:?}", plan.alerts);
    assert_ne!(plan.proposals[0].moves[0].destination.host(), target);
}

/// `Discrepancy = Compare(Current, Desired(RiskTolerance)); if Discrepancy > Threshold { plan }`,
/// lowest projection and greatest impact first.
#[test]
fn design_10601683_a_footprint_off_the_desired_one_is_planned_lowest_projection_first() {
    let mut scene = Scene::new(2, 3);
    let hps = |i: usize| match i {
        0 => 10.0,
        1 => 30.0,
        _ => 96.0,
    };
    scene.projections = scene
        .topology
        .workloads
        .iter()
        .enumerate()
        .map(|(i, w)| WorkloadProjection {
            workload: w.id.clone(),
            hps: HealthScore::clamped(hps(i)),
            why: Vec::new(),
        })
        .collect();
    scene.options.footprint_discrepancy = share(0.3);
    assert!(scene.propose().proposals.is_empty(), "2 of 12 are off, 30 % may be");
    scene.options.footprint_discrepancy = share(0.1);
    let plan = scene.propose();
    let order: Vec<&str> = plan.proposals[0].moves.iter().map(|m| m.workload.as_str()).collect();
    assert_eq!(order, ["w00", "w01"]);
    assert!(!plan.proposals[0].canary.steps.is_empty(), "shifted gradually");
    scene.options.risk_tolerance = share(0.8);
    assert!(scene.propose().proposals.is_empty(), "higher tolerance, fewer shifts");
}
