//! The service driver against real processes: every step may come twice, what ran before stays, and a host
//! that does not answer is never taken for one where nothing runs.

#[path = "support/services.rs"]
mod services;
mod support;

use std::time::Duration;

use foreshift::drivers::service::{Control, Instances, Service, ServiceMover, ServiceOptions};
use foreshift::drivers::{Action, Answer, Artifact, DriverError, Evidence, Job, Mover, Permit, Probe, Retry};
use foreshift::fleet::{
    Epoch, Generation, HostId, MigrationId, PartitionId, ServingState, Span, Timestamp, WorkloadId,
};
use services::{HOSTS, Services};

const LONG: Duration = Duration::from_secs(60);

/// The driver over the stand-in for systemd on hosts that are reached by another program.
fn mover(services: &Services, instances: Instances) -> ServiceMover {
    let service = Service {
        control: Control::Unit("api.service".into()),
        health: format!("http://{{host}}:{}/", services.port),
    };
    let hosts = HOSTS.map(HostId::from);
    ServiceMover::new(
        ServiceOptions {
            via: vec![services.folder().join("remote").display().to_string(), "{host}".into()],
            instances,
            stop_within: Span::seconds(10),
            ..ServiceOptions::new("web", hosts, [(WorkloadId::from("api"), service)])
        },
        None,
    )
}

fn job() -> Job {
    Job {
        migration: MigrationId(7),
        workload: WorkloadId::from("api"),
        source: PartitionId::from(format!("{}/web", HOSTS[0])),
        destination: PartitionId::from(format!("{}/web", HOSTS[1])),
        generation: Generation(2),
    }
}

async fn perform(mover: &ServiceMover, job: &Job, action: &Action) -> Result<Evidence, DriverError> {
    let permit = Permit::mint_for_runner(Epoch(3), "00");
    let deadline = std::time::Instant::now() + LONG;
    loop {
        match mover.perform(job, action, &permit).await? {
            Answer::Done(evidence) => return Ok(evidence),
            Answer::Working { waiting_for } => {
                assert!(std::time::Instant::now() < deadline, "{} waits for {waiting_for}", action.name());
            }
        }
    }
}

async fn twice(mover: &ServiceMover, job: &Job, action: &Action) {
    for _ in 0..2 {
        perform(mover, job, action).await.unwrap_or_else(|e| panic!("{}: {e}", action.name()));
    }
}

fn fence() -> Action {
    Action::Fence { deadline: Timestamp(i64::MAX) }
}

#[tokio::test]
async fn every_step_of_a_unit_may_come_twice_and_it_starts_with_its_new_host() {
    let Some(services) = Services::start() else { return };
    services.control("start", HOSTS[0]);
    services.mark(&format!("enabled-{}", HOSTS[0]), true);
    let (mover, job) = (mover(&services, Instances::Many), job());
    let topology = mover.discover().await.expect("hosts that answer");
    assert_eq!(topology.workloads[0].partition, job.source);
    assert!(topology.workloads[0].stateless);

    let artifacts = mover.artifacts(&job, &Action::Prepare);
    assert_eq!(artifacts.len(), 1, "what it starts is known beforehand");
    twice(&mover, &job, &Action::Prepare).await;
    assert_eq!(services.running(), HOSTS);
    assert!(!services.marked(&format!("enabled-{}", HOSTS[1])), "only what stays starts with its host");
    twice(&mover, &job, &Action::ProbeReverse).await;
    twice(&mover, &job, &fence()).await;
    assert_eq!(services.running(), HOSTS, "nobody has to be stopped for the cut");
    twice(&mover, &job, &Action::Open).await;
    assert!(services.marked(&format!("enabled-{}", HOSTS[1])));
    twice(&mover, &job, &Action::EnableReverse).await;
    twice(&mover, &job, &Action::Retire).await;
    assert_eq!(services.running(), [HOSTS[1]]);
    assert!(!services.marked(&format!("enabled-{}", HOSTS[0])), "it does not come back with the old host");
    let started = std::fs::read_to_string(services.folder().join(format!("started-{}", HOSTS[1])));
    assert_eq!(started.expect("it was started"), "x", "started once");
    assert_eq!(mover.discover().await.expect("hosts that answer").workloads[0].partition, job.destination);
}

#[tokio::test]
async fn undoing_stops_what_was_started_and_nothing_else() {
    let Some(services) = Services::start() else { return };
    services.control("start", HOSTS[0]);
    let (ours, job) = (mover(&services, Instances::Many), job());
    ours.discover().await.expect("hosts that answer");
    let artifact = ours.artifacts(&job, &Action::Prepare).remove(0);
    let cleanup = Action::Cleanup { artifact };
    // Before anything, after the start, and by an engine that knows nothing any more.
    twice(&ours, &job, &cleanup).await;
    assert_eq!(services.running(), [HOSTS[0]]);
    twice(&ours, &job, &Action::Prepare).await;
    let next = mover(&services, Instances::Many);
    twice(&next, &job, &cleanup).await;
    assert_eq!(services.running(), [HOSTS[0]]);
    assert!(matches!(next.probe(&job, &cleanup_of(&next, &job)).await, Probe::Applied { .. }));

    // It runs on both by the operator's own will: the move only takes it from one, and undone leaves both.
    services.control("start", HOSTS[1]);
    let topology = next.discover().await.expect("hosts that answer");
    assert_eq!(topology.workloads[0].replicas, std::slice::from_ref(&job.destination));
    assert!(next.artifacts(&job, &Action::Prepare).is_empty());
    twice(&next, &job, &Action::Prepare).await;
    assert_eq!(services.running(), HOSTS);
}

fn cleanup_of(mover: &ServiceMover, job: &Job) -> Action {
    let artifact = Artifact {
        kind: "service_instance".into(),
        name: format!("api fs_{}", job.key("prepare")),
        partition: job.destination.clone(),
    };
    assert_eq!(mover.cleanup_policy(&artifact), foreshift::drivers::CleanupPolicy::OnFailure);
    Action::Cleanup { artifact }
}

#[tokio::test]
async fn what_somebody_starts_in_between_is_neither_used_nor_stopped() {
    let Some(services) = Services::start() else { return };
    services.control("start", HOSTS[0]);
    let (mover, job) = (mover(&services, Instances::Many), job());
    mover.discover().await.expect("hosts that answer");
    services.control("start", HOSTS[1]);
    let error = perform(&mover, &job, &Action::Prepare).await.expect_err("not ours");
    assert_eq!(error.retry, Retry::Permanent, "{error}");
    twice(&mover, &job, &cleanup_of(&mover, &job)).await;
    assert_eq!(services.running(), HOSTS);
}

#[tokio::test]
async fn where_only_one_may_run_the_fence_stops_it_and_letting_go_starts_it_again() {
    let Some(services) = Services::start() else { return };
    services.mark("one", true);
    services.control("start", HOSTS[0]);
    let (ours, job) = (mover(&services, Instances::One), job());
    ours.discover().await.expect("hosts that answer");
    assert!(ours.fence_budget() > Some(Span::seconds(10)), "an orderly stop takes its time");
    twice(&ours, &job, &Action::Prepare).await;
    assert_eq!(services.running(), [HOSTS[0]]);
    twice(&ours, &job, &fence()).await;
    assert!(services.running().is_empty());
    assert!(matches!(ours.probe(&job, &fence()).await, Probe::Applied { .. }));
    // It runs nowhere now, and is still known to belong to its source.
    assert_eq!(ours.discover().await.expect("hosts").workloads[0].partition, job.source);
    let next = mover(&services, Instances::One);
    twice(&next, &job, &Action::Unfence).await;
    assert_eq!(services.running(), [HOSTS[0]]);
    twice(&next, &job, &fence()).await;
    twice(&next, &job, &Action::Open).await;
    assert_eq!(services.running(), [HOSTS[1]]);
    assert!(!services.marked("two"), "two ran at the same time");
    twice(&next, &job, &Action::Retire).await;
    // A destination where it runs already is refused before anything is stopped.
    let error = perform(&mover(&services, Instances::One), &job, &Action::Prepare).await;
    assert_eq!(error.expect_err("two must never run").retry, Retry::Permanent);
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_not_one_where_nothing_runs() {
    let Some(services) = Services::start() else { return };
    services.control("start", HOSTS[0]);
    let (mover, job) = (mover(&services, Instances::One), job());
    services.mark(&format!("gone-{}", HOSTS[1]), true);
    let topology = mover.discover().await.expect("one host answers");
    let gone = topology.partition(&job.destination).expect("it is named");
    assert_eq!(gone.serving, ServingState::Fenced);
    let error = perform(&mover, &job, &Action::Prepare).await.expect_err("nobody is there");
    assert_eq!(error.retry, Retry::Retryable, "{error}");
    assert!(error.to_string().contains("no route"), "{error}");
    services.mark(&format!("gone-{}", HOSTS[1]), false);
    services.mark(&format!("gone-{}", HOSTS[0]), true);
    let error = perform(&mover, &job, &fence()).await.expect_err("it may run on");
    assert_eq!(error.retry, Retry::Retryable, "{error}");
    assert!(matches!(mover.probe(&job, &fence()).await, Probe::Unknown { .. }));
    services.mark(&format!("gone-{}", HOSTS[0]), false);
}
