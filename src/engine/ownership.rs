//! Who owns what, as our records have it and as the systems have it: where a system has changed an owner
//! by itself our record follows, where that is for a person to judge it is said. Also what is recorded of
//! every host for those who ask for workloads: its risk, and where its work should go.

use std::collections::{BTreeMap, HashMap};

use super::core::Core;
use crate::fleet::{Generation, HostId, PartitionId, Probability, Timestamp, Topology, WorkloadId};
use crate::migrate::owner::Owner;
use crate::protocol::Severity;
use crate::state::claims::{Claims, HostEntry};
use crate::state::{StoreError, leadership};

/// Discoveries in a row that must name the same other owner.
const CERTAIN: u32 = 2;
/// A host's recorded risk is written anew from this difference on.
const RISK_STEP: f64 = 0.02;

/// A workload whose system names another owner than our record.
#[derive(Clone, PartialEq, Debug)]
struct Stray {
    to: PartitionId,
    generation: Generation,
    seen: u32,
}

/// What was compared so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Ownership {
    strays: BTreeMap<WorkloadId, Stray>,
    /// Generations as this engine found them; a record that never changed since cannot be newer than what
    /// a system says.
    found: BTreeMap<WorkloadId, Generation>,
    recorded: HashMap<HostId, (Option<Probability>, Option<HostId>)>,
}

impl Ownership {
    /// Begins with the records as they were found.
    pub(super) fn new(owners: &BTreeMap<WorkloadId, Owner>) -> Self {
        let found = owners.iter().map(|(workload, owner)| (workload.clone(), owner.generation)).collect();
        Self { found, ..Self::default() }
    }

    /// Compares what was discovered with the records: the workloads of which it is certain that another
    /// partition owns them. A discovery may have begun before our own change of the owner, and so one that
    /// is younger than the record has to be confirmed by the next.
    fn strays(
        &mut self,
        discovered: &Topology,
        owners: &BTreeMap<WorkloadId, Owner>,
    ) -> Vec<(WorkloadId, PartitionId)> {
        let mut certain = Vec::new();
        for workload in &discovered.workloads {
            let other = owners
                .get(&workload.id)
                .filter(|owner| owner.migration.is_none() && owner.owner != workload.partition);
            let Some(owner) = other else {
                self.strays.remove(&workload.id);
                continue;
            };
            let fresh = Stray { to: workload.partition.clone(), generation: owner.generation, seen: 0 };
            let stray = self.strays.entry(workload.id.clone()).or_insert_with(|| fresh.clone());
            if (&stray.to, stray.generation) != (&fresh.to, fresh.generation) {
                *stray = fresh;
            }
            stray.seen += 1;
            let old = self.found.get(&workload.id) == Some(&owner.generation);
            if old || stray.seen >= CERTAIN {
                certain.push((workload.id.clone(), workload.partition.clone()));
            }
        }
        certain
    }

    /// The hosts whose entry has changed.
    fn changed(&mut self, now: Vec<HostEntry>) -> Vec<HostEntry> {
        let moved = |before: Option<Probability>, after: Option<Probability>| match (before, after) {
            (Some(before), Some(after)) => (before.get() - after.get()).abs() >= RISK_STEP,
            (before, after) => before.is_some() != after.is_some(),
        };
        let recorded = &mut self.recorded;
        now.into_iter()
            .filter(|entry| {
                let known = recorded.get(&entry.host);
                let new = known.is_none_or(|(risk, target)| {
                    moved(*risk, entry.risk) || *target != entry.preferred_target
                });
                if new {
                    recorded.insert(entry.host.clone(), (entry.risk, entry.preferred_target.clone()));
                }
                new
            })
            .collect()
    }
}

impl Core {
    /// After a discovery of `class`: lets the records follow a system that changed an owner by itself.
    ///
    /// # Errors
    /// Where the store cannot be used.
    pub async fn follow_owners(&mut self, class: &str, now: Timestamp) -> Result<(), StoreError> {
        let Some(runner) = &self.runner else { return Ok(()) };
        self.inventory.owners = runner.owners().await?;
        let Some(discovered) = self.inventory.discovered.get(class) else { return Ok(()) };
        let strays = self.ownership.strays(discovered, &self.inventory.owners);
        let mut adopted = false;
        let follows = self.movers.get(class).is_some_and(|mover| mover.says_the_owner());
        for (workload, to) in strays {
            let Some(seen) = self.inventory.owners.get(&workload).cloned() else { continue };
            let (from, host) = (&seen.owner, discovered.partition(&to).map(|p| p.host.clone()));
            if !follows {
                let text = seen.disputed_by(&to);
                self.alerts.raise(now, Severity::Warning, workload.as_str(), "owner", text);
                continue;
            }
            let host = host.unwrap_or_else(|| to.host());
            let counted = discovered.workload(&workload).map(|w| w.generation).unwrap_or_default();
            let Some(generation) = runner.adopt(&workload, &seen, (&to, &host), counted, now).await? else {
                continue;
            };
            adopted = true;
            let said = format!("{to} at {generation}, was {from} at {}", seen.generation);
            tracing::warn!(%workload, owner = %said, "the system changed the owner by itself");
            let store = self.store.clone();
            let act = format!("follow the owner of {workload}");
            self.audit.append(&*store, now, "engine", act, said.clone()).await?;
            let text = format!("its system changed the owner by itself: {said}");
            self.alerts.tell(now, Severity::Warning, workload.as_str(), "owner", text);
        }
        let standing: Vec<String> = self
            .alerts
            .subjects("owner")
            .into_iter()
            .filter(|subject| {
                let id = WorkloadId::from(subject.as_str());
                discovered.workload(&id).is_some() && !self.ownership.strays.contains_key(&id)
            })
            .collect();
        standing.iter().for_each(|subject| self.alerts.clear(now, subject, "owner"));
        if adopted {
            self.inventory.owners = runner.owners().await?;
            self.rebuild_inventory();
        }
        Ok(())
    }

    /// Records of every host its risk and where its work should go, where that has changed.
    pub(super) async fn record_hosts(
        &mut self,
        topology: &Topology,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(runner) = &self.runner else { return Ok(()) };
        let mut targets: HashMap<HostId, HostId> = HashMap::new();
        for entry in self.book.waiting() {
            for planned in &entry.proposal.moves {
                targets.entry(planned.source.host()).or_insert_with(|| planned.destination.host());
            }
        }
        let entries = topology
            .hosts
            .iter()
            .map(|host| HostEntry {
                host: host.id.clone(),
                risk: self.host_risks.get(&host.id).and_then(|r| r.risk),
                preferred_target: targets.get(&host.id).cloned(),
                at: now,
            })
            .collect();
        let changed = self.ownership.changed(entries);
        if changed.is_empty() {
            return Ok(());
        }
        let guard = leadership::guard(runner.epoch());
        Claims::new(self.store.clone(), Some(guard)).record_hosts(&changed).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::drivers::Mover;
    use crate::engine::brain::Brain;
    use crate::engine::inventory::Inventory;
    use crate::engine::{EngineOptions, Parts};
    use crate::fleet::{Bytes, Host, ManualClock, Partition, ServingState, Span, Workload};
    use crate::migrate::owner::{OwnerMode, owner_key};
    use crate::migrate::runner::Options;
    use crate::migrate::{Authority, Runner};
    use crate::plan::PlanOptions;
    use crate::predict::{AssessOptions, HysteresisOptions};
    use crate::protocol::{Actor, Mode, ModelStatus, Refusal, Role};
    use crate::sim::{DemoOptions, SimFleet};
    use crate::state::{Leadership, MemoryStore, Op, Single, Store, Txn};

    fn seen_on(partition: &str) -> Topology {
        let workload = Workload {
            id: "w".into(),
            application: "shop".into(),
            class: "db".into(),
            kind: "db".into(),
            partition: partition.into(),
            replicas: Vec::new(),
            size: Bytes(0),
            writes_per_s: 0.0,
            requests_per_s: 0.0,
            depends_on: Vec::new(),
            stateless: false,
            generation: Generation(0),
            labels: BTreeMap::new(),
        };
        Topology { workloads: vec![workload], ..Topology::default() }
    }

    fn record(owner: &str, generation: u64, migration: Option<u64>) -> BTreeMap<WorkloadId, Owner> {
        let owner = Owner {
            owner: owner.into(),
            generation: Generation(generation),
            mode: OwnerMode::Active,
            migration: migration.map(crate::fleet::MigrationId),
        };
        BTreeMap::from([("w".into(), owner)])
    }

    #[test]
    fn a_record_that_changed_under_our_eyes_is_doubted_only_by_two_discoveries_in_a_row() {
        let mut ownership = Ownership::new(&record("a", 3, None));
        // Our own move made it g4 at b; a discovery that began before still says a.
        assert!(ownership.strays(&seen_on("a"), &record("b", 4, None)).is_empty());
        assert!(ownership.strays(&seen_on("b"), &record("b", 4, None)).is_empty());
        assert!(ownership.strays(&seen_on("a"), &record("b", 4, None)).is_empty(), "counted anew");
        assert_eq!(ownership.strays(&seen_on("a"), &record("b", 4, None)), [("w".into(), "a".into())]);
    }

    #[test]
    fn a_record_of_before_follows_at_once_and_one_in_a_migration_never() {
        let mut ownership = Ownership::new(&record("a", 3, None));
        assert_eq!(ownership.strays(&seen_on("b"), &record("a", 3, None)), [("w".into(), "b".into())]);
        for _ in 0..5 {
            assert!(ownership.strays(&seen_on("b"), &record("a", 3, Some(9))).is_empty());
        }
        assert!(ownership.strays(&seen_on("b"), &BTreeMap::new()).is_empty(), "no record, nothing to follow");
    }

    #[test]
    fn a_host_is_written_down_when_something_about_it_changes() {
        let entry = |risk: Option<f64>, target: Option<&str>| HostEntry {
            host: "h".into(),
            risk: risk.map(|r| Probability::new(r).unwrap()),
            preferred_target: target.map(HostId::from),
            at: Timestamp(0),
        };
        let mut ownership = Ownership::default();
        assert_eq!(ownership.changed(vec![entry(Some(0.1), None)]).len(), 1);
        assert!(ownership.changed(vec![entry(Some(0.11), None)]).is_empty());
        assert_eq!(ownership.changed(vec![entry(Some(0.2), None)]).len(), 1);
        assert_eq!(ownership.changed(vec![entry(Some(0.2), Some("x"))]).len(), 1);
        assert_eq!(ownership.changed(vec![entry(None, Some("x"))]).len(), 1);
    }

    const NOW: Timestamp = Timestamp(1_767_571_200_000);

    /// A core over one workload `w` that its system says is on `b/1`, while our record says `a/1`; with a driver
    /// that knows who owns what, or none that does.
    async fn torn(mover: Option<Arc<dyn Mover>>) -> Core {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let owner = record("a/1", 1, None).remove(&WorkloadId::from("w")).unwrap();
        let put = Op::Put(owner_key(&"w".into()), serde_json::to_vec(&owner).unwrap());
        store.txn(Txn { compares: Vec::new(), ops: vec![put] }).await.unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let options = Options { clock, ..Options::default() };
        let authority = Authority::of(Mode::Advise).unwrap();
        let none = BTreeMap::new();
        let epoch = Single::new(store.clone()).campaign("a test").await.unwrap();
        let runner = Runner::new(store.clone(), epoch, BTreeMap::new(), none, options, &authority);
        let engine = EngineOptions { mode: Mode::Advise, ..EngineOptions::default() };
        let parts = Parts {
            brain: Brain::new(engine.windows, AssessOptions::default(), HysteresisOptions::default(), NOW),
            options: engine,
            plan: PlanOptions::default(),
            store,
            runner: Some(runner),
            movers: mover.into_iter().map(|mover| ("db".to_string(), mover)).collect(),
            inventory: Inventory::default(),
            source_name: "a test".into(),
            models: ModelStatus::default(),
        };
        let mut core = Core::start(parts, NOW).await.unwrap();
        let mut seen = seen_on("b/1");
        seen.workloads[0].generation = Generation(5);
        for host in ["a", "b", "c"] {
            seen.partitions.push(Partition {
                id: PartitionId::of(&host.into(), "1"),
                host: host.into(),
                class: "db".into(),
                serving: ServingState::Active,
                address: String::new(),
            });
            seen.hosts.push(Host {
                id: host.into(),
                site: "s".into(),
                rack: host.into(),
                capacity: None,
                labels: BTreeMap::new(),
            });
        }
        for second in 0..3 {
            core.discovery("db".into(), Ok(seen.clone()), NOW + Span::seconds(second));
            core.follow_owners("db", NOW + Span::seconds(second)).await.unwrap();
        }
        core
    }

    #[tokio::test]
    async fn what_record_and_system_say_differently_is_held_out_of_plans_and_an_alert_stays_open() {
        let mut core = torn(None).await;
        let open = core.alerts.view();
        assert!(open.iter().any(|a| a.subject == "w" && a.text.contains("its system says b/1")), "{open:?}");
        let said = core.why("w", NOW).unwrap().join("; ");
        assert!(said.contains("our record says that a/1 owns it (g1), its system says b/1"), "{said}");
        let me = Actor { name: "me".into(), role: Role::Operator };
        let refused = core.plan_evacuation(&me, &"b".into(), NOW).unwrap_err();
        assert!(
            matches!(&refused, Refusal::NotNow { reason } if reason.contains("its system says b/1")),
            "{refused:?}"
        );
        // Once both agree it is over.
        let mut agreed = core.inventory.discovered["db"].clone();
        agreed.workloads[0].partition = "a/1".into();
        core.discovery("db".into(), Ok(agreed), NOW + Span::seconds(4));
        core.follow_owners("db", NOW + Span::seconds(4)).await.unwrap();
        assert!(core.alerts.view().is_empty(), "{:?}", core.alerts.view());
        assert!(core.why("w", NOW).unwrap()[0].starts_with("nothing blocks w"));
    }

    #[tokio::test]
    async fn the_record_follows_a_system_that_decides_by_itself_as_far_as_that_has_counted() {
        let fleet = SimFleet::new(1, DemoOptions::new(Arc::new(ManualClock::at(NOW))));
        let core = torn(Some(Arc::new(fleet.mover()))).await;
        let owner = &core.inventory.owners[&WorkloadId::from("w")];
        assert_eq!((owner.owner.as_str(), owner.generation), ("b/1", Generation(5)));
        assert!(core.inventory.disputed().is_empty() && core.alerts.view().is_empty());
    }
}
