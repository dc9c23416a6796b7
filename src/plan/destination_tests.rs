//! Where workloads go: labels, racks that nobody names, full hosts, servers that two drivers share; and what is
//! not moved while nobody can say who owns it.

use super::input::Request;
use super::options::Apart;
use super::test_scene::Scene;
use crate::fleet::{Bytes, PredictionState};

#[test]
fn only_hosts_with_every_wanted_label_are_destinations() {
    let mut scene = Scene::new(1, 2);
    scene.fail(0);
    scene.workload("w00").replicas.clear();
    let wanted = |key: &str, value: &str| (key.to_string(), value.to_string());
    scene.options.destinations.only_labels = vec![wanted("tier", "gold"), wanted("ssd", "")];
    for (at, tier) in [(1, "silver"), (2, "gold"), (3, "gold")] {
        let labels = &mut scene.topology.hosts[at].labels;
        labels.insert("tier".to_string(), tier.to_string());
        if at != 2 {
            labels.insert("ssd".to_string(), "nvme".to_string());
        }
    }
    let plan = scene.propose();
    let proposal = &plan.proposals[0];
    assert_eq!(proposal.moves[0].destination, scene.topology.partitions[3].id);
    let reasons: Vec<&str> = proposal.rejected.iter().map(|r| r.reason.as_str()).collect();
    for key in ["tier", "ssd"] {
        assert!(reasons.iter().any(|r| r.contains(&format!("not the label {key}"))), "{reasons:?}");
    }
}

#[test]
fn hosts_of_which_nobody_says_where_they_stand_do_not_share_a_rack() {
    let mut scene = Scene::new(1, 2);
    scene.fail(0);
    for host in &mut scene.topology.hosts {
        (host.site, host.rack) = ("unknown".into(), "unknown".into());
    }
    scene.options.destinations.apart_by_rack = Apart::Must;
    scene.options.destinations.apart_by_site = Apart::Must;
    let plan = scene.propose();
    assert_eq!(plan.proposals.len(), 1, "{:?}", plan.holds);
    let risks = plan.proposals[0].risks.join("; ");
    assert!(!risks.contains("anti-affinity"), "{risks}");
}

#[test]
fn a_full_host_is_passed_over_with_the_reason() {
    let mut scene = Scene::new(1, 2);
    scene.fail(0);
    scene.workload("w00").replicas.clear();
    for host in &mut scene.topology.hosts[1..3] {
        host.capacity.as_mut().unwrap().data_used = Bytes(79_000_000_000);
    }
    let plan = scene.propose();
    let proposal = &plan.proposals[0];
    assert_eq!(proposal.moves[0].destination, scene.topology.partitions[3].id);
    assert!(
        proposal.rejected.iter().any(|r| r.reason.contains("would pass 80 %")),
        "{:?}",
        proposal.rejected
    );
}

#[test]
fn a_workload_goes_where_its_own_driver_knows_a_place_also_from_a_server_that_two_share() {
    let mut scene = Scene::new(1, 2);
    scene.fail(0);
    // Driver `a` has servers 0 and 1 with database X, driver `b` 0, 2 and 3 with Y: server 0 is said twice.
    for (at, class) in [(0, "a"), (1, "a"), (2, "b"), (3, "b")] {
        scene.topology.partitions[at].class = class.to_string();
    }
    let mut again = scene.topology.partitions[0].clone();
    again.class = "b".to_string();
    scene.topology.partitions.push(again);
    scene.topology.normalise();
    assert_eq!(scene.topology.partitions.len(), 4);
    for (id, class, on) in [("w00", "a", 0), ("w01", "b", 0), ("w02", "b", 2), ("w03", "b", 3)] {
        let partition = scene.topology.partitions[on].id.clone();
        let workload = scene.workload(id);
        (workload.class, workload.partition) = (class.to_string(), partition);
        workload.replicas.clear();
    }
    let plan = scene.propose();
    assert!(plan.holds.is_empty(), "{:?}", plan.holds);
    let to = |id: &str| {
        let moves = &plan.proposals[0].moves;
        moves.iter().find(|m| m.workload.as_str() == id).unwrap().destination.clone()
    };
    let servers = &scene.topology.partitions;
    assert_eq!(to("w00"), servers[1].id, "its driver has no other");
    assert!([&servers[2].id, &servers[3].id].contains(&&to("w01")), "{}", to("w01"));
    // And the other way: what driver b has elsewhere may come to the shared server.
    let (shared, third) = (servers[0].id.clone(), servers[3].id.clone());
    scene.set(&shared, 0.001, PredictionState::Healthy);
    scene.set(&third, 0.3, PredictionState::Suspect);
    let failing = scene.fail(2);
    let plan = scene.propose();
    let moved = plan.proposals[0].moves.iter().find(|m| m.source == failing).unwrap();
    assert_eq!(moved.destination, shared);
}

#[test]
fn nothing_is_planned_of_a_workload_while_record_and_system_name_different_owners() {
    let mut scene = Scene::new(1, 2);
    scene.fail(0);
    scene.disputed.insert("w00".into(), "our record says b, its system says a".to_string());
    for request in [Request::Watch, Request::EvacuateHost { host: "s0-r0-h0".into(), actor: "me".into() }] {
        scene.request = request;
        let plan = scene.propose();
        assert!(plan.proposals.is_empty(), "{:?}", plan.proposals);
        assert!(plan.holds[0].reason.contains("its system says a"), "{:?}", plan.holds);
    }
}
