//! The log of one migration as a screen shows it: the newest records, put into words only when
//! somebody looks. What was written before a restart is kept as the store has it until then.

use std::collections::VecDeque;
use std::sync::OnceLock;

use crate::fleet::{Phase, Timestamp};
use crate::migrate::journal::{Note, Record, Verdict};
use crate::state::Entry;

/// Lines that are kept.
const LINES: usize = 50;

/// The log of one migration.
#[derive(Default)]
pub(super) struct Log {
    /// Newest first.
    fresh: VecDeque<Record>,
    /// As read from the store, oldest first.
    old: Vec<Entry>,
    /// `old` in words, newest first, once somebody looked.
    read: OnceLock<Vec<(Timestamp, String)>>,
    /// What was seen of steps in records before `old`: name and words, in order.
    before: Vec<(String, String)>,
    /// The same with `old`, once somebody looked.
    seen: OnceLock<Vec<(String, String)>>,
}

/// Takes in what a record says was seen of a step that was done; another attempt begins with nothing seen.
fn see(entry: &Entry, seen: &mut Vec<(String, String)>) {
    match Record::read(&entry.value).map(|record| record.note) {
        Ok(Note::Outcome { step, result: Verdict::Applied, evidence, .. }) if !evidence.is_empty() => {
            seen.push((step, evidence));
        }
        Ok(Note::State { to: Phase::Approved, .. }) => seen.clear(),
        _ => {}
    }
}

impl Log {
    /// What the store has, oldest first.
    pub(super) fn of_store(mut records: Vec<Entry>) -> Self {
        // Two records of three are shown, or more; the rest of an old journal is not kept.
        let surplus = records.len().saturating_sub(LINES * 4);
        let mut before = Vec::new();
        records.drain(..surplus).for_each(|entry| see(&entry, &mut before));
        Self { old: records, before, ..Self::default() }
    }

    /// What was seen of a step when it was last done before the migration was read from the store.
    pub(super) fn seen(&self, step: &str) -> Option<&str> {
        let all = self.seen.get_or_init(|| {
            let mut all = self.before.clone();
            self.old.iter().for_each(|entry| see(entry, &mut all));
            all
        });
        all.iter().rev().find(|(name, _)| name == step).map(|(_, words)| words.as_str())
    }

    /// Takes in what became durable, oldest first.
    pub(super) fn add(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            self.fresh.push_front(record);
        }
        self.fresh.truncate(LINES);
    }

    /// The lines, newest first.
    pub(super) fn lines(&self) -> Vec<(Timestamp, String)> {
        let old = self.read.get_or_init(|| {
            let read = |entry: &Entry| Record::read(&entry.value).ok();
            let shown = self.old.iter().rev().filter_map(read).filter(Record::is_shown);
            shown.take(LINES).map(|r| (r.at, r.words())).collect()
        });
        let fresh = self.fresh.iter().map(|r| (r.at, r.words()));
        fresh.chain(old.iter().cloned()).take(LINES).collect()
    }
}
