//! Slots that go together: where both nodes know how to move a range in one step, they do it by themselves.
//! The keys are copied while the source serves, writes are held for the moment of the hand-over, and all
//! slots change their owner at once. Until then it can be called off and nothing has happened; so there is
//! no key on the way, no `ASK`, and commands on many keys of a slot work all the while.
//!
//! Valkey 9: `CLUSTER MIGRATESLOTS`, asked of the source; Redis 8.4: `CLUSTER MIGRATION IMPORT`, asked of the
//! destination (the servers' own documents). Neither remembers a move over its restart: what is under way is
//! asked of the nodes, and that it happened is told by who owns the slots.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use futures::future::join_all;
use redis::{Cmd, Value};

use super::super::nodes::{Lane, text};
use super::super::view::{Health, Node, SlotRange, View};
use super::super::{RedisMover, working};
use super::advance::SLICE;
use super::scene::Scene;
use super::{RedisSlotMover, ranges};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Answer, Job};

/// How often a destination may begin anew by itself before the try is called off.
const RESTARTS: u64 = 3;
/// How often a move under way is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// What it waits for when the servers are through.
const HEARD: &str = "the nodes to hear that the slots went over";

/// The command by which a server moves slots as one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Offer {
    /// `CLUSTER MIGRATESLOTS`, asked of the source.
    MigrateSlots,
    /// `CLUSTER MIGRATION IMPORT`, asked of the destination.
    Import,
}

impl Offer {
    /// The node that is asked, and that knows how far it is.
    pub(super) fn asked<'a>(self, source: &'a Node, destination: &'a Node) -> &'a Node {
        match self {
            Offer::MigrateSlots => source,
            Offer::Import => destination,
        }
    }

    /// The command that begins it.
    fn begin(self, range: SlotRange, destination: &Node) -> Cmd {
        let mut cmd = redis::cmd("CLUSTER");
        match self {
            Offer::MigrateSlots => cmd.arg("MIGRATESLOTS").arg("SLOTSRANGE"),
            Offer::Import => cmd.arg("MIGRATION").arg("IMPORT"),
        };
        cmd.arg(range.first).arg(range.last);
        match self {
            Offer::MigrateSlots => cmd.arg("NODE").arg(&destination.id).to_owned(),
            Offer::Import => cmd,
        }
    }

    /// The same as a person writes it: the node that it is sent to, and the words.
    pub(super) fn words<'a>(
        self,
        slots: &str,
        (source, destination): (&'a str, &'a str),
        to: &str,
    ) -> (&'a str, String) {
        let slots = slots.replace('-', " ");
        match self {
            Offer::MigrateSlots => (source, format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slots} NODE {to}")),
            Offer::Import => (destination, format!("CLUSTER MIGRATION IMPORT {slots}")),
        }
    }

    fn report(self) -> Cmd {
        let mut cmd = redis::cmd("CLUSTER");
        match self {
            Offer::MigrateSlots => cmd.arg("GETSLOTMIGRATIONS"),
            Offer::Import => cmd.arg("MIGRATION").arg("STATUS").arg("ALL"),
        };
        cmd
    }

    fn call_off(self, transfer: &Transfer) -> Cmd {
        let mut cmd = redis::cmd("CLUSTER");
        match self {
            Offer::MigrateSlots => cmd.arg("CANCELSLOTMIGRATIONS"),
            Offer::Import => cmd.arg("MIGRATION").arg("CANCEL").arg("ID").arg(&transfer.id),
        };
        cmd
    }
}

/// One move of slots as a node reports it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Transfer {
    /// The server's name of it.
    pub(super) id: String,
    /// How far it is, in the server's word: `snapshotting`, `accumulate-buffer`.
    pub(super) state: String,
    ranges: Vec<SlotRange>,
    source: String,
    destination: String,
    /// Why it failed, or what went wrong at the last try.
    trouble: String,
    restarts: u64,
}

impl Transfer {
    /// Reads one report; `None` where it is none.
    fn parse(report: &Value) -> Option<Self> {
        let fields: Vec<String> = match report {
            Value::Array(fields) => fields.iter().cloned().map(text).collect(),
            Value::Map(pairs) => pairs.iter().flat_map(|(k, v)| [k, v]).cloned().map(text).collect(),
            _ => return None,
        };
        let field = |names: [&str; 2]| {
            let mut pairs = fields.chunks_exact(2);
            pairs.find(|pair| names.contains(&pair[0].as_str())).map(|pair| pair[1].clone())
        };
        let slots = field(["slot_ranges", "slots"])?;
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some(SlotRange { first: first.parse().ok()?, last: last.parse().ok()? })
        };
        Some(Self {
            id: field(["name", "id"])?,
            state: field(["state", "state"])?,
            ranges: slots.split([' ', ',']).filter_map(range).collect(),
            source: field(["source_node", "source"])?,
            destination: field(["target_node", "dest"])?,
            trouble: field(["message", "last_error"]).unwrap_or_default(),
            restarts: field(["retries", "retries"]).and_then(|n| n.parse().ok()).unwrap_or(0),
        })
    }

    fn succeeded(&self) -> bool {
        matches!(self.state.as_str(), "success" | "completed")
    }

    fn has_ended(&self) -> bool {
        self.succeeded() || matches!(self.state.as_str(), "failed" | "cancelled" | "canceled")
    }

    fn touches(&self, range: SlotRange) -> bool {
        self.ranges.iter().any(|own| own.first <= range.last && range.first <= own.last)
    }

    /// Whether it is the move of exactly the slots of a job, in its direction.
    fn is_of(&self, scene: &Scene) -> bool {
        self.ranges == [scene.range]
            && self.source == scene.source.id
            && self.destination == scene.destination.id
    }
}

/// What the nodes of a job can do together, and are at.
pub(super) struct Together {
    pub(super) offer: Offer,
    /// Everything that the node reports which is asked, the newest first.
    transfers: Vec<Transfer>,
}

impl Together {
    /// The move of this job, where it is under way.
    pub(super) fn running(&self, scene: &Scene) -> Option<&Transfer> {
        self.transfers.iter().find(|t| !t.has_ended() && t.is_of(scene))
    }

    /// A move under way that touches the slots of the job and is not the job's.
    pub(super) fn foreign(&self, scene: &Scene) -> Option<&Transfer> {
        self.transfers.iter().find(|t| !t.has_ended() && t.touches(scene.range) && !t.is_of(scene))
    }
}

impl RedisSlotMover {
    /// By which command a node moves slots as one; `None` where it knows none, or is not to use it.
    pub(super) async fn offer_of(&self, address: &str) -> Result<Option<Offer>, DriverError> {
        if self.inner.options.key_by_key {
            return Ok(None);
        }
        let mut ask = redis::pipe();
        for name in ["cluster|migrateslots", "cluster|migration"] {
            ask.cmd("COMMAND").arg("INFO").arg(name);
        }
        let answers = self.inner.nodes.ask_many(address, Lane::Control, &ask).await?;
        let knows = |answer: Option<&Value>| match answer {
            Some(Value::Array(found)) => matches!(found.first(), Some(Value::Array(_))),
            _ => false,
        };
        Ok(match (knows(answers.first()), knows(answers.get(1))) {
            (true, _) => Some(Offer::MigrateSlots),
            (_, true) => Some(Offer::Import),
            _ => None,
        })
    }

    /// Asks every master how it moves slots, for the commands that are shown beforehand.
    pub(super) async fn look_for_offers(&self, view: &View) {
        let masters: Vec<&Node> = view.nodes.iter().filter(|n| n.is_master()).collect();
        let offers = join_all(masters.iter().map(|n| self.offer_of(&n.address))).await;
        let mut known = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        for (node, offer) in masters.iter().zip(offers) {
            match offer {
                Ok(Some(offer)) => drop(known.insert(node.id.clone(), offer)),
                Ok(None) => drop(known.remove(&node.id)),
                // One that does not answer has learnt nothing else.
                Err(_) => {}
            }
        }
    }

    /// How both nodes move slots as one, by what they last said.
    pub(super) fn known_offer(&self, source: &str, destination: &str) -> Option<Offer> {
        let known = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(source).filter(|offer| known.get(destination) == Some(offer)).copied()
    }

    /// Whether the servers are at the move of these slots.
    pub(super) async fn is_under_way(&self, scene: &Scene) -> bool {
        let together = self.together(scene).await.ok().flatten();
        together.is_some_and(|together| together.running(scene).is_some())
    }

    /// What both nodes can do together and are at; `None` where the keys have to go one by one.
    pub(super) async fn together(&self, scene: &Scene) -> Result<Option<Together>, DriverError> {
        let (source, destination) = (&scene.source, &scene.destination);
        let (ours, theirs) =
            futures::join!(self.offer_of(&source.address), self.offer_of(&destination.address));
        let (ours, theirs) = (ours?, theirs?);
        let Some(offer) = ours.filter(|_| ours == theirs) else { return Ok(None) };
        Ok(Some(Together { offer, transfers: self.transfers(scene, offer).await? }))
    }

    /// What the node that is asked reports, the newest first.
    async fn transfers(&self, scene: &Scene, offer: Offer) -> Result<Vec<Transfer>, DriverError> {
        let asked = offer.asked(&scene.source, &scene.destination);
        let said = self.inner.nodes.ask(&asked.address, &offer.report()).await?;
        Ok(match &said {
            Value::Array(reports) => reports.iter().filter_map(Transfer::parse).collect(),
            _ => Vec::new(),
        })
    }

    /// Begins the move of all slots as one, or follows it for as long as a call may take.
    pub(super) async fn go_together(
        &self,
        job: &Job,
        scene: &Scene,
        together: Together,
    ) -> Result<Answer, DriverError> {
        let Together { offer, transfers } = &together;
        let asked = offer.asked(&scene.source, &scene.destination);
        let key = || job.key("work");
        if let Some(running) = together.running(scene) {
            return self.follow(scene, *offer, running.clone()).await;
        }
        if let Some(other) = together.foreign(scene) {
            let detail = format!("it moves some of these slots already, as {}; wait for it", other.id);
            return Err(refused(asked, detail));
        }
        if let Some(before) = self.works.with(key(), |w| w.asked.take()) {
            let ended = transfers.iter().find(|t| t.is_of(scene) && !before.contains(&t.id));
            return came_to(asked, ended);
        }
        // Where the answer is lost, the node's own report tells whether it began.
        let begin = offer.begin(scene.range, &scene.destination);
        if let Err(error) = self.inner.nodes.tell(&asked.address, &begin).await {
            // It may have ended since it was looked at.
            return match self.inner.scene(job).await?.is_all_with(&scene.destination) {
                true => Ok(working(HEARD)),
                false => Err(error),
            };
        }
        let before: BTreeSet<String> = transfers.iter().map(|t| t.id.clone()).collect();
        self.works.with(key(), |w| w.asked = Some(before));
        Ok(working(format!("{} to copy {} slots", asked.address, ranges::count(scene.range))))
    }

    /// Looks at a move until it ends or the call has taken long enough.
    async fn follow(
        &self,
        scene: &Scene,
        offer: Offer,
        mut running: Transfer,
    ) -> Result<Answer, DriverError> {
        let asked = offer.asked(&scene.source, &scene.destination);
        let start = Instant::now();
        while start.elapsed() < SLICE {
            tokio::time::sleep(LOOK).await;
            let found = self.transfers(scene, offer).await?.into_iter().find(|t| t.id == running.id);
            match found {
                Some(found) if !found.has_ended() => running = found,
                ended => return came_to(asked, ended.as_ref()),
            }
        }
        if running.restarts >= RESTARTS {
            self.inner.nodes.tell(&asked.address, &offer.call_off(&running)).await?;
            let detail = format!("{} (tried {} times)", running.trouble, running.restarts);
            return Err(refused(asked, detail));
        }
        let trouble = match running.trouble.as_str() {
            "" => String::new(),
            why => format!("; the last try: {why}"),
        };
        let (slots, state) = (ranges::count(scene.range), running.state);
        Ok(working(format!("{} to hand {slots} slots over together: {state}{trouble}", asked.address)))
    }

    /// Calls a move off that has not changed the owner; `None` where nothing is under way.
    pub(super) async fn call_off(&self, scene: &Scene) -> Result<Option<Answer>, DriverError> {
        // A node that all call dead hands nothing over.
        if [&scene.source, &scene.destination].iter().any(|node| node.health == Health::Failed) {
            return Ok(None);
        }
        let Some(together) = self.together(scene).await? else { return Ok(None) };
        let Some(running) = together.running(scene) else { return Ok(None) };
        let asked = together.offer.asked(&scene.source, &scene.destination);
        // `CANCELSLOTMIGRATIONS` knows only all of them: other moves of ours are tried again, those of others are not.
        let mut others = together.transfers.iter().filter(|t| !t.has_ended() && t.id != running.id);
        let strange = others.find(|t| !t.ranges.iter().all(|range| self.ranges.contains(range)));
        if let (Offer::MigrateSlots, Some(strange)) = (together.offer, strange) {
            return Ok(Some(working(format!(
                "{} to finish: {} of somebody else would be called off with it",
                asked.address, strange.id
            ))));
        }
        self.inner.nodes.tell(&asked.address, &together.offer.call_off(running)).await?;
        Ok(Some(working(format!("{} to let go of the slots", asked.address))))
    }
}

/// What a move came to that was under way; `None` = its node has forgotten it.
fn came_to(asked: &Node, ended: Option<&Transfer>) -> Result<Answer, DriverError> {
    match ended {
        Some(ended) if ended.succeeded() => Ok(working(HEARD)),
        Some(ended) => Err(refused(asked, format!("{} {}: {}", ended.id, ended.state, ended.trouble))),
        None => Err(refused(asked, "it knows nothing of the move any more; was it started anew?".into())),
    }
}

fn refused(asked: &Node, detail: String) -> DriverError {
    RedisMover::at_node(asked, Retry::Retryable, "moving slots together", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(fields: &[(&str, &str)]) -> Value {
        let word = |text: &&str| Value::BulkString(text.as_bytes().to_vec());
        Value::Array(fields.iter().flat_map(|(name, value)| [word(name), word(value)]).collect())
    }

    #[test]
    fn reports_are_read_as_both_servers_write_them() {
        let valkey = report(&[
            ("name", "af5a"),
            ("operation", "EXPORT"),
            ("slot_ranges", "0-2730 3000-3000"),
            ("target_node", "55f5"),
            ("source_node", "03c5"),
            ("state", "snapshotting"),
            ("message", ""),
        ]);
        let read = Transfer::parse(&valkey).unwrap();
        assert_eq!((read.id.as_str(), read.destination.as_str()), ("af5a", "55f5"));
        assert!(!read.has_ended());
        assert!(read.touches(SlotRange { first: 3000, last: 4000 }));
        assert!(!read.touches(SlotRange { first: 2731, last: 2999 }));

        let redis = report(&[
            ("id", "2398"),
            ("slots", "7"),
            ("source", "b14c"),
            ("dest", "54a4"),
            ("state", "canceled"),
            ("last_error", "by a person"),
            ("retries", "2"),
        ]);
        let read = Transfer::parse(&redis).unwrap();
        assert_eq!(read.ranges, [SlotRange { first: 7, last: 7 }]);
        assert!(read.has_ended() && !read.succeeded());
        assert_eq!((read.trouble.as_str(), read.restarts), ("by a person", 2));
    }

    #[test]
    fn what_is_no_report_is_none() {
        for odd in [Value::Nil, Value::Int(3), report(&[]), report(&[("id", "x"), ("slots", "0-1")])] {
            assert_eq!(Transfer::parse(&odd), None, "{odd:?}");
        }
    }
}
