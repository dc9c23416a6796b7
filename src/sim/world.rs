//! The simulated system as it is now: which partitions live, who owns which workload, what is
//! planned to happen. Time comes in with every call; what was due until then happens first, in the
//! order of its time, so that a run depends on its seed and its calls alone.

use std::collections::{BTreeMap, BTreeSet};

use super::faults::Fault;
use super::fleet::Layout;
use super::ledger::{Cause, Failure, Ledger};
use super::load::METRICS;
use super::noise::{Noise, mixed};
use super::track::{Fence, Track};
use crate::drivers::{Artifact, Weight};
use crate::fleet::rng::Random;
use crate::fleet::{Epoch, Generation, MigrationId, Revision, Span, Timestamp, WorkloadId};

/// How long it takes the system itself to notice that a partition is dead.
pub(crate) const DETECTION: Span = Span::seconds(30);

/// A partition as it is now.
#[derive(Clone, Debug)]
pub(crate) struct PartitionNow {
    pub(crate) alive: bool,
    /// Share of its capacity that its work asks for.
    pub(crate) load: f32,
    /// Its newest metrics.
    pub(crate) last: [f32; METRICS],
    /// How slow requests are there, 1 = without any load; smoothed over about a minute.
    pub(super) slow: f32,
    pub(super) noise: Noise,
}

/// A workload as it is now. Partitions are indices into the layout.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct WorkloadNow {
    pub(crate) owner: usize,
    pub(crate) replicas: Vec<usize>,
    /// Copies that died with their partition and come back with it.
    lost_copies: Vec<usize>,
    pub(crate) generation: Generation,
}

/// What is due at some time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    /// A fault begins.
    Onset(usize),
    /// It kills.
    Death(usize),
    /// What it killed is repaired.
    Repair(usize),
    /// The system itself brings a workload back whose partition died.
    Recover(usize),
    /// A fence lets go by itself.
    LetGo(usize),
}

/// The simulated system.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) layout: Layout,
    pub(crate) now: Timestamp,
    pub(crate) partitions: Vec<PartitionNow>,
    pub(crate) workloads: Vec<WorkloadNow>,
    pub(crate) ledger: Ledger,
    /// The highest epoch that was ever seen; lower ones are refused.
    pub(crate) epoch: Epoch,
    pub(crate) revision: Revision,
    pub(crate) tracks: BTreeMap<(MigrationId, WorkloadId), Track>,
    pub(crate) artifacts: BTreeSet<Artifact>,
    /// By workload index.
    pub(crate) fences: BTreeMap<usize, Fence>,
    pub(crate) weights: BTreeMap<usize, Vec<Weight>>,
    pub(super) faults: Vec<Fault>,
    /// Faults at work, as indices.
    pub(super) active: Vec<usize>,
    recorded: BTreeMap<usize, usize>,
    events: BTreeMap<(Timestamp, u64), Event>,
    next_event: u64,
}

impl World {
    pub(crate) fn new(seed: u64, layout: Layout, faults: Vec<Fault>, now: Timestamp) -> Self {
        let root = Random::new(seed).fork("live");
        let partitions = layout
            .partitions
            .iter()
            .map(|p| PartitionNow {
                alive: true,
                load: 0.4,
                last: [f32::NAN; METRICS],
                slow: 1.2,
                noise: Noise::new(root.fork(p.id.as_str())),
            })
            .collect();
        let workloads = layout
            .workloads
            .iter()
            .map(|w| WorkloadNow {
                owner: w.partition,
                replicas: w.replicas.clone(),
                lost_copies: Vec::new(),
                generation: Generation(1),
            })
            .collect();
        let mut world = Self {
            seed,
            layout,
            now,
            partitions,
            workloads,
            ledger: Ledger::default(),
            epoch: Epoch(0),
            revision: Revision(1),
            tracks: BTreeMap::new(),
            artifacts: BTreeSet::new(),
            fences: BTreeMap::new(),
            weights: BTreeMap::new(),
            active: Vec::new(),
            recorded: BTreeMap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            faults: Vec::new(),
        };
        for (i, fault) in faults.iter().enumerate() {
            world.due(fault.onset, Event::Onset(i));
            if !fault.kind.is_harmless() {
                world.due(fault.ends, Event::Death(i));
            }
            world.due(fault.repaired, Event::Repair(i));
        }
        world.faults = faults;
        world
    }

    fn due(&mut self, at: Timestamp, event: Event) {
        self.events.insert((at, self.next_event), event);
        self.next_event += 1;
    }

    /// Lets everything happen that was due until `now`.
    pub(crate) fn catch_up(&mut self, now: Timestamp) {
        while let Some(first) = self.events.first_entry() {
            let at = first.key().0;
            if at > now {
                break;
            }
            let event = first.remove();
            self.now = self.now.max(at);
            match event {
                Event::Onset(fault) => self.onset(fault, at),
                Event::Death(fault) => self.death(fault, at),
                Event::Repair(fault) => self.repair(fault),
                Event::Recover(workload) => self.recover(workload, at),
                Event::LetGo(workload) => {
                    if self.fences.get(&workload).is_some_and(|f| f.deadline <= at) {
                        self.unfence(workload, at);
                    }
                }
            }
        }
        self.now = self.now.max(now);
    }

    fn onset(&mut self, fault: usize, at: Timestamp) {
        self.active.push(fault);
        let f = &self.faults[fault];
        let at_risk = self.workloads.iter().filter(|w| f.partitions.contains(&w.owner)).count();
        self.recorded.insert(fault, self.ledger.failures.len());
        self.ledger.failures.push(Failure {
            kind: f.kind,
            harmless: f.kind.is_harmless(),
            host: self.layout.hosts[f.host].id.clone(),
            partitions: f.partitions.iter().map(|p| self.layout.partitions[*p].id.clone()).collect(),
            injected_at: at,
            at_risk,
            died: None,
            lost: 0,
        });
    }

    fn death(&mut self, fault: usize, at: Timestamp) {
        let struck = self.faults[fault].partitions.clone();
        let mut lost = 0;
        for &p in &struck {
            self.partitions[p].alive = false;
            self.partitions[p].load = 0.0;
            self.partitions[p].last = [f32::NAN; METRICS];
            let id = self.layout.partitions[p].id.clone();
            self.artifacts.retain(|a| a.partition != id);
            self.tracks.values_mut().for_each(|t| t.partition_died(&id, at));
            for w in 0..self.workloads.len() {
                if self.workloads[w].replicas.contains(&p) {
                    self.workloads[w].replicas.retain(|r| *r != p);
                    self.workloads[w].lost_copies.push(p);
                }
                if self.workloads[w].owner == p {
                    lost += 1;
                    self.lose(w, at);
                }
            }
        }
        if let Some(&record) = self.recorded.get(&fault) {
            self.ledger.failures[record].died = Some(at);
            self.ledger.failures[record].lost = lost;
        }
        self.revision.0 += 1;
    }

    /// A workload's partition died: the system itself brings it back, where it can from a copy.
    fn lose(&mut self, w: usize, at: Timestamp) {
        let id = self.layout.workloads[w].id.clone();
        self.fences.remove(&w);
        self.ledger.end(&id, Cause::Cut, at);
        self.ledger.begin(&id, Cause::Failure, at);
        let delay = DETECTION + self.comeback(w);
        self.due(at + delay, Event::Recover(w));
    }

    /// How long the system needs, once it has noticed: to promote a copy 15 to 45 s; to start
    /// something stateless anew 20 s; to restore from a backup two minutes and 100 MB/s.
    fn comeback(&self, w: usize) -> Span {
        let plan = &self.layout.workloads[w];
        let has_copy = self.workloads[w].replicas.iter().any(|r| self.partitions[*r].alive);
        match plan.size.0 {
            _ if has_copy => {
                let drawn = mixed(self.seed ^ mixed(w as u64) ^ self.workloads[w].generation.0) % 30;
                Span::seconds(15 + drawn as i64)
            }
            0 => Span::seconds(20),
            size => Span::seconds(120 + (size / 100_000_000) as i64),
        }
    }

    fn recover(&mut self, w: usize, at: Timestamp) {
        let id = self.layout.workloads[w].id.clone();
        let now = &self.workloads[w];
        if self.partitions[now.owner].alive {
            self.ledger.end(&id, Cause::Failure, at);
            return;
        }
        let copy = now.replicas.iter().copied().find(|r| self.partitions[*r].alive);
        let Some(target) = copy.or_else(|| self.emptiest(w)) else {
            self.due(at + DETECTION, Event::Recover(w));
            return;
        };
        let dead = self.workloads[w].owner;
        let now = &mut self.workloads[w];
        now.replicas.retain(|r| *r != target);
        if !now.lost_copies.contains(&dead) {
            now.lost_copies.push(dead);
        }
        now.owner = target;
        now.generation.0 += 1;
        self.weights.remove(&w);
        self.revision.0 += 1;
        self.ledger.end(&id, Cause::Failure, at);
    }

    /// The living partition with the least load, of the same kind where there is one.
    fn emptiest(&self, w: usize) -> Option<usize> {
        let kind = self.layout.applications[self.layout.workloads[w].application].kind;
        (0..self.partitions.len()).filter(|p| self.partitions[*p].alive).min_by(|a, b| {
            let key = |p: usize| (self.layout.partitions[p].traits.kind != kind, self.partitions[p].load);
            let (a, b) = (key(*a), key(*b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        })
    }

    fn repair(&mut self, fault: usize) {
        self.active.retain(|f| *f != fault);
        if self.faults[fault].kind.is_harmless() {
            return;
        }
        for &p in &self.faults[fault].partitions {
            self.partitions[p].alive = true;
            self.partitions[p].slow = 1.2;
            for now in &mut self.workloads {
                if now.lost_copies.contains(&p) {
                    now.lost_copies.retain(|l| *l != p);
                    if now.owner != p && !now.replicas.contains(&p) {
                        now.replicas.push(p);
                        now.replicas.sort_unstable();
                    }
                }
            }
        }
        self.revision.0 += 1;
    }

    pub(crate) fn fence(&mut self, w: usize, fence: Fence, at: Timestamp) {
        let fresh = self.fences.insert(w, fence).is_none();
        if fresh {
            let id = self.layout.workloads[w].id.clone();
            self.ledger.begin(&id, Cause::Cut, at);
        }
        self.due(fence.deadline, Event::LetGo(w));
    }

    pub(crate) fn unfence(&mut self, w: usize, at: Timestamp) {
        if self.fences.remove(&w).is_some() {
            let id = self.layout.workloads[w].id.clone();
            self.ledger.end(&id, Cause::Cut, at);
        }
    }

    /// Gives the workload to a new owner, and ends whatever kept it from its users.
    pub(crate) fn own(&mut self, w: usize, owner: usize, generation: Generation, at: Timestamp) {
        self.unfence(w, at);
        let now = &mut self.workloads[w];
        now.owner = owner;
        now.generation = generation;
        now.replicas.retain(|r| *r != owner);
        self.revision.0 += 1;
        let id = self.layout.workloads[w].id.clone();
        self.ledger.end(&id, Cause::Failure, at);
    }
}
