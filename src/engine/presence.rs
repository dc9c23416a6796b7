//! Partitions that went away by themselves: an agent does not find the process any more, or a driver that answers
//! says that what owned work is dead. Both are recorded as failures at once, so that predictions learn of them without
//! anybody writing them down. What was stopped on purpose is none: an agent that stops, a partition that is out of
//! service, one that a migration of ours works on or has emptied.

use std::collections::{BTreeMap, BTreeSet};

use super::core::Core;
use super::failures::{Failure, Label, Origin};
use super::intake::Heartbeat;
use crate::fleet::{HostId, PartitionId, Phase, ServingState, Span, Timestamp, Topology};
use crate::protocol::{AgentState, MigrationView, Severity};
use crate::state::StoreError;

/// The topic of alerts of partitions whose process is gone.
pub(super) const ABSENT: &str = "absent";
/// What agents measure of a process: 1 where it is there.
const PRESENT: &str = "process.present";
/// What fails again so soon, or is told of by another one so soon, is the same failure.
const SAME_FAILURE: Span = Span::minutes(10);

/// What is known of who is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Presence {
    /// Partitions that an agent has found since this engine began.
    present: BTreeSet<PartitionId>,
    /// Partitions that were found and are not any more.
    absent: BTreeSet<PartitionId>,
    /// Partitions that owned work when their driver called them dead, by class, since when.
    fenced: BTreeMap<(String, PartitionId), Fenced>,
    /// Readings that agents stamped later than they came.
    pub(super) from_the_future: u64,
}

/// A partition that its driver calls dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fenced {
    since: Timestamp,
    /// The next discovery said so, too: one answer that was late is no failure.
    certain: bool,
    recorded: bool,
}

impl Core {
    /// Takes what a host's agent says of its partitions.
    pub(super) async fn note_presence(
        &mut self,
        host: &HostId,
        beat: &Heartbeat,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.presence.present.extend(beat.present.iter().cloned());
        let back: Vec<PartitionId> = {
            let gone = |p: &&PartitionId| &p.host() == host && !beat.absent.contains(p);
            self.presence.absent.iter().filter(gone).cloned().collect()
        };
        for partition in back {
            self.presence.absent.remove(&partition);
            self.alerts.clear(now, partition.as_str(), ABSENT);
            self.event(&partition, now, "its process is there again".into());
        }
        if beat.state != AgentState::Running || beat.absent.is_empty() {
            return Ok(());
        }
        for partition in &beat.absent {
            let found = self.presence.present.contains(partition).then(|| beat.sent.min(now));
            let Some(at) = found.or_else(|| self.last_present(partition)) else { continue };
            if self.is_retired(partition) || self.is_ours(partition) {
                continue;
            }
            let cause = format!("absent: the agent of {host} does not find its process");
            self.alerts.raise(now, Severity::Critical, partition.as_str(), ABSENT, cause.clone());
            if !self.presence.absent.contains(partition) {
                self.fail_once(partition, at, cause, Origin::Heartbeat).await?;
                self.presence.absent.insert(partition.clone());
                self.event(partition, now, "its process is gone".into());
            }
        }
        Ok(())
    }

    /// When an agent found a partition before this engine began, as far as the windows reach back.
    fn last_present(&self, partition: &PartitionId) -> Option<Timestamp> {
        let windows = self.brain.windows();
        let (p, metric) = (windows.partition(partition)?, windows.metric(PRESENT)?);
        let (older, newer) = windows.row(p, metric);
        let back = newer.iter().rev().chain(older.iter().rev()).position(|x| *x > 0.0)?;
        Some(windows.head() - Span(windows.config().step.0 * back as i64))
    }

    /// Compares what a driver says now with what it said before: what owned work and is dead now has failed, unless
    /// we are at work on it.
    pub(super) fn note_fenced(&mut self, class: &str, found: &Topology, now: Timestamp) {
        let dead: BTreeSet<&PartitionId> =
            found.partitions.iter().filter(|p| p.serving == ServingState::Fenced).map(|p| &p.id).collect();
        self.presence.fenced.retain(|(of, partition), _| of != class || dead.contains(partition));
        let before = self.inventory.discovered.get(class);
        let mut fallen = Vec::new();
        for partition in dead {
            let key = (class.to_string(), partition.clone());
            if let Some(known) = self.presence.fenced.get_mut(&key) {
                known.certain = true;
                continue;
            }
            let served = before.and_then(|b| b.partition(partition)).map(|p| p.serving);
            let owned = before.is_some_and(|b| b.workloads.iter().any(|w| &w.partition == partition));
            if served == Some(ServingState::Active) && owned && !self.is_ours(partition) {
                fallen.push((key, Fenced { since: now, certain: false, recorded: false }));
            }
        }
        self.presence.fenced.extend(fallen);
    }

    /// Whether a migration of ours works on a partition or has emptied it.
    fn is_ours(&self, partition: &PartitionId) -> bool {
        let of = |m: &&MigrationView| &m.source == partition || &m.destination == partition;
        let mut ours = self.migrations.iter().filter(of);
        ours.any(|m| {
            let left = m.phase == Phase::Done && &m.source == partition;
            !m.phase.is_end() || (left && self.topology().on_partition(partition).next().is_none())
        })
    }

    /// Records what drivers are certain of.
    pub(super) async fn record_fallen(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let due = |fenced: &Fenced| fenced.certain && !fenced.recorded;
        let fallen: Vec<(String, PartitionId)> =
            self.presence.fenced.iter().filter(|(_, f)| due(f)).map(|(key, _)| key.clone()).collect();
        for key in fallen {
            let Some(since) = self.presence.fenced.get(&key).map(|fenced| fenced.since) else { continue };
            let (class, partition) = &key;
            let cause = format!("dead: it owned work and the driver of {class} gets no answer from it");
            self.fail_once(partition, since.min(now), cause, Origin::Driver).await?;
            self.event(partition, now, format!("dead, says the driver of {class}"));
            if let Some(fenced) = self.presence.fenced.get_mut(&key) {
                fenced.recorded = true;
            }
        }
        Ok(())
    }

    /// Records that a partition failed, unless it was recorded just now, of it or of its host as a whole.
    async fn fail_once(
        &mut self,
        partition: &PartitionId,
        at: Timestamp,
        cause: String,
        origin: Origin,
    ) -> Result<(), StoreError> {
        let host = partition.host();
        let known = [partition.as_str(), host.as_str()].into_iter().flat_map(|name| self.failures.of(name));
        let same = |f: &Failure| f.label == Label::Failed && (f.at - at).0.abs() <= SAME_FAILURE.0;
        if known.into_iter().any(same) {
            return Ok(());
        }
        tracing::warn!(%partition, %cause, "failed");
        let subject = partition.to_string();
        self.record(Failure { number: 0, at, subject, cause, label: Label::Failed, origin }).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::sync::Arc;

    use super::*;
    use crate::engine::test_parts::parts;
    use crate::fleet::{Bytes, Generation, MigrationId, Partition, ProposalId, Workload};
    use crate::protocol::Abilities;

    const NOW: Timestamp = Timestamp(1_767_571_200_000);

    fn beat(
        at: Timestamp,
        state: AgentState,
        present: &[&str],
        absent: &[&str],
    ) -> HashMap<HostId, Heartbeat> {
        let named = |names: &[&str]| names.iter().map(|name| PartitionId::from(*name)).collect();
        let beat = Heartbeat {
            sent: at,
            arrived: at,
            state,
            sequence: 1,
            present: named(present),
            absent: named(absent),
            dropped: 0,
            from_the_future: 0,
        };
        HashMap::from([("h".into(), beat)])
    }

    fn fleet(a: ServingState, owner: &str) -> Topology {
        let partition = |id: &str, serving| Partition {
            id: id.into(),
            host: PartitionId::from(id).host(),
            class: "db".into(),
            serving,
            address: String::new(),
        };
        let workload = Workload {
            id: "w".into(),
            application: "shop".into(),
            class: "db".into(),
            kind: "db".into(),
            partition: owner.into(),
            replicas: Vec::new(),
            size: Bytes(0),
            writes_per_s: 0.0,
            requests_per_s: 0.0,
            depends_on: Vec::new(),
            stateless: false,
            generation: Generation(0),
            labels: BTreeMap::new(),
        };
        let partitions = vec![partition("h/a", a), partition("h/b", ServingState::Passive)];
        Topology { partitions, workloads: vec![workload], ..Topology::default() }
    }

    async fn engine() -> Core {
        let mut core = Core::start(parts(NOW), NOW).await.unwrap();
        core.discovery("db".into(), Ok(fleet(ServingState::Active, "h/a")), NOW);
        core
    }

    fn records(core: &Core) -> Vec<(&str, Origin)> {
        core.failures.records().iter().map(|f| (f.subject.as_str(), f.origin)).collect()
    }

    #[tokio::test]
    async fn a_partition_whose_process_is_gone_is_alerted_and_recorded_once_until_it_is_back() {
        use AgentState::{PreparingForShutdown, Running, Stopping};
        let mut core = engine().await;
        let at = |minutes: i64| NOW + Span::minutes(minutes);
        // Never there, nothing is said of it.
        core.note_heartbeats(&beat(at(0), Running, &["h/a"], &["h/b"]), at(0)).await.unwrap();
        assert!(core.alerts.subjects(ABSENT).is_empty() && records(&core).is_empty());
        for state in [Stopping, PreparingForShutdown] {
            core.note_heartbeats(&beat(at(1), state, &[], &["h/a", "h/b"]), at(1)).await.unwrap();
            assert!(core.alerts.subjects(ABSENT).is_empty(), "{state:?}");
        }
        for minute in 2..5 {
            let beats = beat(at(minute), Running, &[], &["h/a", "h/b"]);
            core.note_heartbeats(&beats, at(minute)).await.unwrap();
            core.cycle(at(minute)).await.unwrap();
            assert_eq!(core.alerts.subjects(ABSENT), ["h/a"]);
            assert_eq!(records(&core), [("h/a", Origin::Heartbeat)]);
        }
        core.note_heartbeats(&beat(at(5), Running, &["h/a"], &["h/b"]), at(5)).await.unwrap();
        assert!(core.alerts.subjects(ABSENT).is_empty(), "it is back");
        core.note_heartbeats(&beat(at(40), Running, &[], &["h/a", "h/b"]), at(40)).await.unwrap();
        assert_eq!(records(&core).len(), 2, "and fails anew");
    }

    #[tokio::test]
    async fn what_went_while_the_engine_was_away_is_told_and_recorded_as_of_then_and_not_twice() {
        use crate::engine::observe::Pulled;
        use crate::telemetry::Ingest;
        let store: Arc<dyn crate::state::Store> = Arc::new(crate::state::MemoryStore::new());
        let at = |minutes: i64| NOW + Span::minutes(minutes);
        for minute in [10, 40] {
            let parts = crate::engine::Parts { store: store.clone(), ..parts(at(minute)) };
            let mut core = Core::start(parts, at(minute)).await.unwrap();
            core.discovery("db".into(), Ok(fleet(ServingState::Active, "h/a")), at(minute));
            let mut pulled = Pulled::default();
            let (a, b) = (pulled.series(&"h/a".into(), PRESENT), pulled.series(&"h/b".into(), PRESENT));
            for back in 0..minute {
                let then = at(minute - back);
                pulled.push(a, then, if then <= at(5) { 1.0 } else { 0.0 });
                pulled.push(b, then, 0.0);
            }
            core.take(pulled, at(minute));
            for _ in 0..2 {
                let beats = beat(at(minute), AgentState::Running, &[], &["h/a", "h/b"]);
                core.note_heartbeats(&beats, at(minute)).await.unwrap();
            }
            assert_eq!(core.alerts.subjects(ABSENT), ["h/a"], "{minute}");
            assert_eq!(records(&core), [("h/a", Origin::Heartbeat)], "{minute}");
            assert_eq!(core.failures.records()[0].at, at(5));
        }
    }

    #[tokio::test]
    async fn what_owned_work_and_is_dead_for_its_driver_is_recorded_once() {
        let mut core = engine().await;
        let at = |minutes: i64| NOW + Span::minutes(minutes);
        let dead = || Ok(fleet(ServingState::Fenced, "h/b"));
        core.discovery("db".into(), dead(), at(1));
        core.cycle(at(1)).await.unwrap();
        assert!(records(&core).is_empty(), "one answer may be late");
        for minute in 2..5 {
            core.discovery("db".into(), Err("does not answer".into()), at(minute));
            core.discovery("db".into(), dead(), at(minute));
            core.cycle(at(minute)).await.unwrap();
            assert_eq!(records(&core), [("h/a", Origin::Driver)]);
        }
        assert_eq!(core.failures.records()[0].at, at(1));
        // A copy that dies owned nothing; and the agent tells of the same failure.
        core.discovery("db".into(), Ok(fleet(ServingState::Passive, "h/b")), at(5));
        for minute in 6..9 {
            core.discovery("db".into(), dead(), at(minute));
            core.cycle(at(minute)).await.unwrap();
        }
        core.note_heartbeats(&beat(at(9), AgentState::Running, &["h/a"], &[]), at(9)).await.unwrap();
        core.note_heartbeats(&beat(at(10), AgentState::Running, &[], &["h/a"]), at(10)).await.unwrap();
        assert_eq!(core.alerts.subjects(ABSENT), ["h/a"]);
        assert_eq!(records(&core), [("h/a", Origin::Driver)]);
    }

    fn migration(phase: Phase) -> MigrationView {
        MigrationView {
            id: MigrationId(1),
            proposal: ProposalId(1),
            workload: "w".into(),
            source: "h/a".into(),
            destination: "h/b".into(),
            phase,
            waiting: String::new(),
            by: "eve".into(),
            plan: String::new(),
            started: NOW,
            ended: phase.is_end().then_some(NOW),
            deadline: None,
            left: None,
            progress: None,
            steps: Vec::new(),
            canary: None,
            canary_carries: String::new(),
            judge: Vec::new(),
            can: Abilities::default(),
            way_back: String::new(),
            log: Vec::new(),
        }
    }

    #[tokio::test]
    async fn what_a_migration_of_ours_works_on_or_has_emptied_has_not_failed() {
        for (phase, failed) in [(Phase::Copying, 0), (Phase::Done, 0), (Phase::Aborted, 1)] {
            let mut core = engine().await;
            core.note_heartbeats(&beat(NOW, AgentState::Running, &["h/a"], &[]), NOW).await.unwrap();
            core.migrations = Arc::new(vec![migration(phase)]);
            let owner = if phase == Phase::Done { "h/b" } else { "h/a" };
            core.discovery("db".into(), Ok(fleet(ServingState::Active, owner)), NOW);
            core.note_heartbeats(&beat(NOW, AgentState::Running, &[], &["h/a"]), NOW).await.unwrap();
            for _ in 0..2 {
                core.discovery("db".into(), Ok(fleet(ServingState::Fenced, owner)), NOW);
            }
            core.record_fallen(NOW).await.unwrap();
            assert_eq!(records(&core).len(), failed, "{phase:?}");
            assert_eq!(core.alerts.subjects(ABSENT).len(), failed, "{phase:?}");
        }
    }

    #[tokio::test]
    async fn what_is_out_of_service_may_be_absent() {
        use crate::protocol::{Actor, Command, Role};
        let mut core = engine().await;
        core.note_heartbeats(&beat(NOW, AgentState::Running, &["h/b"], &[]), NOW).await.unwrap();
        core.cycle(NOW).await.unwrap();
        let eve = Actor { name: "eve".into(), role: Role::Operator };
        let command = Command::Decommission { subject: "h/b".into(), reason: String::new() };
        core.command(&eve, command, NOW).await.unwrap();
        core.note_heartbeats(&beat(NOW, AgentState::Running, &[], &["h/b"]), NOW).await.unwrap();
        assert!(core.alerts.subjects(ABSENT).is_empty() && records(&core).is_empty());
    }
}
