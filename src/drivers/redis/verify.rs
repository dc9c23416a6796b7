//! Comparing the two sides: all of them before the cut, in the background; what is still uncertain
//! at the cut, writes being held for as short as can be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::compare::{Comparison, Pair};
use super::nodes::system;
use super::stage::Stage;
use super::{RedisMover, working};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Answer, Evidence, Job};

/// How long a call waits for a comparison before it says `working`.
const PATIENCE: Duration = Duration::from_millis(900);

/// A comparison under way; dropped, it ends.
pub(super) struct Running {
    pub(super) task: JoinHandle<Result<Comparison, DriverError>>,
    done: Arc<AtomicU64>,
    total: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RedisMover {
    pub(super) fn pair(&self, stage: &Stage) -> Pair {
        let (owner, other) = stage.owner_and_other();
        Pair {
            nodes: self.nodes.clone(),
            owner: owner.address.clone(),
            other: other.address.clone(),
            batch: self.options.verify_batch.max(1),
            done: Arc::default(),
        }
    }

    /// Starts the comparison of all keys or goes on waiting for it.
    pub(super) async fn verify(&self, job: &Job) -> Result<Answer, DriverError> {
        if !self.with_work(job, |w| w.comparison.is_some()) {
            let stage = self.stage(job).await?;
            let pair = self.pair(&stage);
            pair.wait_until_applied(Duration::from_secs(2)).await?;
            let total = self.nodes.info(&pair.owner).await?.keys();
            let done = pair.done.clone();
            let task = tokio::spawn(async move { pair.compare_all().await });
            self.with_work(job, |w| w.comparison = Some(Running { task, done, total }));
        }
        let start = Instant::now();
        loop {
            let finished =
                self.with_work(job, |w| w.comparison.as_ref().is_some_and(|r| r.task.is_finished()));
            if finished {
                break;
            }
            if start.elapsed() > PATIENCE {
                let (done, total) = self.with_work(job, |w| {
                    let r = w.comparison.as_ref();
                    r.map_or((0, 0), |r| (r.done.load(Ordering::Relaxed), r.total))
                });
                return Ok(working(format!("the comparison: {done} of about {total} keys")));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let Some(mut running) = self.with_work(job, |w| w.comparison.take()) else {
            return Ok(working("another call of the same comparison"));
        };
        let found = (&mut running.task).await.map_err(|error| {
            DriverError::new(
                Retry::Retryable,
                format!("redis {}", self.options.cluster),
                "comparing",
                format!("the comparison was broken off: {error}"),
            )
        })??;
        let busy = found.busy.clone();
        self.with_work(job, |w| w.busy = busy);
        Ok(Answer::Done(evidence(&found, "")))
    }

    /// Asks whether a failover could be voted now. Writes are not held here: the servers hold them
    /// themselves within the failover, and only while it lasts.
    pub(super) async fn fence(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job).await?;
        // All keys are read for nothing while it is cut.
        self.with_work(job, |w| w.comparison = None);
        if stage.owned_by_destination() {
            return Ok(super::done("the destination owns the shard already"));
        }
        if !stage.owned_by_source() {
            let why = self.not_the_owner(job, &stage);
            return Err(DriverError::new(Retry::Permanent, system(&stage.source.address), "fence", why));
        }
        if !stage.census.majority_says(stage.slot, &stage.source.id) {
            return Err(DriverError::new(
                Retry::Retryable,
                system(&stage.source.address),
                "fence",
                "no majority of the masters answers; a failover could not be voted now",
            ));
        }
        if let Some(wait) = self.cannot_be_voted_yet(&stage, &stage.destination, &stage.source).await? {
            return Ok(working(wait));
        }
        let behind = self.pair(&stage).wait_until_applied(Duration::from_millis(500)).await?;
        Ok(super::done(format!(
            "the destination is {:.1} ms behind; the servers themselves hold writes within the failover",
            behind.as_secs_f64() * 1000.0
        )))
    }

    /// Lets writes go on, whoever holds them.
    pub(super) async fn unfence(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job).await?;
        let (owner, _) = stage.owner_and_other();
        self.nodes.tell(&owner.address, redis::cmd("CLIENT").arg("UNPAUSE")).await?;
        Ok(super::done(format!("writes go on at {}", owner.address)))
    }

    /// Holds writes until both offsets are equal, compares the busy keys and a sample, lets go.
    pub(super) async fn verify_at_cut(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job).await?;
        let pair = self.pair(&stage);
        let mut busy = self.with_work(job, |w| w.busy.clone());
        let all = busy.len();
        busy.truncate(self.options.keys_at_cut);
        let sample = pair.random_keys(self.options.keys_at_cut - busy.len()).await?;
        let keys = [busy, sample].concat();

        if stage.owned_by_destination() {
            // Nothing is cut any more, so nothing is held.
            let mut found = Comparison::default();
            pair.look_again(keys, &mut found).await?;
            return Ok(Answer::Done(evidence(&found, "; the destination owns the shard already")));
        }
        let budget = self.options.pause_budget.to_std();
        let mut pause = redis::cmd("CLIENT");
        pause.arg("PAUSE").arg(budget.as_millis() as u64).arg("WRITE");
        let held = Instant::now();
        self.nodes.tell(&pair.owner, &pause).await?;
        let looked = still(&pair, &keys, budget).await;
        let let_go = self.nodes.tell(&pair.owner, redis::cmd("CLIENT").arg("UNPAUSE")).await;
        let held = held.elapsed();
        let found = looked?;
        let_go?;
        if held > budget {
            // The server let go by itself in the middle: what was read proves nothing.
            return Err(DriverError::new(
                Retry::Retryable,
                system(&pair.owner),
                "comparing at the cut",
                format!(
                    "took {} ms, allowed are {}; try again when it is calmer",
                    held.as_millis(),
                    budget.as_millis()
                ),
            ));
        }
        let mut words = format!("; writes were held for {:.1} ms", held.as_secs_f64() * 1000.0);
        let looked_at = usize::try_from(found.keys + found.different).unwrap_or(usize::MAX);
        if all > looked_at {
            words.push_str(&format!("; {} busy keys were left out", all - looked_at));
        }
        Ok(Answer::Done(evidence(&found, &words)))
    }
}

/// Compares keys until a third of the budget is used, a few at a time, because collections take
/// several round trips each; the busy ones come first.
async fn still(pair: &Pair, keys: &[Vec<u8>], budget: Duration) -> Result<Comparison, DriverError> {
    let start = Instant::now();
    pair.wait_until_applied(budget / 2).await?;
    let mut found = Comparison::default();
    for some in keys.chunks(16) {
        if start.elapsed() > budget / 3 {
            break;
        }
        pair.compare_still(some, &mut found).await?;
    }
    Ok(found)
}

fn evidence(found: &Comparison, more: &str) -> Evidence {
    let mut summary = if found.different == 0 {
        format!("{} keys equal", found.keys)
    } else {
        format!("{} keys differ, {} are equal", found.different, found.keys)
    };
    if found.slots > 0 {
        summary.push_str(&format!(" in {} slots", found.slots));
    }
    summary.push_str(&format!("; digests {:032x} and {:032x}", found.digests.0, found.digests.1));
    if !found.busy.is_empty() {
        summary.push_str(&format!(
            "; {} keys changed at every look and are compared at the cut",
            found.busy.len()
        ));
    }
    summary.push_str(more);
    Evidence {
        summary,
        equal: Some(found.different == 0),
        differences: found.differences.clone(),
        items: found.keys + found.different,
        artifacts: Vec::new(),
    }
}
