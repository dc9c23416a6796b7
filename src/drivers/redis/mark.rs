//! The mark that a migration leaves on a node, and the settings that it changes there.
//!
//! For the run, `cluster-allow-replica-migration` is off on both nodes, so that the cluster does
//! not take the copy away for another shard, and a source that is to feed a new replica begins at
//! once (`repl-diskless-sync-delay` 0; Redis otherwise waits 5 s for more replicas that might come), while
//! the empty node reads the copy from the connection (`repl-diskless-load on-empty-db`; Redis otherwise
//! writes it to disk first).
//! The mark says what the settings were before. It stands in `proc-title-template`, because that setting is free text, is set in the same atomic `CONFIG
//! SET`, is lost with the other at the same restart, touches no data, and shows in `ps`: a leak scan
//! finds it without any journal.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use redis::Value;

use super::nodes::{Nodes, system, text};
use crate::drivers::error::{DriverError, Retry};

const TITLE: &str = "proc-title-template";
const MIGRATION: &str = "cluster-allow-replica-migration";
const DELAY: &str = "repl-diskless-sync-delay";
const LOAD: &str = "repl-diskless-load";
/// How an empty node reads a copy from the connection.
const AT_ONCE: &str = "on-empty-db";
/// Before the setting as it was, in a mark.
const LOAD_WAS: &str = "load=";

/// How often it is looked whether another move is through with a node's marks.
const LOOK: Duration = Duration::from_millis(2);

/// What a node is in a migration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// It stays what it is.
    Stays,
    /// It is empty and becomes a replica for this migration.
    BecomesReplica,
    /// It is the master of the node that becomes a replica.
    Feeds,
}

/// What a mark says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// `fs_<key>`.
    pub(super) name: String,
    /// Replica migration was allowed before.
    allowed: bool,
    /// The node was empty and has become a replica for this migration.
    pub(super) made_replica: bool,
    /// Seconds that the node waited before it fed a replica, where that was changed.
    delay: Option<u32>,
    /// How the node read copies before, where that was changed.
    load: Option<String>,
}

/// What is to be set beside the title; `None` = left as it is.
#[derive(Default)]
struct Changes {
    migration: Option<bool>,
    delay: Option<u32>,
    load: Option<String>,
}

/// What a node is set to now.
struct Settings {
    title: String,
    allowed: bool,
    delay: Option<u32>,
    load: Option<String>,
}

/// What became of an attempt to mark a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Marked {
    Yes,
    /// `CONFIG` is not allowed here (managed services); nothing was changed.
    NotAllowed,
}

impl Mark {
    fn write(&self) -> String {
        let word = |yes, y, n| if yes { y } else { n };
        let mut text = format!(
            "{}:{}:{}",
            self.name,
            word(self.allowed, "migration", "still"),
            word(self.made_replica, "made", "kept")
        );
        if let Some(seconds) = self.delay {
            text.push_str(&format!(":{seconds}"));
        }
        if let Some(load) = &self.load {
            text.push_str(&format!(":{LOAD_WAS}{load}"));
        }
        text
    }

    fn read(word: &str) -> Option<Mark> {
        let mut parts = word.split(':');
        let name = parts.next().filter(|n| n.starts_with("fs_"))?.to_string();
        let allowed = parts.next()? == "migration";
        let made_replica = parts.next()? == "made";
        let (mut delay, mut load) = (None, None);
        for part in parts {
            match part.strip_prefix(LOAD_WAS) {
                Some(was) => load = Some(was.to_string()),
                None => delay = part.parse().ok(),
            }
        }
        Some(Mark { name, allowed, made_replica, delay, load })
    }
}

/// A title's own text and the marks behind it.
fn split(title: &str) -> (String, Vec<Mark>) {
    let (mut own, mut marks) = (Vec::new(), Vec::new());
    for word in title.split(' ') {
        match Mark::read(word) {
            Some(mark) => marks.push(mark),
            None => own.push(word),
        }
    }
    (own.join(" "), marks)
}

fn join(own: &str, marks: &[Mark]) -> String {
    std::iter::once(own.to_string()).chain(marks.iter().map(Mark::write)).collect::<Vec<_>>().join(" ")
}

/// The right to change the marks of one node, for as long as this lives.
struct Alone<'a> {
    nodes: &'a Nodes,
    address: &'a str,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.nodes.marking.lock().unwrap_or_else(PoisonError::into_inner).remove(self.address);
    }
}

impl Nodes {
    /// Waits until no other move changes the marks of the node: what one reads another would overwrite.
    async fn alone<'a>(&'a self, address: &'a str) -> Result<Alone<'a>, DriverError> {
        let start = Instant::now();
        loop {
            if self.marking.lock().unwrap_or_else(PoisonError::into_inner).insert(address.to_string()) {
                return Ok(Alone { nodes: self, address });
            }
            if start.elapsed() > self.command_timeout.to_std() {
                let detail = "another move marks it all the while";
                return Err(DriverError::new(Retry::Retryable, system(address), "marking", detail));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The marks on a node; none where `CONFIG` is not allowed.
    pub(super) async fn marks(&self, address: &str) -> Result<Vec<Mark>, DriverError> {
        Ok(self.settings(address).await?.map(|now| split(&now.title).1).unwrap_or_default())
    }

    /// Marks a node and sets it for the run; done again it changes nothing.
    pub(super) async fn mark(&self, address: &str, name: &str, part: Part) -> Result<Marked, DriverError> {
        let _alone = self.alone(address).await?;
        let Some(now) = self.settings(address).await? else {
            return Ok(Marked::NotAllowed);
        };
        let (own, mut marks) = split(&now.title);
        if marks.iter().any(|m| m.name == name) {
            return Ok(Marked::Yes);
        }
        // What another migration has changed already was not so before.
        let allowed = marks.first().map_or(now.allowed, |other| other.allowed);
        let before = marks.iter().find_map(|other| other.delay).or(now.delay);
        let delay = before.filter(|_| part == Part::Feeds);
        let loads = marks.iter().find_map(|other| other.load.clone()).or(now.load);
        let load = loads.filter(|_| part == Part::BecomesReplica);
        let changes = Changes {
            migration: Some(false),
            delay: delay.map(|_| 0),
            load: load.as_ref().map(|_| AT_ONCE.to_string()),
        };
        let made_replica = part == Part::BecomesReplica;
        marks.push(Mark { name: name.into(), allowed, made_replica, delay, load });
        self.set(address, &join(&own, &marks), changes).await?;
        Ok(Marked::Yes)
    }

    /// Takes a mark away, and with the last one restores the settings; done again it changes nothing.
    pub(super) async fn unmark(&self, address: &str, name: &str) -> Result<(), DriverError> {
        let _alone = self.alone(address).await?;
        let Some(now) = self.settings(address).await? else { return Ok(()) };
        let (own, mut marks) = split(&now.title);
        let Some(at) = marks.iter().position(|m| m.name == name) else { return Ok(()) };
        let mark = marks.remove(at);
        let changes = Changes {
            migration: marks.is_empty().then_some(mark.allowed),
            delay: mark.delay.filter(|_| marks.iter().all(|other| other.delay.is_none())),
            load: mark.load.filter(|_| marks.iter().all(|other| other.load.is_none())),
        };
        self.set(address, &join(&own, &marks), changes).await
    }

    async fn set(&self, address: &str, title: &str, changes: Changes) -> Result<(), DriverError> {
        let mut cmd = redis::cmd("CONFIG");
        cmd.arg("SET").arg(TITLE).arg(title);
        if let Some(allowed) = changes.migration {
            cmd.arg(MIGRATION).arg(if allowed { "yes" } else { "no" });
        }
        if let Some(seconds) = changes.delay {
            cmd.arg(DELAY).arg(seconds);
        }
        if let Some(load) = changes.load {
            cmd.arg(LOAD).arg(load);
        }
        self.tell(address, &cmd).await.map(|_| ())
    }

    /// What a node is set to; `None` where `CONFIG` is not allowed.
    async fn settings(&self, address: &str) -> Result<Option<Settings>, DriverError> {
        let mut cmd = redis::cmd("CONFIG");
        cmd.arg("GET").arg(TITLE).arg(MIGRATION).arg(DELAY).arg(LOAD);
        let answer = match self.ask(address, &cmd).await {
            Ok(Value::Array(answer)) => answer,
            Ok(Value::Map(pairs)) => pairs.into_iter().flat_map(|(k, v)| [k, v]).collect(),
            Err(error) if error.retry == Retry::Permanent => return Ok(None),
            Err(error) => return Err(error),
            Ok(_) => return Ok(None),
        };
        let words: Vec<String> = answer.into_iter().map(text).collect();
        let value = |name: &str| words.chunks(2).find(|p| p[0] == name).and_then(|p| p.get(1).cloned());
        let delay = value(DELAY).and_then(|seconds| seconds.parse().ok());
        let load = value(LOAD);
        let both = value(TITLE).zip(value(MIGRATION));
        Ok(both.map(|(title, allowed)| Settings { title, allowed: allowed == "yes", delay, load }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_two_migrations_stand_side_by_side_and_leave_the_title_as_it_was() {
        let own = "{title} {listen-addr} {server-mode}";
        let a = Mark { name: "fs_aa".into(), allowed: true, made_replica: false, delay: Some(5), load: None };
        let b = Mark {
            name: "fs_bb".into(),
            allowed: true,
            made_replica: true,
            delay: None,
            load: Some("disabled".into()),
        };
        let title = join(own, &[a.clone(), b.clone()]);
        assert_eq!(split(&title), (own.to_string(), vec![a, b]));
        assert_eq!(join(&split(own).0, &[]), own);
    }
}
