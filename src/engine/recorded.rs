//! What a replay of recorded history needs of the engine beside samples and cycles: records of failures
//! as their time comes, the proposals that wait after a cycle, what it held, and which of them count as carried out.

use std::collections::BTreeSet;

use super::core::Core;
use super::failures::Failure;
use crate::fleet::PartitionId;
use crate::plan::{Hold, Proposal, Ranked};
use crate::state::StoreError;

impl Core {
    /// Takes a record of the failure history, from whatever origin; predictions learn of it in the next cycle.
    /// Whoever replays hands it over when its time has come, not before.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn learn_failure(&mut self, failure: Failure) -> Result<(), StoreError> {
        let store = self.store.clone();
        self.failures.add(&*store, failure).await.map(|_| ())
    }

    /// These partitions, and no others, count as emptied from the next cycle on: their state goes on as
    /// after an evacuation that worked. Nothing is moved, and what stands where stays.
    pub fn assume_emptied(&mut self, partitions: BTreeSet<PartitionId>) {
        self.assumed = partitions;
    }

    /// What the last cycle would have moved and could not, each with the one reason.
    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }

    /// Partitions over their thresholds in the last cycle.
    pub fn ranking(&self) -> &[Ranked] {
        &self.ranking
    }

    /// The proposals that wait for a decision, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &Proposal> {
        self.book.waiting().map(|entry| &entry.proposal)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::observe::Pulled;
    use crate::engine::{Parts, test_parts};
    use crate::fleet::{Span, Timestamp};
    use crate::predict::failure;
    use crate::predict::models::runtime::kernels::Kernels;
    use crate::predict::test_fleet::{Fleet, value};
    use crate::protocol::failure::Label;
    use crate::protocol::{Actor, Command, Role};
    use crate::state::{MemoryStore, Store};
    use crate::telemetry::{CANONICAL, Ingest};

    const STEP: Span = Span::seconds(30);
    /// How long all were well, and then two were sick.
    const CALM: i64 = 120;
    const SICK: i64 = 40;

    /// An engine with the shipped models that has watched six hosts: the first two get sick in the same way; the
    /// first falls silent ten minutes before now. With that moment and now.
    async fn engine(store: &Arc<dyn Store>) -> (Core, Timestamp, Timestamp) {
        let mut fleet = Fleet::new(6);
        let start = fleet.now;
        let parts = Parts { store: store.clone(), ..test_parts::parts(start) };
        let mut core = Core::start(parts, start).await.unwrap();
        let models = failure::open(None).unwrap();
        core.brain_mut().set_models(&Kernels, models).unwrap();
        core.brain_mut().learn_history(&fleet.history(3));
        let now = start + Span(STEP.0 * (CALM + SICK));
        let silent = now - Span::minutes(10);
        let mut pulled = Pulled::default();
        for slot in 1..=CALM + SICK {
            let at = start + Span(STEP.0 * slot);
            for (host, id) in fleet.ids.iter().enumerate().filter(|(host, _)| *host > 0 || at < silent) {
                for (m, metric) in CANONICAL.iter().enumerate() {
                    let sick = slot > CALM && host < 2 && ["mem.used", "temp"].contains(&metric.name);
                    let series = pulled.series(id, metric.name);
                    pulled.push(series, at, value(m, &mut fleet.random) * if sick { 1.3 } else { 1.0 });
                }
            }
        }
        core.take(pulled, now);
        core.cycle(now).await.unwrap();
        (core, silent, now)
    }

    /// Chances of the second and the third host within an hour.
    fn chances(core: &Core) -> (f64, f64) {
        let of = |host: usize| core.assessments()[host].failure_within(Span::hours(1)).unwrap().get();
        assert_eq!(core.assessments()[1].partition.as_str(), "h0001/p1");
        (of(1), of(2))
    }

    fn odds(chance: f64) -> f64 {
        chance / (1.0 - chance)
    }

    async fn ask(core: &mut Core, command: Command, now: Timestamp) {
        let eve = Actor { name: "eve".into(), role: Role::Operator };
        core.command(&eve, command, now).await.unwrap();
        core.cycle(now).await.unwrap();
    }

    #[tokio::test]
    async fn who_looks_like_one_that_failed_is_nearer_to_it_in_the_next_cycle() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (mut core, silent, now) = engine(&store).await;
        let (alike, healthy) = chances(&core);
        core.cycle(now).await.unwrap();
        assert_eq!(chances(&core), (alike, healthy), "nothing but the record is new");
        let (subject, cause) = ("h0000".to_string(), "board".to_string());
        let record =
            Command::RecordFailure { subject, at: silent, cause, label: Label::Failed, imported: false };
        ask(&mut core, record, now).await;
        let (raised, other) = chances(&core);
        assert!(odds(raised) > 3.0 * odds(alike), "{alike} before, {raised} after");
        assert!(other < 1.2 * healthy, "{healthy} before, {other} after");

        let models = failure::open(None).unwrap();
        core.brain_mut().set_models(&Kernels, models).unwrap();
        core.cycle(now).await.unwrap();
        assert_eq!(chances(&core).0, raised, "models that are put into use learn of it too");
        let (again, ..) = engine(&store).await;
        assert!(
            odds(chances(&again).0) > 3.0 * odds(alike),
            "and an engine that starts while it can still be seen"
        );

        let correct = Command::CorrectFailure { number: 1, label: Label::Survived, cause: None };
        ask(&mut core, correct, now).await;
        assert_eq!(chances(&core).0, alike, "a record that was wrong is forgotten");
    }
}
