//! What migrations left in the directories, found by name alone, and taken away when a person asks for it.

use std::path::PathBuf;

use super::owner::{self, Mode, Owner, workshop};
use super::{BACK, COPY, FilesMover, failed, steps, tree};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Answer, Artifact, Permit, done, is_seal};
use crate::fleet::{Clock, PartitionId, SystemClock, WorkloadId};

const DOING: &str = "removing it by name alone";

/// A workload whose directory is held without an end.
struct Held {
    workload: WorkloadId,
    partition: PartitionId,
    fence: u64,
    mark: Owner,
}

impl Held {
    fn artifact(&self) -> Artifact {
        let name = format!("fs_{:016x}", self.fence);
        Artifact { kind: Artifact::FENCE.into(), name, partition: self.partition.clone() }
    }
}

impl FilesMover {
    /// Everything of ours in every root that can be read.
    pub(super) fn left(&self) -> Vec<Artifact> {
        let mut found: Vec<Artifact> = self.held().iter().map(Held::artifact).collect();
        for root in &self.options.roots {
            let Ok(entries) = std::fs::read_dir(workshop(&root.path)) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with("fs_") {
                    let kind = if entry.path().join("probe").is_file() { BACK } else { COPY };
                    found.push(Artifact { kind: kind.into(), name, partition: root.partition.clone() });
                }
            }
        }
        found.sort();
        found
    }

    fn held(&self) -> Vec<Held> {
        let now = SystemClock.now();
        let mut held = Vec::new();
        for (workload, partition, mark) in self.marks() {
            match mark.mode {
                Mode::Fenced { until, fence } if is_seal(until, now) => {
                    held.push(Held { workload, partition, fence, mark });
                }
                _ => {}
            }
        }
        held
    }

    /// The mark of every workload in every root that can be read.
    fn marks(&self) -> Vec<(WorkloadId, PartitionId, Owner)> {
        let mut marks = Vec::new();
        for root in &self.options.roots {
            let Ok(entries) = std::fs::read_dir(&root.path) else { continue };
            for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                if let (false, Ok(mark)) = (name.starts_with('.'), owner::read(&entry.path())) {
                    marks.push((WorkloadId::from(name), root.partition.clone(), mark));
                }
            }
        }
        marks
    }

    /// Takes one artifact away; where it is gone nothing is done.
    pub(super) fn reap_one(&self, artifact: &Artifact, permit: &Permit) -> Result<Answer, DriverError> {
        let path = workshop(self.root(&artifact.partition)?).join(&artifact.name);
        if !artifact.is_ours() {
            return refuse(path, "its name is none that we give".into());
        }
        if artifact.kind == Artifact::FENCE {
            return self.end_fence(artifact, permit);
        }
        // A mark comes into the workshop right before the exchange, or with what stood there before it.
        if path.join(tree::MARK).is_file() {
            let mark = owner::read(&path).map_err(|e| failed("reading its mark", &path, &e))?;
            if mark.mode != Mode::Standby {
                let why = format!(
                    "it may be the newest state of a workload ({}): compare it with the roots, then move it away \
                     by hand",
                    mark.generation
                );
                return refuse(path, why);
            }
        }
        steps::cleanup(&path)
    }

    /// Ends a hold whose move no journal knows: the directory is a copy from now on where another root has a newer
    /// owner, and otherwise it is written to again.
    fn end_fence(&self, artifact: &Artifact, permit: &Permit) -> Result<Answer, DriverError> {
        let Some(held) = self.held().into_iter().find(|held| held.artifact() == *artifact) else {
            return Ok(done("nothing is held"));
        };
        let (root, workload) = (self.root(&held.partition)?, held.workload.as_str());
        if let Some(other) = self.options.roots.iter().find(|other| !other.path.is_dir()) {
            return refuse(other.path.clone(), format!("it cannot be read, and may have {workload}"));
        }
        let newer = self.marks().into_iter().find(|(name, partition, mark)| {
            *name == held.workload
                && *partition != held.partition
                && mark.mode != Mode::Standby
                && mark.generation > held.mark.generation
        });
        let (mode, said) = match &newer {
            Some((_, owner, _)) => (Mode::Standby, format!("{owner} owns {workload}; this is a copy now")),
            None => (Mode::Writable, format!("{workload} is written to again at {}", held.partition)),
        };
        let epoch = permit.epoch().max(held.mark.epoch);
        owner::alone(root, workload, |folder| {
            owner::write(folder, &Owner { generation: held.mark.generation, epoch, mode })
        })
        .map_err(|e| failed("ending the hold", &root.join(workload), &e))?;
        Ok(done(said))
    }
}

fn refuse<T>(path: PathBuf, why: String) -> Result<T, DriverError> {
    let system = format!("files {}", path.display());
    Err(DriverError::new(Retry::Permanent, system, DOING, why))
}
