//! What the simulated system answers to whoever asks where a migration is; nothing is changed by
//! it but that what was due by then has happened.

use super::jobs::{PREPARING, refused};
use super::track::Reverse;
use super::world::World;
use crate::drivers::mover::is_seal;
use crate::drivers::{Action, DriverError, Evidence, Job, JobStatus, Probe, Retry};
use crate::fleet::{Bytes, Span, Timestamp};

impl World {
    /// Whether an action was done; see `drivers::Mover::probe`.
    pub(crate) fn probe(&mut self, job: &Job, action: &Action, now: Timestamp) -> Probe {
        self.catch_up(now);
        let now = self.now;
        let at = match self.places(job, action.name()) {
            Ok(at) => at,
            Err(error) => return Probe::Failed { reason: error.detail },
        };
        let track = self.seen(job);
        let applied = match action {
            Action::Announce => track.is_some_and(|t| t.announced),
            Action::Prepare => match track.and_then(|t| t.prepared) {
                Some(began) if now - began < PREPARING => return Probe::InProgress,
                prepared => prepared.is_some(),
            },
            Action::Replicate => track.is_some_and(|t| t.copying.is_some_and(|c| c.broke.is_none())),
            Action::StopReplication => track.is_none_or(|t| t.copying.is_none()),
            Action::Verify => match track.and_then(|t| t.verifying) {
                Some(_) => return Probe::InProgress,
                None => false,
            },
            Action::VerifyAtCut => false,
            Action::ArmReverse => track.is_some_and(|t| t.reverse >= Reverse::Armed),
            Action::ProbeReverse => track.is_some_and(|t| t.reverse >= Reverse::Proved),
            Action::EnableReverse => track.is_some_and(|t| t.reverse == Reverse::Enabled),
            Action::CanaryShare { share } => {
                let set = track.map_or(0.0, |t| t.share.get());
                (set - share.get()).abs() < 1e-9
            }
            // A hold that lets go by itself is no seal.
            Action::Fence { deadline } => self
                .fences
                .get(&at.workload)
                .is_some_and(|f| f.deadline > now && (!is_seal(*deadline, now) || is_seal(f.deadline, now))),
            Action::Unfence => !self.fences.contains_key(&at.workload),
            Action::Commit | Action::Open => {
                let standing = &self.workloads[at.workload];
                if !self.is_owned(job, &at) && standing.generation >= job.generation {
                    return Probe::Failed { reason: format!("it stands at {}", standing.generation) };
                }
                self.is_owned(job, &at)
            }
            Action::Retire => track.is_some_and(|t| t.retired),
            Action::Cleanup { artifact } => !self.artifacts.contains(artifact),
        };
        match applied {
            true => Probe::Applied {
                evidence: Evidence { summary: format!("{} is done", action.name()), ..Evidence::default() },
            },
            false => Probe::NotStarted,
        }
    }

    /// Where the job is; see `drivers::Mover::status`.
    pub(crate) fn status(&mut self, job: &Job, now: Timestamp) -> Result<JobStatus, DriverError> {
        self.catch_up(now);
        let now = self.now;
        let at = self.places(job, "status")?;
        if !at.source_alive && !at.destination_alive {
            return Err(refused(Retry::Retryable, job, "status", "neither side answers"));
        }
        let plan = self.plan_of(&at);
        let track = self.seen(job);
        let back = track.is_some_and(|t| t.job.destination != job.destination);
        let copied = track.map_or(Bytes(0), |t| t.copied(plan.size, now));
        let streaming = self.is_synchronous(job, &at, now);
        let lag = streaming.then(|| match track.and_then(|t| t.copying) {
            Some(copying) if !back => {
                // What was written during the copy is made good at four times the speed of writing.
                let copy_s = plan.size.0 as f64 / copying.bytes_per_s;
                let since = (now - copying.began).as_seconds() - copy_s;
                let left = (copy_s.min(8.0) * 0.25 - since).max(0.0);
                Span::millis(35 + (left * 1000.0) as i64)
            }
            _ => Span::millis(40),
        });
        Ok(JobStatus {
            copied: if back { plan.size } else { copied },
            total: plan.size,
            streaming: streaming && at.source_alive,
            lag: lag.filter(|_| at.source_alive),
            source_alive: at.source_alive,
            destination_alive: at.destination_alive,
            owner: Some(self.layout.partitions[self.workloads[at.workload].owner].id.clone()),
            note: String::new(),
            broken: None,
            can_call_off: false,
        })
    }
}
