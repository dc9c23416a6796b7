//! The partitions' processes: whether each is there, and what it uses. A process is found by its
//! file of process id, its systemd unit, or a part of its command line.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{ByPartition, Roots, entries, rate, text};
use crate::config::ProcessMatch;
use crate::protocol::PartitionBeat;

/// Clock ticks a second of `/proc/PID/stat`: 100 on every Linux that we run on.
const TICKS: f64 = 100.0;
/// Bytes of a page of `/proc/PID/statm` where the kernel's are of the usual size.
const PAGE: u64 = 4096;
/// How often all command lines are looked through for a process that is not there.
const SEARCH_EVERY: Duration = Duration::from_secs(30);

/// The partitions of this host.
pub(super) struct Processes {
    partitions: Vec<Partition>,
}

struct Partition {
    name: String,
    by: ProcessMatch,
    /// Id and start time of the process, which together name it for ever.
    found: Option<(u32, u64)>,
    ticks: Option<u64>,
    searched: Option<Instant>,
}

/// What the kernel says of a process.
struct Process {
    started: u64,
    ticks: u64,
    memory: u64,
}

impl Processes {
    pub(super) fn new(partitions: &BTreeMap<String, ProcessMatch>) -> Self {
        let partitions = partitions
            .iter()
            .map(|(name, by)| Partition {
                name: name.clone(),
                by: by.clone(),
                found: None,
                ticks: None,
                searched: None,
            })
            .collect();
        Self { partitions }
    }

    pub(super) fn read(&mut self, roots: &Roots, elapsed: f64, all: &mut ByPartition) -> Vec<PartitionBeat> {
        self.partitions.iter_mut().map(|partition| partition.read(roots, elapsed, all)).collect()
    }
}

impl Partition {
    fn read(&mut self, roots: &Roots, elapsed: f64, all: &mut ByPartition) -> PartitionBeat {
        let process = self.look(roots);
        let cpu = process.as_ref().and_then(|p| {
            let ticks = rate(self.ticks.replace(p.ticks), p.ticks, elapsed)?;
            Some(ticks / TICKS * 100.0)
        });
        let memory = process.as_ref().map(|p| p.memory);
        let metrics = all.entry(self.name.clone()).or_default();
        metrics.insert("process.present".into(), f64::from(u8::from(process.is_some())));
        super::put(metrics, "process.cpu", cpu);
        super::put(metrics, "process.memory", memory.map(|bytes| bytes as f64));
        PartitionBeat { partition: self.name.clone(), present: process.is_some(), cpu, memory }
    }

    fn look(&mut self, roots: &Roots) -> Option<Process> {
        if let Some((id, started)) = self.found
            && let Some(process) = read_process(roots, id).filter(|p| p.started == started)
        {
            return Some(process);
        }
        self.found = None;
        self.ticks = None;
        let id = self.find(roots)?;
        let process = read_process(roots, id)?;
        self.found = Some((id, process.started));
        Some(process)
    }

    fn find(&mut self, roots: &Roots) -> Option<u32> {
        if let Some(file) = &self.by.pid_file {
            return text(file)?.trim().parse().ok();
        }
        if let Some(unit) = &self.by.unit {
            let unit = if unit.contains('.') { unit.clone() } else { format!("{unit}.service") };
            let procs = roots.sys.join("fs/cgroup/system.slice").join(unit).join("cgroup.procs");
            return text(&procs)?.lines().next()?.trim().parse().ok();
        }
        let part = self.by.command.as_ref()?;
        if self.searched.is_some_and(|at| at.elapsed() < SEARCH_EVERY) {
            return None;
        }
        self.searched = Some(Instant::now());
        let own = std::process::id();
        processes(roots)
            .find(|(id, path)| {
                let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
                let command = String::from_utf8_lossy(&command).replace('\0', " ");
                *id != own && command.contains(part.as_str())
            })
            .map(|(id, _)| id)
    }
}

fn processes(roots: &Roots) -> impl Iterator<Item = (u32, PathBuf)> {
    entries(&roots.proc)
        .into_iter()
        .filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path)))
}

fn read_process(roots: &Roots, id: u32) -> Option<Process> {
    let folder = roots.proc.join(id.to_string());
    let stat = text(&folder.join("stat"))?;
    // The name is in parentheses and may hold anything; fields are counted behind it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
    if fields.first() == Some(&"Z") {
        return None;
    }
    let pages = text(&folder.join("statm"))?.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?;
    Some(Process { started: field(19)?, ticks: field(11)? + field(12)?, memory: pages * PAGE })
}
