//! What has to hold after every step of a run and at its end, and what came of it.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use futures::executor::block_on;

use super::Outcome;
use super::outside::Outside;
use super::run::Run;
use crate::fleet::{MigrationId, Phase};
use crate::migrate::journal;
use crate::migrate::state::{Progress, Wish};
use crate::state::Store;

/// A person's wish to undo is taken up within this, faults of the store and waits included.
const HEARD: i64 = 30_000;

impl Run {
    pub(super) fn check(&mut self) -> Result<(), String> {
        let now = self.now();
        if let Some(engine) = self.engine.as_ref().filter(|e| e.recovered && self.changed) {
            let mut outside = self.shared.lock().unwrap_or_else(|e| e.into_inner());
            for id in engine.runner.running() {
                if let Some(state) = engine.runner.state(id) {
                    outside.checks.stands(state, &self.alerts, now);
                }
            }
            self.changed = !outside.checks.untold.is_empty();
        }
        if let Some(engine) = &self.engine {
            // Taken up, or at an end, or standing where somebody has to look first.
            self.asked_back.retain(|id, _| {
                engine.runner.state(*id).is_some_and(|s| {
                    let undoing = matches!(s.standing(), Phase::RollingBackPre | Phase::RollingBackPost);
                    !s.phase.is_end() && !undoing && !matches!(s.wish, Some(Wish::RollBack { .. }))
                })
            });
            if let Some(id) = self.asked_back.iter().find(|(_, at)| now - **at > HEARD).map(|(id, _)| *id) {
                return Err(format!("I8: {id} was to be undone and goes on"));
            }
        }
        self.outside().checks.violation.clone().map_or(Ok(()), Err)
    }

    /// Everything has ended: the fleet must be clean and every journal whole.
    pub(super) fn end(&mut self) -> Result<(), String> {
        self.pass();
        let entries = block_on(self.store.list("/migrations/")).map_err(|e| e.to_string())?;
        let mut journals: BTreeMap<MigrationId, Vec<crate::state::Entry>> = BTreeMap::new();
        let mut states: BTreeMap<MigrationId, Progress> = BTreeMap::new();
        let mut ledgers: BTreeMap<MigrationId, Vec<u8>> = BTreeMap::new();
        for entry in entries {
            let Some((id, rest)) = super::checks::migration_of(&entry.key) else { continue };
            match rest {
                "state" => {
                    let progress = Progress::read(&entry.value).map_err(|e| e.to_string())?;
                    states.insert(id, progress);
                }
                "ledger" => {
                    ledgers.insert(id, entry.value);
                }
                "plan" => {}
                _ => journals.entry(id).or_default().push(entry),
            }
        }
        for (id, progress) in &mut states {
            let records = journals.remove(id).unwrap_or_default();
            progress.ledger.take(ledgers.get(id).map(Vec::as_slice))?;
            journal::check(*id, &records, Some(&progress.journal)).map_err(|e| e.to_string())?;
        }
        let mut outside = self.outside();
        let wall = outside.wall();
        let Outside { checks, system, .. } = &mut *outside;
        checks.at_the_end(system, wall, &self.meddled);
        let kept = |name: &str| {
            states.values().any(|s| {
                s.phase == Phase::Done && s.ledger.lines.iter().any(|l| l.artifact.name == name && !l.done)
            })
        };
        if let Some(leak) = system.artifacts.iter().find(|a| a.kind != "copy" || !kept(&a.name)) {
            let words = format!("clean slate: {} {} is left on {}", leak.kind, leak.name, leak.partition);
            checks.broken(|| words);
        }
        checks.violation.clone().map_or(Ok(()), Err)
    }

    pub(super) fn outcome(self, seed: u64, violation: Option<String>) -> Outcome {
        let mut outcome = Outcome { seed, violation, ..Outcome::default() };
        let mut outside = self.outside();
        for phase in outside.checks.phases.values() {
            let slot = match phase {
                Phase::Done => 0,
                Phase::RolledBack => 1,
                Phase::Aborted => 2,
                _ => 3,
            };
            outcome.ends[slot] += 1;
        }
        outcome.coverage = std::mem::take(&mut outside.coverage);
        outcome.occasions.clone_from(&self.occasions.lock().unwrap_or_else(PoisonError::into_inner));
        outcome.faults = outside.faults.hit;
        outcome.trace = outside.trace.take().unwrap_or_default();
        outcome.commits = outside.commits;
        outcome.acknowledged = outside.system.loads.values().map(|l| l.acked).sum();
        outcome.deaths = self.deaths;
        outcome.hosts = self.hosts as u32;
        outcome
    }
}
