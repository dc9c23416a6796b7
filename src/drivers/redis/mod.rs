//! Redis Cluster: a workload is a shard, a partition is a node. A shard is evacuated by its
//! replica: it catches up, all keys are compared, the servers themselves vote it into ownership
//! (`CLUSTER FAILOVER`), and the old master stays behind as a replica, which is the way back.
//!
//! Clients cannot be steered by share, so a canary step is real reads on both sides, compared by
//! value. What was done is always found out by asking the servers; nothing is remembered that a
//! restart would lose, but the list of busy keys that only the cut can compare.

mod canary;
mod census;
mod compare;
mod counts;
mod cut;
mod discover;
mod elections;
mod fingerprint;
mod mark;
mod nodes;
mod options;
mod prepare;
mod probe;
mod slots;
mod stage;
mod status;
mod sweep;
mod verify;
mod view;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use async_trait::async_trait;

pub use options::{AfterMove, DeadSource, RedisOptions};
pub use slots::RedisSlotMover;

use self::nodes::Nodes;
use self::verify::Running;
use self::view::View;
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
    comparison: Option<Running>,
    /// Keys that changed at every look; the cut compares them.
    busy: Vec<Vec<u8>>,
    sampler: Option<Sampler>,
    /// When this process last asked for a failover.
    failover_asked: Option<Instant>,
    /// The slots of the shard when it did.
    slots: Vec<view::SlotRange>,
}

/// The driver of one Redis Cluster.
pub struct RedisMover {
    options: RedisOptions,
    nodes: Arc<Nodes>,
    known: Mutex<View>,
    counters: Mutex<BTreeMap<String, discover::Counters>>,
    writes: OnceLock<BTreeSet<String>>,
    elections: Mutex<elections::Elections>,
    work: Works<Work>,
    started: Instant,
}

impl RedisMover {
    /// A driver for the cluster behind `options.seeds`; connects when it is first asked something.
    pub fn new(options: RedisOptions) -> Self {
        Self {
            nodes: Arc::new(Nodes::new(&options)),
            options,
            known: Mutex::default(),
            counters: Mutex::default(),
            writes: OnceLock::new(),
            elections: Mutex::default(),
            work: Works::default(),
            started: Instant::now(),
        }
    }

    /// The seeds and every address that was ever seen in the newest view.
    fn known_addresses(&self) -> Vec<String> {
        let known = self.known.lock().map(|v| v.clone()).unwrap_or_default();
        let seen = known.nodes.into_iter().map(|n| n.address);
        seen.chain(self.options.seeds.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn elections(&self) -> MutexGuard<'_, elections::Elections> {
        self.elections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, view: &View) {
        if let Ok(mut known) = self.known.lock() {
            *known = view.clone();
        }
    }

    /// Does something with what is under way for a job.
    fn with_work<T>(&self, job: &Job, then: impl FnOnce(&mut Work) -> T) -> T {
        self.work.with(job.key("work"), then)
    }
}

#[async_trait]
impl Mover for RedisMover {
    fn class(&self) -> &str {
        &self.options.class
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            online: true,
            digest: true,
            reverse_proved_before_cut: false,
            reverse: true,
            fence_checked_by_target: false,
            canary_reads: true,
            canary_traffic: false,
            system_votes: true,
            follows: true,
            drops_source: self.options.after_move == AfterMove::Forget,
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
            Action::Prepare => {
                vec![prepare::artifact(job, &job.source), prepare::artifact(job, &job.destination)]
            }
            _ => Vec::new(),
        }
    }

    /// The marks go at the end, however it ends: they only name the run and the setting it changed.
    fn cleanup_policy(&self, _artifact: &Artifact) -> CleanupPolicy {
        CleanupPolicy::Always
    }

    async fn perform(&self, job: &Job, action: &Action, _permit: &Permit) -> Result<Answer, DriverError> {
        match action {
            Action::Announce => Ok(done("Redis has no notion of it; nothing was sent")),
            Action::Prepare => self.prepare(job).await,
            Action::Replicate => self.replicate(job).await,
            Action::StopReplication => self.stop_replication(job).await,
            Action::Verify => self.verify(job).await,
            Action::ArmReverse => {
                Ok(done("the old master becomes a replica at the cut; nothing is made before it"))
            }
            Action::ProbeReverse => self.probe_reverse(job).await,
            Action::CanaryShare { share } => self.canary(job, *share).await,
            Action::Fence { .. } => self.fence(job).await,
            Action::Unfence => self.unfence(job).await,
            Action::VerifyAtCut => self.verify_at_cut(job).await,
            Action::Commit => self.commit(job).await,
            Action::Open => self.open(job).await,
            Action::EnableReverse => self.enable_reverse(job).await,
            Action::Retire => self.retire(job).await,
            Action::Cleanup { artifact } => self.cleanup(job, artifact).await,
        }
    }

    async fn probe(&self, job: &Job, action: &Action) -> Probe {
        self.look(job, action).await
    }

    async fn cut_waits_for(&self, job: &Job) -> Result<Option<String>, DriverError> {
        let stage = self.stage(job).await?;
        match stage.owned_by_source() && stage.follows() {
            true => self.cannot_be_voted_yet(&stage, &stage.destination, &stage.source).await,
            false => Ok(None),
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
        self.marked().await
    }

    async fn reap(&self, artifact: &Artifact, _permit: &Permit) -> Result<Answer, DriverError> {
        self.reap_mark(artifact).await
    }
}
