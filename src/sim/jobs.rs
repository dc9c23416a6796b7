//! What the simulated system does with the actions of a migration. Every action can be asked for
//! twice; what takes time is a function of when it was begun, so nothing has to run in between.

use super::fleet::{CLASS, WorkloadPlan};
use super::noise::mixed;
use super::track::{Copying, Fence, Reverse, Track, artifact, made_by};
use super::world::World;
use crate::drivers::{Action, Answer, Artifact, DriverError, Evidence, Job, Retry};
use crate::fleet::{Bytes, Epoch, PartitionId, Share, Span, Timestamp};

/// How long making a destination takes.
pub(super) const PREPARING: Span = Span::seconds(2);
/// Bytes that are compared per second.
const COMPARED_PER_S: f64 = 2e9;

/// Where everything of a job stands, as numbers.
pub(super) struct Places {
    pub(super) workload: usize,
    pub(super) source: usize,
    pub(super) destination: usize,
    pub(super) source_alive: bool,
    pub(super) destination_alive: bool,
}

fn done(summary: impl Into<String>, artifacts: Vec<Artifact>) -> Result<Answer, DriverError> {
    Ok(Answer::Done(Evidence { summary: summary.into(), artifacts, ..Evidence::default() }))
}

fn working(waiting_for: impl Into<String>) -> Result<Answer, DriverError> {
    Ok(Answer::Working { waiting_for: waiting_for.into() })
}

pub(super) fn refused(retry: Retry, job: &Job, doing: &str, detail: impl Into<String>) -> DriverError {
    DriverError::new(retry, CLASS, format!("{doing} for {} of {}", job.workload, job.migration), detail)
}

impl World {
    pub(super) fn places(&self, job: &Job, doing: &str) -> Result<Places, DriverError> {
        let missing = |what: &str| refused(Retry::Permanent, job, doing, format!("there is no {what}"));
        let index = |id: &PartitionId| self.layout.partition_index.get(id).copied();
        let workload = self.layout.workload_index.get(&job.workload).copied();
        let workload = workload.ok_or_else(|| missing(&format!("workload {}", job.workload)))?;
        let source = index(&job.source).ok_or_else(|| missing(&format!("partition {}", job.source)))?;
        let destination =
            index(&job.destination).ok_or_else(|| missing(&format!("partition {}", job.destination)))?;
        Ok(Places {
            workload,
            source,
            destination,
            source_alive: self.partitions[source].alive,
            destination_alive: self.partitions[destination].alive,
        })
    }

    fn track(&mut self, job: &Job) -> &mut Track {
        let key = (job.migration, job.workload.clone());
        self.tracks.entry(key).or_insert_with(|| Track::new(job))
    }

    pub(super) fn seen(&self, job: &Job) -> Option<&Track> {
        self.tracks.get(&(job.migration, job.workload.clone()))
    }

    pub(super) fn plan_of(&self, places: &Places) -> &WorkloadPlan {
        &self.layout.workloads[places.workload]
    }

    /// The job's destination owns the workload at its generation or a later one.
    pub(super) fn is_owned(&self, job: &Job, places: &Places) -> bool {
        let now = &self.workloads[places.workload];
        now.owner == places.destination && now.generation >= job.generation
    }

    /// Does one action at `now`; see `drivers::Mover::perform`.
    pub(crate) fn perform(
        &mut self,
        job: &Job,
        action: &Action,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<Answer, DriverError> {
        self.catch_up(now);
        let now = self.now;
        let name = action.name();
        let at = self.places(job, name)?;
        if epoch < self.epoch {
            let detail = format!("{epoch} is deposed: {} was seen; stop acting", self.epoch);
            return Err(refused(Retry::Permanent, job, name, detail));
        }
        self.epoch = epoch;
        let size = self.plan_of(&at).size;
        let needs_source = matches!(
            action,
            Action::Replicate
                | Action::Verify
                | Action::ProbeReverse
                | Action::EnableReverse
                | Action::Fence { .. }
                | Action::VerifyAtCut
        );
        let needs_destination = needs_source && !matches!(action, Action::Fence { .. })
            || matches!(action, Action::Prepare | Action::ArmReverse | Action::Commit | Action::Open)
            || matches!(action, Action::CanaryShare { share } if share.get() > 0.0);
        if needs_source && !at.source_alive {
            return Err(refused(Retry::Retryable, job, name, format!("{} does not answer", job.source)));
        }
        if needs_destination && !at.destination_alive {
            return Err(refused(Retry::Retryable, job, name, format!("{} does not answer", job.destination)));
        }
        let made = made_by(job, action);
        match action {
            Action::Announce => {
                self.track(job).announced = true;
                done(format!("{} was told that it will be emptied", job.source), made)
            }
            Action::Prepare => {
                let holds = self.workloads[at.workload].replicas.contains(&at.destination);
                let track = self.track(job);
                track.held_a_copy |= holds && track.prepared.is_none();
                let began = *track.prepared.get_or_insert(now);
                self.artifacts.extend(made.iter().cloned());
                match now - began >= PREPARING {
                    true => done(format!("{} is ready for {size}", job.destination), made),
                    false => working("the destination to be ready"),
                }
            }
            Action::Replicate => self.replicate(job, &at, now, made),
            Action::StopReplication => {
                self.track(job).copying = None;
                self.track(job).verifying = None;
                self.artifacts.remove(&artifact(job, "stream"));
                done("the stream is stopped", made)
            }
            Action::Verify => self.verify(job, &at, now),
            Action::ArmReverse => {
                let track = self.track(job);
                track.reverse = track.reverse.max(Reverse::Armed);
                self.artifacts.extend(made.iter().cloned());
                done("the way back is made, and off", made)
            }
            Action::ProbeReverse => {
                let track = self.track(job);
                if track.reverse == Reverse::None {
                    return Err(refused(
                        Retry::Retryable,
                        job,
                        name,
                        "there is no way back yet; arm it first",
                    ));
                }
                track.reverse = track.reverse.max(Reverse::Proved);
                done("a mark went the way back and arrived after 11 ms", made)
            }
            Action::CanaryShare { share } => {
                self.track(job).share = *share;
                done(format!("{share} of the reads are tried at {}", job.destination), made)
            }
            Action::Fence { deadline } => {
                if self.workloads[at.workload].owner != at.source {
                    let detail = format!("{} does not own it; read who does", job.source);
                    return Err(refused(Retry::Permanent, job, name, detail));
                }
                if *deadline <= now {
                    return Err(refused(Retry::Retryable, job, name, "the deadline is over already"));
                }
                self.fence(at.workload, Fence { deadline: *deadline }, now);
                done("writes are held", made)
            }
            Action::Unfence => {
                self.unfence(at.workload, now);
                done("writes go on", made)
            }
            Action::VerifyAtCut => self.verify_at_cut(job, &at, now),
            Action::Commit | Action::Open => self.take_over(job, &at, name, now),
            Action::EnableReverse => {
                if !self.is_owned(job, &at) {
                    let detail = format!("{} does not own it yet", job.destination);
                    return Err(refused(Retry::Retryable, job, name, detail));
                }
                self.track(job).reverse = Reverse::Enabled;
                self.artifacts.extend(made.iter().cloned());
                done("the way back runs; 40 ms behind", made)
            }
            Action::Retire => self.retire(job, &at),
            Action::Cleanup { artifact } => self.cleanup(job, &at, artifact),
        }
    }

    fn replicate(
        &mut self,
        job: &Job,
        at: &Places,
        now: Timestamp,
        made: Vec<Artifact>,
    ) -> Result<Answer, DriverError> {
        if self.seen(job).is_none_or(|t| t.prepared.is_none_or(|began| now - began < PREPARING)) {
            return Err(refused(Retry::Retryable, job, "replicate", "the destination is not prepared"));
        }
        // A slow disk at the source copies slowly.
        let slow = f64::from(self.partitions[at.source].last[super::load::metric::WRITE].max(1.0));
        let drawn = (mixed(self.seed ^ mixed(job.migration.0) ^ at.workload as u64) % 200) as f64;
        let bytes_per_s = (250e6 + drawn * 1e6) / (1.0 + slow / 60.0);
        let track = self.track(job);
        if track.copying.is_none_or(|c| c.broke.is_some()) {
            track.copying = Some(Copying { began: now, bytes_per_s, broke: None });
        }
        self.artifacts.extend(made.iter().cloned());
        done("the copy runs", made)
    }

    fn verify(&mut self, job: &Job, at: &Places, now: Timestamp) -> Result<Answer, DriverError> {
        if !self.is_synchronous(job, at, now) {
            return Err(refused(Retry::Retryable, job, "verify", "the copy is not complete yet"));
        }
        let size = self.plan_of(at).size;
        let takes = Span::millis(500 + (size.0 as f64 / COMPARED_PER_S * 1000.0) as i64);
        let track = self.track(job);
        let began = *track.verifying.get_or_insert(now);
        if now - began < takes {
            return working("both sides to be read");
        }
        track.verifying = None;
        let corrupt = track.corrupt;
        Ok(Answer::Done(compared(job, size, corrupt)))
    }

    fn verify_at_cut(&mut self, job: &Job, at: &Places, now: Timestamp) -> Result<Answer, DriverError> {
        if self.fences.get(&at.workload).is_none_or(|f| f.deadline <= now) {
            return Err(refused(Retry::Retryable, job, "verify_at_cut", "writes are not held"));
        }
        if !self.is_synchronous(job, at, now) {
            let detail = format!("{} has no complete copy", job.destination);
            return Err(refused(Retry::Retryable, job, "verify_at_cut", detail));
        }
        let corrupt = self.track(job).corrupt;
        Ok(Answer::Done(compared(job, self.plan_of(at).size, corrupt)))
    }

    /// The job's destination has everything: by the stream, or by the way back of a move that went
    /// the other way.
    pub(super) fn is_synchronous(&self, job: &Job, at: &Places, now: Timestamp) -> bool {
        let size = self.plan_of(at).size;
        self.seen(job).is_some_and(|t| match t.job.destination == job.destination {
            true => t.complete(size, now),
            false => t.reverse == Reverse::Enabled,
        })
    }

    fn take_over(
        &mut self,
        job: &Job,
        at: &Places,
        name: &str,
        now: Timestamp,
    ) -> Result<Answer, DriverError> {
        if self.is_owned(job, at) {
            return done(
                format!("{} owns {} at {}", job.destination, job.workload, job.generation),
                Vec::new(),
            );
        }
        let standing = &self.workloads[at.workload];
        if standing.generation >= job.generation {
            let owner = &self.layout.partitions[standing.owner].id;
            let detail = format!("{owner} owns it at {}: the world moved on", standing.generation);
            return Err(refused(Retry::Permanent, job, name, detail));
        }
        if !self.is_synchronous(job, at, now) {
            let detail = format!("{} has no complete copy; nothing was changed", job.destination);
            return Err(refused(Retry::Permanent, job, name, detail));
        }
        self.own(at.workload, at.destination, job.generation, now);
        let track = self.track(job);
        track.share = Share::MIN;
        let undone = track.job.source == job.destination;
        if undone && track.held_a_copy && at.source_alive {
            self.workloads[at.workload].replicas.push(at.source);
            self.workloads[at.workload].replicas.sort_unstable();
        }
        done(format!("{} owns {} at {}", job.destination, job.workload, job.generation), Vec::new())
    }

    fn retire(&mut self, job: &Job, at: &Places) -> Result<Answer, DriverError> {
        if !self.is_owned(job, at) {
            let detail = format!("{} does not own it; the source stays", job.destination);
            return Err(refused(Retry::Permanent, job, "retire", detail));
        }
        let stateful = self.plan_of(at).size.0 > 0;
        let now = &mut self.workloads[at.workload];
        if at.source_alive && stateful && !now.replicas.contains(&at.source) {
            now.replicas.push(at.source);
            now.replicas.sort_unstable();
            self.revision.0 += 1;
        }
        // The destination's copy is the workload now.
        self.artifacts.remove(&artifact(job, "replica"));
        self.artifacts.remove(&artifact(job, "stream"));
        let track = self.track(job);
        (track.retired, track.announced, track.copying) = (true, false, None);
        done(format!("{} is a standby of {}", job.source, job.workload), Vec::new())
    }

    fn cleanup(&mut self, job: &Job, at: &Places, artifact: &Artifact) -> Result<Answer, DriverError> {
        if !self.artifacts.contains(artifact) {
            return done(format!("{} is gone", artifact.name), Vec::new());
        }
        let owner = &self.layout.partitions[self.workloads[at.workload].owner].id;
        if artifact.kind == "replica" && *owner == artifact.partition {
            let detail = format!("{owner} owns the workload: its data is not removed");
            return Err(refused(Retry::Permanent, job, "cleanup", detail));
        }
        self.artifacts.remove(artifact);
        let held_a_copy = self.track(job).held_a_copy;
        if artifact.kind == "replica"
            && !held_a_copy
            && let Some(p) = self.layout.partition_index.get(&artifact.partition)
        {
            self.workloads[at.workload].replicas.retain(|r| r != p);
        }
        let track = self.track(job);
        match artifact.kind.as_str() {
            "replica" => {
                (track.prepared, track.copying, track.verifying) = (None, None, None);
                (track.announced, track.corrupt) = (false, false);
            }
            "stream" => (track.copying, track.verifying) = (None, None),
            _ => track.reverse = Reverse::None,
        }
        done(format!("{} is gone", artifact.name), Vec::new())
    }

    /// What was copied for the job differs from its source from now on (injected).
    pub(crate) fn corrupt(&mut self, job: &Job) {
        self.track(job).corrupt = true;
    }

    /// Indices of workload, source and destination of a job that exist.
    pub(crate) fn sides(&self, job: &Job) -> Result<(usize, usize, usize), DriverError> {
        self.places(job, "samples").map(|at| (at.workload, at.source, at.destination))
    }
}

/// What a comparison of both sides finds.
fn compared(job: &Job, size: Bytes, corrupt: bool) -> Evidence {
    let items = (size.0 / 4096).max(1);
    let digest = &blake3::hash(format!("{} {}", job.workload, size.0).as_bytes()).to_hex()[..16];
    let bucket = format!("bucket {}", mixed(size.0) % 1024);
    Evidence {
        summary: match corrupt {
            false => format!("1,024 of 1,024 buckets equal ({digest})"),
            true => format!("1,023 of 1,024 buckets equal; {bucket} differs"),
        },
        equal: Some(!corrupt),
        differences: if corrupt { vec![bucket] } else { Vec::new() },
        items,
        artifacts: Vec::new(),
    }
}
