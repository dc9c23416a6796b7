//! The invariants, checked after every commit and every effect. They know what was approved and what
//! was committed, and look at the system from outside; they share no code with the machine.

use std::collections::{BTreeMap, BTreeSet};

use super::fleet::STATELESS;
use super::system::System;
use crate::drivers::{Action, Artifact, Job};
use crate::fleet::{Epoch, Generation, MigrationId, PartitionId, Phase, Topology, WorkloadId};
use crate::migrate::limits::{Limits, Token};
use crate::migrate::owner::Owner;
use crate::plan::Proposal;
use crate::state::Op;

/// A move as it was approved.
type Approved = (WorkloadId, PartitionId, PartitionId, Generation);

/// What the engine was shown of the fleet.
pub(super) struct Seen<'a> {
    pub(super) unknown: &'a BTreeSet<PartitionId>,
    pub(super) failing: &'a BTreeSet<PartitionId>,
    pub(super) limits: &'a Limits,
    pub(super) topology: &'a Topology,
}

/// What has been committed, as far as the invariants need it.
#[derive(Default)]
pub(super) struct Checks {
    pub(super) phases: BTreeMap<MigrationId, Phase>,
    pub(super) working: BTreeMap<WorkloadId, MigrationId>,
    pub(super) owners: BTreeMap<WorkloadId, Owner>,
    pub(super) leader: Epoch,
    pub(super) violation: Option<String>,
    approved: BTreeSet<Approved>,
    predicted: BTreeSet<WorkloadId>,
    intents: BTreeMap<MigrationId, String>,
    /// Every step that was ever intended, with the epoch of the engine that did.
    intended: BTreeSet<(MigrationId, Epoch, String)>,
    /// The engine whose transaction is being looked at.
    writer: Epoch,
    ledger: BTreeSet<String>,
    fences: BTreeSet<(MigrationId, u64)>,
    tokens: BTreeMap<MigrationId, Token>,
    /// Actions that were sent and not answered.
    unanswered: BTreeMap<MigrationId, String>,
}

impl Checks {
    pub(super) fn broken(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    pub(super) fn approve(&mut self, proposal: &Proposal) {
        let predicted = matches!(proposal.trigger, crate::plan::proposal::Trigger::PredictiveFailure { .. });
        for m in &proposal.moves {
            self.approved.insert((m.workload.clone(), m.source.clone(), m.destination.clone(), m.generation));
            if predicted {
                self.predicted.insert(m.workload.clone());
            }
        }
    }

    /// A transaction of the engine of `epoch` was committed.
    pub(super) fn committed(&mut self, ops: &[Op], epoch: Epoch, seen: &Seen<'_>) {
        self.writer = epoch;
        let of_migrations = ops.iter().any(|op| key(op).starts_with("/migrations/"));
        if of_migrations && epoch < self.leader {
            let leader = self.leader;
            self.broken(|| format!("I7: the engine of {epoch} changed a migration while {leader} leads"));
        }
        for op in ops {
            match op {
                Op::Put(key, value) => {
                    if let Some((id, rest)) = migration_of(key) {
                        if rest.starts_with("journal/") {
                            self.recorded(id, value);
                        }
                    } else if let Some(workload) = key.strip_prefix("/owners/") {
                        if let Ok(owner) = serde_json::from_slice::<Owner>(value) {
                            self.owned(WorkloadId::from(workload), owner);
                        }
                    } else if key.starts_with("/limits/token/")
                        && let Ok(token) = serde_json::from_slice::<Token>(value)
                    {
                        self.taken(token, seen);
                    }
                }
                Op::Delete(key) => {
                    if let Some(id) = key.strip_prefix("/limits/token/").and_then(|n| n.parse().ok()) {
                        self.tokens.remove(&id);
                    }
                }
            }
        }
    }

    fn recorded(&mut self, id: MigrationId, value: &[u8]) {
        match field(value, "\"kind\":\"") {
            "STATE" => {
                let to = field(value, "\"to\":\"");
                if let Some(phase) = Phase::ALL.iter().find(|p| snake(**p) == to) {
                    self.phases.insert(id, *phase);
                }
            }
            "INTENT" => {
                let step = field(value, "\"step\":\"").to_string();
                self.intended.insert((id, self.writer, step.clone()));
                self.intents.insert(id, step);
            }
            "OUTCOME" if field(value, "\"result\":\"") != "unknown" => {
                self.intents.remove(&id);
            }
            "CLEANUP_ADD" => {
                self.ledger.insert(field(value, "\"name\":\"").to_string());
            }
            "FENCE" => {
                let generation = number(value, "\"generation\":");
                self.fences.insert((id, generation));
            }
            _ => {}
        }
    }

    fn owned(&mut self, workload: WorkloadId, owner: Owner) {
        if let Some(before) = self.owners.get(&workload) {
            let changed = before.owner != owner.owner;
            let grew = owner.generation.0 == before.generation.0 + 1;
            let kept = owner.generation == before.generation;
            if changed && !grew || !changed && !kept {
                let words = format!(
                    "I2: {workload} went from {} at {} to {} at {}",
                    before.owner, before.generation, owner.owner, owner.generation
                );
                self.broken(|| words);
            }
            let fenced = owner.migration.is_some_and(|m| self.fences.contains(&(m, owner.generation.0)));
            if changed && !fenced {
                self.broken(|| format!("I3: {workload} changed its owner without a FENCE in the journal"));
            }
        }
        match owner.migration {
            Some(id) => self.working.insert(workload.clone(), id),
            None => self.working.remove(&workload),
        };
        self.owners.insert(workload, owner);
    }

    fn taken(&mut self, token: Token, seen: &Seen<'_>) {
        let Seen { limits, topology, .. } = seen;
        if let Some(workload) = topology.workload(&token.workload) {
            if self.predicted.contains(&token.workload) && seen.unknown.contains(&workload.partition) {
                self.broken(|| {
                    format!("I12: {} was admitted while nothing is known of its source", token.migration)
                });
            }
            let well = workload.replicas.iter().filter(|p| !seen.failing.contains(*p)).count();
            let members = workload.replicas.len() + 1;
            if members >= 3 && !seen.failing.contains(&workload.partition) && well < members / 2 {
                self.broken(|| format!("I6: {} was admitted though its quorum hangs on it", token.migration));
            }
        }
        self.tokens.insert(token.migration, token);
        let tokens = &self.tokens;
        let most = |name: &str, bound: u32, of: &dyn Fn(&Token) -> [String; 2]| -> Option<String> {
            let mut counts: BTreeMap<String, u32> = BTreeMap::new();
            for token in tokens.values() {
                let [a, b] = of(token);
                if a != b {
                    *counts.entry(b).or_default() += 1;
                }
                *counts.entry(a).or_default() += 1;
            }
            counts
                .into_iter()
                .find(|(_, n)| *n > bound)
                .map(|(place, n)| format!("I5: {n} moves touch {name} {place}, the limit is {bound}"))
        };
        let over =
            most("host", limits.host, &|t| [t.source.host.to_string(), t.destination.host.to_string()])
                .or_else(|| {
                    most("rack", limits.rack, &|t| {
                        [
                            format!("{}/{}", t.source.site, t.source.rack),
                            format!("{}/{}", t.destination.site, t.destination.rack),
                        ]
                    })
                })
                .or_else(|| {
                    most("site", limits.site, &|t| {
                        [t.source.site.to_string(), t.destination.site.to_string()]
                    })
                })
                .or_else(|| {
                    (tokens.len() as u32 > limits.fleet)
                        .then(|| format!("I5: {} moves run, the limit is {}", tokens.len(), limits.fleet))
                });
        if let Some(words) = over {
            self.broken(|| words);
        }
    }

    /// A driver is asked for an action by the engine of `epoch`.
    pub(super) fn asked(&mut self, job: &Job, action: &Action, step: &str, epoch: Epoch) {
        let back = self.approved.contains(&(
            job.workload.clone(),
            job.destination.clone(),
            job.source.clone(),
            Generation(job.generation.0.saturating_sub(2)),
        ));
        let forward = self.approved.contains(&(
            job.workload.clone(),
            job.source.clone(),
            job.destination.clone(),
            Generation(job.generation.0.saturating_sub(1)),
        ));
        if !forward && !back {
            self.broken(|| {
                format!("I10: {} of {} → {} was never approved", job.workload, job.source, job.destination)
            });
        }
        let id = job.migration;
        if epoch < self.leader {
            // A deposed engine that does not know it yet may go on asking for what it intended
            // itself while it led: the key makes that harmless. Anything else it must not ask.
            let mut own = self.intended.iter().filter(|(m, e, s)| *m == id && *e <= epoch && s == step);
            if own.next().is_none() {
                self.broken(|| {
                    format!("R2: {step} of {id} was asked for by deposed {epoch}, which never intended it")
                });
            }
            return;
        }
        if self.intents.get(&id).is_none_or(|intended| intended != step) {
            let intended = self.intents.get(&id).cloned();
            self.broken(|| format!("R2: {step} of {id} was asked for, the journal intends {intended:?}"));
        }
        match self.unanswered.get(&id) {
            Some(before) if before == step && !action.is_read_only() => {
                self.broken(|| format!("R3: {step} of {id} was repeated without a probe"));
            }
            Some(before) if before != step => {
                self.unanswered.remove(&id);
            }
            _ => {}
        }
    }

    pub(super) fn not_answered(&mut self, id: MigrationId, step: &str) {
        self.unanswered.insert(id, step.to_string());
    }

    pub(super) fn probed(&mut self, id: MigrationId) {
        self.unanswered.remove(&id);
    }

    /// An effect happened in the system.
    pub(super) fn happened(&mut self, system: &System, job: &Job, made: &[Artifact], wall: i64) {
        for artifact in made {
            if !self.ledger.contains(&artifact.name) {
                self.broken(|| format!("I4: {} {} is in no ledger", artifact.kind, artifact.name));
            }
        }
        self.one_writer(system, &job.workload, wall);
    }

    /// At most one side takes writes.
    pub(super) fn one_writer(&mut self, system: &System, workload: &WorkloadId, wall: i64) {
        if let Some(load) = system.loads.get(workload).filter(|l| l.class != STATELESS)
            && load.writable_sides(wall) > 1
        {
            let sides = load.writable(wall);
            let words = format!("I1: {workload} takes writes on {sides:?} at once");
            self.broken(|| words);
        }
    }

    /// Everything has ended: the fleet is exactly as the owner records say and nothing is left.
    pub(super) fn at_the_end(&mut self, system: &System, wall: i64, meddled: &BTreeSet<WorkloadId>) {
        for (workload, load) in &system.loads {
            if meddled.contains(workload) {
                continue;
            }
            let owner = self.owners.get(workload).map_or_else(|| load.owner.clone(), |o| o.owner.clone());
            if load.class == STATELESS {
                continue;
            }
            let writable = load.writable(wall);
            if writable != [&owner] {
                let words = format!("S2: {workload} is owned by {owner} and writable on {writable:?}");
                self.broken(|| words);
            }
            let kept = load.data.get(&owner).copied().unwrap_or(0);
            if kept != load.acked {
                let acked = load.acked;
                self.broken(|| {
                    format!("S2: {workload} has {kept} writes at {owner}, {acked} were acknowledged")
                });
            }
            if load.corrupt.contains(&owner) {
                self.broken(|| format!("S9: {workload} was cut to a copy with a flipped bit"));
            }
            if !load.is_clean() {
                self.broken(|| format!("clean slate: a fence or a stream of {workload} is left"));
            }
        }
        if !self.tokens.is_empty() {
            let left: Vec<_> = self.tokens.keys().collect();
            let words = format!("I5: tokens are left: {left:?}");
            self.broken(|| words);
        }
    }
}

fn key(op: &Op) -> &str {
    match op {
        Op::Put(key, _) | Op::Delete(key) => key,
    }
}

/// `/migrations/M-12/rest` → (M-12, rest).
pub(super) fn migration_of(key: &str) -> Option<(MigrationId, &str)> {
    let (id, rest) = key.strip_prefix("/migrations/")?.split_once('/')?;
    Some((id.parse().ok()?, rest))
}

/// The text after `name` up to the next quote; the journal's JSON has no spaces.
fn field<'a>(value: &'a [u8], name: &str) -> &'a str {
    let Some(at) = memchr::memmem::find(value, name.as_bytes()) else { return "" };
    let rest = &value[at + name.len()..];
    let end = memchr::memchr(b'"', rest).unwrap_or(rest.len());
    std::str::from_utf8(&rest[..end]).unwrap_or("")
}

fn number(value: &[u8], name: &str) -> u64 {
    let Some(at) = memchr::memmem::find(value, name.as_bytes()) else { return 0 };
    value[at + name.len()..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .fold(0, |n, b| n * 10 + u64::from(b - b'0'))
}

/// As serde writes it.
fn snake(phase: Phase) -> &'static str {
    match phase {
        Phase::Proposed => "proposed",
        Phase::Approved => "approved",
        Phase::Admitted => "admitted",
        Phase::Preparing => "preparing",
        Phase::Copying => "copying",
        Phase::CatchingUp => "catching_up",
        Phase::Verifying => "verifying",
        Phase::ReverseArmed => "reverse_armed",
        Phase::Canary => "canary",
        Phase::Fencing => "fencing",
        Phase::Committing => "committing",
        Phase::Redirecting => "redirecting",
        Phase::Soaking => "soaking",
        Phase::Retiring => "retiring",
        Phase::RollingBackPre => "rolling_back_pre",
        Phase::RollingBackPost => "rolling_back_post",
        Phase::SourceLost => "source_lost",
        Phase::Hold => "hold",
        Phase::Stuck => "stuck",
        Phase::Done => "done",
        Phase::Aborted => "aborted",
        Phase::RolledBack => "rolled_back",
        Phase::Stale => "stale",
        Phase::Expired => "expired",
        Phase::Denied => "denied",
    }
}
