//! The simulated system: it holds workloads' data, serves clients that write, copies, fences, votes
//! and routes, refuses old epochs, and forgets nothing. Its clients know nothing of migrations: they
//! write wherever a partition accepts, so a second writable owner loses writes and is seen.

use std::collections::{BTreeMap, BTreeSet};

use super::fleet::{STATELESS, VOTING};
use crate::drivers::{Action, Answer, Artifact, DriverError, Evidence, Job, JobStatus, Probe, Retry, Weight};
use crate::fleet::rng::Random;
use crate::fleet::{Bytes, Epoch, Generation, PartitionId, Span, Topology, WorkloadId};
use crate::migrate::owner::Owner;

/// How long a vote takes that takes its time, in milliseconds.
const VOTE: i64 = 700;

/// One workload as the system has it.
pub(super) struct Load {
    pub(super) class: String,
    /// Writes that each side has.
    pub(super) data: BTreeMap<PartitionId, u64>,
    /// Writes that clients were told to be safe.
    pub(super) acked: u64,
    /// Sides that are open for clients, and since which generation.
    pub(super) open: BTreeMap<PartitionId, Generation>,
    /// Sides whose writes are held, until then (wall clock).
    fenced: BTreeMap<PartitionId, i64>,
    /// The vote that is under way: who gets it, at which generation, and when; until then it can be called off.
    voting: Option<(PartitionId, Generation, i64)>,
    /// What was compared at the cut was equal, and the system has not heard that the cut is given up: who was told
    /// to change the owner may still be on its way, also from an engine that leads no more.
    compared: bool,
    /// The stream that runs, and when its bulk is over.
    stream: Option<(PartitionId, PartitionId, i64)>,
    /// Sides whose copy has a flipped bit.
    pub(super) corrupt: BTreeSet<PartitionId>,
    /// Share of reads or traffic at a side that is not the owner.
    pub(super) share: BTreeMap<PartitionId, f64>,
    reverse_proved: bool,
    announced: bool,
    /// Sides that were retired.
    retired: BTreeSet<PartitionId>,
    /// The system's own word (where it votes).
    pub(super) owner: PartitionId,
    /// The newest epoch that asked for something.
    epoch: Epoch,
    /// Where it stood when the fleet was planned on.
    home: PartitionId,
}

/// The whole system.
#[derive(Default)]
pub(super) struct System {
    pub(super) loads: BTreeMap<WorkloadId, Load>,
    pub(super) artifacts: BTreeSet<Artifact>,
    /// Partitions that do not answer, until then (true time).
    pub(super) dead: BTreeMap<PartitionId, i64>,
    /// The destination of these answers slowly, so the judge must fail it.
    pub(super) slow: BTreeSet<(WorkloadId, PartitionId)>,
}

impl System {
    pub(super) fn new(topology: &Topology) -> Self {
        let loads = topology.workloads.iter().map(|w| {
            let load = Load {
                class: w.class.clone(),
                data: BTreeMap::from([(w.partition.clone(), 100)]),
                acked: 100,
                open: BTreeMap::from([(w.partition.clone(), w.generation)]),
                fenced: BTreeMap::new(),
                voting: None,
                compared: false,
                stream: None,
                corrupt: BTreeSet::new(),
                share: BTreeMap::new(),
                reverse_proved: false,
                announced: false,
                retired: BTreeSet::new(),
                owner: w.partition.clone(),
                epoch: Epoch(0),
                home: w.partition.clone(),
            };
            (w.id.clone(), load)
        });
        Self { loads: loads.collect(), ..Self::default() }
    }

    /// Time passes: streams carry what was written before, then clients write. `seen` is shown what has data.
    pub(super) fn pass(&mut self, wall: i64, now: i64, mut seen: impl FnMut(&WorkloadId, &Load)) {
        self.dead.retain(|_, until| *until > now);
        for (workload, load) in self.loads.iter_mut().filter(|(_, l)| l.class != STATELESS) {
            load.carry(now);
            load.vote_if_due(now);
            load.write(wall);
            seen(workload, load);
        }
    }

    /// Where a workload stood when the fleet was planned on.
    pub(super) fn home(&self, workload: &WorkloadId) -> Option<&PartitionId> {
        self.loads.get(workload).map(|l| &l.home)
    }

    /// The router sends shares.
    pub(super) fn route(
        &mut self,
        workload: &WorkloadId,
        weights: &[Weight],
        epoch: Epoch,
    ) -> Result<(), DriverError> {
        let Some(load) = self.loads.get_mut(workload) else { return Ok(()) };
        if epoch < load.epoch {
            return Err(DriverError::new(Retry::Permanent, "simulated", "set weights", "an older epoch"));
        }
        load.epoch = epoch;
        load.share = weights.iter().map(|w| (w.partition.clone(), w.share.get())).collect();
        Ok(())
    }

    fn answers(&self, partition: &PartitionId) -> bool {
        !self.dead.contains_key(partition)
    }

    /// Does one action. `wall` and `now` in milliseconds.
    pub(super) fn perform(
        &mut self,
        job: &Job,
        action: &Action,
        epoch: Epoch,
        wall: i64,
        now: i64,
    ) -> Result<Answer, DriverError> {
        let refuse = |retry, detail: &str| {
            Err(DriverError::new(retry, "simulated", action.name().to_string(), detail.to_string()))
        };
        let side = touched(job, action);
        if !self.answers(side) {
            return refuse(Retry::Retryable, "it does not answer");
        }
        let Some(load) = self.loads.get_mut(&job.workload) else {
            return refuse(Retry::Permanent, "there is no such workload");
        };
        if epoch < load.epoch {
            return refuse(Retry::Permanent, "an older epoch");
        }
        load.epoch = epoch;
        let mut evidence = Evidence { summary: action.name().to_string(), ..Evidence::default() };
        match action {
            Action::Announce => load.announced = true,
            Action::Prepare | Action::ArmReverse => {
                self.artifacts.extend(artifacts(job, action));
            }
            Action::Replicate => {
                self.artifacts.extend(artifacts(job, action));
                if !load.replicate(job, now) {
                    return Ok(Answer::Working { waiting_for: "the bulk is copied".to_string() });
                }
            }
            Action::StopReplication => load.stream = None,
            Action::Verify => load.compare(job, &mut evidence, false),
            Action::VerifyAtCut => {
                load.compare(job, &mut evidence, true);
                load.compared = evidence.equal == Some(true);
            }
            Action::ProbeReverse => load.reverse_proved = true,
            Action::CanaryShare { share } => {
                load.share.insert(job.destination.clone(), share.get());
            }
            Action::Fence { deadline } => {
                load.fenced.insert(job.source.clone(), deadline.0);
                load.drain(job);
            }
            Action::Unfence => {
                load.voting = None;
                load.compared = false;
                load.fenced.remove(&job.source);
            }
            Action::Commit if load.class == VOTING && takes_its_time(job) => {
                if load.owner == job.source {
                    let due = now + VOTE;
                    load.voting.get_or_insert_with(|| (job.destination.clone(), job.generation, due));
                    return Ok(Answer::Working { waiting_for: "the vote".to_string() });
                }
            }
            Action::Commit => load.vote(job.destination.clone(), job.generation),
            Action::Open => load.open_at(job),
            // As with every real system: from a place that takes no writes nothing comes back.
            Action::EnableReverse if load.open.get(&job.destination).is_none_or(|g| *g < job.generation) => {
                return refuse(Retry::Retryable, "the destination is not open yet");
            }
            Action::EnableReverse => {
                load.stream = Some((job.destination.clone(), job.source.clone(), now));
                load.reverse_proved = true;
            }
            Action::Retire => load.retire(job),
            Action::Cleanup { artifact } => {
                self.artifacts.remove(artifact);
                if artifact.kind == "copy" {
                    load.remove_copy(&artifact.partition);
                }
            }
        }
        let _ = wall;
        Ok(Answer::Done(evidence))
    }

    /// Whether it was done, by looking.
    pub(super) fn probe(&self, job: &Job, action: &Action, now: i64) -> Probe {
        if !self.answers(touched(job, action)) {
            return Probe::Unknown { reason: "it does not answer".to_string() };
        }
        let Some(load) = self.loads.get(&job.workload) else {
            return Probe::Unknown { reason: "there is no such workload".to_string() };
        };
        let applied = match action {
            Action::Announce => load.announced,
            Action::Prepare | Action::ArmReverse => {
                artifacts(job, action).iter().all(|a| self.artifacts.contains(a))
            }
            Action::Replicate => match &load.stream {
                Some((from, to, until)) if *from == job.source && *to == job.destination => {
                    if *until > now {
                        return Probe::InProgress;
                    }
                    true
                }
                _ => false,
            },
            Action::StopReplication => load.stream.is_none(),
            Action::Verify | Action::VerifyAtCut | Action::ProbeReverse => false,
            Action::CanaryShare { share } => {
                load.share.get(&job.destination).copied().unwrap_or(0.0) == share.get()
            }
            Action::Fence { deadline } => load.fenced.get(&job.source).is_some_and(|u| *u >= deadline.0),
            Action::Unfence => !load.fenced.contains_key(&job.source) && load.voting.is_none(),
            Action::Commit if load.voting.is_some() => return Probe::InProgress,
            Action::Commit => load.owner == job.destination,
            Action::Open => load.open.get(&job.destination).is_some_and(|g| *g >= job.generation),
            Action::EnableReverse => {
                matches!(&load.stream, Some((from, to, _)) if *from == job.destination && *to == job.source)
            }
            Action::Retire => load.retired.contains(&job.source),
            Action::Cleanup { artifact } => !self.artifacts.contains(artifact),
        };
        match applied {
            true => {
                Probe::Applied { evidence: Evidence { summary: "found".to_string(), ..Evidence::default() } }
            }
            false => Probe::NotStarted,
        }
    }

    pub(super) fn status(&self, job: &Job, now: i64) -> Option<JobStatus> {
        let load = self.loads.get(&job.workload)?;
        let streaming = matches!(&load.stream, Some((from, to, until))
            if *from == job.source && *to == job.destination && *until <= now);
        Some(JobStatus {
            copied: Bytes(if streaming { 1_000_000 } else { 500_000 }),
            total: Bytes(1_000_000),
            streaming,
            lag: streaming.then_some(Span::millis(5)),
            source_alive: self.answers(&job.source),
            destination_alive: self.answers(&job.destination),
            owner: (load.class == VOTING && load.voting.is_none()).then(|| load.owner.clone()),
            note: String::new(),
            broken: None,
            can_call_off: load.voting.is_some(),
        })
    }

    /// Flips a bit in the copy of a workload that is being moved, if one is. A copy that the owner
    /// record names already is no copy any more: what happens to its data is past any comparison.
    pub(super) fn flip(
        &mut self,
        random: &mut Random,
        owners: &BTreeMap<WorkloadId, Owner>,
    ) -> Option<WorkloadId> {
        let copies: Vec<(WorkloadId, PartitionId)> = self
            .loads
            .iter()
            // A vote that is under way, or may be asked for at any moment, goes by what was compared; what rots
            // after that is found when both sides are compared again.
            .filter(|(_, l)| l.class != STATELESS && l.voting.is_none() && !(l.class == VOTING && l.compared))
            .filter_map(|(w, l)| match &l.stream {
                Some((from, to, _))
                    if l.writable_now(from)
                        && !l.open.contains_key(to)
                        && owners.get(w).is_none_or(|o| o.owner != *to) =>
                {
                    Some((w.clone(), to.clone()))
                }
                _ => None,
            })
            .collect();
        let (workload, copy) = copies.get(random.below(copies.len()))?.clone();
        self.loads.get_mut(&workload)?.corrupt.insert(copy);
        Some(workload)
    }
}

/// Whether the voters need a while for this move: every second one.
fn takes_its_time(job: &Job) -> bool {
    job.migration.0 % 2 == 1
}

/// The partition that an action talks to.
fn touched<'a>(job: &'a Job, action: &'a Action) -> &'a PartitionId {
    match action {
        Action::Announce | Action::Fence { .. } | Action::Unfence | Action::Retire => &job.source,
        Action::Cleanup { artifact } => &artifact.partition,
        _ => &job.destination,
    }
}

/// What an action makes.
pub(super) fn artifacts(job: &Job, action: &Action) -> Vec<Artifact> {
    let make = |kind: &str, partition: &PartitionId| {
        vec![Artifact {
            kind: kind.to_string(),
            name: ["fs_", &job.key(action.name())].concat(),
            partition: partition.clone(),
        }]
    };
    match action {
        Action::Prepare => make("copy", &job.destination),
        Action::Replicate => make("stream", &job.source),
        Action::ArmReverse => make("reverse", &job.destination),
        _ => Vec::new(),
    }
}

impl Load {
    /// Sides that accept writes now.
    pub(super) fn writable(&self, wall: i64) -> Vec<&PartitionId> {
        self.open.keys().filter(|p| self.fenced.get(*p).is_none_or(|until| *until <= wall)).collect()
    }

    /// How many sides accept writes now.
    pub(super) fn writable_sides(&self, wall: i64) -> usize {
        self.open.keys().filter(|p| self.fenced.get(*p).is_none_or(|until| *until <= wall)).count()
    }

    fn writable_now(&self, partition: &PartitionId) -> bool {
        self.open.contains_key(partition)
    }

    fn carry(&mut self, now: i64) {
        if let Some((from, to, until)) = &self.stream
            && *until <= now
            && let Some(sent) = self.data.get(from).copied()
        {
            match self.data.get_mut(to) {
                Some(there) => *there = sent,
                None => {
                    self.data.insert(to.clone(), sent);
                }
            }
        }
    }

    fn write(&mut self, wall: i64) {
        for side in self.open.keys() {
            if self.fenced.get(side).is_none_or(|until| *until <= wall)
                && let Some(writes) = self.data.get_mut(side)
            {
                *writes += 1;
                self.acked += 1;
            }
        }
    }

    /// Starts the copy or goes on with it; tells whether the bulk is over.
    fn replicate(&mut self, job: &Job, now: i64) -> bool {
        match &self.stream {
            Some((from, to, until)) if *from == job.source && *to == job.destination => {
                if *until <= now {
                    self.carry(now);
                    return true;
                }
                false
            }
            _ => {
                self.stream = Some((job.source.clone(), job.destination.clone(), now + 1500));
                self.corrupt.remove(&job.destination);
                self.data.entry(job.destination.clone()).or_insert(0);
                false
            }
        }
    }

    /// What was written before the fence arrives.
    fn drain(&mut self, job: &Job) {
        if let Some((from, to, until)) = &self.stream
            && *from == job.source
            && *to == job.destination
            && *until < i64::MAX
        {
            let sent = self.data.get(from).copied().unwrap_or(0);
            self.data.insert(to.clone(), sent);
        }
    }

    fn compare(&self, job: &Job, evidence: &mut Evidence, at_cut: bool) {
        let (a, b) = (self.data.get(&job.source), self.data.get(&job.destination));
        let whole = !self.corrupt.contains(&job.destination) && !self.corrupt.contains(&job.source);
        let equal = whole && (!at_cut || a == b);
        evidence.equal = Some(equal);
        if !equal {
            evidence.differences = vec!["key:17".to_string()];
        }
    }

    /// The voters change the owner in one step.
    fn vote(&mut self, destination: PartitionId, generation: Generation) {
        if self.owner == destination {
            return;
        }
        self.compared = false;
        let source = std::mem::replace(&mut self.owner, destination.clone());
        let sent = self.data.get(&source).copied().unwrap_or(0);
        self.data.insert(destination.clone(), sent);
        self.open.remove(&source);
        self.fenced.remove(&source);
        self.fenced.remove(&destination);
        self.open.insert(destination.clone(), generation);
        // The old master follows the new one.
        self.stream = Some((destination, source, 0));
    }

    /// A vote that takes its time happens by itself, whether anybody still asks or not.
    fn vote_if_due(&mut self, now: i64) {
        if let Some((destination, generation, _)) = self.voting.take_if(|(_, _, due)| *due <= now) {
            self.vote(destination, generation);
        }
    }

    fn open_at(&mut self, job: &Job) {
        self.fenced.remove(&job.destination);
        let newest = self.open.get(&job.destination).copied().unwrap_or_default();
        self.open.insert(job.destination.clone(), newest.max(job.generation));
        self.share.remove(&job.destination);
        if matches!(&self.stream, Some((from, to, _)) if *from == job.source && *to == job.destination) {
            self.stream = None;
        }
        if self.class == STATELESS {
            self.owner = job.destination.clone();
        }
    }

    fn retire(&mut self, job: &Job) {
        self.open.remove(&job.source);
        self.fenced.remove(&job.source);
        self.retired.insert(job.source.clone());
        self.retired.remove(&job.destination);
        self.stream = None;
        self.announced = false;
    }

    fn remove_copy(&mut self, partition: &PartitionId) {
        self.open.remove(partition);
        self.fenced.remove(partition);
        self.data.remove(partition);
        self.corrupt.remove(partition);
        if matches!(&self.stream, Some((from, to, _)) if from == partition || to == partition) {
            self.stream = None;
        }
    }

    /// Nothing holds writes and nothing streams.
    pub(super) fn is_clean(&self) -> bool {
        self.fenced.is_empty() && self.stream.is_none()
    }
}
