//! What people and the world do to the engine while it works: commands at any moment, a storm, a
//! clock that jumps, a host that dies for a while, a bit that flips, somebody else who writes the
//! owner record.

use std::sync::Arc;

use super::run::Run;
use crate::fleet::{Generation, MigrationId, Phase, ServingState, Span};
use crate::migrate::event::OperatorCommand;
use crate::migrate::owner::{Owner, OwnerMode, owner_key};
use crate::state::{Op, Store, Txn};

/// What a storm looks like to the engine.
#[derive(Clone, Copy, Debug)]
pub(super) enum Storm {
    /// Nothing is known of any host.
    Blind,
    /// Every host is predicted to fail.
    All,
    /// Every second one, by chance.
    Some,
}

/// What will happen in this run, and when it is over (true time).
#[derive(Default)]
pub(super) struct Events {
    pub(super) storm: Option<(i64, i64, Storm)>,
    pub(super) jump: Option<(i64, i64, i64)>,
    pub(super) meddle_at: Option<i64>,
    pub(super) flips: Vec<i64>,
    pub(super) deaths: Vec<i64>,
    pub(super) fenced: Option<(i64, i64)>,
    pub(super) takeover: Option<i64>,
}

impl Run {
    /// Decides what will happen.
    pub(super) fn foresee(&mut self) {
        let start = self.now();
        let random = &mut self.random;
        let mut at = |most: usize| start + 1000 + random.below(most) as i64;
        let (storm, jump, meddle, fenced, takeover) =
            (at(60_000), at(90_000), at(60_000), at(40_000), at(60_000));
        let flips: Vec<i64> = (0..2).map(|_| at(80_000)).collect();
        let deaths: Vec<i64> = (0..2).map(|_| at(80_000)).collect();
        let hour = Span::hours(1).0;
        self.events = Events {
            storm: random.chance(0.4).then(|| {
                let kind = [Storm::Blind, Storm::All, Storm::Some, Storm::Some][random.below(4)];
                (storm, storm + 20_000, kind)
            }),
            jump: random
                .chance(0.3)
                .then(|| (jump, jump + 20_000, if random.chance(0.5) { hour } else { -hour })),
            meddle_at: random.chance(0.15).then_some(meddle),
            flips: flips.into_iter().filter(|_| random.chance(0.4)).collect(),
            deaths: deaths.into_iter().filter(|_| random.chance(0.3)).collect(),
            fenced: random.chance(0.2).then_some((fenced, fenced + 10_000)),
            takeover: random.chance(0.3).then_some(takeover),
        };
    }

    /// Lets happen what is due.
    pub(super) fn happen(&mut self) {
        let now = self.now();
        self.storm(now);
        if let Some((from, to, by)) = self.events.jump {
            let mut outside = self.outside();
            let wanted = if (from..to).contains(&now) { by } else { 0 };
            if outside.offset != wanted {
                outside.offset = wanted;
                outside.say(|| format!("CLOCK is off by {wanted} ms"));
            }
        }
        self.events.flips.retain(|at| *at > now || self_flip(&self.shared, &mut self.random));
        let due = self.events.deaths.iter().filter(|at| **at <= now).count();
        self.events.deaths.retain(|at| *at > now);
        for _ in 0..due {
            let i = self.random.below(self.hosts());
            let span = 2_000 + self.random.below(25_000) as i64;
            let mut outside = self.outside();
            let partition = outside.topology.partitions[i].id.clone();
            outside.say(|| format!("HOST {partition} is dead for {span} ms"));
            outside.system.dead.insert(partition, now + span);
        }
        if let Some((from, to)) = self.events.fenced {
            let state = if (from..to).contains(&now) { ServingState::Fenced } else { ServingState::Active };
            let mut outside = self.outside();
            if outside.topology.partitions[0].serving != state {
                outside.topology.partitions[0].serving = state;
                outside.topology_changed = true;
            }
        }
        if self.events.meddle_at.is_some_and(|at| at <= now) {
            self.meddle();
        }
    }

    fn storm(&mut self, now: i64) {
        let Some((from, to, kind)) = self.events.storm else { return };
        let on = (from..to).contains(&now);
        if on == self.stormy {
            return;
        }
        // The brake is on while all of them are.
        self.storming = on && matches!(kind, Storm::All);
        self.stormy = on;
        let mut random = self.random.fork("storm");
        let mut outside = self.outside();
        let hit: std::collections::BTreeSet<_> = outside
            .topology
            .partitions
            .iter()
            .map(|p| p.id.clone())
            .filter(|_| on && (!matches!(kind, Storm::Some) || random.chance(0.5)))
            .collect();
        outside.say(|| format!("STORM {on}, {kind:?}"));
        match kind {
            Storm::Blind => outside.unknown = hit,
            Storm::All | Storm::Some => outside.failing = hit,
        }
        outside.topology_changed = true;
    }

    /// Somebody else writes an owner record while a migration works on it.
    fn meddle(&mut self) {
        let target = {
            let outside = self.outside();
            let busy = outside.checks.owners.iter().find(|(w, o)| {
                outside.checks.working.get(*w).is_some_and(|m| {
                    let phase = outside.checks.phases.get(m);
                    matches!(phase, Some(Phase::Copying | Phase::Canary | Phase::Verifying))
                }) && o.migration.is_some()
            });
            busy.map(|(w, o)| (w.clone(), o.clone()))
        };
        let Some((workload, owner)) = target else { return };
        self.events.meddle_at = None;
        let foreign = Owner {
            owner: "elsewhere".into(),
            generation: Generation(owner.generation.0 + 1),
            mode: OwnerMode::Active,
            migration: None,
        };
        let value = serde_json::to_vec(&foreign).expect("plain data serialises");
        let txn = Txn { compares: Vec::new(), ops: vec![Op::Put(owner_key(&workload), value)] };
        let _ = futures::executor::block_on(self.store.txn(txn));
        let mut outside = self.outside();
        outside.say(|| format!("MEDDLER takes {workload}"));
        outside.checks.owners.insert(workload.clone(), foreign);
        outside.checks.working.remove(&workload);
        drop(outside);
        self.meddled.insert(workload);
    }

    /// A person asks something of some migration.
    pub(super) fn command(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        let running = engine.runner.running();
        let Some(id) = running.get(self.random.below(running.len())).copied() else { return };
        let command = match self.random.below(8) {
            0 | 1 => OperatorCommand::RollBack,
            2 | 3 => OperatorCommand::Pause,
            4 => OperatorCommand::NextStep,
            5 => OperatorCommand::Promote,
            _ => OperatorCommand::Resume,
        };
        let done = engine.runner.command(id, command, "operator");
        self.outside().say(|| format!("OPERATOR {} {id}: {done:?}", command.word()));
        if command == OperatorCommand::RollBack && done.is_ok() {
            self.asked_back.insert(id, self.now());
        }
    }

    /// A person looks after what stands: resumes it, and undoes it when that did not help.
    pub(super) fn look_after(&mut self) {
        let now = self.now();
        let Some(engine) = &mut self.engine else { return };
        let standing: Vec<MigrationId> = engine
            .runner
            .running()
            .into_iter()
            .filter(|id| {
                engine.runner.state(*id).is_some_and(|s| matches!(s.phase, Phase::Hold | Phase::Stuck))
            })
            .collect();
        for id in standing {
            let tries = self.looked.entry(id).or_insert(0);
            *tries += 1;
            // Where it could not be switched back a person leaves it where it serves, in the end.
            let refused = engine.runner.state(id).is_some_and(|s| s.standing() == Phase::RollingBackPost);
            let command = match *tries % 3 {
                0 if refused => OperatorCommand::Promote,
                0 => OperatorCommand::RollBack,
                _ => OperatorCommand::Resume,
            };
            let done = engine.runner.command(id, command, "operator");
            if command == OperatorCommand::RollBack && done.is_ok() {
                self.asked_back.insert(id, now);
            }
            let mut outside = self.shared.lock().unwrap_or_else(|e| e.into_inner());
            outside.say(|| format!("OPERATOR {} {id}: {done:?}", command.word()));
        }
    }
}

/// Flips a bit in a copy; keeps the event where there is no copy yet.
fn self_flip(shared: &super::outside::Shared, random: &mut crate::fleet::rng::Random) -> bool {
    let shared = Arc::clone(shared);
    let mut outside = shared.lock().unwrap_or_else(|e| e.into_inner());
    let owners = outside.checks.owners.clone();
    match outside.system.flip(random, &owners) {
        Some(workload) => {
            outside.say(|| format!("BIT flipped in the copy of {workload}"));
            false
        }
        None => true,
    }
}
