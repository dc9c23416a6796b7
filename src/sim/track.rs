//! What the simulated system keeps of one workload of one migration, and the names of what a
//! migration makes in it.

use crate::drivers::{Action, Artifact, Job};
use crate::fleet::{Bytes, PartitionId, Share, Timestamp};

/// Writes of one workload are held at its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fence {
    pub(crate) deadline: Timestamp,
}

/// A copy on its way.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Copying {
    pub(super) began: Timestamp,
    pub(super) bytes_per_s: f64,
    /// The source died then.
    pub(super) broke: Option<Timestamp>,
}

/// The way back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Reverse {
    None,
    Armed,
    Proved,
    Enabled,
}

/// One workload of one migration, as the system knows it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Track {
    /// The job in the direction in which it was begun.
    pub(crate) job: Job,
    /// Share of reads that the destination is tried with.
    pub(crate) share: Share,
    pub(super) announced: bool,
    pub(super) prepared: Option<Timestamp>,
    pub(super) copying: Option<Copying>,
    pub(super) verifying: Option<Timestamp>,
    pub(super) reverse: Reverse,
    pub(super) retired: bool,
    /// The destination held a copy before the move began.
    pub(super) held_a_copy: bool,
    /// The copy differs from its source (injected).
    pub(crate) corrupt: bool,
}

impl Track {
    pub(super) fn new(job: &Job) -> Self {
        Self {
            job: job.clone(),
            share: Share::MIN,
            announced: false,
            prepared: None,
            copying: None,
            verifying: None,
            reverse: Reverse::None,
            retired: false,
            held_a_copy: false,
            corrupt: false,
        }
    }

    pub(crate) fn partition_died(&mut self, partition: &PartitionId, at: Timestamp) {
        if *partition == self.job.destination {
            (self.prepared, self.copying, self.reverse) = (None, None, Reverse::None);
            self.share = Share::MIN;
        }
        if *partition == self.job.source {
            if let Some(copying) = &mut self.copying {
                copying.broke.get_or_insert(at);
            }
            self.reverse = self.reverse.min(Reverse::Armed);
        }
    }

    pub(super) fn copied(&self, total: Bytes, now: Timestamp) -> Bytes {
        let Some(copying) = self.copying else { return Bytes(0) };
        let until = copying.broke.map_or(now, |broke| broke.min(now));
        let copied = (until - copying.began).as_seconds().max(0.0) * copying.bytes_per_s;
        Bytes((copied as u64).min(total.0))
    }

    pub(super) fn complete(&self, total: Bytes, now: Timestamp) -> bool {
        self.copying.is_some() && self.copied(total, now) >= total
    }
}

/// Names of what a job makes.
pub(crate) fn artifact(job: &Job, kind: &str) -> Artifact {
    let (step, partition) = match kind {
        "replica" => ("prepare", &job.destination),
        "stream" => ("replicate", &job.source),
        _ => ("arm_reverse", &job.destination),
    };
    Artifact { kind: kind.into(), name: format!("fs_{}", job.key(step)), partition: partition.clone() }
}

/// What an action makes.
pub(crate) fn made_by(job: &Job, action: &Action) -> Vec<Artifact> {
    match action {
        Action::Prepare => vec![artifact(job, "replica")],
        Action::Replicate => vec![artifact(job, "stream")],
        Action::ArmReverse | Action::EnableReverse => vec![artifact(job, "reverse_stream")],
        _ => Vec::new(),
    }
}
