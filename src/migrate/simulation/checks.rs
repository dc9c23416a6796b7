//! The invariants, checked after every commit and every effect. They know what was approved and what
//! was committed, and look at the system from outside; they share no code with the machine but the reading
//! of what is stored. What is checked on the drivers' side is in `effects.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::fleet::VOTING;
use super::system::System;
use crate::fleet::{Epoch, Generation, MigrationId, PartitionId, Phase, Topology, WorkloadId};
use crate::migrate::journal::{Note, Record, Verdict};
use crate::migrate::limits::{Limits, Token};
use crate::migrate::owner::Owner;
use crate::migrate::plan::Place;
use crate::plan::Proposal;
use crate::state::{Op, read_stored};

/// A move as it was approved.
pub(super) struct Approved {
    pub(super) source: PartitionId,
    pub(super) destination: PartitionId,
    pub(super) generation: Generation,
    pub(super) predicted: bool,
    /// Hash of the plan, in hex.
    pub(super) hash: String,
}

/// What the engine was shown of the fleet.
pub(super) struct Seen<'a> {
    pub(super) unknown: &'a BTreeSet<PartitionId>,
    pub(super) failing: &'a BTreeSet<PartitionId>,
    pub(super) limits: &'a Limits,
    pub(super) topology: &'a Topology,
    pub(super) system: &'a System,
}

/// What the journal says of the cut of one migration.
#[derive(Default)]
struct Cut {
    /// The source, and for the way back the destination, was fenced and not let go.
    fenced: [bool; 2],
    /// It was declared that the source is lost.
    lost: bool,
}

/// What has been committed, as far as the invariants need it.
#[derive(Default)]
pub(super) struct Checks {
    pub(super) phases: BTreeMap<MigrationId, Phase>,
    pub(super) working: BTreeMap<WorkloadId, MigrationId>,
    pub(super) owners: BTreeMap<WorkloadId, Owner>,
    pub(super) leader: Epoch,
    pub(super) violation: Option<String>,
    pub(super) approved: BTreeMap<WorkloadId, Approved>,
    /// What is intended and not answered.
    pub(super) intents: BTreeMap<MigrationId, String>,
    /// The same as it was when the engine of an epoch was deposed.
    pub(super) left_with: BTreeMap<Epoch, BTreeMap<MigrationId, String>>,
    pub(super) ledger: BTreeSet<String>,
    /// What an engine sent and had no answer to.
    pub(super) unanswered: BTreeMap<(Epoch, MigrationId), String>,
    /// Where an engine has heard an answer, or looked, since it leads.
    pub(super) found_out: BTreeSet<(Epoch, MigrationId)>,
    pub(super) tokens: BTreeMap<MigrationId, Token>,
    /// Migrations that stand and of which nobody was told yet, since when.
    pub(super) untold: BTreeMap<MigrationId, i64>,
    epochs: BTreeMap<MigrationId, Epoch>,
    fences: BTreeSet<(MigrationId, u64)>,
    cuts: BTreeMap<MigrationId, Cut>,
    /// A person's wish to undo that the journal has.
    wishes: BTreeSet<MigrationId>,
}

impl Checks {
    pub(super) fn broken(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    pub(super) fn approve(&mut self, proposal: &Proposal) {
        let predicted = matches!(proposal.trigger, crate::plan::proposal::Trigger::PredictiveFailure { .. });
        let hash = proposal.hash().hex();
        for m in &proposal.moves {
            let approved = Approved {
                source: m.source.clone(),
                destination: m.destination.clone(),
                generation: m.generation,
                predicted,
                hash: hash.clone(),
            };
            self.approved.insert(m.workload.clone(), approved);
        }
    }

    /// Another engine leads from now on.
    pub(super) fn lead(&mut self, epoch: Epoch) {
        self.left_with.insert(self.leader, self.intents.clone());
        let mine =
            self.unanswered.range((self.leader, MigrationId(0))..=(self.leader, MigrationId(u64::MAX)));
        let inherited: Vec<_> = mine.map(|((_, id), step)| ((epoch, *id), step.clone())).collect();
        self.unanswered.extend(inherited);
        self.leader = epoch;
    }

    /// A transaction of the engine of `epoch` was committed.
    pub(super) fn committed(&mut self, ops: &[Op], epoch: Epoch, seen: &Seen<'_>) {
        for op in ops {
            match op {
                Op::Put(key, value) => {
                    if let Some((id, rest)) = migration_of(key) {
                        if epoch < self.leader {
                            let leader = self.leader;
                            self.broken(|| format!("I7: the engine of {epoch} changed {id}, {leader} leads"));
                        }
                        if rest.starts_with("journal/") {
                            self.recorded(id, value, epoch);
                        }
                    } else if let Some(workload) = key.strip_prefix("/owners/") {
                        if let Ok(owner) = read_stored::<Owner>(value) {
                            self.owned(WorkloadId::from(workload), owner, seen);
                        }
                    } else if key.starts_with("/limits/token/")
                        && let Ok(token) = read_stored::<Token>(value)
                    {
                        self.taken(token, seen);
                    }
                }
                Op::Delete(key) => {
                    if let Some(id) = key.strip_prefix("/limits/token/").and_then(|n| n.parse().ok())
                        && self.tokens.remove(&id).is_none()
                    {
                        self.broken(|| format!("I5: {id} gave back a token that it did not hold"));
                    }
                }
            }
        }
    }

    fn recorded(&mut self, id: MigrationId, value: &[u8], writer: Epoch) {
        let Record { epoch, note, .. } = match Record::read(value) {
            Ok(record) => record,
            Err(error) => return self.broken(|| format!("{id} has a record that cannot be read: {error}")),
        };
        let before = self.epochs.insert(id, epoch).unwrap_or_default();
        if epoch < before || epoch != writer {
            self.broken(|| format!("I7: {id} has a record of {epoch} by {writer} after one of {before}"));
        }
        match note {
            Note::State { to, .. } => self.changed(id, to),
            Note::Intent { step, .. } => {
                match step.as_str() {
                    "unfence" => self.cuts.entry(id).or_default().fenced[0] = false,
                    "rb_unfence" => self.cuts.entry(id).or_default().fenced[1] = false,
                    _ => {}
                }
                self.intents.insert(id, step);
            }
            Note::Outcome { step, result, .. } => {
                match step.as_str() {
                    "fence" if result == Verdict::Applied => {
                        self.cuts.entry(id).or_default().fenced[0] = true
                    }
                    "rb_fence" if result == Verdict::Applied => {
                        self.cuts.entry(id).or_default().fenced[1] = true
                    }
                    _ => {}
                }
                if result != Verdict::Unknown {
                    self.intents.remove(&id);
                }
            }
            Note::CleanupAdd { artifact, .. } => {
                self.ledger.insert(artifact.name);
            }
            Note::Decision { what, .. } => match what.as_str() {
                "commits without the source" => self.cuts.entry(id).or_default().lost = true,
                "roll back" => {
                    self.wishes.insert(id);
                }
                "promote" | "next step" | "resume" => {
                    self.wishes.remove(&id);
                }
                _ => {}
            },
            Note::Fence { generation, .. } => {
                self.fences.insert((id, generation.0));
            }
            Note::CleanupDone { .. } | Note::Budget { .. } => {}
        }
    }

    fn changed(&mut self, id: MigrationId, phase: Phase) {
        match phase {
            Phase::Approved => {
                self.cuts.remove(&id);
            }
            Phase::Fencing => self.cuts.entry(id).or_default().fenced[0] = false,
            Phase::RollingBackPost => self.cuts.entry(id).or_default().fenced[1] = false,
            Phase::Done if self.wishes.contains(&id) => {
                self.broken(|| format!("I8: {id} was to be undone and is done"));
            }
            _ => {}
        }
        self.phases.insert(id, phase);
    }

    fn owned(&mut self, workload: WorkloadId, owner: Owner, seen: &Seen<'_>) {
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
            if changed {
                self.cut(&workload, &owner, seen);
            }
        }
        match owner.migration {
            Some(id) => self.working.insert(workload.clone(), id),
            None => self.working.remove(&workload),
        };
        self.owners.insert(workload, owner);
    }

    /// The owner changes: the journal has to say that writes were held, and the copy has to be whole.
    fn cut(&mut self, workload: &WorkloadId, owner: &Owner, seen: &Seen<'_>) {
        let load = seen.system.loads.get(workload);
        // Where the system itself votes its word is the truth, and our record only follows it.
        let votes = load.is_some_and(|l| l.class == VOTING);
        let voted = load.is_some_and(|l| votes && l.owner == owner.owner);
        if votes && !voted {
            self.broken(|| format!("I3: {workload} changed its owner against the system's own word"));
        }
        let back = self.approved.get(workload).is_some_and(|a| a.source == owner.owner);
        let evidence = owner.migration.is_some_and(|m| {
            let held = self.cuts.get(&m).is_some_and(|c| c.fenced[usize::from(back)] || c.lost && !back);
            (held || voted) && self.fences.contains(&(m, owner.generation.0))
        });
        if !evidence {
            self.broken(|| format!("I3: {workload} changed its owner without a FENCE in the journal"));
        }
        if load.is_some_and(|l| l.corrupt.contains(&owner.owner)) {
            self.broken(|| format!("S9: {workload} was cut to a copy with a flipped bit"));
        }
    }

    fn taken(&mut self, token: Token, seen: &Seen<'_>) {
        let Seen { limits, topology, .. } = seen;
        if let Some(workload) = topology.workload(&token.workload) {
            let predicted = self.approved.get(&token.workload).is_some_and(|a| a.predicted);
            if predicted && seen.unknown.contains(&workload.partition) {
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
        self.tokens.insert(token.migration, token.clone());
        if let Some(words) = over(&self.tokens, &token, limits) {
            self.broken(|| words);
        }
    }
}

/// The first limit that a token exceeds which was just taken; of places that it does not touch nothing has changed.
fn over(tokens: &BTreeMap<MigrationId, Token>, taken: &Token, limits: &Limits) -> Option<String> {
    let moves = |touch: &dyn Fn(&Place) -> bool| {
        tokens.values().filter(|t| touch(&t.source) || touch(&t.destination)).count() as u32
    };
    for place in [&taken.source, &taken.destination] {
        let at = [
            ("host", place.host.as_str(), limits.host, moves(&|p| p.host == place.host)),
            (
                "rack",
                place.rack.as_str(),
                limits.rack,
                moves(&|p| p.rack == place.rack && p.site == place.site),
            ),
            ("site", place.site.as_str(), limits.site, moves(&|p| p.site == place.site)),
        ];
        if let Some((kind, name, bound, n)) = at.into_iter().find(|(_, _, bound, n)| n > bound) {
            return Some(format!("I5: {n} moves touch {kind} {name}, the limit is {bound}"));
        }
    }
    (tokens.len() as u32 > limits.fleet)
        .then(|| format!("I5: {} moves run, the limit is {}", tokens.len(), limits.fleet))
}

/// `/migrations/M-12/rest` → (M-12, rest).
pub(super) fn migration_of(key: &str) -> Option<(MigrationId, &str)> {
    let named = key.strip_prefix("/migrations/")?;
    let end = memchr::memchr(b'/', named.as_bytes())?;
    Some((named[..end].parse().ok()?, &named[end + 1..]))
}
