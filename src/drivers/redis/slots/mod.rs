//! Slots of a Redis Cluster: a workload is a range of slots, a partition is a master. A range goes to
//! another master that serves already, so nobody needs an empty node; clients follow key by key.
//!
//! Where a shard is evacuated by its replica ([`super::RedisMover`]) both copies are compared and the
//! servers vote in one step. Here nothing can be compared: where the servers offer it, all slots of the
//! range change their owner at once, and nothing has happened before ([`together`]); where they do not, the
//! keys go one by one, each is at exactly one place at any time, and from the first one on the only way is
//! forward (see [`advance`]). The way back is the same move the other way round.

mod advance;
mod check;
mod claims;
mod look;
mod ranges;
mod scene;
mod survey;
mod together;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;

use self::advance::Pace;
use self::claims::{Claims, Hearing};
use self::survey::{Found, Survey};
use self::together::Offer;
use super::view::SlotRange;
use super::{RedisMover, RedisOptions, done};
use crate::drivers::error::DriverError;
use crate::drivers::mover::{
    Action, Answer, Artifact, CanarySample, Capabilities, CleanupPolicy, Job, JobStatus, Mover, Permit, Probe,
};
use crate::drivers::paired_reads::Sampler;
use crate::drivers::work::Works;
use crate::fleet::{Timestamp, Topology};

/// What the driver has under way for one job; a restart loses it and nothing else.
#[derive(Default)]
struct Work {
    survey: Option<Survey>,
    found: Option<Found>,
    pace: Pace,
    /// Keys that this process moved.
    moved: u64,
    sampler: Option<Sampler>,
    /// Moves of all slots as one that the servers knew when this process began another.
    asked: Option<BTreeSet<String>>,
    claims: Claims,
}

/// The driver of the slots of one Redis Cluster.
pub struct RedisSlotMover {
    inner: RedisMover,
    ranges: Vec<SlotRange>,
    works: Works<Work>,
    /// By id of a node: how it moves slots as one, when it was last asked.
    offers: Mutex<BTreeMap<String, Offer>>,
    /// Whose destination hears anew what its source owns, while no slot changes hands.
    hearing: Hearing,
}

impl RedisSlotMover {
    /// A driver for the cluster behind `options.seeds`, whose workloads are `slots`: ranges like `0-5460`,
    /// or `0-5460/8` for eight parts of one. Connects when it is first asked something.
    ///
    /// # Errors
    /// Which of the texts is no range, or which slot stands in two.
    pub fn new(options: RedisOptions, slots: &[String]) -> Result<Self, String> {
        let ranges = ranges::parse(slots)?;
        Ok(Self {
            inner: RedisMover::new(options),
            ranges,
            works: Works::default(),
            offers: Mutex::default(),
            hearing: Hearing::default(),
        })
    }
}

#[async_trait]
impl Mover for RedisSlotMover {
    fn class(&self) -> &str {
        &self.inner.options.class
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            online: true,
            digest: false,
            reverse_proved_before_cut: false,
            reverse: true,
            fence_checked_by_target: false,
            canary_reads: false,
            canary_traffic: false,
            system_votes: true,
            follows: false,
            drops_source: false,
        }
    }

    fn shares_partitions(&self) -> bool {
        true
    }

    async fn discover(&self) -> Result<Topology, DriverError> {
        self.topology().await
    }

    fn describe(&self, job: &Job) -> Vec<String> {
        self.commands(job)
    }

    /// The marks alone: what is half moved stands in the nodes' own tables, and the next engine finishes it.
    fn artifacts(&self, job: &Job, action: &Action) -> Vec<Artifact> {
        self.inner.artifacts(job, action)
    }

    fn cleanup_policy(&self, artifact: &Artifact) -> CleanupPolicy {
        self.inner.cleanup_policy(artifact)
    }

    async fn perform(&self, job: &Job, action: &Action, _permit: &Permit) -> Result<Answer, DriverError> {
        match action {
            Action::Announce => Ok(done("Redis has no notion of it; nothing was sent")),
            Action::Prepare => self.prepare(job).await,
            Action::Replicate => self.survey(job).await,
            Action::StopReplication => Ok(done("nothing was copied")),
            Action::Verify | Action::VerifyAtCut => {
                Ok(done("there is one copy only; there is nothing to compare"))
            }
            Action::ArmReverse => {
                Ok(done("nothing is made before the cut; the way back is a move of its own"))
            }
            Action::ProbeReverse | Action::EnableReverse => self.way_back(job).await,
            Action::CanaryShare { .. } => Ok(done("clients cannot be steered, and there is no second copy")),
            Action::Fence { .. } => Ok(done("nothing is held here: clients follow the slots")),
            Action::Unfence => self.let_go(job).await,
            Action::Commit => self.advance(job).await,
            Action::Open => self.open(job).await,
            Action::Retire => {
                self.works.end(&job.key("work"));
                Ok(done("the old owner keeps its other slots"))
            }
            Action::Cleanup { artifact } => self.inner.take_mark(artifact).await,
        }
    }

    async fn probe(&self, job: &Job, action: &Action) -> Probe {
        self.look(job, action).await
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
        self.inner.leaks().await
    }

    async fn reap(&self, artifact: &Artifact, permit: &Permit) -> Result<Answer, DriverError> {
        self.inner.reap(artifact, permit).await
    }
}
