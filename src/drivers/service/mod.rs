//! Services that hold no data (systemd units, or commands): a partition is a host that can run them, a
//! workload is one of them. Where two may run at once, the new one is started, asked for its health, given
//! traffic by the router, and the old one is stopped in good order once nobody talks to it; where only one
//! may run, the old one is stopped first: that is the fence.
//!
//! A host's own word (`systemctl is-active`, or the status command) is all that is believed. What ran at
//! the destination before a migration began is never stopped by it: it is no artifact. A stopped process
//! cannot start itself again: where the engine dies within the fence, the next one starts it.

mod command;
mod control;
mod health;
mod options;
mod steps;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;

pub use options::{Control, Instances, Service, ServiceOptions};

use self::control::{Controlled, Order, Runs};
use self::health::Prober;
use super::error::{DriverError, Retry};
use super::mover::{
    Action, Answer, Artifact, CanarySample, Capabilities, CleanupPolicy, Job, JobStatus, Mover, Permit,
    Probe, done,
};
use super::paired_reads::{Read, Sampler};
use super::router::Router;
use crate::fleet::{
    Bytes, Clock, Generation, HostId, MigrationId, Partition, PartitionId, ServingState, Share, Span,
    SystemClock, Timestamp, Topology, Workload, WorkloadId,
};

/// The kind of the only artifact: a process at the destination.
const INSTANCE: &str = "service_instance";
/// Hosts that are asked at the same time.
const AT_ONCE: usize = 16;
/// Health is asked so often a second on each side.
const RATE: u32 = 20;

/// What is remembered between calls; a restart loses it and nothing else.
#[derive(Default)]
struct Seen {
    /// Where each service ran when it was last looked at.
    running: BTreeMap<WorkloadId, Vec<PartitionId>>,
    /// Its owner then.
    owners: BTreeMap<WorkloadId, PartitionId>,
    /// Health that is being asked, by migration.
    samplers: HashMap<MigrationId, Sampler>,
    /// The source before it was stopped, where only one may run.
    before: HashMap<MigrationId, CanarySample>,
    /// Since when open sessions are waited for.
    draining: HashMap<(MigrationId, PartitionId), Timestamp>,
    /// Instances that ran already when they were to be started.
    foreign: Vec<(MigrationId, PartitionId)>,
    /// Instances that we started.
    started: Vec<(MigrationId, PartitionId)>,
}

/// The driver.
pub struct ServiceMover {
    options: ServiceOptions,
    router: Option<Arc<dyn Router>>,
    prober: Prober,
    seen: Mutex<Seen>,
}

impl ServiceMover {
    /// A driver for these services; `router` is what sends traffic to them.
    pub fn new(options: ServiceOptions, router: Option<Arc<dyn Router>>) -> Self {
        let prober = Prober::new(options.command_timeout);
        Self { options, router, prober, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One service on the host of `partition`.
    fn on<'a>(
        &'a self,
        workload: &'a WorkloadId,
        partition: &PartitionId,
    ) -> Result<Controlled<'a>, DriverError> {
        let options = &self.options;
        let missing = |what: &str, known: String| {
            DriverError::new(
                Retry::Permanent,
                options.class.clone(),
                format!("finding {what}"),
                format!("the configuration names {known}"),
            )
        };
        let Some(service) = options.services.get(workload) else {
            let known: Vec<&str> = options.services.keys().map(WorkloadId::as_str).collect();
            return Err(missing(workload.as_str(), known.join(", ")));
        };
        let Some(host) = options.host(partition) else {
            let known: Vec<&str> = options.hosts.iter().map(HostId::as_str).collect();
            return Err(missing(partition.as_str(), known.join(", ")));
        };
        Ok(Controlled { options, id: workload, service, host })
    }

    /// Where the health of a service on a host is asked.
    fn address(&self, controlled: &Controlled<'_>) -> String {
        controlled.service.health.replace("{host}", controlled.host.as_str())
    }

    async fn healthy(&self, controlled: &Controlled<'_>) -> Result<f64, String> {
        self.prober.ask(&self.address(controlled)).await
    }

    /// The host that serves: the one that the router sends most to, of those that run it; else the one that
    /// served when it was last looked at; else the first of the configuration.
    async fn owner(&self, workload: &WorkloadId, running: &[PartitionId]) -> Option<PartitionId> {
        let last = self.seen().owners.get(workload).cloned();
        match running {
            [] => last,
            [only] => Some(only.clone()),
            several => {
                let weights = match &self.router {
                    Some(router) => router.weights(workload).await.unwrap_or_default(),
                    None => Vec::new(),
                };
                let share = |p: &PartitionId| {
                    weights.iter().find(|w| w.partition == *p).map_or(Share::MIN, |w| w.share).get()
                };
                let most = several.iter().map(share).fold(0.0, f64::max);
                let mut candidates = several.iter().filter(|p| share(p) >= most);
                let known = last.filter(|last| candidates.clone().any(|c| c == last));
                known.or_else(|| candidates.next().cloned())
            }
        }
    }
}

#[async_trait]
impl Mover for ServiceMover {
    fn class(&self) -> &str {
        &self.options.class
    }

    fn capabilities(&self) -> Capabilities {
        let many = self.options.instances == Instances::Many;
        Capabilities {
            online: many,
            reverse: true,
            reverse_proved_before_cut: many,
            canary_traffic: many && self.router.is_some(),
            ..Capabilities::default()
        }
    }

    /// Where it runs is where it is; there is no data that could be elsewhere.
    fn says_the_owner(&self) -> bool {
        true
    }

    /// Where only one may run, the stop and the start of a process lie within the fence.
    fn fence_budget(&self) -> Option<Span> {
        (self.options.instances == Instances::One)
            .then(|| self.options.stop_within + self.options.command_timeout)
    }

    async fn discover(&self) -> Result<Topology, DriverError> {
        let mut asked = Vec::new();
        for workload in self.options.services.keys() {
            for host in &self.options.hosts {
                asked.push(self.look(workload.clone(), self.options.partition(host)));
            }
        }
        let answers: Vec<_> = futures::stream::iter(asked).buffered(AT_ONCE).collect().await;
        let mut topology = Topology::default();
        for host in &self.options.hosts {
            let id = self.options.partition(host);
            let mut mine = answers.iter().filter(|(_, p, _)| *p == id).map(|(.., runs)| runs);
            let serving = if mine.clone().any(|r| matches!(r, Ok(Runs::Yes))) {
                ServingState::Active
            } else if mine.all(Result::is_err) {
                ServingState::Fenced
            } else {
                ServingState::Passive
            };
            topology.partitions.push(Partition {
                id,
                host: host.clone(),
                class: self.options.class.clone(),
                serving,
                address: host.to_string(),
            });
        }
        for workload in self.options.services.keys() {
            let running: Vec<PartitionId> = answers
                .iter()
                .filter(|(w, _, runs)| w == workload && matches!(runs, Ok(Runs::Yes)))
                .map(|(_, p, _)| p.clone())
                .collect();
            let owner = self.owner(workload, &running).await;
            let mut seen = self.seen();
            seen.running.insert(workload.clone(), running.clone());
            // What runs nowhere and never ran since we look stands nowhere.
            let Some(owner) = owner else { continue };
            seen.owners.insert(workload.clone(), owner.clone());
            topology.workloads.push(Workload {
                id: workload.clone(),
                application: self.options.application.clone(),
                class: self.options.class.clone(),
                kind: "service".into(),
                replicas: running.into_iter().filter(|p| *p != owner).collect(),
                partition: owner,
                size: Bytes(0),
                writes_per_s: 0.0,
                requests_per_s: 0.0,
                depends_on: Vec::new(),
                stateless: self.options.instances == Instances::Many,
                generation: Generation(0),
                labels: BTreeMap::new(),
            });
        }
        topology.normalise();
        Ok(topology)
    }

    fn describe(&self, job: &Job) -> Vec<String> {
        let (Ok(from), Ok(to)) =
            (self.on(&job.workload, &job.source), self.on(&job.workload, &job.destination))
        else {
            return Vec::new();
        };
        let words = |on: &Controlled<'_>, order| on.words(order, None).map(|words| words.join(" "));
        let up = [words(&to, Order::Start), Some(format!("ask {} until it is well", self.address(&to)))];
        let stay = [words(&to, Order::Enable), words(&from, Order::Disable)];
        let stop = [words(&from, Order::Stop)];
        match self.options.instances {
            Instances::Many => up.into_iter().chain(stay).chain(stop).flatten().collect(),
            Instances::One => stop.into_iter().chain(up).chain(stay).flatten().collect(),
        }
    }

    /// What the migration starts at the destination; nothing where it ran there already.
    fn artifacts(&self, job: &Job, action: &Action) -> Vec<Artifact> {
        let seen = self.seen();
        let mine = seen.started.contains(&(job.migration, job.destination.clone()));
        // The way back leads to what ran before.
        let owns = seen.owners.get(&job.workload) == Some(&job.destination);
        let there = seen.running.get(&job.workload).is_some_and(|r| r.contains(&job.destination));
        match action {
            Action::Prepare if (mine || !there) && !owns => vec![Artifact {
                kind: INSTANCE.into(),
                name: format!("{} fs_{}", job.workload, job.key("prepare")),
                partition: job.destination.clone(),
            }],
            _ => Vec::new(),
        }
    }

    fn cleanup_policy(&self, _artifact: &Artifact) -> CleanupPolicy {
        CleanupPolicy::OnFailure
    }

    async fn perform(&self, job: &Job, action: &Action, permit: &Permit) -> Result<Answer, DriverError> {
        let one = self.options.instances == Instances::One;
        match action {
            Action::Prepare => self.prepare(job, permit.epoch()).await,
            Action::ProbeReverse | Action::EnableReverse => self.way_back(job).await,
            Action::Fence { .. } if one => self.seal(job, permit.epoch()).await,
            Action::Unfence if one => self.up(job, &job.source, permit.epoch()).await,
            Action::Open => self.open(job, permit.epoch()).await,
            Action::Retire => self.retire(job, &job.source, permit.epoch()).await,
            Action::Cleanup { artifact } => self.clean(job, artifact, permit.epoch()).await,
            Action::Fence { .. } | Action::Unfence => Ok(done("nothing is written: two may serve at once")),
            Action::Replicate | Action::StopReplication | Action::Verify | Action::VerifyAtCut => {
                Ok(done("it holds no data"))
            }
            Action::ArmReverse => Ok(done("the source goes on running")),
            Action::Announce | Action::Commit | Action::CanaryShare { .. } => {
                Ok(done("nothing to be done for a service"))
            }
        }
    }

    /// Everything here may be asked twice, so what is not certainly done counts as not begun.
    async fn probe(&self, job: &Job, action: &Action) -> Probe {
        let one = self.options.instances == Instances::One;
        let (at, wanted) = match action {
            Action::Prepare if one => (&job.destination, Runs::No),
            Action::Prepare => (&job.destination, Runs::Yes),
            Action::Fence { .. } if one => (&job.source, Runs::No),
            Action::Unfence if one => (&job.source, Runs::Yes),
            Action::Cleanup { artifact } => (&artifact.partition, Runs::No),
            _ => return Probe::NotStarted,
        };
        let controlled = match self.on(&job.workload, at) {
            Ok(controlled) => controlled,
            Err(error) => return Probe::Failed { reason: error.to_string() },
        };
        match controlled.runs().await {
            Err(error) => Probe::Unknown { reason: error.to_string() },
            Ok(runs) if runs != wanted => Probe::NotStarted,
            Ok(Runs::Yes) => match self.healthy(&controlled).await {
                Ok(_) => steps::applied(format!("{} runs on {at} and is well", job.workload)),
                Err(_) => Probe::NotStarted,
            },
            Ok(_) => steps::applied(format!("{} does not run on {at}", job.workload)),
        }
    }

    async fn status(&self, job: &Job) -> Result<JobStatus, DriverError> {
        let (source, destination) =
            (self.on(&job.workload, &job.source)?, self.on(&job.workload, &job.destination)?);
        let (source, destination) = futures::join!(source.runs(), destination.runs());
        let word = |runs: &Result<Runs, DriverError>| match runs {
            Ok(Runs::Yes) => "runs".to_string(),
            Ok(Runs::No) => "does not run".to_string(),
            Ok(Runs::Changing(word)) => word.clone(),
            Err(error) => error.detail.clone(),
        };
        Ok(JobStatus {
            copied: Bytes(0),
            total: Bytes(0),
            streaming: true,
            lag: Some(Span::ZERO),
            // Nothing is copied from it, so that it may be gone.
            source_alive: source.is_ok() || self.options.instances == Instances::Many,
            destination_alive: destination.is_ok(),
            owner: None,
            note: format!("source {}, destination {}", word(&source), word(&destination)),
            broken: None,
            can_call_off: false,
        })
    }

    /// Health, asked on both sides at the same moments. Where only one may run, the source's is from before
    /// it was stopped.
    async fn samples(
        &self,
        job: &Job,
        since: Timestamp,
    ) -> Result<(CanarySample, CanarySample), DriverError> {
        self.watch(job)?;
        let seen = self.seen();
        let Some(sampler) = seen.samplers.get(&job.migration) else { return Ok(Default::default()) };
        let (mut source, destination) = sampler.since(since);
        if let Some(before) = seen.before.get(&job.migration) {
            source = before.clone();
        }
        Ok((source, destination))
    }

    /// None: a process bears no name of ours. What runs beside its owner is shown as a replica.
    async fn leaks(&self) -> Result<Vec<Artifact>, DriverError> {
        Ok(Vec::new())
    }
}

impl ServiceMover {
    /// Whether a service runs on the host of `partition`.
    async fn look(
        &self,
        workload: WorkloadId,
        partition: PartitionId,
    ) -> (WorkloadId, PartitionId, Result<Runs, DriverError>) {
        let runs = match self.on(&workload, &partition) {
            Ok(controlled) => controlled.runs().await,
            Err(error) => Err(error),
        };
        (workload, partition, runs)
    }

    /// Asks both sides for their health from now on.
    fn watch(&self, job: &Job) -> Result<(), DriverError> {
        let source = self.address(&self.on(&job.workload, &job.source)?);
        let destination = self.address(&self.on(&job.workload, &job.destination)?);
        let prober = self.prober.clone();
        self.seen().samplers.entry(job.migration).or_insert_with(|| {
            Sampler::start(RATE, |mut beat, reads| async move {
                for turn in 0u64.. {
                    beat.tick().await;
                    let at = SystemClock.now();
                    // In turns: who is asked second finds the processor awake.
                    let (source, destination) = if turn.is_multiple_of(2) {
                        let source = prober.ask(&source).await;
                        (source, prober.ask(&destination).await)
                    } else {
                        let destination = prober.ask(&destination).await;
                        (prober.ask(&source).await, destination)
                    };
                    let (source_ms, destination_ms) = (source.ok(), destination.ok());
                    reads.keep(Read { at, source_ms, destination_ms, differs: None });
                }
            })
        });
        Ok(())
    }
}
