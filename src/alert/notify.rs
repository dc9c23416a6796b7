//! Tells webhooks of alerts: our own JSON, Slack's, or Alertmanager's. A bounded queue (256) stands
//! before each; what does not fit is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::board::{Alert, Event};
use crate::protocol::Severity;

/// Events that may wait for one target.
const QUEUE: usize = 256;
/// Tries of one event, with 1, 2, 4 … seconds between.
const TRIES: u32 = 5;

/// How an event is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Our own: `{"event": "raised", …}`.
    Plain,
    /// `{"text": "…"}`, as Slack and its like take it.
    Slack,
    /// Alertmanager's API v2: a list of alerts with labels.
    Alertmanager,
}

/// Who is told.
#[derive(Clone)]
pub struct Target {
    /// Where to; may hold a secret in its path and is never shown.
    pub url: String,
    /// How.
    pub format: Format,
    /// The `Authorization` header; never shown.
    pub authorization: Option<String>,
    /// Events below this are not sent.
    pub from: Severity,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({:?}, ***)", self.format)
    }
}

/// Sends events to all targets.
#[derive(Debug)]
pub struct Notifier {
    queues: Vec<mpsc::Sender<Event>>,
    dropped: Arc<AtomicU64>,
}

impl Notifier {
    /// Starts a task for each target.
    pub fn start(targets: Vec<Target>) -> Self {
        let dropped = Arc::new(AtomicU64::new(0));
        let queues = targets
            .into_iter()
            .map(|target| {
                let (sender, receiver) = mpsc::channel(QUEUE);
                tokio::spawn(serve(target, receiver, dropped.clone()));
                sender
            })
            .collect();
        Self { queues, dropped }
    }

    /// Hands an event to every target; never waits.
    pub fn tell(&self, event: &Event) {
        for queue in &self.queues {
            if queue.try_send(event.clone()).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Events that were dropped or could not be delivered.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

async fn serve(target: Target, mut events: mpsc::Receiver<Event>, dropped: Arc<AtomicU64>) {
    let Ok(http) = reqwest::Client::builder().timeout(Duration::from_secs(10)).build() else {
        tracing::error!("no HTTP client for alerts");
        return;
    };
    while let Some(event) = events.recv().await {
        if severity_of(&event) < target.from {
            continue;
        }
        let body = write(target.format, &event);
        let mut wait = Duration::from_secs(1);
        let mut delivered = false;
        for _ in 0..TRIES {
            let mut request = http.post(&target.url).json(&body);
            if let Some(authorization) = &target.authorization {
                request = request.header(reqwest::header::AUTHORIZATION, authorization);
            }
            match request.send().await {
                Ok(answer) if answer.status().is_success() => {
                    delivered = true;
                    break;
                }
                Ok(answer) if answer.status().is_client_error() => {
                    tracing::warn!(status = %answer.status(), "an alert target refused an alert");
                    break;
                }
                Ok(answer) => tracing::warn!(status = %answer.status(), "an alert target is in trouble"),
                Err(error) => {
                    tracing::warn!(error = %error.without_url(), "an alert target does not answer");
                }
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        if !delivered {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn severity_of(event: &Event) -> Severity {
    match event {
        Event::Raised(alert) | Event::Happened(alert) | Event::Cleared { alert, .. } => alert.severity,
    }
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// The body for one event.
fn write(format: Format, event: &Event) -> Value {
    let (alert, ended): (&Alert, _) = match event {
        Event::Raised(alert) => (alert, None),
        Event::Happened(alert) => (alert, Some(alert.at)),
        Event::Cleared { alert, at } => (alert, Some(*at)),
    };
    let time = |at: crate::fleet::Timestamp| {
        jiff::Timestamp::from_millisecond(at.millis()).map(|t| t.to_string()).unwrap_or_default()
    };
    match format {
        Format::Plain => json!(event),
        Format::Slack => {
            let what = if matches!(event, Event::Cleared { .. }) { "cleared: " } else { "" };
            let word = severity_word(alert.severity);
            json!({ "text": format!("[{word}] {what}{}: {}", alert.subject, alert.text) })
        }
        Format::Alertmanager => {
            let mut one = json!({
                "labels": {
                    "alertname": format!("foreshift_{}", alert.topic),
                    "severity": severity_word(alert.severity),
                    "subject": alert.subject,
                },
                "annotations": { "summary": alert.text },
                "startsAt": time(alert.at),
            });
            if let Some(at) = ended {
                one["endsAt"] = json!(time(at));
            }
            json!([one])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Timestamp;

    #[test]
    fn a_cleared_alert_ends_in_alertmanager() {
        let alert = Alert {
            at: Timestamp(0),
            severity: Severity::Critical,
            subject: "h/p".into(),
            topic: "predictive_failure".into(),
            text: "fails".into(),
        };
        let body = write(Format::Alertmanager, &Event::Cleared { alert: alert.clone(), at: Timestamp(1000) });
        assert_eq!(body[0]["endsAt"], "1970-01-01T00:00:01Z");
        let body = write(Format::Slack, &Event::Raised(alert));
        assert_eq!(body["text"], "[critical] h/p: fails");
    }
}
