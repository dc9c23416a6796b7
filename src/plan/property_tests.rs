//! What holds of every plan, whatever the fleet.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::test_scene::{NOW, Scene, share};
use super::*;
use crate::fleet::state::ServingState;
use crate::fleet::{Bytes, Host, MigrationId, PartitionId, PredictionState, Span, WorkloadId};

fn any_state() -> impl Strategy<Value = PredictionState> {
    use PredictionState as P;
    prop_oneof![
        6 => Just(P::Healthy),
        2 => Just(P::PredictiveFailure),
        1 => Just(P::Unknown),
        1 => Just(P::Suspect),
        1 => Just(P::Evacuated),
    ]
}

prop_compose! {
    fn any_scene()(
        hosts in 1usize..5,
        states in proptest::collection::vec((any_state(), 0.0..1.0f64), 16),
        homes in proptest::collection::vec((0usize..16, 0usize..16, 0u64..60, 0.0..1.0f64), 16),
        serving in proptest::collection::vec(0usize..8, 16),
        per_hour in 0u32..8,
        ended in proptest::collection::vec((0usize..16, 1i64..90), 0..6),
        rack in prop_oneof![Just(Apart::Must), Just(Apart::Prefer), Just(Apart::Ignore)],
    ) -> Scene {
        let mut scene = Scene::new(2, hosts);
        let n = scene.topology.partitions.len();
        let ids: Vec<_> = scene.topology.partitions.iter().map(|p| p.id.clone()).collect();
        for (i, id) in ids.iter().enumerate() {
            scene.set(id, states[i].1, states[i].0);
            scene.topology.partitions[i].serving = match serving[i] {
                0 => ServingState::Fenced,
                1 => ServingState::Passive,
                _ => ServingState::Active,
            };
        }
        for (i, w) in scene.topology.workloads.iter_mut().enumerate() {
            let (home, copy, size, _) = homes[i];
            w.partition = ids[home % n].clone();
            w.replicas = vec![ids[copy % n].clone()];
            w.size = Bytes(size * 1_000_000_000);
        }
        for (i, host) in scene.topology.hosts.iter_mut().enumerate() {
            host.capacity.as_mut().unwrap().load = share(homes[i].3);
        }
        scene.ended = ended
            .into_iter()
            .map(|(w, ago)| Ended {
                workload: format!("w{:02}", w % n).into(),
                started: NOW - Span::minutes(ago),
                ended: NOW - Span::minutes(ago - 1),
                moved: true,
            })
            .collect();
        scene.options.limits.per_hour = per_hour;
        scene.options.destinations.apart_by_rack = rack;
        scene
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn every_plan_keeps_every_promise(scene in any_scene()) {
        let before = scene.topology.clone();
        let plan = scene.propose();
        prop_assert_eq!(&plan, &scene.propose(), "the same input gives the same plan");
        prop_assert_eq!(&scene.topology, &before);
        let rules = &scene.options.destinations;
        let started = scene.ended.iter().filter(|e| e.started > NOW - Span::hours(1)).count();
        let moves: Vec<_> = plan.proposals.iter().flat_map(|p| p.moves.iter().map(move |m| (p, m))).collect();
        prop_assert!(moves.is_empty() || moves.len() + started <= scene.options.limits.per_hour as usize);
        let mut seen = BTreeSet::new();
        let sources: BTreeSet<_> = moves.iter().map(|(_, m)| m.source.host()).collect();
        for (proposal, m) in &moves {
            prop_assert!(seen.insert(m.workload.clone()), "moved once");
            let w = scene.topology.workload(&m.workload).unwrap();
            prop_assert_eq!((&w.partition, &w.class, w.generation), (&m.source, &m.class, m.generation));
            let to = scene.topology.partition(&m.destination).unwrap();
            prop_assert!(matches!(to.serving, ServingState::Active | ServingState::Passive));
            prop_assert_eq!(scene.states[&m.destination], PredictionState::Healthy);
            let a = scene.assessments.iter().find(|a| a.partition == m.destination).unwrap();
            prop_assert!(a.failure_within(Span::hours(1)).unwrap() < rules.most_probability);
            prop_assert!(a.health.unwrap().get() >= rules.least_health);
            prop_assert!(!sources.contains(&to.host), "nothing goes to a host that is emptied");
            prop_assert_eq!(scene.states[&m.source], PredictionState::PredictiveFailure);
            for copy in w.replicas.iter().filter(|c| **c != m.destination && **c != m.source) {
                let (a, b) = (scene.topology.host_of(copy).unwrap(), scene.topology.host(&to.host).unwrap());
                prop_assert_ne!(&a.id, &b.id);
                if (&a.site, &a.rack) == (&b.site, &b.rack) && rules.apart_by_rack != Apart::Ignore {
                    prop_assert_eq!(rules.apart_by_rack, Apart::Prefer);
                    prop_assert!(proposal.risks.iter().any(|r| r.contains(m.workload.as_str())));
                }
            }
        }
        for host in &scene.topology.hosts {
            let capacity = host.capacity.unwrap();
            let arriving: u64 = moves.iter().filter(|(_, m)| m.destination.host() == host.id).map(|(_, m)| m.data.0).sum();
            let after = (capacity.data_used.0 + arriving) as f64 / capacity.data.0 as f64;
            prop_assert!(arriving == 0 || after <= rules.most_data.get() + 1e-9);
        }
        // What should move and does not is held with a reason.
        for w in &scene.topology.workloads {
            let from = scene.topology.partition(&w.partition).unwrap();
            let due = scene.states[&w.partition] == PredictionState::PredictiveFailure && from.serving != ServingState::Fenced;
            let answered = seen.contains(&w.id) || plan.holds.iter().any(|h| h.workload == w.id && !h.reason.is_empty());
            prop_assert!(!due || answered, "{} is neither moved nor held", w.id);
            prop_assert!(!why(&w.id, &scene.input(), &plan).is_empty());
        }
    }

    #[test]
    fn limits_hold_in_every_order_of_starts_and_ends(
        events in proptest::collection::vec((any::<bool>(), 0usize..12, 0usize..12), 1..80),
        fleet in 0u32..5, site in 0u32..4, rack in 0u32..3, host in 0u32..3, per_hour in 0u32..40,
    ) {
        let scene = Scene::new(2, 3);
        let limits = Limits { fleet, site, rack, host, per_hour, ..Limits::default() };
        let ids: Vec<_> = scene.topology.partitions.iter().map(|p| p.id.clone()).collect();
        let (mut running, mut ended): (Vec<Running>, Vec<Ended>) = (Vec::new(), Vec::new());
        for (i, (start, a, b)) in events.into_iter().enumerate() {
            let now = NOW + Span::minutes(i as i64);
            if !start {
                if !running.is_empty() {
                    let r = running.remove(a % running.len());
                    ended.push(Ended { workload: r.workload, started: r.started, ended: now, moved: true });
                }
                continue;
            }
            let traffic = limits::Traffic { running: &running, ended: &ended };
            if limits::may_start(&ids[a], &ids[b], traffic, &scene.topology, &limits, now).is_ok() {
                running.push(Running {
                    migration: MigrationId(i as u64),
                    workload: WorkloadId::from(format!("w{i}")),
                    source: ids[a].clone(),
                    destination: ids[b].clone(),
                    started: now,
                });
            }
            prop_assert!(running.len() <= fleet as usize);
            let hour = running.iter().map(|r| r.started).chain(ended.iter().map(|e| e.started));
            prop_assert!(hour.filter(|s| *s > now - Span::hours(1)).count() <= per_hour as usize);
            for h in &scene.topology.hosts {
                let at = |p: &PartitionId| scene.topology.host_of(p).unwrap();
                let touching = |same: &dyn Fn(&Host) -> bool| {
                    running.iter().filter(|r| same(at(&r.source)) || same(at(&r.destination))).count()
                };
                prop_assert!(touching(&|o| o.id == h.id) <= host as usize);
                prop_assert!(touching(&|o| (&o.site, &o.rack) == (&h.site, &h.rack)) <= rack as usize);
                prop_assert!(touching(&|o| o.site == h.site) <= site as usize);
            }
        }
    }

    #[test]
    fn a_change_of_the_fleet_elsewhere_moves_as_little_as_possible(extra in 0usize..6) {
        let mut scene = Scene::new(2, 6);
        let source = scene.fail(0);
        for i in 1..8 {
            scene.workload(&format!("w{i:02}")).partition = source.clone();
        }
        let before = scene.propose();
        // One healthy partition goes out of service.
        let gone = scene.topology.partitions[10 + extra].id.clone();
        scene.topology.partitions[10 + extra].serving = ServingState::Fenced;
        let after = scene.propose();
        let place = |plan: &PlanOutput| -> BTreeMap<WorkloadId, PartitionId> {
            plan.proposals[0].moves.iter().map(|m| (m.workload.clone(), m.destination.clone())).collect()
        };
        let (a, b) = (place(&before), place(&after));
        let needless = a.iter().filter(|(w, d)| **d != gone && b.get(*w) != Some(*d)).count();
        prop_assert!(needless <= 2, "{needless} of {} changed needlessly", a.len());
    }
}
