//! PostgreSQL 15 and newer: a workload is a database, a schema, or the rows of one tenant in tables that tenants share;
//! a partition is a cluster. A workload is moved by
//! logical replication; both sides keep a digest of every table, which is compared at the cut; writes
//! are held by a guard on every table that reads one row under a lock; the way back is a second stream,
//! made and proved before the cut and silent until it. Which way data flows is decided by what each
//! publication publishes, inside the transaction that seals the source or opens the destination.
//!
//! What was done is always found out by asking the servers; a restart loses a comparison that was under
//! way and nothing else.

mod bouncer;
mod bouncer_file;
mod canary;
mod copy;
mod cut;
mod databases;
mod digest;
mod discover;
mod hash;
mod large_objects;
mod leave;
mod options;
mod pools;
mod prepare;
mod probe;
mod reap;
mod references;
mod rows_guard;
mod scope;
mod session;
mod shape;
mod stage;
mod stream;
mod structure;
mod sweep;
mod tenants;
mod tenants_found;
mod tenants_left;
mod tls;
mod verify;
mod views;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

pub use databases::DatabasesMover;
pub use options::{AfterMove, BouncerOptions, PostgresOptions, TenantOptions};

use self::bouncer::Bouncer;
use self::digest::Keeper;
use self::session::Clusters;
use self::stage::Stage;
use self::verify::{Found, Running};
use super::error::DriverError;
use super::mover::{
    Action, Answer, Artifact, CanarySample, Capabilities, CleanupPolicy, Job, JobStatus, Mover, Permit,
    Probe, done, working,
};
use super::paired_reads::Sampler;
use super::work::Works;
use crate::fleet::{Timestamp, Topology};

/// What the driver has under way for one job; a restart loses it and nothing else.
#[derive(Default)]
struct Work {
    comparison: Option<Running<Found>>,
    views: Option<Running<()>>,
    keeper: Option<Keeper>,
    sampler: Option<Sampler>,
    /// What was changed in the structure, and the look that finds it out.
    shapes: Option<shape::Shapes>,
    comparing: Option<Running<shape::Shapes>>,
    /// The tables as they were at the last cut, and the hash of what they look like.
    tables: Option<(session::Line, Vec<stage::Table>)>,
}

/// The driver of one set of clusters.
#[derive(Clone)]
pub struct PostgresMover {
    options: Arc<PostgresOptions>,
    clusters: Arc<Clusters>,
    bouncers: Arc<Vec<Bouncer>>,
    counters: Arc<Mutex<BTreeMap<String, discover::Counters>>>,
    work: Arc<Works<Work>>,
}

impl PostgresMover {
    /// A driver for these clusters; connects when it is first asked something.
    pub fn new(options: PostgresOptions) -> Self {
        Self {
            clusters: Arc::new(Clusters::new(&options)),
            bouncers: Arc::new(options.bouncers.iter().map(|b| Bouncer::new(b.clone(), &options)).collect()),
            options: Arc::new(options),
            counters: Arc::default(),
            work: Arc::default(),
        }
    }

    /// Does something with what is under way for a migration, whichever way its job goes.
    fn with_work<T>(&self, job: &Job, then: impl FnOnce(&mut Work) -> T) -> T {
        self.work.with(stage::Names::of(job).digest, then)
    }

    /// Tends the digests of both sides from now on.
    fn keep(&self, job: &Job, stage: &Stage) {
        let (clusters, scan) = (self.clusters.clone(), self.options.scan_timeout);
        self.with_work(job, |w| {
            w.keeper.get_or_insert_with(|| Keeper::start(clusters, stage, scan));
        });
    }

    /// Ends what is under way for a migration.
    fn forget(&self, job: &Job) {
        self.work.end(&stage::Names::of(job).digest);
    }
}

#[async_trait]
impl Mover for PostgresMover {
    fn class(&self) -> &str {
        &self.options.class
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            online: true,
            digest: true,
            reverse_proved_before_cut: true,
            reverse: true,
            fence_checked_by_target: true,
            canary_reads: true,
            canary_traffic: false,
            system_votes: false,
            follows: true,
            drops_source: self.options.after_move == AfterMove::DropCopy,
        }
    }

    async fn discover(&self) -> Result<Topology, DriverError> {
        self.topology().await
    }

    fn describe(&self, job: &Job) -> Vec<String> {
        self.commands(job)
    }

    fn artifacts(&self, job: &Job, action: &Action) -> Vec<Artifact> {
        match action {
            Action::Fence { .. } => self.pauses(job),
            action => sweep::artifacts(job, action),
        }
    }

    fn cleanup_policy(&self, artifact: &Artifact) -> CleanupPolicy {
        match artifact.kind.as_str() {
            sweep::COPY => CleanupPolicy::OnFailure,
            sweep::PAUSED => CleanupPolicy::Always,
            _ => CleanupPolicy::DeferredOnSuccess,
        }
    }

    async fn perform(&self, job: &Job, action: &Action, permit: &Permit) -> Result<Answer, DriverError> {
        match action {
            Action::Announce => Ok(done("PostgreSQL has no notion of it; nothing was sent")),
            Action::Prepare => self.prepare(job, permit).await,
            Action::Replicate => self.replicate(job).await,
            Action::StopReplication => self.stop_replication(job).await,
            Action::Verify => self.verify(job).await,
            Action::ArmReverse => self.arm_reverse(job).await,
            Action::ProbeReverse => self.probe_reverse(job).await,
            Action::CanaryShare { share } => self.canary(job, *share).await.map(done),
            Action::Fence { deadline } => self.fence(job, permit, *deadline).await,
            Action::Unfence => self.unfence(job, permit).await,
            Action::VerifyAtCut => self.verify_at_cut(job).await,
            Action::Commit => Ok(done("the owner record decides; PostgreSQL has no say")),
            Action::Open => self.open(job, permit).await,
            Action::EnableReverse => self.enable_reverse(job).await,
            Action::Retire => self.retire(job, permit).await,
            Action::Cleanup { artifact } => self.cleanup(job, artifact, permit).await,
        }
    }

    async fn probe(&self, job: &Job, action: &Action) -> Probe {
        self.look(job, action).await
    }

    async fn cut_waits_for(&self, job: &Job) -> Result<Option<String>, DriverError> {
        let stage = self.stage(job)?;
        match self.pools_wait_for(&stage).await {
            Some(pools) => Ok(Some(pools)),
            None => Ok(self.shapes_wait_for(job, &stage).await),
        }
    }

    async fn status(&self, job: &Job) -> Result<JobStatus, DriverError> {
        self.job_status(job).await
    }

    async fn samples(
        &self,
        job: &Job,
        since: Timestamp,
    ) -> Result<(CanarySample, CanarySample), DriverError> {
        self.measured(job, since).await
    }

    async fn leaks(&self) -> Result<Vec<Artifact>, DriverError> {
        self.scan().await
    }

    async fn reap(&self, artifact: &Artifact, permit: &Permit) -> Result<Answer, DriverError> {
        self.reap_one(artifact, permit).await
    }
}
