//! One moment's metrics of this host, by canonical name. Each source is a file here; what a machine
//! does not have (sensors in a VM, pressure in an old kernel) is left out, never zero.

mod apps;
mod cpu;
mod disk;
mod logs;
mod memory;
mod network;
mod peers;
mod processes;
mod sensors;
mod space;
mod statsd;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::AgentError;
use crate::config::Agent;
use crate::fleet::Timestamp;
use crate::protocol::{AgentReading, PartitionBeat};

/// Metrics of one moment, by name.
pub(super) type Metrics = BTreeMap<String, f64>;
/// Metrics of several partitions of the host; the empty name is the host itself.
pub(super) type ByPartition = BTreeMap<String, Metrics>;

/// Where the kernel's files are: the machine's own, or a tree of a test.
#[derive(Clone, Debug, PartialEq)]
pub struct Roots {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: PathBuf::from("/proc"), sys: PathBuf::from("/sys") }
    }
}

/// What one collection gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collected {
    /// Metrics of the host and of its partitions.
    pub readings: Vec<AgentReading>,
    /// Presence of the partitions.
    pub beats: Vec<PartitionBeat>,
}

/// Everything that is collected from.
pub struct Collectors {
    roots: Roots,
    cpu: cpu::Cpu,
    disk: disk::Disk,
    network: network::Network,
    space: space::Space,
    peers: peers::Peers,
    logs: logs::Logs,
    apps: apps::Apps,
    statsd: Option<statsd::Statsd>,
    processes: processes::Processes,
}

impl Collectors {
    /// Begins to listen, follow and probe; needs a runtime.
    ///
    /// # Errors
    /// Where the address for StatsD is taken.
    pub async fn start(config: &Agent, roots: Roots) -> Result<Self, AgentError> {
        Ok(Self {
            cpu: cpu::Cpu::default(),
            disk: disk::Disk::default(),
            network: network::Network::default(),
            space: space::Space::default(),
            peers: peers::Peers::start(&config.peers, config.collect_every),
            logs: logs::Logs::start(&config.logs),
            apps: apps::Apps::start(&config.endpoints, config.collect_every),
            statsd: statsd::Statsd::start(&config.statsd).await?,
            processes: processes::Processes::new(&config.partitions),
            roots,
        })
    }

    /// Collects once; `elapsed` seconds have passed since the last time. The first time gives no
    /// rates.
    pub fn collect(&mut self, at: Timestamp, elapsed: f64) -> Collected {
        let mut all = ByPartition::new();
        let host = all.entry(String::new()).or_default();
        self.cpu.read(&self.roots, host);
        memory::read(&self.roots, host);
        self.disk.read(&self.roots, elapsed, host);
        self.space.read(&self.roots, host);
        self.network.read(&self.roots, elapsed, host);
        sensors::read(&self.roots, host);
        self.peers.read(host);
        self.logs.read(elapsed, &mut all);
        self.apps.read(&mut all);
        if let Some(statsd) = &self.statsd {
            statsd.read(elapsed, &mut all);
        }
        let beats = self.processes.read(&self.roots, elapsed, &mut all);
        let readings = all
            .into_iter()
            .map(|(partition, mut metrics)| {
                metrics.retain(|_, value| value.is_finite());
                AgentReading { at, partition, metrics }
            })
            .filter(|reading| !reading.metrics.is_empty())
            .collect();
        Collected { readings, beats }
    }
}

/// A small file as text; nothing where it is absent or not readable.
fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// A small file with one number.
fn number(path: &Path) -> Option<f64> {
    text(path)?.trim().parse().ok()
}

/// The entries of a folder, sorted by name.
fn entries(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// The growth of a counter per second; nothing at the first time, after a reset or without time.
fn rate(before: Option<u64>, now: u64, elapsed: f64) -> Option<f64> {
    let grown = now.checked_sub(before?)?;
    (elapsed > 0.0).then(|| grown as f64 / elapsed)
}

fn put(metrics: &mut Metrics, name: &str, value: Option<f64>) {
    if let Some(value) = value {
        metrics.insert(name.to_string(), value);
    }
}

#[cfg(test)]
mod tests;
