//! The board of open alerts: one a subject and topic; raised again it keeps its start.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fleet::Timestamp;
use crate::protocol::{AlertView, Severity};

/// How many closed alerts are not kept: none. How many open ones are shown at most; what is beyond
/// is counted in the last one's text.
const SHOWN: usize = 500;

/// One open alert.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Alert {
    /// Since.
    pub at: Timestamp,
    /// How bad.
    pub severity: Severity,
    /// What it is about.
    pub subject: String,
    /// What kind: `predictive_failure`, `source`, `migration`, `storm`.
    pub topic: String,
    /// In a sentence.
    pub text: String,
}

/// What notifiers are told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// Newly open, or worse than before.
    Raised(Alert),
    /// No longer so.
    Cleared {
        /// The alert.
        alert: Alert,
        /// When.
        at: Timestamp,
    },
    /// Something that happened and does not stay open.
    Happened(Alert),
}

/// The board.
#[derive(Clone, Debug, Default)]
pub struct Board {
    open: BTreeMap<(String, String), Alert>,
    events: Vec<Event>,
}

impl Board {
    /// Opens an alert or refreshes its text; tells of it when it is new or got worse.
    pub fn raise(&mut self, now: Timestamp, severity: Severity, subject: &str, topic: &str, text: String) {
        let key = (subject.to_string(), topic.to_string());
        let before = self.open.get(&key);
        let worse = before.is_none_or(|b| severity > b.severity);
        let at = before.map_or(now, |b| b.at);
        let alert = Alert { at, severity, subject: key.0.clone(), topic: key.1.clone(), text };
        if worse {
            self.events.push(Event::Raised(alert.clone()));
        }
        self.open.insert(key, alert);
    }

    /// Closes an alert, if it is open.
    pub fn clear(&mut self, now: Timestamp, subject: &str, topic: &str) {
        if let Some(alert) = self.open.remove(&(subject.to_string(), topic.to_string())) {
            self.events.push(Event::Cleared { alert, at: now });
        }
    }

    /// Tells of something that does not stay open.
    pub fn tell(&mut self, now: Timestamp, severity: Severity, subject: &str, topic: &str, text: String) {
        self.events.push(Event::Happened(Alert {
            at: now,
            severity,
            subject: subject.to_string(),
            topic: topic.to_string(),
            text,
        }));
    }

    /// Subjects with an open alert of that topic.
    pub fn subjects(&self, topic: &str) -> Vec<String> {
        self.open.values().filter(|a| a.topic == topic).map(|a| a.subject.clone()).collect()
    }

    /// What is to be told since the last call, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Open alerts, worst first, then newest.
    pub fn view(&self) -> Vec<AlertView> {
        let mut all: Vec<&Alert> = self.open.values().collect();
        all.sort_by(|a, b| b.severity.cmp(&a.severity).then(b.at.cmp(&a.at)));
        let beyond = all.len().saturating_sub(SHOWN);
        let mut views: Vec<AlertView> = all
            .into_iter()
            .take(SHOWN)
            .map(|a| AlertView {
                at: a.at,
                severity: a.severity,
                subject: a.subject.clone(),
                text: a.text.clone(),
            })
            .collect();
        if let (true, Some(last)) = (beyond > 0, views.last_mut()) {
            last.text = format!("{} (and {beyond} more)", last.text);
        }
        views
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_told_once_and_again_when_it_gets_worse() {
        let mut board = Board::default();
        board.raise(Timestamp(1), Severity::Warning, "h/p", "health", "low".into());
        board.raise(Timestamp(2), Severity::Warning, "h/p", "health", "lower".into());
        assert_eq!(board.take_events().len(), 1);
        board.raise(Timestamp(3), Severity::Critical, "h/p", "health", "lowest".into());
        assert!(matches!(&board.take_events()[..], [Event::Raised(a)] if a.at == Timestamp(1)));
        board.clear(Timestamp(4), "h/p", "health");
        board.clear(Timestamp(5), "h/p", "health");
        assert_eq!(board.take_events().len(), 1);
        assert!(board.view().is_empty());
    }
}
