//! The steps of a move: start, stop, the way back. Each may be asked twice, acts only on what the host
//! says, and comes back soon.

use std::time::{Duration, Instant};

use super::control::{Controlled, Order, Runs};
use super::{Instances, ServiceMover};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Answer, Artifact, CanarySample, Evidence, Job, Probe, done, working};
use crate::fleet::{Clock, Epoch, PartitionId, SystemClock, Timestamp};

/// How long a call waits before it says what it waits for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// A service that is still not running so long after it was started has ended by itself.
const STILLBORN: Duration = Duration::from_secs(1);

pub(super) fn applied(summary: String) -> Probe {
    Probe::Applied { evidence: Evidence { summary, ..Evidence::default() } }
}

impl ServiceMover {
    /// Starts it at the destination; where only one may run, makes sure that none runs there.
    pub(super) async fn prepare(&self, job: &Job, epoch: Epoch) -> Result<Answer, DriverError> {
        let to = self.on(&job.workload, &job.destination)?;
        let mine = (job.migration, job.destination.clone());
        let runs = to.runs().await?;
        let known = self.seen().running.get(&job.workload).is_some_and(|r| r.contains(&job.destination));
        if runs != Runs::No && !known && !self.seen().started.contains(&mine) {
            self.seen().foreign.push(mine);
            let detail = "somebody started it there just now; try again";
            return Err(to.error(Retry::Permanent, "prepare", detail.into()));
        }
        if self.options.instances == Instances::One {
            return match runs {
                Runs::No => {
                    // So that there is something to compare with once it is stopped.
                    self.watch(job)?;
                    Ok(done(format!("{} answers and does not run it", to.host)))
                }
                Runs::Yes | Runs::Changing(_) => {
                    let detail = "it runs there already, and two must never run: stop it there";
                    Err(to.error(Retry::Permanent, "prepare", detail.into()))
                }
            };
        }
        if runs == Runs::No && !self.seen().started.contains(&mine) {
            self.seen().started.push(mine);
        }
        self.up(job, &job.destination, epoch).await
    }

    /// Starts it on the host of `at` unless it runs there, and waits until it is well.
    pub(super) async fn up(&self, job: &Job, at: &PartitionId, epoch: Epoch) -> Result<Answer, DriverError> {
        let there = self.on(&job.workload, at)?;
        let begun = Instant::now();
        let mut started = None;
        loop {
            let waiting_for = match there.runs().await? {
                Runs::Yes => match self.healthy(&there).await {
                    Ok(ms) => return Ok(done(format!("{} runs on {at} and is well ({ms:.1} ms)", there.id))),
                    Err(why) => format!("{} on {at} to be well: {why}", there.id),
                },
                Runs::Changing(word) => format!("{} on {at}, which is {word}", there.id),
                Runs::No => match started {
                    None => {
                        there.order(Order::Start, epoch).await?;
                        started = Some(Instant::now());
                        continue;
                    }
                    Some(at) if at.elapsed() > STILLBORN => {
                        let detail = "it was started and does not run; its log on that host says why";
                        return Err(there.error(Retry::Retryable, "start", detail.into()));
                    }
                    Some(_) => format!("{} to start on {at}", there.id),
                },
            };
            if begun.elapsed() > PATIENCE {
                return Ok(working(waiting_for));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops it on the host of `at` in good order, and waits until it has ended.
    async fn down(&self, job: &Job, at: &PartitionId, epoch: Epoch) -> Result<Answer, DriverError> {
        let there = self.on(&job.workload, at)?;
        let begun = Instant::now();
        let mut asked = false;
        loop {
            match there.runs().await? {
                Runs::No => return Ok(done(format!("{} does not run on {at}", there.id))),
                Runs::Yes if !asked => {
                    asked = true;
                    there.order(Order::Stop, epoch).await?;
                    continue;
                }
                Runs::Yes | Runs::Changing(_) => {}
            }
            if begun.elapsed() > PATIENCE {
                return Ok(working(format!("{} to end on {at}", there.id)));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops the source for good: it must not come back while the destination is started.
    pub(super) async fn seal(&self, job: &Job, epoch: Epoch) -> Result<Answer, DriverError> {
        {
            let mut seen = self.seen();
            if !seen.before.contains_key(&job.migration)
                && let Some(sampler) = seen.samplers.get(&job.migration)
            {
                let before = CanarySample { earlier: true, ..sampler.since(Timestamp(0)).0 };
                seen.before.insert(job.migration, before);
            }
        }
        self.down(job, &job.source, epoch).await
    }

    /// Starts it at the new owner where it does not run yet, and lets it start there with the host.
    pub(super) async fn open(&self, job: &Job, epoch: Epoch) -> Result<Answer, DriverError> {
        let there = self.on(&job.workload, &job.destination)?;
        let note = lasting(&there, Order::Enable, epoch).await;
        let mut answer = self.up(job, &job.destination, epoch).await?;
        if let (Answer::Done(evidence), Some(note)) = (&mut answer, note) {
            evidence.summary.push_str(&note);
        }
        Ok(answer)
    }

    /// The way back: the source runs and is well, or could be started. A source that is gone is none, and is
    /// no reason to stay.
    pub(super) async fn way_back(&self, job: &Job) -> Result<Answer, DriverError> {
        let back = self.on(&job.workload, &job.source)?;
        let runs = match back.runs().await {
            Ok(runs) => runs,
            Err(error) => return Ok(done(format!("no way back: {error}"))),
        };
        if self.options.instances == Instances::One {
            return Ok(done(format!("{} answers and can start it again", back.host)));
        }
        match (runs, self.healthy(&back).await) {
            (Runs::Yes, Ok(ms)) => Ok(done(format!("the source runs and is well ({ms:.1} ms)"))),
            (Runs::Yes, Err(why)) => Ok(done(format!("a poor way back: the source is not well: {why}"))),
            (Runs::No | Runs::Changing(_), _) => Ok(done("no way back yet: the source does not run")),
        }
    }

    /// Stops what is no longer wanted: not started with the host again, sessions ended, then the process.
    pub(super) async fn retire(
        &self,
        job: &Job,
        at: &PartitionId,
        epoch: Epoch,
    ) -> Result<Answer, DriverError> {
        let there = self.on(&job.workload, at)?;
        if there.runs().await? == Runs::Yes
            && let Some(waiting) = self.sessions(job, at).await
        {
            return Ok(working(waiting));
        }
        let note = lasting(&there, Order::Disable, epoch).await;
        let mut answer = self.down(job, at, epoch).await?;
        if let Answer::Done(evidence) = &mut answer {
            evidence.summary.push_str(&note.unwrap_or_default());
            let mut seen = self.seen();
            seen.samplers.remove(&job.migration);
            seen.before.remove(&job.migration);
            seen.draining.retain(|(migration, _), _| *migration != job.migration);
            seen.started.retain(|(migration, _)| *migration != job.migration);
            seen.foreign.retain(|(migration, _)| *migration != job.migration);
        }
        Ok(answer)
    }

    /// Stops what this migration started.
    pub(super) async fn clean(
        &self,
        job: &Job,
        artifact: &Artifact,
        epoch: Epoch,
    ) -> Result<Answer, DriverError> {
        if self.seen().foreign.contains(&(job.migration, artifact.partition.clone())) {
            return Ok(done("it was started by somebody else and stays"));
        }
        self.retire(job, &artifact.partition, epoch).await
    }

    /// What is waited for while sessions are open at `at`, as long as they may take.
    async fn sessions(&self, job: &Job, at: &PartitionId) -> Option<String> {
        let weights = self.router.as_ref()?.weights(&job.workload).await.ok()?;
        let open = weights.iter().find(|w| w.partition == *at)?.sessions.filter(|n| *n > 0)?;
        let now = SystemClock.now();
        let since = *self.seen().draining.entry((job.migration, at.clone())).or_insert(now);
        let left = self.options.stop_within - (now - since);
        (left.0 > 0).then(|| format!("{open} sessions at {at} to end, at most {left}"))
    }
}

/// Lets a service start with its host, or no longer; a note where that could not be done, which keeps
/// nothing from going on.
async fn lasting(there: &Controlled<'_>, order: Order, epoch: Epoch) -> Option<String> {
    let error = there.order(order, epoch).await.err()?;
    Some(format!("; at the host's next start: {}", error.detail))
}
