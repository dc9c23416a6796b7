//! Promises of the simulated fleet as a whole: it repeats, it moves, it undoes, it counts what failing costs.

use std::sync::Arc;

use futures::executor::block_on;
use proptest::prelude::*;

use foreshift::drivers::{Action, Answer, Evidence, Job, Mover, Permit, Probe, Retry, Router};
use foreshift::fleet::{
    Clock, Epoch, ManualClock, MigrationId, PartitionId, ServingState, Share, Span, Timestamp, Topology,
    Workload,
};
use foreshift::sim::*;

const START: Timestamp = Timestamp(1_700_000_000_000);

fn fleet(seed: u64, faults: FaultPlan) -> (SimFleet, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(START));
    let options = DemoOptions { faults, ..DemoOptions::new(clock.clone()) };
    (SimFleet::new(seed, options), clock)
}

fn permit(epoch: u64) -> Permit {
    Permit::mint_for_runner(Epoch(epoch), "plan")
}

/// A job for `workload` to some partition in a rack where it has no copy.
fn job_for(topology: &Topology, workload: &Workload, number: u64) -> Job {
    let rack = |p: &PartitionId| topology.host_of(p).map(|h| h.rack.clone());
    let taken: Vec<_> = workload.replicas.iter().chain([&workload.partition]).map(rack).collect();
    let destination = topology.partitions.iter().find(|p| !taken.contains(&rack(&p.id))).unwrap();
    Job {
        migration: MigrationId(number),
        workload: workload.id.clone(),
        source: workload.partition.clone(),
        destination: destination.id.clone(),
        generation: foreshift::fleet::Generation(workload.generation.0 + 1),
    }
}

/// Does an action as a runner would: asks again while it works, probes where nobody knows, tries
/// again where that may help. `None` where it can't be done within ten minutes.
fn perform(fleet: &mut SimFleet, clock: &ManualClock, job: &Job, action: &Action) -> Option<Evidence> {
    let mover = fleet.mover();
    for _ in 0..600 {
        fleet.step_to(clock.now());
        match block_on(mover.perform(job, action, &permit(1))) {
            Ok(Answer::Done(evidence)) => return Some(evidence),
            Ok(Answer::Working { .. }) => {}
            Err(error) if error.retry == Retry::Permanent => return None,
            Err(error) if error.retry == Retry::Unknown => {
                if let Probe::Applied { evidence } = block_on(mover.probe(job, action)) {
                    return Some(evidence);
                }
            }
            Err(_) => {}
        }
        clock.advance(Span::seconds(1));
    }
    None
}

/// The actions of a move up to the switch, in order.
fn way_there(clock: &ManualClock) -> Vec<Action> {
    vec![
        Action::Announce,
        Action::Prepare,
        Action::Replicate,
        Action::Verify,
        Action::ArmReverse,
        Action::ProbeReverse,
        Action::CanaryShare { share: Share::clamped(0.25).unwrap() },
        Action::CanaryShare { share: Share::MIN },
        Action::Fence { deadline: clock.now() + Span::minutes(50) },
        Action::VerifyAtCut,
        Action::Open,
    ]
}

/// Everything that people and engines can see of the system.
fn seen(fleet: &SimFleet) -> String {
    let mover = fleet.mover();
    let leaks = block_on(mover.leaks()).unwrap();
    format!("{:?} {leaks:?} {:?}", fleet.topology(), fleet.ledger())
}

/// Footprint and leaks alone: who owns what and holds copies of what.
fn footprint(fleet: &SimFleet) -> String {
    let workloads: Vec<_> =
        fleet.topology().workloads.into_iter().map(|w| (w.id, w.partition, w.replicas)).collect();
    format!("{workloads:?}")
}

fn stateful(fleet: &SimFleet, nth: usize) -> Workload {
    fleet.topology().workloads.into_iter().filter(|w| !w.stateless).nth(nth).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = |seed: u64, steps: &[i64]| {
        let (mut fleet, clock) = fleet(seed, FaultPlan::default());
        let mut hasher = blake3::Hasher::new();
        for (partition, batch) in fleet.history() {
            hasher.update(format!("{partition} {batch:?}").as_bytes());
        }
        let mut messages = Vec::new();
        for step in steps {
            clock.advance(Span::seconds(*step));
            messages.extend(fleet.step_to(clock.now()));
        }
        assert!(!messages.is_empty());
        hasher.update(&serde_json::to_vec(&messages).unwrap());
        hasher.update(&serde_json::to_vec(&fleet.topology()).unwrap());
        hasher.update(&serde_json::to_vec(&fleet.ledger()).unwrap());
        hasher.finalize()
    };
    assert_eq!(run(7, &[900]), run(7, &[900]));
    assert_eq!(run(7, &[900]), run(7, &[3, 7, 490, 400]), "the size of the steps does not matter");
    assert_ne!(run(7, &[900]), run(8, &[900]));
}

#[test]
fn agents_send_every_five_seconds_have_gaps_and_fall_silent_with_their_host() {
    let (mut fleet, clock) = fleet(2, FaultPlan::default());
    clock.advance(Span::minutes(20));
    let messages = fleet.step_to(clock.now());
    let ticks = 240 * 24;
    assert!(messages.len() > ticks * 9 / 10 && messages.len() < ticks, "{}", messages.len());
    assert!(messages.iter().any(|m| m.readings.len() > 6), "something was kept and sent later");
    let ledger = fleet.ledger();
    let failure = ledger.failures.iter().find(|f| f.died.is_some()).unwrap();
    let died = failure.died.unwrap();
    let after = messages.iter().filter(|m| m.host == failure.host && m.sent >= died).count();
    assert_eq!(after, 0, "a dead host is silent");
    let before = messages.iter().filter(|m| m.host == failure.host && m.sent < died);
    let writes: Vec<f64> = before
        .flat_map(|m| &m.readings)
        .filter_map(|r| r.metrics.get("disk.write_latency").copied())
        .collect();
    let ends = writes.len();
    let (first, last) = (&writes[..30], &writes[ends - 30..]);
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    assert!(mean(last) > 8.0 * mean(first), "writes got slow: {} → {}", mean(first), mean(last));
}

#[test]
fn every_action_twice_changes_nothing_and_a_whole_move_leaves_nothing_behind() {
    let (mut fleet, clock) = fleet(3, FaultPlan::none());
    let workload = stateful(&fleet, 5);
    let job = job_for(&fleet.topology(), &workload, 1);
    let mut actions = way_there(&clock);
    actions.extend([Action::EnableReverse, Action::Retire]);
    for action in &actions {
        let evidence = perform(&mut fleet, &clock, &job, action).unwrap_or_else(|| panic!("{action:?}"));
        assert_ne!(evidence.equal, Some(false));
        let once = seen(&fleet);
        perform(&mut fleet, &clock, &job, action).unwrap_or_else(|| panic!("{action:?} again"));
        if !action.is_read_only() {
            assert_eq!(once, seen(&fleet), "{action:?} a second time");
        }
    }
    let reverse = fleet.mover().artifacts(&job, &Action::ArmReverse).remove(0);
    perform(&mut fleet, &clock, &job, &Action::Cleanup { artifact: reverse }).unwrap();
    assert_eq!(block_on(fleet.mover().leaks()).unwrap(), []);
    let moved = fleet.topology().workload(&workload.id).unwrap().clone();
    assert_eq!(moved.partition, job.destination);
    assert_eq!(moved.generation, job.generation);
    assert!(moved.replicas.contains(&job.source), "the source is a standby");
    let blackout = fleet.ledger().total_unavailable_s(clock.now());
    assert!(blackout < 10.0, "a move costs its cut alone: {blackout} s");
}

#[test]
fn a_move_is_undone_after_the_cut_too_and_the_fleet_is_as_before() {
    let (mut fleet, clock) = fleet(4, FaultPlan::none());
    let before = footprint(&fleet);
    // To where a copy is already: undone, the copy is one again.
    let workload = fleet.topology().workloads.into_iter().find(|w| !w.replicas.is_empty()).unwrap();
    let job = Job { destination: workload.replicas[0].clone(), ..job_for(&fleet.topology(), &workload, 1) };
    for action in way_there(&clock).iter().chain([&Action::EnableReverse]) {
        perform(&mut fleet, &clock, &job, action).unwrap_or_else(|| panic!("{action:?}"));
    }
    assert_ne!(footprint(&fleet), before);
    let back = job.mirrored(foreshift::fleet::Generation(job.generation.0 + 1));
    let again = perform(&mut fleet, &clock, &back, &Action::Verify).unwrap();
    assert_eq!(again.equal, Some(true), "the source follows: {again:?}");
    for action in
        [Action::Fence { deadline: clock.now() + Span::minutes(5) }, Action::VerifyAtCut, Action::Open]
    {
        perform(&mut fleet, &clock, &back, &action).unwrap_or_else(|| panic!("{action:?}"));
    }
    clean(&mut fleet, &clock, &job);
    assert_eq!(footprint(&fleet), before);
}

/// What a runner does to undo a move before the cut: traffic back, let go, stop, clean up.
fn clean(fleet: &mut SimFleet, clock: &ManualClock, job: &Job) {
    let mut undo = vec![Action::CanaryShare { share: Share::MIN }, Action::Unfence, Action::StopReplication];
    for made in [Action::ArmReverse, Action::Replicate, Action::Prepare] {
        let artifacts = fleet.mover().artifacts(job, &made);
        undo.extend(artifacts.into_iter().map(|artifact| Action::Cleanup { artifact }));
    }
    for action in undo {
        perform(fleet, clock, job, &action).unwrap_or_else(|| panic!("undo {action:?}"));
    }
    fleet.mover().set_faults(MoverFaults::none());
    assert_eq!(block_on(fleet.mover().leaks()).unwrap(), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_undo_leaves_a_clean_slate(seed in 0u64..1000, steps in 0usize..11, nth in 0usize..100) {
        let (mut fleet, clock) = fleet(seed % 7, FaultPlan::none());
        let before = footprint(&fleet);
        let workload = stateful(&fleet, nth);
        let job = job_for(&fleet.topology(), &workload, seed);
        fleet.mover().set_faults(MoverFaults::random(seed, 0.25));
        for action in way_there(&clock).iter().take(steps).filter(|a| **a != Action::Open) {
            prop_assert!(perform(&mut fleet, &clock, &job, action).is_some(), "{action:?}");
        }
        clean(&mut fleet, &clock, &job);
        prop_assert_eq!(footprint(&fleet), before);
    }
}

#[test]
fn a_deposed_leader_changes_nothing() {
    let (mut fleet, clock) = fleet(5, FaultPlan::none());
    let workload = stateful(&fleet, 0);
    let job = job_for(&fleet.topology(), &workload, 1);
    block_on(fleet.mover().perform(&job, &Action::Announce, &permit(7))).unwrap();
    let before = seen(&fleet);
    for action in way_there(&clock) {
        let error = block_on(fleet.mover().perform(&job, &action, &permit(6))).unwrap_err();
        assert_eq!(error.retry, Retry::Permanent);
    }
    assert!(block_on(fleet.router().set(&workload.id, &[], &permit(6))).is_err());
    fleet.step_to(clock.now());
    assert_eq!(seen(&fleet), before);
}

#[test]
fn a_fence_lets_go_by_itself_and_what_it_cost_is_counted() {
    let (mut fleet, clock) = fleet(6, FaultPlan::none());
    let workload = stateful(&fleet, 3);
    let job = job_for(&fleet.topology(), &workload, 1);
    let fence = Action::Fence { deadline: clock.now() + Span::millis(500) };
    block_on(fleet.mover().perform(&job, &fence, &permit(1))).unwrap();
    assert!(matches!(block_on(fleet.mover().probe(&job, &fence)), Probe::Applied { .. }));
    clock.advance(Span::seconds(30));
    fleet.step_to(clock.now());
    assert_eq!(block_on(fleet.mover().probe(&job, &fence)), Probe::NotStarted);
    assert_eq!(fleet.ledger().unavailable_s(clock.now())[&workload.id], 0.5);
}

#[test]
fn nothing_is_switched_to_a_side_without_a_complete_copy() {
    let (mut fleet, clock) = fleet(6, FaultPlan::none());
    let workload = stateful(&fleet, 3);
    let job = job_for(&fleet.topology(), &workload, 1);
    for action in way_there(&clock).iter().take(2) {
        perform(&mut fleet, &clock, &job, action).unwrap();
    }
    let mover = fleet.mover();
    block_on(mover.perform(&job, &Action::Replicate, &permit(1))).unwrap();
    let error = block_on(mover.perform(&job, &Action::Open, &permit(1))).unwrap_err();
    assert_eq!(error.retry, Retry::Permanent);
    assert_eq!(fleet.topology().workload(&workload.id).unwrap().partition, job.source);
    let status = block_on(mover.status(&job)).unwrap();
    assert!(!status.streaming && status.copied < status.total);
}

#[test]
fn a_copy_that_differs_is_found_by_the_comparison() {
    let (mut fleet, clock) = fleet(6, FaultPlan::none());
    let workload = stateful(&fleet, 3);
    let job = job_for(&fleet.topology(), &workload, 1);
    let fault = CallFault::Corrupt;
    fleet.mover().inject(FaultRule { call: "replicate".into(), skip: 0, times: 1, fault });
    for action in way_there(&clock).iter().take(3) {
        perform(&mut fleet, &clock, &job, action).unwrap();
    }
    let evidence = perform(&mut fleet, &clock, &job, &Action::Verify).unwrap();
    assert_eq!((evidence.equal, evidence.differences.len()), (Some(false), 1));
}

/// Runs the first failure to its end and half an hour beyond; with `ahead`, everything is moved off
/// the failing host first.
fn first_failure(seed: u64, ahead: Ahead) -> (Ledger, f64) {
    let plan = FaultPlan { every: (Span::days(9), Span::days(9)), ..FaultPlan::default() };
    let (mut fleet, clock) =
        fleet(seed, FaultPlan { harmless_every: (Span::days(9), Span::days(9)), ..plan });
    clock.advance(Span::seconds(120));
    fleet.step_to(clock.now());
    let host = fleet.ledger().failures[0].host.clone();
    if ahead == Ahead::Moved {
        let topology = fleet.topology();
        for (i, workload) in topology.workloads.iter().filter(|w| w.partition.host() == host).enumerate() {
            let job = job_for(&topology, workload, i as u64);
            // Several moves at once would be quicker; copying is the whole cost here.
            for action in way_there(&clock).iter().filter(|a| !matches!(a, Action::CanaryShare { .. })) {
                perform(&mut fleet, &clock, &job, action).unwrap_or_else(|| panic!("{action:?}"));
            }
            perform(&mut fleet, &clock, &job, &Action::Retire).unwrap();
        }
    }
    clock.set(START + Span::minutes(50));
    fleet.step_to(clock.now());
    (fleet.ledger(), fleet.ledger().total_unavailable_s(clock.now()))
}

#[derive(PartialEq)]
enum Ahead {
    Moved,
    Nothing,
}

#[test]
fn moving_ahead_of_a_failure_costs_less_than_failing_over_after_it() {
    let (reactive, waited) = first_failure(1, Ahead::Nothing);
    let (proactive, moved) = first_failure(1, Ahead::Moved);
    assert!(reactive.failures[0].missed() && reactive.failures[0].lost >= 2);
    assert!(proactive.failures[0].averted(), "{:?}", proactive.failures[0]);
    assert_eq!(reactive.failures[0].died, proactive.failures[0].died, "the same failure");
    assert!(waited > 60.0 && moved < waited / 10.0, "moved {moved} s, waited {waited} s");
    assert!(reactive.outages.iter().all(|o| o.until.is_some()), "everything came back");
}

#[test]
fn canary_samples_show_the_failing_source_and_a_healthy_destination() {
    let (mut fleet, clock) = fleet(1, FaultPlan::default());
    clock.advance(Span::seconds(80 + 10 + 5 * 60));
    fleet.step_to(clock.now());
    let host = fleet.ledger().failures[0].host.clone();
    let topology = fleet.topology();
    let workload = topology.workloads.iter().find(|w| w.partition.host() == host && w.kind == "oltp");
    let Some(workload) = workload.or_else(|| topology.workloads.iter().find(|w| w.partition.host() == host))
    else {
        panic!("nothing on {host}")
    };
    let job = job_for(&topology, workload, 1);
    let share = Action::CanaryShare { share: Share::MAX };
    perform(&mut fleet, &clock, &job, &share).unwrap();
    let (source, destination) =
        block_on(fleet.mover().samples(&job, clock.now() - Span::seconds(30))).unwrap();
    let median = |of: &[f64]| {
        let mut sorted = of.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let (slow, quick) = (median(&source.latencies_ms), median(&destination.latencies_ms));
    assert!(slow > 1.15 * quick, "source {slow} ms, destination {quick} ms");
    assert_eq!((source.latencies_ms.len(), destination.latencies_ms.len()), (2000, 2000));
    assert_eq!(destination.mismatches, 0);
    let again = block_on(fleet.mover().samples(&job, clock.now() - Span::seconds(30))).unwrap();
    assert_eq!(again, (source, destination), "measuring changes nothing");
}

#[test]
fn two_hours_pass_in_seconds_and_what_died_comes_back() {
    let (mut fleet, clock) = fleet(9, FaultPlan::default());
    let started = std::time::Instant::now();
    let mut readings = 0;
    for _ in 0..480 {
        clock.advance(Span::seconds(15));
        readings += fleet.step_to(clock.now()).iter().map(|m| m.readings.len()).sum::<usize>();
    }
    let seconds = started.elapsed().as_secs_f64();
    let ledger = fleet.ledger();
    let died: Vec<_> = ledger.failures.iter().filter(|f| f.died.is_some()).collect();
    println!(
        "{readings} readings in {seconds:.2} s; {} failures, {} alarms, {:.0} s unavailable",
        died.len(),
        ledger.failures.iter().filter(|f| f.harmless).count(),
        ledger.total_unavailable_s(clock.now())
    );
    assert!(died.len() >= 6 && seconds < 20.0);
    assert!(died.iter().all(|f| f.missed()), "nobody moved anything");
    let open = ledger.outages.iter().filter(|o| o.until.is_none()).count();
    assert!(open < 40, "{open} of {} outages go on", ledger.outages.len());
    let topology = fleet.topology();
    let dead: Vec<_> =
        topology.partitions.iter().filter(|p| p.serving == ServingState::Fenced).map(|p| &p.id).collect();
    assert!(dead.len() <= 12, "{dead:?}");
}
