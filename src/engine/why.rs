//! Why a workload or a migration is where it is, in sentences: what is under way is said first, then what
//! holds it.

use super::core::Core;
use crate::fleet::{Phase, ServingState, ShownState, Timestamp, Workload};
use crate::protocol::{MigrationView, Refusal};

impl Core {
    /// The one constraint that blocks a workload or a migration, or how a migration ended.
    ///
    /// # Errors
    /// Where there is nothing of that name.
    pub(super) fn why(&self, subject: &str, now: Timestamp) -> Result<Vec<String>, Refusal> {
        if let Some(m) = self.migrations.iter().find(|m| m.id.to_string() == subject) {
            return Ok(self.why_migration(m, now));
        }
        let Some(workload) = self.topology().workload(&subject.into()) else {
            return Err(Refusal::NotFound { what: format!("workload or migration {subject}") });
        };
        let running = self.migrations.iter().filter(|m| m.workload == workload.id && !m.phase.is_end());
        let mut sentences: Vec<String> = running.flat_map(|m| self.why_migration(m, now)).collect();
        let moving = !sentences.is_empty();
        let held = self.alerts.text(workload.partition.as_str(), &held_by(&workload.class));
        sentences.extend(held.map(str::to_string));
        sentences.extend(self.what_holds(workload, moving, now));
        if sentences.is_empty() {
            let standing = self.brain.standings().get(&workload.partition).copied().unwrap_or_default();
            sentences.push(format!(
                "nothing blocks {subject}: {} is {}, so there is no reason to move it",
                workload.partition,
                ShownState::of(ServingState::Active, standing.prediction).word()
            ));
        }
        Ok(sentences)
    }

    /// Where a migration is, since when, and what it waits for; of one that has ended, why it ended so.
    fn why_migration(&self, m: &MigrationView, now: Timestamp) -> Vec<String> {
        let way = format!("{} from {} to {}", m.workload, m.source, m.destination);
        if m.phase.is_end() {
            return vec![ended(m, &way, now)];
        }
        let mut sentences = vec![match self.runner.as_ref().and_then(|runner| runner.state(m.id)) {
            Some(state) => {
                format!("{} moves {way} and is in {} for {}", m.id, m.phase.word(), now - state.since)
            }
            None => format!("{} moves {way} and is in {}", m.id, m.phase.word()),
        }];
        if !m.waiting.is_empty() {
            sentences.push(format!("it waits: {}", m.waiting));
        }
        if let Some(deadline) = m.deadline {
            sentences.push(match deadline > now {
                true => format!("at the latest for another {}", deadline - now),
                false => format!("it should have been over {} ago", now - deadline),
            });
        }
        sentences
    }

    /// What holds a workload from moving, or from moving once more.
    fn what_holds(&self, workload: &Workload, moving: bool, now: Timestamp) -> Vec<String> {
        let mut sentences = Vec::new();
        // The planner holds what is under way because it is under way.
        for hold in self.holds.iter().filter(|h| h.workload == workload.id && !moving) {
            sentences.push(format!("{} does not move: {}", hold.workload, hold.reason));
            if let Some(until) = hold.until {
                sentences.push(format!("that ends in {}", until - now));
            }
            sentences.push(format!("nearest way out: {}", hold.relax));
        }
        if sentences.is_empty()
            && let Some(words) = self.inventory.disputed().remove(&workload.id)
        {
            sentences.push(words);
        }
        let veto = self.orders.vetoes(now).on(workload, self.topology());
        sentences.extend(veto.filter(|words| !sentences.iter().any(|s| s.contains(words))));
        sentences
    }
}

/// The topic of alerts about what a move of that class holds that nobody knows.
pub(super) fn held_by(class: &str) -> String {
    format!("held by {class}")
}

/// How and why it ended.
fn ended(m: &MigrationView, way: &str, now: Timestamp) -> String {
    let since = m.ended.map(|at| format!(" {} ago", now - at)).unwrap_or_default();
    let (id, word) = (m.id, m.phase.word());
    match (m.phase, m.end_reason()) {
        (Phase::Done, _) | (_, "") => format!("{id} moved {way} and ended {word}{since}"),
        (_, why) => format!("{id} was to move {way} and ended {word}{since}: {why}"),
    }
}
