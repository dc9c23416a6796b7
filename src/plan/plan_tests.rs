//! What a person may rely on from the planner.

use super::test_scene::{NOW, Scene, probability, share};
use super::*;
use crate::fleet::state::ServingState;
use crate::fleet::{Bytes, HealthScore, PartitionId, PredictionState, ProposalId, Span, Workload};
use crate::predict::{HostRisk, WorkloadProjection};

#[test]
fn a_partition_expected_to_fail_is_evacuated_to_a_healthy_one_with_everything_said() {
    let mut scene = Scene::new(2, 3);
    let source = scene.fail(0);
    let plan = scene.propose();
    assert_eq!(plan.proposals.len(), 1, "{plan:?}");
    let proposal = &plan.proposals[0];
    assert_eq!(proposal.id, ProposalId(218));
    assert_eq!(proposal.title, format!("evacuate {source}"));
    assert_eq!(proposal.moves.len(), 1);
    let m = &proposal.moves[0];
    assert_eq!((&m.source, m.workload.as_str()), (&source, "w00"));
    assert!(m.in_time.unwrap().get() > 0.9, "{m:?}");
    assert!(proposal.outlook.risk_after < proposal.outlook.risk_before - 0.5);
    assert!(proposal.outlook.if_nothing.contains("w00"), "{}", proposal.outlook.if_nothing);
    assert!(!proposal.outlook.way_back.is_empty() && !proposal.rejected.is_empty());
    assert!(proposal.blocked.is_none());
    assert_eq!(plan.ranking[0].partition, source);
}

#[test]
fn work_does_not_go_where_it_would_overload_the_partition() {
    let mut scene = Scene::new(2, 3);
    scene.fail(0);
    let chosen = scene.propose().proposals[0].moves[0].destination.clone();
    for partition in scene.topology.partitions.clone() {
        let load = if partition.id == chosen { 0.75 } else { 0.3 };
        scene.loads.insert(partition.id, share(load));
    }
    let plan = scene.propose();
    let m = &plan.proposals[0].moves[0];
    assert_ne!(m.destination, chosen);
    let said = &plan.proposals[0].rejected;
    assert!(said.iter().any(|r| r.reason.contains("% load")), "{said:?}");
}

#[test]
fn the_same_input_gives_the_same_plan_whatever_the_order_of_its_lists() {
    let mut scene = Scene::new(2, 4);
    scene.fail(0);
    scene.fail(5);
    let plan = scene.propose();
    let mut shuffled = scene.clone();
    shuffled.assessments.reverse();
    assert_eq!(plan, shuffled.propose());
    assert_eq!(plan.proposals[0].hash(), shuffled.propose().proposals[0].hash());
}

#[test]
fn the_unknown_moves_nothing_and_nothing_moves_there() {
    let mut scene = Scene::new(1, 3);
    let ids: Vec<_> = scene.topology.partitions.iter().map(|p| p.id.clone()).collect();
    scene.set(&ids[0], 0.0, PredictionState::Unknown);
    assert!(scene.propose().proposals.is_empty());
    // An assessment that has expired is unknown, whatever the state says.
    scene.set(&ids[1], 0.99, PredictionState::PredictiveFailure);
    scene.assessments.last_mut().unwrap().expires = NOW - Span::seconds(1);
    assert!(scene.propose().proposals.is_empty());
    let source = scene.fail(2);
    let plan = scene.propose();
    assert_eq!(plan.proposals[0].moves[0].source, source);
    assert!(![&ids[0], &ids[1]].contains(&&plan.proposals[0].moves[0].destination));
}

#[test]
fn many_at_once_hold_everything_and_alert() {
    let mut scene = Scene::new(3, 3);
    for i in 0..6 {
        scene.fail(i * 3);
    }
    let plan = scene.propose();
    assert!(plan.storm.as_ref().unwrap().contains("storm brake"));
    assert!(plan.proposals.iter().all(|p| p.blocked.is_some()));
    assert!(plan.alerts.iter().any(|a| a.text.contains("measuring fault")));
}

#[test]
fn an_operator_may_empty_a_healthy_host_also_in_a_storm() {
    let mut scene = Scene::new(3, 3);
    (0..6).for_each(|i| drop(scene.fail(i * 3)));
    let host = scene.topology.hosts[1].id.clone();
    scene.request = Request::EvacuateHost { host: host.clone(), actor: "ann".into() };
    let plan = scene.propose();
    assert_eq!(plan.proposals.len(), 1);
    assert!(plan.proposals[0].blocked.is_none());
    assert_eq!(plan.proposals[0].moves[0].in_time, None, "nothing threatens it");
    scene.request = Request::EvacuateHost { host: "nowhere".into(), actor: "ann".into() };
    assert!(scene.propose().alerts[0].text.contains("no host"));
}

#[test]
fn a_risk_that_two_moves_share_is_said_once() {
    let mut scene = Scene::new(1, 2);
    let (host, other) = (scene.topology.hosts[0].id.clone(), scene.topology.hosts[1].id.clone());
    let more = scene.topology.workloads.iter().find(|w| w.partition.host() == host).unwrap().clone();
    scene.topology.workloads.retain(|w| w.id == more.id);
    scene.topology.workloads.push(Workload { id: "another".into(), ..more });
    scene.topology.normalise();
    let ids: Vec<PartitionId> = scene.topology.partitions.iter().map(|p| p.id.clone()).collect();
    for id in &ids {
        match id.host() == other {
            true => scene.set(id, 0.0, PredictionState::Unknown),
            false => scene.set(id, 0.7, PredictionState::PredictiveFailure),
        }
    }
    scene.request = Request::EvacuateHost { host, actor: "ann".into() };
    let output = scene.propose();
    let proposal = &output.proposals[0];
    assert_eq!(proposal.moves.len(), 2, "{output:?}");
    assert_eq!(proposal.risks.iter().filter(|r| r.contains("health of")).count(), 1, "{:?}", proposal.risks);
}

#[test]
fn an_operator_may_empty_a_host_where_nothing_is_known_with_the_risk_stated() {
    let mut scene = Scene::new(1, 3);
    let host = scene.topology.hosts[0].id.clone();
    scene.request = Request::EvacuateHost { host, actor: "ann".into() };
    let ids: Vec<PartitionId> = scene.topology.partitions.iter().map(|p| p.id.clone()).collect();
    for id in &ids {
        scene.set(id, 0.0, PredictionState::Unknown);
    }
    let output = scene.propose();
    let proposal = &output.proposals[0];
    assert_eq!(proposal.moves.len(), 1, "{output:?}");
    assert!(proposal.risks.iter().any(|r| r.contains("health of") && r.contains("unknown")), "{proposal:?}");
    // One that is known to be well goes before all unknown ones; one that fails is never taken.
    let taken = proposal.moves[0].destination.clone();
    scene.set(&taken, 0.7, PredictionState::PredictiveFailure);
    let well = ids.iter().rfind(|id| **id != taken && **id != ids[0]).unwrap();
    scene.set(well, 0.001, PredictionState::Healthy);
    let output = scene.propose();
    assert_eq!(&output.proposals[0].moves[0].destination, well);
    for id in &ids[1..] {
        scene.set(id, 0.7, PredictionState::PredictiveFailure);
    }
    let output = scene.propose();
    assert!(output.proposals.is_empty() && output.holds.len() == 1, "{output:?}");
    // Its data stopped while it was failing: still failing.
    scene.assessments.clear();
    assert!(scene.propose().proposals.is_empty());
}

#[test]
fn redis_like_classes_move_to_a_copy_or_an_empty_node_alone() {
    let mut scene = Scene::new(1, 3);
    let source = scene.fail(0);
    scene.options.classes = vec![ClassPolicy { places: Places::CopyOrEmpty, ..ClassPolicy::unknown("db") }];
    let plan = scene.propose();
    // Every partition is busy with a workload of its own: not even the copy's place is free.
    assert!(plan.proposals.is_empty());
    assert!(plan.holds[0].reason.contains("neither holds a copy"), "{:?}", plan.holds);
    let copy = scene.workload("w00").replicas[0].clone();
    scene.topology.workloads.retain(|w| w.partition != copy);
    let plan = scene.propose();
    let m = &plan.proposals[0].moves[0];
    assert_eq!((&m.source, &m.destination, m.data), (&source, &copy, Bytes(0)));
    assert!(m.because.contains("copy"));
}

#[test]
fn copies_never_share_a_host_and_share_a_rack_only_with_the_risk_stated() {
    let mut scene = Scene::new(1, 2);
    scene.fail(0);
    // Hosts: r0-h0 (failing), r0-h1, r1-h0, r1-h1; the copy is on r1-h0; both it and r0-h1 are at
    // risk themselves.
    for at_risk in [1, 2] {
        let id = scene.topology.partitions[at_risk].id.clone();
        scene.set(&id, 0.3, PredictionState::Suspect);
    }
    let plan = scene.propose();
    let proposal = &plan.proposals[0];
    assert_eq!(proposal.moves[0].destination, scene.topology.partitions[3].id);
    assert!(proposal.risks.iter().any(|r| r.contains("anti-affinity given up")), "{:?}", proposal.risks);
    scene.options.destinations.apart_by_rack = Apart::Must;
    let plan = scene.propose();
    assert!(plan.proposals.is_empty());
    assert!(plan.holds[0].reason.contains("no destination"), "{:?}", plan.holds);
    assert!(plan.alerts.iter().any(|a| a.text.contains("nothing can be moved")));
}

#[test]
fn a_preferred_target_is_taken_and_where_it_is_not_available_that_is_alerted() {
    let mut scene = Scene::new(2, 3);
    scene.fail(0);
    let target = scene.topology.hosts[9].id.to_string();
    let preferred = Preferred { subject: "w00".into(), target: target.clone() };
    scene.options.destinations.preferred = vec![preferred];
    let m = scene.propose().proposals[0].moves[0].clone();
    assert_eq!((m.destination.host().to_string(), m.because.as_str()), (target, "the preferred target"));
    let id = scene.topology.partitions[9].id.clone();
    scene.set(&id, 0.22, PredictionState::Suspect);
    let plan = scene.propose();
    assert_ne!(plan.proposals[0].moves[0].destination, id);
    assert!(plan.alerts.iter().any(|a| a.text.contains("preferred target")), "{:?}", plan.alerts);
    scene.options.destinations.preferred_unavailable = PreferredUnavailable::Hold;
    let plan = scene.propose();
    assert!(plan.proposals.is_empty() && plan.holds[0].reason.contains("preferred target"));
}

#[test]
fn what_has_moved_stays_for_its_cool_down_and_why_says_so() {
    let mut scene = Scene::new(1, 3);
    scene.fail(0);
    scene.ended = vec![Ended {
        workload: "w00".into(),
        started: NOW - Span::minutes(12),
        ended: NOW - Span::minutes(10),
        moved: true,
    }];
    let plan = scene.propose();
    assert!(plan.proposals.is_empty());
    assert_eq!(plan.holds[0].until, Some(NOW + Span::minutes(20)));
    let said = why(&"w00".into(), &scene.input(), &plan).join(" ");
    assert!(said.contains("10 m") && said.contains("cool-down"), "{said}");
    scene.ended[0].moved = false;
    assert_eq!(scene.propose().proposals.len(), 1, "an aborted move cools nothing");
}

#[test]
fn vetoes_freezes_and_open_proposals_are_respected() {
    let mut scene = Scene::new(1, 3);
    scene.fail(0);
    scene.vetoes.0.insert("shop".into(), "eve".into());
    assert_eq!(scene.propose().holds[0].reason, "eve has forbidden to touch shop");
    scene.vetoes.0.clear();
    let end = NOW + Span::hours(1);
    scene.options.limits.freezes = vec![(NOW - Span::hours(1), end, "release day".into())];
    assert_eq!(scene.propose().proposals[0].blocked.as_deref(), Some("frozen: release day"));
    scene.options.limits.freezes.clear();
    scene.open = scene.propose().proposals;
    let again = scene.propose();
    assert!(again.proposals.is_empty() && again.holds.is_empty(), "it is proposed already");
    assert!(why(&"w00".into(), &scene.input(), &again)[0].contains("P-218"));
}

#[test]
fn where_a_move_has_failed_of_late_the_next_goes_elsewhere() {
    let mut scene = Scene::new(1, 3);
    scene.fail(0);
    let first = scene.propose().proposals[0].moves[0].destination.clone();
    let why = std::collections::BTreeMap::from([(first.clone(), "it does not start".to_string())]);
    scene.avoided = std::collections::BTreeMap::from([("w00".into(), why)]);
    let proposal = &scene.propose().proposals[0];
    assert_ne!(proposal.moves[0].destination, first);
    let said = proposal.rejected.iter().find(|r| r.candidate == first.as_str()).map(|r| r.reason.clone());
    assert!(said.as_ref().is_some_and(|s| s.contains("failed of late: it does not start")), "{said:?}");
}

#[test]
fn fenced_partitions_are_neither_emptied_nor_filled() {
    let mut scene = Scene::new(1, 2);
    scene.fail(0);
    scene.topology.partitions[0].serving = ServingState::Fenced;
    assert!(scene.propose().proposals.is_empty());
    scene.topology.partitions[0].serving = ServingState::Active;
    for partition in &mut scene.topology.partitions[1..] {
        partition.serving = ServingState::Fenced;
    }
    assert!(scene.propose().proposals.is_empty());
}

#[test]
fn what_needs_most_for_its_time_goes_first() {
    let mut scene = Scene::new(2, 4);
    let source = scene.fail(0);
    for i in [1, 2, 3] {
        let w = scene.workload(&format!("w{i:02}"));
        w.partition = source.clone();
        w.replicas.clear();
    }
    scene.workload("w01").size = Bytes(30_000_000_000);
    scene.workload("w02").size = Bytes(500_000_000);
    scene.workload("w05").depends_on = vec!["w02".into()];
    scene.workload("w03").stateless = true;
    let plan = scene.propose();
    let moves = &plan.proposals[0].moves;
    let order: Vec<&str> = moves.iter().map(|m| m.workload.as_str()).collect();
    assert_eq!(order.last(), Some(&"w01"), "the big one goes last: {order:?}");
    assert_eq!(order[..2], ["w03", "w02"], "what is quick goes first: {order:?}");
    assert!(moves.windows(2).all(|m| m[0].in_time >= m[1].in_time));
    assert!(plan.proposals[0].outlook.if_nothing.contains("without a copy"));
}

#[test]
fn a_footprint_off_by_more_than_allowed_is_rebalanced_and_tolerance_shifts_less() {
    let mut scene = Scene::new(2, 3);
    scene.projections = scene
        .topology
        .workloads
        .iter()
        .enumerate()
        .map(|(i, w)| WorkloadProjection {
            workload: w.id.clone(),
            hps: HealthScore::clamped(if i < 3 { 30.0 } else { 95.0 }),
            why: Vec::new(),
        })
        .collect();
    assert!(scene.propose().proposals.is_empty(), "off by default");
    scene.options.footprint_discrepancy = share(0.1);
    let plan = scene.propose();
    assert!(matches!(plan.proposals[0].trigger, Trigger::Footprint { .. }));
    assert_eq!(plan.proposals[0].moves.len(), 3);
    scene.options.risk_tolerance = share(0.9);
    assert!(scene.propose().proposals.is_empty());
}

#[test]
fn a_host_over_its_risk_threshold_is_emptied_of_its_suspects_too() {
    let mut scene = Scene::new(1, 3);
    let id = scene.topology.partitions[0].id.clone();
    scene.set(&id, 0.3, PredictionState::Suspect);
    assert!(scene.propose().proposals.is_empty());
    let host = scene.topology.hosts[0].id.clone();
    scene.hosts = vec![HostRisk {
        host,
        risk: Some(probability(0.7)),
        confidence: 0.8,
        least: None,
        within: Span::hours(1),
        known: (1, 1),
    }];
    assert_eq!(scene.propose().proposals[0].moves.len(), 1);
}
