//! What people are told of partitions, of hosts and of the engine itself. What is open says what is so now: with each
//! cycle its words are those of the cycle, and what is not there any more is closed.

use std::collections::{BTreeSet, HashMap};

use super::brain::Transition;
use super::core::Core;
use super::failures::{Failure, Label, Origin};
use super::presence::ABSENT;
use crate::fleet::{HostId, PartitionId, PredictionState, Timestamp};
use crate::predict::Assessment;
use crate::protocol::Severity;
use crate::state::StoreError;

const EXPECTED: &str = "is expected to fail";
const WATCHED: &str = "is watched closely";
pub(super) const SILENT: &str = "sends no data young enough to say anything";

/// The two largest reasons, in words.
fn reasons(of: &Assessment) -> String {
    of.why_health.iter().take(2).map(|c| c.words.clone()).collect::<Vec<_>>().join(", ")
}

impl Core {
    /// The store failed: nothing is acted on until it works, and everybody is told.
    pub fn store_failed(&mut self, error: &StoreError, now: Timestamp) {
        tracing::error!(%error, "the store failed");
        self.alerts.raise(now, Severity::Critical, "engine", "store", error.to_string());
    }

    /// The store works again.
    pub fn store_works(&mut self, now: Timestamp) {
        self.alerts.clear(now, "engine", "store");
    }

    /// What the predictions say now that they did not before.
    pub(super) fn note_transitions(&mut self, transitions: &[Transition], now: Timestamp) {
        for t in transitions {
            let because = self.because(&t.partition);
            self.event(&t.partition, now, format!("{} → {}", t.from.word(), t.to.word()));
            if self.is_retired(&t.partition) {
                continue;
            }
            let subject = t.partition.as_str();
            match t.to {
                PredictionState::PredictiveFailure => {
                    tracing::warn!(partition = subject, %because, "predictive failure");
                    let text = format!("{EXPECTED}: {because}");
                    self.alerts.raise(now, Severity::Critical, subject, "predictive_failure", text);
                    self.alerts.clear(now, subject, "suspect");
                }
                PredictionState::Suspect => {
                    tracing::info!(partition = subject, %because, "suspect");
                    let text = format!("{WATCHED}: {because}");
                    self.alerts.raise(now, Severity::Warning, subject, "suspect", text);
                    self.alerts.clear(now, subject, "predictive_failure");
                }
                PredictionState::Unknown => {
                    self.alerts.raise(now, Severity::Warning, subject, "unknown", SILENT.into());
                }
                PredictionState::Evacuating => {}
                _ => {
                    self.alerts.clear(now, subject, "predictive_failure");
                    self.alerts.clear(now, subject, "suspect");
                }
            }
            if t.to != PredictionState::Unknown {
                self.alerts.clear(now, subject, "unknown");
            }
        }
    }

    /// What was silent when the engine began is told like what goes silent later, once it had the time to
    /// send something.
    pub(super) fn note_never_known(&mut self, now: Timestamp) {
        let patience = self.brain.assessor().options().max_age;
        for (partition, seen) in self.brain.never_known(patience, now) {
            if self.is_retired(&partition) {
                continue;
            }
            let text = match seen {
                Some(seen) => format!("{SILENT}: the newest is {} old", seen.age(now)),
                None => format!("{SILENT}: none was ever seen"),
            };
            self.alerts.raise(now, Severity::Warning, partition.as_str(), "unknown", text);
        }
    }

    /// What is open of partitions says why it is so now; of those that are not there any more nothing is open.
    pub(super) fn keep_alerts_true(&mut self, now: Timestamp) {
        let mut open = BTreeSet::new();
        for topic in ["predictive_failure", "suspect", "unknown", ABSENT] {
            for subject in self.alerts.subjects(topic) {
                match self.topology().partition(&PartitionId::from(subject.as_str())) {
                    Some(_) => _ = open.insert(subject),
                    None => self.alerts.clear(now, &subject, topic),
                }
            }
        }
        if open.is_empty() {
            return;
        }
        let assessments = self.brain.assessor().assessments();
        let fresh: Vec<(String, String)> = assessments
            .iter()
            .filter(|a| open.contains(a.partition.as_str()))
            .map(|a| (a.partition.to_string(), reasons(a)))
            .filter(|(_, why)| !why.is_empty())
            .collect();
        for (subject, why) in fresh {
            self.alerts.reword(&subject, "predictive_failure", || format!("{EXPECTED}: {why}"));
            self.alerts.reword(&subject, "suspect", || format!("{WATCHED}: {why}"));
        }
    }

    fn because(&self, partition: &PartitionId) -> String {
        let assessments = self.brain.assessor().assessments();
        assessments.iter().find(|a| &a.partition == partition).map(reasons).unwrap_or_default()
    }

    /// Records a failure; the predictions learn of it in the next cycle.
    ///
    /// # Errors
    /// As every call of the store.
    pub(super) async fn record(&mut self, failure: Failure) -> Result<u64, StoreError> {
        let store = self.store.clone();
        self.failures.add(&*store, failure).await
    }

    /// Notes which hosts are silent, and which partitions their agents do not find: a lost heartbeat is a failure of
    /// the host, a partition that is absent one of its own, each once.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn note_heartbeats(
        &mut self,
        beats: &HashMap<HostId, super::intake::Heartbeat>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for (host, beat) in beats {
            let stopping = beat.state == crate::protocol::AgentState::Stopping;
            let lost = beat.arrived.age(now) > self.options.heartbeat_lost;
            if lost && self.is_host_retired(host) {
                // Switched off on purpose: no failure to learn from, also when it is taken back.
                self.silent.insert(host.clone());
            } else if lost && !stopping && self.silent.insert(host.clone()) {
                let cause = format!("heartbeat lost: silent for {}", beat.arrived.age(now));
                self.alerts.raise(now, Severity::Critical, host.as_str(), "heartbeat", cause.clone());
                let (label, origin) = (Label::Failed, Origin::Heartbeat);
                let subject = host.as_str().to_string();
                self.record(Failure { number: 0, at: beat.arrived, subject, cause, label, origin }).await?;
            } else if !lost && self.silent.remove(host) {
                self.alerts.clear(now, host.as_str(), "heartbeat");
            }
            if !lost {
                self.note_presence(host, beat, now).await?;
            }
        }
        self.presence.from_the_future = beats.values().map(|beat| beat.from_the_future).sum();
        Ok(())
    }
}
