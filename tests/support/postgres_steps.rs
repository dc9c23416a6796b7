//! The steps of a move of the test schema, asked of the driver itself, and what they leave behind.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::time::{Duration, Instant};

use foreshift::drivers::postgres::{PostgresMover, PostgresOptions};
use foreshift::drivers::{Action, Artifact, Evidence, Job, Mover, Permit};
use foreshift::fleet::{
    Clock, Epoch, Generation, MigrationId, PartitionId, Span, SystemClock, Timestamp, WorkloadId,
};

use crate::postgres::{Clusters, DATABASE, PASSWORD, Seen, Writer};

/// How long a test waits for what should come soon.
pub const LONG: Duration = Duration::from_secs(40);

/// How the driver reaches the clusters.
pub fn options(clusters: &Clusters) -> PostgresOptions {
    let mut options = PostgresOptions::new("shop", clusters.addresses(), DATABASE);
    options.schemas = vec!["orders".into()];
    options.password = Some(PASSWORD.into());
    options
}

/// A driver of the clusters.
pub fn mover(clusters: &Clusters) -> PostgresMover {
    PostgresMover::new(options(clusters))
}

/// The right to do it.
pub fn permit() -> Permit {
    Permit::mint_for_runner(Epoch(5), "test")
}

/// The partition that a cluster is.
pub fn partition(clusters: &Clusters, n: usize) -> PartitionId {
    let address = clusters.all[n].address;
    PartitionId::from(format!("{}/{}", address.ip(), address.port()))
}

/// A move from one cluster to another.
pub fn job(clusters: &Clusters, source: usize, destination: usize) -> Job {
    Job {
        migration: MigrationId(7),
        workload: WorkloadId::from("shop-orders"),
        source: partition(clusters, source),
        destination: partition(clusters, destination),
        generation: Generation(1),
    }
}

/// Asks for an action until it is done.
pub async fn complete(mover: &dyn Mover, job: &Job, action: Action) -> Evidence {
    crate::support::complete(mover, job, &action, &permit(), LONG).await
}

/// Everything that a job may have made, last made first.
pub fn artifacts(mover: &dyn Mover, job: &Job) -> Vec<Artifact> {
    let mut all: Vec<Artifact> = [Action::Prepare, Action::Replicate, Action::ArmReverse]
        .iter()
        .flat_map(|action| mover.artifacts(job, action))
        .collect();
    all.reverse();
    all
}

/// Takes everything away that a job may have made; the copy only where it is asked for.
pub async fn cleanup(mover: &dyn Mover, job: &Job, with_copy: bool) {
    for artifact in artifacts(mover, job) {
        if with_copy || artifact.kind != "copy" {
            complete(mover, job, Action::Cleanup { artifact }).await;
        }
    }
}

/// A hold that lets go by itself.
pub fn soon() -> Action {
    Action::Fence { deadline: SystemClock.now() + Span::seconds(2) }
}

/// A hold that does not.
pub fn seal() -> Action {
    Action::Fence { deadline: Timestamp(4_102_444_800_000) }
}

/// A hold whose deadline counts from now.
pub fn anew(action: &Action) -> Action {
    let passes = matches!(action, Action::Fence { .. }) && *action != seal();
    if passes { soon() } else { action.clone() }
}

/// Everything up to the cut.
pub async fn before_the_cut(mover: &dyn Mover, job: &Job) {
    for action in [Action::Announce, Action::Prepare, Action::Replicate] {
        complete(mover, job, action).await;
    }
    let verified = complete(mover, job, Action::Verify).await;
    println!("{}", verified.summary);
    assert_eq!(verified.equal, Some(true), "{verified:?}");
    complete(mover, job, Action::ArmReverse).await;
    println!("{}", complete(mover, job, Action::ProbeReverse).await.summary);
}

/// Hold, seal, compare, open: how long writes were held.
pub async fn the_cut(mover: &dyn Mover, job: &Job) -> Duration {
    let start = Instant::now();
    complete(mover, job, soon()).await;
    complete(mover, job, seal()).await;
    let verified = complete(mover, job, Action::VerifyAtCut).await;
    assert_eq!(verified.equal, Some(true), "{verified:?}");
    let opened = complete(mover, job, Action::Open).await;
    let held = start.elapsed();
    println!("cut in {held:?}: {}; {}", verified.summary, opened.summary);
    held
}

/// What stands on a cluster that could be ours, beside the mark.
pub async fn ours(clusters: &Clusters, n: usize) -> Vec<Vec<String>> {
    let sql = "SELECT 'publication', pubname FROM pg_publication \
        UNION SELECT 'subscription', subname FROM pg_subscription \
        UNION SELECT 'slot', slot_name FROM pg_replication_slots \
        UNION SELECT 'trigger', tgname FROM pg_trigger WHERE tgname LIKE 'fs%' \
        UNION SELECT 'relation', relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
          WHERE n.nspname = 'foreshift' AND relname LIKE 'fs%' \
        UNION SELECT 'function', proname FROM pg_proc WHERE proname LIKE 'fs\\_%'";
    clusters.all[n].ask(sql).await
}

/// How many tables of a cluster have a guard.
pub async fn guards(clusters: &Clusters, n: usize) -> String {
    clusters.all[n].text("SELECT count(*) FROM pg_trigger WHERE tgname = 'foreshift_guard'").await
}

/// Nothing that was acknowledged is lost, and nothing counts twice.
pub async fn all_there(clusters: &Clusters, owner: usize, seen: &Seen) {
    let cluster = &clusters.all[owner];
    let sum: u64 = cluster.text("SELECT sum(n) FROM orders.counters").await.parse().unwrap();
    let lines: u64 = cluster.text("SELECT count(*) FROM orders.log").await.parse().unwrap();
    assert_eq!(sum, lines);
    assert!((seen.acknowledged..=seen.acknowledged + seen.unknown).contains(&sum), "{sum} of {seen:?}");
}

/// A client that writes and goes where the workload is.
pub fn writer(clusters: &Clusters) -> Writer {
    Writer::start(clusters.all.iter().map(|c| c.address).collect())
}
