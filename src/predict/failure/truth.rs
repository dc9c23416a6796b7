//! What is known to have happened: recorded failures on the partitions that they struck. A partition
//! whose work was moved away says nothing of what would have been, and never counts as survived.

use std::collections::{BTreeSet, HashMap};

use super::labels::{Event, Outcome, label_rows};
use crate::fleet::{HostId, PartitionId, Span, Timestamp, Topology};

/// Rows this long after a failure say nothing: it is being mended.
const RECOVERY: Span = Span::minutes(30);

/// One record of the failure history, on the partitions that it is about.
#[derive(Clone, PartialEq, Debug)]
pub struct Incident {
    /// Where it is written: `failures.csv:3`, `record 12`.
    pub place: String,
    /// Partition, workload or host, as recorded.
    pub subject: String,
    /// Why, as recorded.
    pub cause: String,
    /// When.
    pub at: Timestamp,
    /// What became of it.
    pub outcome: Outcome,
    /// Whom it struck.
    pub partitions: Vec<PartitionId>,
}

/// All that is known, up to a time.
#[derive(Clone, Debug)]
pub struct Truth {
    incidents: Vec<Incident>,
    events: HashMap<PartitionId, Vec<Event>>,
    until: Timestamp,
}

impl Truth {
    /// What these records say; after `until` nothing is known.
    pub fn new(mut incidents: Vec<Incident>, until: Timestamp) -> Self {
        incidents.sort_by(|a, b| {
            (a.at, &a.subject, a.outcome as u8, &a.place).cmp(&(b.at, &b.subject, b.outcome as u8, &b.place))
        });
        let mut events: HashMap<PartitionId, Vec<Event>> = HashMap::new();
        for incident in &incidents {
            for partition in &incident.partitions {
                events.entry(partition.clone()).or_default().push(Event {
                    partition: partition.clone(),
                    at: incident.at,
                    outcome: incident.outcome,
                });
            }
        }
        Self { incidents, events, until }
    }

    /// All records, by time.
    pub fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    /// The records of failures, by time.
    pub fn failures(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.iter().filter(|i| i.outcome == Outcome::Failed)
    }

    /// What happened to a partition, by time.
    pub fn events(&self, partition: &PartitionId) -> &[Event] {
        self.events.get(partition).map_or(&[], Vec::as_slice)
    }

    /// Until when it is known what happened.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// What became of a partition with these `events` within a span after `at`: it failed, it did not, or
    /// nobody can know (see [`label_rows`]). Where the span reaches beyond what is known that is said of
    /// failures too: else the last rows would be failures alone.
    pub fn label(
        &self,
        partition: &PartitionId,
        events: &[Event],
        at: Timestamp,
        within: Span,
    ) -> Option<bool> {
        if at + within > self.until {
            return None;
        }
        if events.is_empty() {
            return Some(false);
        }
        label_rows(partition, &[at], events, within, RECOVERY, self.until)[0]
    }
}

/// The partitions that a recorded subject names: itself, those of a host, or the one that a workload is
/// on. Of a host's, those that hold work, where any does: the others need not be emptied. Empty =
/// nobody knows the name.
pub fn partitions_of(subject: &str, topology: &Topology, seen: &BTreeSet<PartitionId>) -> Vec<PartitionId> {
    let id = PartitionId::from(subject);
    if topology.partition(&id).is_some() {
        return vec![id];
    }
    if let Some(workload) = topology.workload(&subject.into()) {
        return vec![workload.partition.clone()];
    }
    let host = HostId::from(subject);
    if seen.contains(&id) && subject.contains('/') {
        return vec![id];
    }
    let mut inside: BTreeSet<PartitionId> =
        seen.iter().filter(|p| p.as_str().contains('/') && p.host() == host).cloned().collect();
    inside.extend(topology.partitions.iter().filter(|p| p.host == host).map(|p| p.id.clone()));
    if inside.is_empty() && seen.contains(&id) {
        inside.insert(id);
    }
    let working: Vec<PartitionId> =
        inside.iter().filter(|p| topology.on_partition(p).next().is_some()).cloned().collect();
    if working.is_empty() { inside.into_iter().collect() } else { working }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_names_its_partitions_and_a_partition_itself() {
        let seen: BTreeSet<PartitionId> = ["h1/a", "h1/b", "h2", "h10/a"].map(PartitionId::from).into();
        let of = |subject: &str| partitions_of(subject, &Topology::default(), &seen);
        assert_eq!(of("h1"), ["h1/a", "h1/b"].map(PartitionId::from));
        assert_eq!(of("h2"), ["h2"].map(PartitionId::from));
        assert_eq!(of("h1/b"), ["h1/b"].map(PartitionId::from));
        assert!(of("h3").is_empty() && of("h1/c").is_empty());
    }

    #[test]
    fn what_lies_beyond_the_data_is_not_known() {
        let truth = Truth::new(Vec::new(), Timestamp(1000));
        let label = |at| truth.label(&"p".into(), &[], Timestamp(at), Span::millis(100));
        assert_eq!((label(900), label(901)), (Some(false), None));
        let failed = Event { partition: "p".into(), at: Timestamp(960), outcome: Outcome::Failed };
        let label =
            |at| truth.label(&"p".into(), std::slice::from_ref(&failed), Timestamp(at), Span::millis(100));
        assert_eq!((label(850), label(900), label(901)), (Some(false), Some(true), None), "failures too");
    }
}
