//! Who says of whom that it owns a slot: what a destination has to hear anew before slots go to it, and who
//! has to be told again afterwards.
//!
//! Redis 7.0.13 to 7.0.15 and 7.2.0 to 7.2.3 note of a slot that its owner does not claim it any more, and
//! forget to take that note away when `CLUSTER SETSLOT … NODE` gives the slot to another (redis/redis pull
//! requests 12344 and 12564). A master with such a note that takes the slot later believes whatever old
//! claim of the former owner is still on its way: it gives the slot back, **deletes the keys that have just
//! come**, and nobody ever tells it otherwise. The notes cannot be seen. They go away when the source says
//! which slots it owns and the destination had something else of one of them: so one slot of the source is
//! called a third master's at the destination, whose clients are sent on for that moment, and the source's
//! next message (every second or so) puts it right. That third master's claim has to be older than the
//! source's, or it would stand.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::RwLock;

use super::super::view::{Health, Info, SlotRange, View};
use super::super::working;
use super::RedisSlotMover;
use super::advance::{SLICE, set_slot};
use super::scene::{Scene, half_moved};
use crate::drivers::error::DriverError;
use crate::drivers::mover::{Answer, Job};

/// How often a destination is asked whether it has heard of the source.
const LOOK: Duration = Duration::from_millis(20);
/// How long the nodes may take to hear of a new owner from the others, before they are told.
const GOSSIP: Duration = Duration::from_secs(1);

/// A job that has not gone on for so long keeps no other from moving slots.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far this process is with one job's claims.
#[derive(Default)]
pub(super) struct Claims {
    /// Ids of a source and a destination that has heard anew what that owns.
    heard: Option<(String, String)>,
    /// A slot, and the id of the third master that it was said to belong to.
    asked: Option<(u16, String)>,
    /// Since when nodes name another owner than the new one.
    doubted: Option<Instant>,
}

/// One destination hears at a time, and no slot changes hands meanwhile.
#[derive(Default)]
pub(super) struct Hearing {
    /// Read by who gives slots, written to by who hears.
    pub(super) hands: RwLock<()>,
    /// Whose destination hears: the job, what it is about, and when it last went on.
    of: Mutex<Option<(String, String, Instant)>>,
}

impl Hearing {
    /// What another job waits to be heard, unless it has given up.
    fn of_another(&self, job: &str) -> Option<String> {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, what, _) = of.as_ref().filter(|(of, _, at)| of != job && at.elapsed() < PATIENCE)?;
        Some(what.clone())
    }

    fn begin(&self, job: String, what: String) {
        *self.of.lock().unwrap_or_else(PoisonError::into_inner) = Some((job, what, Instant::now()));
    }

    fn end(&self, job: &str) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.take_if(|(of, _, _)| of == job);
    }
}

/// What is to be done next that a destination hears anew.
#[derive(PartialEq, Debug)]
enum Next {
    /// It has heard, or there is no way to have it hear.
    Nothing,
    /// The source's message has not come yet.
    Wait,
    /// The source's claim is as old as all others': it needs a newer epoch first.
    Renew,
    /// The destination calls that slot that third master's.
    Say(u16, String),
}

/// Whether a server of this version keeps notes that it should have thrown away.
fn keeps_notes(server: &Info) -> bool {
    matches!(server.version().as_slice(), [7, 0, 13..=u32::MAX] | [7, 2, 0..=3])
}

/// What comes next, by the destination's own view.
fn next(
    view: &View,
    range: SlotRange,
    (source, destination): (&str, &str),
    asked: Option<&(u16, String)>,
) -> Next {
    if let Some((slot, third)) = asked {
        match view.owner_of(*slot).map(|n| n.id.as_str()) {
            Some(owner) if owner == source => return Next::Nothing,
            Some(owner) if owner == third => {
                let epoch = |id: &str| view.node(id).map_or(0, |n| n.epoch);
                // That master has claimed something newer since.
                return if epoch(third) < epoch(source) { Next::Wait } else { Next::Renew };
            }
            // It went somewhere else meanwhile.
            _ => {}
        }
    }
    let Some(owner) = view.node(source) else { return Next::Nothing };
    let open: Vec<u16> = half_moved(view).map(|open| open.slot).collect();
    let slot = (range.first..=range.last).rev().find(|&slot| owner.owns(slot) && !open.contains(&slot));
    let thirds = view.nodes.iter().filter(|n| n.is_master() && n.id != source && n.id != destination);
    match (slot, thirds.min_by_key(|n| (n.epoch >= owner.epoch, n.health != Health::Alive, n.epoch))) {
        (Some(slot), Some(third)) if third.epoch < owner.epoch => Next::Say(slot, third.id.clone()),
        (Some(_), Some(_)) => Next::Renew,
        _ => Next::Nothing,
    }
}

impl RedisSlotMover {
    /// Has the destination hear anew which slots the source owns, where its version needs that; what it
    /// waits for, where that takes longer than this call.
    pub(super) async fn hear_anew(
        &self,
        job: &Job,
        scene: &Scene,
        start: Instant,
    ) -> Result<Option<Answer>, DriverError> {
        let (source, destination, nodes) = (&scene.source, &scene.destination, &self.inner.nodes);
        let pair = (source.id.clone(), destination.id.clone());
        if let Some(other) = self.hearing.of_another(&job.key("work")) {
            return Ok(Some(working(format!("{other} first"))));
        }
        if self.claims(job, |c| c.heard.as_ref() == Some(&pair)) {
            return Ok(None);
        }
        if keeps_notes(&nodes.info(&destination.address).await?) {
            // Every slot that changes hands meanwhile would make a newer claim, of this source or of the third master.
            let what = format!("{} is to hear anew which slots {} owns", destination.address, source.address);
            self.hearing.begin(job.key("work"), what);
            let _alone = self.hearing.hands.write().await;
            loop {
                let view = nodes.view(&destination.address).await?;
                let asked = self.claims(job, |c| c.asked.clone());
                match next(&view, scene.range, (&source.id, &destination.id), asked.as_ref()) {
                    Next::Nothing => break,
                    Next::Wait => {}
                    Next::Renew => {
                        let renew = redis::cmd("CLUSTER").arg("BUMPEPOCH").to_owned();
                        nodes.tell(&source.address, &renew).await?;
                    }
                    Next::Say(slot, third) => {
                        self.claims(job, |c| c.asked = Some((slot, third.clone())));
                        nodes.tell(&destination.address, &set_slot(slot, "NODE", &third)).await?;
                    }
                }
                if start.elapsed() >= SLICE {
                    return Ok(Some(working(format!(
                        "{} to hear anew which slots {} owns",
                        destination.address, source.address
                    ))));
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        self.hearing.end(&job.key("work"));
        self.claims(job, |c| *c = Claims { heard: Some(pair), ..Claims::default() });
        Ok(None)
    }

    /// Tells masters that name another owner than the new one: the new one itself at once, the others
    /// where they have not heard of it from each other.
    pub(super) async fn convince(&self, job: &Job, scene: &Scene) -> Result<(), DriverError> {
        let start = Instant::now();
        let since = self.claims(job, |c| *c.doubted.get_or_insert(start));
        let destination = &scene.destination;
        for (node, slots) in scene.doubters(destination) {
            if !node.is_master() || (node.id != destination.id && since.elapsed() < GOSSIP) {
                continue;
            }
            for slot in slots.into_iter().take_while(|_| start.elapsed() < SLICE) {
                self.inner.nodes.tell(&node.address, &set_slot(slot, "NODE", &destination.id)).await?;
            }
        }
        Ok(())
    }

    fn claims<T>(&self, job: &Job, then: impl FnOnce(&mut Claims) -> T) -> T {
        self.works.with(job.key("work"), |w| then(&mut w.claims))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: SlotRange = SlotRange { first: 5, last: 9 };

    /// What a destination called `d` says, by the epochs of `s` (which owns 0 to 9) and `t`, and what `t` owns.
    fn view(epochs: (u64, u64), more: &str, half_moved: &str) -> View {
        let text = format!(
            "s 127.0.0.1:1@2 master - 0 0 {} connected {}\n\
             d 127.0.0.2:1@2 myself,master - 0 0 7 connected 20-29 {half_moved}\n\
             t 127.0.0.3:1@2 master - 0 0 {} connected 10-19 {more}\n",
            epochs.0,
            if more.is_empty() { "0-9" } else { "0-8" },
            epochs.1
        );
        View::parse(&text, "x").unwrap()
    }

    fn after(view: &View, asked: Option<(u16, &str)>) -> Next {
        let asked = asked.map(|(slot, third)| (slot, third.to_string()));
        next(view, RANGE, ("s", "d"), asked.as_ref())
    }

    #[test]
    fn a_slot_is_called_a_third_masters_until_the_source_has_spoken() {
        assert_eq!(after(&view((4, 3), "", ""), None), Next::Say(9, "t".into()));
        assert_eq!(after(&view((4, 3), "9", ""), Some((9, "t"))), Next::Wait);
        assert_eq!(
            after(&view((4, 5), "9", ""), Some((9, "t"))),
            Next::Renew,
            "it claims something newer now"
        );
        assert_eq!(after(&view((4, 3), "", ""), Some((9, "t"))), Next::Nothing);
        // An engine that knows nothing of the one before it takes another slot.
        assert_eq!(after(&view((4, 3), "9", ""), None), Next::Say(8, "t".into()));
    }

    #[test]
    fn a_claim_that_would_stand_is_never_made() {
        assert_eq!(after(&view((3, 4), "", ""), None), Next::Renew);
        assert_eq!(after(&view((3, 3), "", ""), None), Next::Renew);
        let two =
            View::parse("s :1@2 master - 0 0 4 connected 0-9\nd :2@3 myself,master - 0 0 7 connected", "x");
        assert_eq!(after(&two.unwrap(), None), Next::Nothing, "nobody is there to take it");
    }

    #[test]
    fn a_half_moved_slot_is_left_alone() {
        assert_eq!(after(&view((4, 3), "", "[9-<-s]"), None), Next::Say(8, "t".into()));
        assert_eq!(
            after(&view((4, 3), "9", "[8-<-s] [7-<-s] [6-<-s] [5-<-s]"), None),
            Next::Nothing,
            "only half-moved ones are left"
        );
    }

    #[test]
    fn the_versions_with_the_defect_are_known() {
        let keeps_notes = |version: &str| keeps_notes(&Info::parse(&format!("redis_version:{version}")));
        for version in ["7.0.13", "7.0.15", "7.2.0", "7.2.3"] {
            assert!(keeps_notes(version), "{version}");
        }
        for version in ["6.2.14", "7.0.12", "7.2.4", "7.4.0", "8.0.1", "9.1.2", "", "x"] {
            assert!(!keeps_notes(version), "{version}");
        }
    }
}
