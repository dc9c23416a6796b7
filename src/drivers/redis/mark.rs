//! The mark that a migration leaves on a node, and the setting that it changes there.
//!
//! For the run, `cluster-allow-replica-migration` is off on both nodes, so that the cluster does
//! not take the copy away for another shard. The mark says what the setting was before. It stands
//! in `proc-title-template`, because that setting is free text, is set in the same atomic `CONFIG
//! SET`, is lost with the other at the same restart, touches no data, and shows in `ps`: a leak scan
//! finds it without any journal.

use redis::Value;

use super::nodes::{Nodes, text};
use crate::drivers::error::{DriverError, Retry};

const TITLE: &str = "proc-title-template";
const MIGRATION: &str = "cluster-allow-replica-migration";

/// What a mark says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// `fs_<key>`.
    pub(super) name: String,
    /// Replica migration was allowed before.
    allowed: bool,
    /// The node was empty and has become a replica for this migration.
    pub(super) made_replica: bool,
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
        format!(
            "{}:{}:{}",
            self.name,
            word(self.allowed, "migration", "still"),
            word(self.made_replica, "made", "kept")
        )
    }

    fn read(word: &str) -> Option<Mark> {
        let mut parts = word.split(':');
        let name = parts.next().filter(|n| n.starts_with("fs_"))?.to_string();
        let allowed = parts.next()? == "migration";
        let made_replica = parts.next()? == "made";
        Some(Mark { name, allowed, made_replica })
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

impl Nodes {
    /// The marks on a node; none where `CONFIG` is not allowed.
    pub(super) async fn marks(&self, address: &str) -> Result<Vec<Mark>, DriverError> {
        Ok(self.settings(address).await?.map(|(title, _)| split(&title).1).unwrap_or_default())
    }

    /// Marks a node and keeps replica migration off; done again it changes nothing.
    pub(super) async fn mark(
        &self,
        address: &str,
        name: &str,
        made_replica: bool,
    ) -> Result<Marked, DriverError> {
        let Some((title, allowed_now)) = self.settings(address).await? else {
            return Ok(Marked::NotAllowed);
        };
        let (own, mut marks) = split(&title);
        if marks.iter().any(|m| m.name == name) {
            return Ok(Marked::Yes);
        }
        let allowed = marks.first().map_or(allowed_now, |other| other.allowed);
        marks.push(Mark { name: name.into(), allowed, made_replica });
        self.set(address, &join(&own, &marks), Some(false)).await?;
        Ok(Marked::Yes)
    }

    /// Takes a mark away, and with the last one restores the setting; done again it changes nothing.
    pub(super) async fn unmark(&self, address: &str, name: &str) -> Result<(), DriverError> {
        let Some((title, _)) = self.settings(address).await? else { return Ok(()) };
        let (own, mut marks) = split(&title);
        let Some(at) = marks.iter().position(|m| m.name == name) else { return Ok(()) };
        let mark = marks.remove(at);
        let restore = marks.is_empty().then_some(mark.allowed);
        self.set(address, &join(&own, &marks), restore).await
    }

    async fn set(&self, address: &str, title: &str, migration: Option<bool>) -> Result<(), DriverError> {
        let mut cmd = redis::cmd("CONFIG");
        cmd.arg("SET").arg(TITLE).arg(title);
        if let Some(allowed) = migration {
            cmd.arg(MIGRATION).arg(if allowed { "yes" } else { "no" });
        }
        self.tell(address, &cmd).await.map(|_| ())
    }

    /// The title and whether replica migration is allowed; `None` where `CONFIG` is not allowed.
    async fn settings(&self, address: &str) -> Result<Option<(String, bool)>, DriverError> {
        let mut cmd = redis::cmd("CONFIG");
        cmd.arg("GET").arg(TITLE).arg(MIGRATION);
        let answer = match self.ask(address, &cmd).await {
            Ok(Value::Array(answer)) => answer,
            Ok(Value::Map(pairs)) => pairs.into_iter().flat_map(|(k, v)| [k, v]).collect(),
            Err(error) if error.retry == Retry::Permanent => return Ok(None),
            Err(error) => return Err(error),
            Ok(_) => return Ok(None),
        };
        let words: Vec<String> = answer.into_iter().map(text).collect();
        let value = |name: &str| words.chunks(2).find(|p| p[0] == name).and_then(|p| p.get(1).cloned());
        Ok(value(TITLE).zip(value(MIGRATION)).map(|(title, allowed)| (title, allowed == "yes")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_two_migrations_stand_side_by_side_and_leave_the_title_as_it_was() {
        let own = "{title} {listen-addr} {server-mode}";
        let a = Mark { name: "fs_aa".into(), allowed: true, made_replica: false };
        let b = Mark { name: "fs_bb".into(), allowed: true, made_replica: true };
        let title = join(own, &[a.clone(), b.clone()]);
        assert_eq!(split(&title), (own.to_string(), vec![a, b]));
        assert_eq!(join(&split(own).0, &[]), own);
    }
}
