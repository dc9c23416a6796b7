//! The cut and what comes after it: the servers vote, everybody is asked who won, the old master
//! follows the new one, and stays or is forgotten.

use std::time::{Duration, Instant};

use super::census::first_difference;
use super::nodes::{Standing, system};
use super::prepare::{SyncState, sync_state};
use super::stage::Stage;
use super::view::{Health, text_of};
use super::{AfterMove, DeadSource, RedisMover, done, working};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Answer, Evidence, Job};

/// A manual failover that has not happened by then has been given up by the servers: Redis' own
/// limit is 5 s (`CLUSTER_MF_TIMEOUT`).
pub(super) const GIVEN_UP: Duration = Duration::from_millis(5_500);

impl RedisMover {
    /// Asks the destination to take over, once, and watches until it has or the servers gave up.
    pub(super) async fn commit(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job).await?;
        if stage.owned_by_destination() {
            return Ok(self.owned(&stage, "the destination owns the shard"));
        }
        let address = stage.destination.address.clone();
        let refuse = |retry, detail: String| {
            Err(DriverError::new(retry, system(&address), "CLUSTER FAILOVER", detail))
        };
        if !stage.owned_by_source() {
            return refuse(Retry::Permanent, self.not_the_owner(job, &stage));
        }
        if !stage.follows() {
            return refuse(Retry::Permanent, format!("{address} is no replica of {}", stage.source.address));
        }
        if stage.census.silent.contains(&address) {
            return refuse(Retry::Retryable, "the destination does not answer; nothing was sent".into());
        }
        let dead = stage.source.health == Health::Failed;
        if !dead
            && let Some(wait) = self.cannot_be_voted_yet(&stage, &stage.destination, &stage.source).await?
        {
            return Ok(working(wait));
        }
        let asked = self.with_work(job, |w| w.failover_asked);
        let start = match asked.filter(|at| at.elapsed() < GIVEN_UP) {
            Some(at) => at,
            None => {
                let mut cmd = redis::cmd("CLUSTER");
                cmd.arg("FAILOVER");
                match (dead, self.options.dead_source) {
                    (true, DeadSource::LeaveToCluster) => {
                        return Ok(working("the cluster's own election: the source has failed"));
                    }
                    (true, DeadSource::Force) => {
                        cmd.arg("FORCE");
                    }
                    (false, _) => {}
                }
                let now = Instant::now();
                let slots = stage.source.slots.clone();
                self.with_work(job, |w| (w.failover_asked, w.slots) = (Some(now), slots));
                if let Err(error) = self.nodes.tell(&address, &cmd).await {
                    if error.retry != Retry::Unknown {
                        self.with_work(job, |w| w.failover_asked = None);
                    }
                    return Err(error);
                }
                now
            }
        };
        self.watch_the_cut(job, &stage, start).await
    }

    async fn watch_the_cut(&self, job: &Job, stage: &Stage, start: Instant) -> Result<Answer, DriverError> {
        let (mut promoted, mut pause) = (None, Duration::from_millis(1));
        while start.elapsed() < GIVEN_UP {
            if promoted.is_none()
                && let Ok(Standing::Master { .. }) = self.nodes.standing(&stage.destination.address).await
            {
                promoted = Some(start.elapsed());
            }
            if let Some(promoted) = promoted {
                let demoted = match self.nodes.standing(&stage.source.address).await {
                    Ok(Standing::Replica { .. }) => Some("the old master follows"),
                    Ok(Standing::Master { .. }) => None,
                    Err(_) => Some("the old master does not answer"),
                };
                if let Some(demoted) = demoted {
                    let words = format!(
                        "promoted after {:.1} ms; {demoted} after {:.1} ms",
                        promoted.as_secs_f64() * 1e3,
                        start.elapsed().as_secs_f64() * 1e3
                    );
                    self.with_work(job, |w| w.failover_asked = None);
                    return Ok(self.owned(stage, &words));
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(8));
        }
        self.with_work(job, |w| w.failover_asked = None);
        let now = self.stage(job).await?;
        if now.owned_by_destination() {
            return Ok(self.owned(&now, "the destination owns the shard"));
        }
        Err(DriverError::new(
            Retry::Retryable,
            system(&stage.destination.address),
            "CLUSTER FAILOVER",
            "the servers gave the failover up after 5 s; the source still owns the shard. Is a majority of masters up, and does the replica keep up?",
        ))
    }

    fn owned(&self, stage: &Stage, words: &str) -> Answer {
        Answer::Done(Evidence {
            summary: format!("{words}: {}", stage.destination.address),
            items: u64::from(stage.destination.slot_count().max(stage.source.slot_count())),
            ..Evidence::default()
        })
    }

    /// Waits until every node that answers names the same owner.
    pub(super) async fn open(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job).await?;
        if !stage.owned_by_destination() {
            return Err(DriverError::new(
                Retry::Retryable,
                system(&stage.destination.address),
                "open",
                "it does not own the shard; ask for the commit first",
            ));
        }
        let all = stage.census.views.len();
        let agree = stage.census.agreeing(stage.slot, &stage.destination.id);
        if agree < all {
            return Ok(working(format!("all nodes to know the new owner: {agree} of {all} do")));
        }
        if let Some(wait) = stage.census.disagreement(stage.slot, &stage.destination.id) {
            return Ok(working(wait));
        }
        let before = self.with_work(job, |w| w.slots.clone());
        if let Some(slot) = first_difference(&before, &stage.destination.slots).filter(|_| !before.is_empty())
        {
            return Ok(working(format!(
                "slot {slot} to be as it was: before the cut the shard was {}, now it is {}",
                text_of(&before),
                stage.destination.slots_text()
            )));
        }
        let mut words = format!("all {all} nodes that answer name {} as owner", stage.destination.address);
        if !stage.census.silent.is_empty() {
            words.push_str(&format!("; silent: {}", stage.census.silent.join(", ")));
        }
        Ok(done(words))
    }

    /// Proves that the old master could take over again: it follows, has applied all, and keys read
    /// from it are equal.
    pub(super) async fn enable_reverse(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job).await?;
        if !stage.owned_by_destination() {
            return Err(DriverError::new(
                Retry::Retryable,
                system(&stage.destination.address),
                "proving the way back",
                "it does not own the shard; ask for the commit first",
            ));
        }
        let source = &stage.source.address;
        if stage.census.silent.contains(source) {
            return Ok(working(format!(
                "the old master {source} to answer: without it there is no way back"
            )));
        }
        match sync_state(&self.nodes.info(source).await?) {
            SyncState::Streaming => {}
            SyncState::Copying { share } => {
                return Ok(working(format!("the old master to copy, {:.0} % there", share * 100.0)));
            }
            SyncState::Broken => return Ok(working("the old master to follow the new one")),
        }
        if let Some(wait) = self.cannot_be_voted_yet(&stage, &stage.source, &stage.destination).await? {
            return Ok(working(wait));
        }
        let pair = self.pair(&stage);
        let behind = pair.wait_until_applied(Duration::from_secs(2)).await?;
        let keys = pair.random_keys(100).await?;
        let mut found = super::compare::Comparison::default();
        pair.look_again(keys, &mut found).await?;
        Ok(Answer::Done(Evidence {
            summary: format!(
                "{source} follows, {:.1} ms behind; {} sampled keys equal, {} different",
                behind.as_secs_f64() * 1e3,
                found.keys,
                found.different
            ),
            equal: Some(found.different == 0),
            items: found.keys + found.different,
            differences: found.differences,
            artifacts: Vec::new(),
        }))
    }

    /// Before the cut there is nothing to prove; after it the same as [`Self::enable_reverse`].
    pub(super) async fn probe_reverse(&self, job: &Job) -> Result<Answer, DriverError> {
        if self.stage(job).await?.owned_by_destination() {
            return self.enable_reverse(job).await;
        }
        Ok(done(
            "the way back exists from the cut on and is proved right after it; before it nothing can be proved",
        ))
    }

    /// Leaves the old master as a replica, or has every node forget it.
    pub(super) async fn retire(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job).await;
        self.with_work(job, |w| (w.sampler, w.comparison) = (None, None));
        match self.options.after_move {
            AfterMove::KeepAsReplica => {
                let stage = stage?;
                Ok(done(format!("{} stays as a replica, ready to take over", stage.source.address)))
            }
            AfterMove::Forget => match stage {
                Ok(stage) => self.forget(&stage).await,
                // The source is not in the cluster any more.
                Err(error) if error.retry == Retry::Permanent => Ok(done("every node has forgotten it")),
                Err(error) => Err(error),
            },
        }
    }

    /// Every node has to forget it within 60 s, or gossip brings it back; so the node itself is made
    /// to forget the others first, and stops talking.
    async fn forget(&self, stage: &Stage) -> Result<Answer, DriverError> {
        let source = &stage.source;
        if !stage.owned_by_destination() {
            return Err(DriverError::new(
                Retry::Permanent,
                system(&source.address),
                "CLUSTER FORGET",
                "it still owns the shard; nothing was done",
            ));
        }
        if !stage.census.silent.contains(&source.address) {
            self.nodes.tell(&source.address, redis::cmd("CLUSTER").arg("RESET").arg("SOFT")).await?;
        }
        for view in &stage.census.views {
            let Some(me) = view.asked().filter(|n| n.id != source.id) else { continue };
            if view.node(&source.id).is_some() {
                self.nodes.tell(&me.address, redis::cmd("CLUSTER").arg("FORGET").arg(&source.id)).await?;
            }
        }
        Ok(working("every node to forget the old master"))
    }
}
