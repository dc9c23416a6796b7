//! Where workloads go: labels, racks that nobody names, full hosts.

use super::options::Apart;
use super::test_scene::Scene;
use crate::fleet::Bytes;

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
