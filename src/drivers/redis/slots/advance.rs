//! The move itself: slot by slot and key by key, with the servers' own `MIGRATE`.
//!
//! Clients go on all the while: who asks the old owner for a key that has gone is sent on (`ASK`), and
//! every key is at exactly one of both at any time. Once a key has gone the only way is forward: `STABLE`
//! on both nodes would make the old owner answer that the key is not there, and its return is a move of
//! its own, after this one. So whatever fails after the beginning is tried again, by this engine or the
//! next, from what the nodes say; nothing is remembered.

use std::time::{Duration, Instant};

use redis::Value;

use super::super::view::{Info, Node};
use super::super::{RedisMover, working};
use super::RedisSlotMover;
use super::ranges;
use super::scene::Scene;
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Answer, Evidence, Job};

/// How long one call moves keys before it says how far it is: as long as a deposed engine that wakes up
/// goes on at the most.
pub(super) const SLICE: Duration = Duration::from_millis(400);
/// What one `MIGRATE` is to take: both nodes serve nobody else for so long.
const PAUSE: Duration = Duration::from_millis(5);
/// Keys of one `MIGRATE` at the most.
const MOST: usize = 512;
/// How long a node waits for the other within one `MIGRATE`, in milliseconds.
const IDLE_MS: u32 = 2_000;

/// Keys of one `MIGRATE`, by what the last one took.
#[derive(Clone, Copy)]
pub(super) struct Pace(usize);

impl Default for Pace {
    fn default() -> Self {
        Self(8)
    }
}

impl Pace {
    fn took(&mut self, time: Duration) {
        self.0 = match time {
            time if time > PAUSE => self.0 / 2,
            time if time * 3 < PAUSE => self.0 * 2,
            _ => self.0,
        };
        self.0 = self.0.clamp(1, MOST);
    }
}

/// What was done of a move within one call.
struct Slice {
    /// Slots that became whole.
    whole: u32,
    /// What it waits for.
    waits: Option<String>,
}

/// Whether what a destination claims from now on is newer than everything that an owner has claimed, by their
/// `CLUSTER INFO`. A node that has never claimed anything (epoch 0) takes a new epoch with its first slot.
fn is_newer(destination: &Info, owner: &Info) -> bool {
    let epochs = (
        destination.whole("cluster_current_epoch"),
        destination.whole("cluster_my_epoch"),
        owner.whole("cluster_my_epoch"),
    );
    match epochs {
        (Some(known), Some(own), Some(claimed)) => known >= claimed && (own != claimed || own == 0),
        // Every server says it; one that does not cannot be waited for.
        _ => true,
    }
}

impl RedisSlotMover {
    /// Moves on, for as long as one call may take.
    pub(super) async fn advance(&self, job: &Job) -> Result<Answer, DriverError> {
        let scene = self.inner.scene(job).await?;
        let (source, destination) = (&scene.source, &scene.destination);
        if scene.is_all_with(destination) {
            self.clear_marks(&scene).await?;
            return Ok(Answer::Done(Evidence {
                summary: format!("{} slots are with {}", ranges::count(scene.range), destination.address),
                items: self
                    .works
                    .with(job.key("work"), |w| w.moved.max(w.found.as_ref().map_or(0, |f| f.keys))),
                ..Evidence::default()
            }));
        }
        let begun = scene.has_begun();
        if !begun && !scene.is_all_with(source) {
            let detail = format!("the slots are with {}; the plan is out of date", scene.said());
            return Err(RedisMover::at_node(source, Retry::Permanent, "moving slots", detail));
        }
        if !begun {
            match self.together(&scene).await? {
                Some(together) => return self.go_together(job, &scene, together).await,
                None if self
                    .works
                    .with(job.key("work"), |w| w.found.as_ref().is_some_and(|f| f.together)) =>
                {
                    let detail = "both nodes could move slots in one step, and cannot any more";
                    return Err(RedisMover::at_node(source, Retry::Permanent, "moving slots", detail));
                }
                None => {}
            }
        }
        let start = Instant::now();
        let moved = match self.hear_anew(job, &scene, start).await {
            Ok(Some(waiting)) => return Ok(waiting),
            Ok(None) => {
                let _hands = self.hearing.hands.read().await;
                self.slice(job, &scene, start).await
            }
            Err(error) => Err(error),
        };
        let left = ranges::count(scene.range) - scene.held_by(destination);
        match moved {
            Ok(Slice { whole, waits }) => {
                let waits = waits.map(|waits| format!("; {waits}")).unwrap_or_default();
                let (left, all) = (left - whole.min(left), ranges::count(scene.range));
                Ok(working(format!("{left} of {all} slots to move{waits}")))
            }
            // There is no way back any more: whatever it is, it is tried again.
            Err(error) if begun => {
                Ok(working(format!("{left} slots are still to move; the last try: {error}")))
            }
            Err(error) => Err(error),
        }
    }

    /// Moves slots until the time is over.
    async fn slice(&self, job: &Job, scene: &Scene, start: Instant) -> Result<Slice, DriverError> {
        let mut whole = 0;
        let destination = &scene.destination;
        let refuse =
            |node, detail: String| RedisMover::at_node(node, Retry::Retryable, "moving slots", detail);
        if !scene.is_up(destination) || !destination.is_master() {
            return Err(refuse(destination, "it has to be up, and a master, to take slots".into()));
        }
        // A slot that is half moved comes first: its clients are sent from one node to the other.
        let mut left: Vec<u16> =
            scene.slots().filter(|&slot| scene.owner(slot).is_none_or(|n| n.id != destination.id)).collect();
        left.sort_by_key(|slot| !scene.open.iter().any(|open| open.slot == *slot));
        for slot in left {
            let owner = scene.owner(slot).filter(|owner| scene.is_up(owner));
            let Some(owner) = owner else {
                return Err(refuse(destination, format!("slot {slot} has no owner that answers")));
            };
            // Only a slot that comes from another is taken with a new claim, also where its owner gave it before.
            let comes = set_slot(slot, "IMPORTING", &owner.id);
            self.inner.nodes.tell(&destination.address, &comes).await?;
            if !scene.gave(owner, slot, destination)
                && !self.empty(job, slot, owner, destination, start).await?
            {
                break;
            }
            if !self.has_heard(destination, owner).await? {
                let waits =
                    format!("{} to hear how new the claims of {} are", destination.address, owner.address);
                return Ok(Slice { whole, waits: Some(waits) });
            }
            self.settle(scene, slot, owner).await?;
            whole += 1;
            if start.elapsed() >= SLICE {
                break;
            }
        }
        Ok(Slice { whole, waits: None })
    }

    /// Moves the keys of one slot, for which the destination waits; tells whether none is left.
    async fn empty(
        &self,
        job: &Job,
        slot: u16,
        owner: &Node,
        destination: &Node,
        start: Instant,
    ) -> Result<bool, DriverError> {
        let nodes = &self.inner.nodes;
        nodes.tell(&owner.address, &set_slot(slot, "MIGRATING", &destination.id)).await?;
        loop {
            let pace = self.works.with(job.key("work"), |w| w.pace);
            let mut ask = redis::cmd("CLUSTER");
            ask.arg("GETKEYSINSLOT").arg(slot).arg(pace.0);
            let Value::Array(keys) = nodes.ask(&owner.address, &ask).await? else { return Ok(true) };
            if keys.is_empty() {
                return Ok(true);
            }
            if start.elapsed() >= SLICE {
                return Ok(false);
            }
            let begin = Instant::now();
            nodes.tell(&owner.address, &self.migrate(destination, &keys)).await?;
            self.works.with(job.key("work"), |w| {
                w.pace.took(begin.elapsed());
                w.moved += keys.len() as u64;
            });
        }
    }

    fn migrate(&self, destination: &Node, keys: &[Value]) -> redis::Cmd {
        let options = &self.inner.options;
        let mut cmd = redis::cmd("MIGRATE");
        cmd.arg(destination.ip()).arg(destination.port()).arg("").arg(0).arg(IDLE_MS);
        // What an earlier try copied without removing it here is older than what is here.
        cmd.arg("REPLACE");
        match (&options.username, &options.password) {
            (Some(user), Some(password)) => cmd.arg("AUTH2").arg(user).arg(password),
            (None, Some(password)) => cmd.arg("AUTH").arg(password),
            _ => &mut cmd,
        };
        cmd.arg("KEYS");
        for key in keys {
            if let Value::BulkString(key) = key {
                cmd.arg(key);
            }
        }
        cmd
    }

    /// Whether the destination knows of a claim as new as the newest of the owner. If it did not, the claim that it
    /// makes when it takes a slot would be older than one of the owner that is still on its way: it would give the
    /// slot back and delete the keys that have just come. It hears within a second or two; claims of two masters
    /// that are equally new are told apart by the servers within the same time.
    async fn has_heard(&self, destination: &Node, owner: &Node) -> Result<bool, DriverError> {
        let nodes = &self.inner.nodes;
        let (known, own) =
            tokio::try_join!(nodes.cluster_info(&destination.address), nodes.cluster_info(&owner.address))?;
        Ok(is_newer(&known, &own))
    }

    /// Gives an empty slot to the destination: there first, or the slot has no owner should the old one
    /// die in between. The others hear of it from the destination; who has not is told when all slots are
    /// there ([`RedisSlotMover::convince`]).
    async fn settle(&self, scene: &Scene, slot: u16, owner: &Node) -> Result<(), DriverError> {
        let give = set_slot(slot, "NODE", &scene.destination.id);
        self.inner.nodes.tell(&scene.destination.address, &give).await?;
        self.inner.nodes.tell(&owner.address, &give).await?;
        Ok(())
    }

    /// A node that was told of a move and not of its end keeps calling the slot half moved.
    pub(super) async fn clear_marks(&self, scene: &Scene) -> Result<(), DriverError> {
        for open in &scene.open {
            self.inner.nodes.tell(&open.at, &set_slot(open.slot, "NODE", &scene.destination.id)).await?;
        }
        Ok(())
    }
}

/// `CLUSTER SETSLOT` with the id of a node.
pub(super) fn set_slot(slot: u16, how: &str, node: &str) -> redis::Cmd {
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg("SETSLOT").arg(slot).arg(how).arg(node);
    cmd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_taken_only_with_a_claim_that_is_the_newest() {
        let info = |current: u64, my: u64| {
            Info::parse(&format!("cluster_current_epoch:{current}\r\ncluster_my_epoch:{my}\r\n"))
        };
        assert!(is_newer(&info(101, 100), &info(101, 101)), "it takes 102");
        assert!(is_newer(&info(102, 102), &info(101, 101)));
        assert!(!is_newer(&info(100, 100), &info(101, 101)), "it would stay at 100");
        assert!(!is_newer(&info(101, 101), &info(101, 101)), "the servers tell them apart");
        assert!(is_newer(&info(0, 0), &info(0, 0)) && is_newer(&Info::parse(""), &info(1, 1)));
    }

    #[test]
    fn a_batch_grows_while_it_is_quick_and_shrinks_at_once_when_it_is_not() {
        let mut pace = Pace::default();
        (0..20).for_each(|_| pace.took(Duration::from_micros(300)));
        assert_eq!(pace.0, MOST);
        pace.took(Duration::from_millis(3));
        assert_eq!(pace.0, MOST, "near what it is to take");
        (0..20).for_each(|_| pace.took(Duration::from_millis(50)));
        assert_eq!(pace.0, 1);
    }
}
