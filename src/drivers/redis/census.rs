//! What all nodes of a cluster say at one time, and whether they say the same.
//!
//! Nodes that do not agree about one slot are dangerous: after a reshard a node may still believe the old
//! owner, tell others so once the epochs move on in a failover, and a master that believes it deletes the
//! keys of that slot (redis/redis pull requests 12336 and 12344; met here with 7.0.15). So a failover is
//! asked for only where all agree about every slot of the shard.

use super::view::{Node, SlotRange, View};

/// What all nodes that answered said, at one time.
pub(super) struct Census {
    /// The view of each node that answered.
    pub(super) views: Vec<View>,
    /// Addresses that did not answer.
    pub(super) silent: Vec<String>,
}

impl Census {
    /// The view to believe about a slot: the one in which its owner's claim is the newest (the
    /// greater configuration epoch wins in Redis Cluster); among equals the one that most share.
    pub(super) fn best(&self, slot: u16) -> Option<&View> {
        self.views.iter().max_by_key(|view| {
            let owner = view.owner_of(slot);
            let agree = self
                .views
                .iter()
                .filter(|other| other.owner_of(slot).map(|n| &n.id) == owner.map(|n| &n.id))
                .count();
            (owner.map_or(0, |n| n.epoch), agree)
        })
    }

    /// The view with the newest claims of all.
    pub(super) fn newest(&self) -> Option<&View> {
        self.views.iter().max_by_key(|v| {
            let newest = v.voters().map(|n| n.epoch).max().unwrap_or(0);
            (newest, v.nodes.len())
        })
    }

    /// The node as it describes itself, where it answered: what it follows is its own setting, and
    /// gossip about it comes later. Whether it is alive is for the others to say.
    pub(super) fn in_its_own_words(&self, node: &Node) -> Node {
        let own = self.views.iter().filter_map(View::asked).find(|n| n.id == node.id);
        own.map_or_else(|| node.clone(), |own| Node { role: own.role.clone(), ..node.clone() })
    }

    /// How many of the nodes that answered say that `id` owns the slot.
    pub(super) fn agreeing(&self, slot: u16, id: &str) -> usize {
        self.views.iter().filter(|v| v.owner_of(slot).is_some_and(|n| n.id == id)).count()
    }

    /// Whether a majority of all voting masters answered and say that `id` owns the slot. Where it
    /// holds, no election can end otherwise without a new epoch.
    pub(super) fn majority_says(&self, slot: u16, id: &str) -> bool {
        let Some(best) = self.best(slot) else { return false };
        let voters: Vec<&str> = best.voters().map(|n| n.id.as_str()).collect();
        let yes = self
            .views
            .iter()
            .filter(|v| v.asked().is_some_and(|n| voters.contains(&n.id.as_str())))
            .filter(|v| v.owner_of(slot).is_some_and(|n| n.id == id))
            .count();
        yes * 2 > voters.len()
    }

    /// Where the nodes that answered do not agree about the slots of `id`, what to wait for: the first
    /// such slot, and who says what of it. `slot` is any slot of the shard.
    pub(super) fn disagreement(&self, slot: u16, id: &str) -> Option<String> {
        let slots = |view: &View| view.node(id).map_or_else(Vec::new, |n| n.slots.clone());
        let best = self.best(slot)?;
        let expected = slots(best);
        self.views.iter().find_map(|view| {
            let at = first_difference(&expected, &slots(view))?;
            Some(format!(
                "the nodes to agree who owns slot {at}: {} says {}, {} says {}; where that lasts, redis-cli --cluster fix",
                asked(best),
                owner(best, at),
                asked(view),
                owner(view, at)
            ))
        })
    }

    /// Slots that the node `id` itself calls half moved, as it writes them, after its address.
    pub(super) fn half_moved(&self, id: &str) -> Option<(String, String)> {
        let mut own = self.views.iter().filter_map(View::asked);
        let node = own.find(|n| n.id == id && !n.open.is_empty())?;
        Some((node.address.clone(), node.open.join(" ")))
    }
}

/// The address of the node that gave the view.
pub(super) fn asked(view: &View) -> &str {
    view.asked().map_or("a node", |n| n.address.as_str())
}

fn owner(view: &View, slot: u16) -> &str {
    view.owner_of(slot).map_or("nobody", |n| n.address.as_str())
}

/// The lowest slot that only one of both holds.
pub(super) fn first_difference(a: &[SlotRange], b: &[SlotRange]) -> Option<u16> {
    let within = |ranges: &[SlotRange], slot: u16| ranges.iter().any(|r| (r.first..=r.last).contains(&slot));
    let edges = a.iter().chain(b).flat_map(|r| [r.first, r.last.saturating_add(1)]);
    // Whether a slot is held changes at an edge of a range only.
    edges.filter(|&slot| within(a, slot) != within(b, slot)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(slots: [&str; 3]) -> Census {
        let views = slots.iter().enumerate().map(|(asked, moved)| {
            let line = |n: usize, slots: &str| {
                let me = if n == asked { "myself," } else { "" };
                format!("n{n} 127.0.0.{n}:1@2 {me}master - 0 0 {n} connected {slots}\n")
            };
            let (own, other) = if moved.is_empty() { ("100-200", "") } else { (*moved, "150") };
            View::parse(&[line(0, own), line(1, other), line(2, "300")].concat(), "x").unwrap()
        });
        Census { views: views.collect(), silent: Vec::new() }
    }

    #[test]
    fn one_node_that_believes_another_owner_of_one_slot_is_named() {
        assert_eq!(census(["", "", ""]).disagreement(120, "n0"), None);
        let words = census(["", "", "100-149 151-200"]).disagreement(120, "n0").unwrap();
        assert!(words.contains("slot 150"), "{words}");
        assert!(words.contains("127.0.0.2:1 says 127.0.0.1:1"), "{words}");
    }

    #[test]
    fn the_first_slot_that_differs_is_found_at_both_ends_and_inside() {
        let ranges = |pairs: &[(u16, u16)]| -> Vec<SlotRange> {
            pairs.iter().map(|&(first, last)| SlotRange { first, last }).collect()
        };
        let whole = ranges(&[(5, 9)]);
        assert_eq!(first_difference(&whole, &whole), None);
        assert_eq!(first_difference(&whole, &ranges(&[(5, 6), (7, 9)])), None);
        assert_eq!(first_difference(&whole, &ranges(&[(6, 9)])), Some(5));
        assert_eq!(first_difference(&ranges(&[(5, 7), (9, 9)]), &whole), Some(8));
        assert_eq!(first_difference(&whole, &ranges(&[(5, 10)])), Some(10));
        assert_eq!(first_difference(&whole, &[]), Some(5));
    }
}
