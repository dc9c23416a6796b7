//! The board of open alerts: one a subject and topic; raised again it keeps its start.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fleet::{Span, Timestamp};
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

/// An alert on the board.
#[derive(Clone, Debug)]
struct Open {
    alert: Alert,
    /// When it was last raised.
    seen: Timestamp,
}

/// The board.
#[derive(Clone, Debug, Default)]
pub struct Board {
    open: BTreeMap<(String, String), Open>,
    events: Vec<Event>,
}

impl Board {
    /// Opens an alert or refreshes its text; tells of it when it is new or got worse.
    pub fn raise(&mut self, now: Timestamp, severity: Severity, subject: &str, topic: &str, text: String) {
        self.open(now, severity, (subject, topic), text, false);
    }

    /// The same for what may happen again while it is open: other words are told too.
    pub fn raise_again(
        &mut self,
        now: Timestamp,
        severity: Severity,
        subject: &str,
        topic: &str,
        text: String,
    ) {
        self.open(now, severity, (subject, topic), text, true);
    }

    fn open(
        &mut self,
        now: Timestamp,
        severity: Severity,
        (subject, topic): (&str, &str),
        text: String,
        words_too: bool,
    ) {
        let key = (subject.to_string(), topic.to_string());
        let before = self.open.get(&key);
        let worse = before.is_none_or(|b| severity > b.alert.severity || (words_too && text != b.alert.text));
        let at = before.map_or(now, |b| b.alert.at);
        let alert = Alert { at, severity, subject: key.0.clone(), topic: key.1.clone(), text };
        if worse {
            self.events.push(Event::Raised(alert.clone()));
        }
        self.open.insert(key, Open { alert, seen: now });
    }

    /// Puts an alert that is open into other words; nobody is told again.
    pub fn reword(&mut self, subject: &str, topic: &str, text: impl FnOnce() -> String) {
        if let Some(open) = self.open.get_mut(&(subject.to_string(), topic.to_string())) {
            open.alert.text = text();
        }
    }

    /// Closes an alert, if it is open.
    pub fn clear(&mut self, now: Timestamp, subject: &str, topic: &str) {
        if let Some(Open { alert, .. }) = self.open.remove(&(subject.to_string(), topic.to_string())) {
            self.events.push(Event::Cleared { alert, at: now });
        }
    }

    /// Closes the alerts of a topic that were not raised for that long: what comes and goes from cycle to cycle
    /// stays open, and is told once.
    pub fn fade(&mut self, now: Timestamp, topic: &str, after: Span) {
        let faded = |open: &Open| open.alert.topic == topic && now - open.seen > after;
        let gone: Vec<String> =
            self.open.values().filter(|o| faded(o)).map(|o| o.alert.subject.clone()).collect();
        for subject in gone {
            self.clear(now, &subject, topic);
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

    /// The words of an alert that is open.
    pub fn text(&self, subject: &str, topic: &str) -> Option<&str> {
        self.open.get(&(subject.to_string(), topic.to_string())).map(|open| open.alert.text.as_str())
    }

    /// Subjects with an open alert of that topic.
    pub fn subjects(&self, topic: &str) -> Vec<String> {
        self.open.values().map(|o| &o.alert).filter(|a| a.topic == topic).map(|a| a.subject.clone()).collect()
    }

    /// What is to be told since the last call, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Open alerts, worst first, then newest.
    pub fn view(&self) -> Vec<AlertView> {
        let mut all: Vec<&Alert> = self.open.values().map(|o| &o.alert).collect();
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

    #[test]
    fn what_comes_and_goes_stays_open_and_what_stays_away_is_closed() {
        let mut board = Board::default();
        let (after, minute) = (Span::minutes(2), 60_000);
        for at in (0..10).map(|i| i * minute) {
            if at % (2 * minute) == 0 {
                board.raise(Timestamp(at), Severity::Warning, "h", "plan", "no room".into());
            }
            board.fade(Timestamp(at), "plan", after);
        }
        board.raise(Timestamp(9 * minute), Severity::Info, "h", "other", "goes on".into());
        assert_eq!(board.take_events().len(), 2, "told once each");
        board.fade(Timestamp(12 * minute), "plan", after);
        assert!(
            matches!(&board.take_events()[..], [Event::Cleared { alert, .. }] if alert.text == "no room")
        );
        assert_eq!(board.subjects("other"), ["h"]);
    }

    #[test]
    fn other_words_are_shown_and_not_told() {
        let mut board = Board::default();
        board.raise(Timestamp(1), Severity::Critical, "h/p", "failing", "disk".into());
        board.take_events();
        board.reword("h/p", "failing", || "memory".into());
        board.reword("h/q", "failing", || unreachable!());
        assert_eq!((board.view()[0].text.as_str(), board.view()[0].at), ("memory", Timestamp(1)));
        assert!(board.take_events().is_empty());
    }
}
