//! Messages that wait on disk until every receiver has taken them. One file a message, named by its
//! sequence, the time it was made and how many readings it has, so that nothing but names is read at
//! the start. What becomes too old or too much is dropped, oldest first, and counted.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::AgentError;
use crate::fleet::{Bytes, Span, Timestamp};
use crate::protocol::AgentMessage;

/// The folder and what waits in it.
pub struct Spool {
    folder: PathBuf,
    most: Bytes,
    oldest: Span,
    waiting: VecDeque<Entry>,
    bytes: u64,
    state: State,
}

/// A message that waits.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    sequence: u64,
    made: Timestamp,
    readings: u64,
    bytes: u64,
}

/// What has to be remembered over a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    /// Sequence of the next message.
    next: u64,
    /// Readings dropped so far.
    dropped: u64,
    /// By receiver: the last sequence that it took.
    taken: BTreeMap<String, u64>,
}

impl Spool {
    /// Opens the folder, with what waits there since an earlier run.
    ///
    /// # Errors
    /// Where it cannot be written to.
    pub fn open(folder: &Path, most: Bytes, oldest: Span, now: Timestamp) -> Result<Self, AgentError> {
        let failed = |e: std::io::Error| AgentError::Spool {
            path: folder.display().to_string(),
            detail: e.to_string(),
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut waiting: Vec<Entry> =
            std::fs::read_dir(folder).map_err(failed)?.flatten().filter_map(|e| Entry::of(&e)).collect();
        waiting.sort_by_key(|entry| entry.sequence);
        let saved = std::fs::read(folder.join("state.json")).ok();
        let mut state: State = saved.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        // A spool that was lost must not begin below what receivers have seen: time only grows.
        let begin = u64::try_from(now.0).unwrap_or(1).max(1);
        let behind = waiting.last().map_or(0, |entry| entry.sequence + 1);
        state.next = if state.next == 0 { begin.max(behind) } else { state.next.max(behind) };
        let bytes = waiting.iter().map(|entry| entry.bytes).sum();
        let spool = Self { folder: folder.into(), most, oldest, waiting: waiting.into(), bytes, state };
        spool.save().map_err(failed)?;
        Ok(spool)
    }

    /// Readings dropped so far.
    pub fn dropped(&self) -> u64 {
        self.state.dropped
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Numbers the message and keeps it; drops what has become too old or too much.
    ///
    /// # Errors
    /// Where the disk does not take it; its readings are counted as dropped then.
    pub fn keep(&mut self, mut message: AgentMessage) -> std::io::Result<()> {
        self.drop_old(message.sent);
        message.sequence = self.state.next;
        message.dropped = self.state.dropped;
        self.state.next += 1;
        let body = serde_json::to_vec(&message)?;
        let entry = Entry {
            sequence: message.sequence,
            made: message.sent,
            readings: message.readings.len() as u64,
            bytes: body.len() as u64,
        };
        let written = write_whole(&self.folder.join(entry.name()), &body);
        match &written {
            Ok(()) => {
                self.bytes += entry.bytes;
                self.waiting.push_back(entry);
            }
            Err(_) => self.state.dropped += entry.readings,
        }
        while self.bytes > self.most.0 && self.waiting.len() > 1 {
            self.drop_oldest();
        }
        let _ = self.save();
        written
    }

    /// The oldest message that this receiver has not taken yet. One that cannot be read is dropped
    /// and counted.
    pub fn next_for(&mut self, receiver: &str) -> Option<AgentMessage> {
        loop {
            let taken = self.state.taken.get(receiver).copied().unwrap_or(0);
            let entry = *self.waiting.iter().find(|entry| entry.sequence > taken)?;
            let body = std::fs::read(self.folder.join(entry.name())).ok();
            match body.and_then(|body| serde_json::from_slice(&body).ok()) {
                Some(message) => return Some(message),
                None => {
                    tracing::warn!(sequence = entry.sequence, "a waiting message cannot be read; dropped");
                    self.state.dropped += entry.readings;
                    self.remove(entry.sequence);
                }
            }
        }
    }

    /// This receiver took the message; it goes when all of `receivers` have.
    pub fn taken(&mut self, receiver: &str, sequence: u64, receivers: &[String]) {
        self.state.taken.insert(receiver.to_string(), sequence);
        self.state.taken.retain(|name, _| receivers.contains(name));
        let by_all =
            receivers.iter().map(|name| self.state.taken.get(name).copied().unwrap_or(0)).min().unwrap_or(0);
        while self.waiting.front().is_some_and(|entry| entry.sequence <= by_all) {
            let sequence = self.waiting[0].sequence;
            self.remove(sequence);
        }
        let _ = self.save();
    }

    /// This receiver refused the message for good: its readings are counted as dropped.
    pub fn refused(&mut self, receiver: &str, message: &AgentMessage, receivers: &[String]) {
        self.state.dropped += message.readings.len() as u64;
        self.taken(receiver, message.sequence, receivers);
    }

    fn drop_old(&mut self, now: Timestamp) {
        while self.waiting.front().is_some_and(|entry| entry.made < now - self.oldest) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(entry) = self.waiting.front().copied() {
            self.state.dropped += entry.readings;
            self.remove(entry.sequence);
        }
    }

    fn remove(&mut self, sequence: u64) {
        if let Some(index) = self.waiting.iter().position(|entry| entry.sequence == sequence)
            && let Some(entry) = self.waiting.remove(index)
        {
            self.bytes -= entry.bytes;
            let _ = std::fs::remove_file(self.folder.join(entry.name()));
        }
    }

    fn save(&self) -> std::io::Result<()> {
        write_whole(&self.folder.join("state.json"), &serde_json::to_vec(&self.state)?)
    }
}

impl Entry {
    fn name(&self) -> String {
        format!("{:020}-{}-{}.message", self.sequence, self.made.0, self.readings)
    }

    fn of(file: &std::fs::DirEntry) -> Option<Self> {
        let name = file.file_name();
        let mut parts = name.to_str()?.strip_suffix(".message")?.split('-');
        Some(Self {
            sequence: parts.next()?.parse().ok()?,
            made: Timestamp(parts.next()?.parse().ok()?),
            readings: parts.next()?.parse().ok()?,
            bytes: file.metadata().ok()?.len(),
        })
    }
}

/// A file is there whole or not at all.
fn write_whole(path: &Path, body: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, body)?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{AgentReading, AgentState};

    const HOUR: i64 = 3_600_000;

    fn message(sent: i64) -> AgentMessage {
        let reading =
            AgentReading { at: Timestamp(sent), partition: String::new(), metrics: BTreeMap::new() };
        AgentMessage {
            version: 1,
            host: "h".into(),
            sequence: 0,
            sent: Timestamp(sent),
            state: AgentState::Running,
            labels: BTreeMap::new(),
            partitions: Vec::new(),
            readings: vec![reading; 6],
            dropped: 0,
        }
    }

    fn open(folder: &Path, now: i64) -> Spool {
        Spool::open(folder, Bytes(1 << 20), Span::hours(24), Timestamp(now)).unwrap()
    }

    #[test]
    fn messages_wait_over_a_restart_and_go_when_every_receiver_took_them() {
        let folder = tempfile::tempdir().unwrap();
        let both = ["a".to_string(), "b".to_string()];
        let mut spool = open(folder.path(), 1000);
        (0..3).for_each(|i| spool.keep(message(i)).unwrap());
        assert_eq!(spool.next_for("a").unwrap().sequence, 1000);
        spool.taken("a", 1000, &both);
        drop(spool);
        let mut spool = open(folder.path(), 5);
        assert_eq!(
            (spool.next_for("a").unwrap().sequence, spool.next_for("b").unwrap().sequence),
            (1001, 1000)
        );
        spool.taken("b", 1000, &both);
        assert_eq!(spool.len(), 2);
        for sequence in [1001, 1002] {
            spool.taken("a", sequence, &both);
            spool.taken("b", sequence, &both);
        }
        assert!(spool.is_empty() && spool.next_for("a").is_none());
        spool.keep(message(9)).unwrap();
        assert_eq!(spool.next_for("b").unwrap().sequence, 1003, "a sequence is never used twice");
    }

    #[test]
    fn what_is_too_old_or_too_much_is_dropped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path(), 1);
        spool.keep(message(0)).unwrap();
        spool.keep(message(23 * HOUR)).unwrap();
        spool.keep(message(25 * HOUR)).unwrap();
        assert_eq!((spool.len(), spool.dropped()), (2, 6));
        assert_eq!(spool.next_for("a").unwrap().sequence, 2);
        let mut newest = None;
        while let Some(m) = spool.next_for("a") {
            newest = Some(m.dropped);
            spool.taken("a", m.sequence, &["a".to_string()]);
        }
        assert_eq!(newest, Some(6), "the message says what was dropped");

        let mut small = Spool::open(folder.path(), Bytes(1500), Span::hours(24), Timestamp(1)).unwrap();
        (0..9).for_each(|i| small.keep(message(25 * HOUR + i)).unwrap());
        assert!(small.len() < 9 && small.dropped() > 6);
        assert!(std::fs::read_dir(folder.path()).unwrap().count() <= small.len() + 1, "files go, too");
    }

    #[test]
    fn a_message_that_was_cut_short_is_dropped_and_the_others_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path(), 1);
        (0..2).for_each(|i| spool.keep(message(i)).unwrap());
        let first = std::fs::read_dir(folder.path())
            .unwrap()
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "message"))
            .min()
            .unwrap();
        std::fs::write(first, "{").unwrap();
        assert_eq!(spool.next_for("a").unwrap().sequence, 2);
        assert_eq!(spool.dropped(), 6);
    }
}
