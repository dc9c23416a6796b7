//! Takes agents' messages: each once, into the embedded store, with the heartbeat noted. The
//! message is the heartbeat: a host that is silent, or reports a partition absent, is known by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::fleet::{Clock, HostId, PartitionId, Span, Timestamp};
use crate::protocol::{AgentMessage, AgentState, Intake, Refusal, Taken};
use crate::telemetry::WindowsConfig;
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
    /// Partitions that it reported present.
    pub present: Vec<PartitionId>,
    /// Partitions that it reported absent.
    pub absent: Vec<PartitionId>,
    /// Readings that the agent had to drop so far.
    pub dropped: u64,
    /// Readings refused so far because they were stamped later than they came.
    pub from_the_future: u64,
}

/// The intake over an embedded store.
pub struct EmbeddedIntake {
    store: EmbeddedStore,
    clock: Arc<dyn Clock>,
    /// How far a reading may be ahead of the engine's clock.
    max_skew: Span,
    heartbeats: Mutex<HashMap<HostId, Heartbeat>>,
}

impl EmbeddedIntake {
    /// Messages go into `store`.
    pub fn new(store: EmbeddedStore, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, max_skew: WindowsConfig::default().max_skew, heartbeats: Mutex::default() }
    }

    /// What is known of every host's agent.
    pub fn heartbeats(&self) -> HashMap<HostId, Heartbeat> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<HostId, Heartbeat>> {
        self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readings refused so far, of all hosts, because they were stamped later than they came.
    pub fn from_the_future(&self) -> u64 {
        self.lock().values().map(|beat| beat.from_the_future).sum()
    }

    /// Stores what was measured until now; a reading of the time to come would speak for a host that is silent by
    /// then. Says how many samples were stored, and how many readings refused.
    fn store_readings(&self, message: &AgentMessage, now: Timestamp) -> Result<(u64, u64), Refusal> {
        let mut rows: HashMap<&str, Vec<Row<'_>>> = HashMap::new();
        let mut refused = 0;
        for reading in &message.readings {
            if reading.at > now + self.max_skew {
                refused += 1;
                continue;
            }
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
        Ok((appended.samples, refused))
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
        let known = self.lock().get(&message.host).map(|h| (h.sequence, h.sent, h.from_the_future));
        let refused_before = known.map_or(0, |(_, _, refused)| refused);
        if let Some((sequence, sent, _)) = known
            && message.sequence <= sequence
            && message.sent <= sent
        {
            return Ok(Taken { readings: 0, from_the_future: 0, next_sequence: sequence + 1 });
        }
        let arrived = self.clock.now();
        let (readings, from_the_future) = self.store_readings(&message, arrived)?;
        if from_the_future > 0 && refused_before == 0 {
            let host = message.host.as_str();
            tracing::warn!(
                host,
                from_the_future,
                "readings of the time to come are refused: set the host's clock"
            );
        }
        let named = |present: bool| {
            let beats = message.partitions.iter().filter(move |p| p.present == present);
            beats.map(|p| PartitionId::of(&message.host, &p.partition)).collect()
        };
        let heartbeat = Heartbeat {
            sent: message.sent,
            arrived,
            state: message.state,
            sequence: message.sequence,
            present: named(true),
            absent: named(false),
            dropped: message.dropped,
            from_the_future: refused_before + from_the_future,
        };
        let next_sequence = message.sequence + 1;
        self.lock().insert(message.host, heartbeat);
        Ok(Taken { readings, from_the_future, next_sequence })
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
        assert_eq!(
            intake.take(message(1)).await.unwrap(),
            Taken { readings: 1, from_the_future: 0, next_sequence: 2 }
        );
        assert_eq!(
            intake.take(message(1)).await.unwrap(),
            Taken { readings: 0, from_the_future: 0, next_sequence: 2 }
        );
        let history = store.history(&"h1/p1".into(), "cpu.busy", Timestamp(0), Timestamp(100_000)).unwrap();
        assert_eq!(history, [(Timestamp(55_000), 12.5)]);
        assert_eq!(intake.heartbeats()[&HostId::from("h1")].sequence, 1);
    }

    #[tokio::test]
    async fn readings_of_the_time_to_come_do_not_speak_for_a_host_that_fell_silent() {
        use crate::telemetry::{Source, Windows};
        let store = EmbeddedStore::in_memory().unwrap();
        let now = Timestamp(1_767_571_200_000);
        let intake = EmbeddedIntake::new(store.clone(), Arc::new(ManualClock::at(now)));
        let at = |seconds: i64| AgentReading {
            at: now + Span::seconds(seconds),
            partition: "p1".into(),
            metrics: [("cpu.busy".to_string(), 12.5)].into(),
        };
        let readings: Vec<AgentReading> = (-120..=120).map(|n| at(n * 30)).collect();
        let taken = intake.take(AgentMessage { sent: now, readings, ..message(1) }).await.unwrap();
        // A minute ahead is a clock as clocks are.
        assert_eq!((taken.readings, taken.from_the_future), (123, 118));
        assert_eq!(intake.from_the_future(), 118);
        let later = now + Span::minutes(10);
        let mut windows = Windows::new(WindowsConfig::default(), later);
        store.pull(now - Span::hours(1), later, &mut windows).await.unwrap();
        let series = windows.intern(&"h1/p1".into());
        let newest = windows.last_seen(series).unwrap();
        assert_eq!(newest, now + Span::minutes(1), "ten minutes later nothing is newer");
        // The next message goes on counting.
        let next = AgentMessage { sent: later, readings: vec![at(3_600)], ..message(2) };
        assert_eq!(intake.take(next).await.unwrap().from_the_future, 1);
        assert_eq!(intake.from_the_future(), 119);
    }
}
