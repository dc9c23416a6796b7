//! Takes agents' messages: each once, into the embedded store, with the heartbeat noted. The
//! message is the heartbeat: a host that is silent, or reports a partition absent, is known by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::fleet::{Clock, HostId, PartitionId, Timestamp};
use crate::protocol::{AgentMessage, AgentState, Intake, Refusal, Taken};
use crate::telemetry::embedded::{Batch, EmbeddedStore};

/// The metrics of one moment.
type Row<'a> = (Timestamp, Vec<(&'a str, f32)>);

/// The message format that is understood.
pub const VERSION: u32 = 1;

/// What is known of a host's agent.
#[derive(Clone, PartialEq, Debug)]
pub struct Heartbeat {
    /// When its last message was sent.
    pub sent: Timestamp,
    /// When it arrived.
    pub arrived: Timestamp,
    /// What the agent is doing.
    pub state: AgentState,
    /// Sequence of its last message.
    pub sequence: u64,
    /// Partitions that it reported absent.
    pub absent: Vec<PartitionId>,
    /// Readings that the agent had to drop so far.
    pub dropped: u64,
}

/// The intake over an embedded store.
pub struct EmbeddedIntake {
    store: EmbeddedStore,
    clock: Arc<dyn Clock>,
    heartbeats: Mutex<HashMap<HostId, Heartbeat>>,
}

impl EmbeddedIntake {
    /// Messages go into `store`.
    pub fn new(store: EmbeddedStore, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, heartbeats: Mutex::default() }
    }

    /// What is known of every host's agent.
    pub fn heartbeats(&self) -> HashMap<HostId, Heartbeat> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<HostId, Heartbeat>> {
        self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store_readings(&self, message: &AgentMessage) -> Result<u64, Refusal> {
        let mut rows: HashMap<&str, Vec<Row<'_>>> = HashMap::new();
        for reading in &message.readings {
            let metrics = reading.metrics.iter().map(|(name, value)| (name.as_str(), *value as f32));
            rows.entry(reading.partition.as_str()).or_default().push((reading.at, metrics.collect()));
        }
        let mut batches: Vec<(PartitionId, Batch)> = rows
            .into_iter()
            .map(|(part, rows)| (PartitionId::of(&message.host, part), Batch::from_rows(rows)))
            .collect();
        batches.sort_by(|a, b| a.0.cmp(&b.0));
        let refuse = |e: &dyn std::fmt::Display| Refusal::Unreachable { detail: e.to_string() };
        let appended = self.store.append_many(&batches).map_err(|e| refuse(&e))?;
        for (key, value) in &message.labels {
            self.store.put_label(&message.host, key, value).map_err(|e| refuse(&e))?;
        }
        Ok(appended.samples)
    }
}

#[async_trait]
impl Intake for EmbeddedIntake {
    async fn take(&self, message: AgentMessage) -> Result<Taken, Refusal> {
        if message.version != VERSION {
            return Err(Refusal::NotNow {
                reason: format!(
                    "agent message version {} of {}: this engine reads version {VERSION}",
                    message.version, message.host
                ),
            });
        }
        // A lower sequence that was sent later comes from an agent that began anew.
        let known = self.lock().get(&message.host).map(|h| (h.sequence, h.sent));
        if let Some((sequence, sent)) = known
            && message.sequence <= sequence
            && message.sent <= sent
        {
            return Ok(Taken { readings: 0, next_sequence: sequence + 1 });
        }
        let readings = self.store_readings(&message)?;
        let absent = message
            .partitions
            .iter()
            .filter(|p| !p.present)
            .map(|p| PartitionId::of(&message.host, &p.partition))
            .collect();
        let heartbeat = Heartbeat {
            sent: message.sent,
            arrived: self.clock.now(),
            state: message.state,
            sequence: message.sequence,
            absent,
            dropped: message.dropped,
        };
        let next_sequence = message.sequence + 1;
        self.lock().insert(message.host, heartbeat);
        Ok(Taken { readings, next_sequence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::ManualClock;
    use crate::protocol::AgentReading;

    fn message(sequence: u64) -> AgentMessage {
        AgentMessage {
            version: VERSION,
            host: "h1".into(),
            sequence,
            sent: Timestamp(60_000),
            state: AgentState::Running,
            labels: [("rack".to_string(), "r1".to_string())].into(),
            partitions: Vec::new(),
            readings: vec![AgentReading {
                at: Timestamp(55_000),
                partition: "p1".into(),
                metrics: [("cpu.busy".to_string(), 12.5)].into(),
            }],
            dropped: 0,
        }
    }

    #[tokio::test]
    async fn a_message_sent_twice_is_stored_once() {
        let store = EmbeddedStore::in_memory().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp(61_000)));
        let intake = EmbeddedIntake::new(store.clone(), clock);
        assert_eq!(intake.take(message(1)).await.unwrap(), Taken { readings: 1, next_sequence: 2 });
        assert_eq!(intake.take(message(1)).await.unwrap(), Taken { readings: 0, next_sequence: 2 });
        let history = store.history(&"h1/p1".into(), "cpu.busy", Timestamp(0), Timestamp(100_000)).unwrap();
        assert_eq!(history, [(Timestamp(55_000), 12.5)]);
        assert_eq!(intake.heartbeats()[&HostId::from("h1")].sequence, 1);
    }
}
