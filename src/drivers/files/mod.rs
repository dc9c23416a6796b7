//! Directories of files: a partition is a root, a workload is a directory below it. The reference
//! driver: complete, and small enough to be read in one sitting.
//!
//! The copy grows in a workshop beside the destination, is compared byte by byte, and takes its
//! place there by an atomic exchange of two names. The owner's mark travels inside the directory, so
//! data and ownership change in the same step. Writers go through [`write_to`], which keeps them out
//! while the source is fenced; a fence by an older leader is refused.

mod left;
mod options;
mod owner;
mod steps;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::task::JoinHandle;

pub use options::{FilesOptions, Root};
pub use owner::{NotWritten, write_to};

use self::owner::{Mode, workshop};
use self::tree::{Comparison, Listing, Progress};
use super::error::{DriverError, Retry};
use super::mover::{
    Action, Answer, Artifact, CanarySample, Capabilities, CleanupPolicy, Job, JobStatus, Mover, Permit,
    Probe, done,
};
use super::work::Works;
use crate::fleet::{
    Bytes, Generation, Partition, PartitionId, ServingState, Span, Timestamp, Topology, Workload, WorkloadId,
};

/// How long a call waits for long work before it says `working`.
const PATIENCE: Duration = Duration::from_millis(900);
/// Kinds of artifacts: the copy that grows, and the way back's proof.
const COPY: &str = "files_copy";
const BACK: &str = "files_back";

/// Long work of a thread of its own; dropped, it is told to end.
struct Running<T> {
    task: JoinHandle<std::io::Result<T>>,
    progress: Arc<Progress>,
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
    }
}

/// What is under way for one job; a restart loses it and nothing else.
#[derive(Default)]
struct Work {
    copying: Option<Running<Listing>>,
    comparing: Option<Running<Comparison>>,
    /// The source as it was last copied.
    copied: Listing,
    /// What was equal at the last comparison.
    equal: Listing,
}

/// The paths of one job.
#[derive(Clone)]
struct Places {
    /// Root and directory of the source.
    source_root: PathBuf,
    source: PathBuf,
    destination_root: PathBuf,
    destination: PathBuf,
    /// Where the copy grows.
    copy: PathBuf,
    /// Where the way back is proved.
    back: PathBuf,
}

/// The driver.
pub struct FilesMover {
    options: FilesOptions,
    work: Works<Work>,
}

impl FilesMover {
    /// A driver for these roots.
    pub fn new(options: FilesOptions) -> Self {
        Self { options, work: Works::default() }
    }

    fn root(&self, partition: &PartitionId) -> Result<&Path, DriverError> {
        let root = self.options.roots.iter().find(|r| &r.partition == partition).map(|r| r.path.as_path());
        root.ok_or_else(|| {
            let known: Vec<&str> = self.options.roots.iter().map(|r| r.partition.as_str()).collect();
            DriverError::new(
                Retry::Permanent,
                "files",
                format!("finding {partition}"),
                format!("expected one of the roots {}", known.join(", ")),
            )
        })
    }

    fn places(&self, job: &Job) -> Result<Places, DriverError> {
        let name = job.workload.as_str();
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            let why = format!("expected the name of one directory, got {name:?}");
            return Err(DriverError::new(Retry::Permanent, "files", "finding the workload", why));
        }
        let (source_root, destination_root) =
            (self.root(&job.source)?.to_path_buf(), self.root(&job.destination)?.to_path_buf());
        Ok(Places {
            source: source_root.join(name),
            destination: destination_root.join(name),
            copy: workshop(&destination_root).join(artifact_name(job, COPY)),
            back: workshop(&source_root).join(artifact_name(job, BACK)),
            source_root,
            destination_root,
        })
    }

    fn with_work<T>(&self, job: &Job, then: impl FnOnce(&mut Work) -> T) -> T {
        self.work.with(job.key("work"), then)
    }

    fn topology(&self) -> std::io::Result<Topology> {
        let mut topology = Topology::default();
        // Every copy of every workload: who has it, and what its mark says.
        let mut copies: BTreeMap<String, Vec<(PartitionId, owner::Owner, PathBuf)>> = BTreeMap::new();
        for root in &self.options.roots {
            let mut serving = ServingState::Passive;
            match std::fs::read_dir(&root.path) {
                Err(_) => serving = ServingState::Fenced,
                Ok(entries) => {
                    for entry in entries.flatten() {
                        let name = entry.file_name().to_string_lossy().into_owned();
                        if name.starts_with('.') || !entry.path().is_dir() {
                            continue;
                        }
                        let mark = owner::read(&entry.path())?;
                        if mark.mode != Mode::Standby {
                            serving = ServingState::Active;
                        }
                        copies.entry(name).or_default().push((root.partition.clone(), mark, entry.path()));
                    }
                }
            }
            topology.partitions.push(Partition {
                id: root.partition.clone(),
                host: root.partition.host(),
                class: self.options.class.clone(),
                serving,
                address: root.path.display().to_string(),
            });
        }
        for (name, mut copies) in copies {
            // The owner first: not a copy, and the newest.
            copies
                .sort_by_key(|(_, mark, _)| (mark.mode == Mode::Standby, std::cmp::Reverse(mark.generation)));
            let (partition, mark, path) = &copies[0];
            if let Some((other, ..)) = copies[1..].iter().find(|(_, mark, _)| mark.mode != Mode::Standby) {
                tracing::warn!(
                    workload = name,
                    "left out: folders of that name are at {partition} and {other}, and neither is marked as a \
                     copy of the other; rename one"
                );
                continue;
            }
            topology.workloads.push(Workload {
                id: WorkloadId::from(name),
                application: self.options.application.clone(),
                class: self.options.class.clone(),
                kind: "files".into(),
                partition: partition.clone(),
                replicas: copies[1..].iter().map(|(p, ..)| p.clone()).collect(),
                size: Bytes(tree::bytes(&tree::list(path)?)),
                writes_per_s: 0.0,
                requests_per_s: 0.0,
                depends_on: Vec::new(),
                stateless: false,
                generation: mark.generation,
                labels: BTreeMap::new(),
            });
        }
        topology.normalise();
        Ok(topology)
    }
}

/// `fs_<key>`.
fn artifact_name(job: &Job, kind: &str) -> String {
    format!("fs_{}", job.key(if kind == COPY { "prepare" } else { "arm_reverse" }))
}

/// What a failure of the file system means for the next try.
fn failed(doing: &str, path: &Path, error: &std::io::Error) -> DriverError {
    use std::io::ErrorKind;
    let (retry, hint) = match error.kind() {
        ErrorKind::NotFound => (Retry::Permanent, "; is the file system mounted?"),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            (Retry::Permanent, "; who runs this may not write there")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (Retry::Permanent, "; make room or choose another")
        }
        ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::ResourceBusy => (Retry::Retryable, ""),
        _ => (Retry::Unknown, ""),
    };
    DriverError::new(retry, format!("files {}", path.display()), doing, format!("{error}{hint}"))
}

#[async_trait]
impl Mover for FilesMover {
    fn class(&self) -> &str {
        &self.options.class
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            online: true,
            digest: true,
            reverse_proved_before_cut: true,
            reverse: true,
            fence_checked_by_target: true,
            canary_reads: true,
            canary_traffic: false,
            system_votes: false,
            follows: false,
            drops_source: false,
        }
    }

    async fn discover(&self) -> Result<Topology, DriverError> {
        self.topology().map_err(|e| failed("discover", Path::new(""), &e))
    }

    fn describe(&self, job: &Job) -> Vec<String> {
        let Ok(p) = self.places(job) else { return Vec::new() };
        let (source, destination, copy) = (p.source.display(), p.destination.display(), p.copy.display());
        vec![
            format!("mkdir {copy}"),
            format!("copy {source} {copy}, again and again until little changes"),
            format!("compare {source} {copy}, every byte"),
            format!("fence {source}: lock, write {source}/{}", tree::MARK),
            "copy and compare what changed since".to_string(),
            format!("renameat2 {copy} {destination} RENAME_EXCHANGE"),
            format!("mark {source} as standby"),
        ]
    }

    fn artifacts(&self, job: &Job, action: &Action) -> Vec<Artifact> {
        let artifact = |kind: &str, partition: &PartitionId| Artifact {
            kind: kind.into(),
            name: artifact_name(job, kind),
            partition: partition.clone(),
        };
        match action {
            // A way back is opened without having been prepared: the exchange makes its copy.
            Action::Prepare | Action::Open => vec![artifact(COPY, &job.destination)],
            Action::ArmReverse => vec![artifact(BACK, &job.source)],
            _ => Vec::new(),
        }
    }

    /// After the exchange the copy's place holds what stood there before: it always goes.
    fn cleanup_policy(&self, _artifact: &Artifact) -> CleanupPolicy {
        CleanupPolicy::Always
    }

    async fn perform(&self, job: &Job, action: &Action, permit: &Permit) -> Result<Answer, DriverError> {
        let places = self.places(job)?;
        match action {
            Action::Announce | Action::Commit => Ok(done("nothing to be done in a file system")),
            Action::Prepare => steps::prepare(job, &places),
            Action::Replicate => self.replicate(job, places).await,
            Action::StopReplication => {
                self.with_work(job, |w| w.copying = None);
                Ok(done("the copying has ended"))
            }
            Action::Verify => self.verify(job, places).await,
            Action::ArmReverse => steps::arm_reverse(&places),
            Action::ProbeReverse => steps::probe_reverse(job, &places),
            Action::CanaryShare { .. } => Ok(done("files are read on both sides and compared when asked")),
            Action::Fence { deadline } => steps::fence(job, &places, permit.epoch(), *deadline),
            Action::Unfence => steps::unfence(job, &places, permit.epoch()),
            Action::VerifyAtCut => self.verify_at_cut(job, places).await,
            Action::Open => steps::open(job, &places, permit.epoch()),
            Action::EnableReverse => steps::enable_reverse(job, &places),
            Action::Retire => steps::retire(job, &places),
            Action::Cleanup { artifact } => {
                let path = workshop(self.root(&artifact.partition)?).join(&artifact.name);
                self.work.end(&job.key("work"));
                steps::cleanup(&path)
            }
        }
    }

    async fn probe(&self, job: &Job, action: &Action) -> Probe {
        let places = match self.places(job) {
            Ok(places) => places,
            Err(error) => return Probe::Unknown { reason: error.to_string() },
        };
        let running = self.with_work(job, |w| (w.copying.is_some(), w.comparing.is_some()));
        let path = match action {
            Action::Cleanup { artifact } => {
                self.root(&artifact.partition).ok().map(|r| workshop(r).join(&artifact.name))
            }
            _ => None,
        };
        steps::probe(job, &places, action, running, path.as_deref())
    }

    async fn status(&self, job: &Job) -> Result<JobStatus, DriverError> {
        let p = self.places(job)?;
        let size = tree::list(&p.source).map(|l| tree::bytes(&l)).unwrap_or(0);
        let opened = owner::read(&p.destination).is_ok_and(|o| o.generation >= job.generation);
        let there = if opened { &p.destination } else { &p.copy };
        let copied = tree::list(there).map(|l| tree::bytes(&l)).unwrap_or(0);
        let streaming = self.with_work(job, |w| !w.copied.is_empty());
        Ok(JobStatus {
            copied: Bytes(copied),
            total: Bytes(size.max(copied)),
            streaming: streaming || opened,
            lag: (streaming || opened).then_some(Span::ZERO),
            source_alive: p.source_root.is_dir(),
            destination_alive: p.destination_root.is_dir(),
            owner: None,
            note: String::new(),
            broken: None,
            can_call_off: false,
        })
    }

    async fn samples(
        &self,
        job: &Job,
        _since: Timestamp,
    ) -> Result<(CanarySample, CanarySample), DriverError> {
        let p = self.places(job)?;
        let job = job.clone();
        let read = tokio::task::spawn_blocking(move || steps::sample(&job, &p));
        match read.await {
            Ok(Ok(samples)) => Ok(samples),
            Ok(Err(error)) => Err(failed("reading", Path::new(""), &error)),
            Err(error) => Err(DriverError::new(Retry::Retryable, "files", "reading", error.to_string())),
        }
    }

    async fn leaks(&self) -> Result<Vec<Artifact>, DriverError> {
        Ok(self.left())
    }

    async fn reap(&self, artifact: &Artifact, permit: &Permit) -> Result<Answer, DriverError> {
        self.reap_one(artifact, permit)
    }
}

impl FilesMover {
    /// One pass after the other until a pass finds little to do.
    async fn replicate(&self, job: &Job, places: Places) -> Result<Answer, DriverError> {
        if steps::opened(job, &places) {
            return Ok(done("the destination is open already"));
        }
        if !self.with_work(job, |w| w.copying.is_some()) {
            let progress = Arc::new(Progress::default());
            let (p, watched) = (places.clone(), progress.clone());
            let task = tokio::task::spawn_blocking(move || steps::copy_until_close(&p, &watched));
            self.with_work(job, |w| w.copying = Some(Running { task, progress }));
        }
        let start = Instant::now();
        while !self.with_work(job, |w| w.copying.as_ref().is_none_or(|r| r.task.is_finished())) {
            if start.elapsed() > PATIENCE {
                let at = self.with_work(job, |w| {
                    w.copying.as_ref().map_or(0, |r| r.progress.bytes.load(Ordering::Relaxed))
                });
                return Ok(Answer::Working { waiting_for: format!("the copy: {} looked at", Bytes(at)) });
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let Some(mut running) = self.with_work(job, |w| w.copying.take()) else {
            return Ok(Answer::Working { waiting_for: "another call of the same copy".into() });
        };
        let copied = finished((&mut running.task).await, "copying", &places.source)?;
        let words = format!("{} files and folders, {}", copied.len(), Bytes(tree::bytes(&copied)));
        self.with_work(job, |w| w.copied = copied);
        Ok(done(words))
    }

    async fn verify(&self, job: &Job, places: Places) -> Result<Answer, DriverError> {
        if !self.with_work(job, |w| w.comparing.is_some()) {
            let progress = Arc::new(Progress::default());
            let (p, watched) = (places.clone(), progress.clone());
            let copied = self.with_work(job, |w| w.copied.clone());
            let opened = steps::opened(job, &places);
            let task = tokio::task::spawn_blocking(move || {
                let (from, to) = if opened { (&p.destination, &p.source) } else { (&p.source, &p.copy) };
                tree::compare(from, to, &Listing::new(), &copied, &watched)
            });
            self.with_work(job, |w| w.comparing = Some(Running { task, progress }));
        }
        let start = Instant::now();
        while !self.with_work(job, |w| w.comparing.as_ref().is_none_or(|r| r.task.is_finished())) {
            if start.elapsed() > PATIENCE {
                let at = self.with_work(job, |w| {
                    w.comparing.as_ref().map_or(0, |r| r.progress.bytes.load(Ordering::Relaxed))
                });
                return Ok(Answer::Working { waiting_for: format!("the comparison: {} read", Bytes(at)) });
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let Some(mut running) = self.with_work(job, |w| w.comparing.take()) else {
            return Ok(Answer::Working { waiting_for: "another call of the same comparison".into() });
        };
        let found = finished((&mut running.task).await, "comparing", &places.source)?;
        let evidence = steps::evidence(&found);
        self.with_work(job, |w| w.equal = found.equal.clone());
        Ok(Answer::Done(evidence))
    }

    /// Copies and compares what changed since the full comparison; the source must be fenced.
    async fn verify_at_cut(&self, job: &Job, places: Places) -> Result<Answer, DriverError> {
        if steps::opened(job, &places) {
            return Ok(done("the destination is open already"));
        }
        let known = self.with_work(job, |w| w.equal.clone());
        let (p, generation): (Places, Generation) = (places.clone(), job.generation);
        let task = tokio::task::spawn_blocking(move || steps::settle(&p, generation, &known)).await;
        let found = finished(task, "comparing at the cut", &places.source)?;
        Ok(Answer::Done(steps::evidence(&found)))
    }
}

fn finished<T>(
    task: Result<std::io::Result<T>, tokio::task::JoinError>,
    doing: &str,
    path: &Path,
) -> Result<T, DriverError> {
    match task {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(doing, path, &error)),
        Err(error) => Err(DriverError::new(Retry::Retryable, "files", doing, error.to_string())),
    }
}
