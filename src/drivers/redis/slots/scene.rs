//! Who holds which slot of one job, by observation alone.

use std::collections::BTreeSet;

use super::super::RedisMover;
use super::super::census::{Census, asked};
use super::super::nodes::system;
use super::super::view::{Health, Node, SlotRange, View};
use super::ranges;
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::Job;
use crate::fleet::PartitionId;

/// The slots of a job and those who hold them.
pub(super) struct Scene {
    pub(super) census: Census,
    pub(super) range: SlotRange,
    pub(super) source: Node,
    pub(super) destination: Node,
    /// Of each slot, from the first of the range on: the node that owns it.
    owners: Vec<Option<Node>>,
    /// Slots of the range that a node calls half moved, as it writes them: `[93->-id]`.
    pub(super) open: Vec<Open>,
}

/// A slot that a node calls half moved.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Open {
    pub(super) slot: u16,
    /// Address of the node that says so.
    pub(super) at: String,
    /// Id of the node that keys go to or come from.
    pub(super) other: String,
    pub(super) leaves: bool,
}

impl Open {
    /// Reads `[93->-id]` (keys leave) or `[93-<-id]` (keys come).
    fn parse(text: &str, at: &str) -> Option<Self> {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        let (slot, rest) = inner.split_once('-')?;
        let (leaves, other) = match rest.strip_prefix(">-") {
            Some(other) => (true, other),
            None => (false, rest.strip_prefix("<-")?),
        };
        Some(Self { slot: slot.parse().ok()?, at: at.to_string(), other: other.to_string(), leaves })
    }
}

/// Every half-moved slot that the node which gave the view tells of itself.
pub(super) fn half_moved(view: &View) -> impl Iterator<Item = Open> + '_ {
    let own = view.asked().into_iter();
    own.flat_map(|n| n.open.iter().filter_map(|text| Open::parse(text, &n.address)))
}

/// The same of all nodes.
fn open_slots(census: &Census) -> Vec<Open> {
    census.views.iter().flat_map(half_moved).collect()
}

/// Of each slot of a range: its owner. In no view does it change but at the edge of a range there.
fn owners(census: &Census, range: SlotRange) -> Vec<Option<Node>> {
    let held = census.views.iter().flat_map(|v| &v.nodes).flat_map(|n| &n.slots);
    let edges: BTreeSet<u16> = held.flat_map(|r| [r.first, r.last.saturating_add(1)]).collect();
    let mut owner: Option<Node> = None;
    let all = (range.first..=range.last).map(|slot| {
        if slot == range.first || edges.contains(&slot) {
            owner = census.best(slot).and_then(|view| view.owner_of(slot)).cloned();
        }
        owner.clone()
    });
    all.collect()
}

impl Scene {
    /// The node that owns a slot of the range.
    pub(super) fn owner(&self, slot: u16) -> Option<&Node> {
        self.owners.get(usize::from(slot.checked_sub(self.range.first)?))?.as_ref()
    }

    /// Whether a slot's owner says itself that it is `other`'s: it gave the slot away, and who names it still believes
    /// an older claim of it.
    pub(super) fn gave(&self, owner: &Node, slot: u16, other: &Node) -> bool {
        let mut own = self.census.views.iter().filter(|view| view.asked().is_some_and(|n| n.id == owner.id));
        own.any(|view| view.owner_of(slot).is_some_and(|n| n.id == other.id))
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = u16> + use<> {
        self.range.first..=self.range.last
    }

    /// Slots of the range that `node` owns.
    pub(super) fn held_by(&self, node: &Node) -> u32 {
        let held = self.owners.iter().flatten().filter(|owner| owner.id == node.id);
        held.count() as u32
    }

    /// Whether every slot of the range is with that node.
    pub(super) fn is_all_with(&self, node: &Node) -> bool {
        self.held_by(node) == ranges::count(self.range)
    }

    /// Whether anything of this move has happened: from then on the only way is forward, because keys may
    /// be at the destination alone.
    pub(super) fn has_begun(&self) -> bool {
        self.held_by(&self.destination) > 0
            || self.open.iter().any(|open| match open.leaves {
                true => open.other == self.destination.id,
                false => open.at == self.destination.address,
            })
    }

    /// A half-moved slot that is not of this move.
    pub(super) fn foreign(&self) -> Option<Open> {
        let ours = |open: &Open| (self.range.first..=self.range.last).contains(&open.slot);
        open_slots(&self.census).into_iter().find(|open| !ours(open))
    }

    /// The one owner of all slots; `None` while they are with several.
    pub(super) fn only_owner(&self) -> Option<&Node> {
        let first = self.owner(self.range.first)?;
        self.is_all_with(first).then_some(first)
    }

    /// A slot of the range and a node that does not name `node` as its owner.
    pub(super) fn doubter(&self, node: &Node) -> Option<(u16, String)> {
        self.doubted(node).find_map(|(view, mut slots)| Some((slots.next()?, asked(view).to_string())))
    }

    /// Every node that does not name `node` as the owner of slots of the range, and those slots.
    pub(super) fn doubters<'a>(&'a self, node: &'a Node) -> Vec<(&'a Node, Vec<u16>)> {
        let each = self.doubted(node).filter_map(|(view, slots)| Some((view.asked()?, slots.collect())));
        each.filter(|(_, slots): &(_, Vec<u16>)| !slots.is_empty()).collect()
    }

    /// Of each view: the slots of the range that are another's than `node`'s there.
    fn doubted<'a>(
        &'a self,
        node: &'a Node,
    ) -> impl Iterator<Item = (&'a View, impl Iterator<Item = u16> + 'a)> {
        let other = |view: &View, slot| view.owner_of(slot).is_none_or(|n| n.id != node.id);
        self.census.views.iter().map(move |view| (view, self.slots().filter(move |&slot| other(view, slot))))
    }

    /// Whether a node answers and is not called failed.
    pub(super) fn is_up(&self, node: &Node) -> bool {
        node.health != Health::Failed && !self.census.silent.contains(&node.address)
    }

    /// Who owns the slots, in words.
    pub(super) fn said(&self) -> String {
        match self.only_owner() {
            Some(node) => node.address.clone(),
            None => format!(
                "several: {} of {} slots are with {}, {} with {}",
                self.held_by(&self.source),
                ranges::count(self.range),
                self.source.address,
                self.held_by(&self.destination),
                self.destination.address
            ),
        }
    }
}

impl RedisMover {
    /// Finds the nodes of a job and asks all nodes who owns its slots.
    pub(super) async fn scene(&self, job: &Job) -> Result<Scene, DriverError> {
        let cluster = &self.options.cluster;
        let refuse = |detail: String| {
            let doing = format!("finding the nodes of {}", job.workload);
            DriverError::new(Retry::Permanent, format!("redis {cluster}"), doing, detail)
        };
        let range = ranges::range_of(cluster, &job.workload).ok_or_else(|| {
            refuse(format!(
                "expected a workload called {cluster}-<first slot>-<last slot>, got {}",
                job.workload
            ))
        })?;
        let census = self.census().await?;
        let newest = census.newest().ok_or_else(|| refuse("no view".into()))?;
        let find = |partition: &PartitionId| {
            let seen = newest.nodes.iter().find(|n| &self.partition_of(n) == partition);
            seen.map(|node| census.in_its_own_words(node)).ok_or_else(|| {
                refuse(format!(
                    "no node of the cluster is the partition {partition}; introduce it with CLUSTER MEET"
                ))
            })
        };
        let (source, destination) = (find(&job.source)?, find(&job.destination)?);
        let owners = owners(&census, range);
        let mut open = open_slots(&census);
        open.retain(|open| (range.first..=range.last).contains(&open.slot));
        Ok(Scene { census, range, source, destination, owners, open })
    }

    /// An error at a node of a job.
    pub(super) fn at_node(node: &Node, retry: Retry, doing: &str, detail: impl Into<String>) -> DriverError {
        DriverError::new(retry, system(&node.address), doing, detail.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_moved_slots_are_read_as_the_servers_write_them() {
        let leaving = Open::parse("[93->-292f8b]", "a:1").unwrap();
        assert_eq!((leaving.slot, leaving.leaves, leaving.other.as_str()), (93, true, "292f8b"));
        assert!(!Open::parse("[93-<-292f8b]", "a:1").unwrap().leaves);
        for odd in ["", "[]", "[93]", "[x->-a]", "93->-a", "[93-a]"] {
            assert_eq!(Open::parse(odd, "a:1"), None, "{odd}");
        }
    }
}
