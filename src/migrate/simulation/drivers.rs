//! The drivers as one incarnation of the engine sees them: every call may be hit by a fault, and a dead
//! incarnation's calls do nothing any more.

use std::future::poll_fn;
use std::task::Poll;

use async_trait::async_trait;

use super::faults::Point;
use super::fleet::capabilities;
use super::outside::{Hands, Outside};
use super::system::artifacts;
use crate::drivers::{
    Action, Answer, Artifact, CanarySample, Capabilities, CleanupPolicy, DriverError, Job, JobStatus, Mover,
    Permit, Probe, Retry, Router, ServerState, Weight,
};
use crate::fleet::{Share, Span, Timestamp, Topology, WorkloadId};
use crate::migrate::act::Act;

/// The driver of one class as one incarnation sees it.
pub(super) struct SimMover {
    pub(super) class: &'static str,
    pub(super) hands: Hands,
}

fn step_name(job: &Job, action: &Action, outside: &Outside) -> String {
    // The mirrored job is known by who is the source in the fleet that was planned on.
    match outside.system.home(&job.workload) == Some(&job.source) {
        true => Act::forward(action.clone()),
        false => Act::back(action.clone()),
    }
    .name()
}

fn lost(action: &Action) -> DriverError {
    DriverError::new(Retry::Unknown, "simulated", action.name(), "injected: no answer")
}

#[async_trait]
impl Mover for SimMover {
    fn class(&self) -> &str {
        self.class
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(self.class)
    }

    async fn discover(&self) -> Result<Topology, DriverError> {
        Ok(self.hands.lock().topology.clone())
    }

    fn describe(&self, job: &Job) -> Vec<String> {
        vec![format!("move {} from {} to {}", job.workload, job.source, job.destination)]
    }

    fn artifacts(&self, job: &Job, action: &Action) -> Vec<Artifact> {
        // A mirrored job makes nothing: its parts were made by the forward one.
        match self.hands.lock().system.home(&job.workload) == Some(&job.source) {
            true => artifacts(job, action),
            false => Vec::new(),
        }
    }

    fn cleanup_policy(&self, artifact: &Artifact) -> CleanupPolicy {
        match artifact.kind.as_str() {
            "copy" => CleanupPolicy::OnFailure,
            "stream" => CleanupPolicy::Always,
            _ => CleanupPolicy::DeferredOnSuccess,
        }
    }

    async fn perform(&self, job: &Job, action: &Action, permit: &Permit) -> Result<Answer, DriverError> {
        let epoch = permit.epoch();
        let point = {
            let mut outside = self.hands.lock();
            if self.hands.is_dead(&outside) {
                return Err(lost(action));
            }
            let step = step_name(job, action, &outside);
            outside.checks.asked(job, action, &step, permit);
            if outside.random.chance(0.004) {
                // It takes its time.
                let span = Span(outside.random.below(4000) as i64);
                outside.clock.advance(span);
            }
            let point = outside.hit(&Point::DRIVER, Some(job.migration), action.name());
            match point {
                Some(Point::DriverBeforeSend) => {
                    return Err(DriverError::new(Retry::Retryable, "simulated", action.name(), "injected"));
                }
                Some(Point::DriverAfterSend) => {
                    outside.checks.not_answered(epoch, job.migration, &step);
                    return Err(lost(action));
                }
                Some(Point::DriverDeathBefore) => {
                    outside.checks.not_answered(epoch, job.migration, &step);
                    outside.dead[self.hands.incarnation] = true;
                    return Err(lost(action));
                }
                Some(Point::DriverStall) if outside.stalled.is_none() => {
                    outside.checks.not_answered(epoch, job.migration, &step);
                    outside.stalled = Some((self.hands.incarnation, None, false));
                }
                Some(Point::DriverBeforeAnswer | Point::DriverDeathAfter) => {
                    outside.checks.not_answered(epoch, job.migration, &step);
                }
                _ => {}
            }
            point
        };
        if point == Some(Point::DriverStall) {
            self.stall().await;
        }
        let mut outside = self.hands.lock();
        let (wall, now) = (outside.wall(), outside.now());
        let done = outside.system.perform(job, action, epoch, wall, now);
        if done.is_ok() {
            let Outside { checks, system, .. } = &mut *outside;
            let made = artifacts(job, action);
            let made: &[Artifact] = if system.home(&job.workload) == Some(&job.source) { &made } else { &[] };
            checks.happened(system, job, action, made, wall);
        }
        outside.say(|| {
            format!(
                "  {} {} {epoch}: {}",
                job.migration,
                action.name(),
                match &done {
                    Ok(Answer::Done(evidence)) => format!("done {:?}", evidence.equal),
                    Ok(Answer::Working { .. }) => "working".to_string(),
                    Err(error) => error.detail.clone(),
                }
            )
        });
        match point {
            Some(Point::DriverBeforeAnswer) => Err(lost(action)),
            Some(Point::DriverDeathAfter) => {
                outside.dead[self.hands.incarnation] = true;
                Err(lost(action))
            }
            Some(Point::DriverStall) => {
                // Late, but heard.
                outside.checks.answered(epoch, job.migration);
                done
            }
            _ => done,
        }
    }

    async fn probe(&self, job: &Job, action: &Action) -> Probe {
        let mut outside = self.hands.lock();
        if self.hands.is_dead(&outside) || outside.faults.read_fails() {
            return Probe::Unknown { reason: "injected".to_string() };
        }
        let answer = outside.system.probe(job, action, outside.now());
        if !matches!(answer, Probe::Unknown { .. }) {
            let epoch = outside.epochs[self.hands.incarnation];
            outside.checks.answered(epoch, job.migration);
        }
        outside.say(|| format!("  {} probe {}: {answer:?}", job.migration, action.name()));
        answer
    }

    async fn status(&self, job: &Job) -> Result<JobStatus, DriverError> {
        let mut outside = self.hands.lock();
        if self.hands.is_dead(&outside) || outside.faults.read_fails() {
            return Err(DriverError::new(Retry::Retryable, "simulated", "status", "injected"));
        }
        let now = outside.now();
        outside
            .system
            .status(job, now)
            .ok_or_else(|| DriverError::new(Retry::Permanent, "simulated", "status", "no such workload"))
    }

    async fn samples(&self, job: &Job, _: Timestamp) -> Result<(CanarySample, CanarySample), DriverError> {
        let mut outside = self.hands.lock();
        if self.hands.is_dead(&outside) || outside.faults.read_fails() {
            return Err(DriverError::new(Retry::Retryable, "simulated", "samples", "injected"));
        }
        let slow = outside.system.slow.contains(&(job.workload.clone(), job.destination.clone()));
        let sample = &outside.sample;
        let destination = if slow { &sample.slow } else { &sample.normal };
        Ok((sample.normal.clone(), destination.clone()))
    }

    async fn leaks(&self) -> Result<Vec<Artifact>, DriverError> {
        Ok(self.hands.lock().system.artifacts.iter().cloned().collect())
    }
}

impl SimMover {
    /// The process is stopped until the run lets it go on.
    async fn stall(&self) {
        poll_fn(|cx| {
            let mut outside = self.hands.lock();
            match &mut outside.stalled {
                Some((incarnation, waker, released))
                    if *incarnation == self.hands.incarnation && !*released =>
                {
                    *waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
    }
}

/// The router of one class.
pub(super) struct SimRouter {
    pub(super) class: &'static str,
    pub(super) hands: Hands,
}

#[async_trait]
impl Router for SimRouter {
    fn class(&self) -> &str {
        self.class
    }

    async fn weights(&self, workload: &WorkloadId) -> Result<Vec<Weight>, DriverError> {
        let mut outside = self.hands.lock();
        if self.hands.is_dead(&outside) || outside.faults.read_fails() {
            return Err(DriverError::new(Retry::Retryable, "simulated", "weights", "injected"));
        }
        if let Some(id) = outside.checks.working.get(workload).copied() {
            let epoch = outside.epochs[self.hands.incarnation];
            outside.checks.answered(epoch, id);
        }
        let Some(load) = outside.system.loads.get(workload) else { return Ok(Vec::new()) };
        let share = |s: f64| Share::clamped(s).unwrap_or(Share::MIN);
        Ok(load
            .share
            .iter()
            .map(|(p, s)| Weight {
                partition: p.clone(),
                share: share(*s),
                state: ServerState::Ready,
                sessions: None,
            })
            .collect())
    }

    async fn set(
        &self,
        workload: &WorkloadId,
        weights: &[Weight],
        permit: &Permit,
    ) -> Result<(), DriverError> {
        let mut outside = self.hands.lock();
        let migration = outside.checks.working.get(workload).copied();
        let unknown = || DriverError::new(Retry::Unknown, "simulated", "set weights", "injected: no answer");
        if self.hands.is_dead(&outside) {
            return Err(unknown());
        }
        outside.checks.routes(workload, weights, permit);
        let point = outside.hit(&Point::DRIVER[..5], migration, "route");
        let lost = matches!(
            point,
            Some(
                Point::DriverAfterSend
                    | Point::DriverDeathBefore
                    | Point::DriverBeforeAnswer
                    | Point::DriverDeathAfter
            )
        );
        if let Some(id) = migration.filter(|_| lost) {
            let share = weights.iter().filter(|w| outside.system.home(workload) != Some(&w.partition));
            let step = format!("route_{:.0}", share.map(|w| w.share.get()).sum::<f64>() * 100.0);
            outside.checks.not_answered(permit.epoch(), id, &step);
        }
        match point {
            Some(Point::DriverBeforeSend) => {
                return Err(DriverError::new(Retry::Retryable, "simulated", "set weights", "injected"));
            }
            Some(Point::DriverAfterSend) => return Err(unknown()),
            Some(Point::DriverDeathBefore) => {
                outside.dead[self.hands.incarnation] = true;
                return Err(unknown());
            }
            _ => {}
        }
        outside.system.route(workload, weights, permit.epoch())?;
        let Outside { checks, system, .. } = &mut *outside;
        checks.routed(system, workload, weights);
        match point {
            Some(Point::DriverBeforeAnswer) => Err(unknown()),
            Some(Point::DriverDeathAfter) => {
                outside.dead[self.hands.incarnation] = true;
                Err(unknown())
            }
            _ => Ok(()),
        }
    }
}
