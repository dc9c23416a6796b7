//! Who takes the messages: engines as JSON, or an InfluxDB as line protocol. Each has a task of its
//! own, so that one that hangs holds up neither the others nor the collecting.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use tokio::sync::Notify;

use super::AgentError;
use super::spool::Spool;
use crate::config::{AgentSink, Config, Revealed, Secret as Kept, Telemetry, TelemetrySource};
use crate::fleet::Span;
use crate::protocol::{AgentMessage, Taken};
use crate::telemetry::influx::{
    AGENT_MEASUREMENT, Credentials, InfluxOptions, InfluxSink, LinesRefused, Place, Secret, Timeouts,
    to_lines,
};
use crate::telemetry::{Reading, Sink};

/// Longest wait between tries.
const MOST_BACK_OFF: Duration = Duration::from_secs(30);

/// One that takes messages.
pub(super) struct Receiver {
    pub(super) name: String,
    way: Way,
}

enum Way {
    Engine { client: Client, url: String, token: Option<Revealed> },
    Influx(InfluxSink),
}

/// Why a message was not taken.
#[derive(Debug, PartialEq)]
enum Refusal {
    /// Try it again.
    Later(String),
    /// This message will never be taken.
    Never(String),
}

/// The messages, shared by the one who collects and those who send.
pub(super) struct Outbox {
    spool: Mutex<Spool>,
    pub(super) receivers: Vec<String>,
    pub(super) news: Notify,
}

impl Outbox {
    pub(super) fn new(spool: Spool, receivers: &[Receiver]) -> Self {
        let receivers = receivers.iter().map(|r| r.name.clone()).collect();
        Self { spool: Mutex::new(spool), receivers, news: Notify::new() }
    }

    pub(super) fn spool(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the configuration says to send to.
pub(super) fn receivers(config: &Config) -> Result<Vec<Receiver>, AgentError> {
    match config.agent.send_to {
        AgentSink::Engine => config.agent.engines.iter().map(|url| engine(url, config)).collect(),
        AgentSink::Influxdb => {
            let options = influx_options(&config.telemetry)?;
            let sink = InfluxSink::new(&options, Some(Span::days(30)))
                .map_err(|detail| AgentError::Target { key: "telemetry.url".into(), detail })?;
            Ok(vec![Receiver { name: sink.name(), way: Way::Influx(sink) }])
        }
    }
}

/// The InfluxDB that section `[telemetry]` names.
///
/// # Errors
/// Where it names none, or a secret cannot be read.
pub fn influx_options(telemetry: &Telemetry) -> Result<InfluxOptions, AgentError> {
    let place = match telemetry.source {
        TelemetrySource::Influxdb2 => {
            Place::Bucket { org: telemetry.org.clone(), bucket: telemetry.bucket.clone() }
        }
        TelemetrySource::Influxdb1 => Place::Database {
            database: telemetry.database.clone(),
            retention_policy: telemetry.retention_policy.clone(),
        },
        TelemetrySource::Embedded | TelemetrySource::Replay => {
            return Err(AgentError::Target {
                key: "telemetry.source".into(),
                detail: "expected influxdb2 or influxdb1 where agent.send_to is influxdb".into(),
            });
        }
    };
    let reveal = |kept: &Option<Kept>, key: &str| match kept {
        None => Ok(Secret::default()),
        Some(kept) => kept
            .reveal()
            .map(|revealed| Secret::new(revealed.expose()))
            .map_err(|e| AgentError::Secret { key: key.into(), detail: e.to_string() }),
    };
    let credentials = if !telemetry.username.is_empty() {
        let password = reveal(&telemetry.password, "telemetry.password")?;
        Credentials::User { name: telemetry.username.clone(), password }
    } else {
        match reveal(&telemetry.token, "telemetry.token")? {
            token if token.is_empty() => Credentials::None,
            token => Credentials::Token(token),
        }
    };
    let timeouts = Timeouts { whole: telemetry.timeout, ..Timeouts::default() };
    Ok(InfluxOptions { url: telemetry.url.clone(), place, credentials, timeouts })
}

fn engine(url: &str, config: &Config) -> Result<Receiver, AgentError> {
    let wrong = |detail: &str| AgentError::Target { key: "agent.engines".into(), detail: detail.into() };
    let parsed = reqwest::Url::parse(url)
        .ok()
        .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
        .ok_or_else(|| wrong("expected http://HOST:PORT or https://HOST:PORT"))?;
    let token = config.agent.token.as_ref().map(Kept::reveal).transpose();
    let token = token.map_err(|e| AgentError::Secret { key: "agent.token".into(), detail: e.to_string() })?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = Client::builder()
        .user_agent(concat!("foreshift-agent/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(3))
        .timeout(Duration::from_secs(15));
    if matches!(parsed.host_str(), Some("127.0.0.1" | "localhost" | "[::1]")) {
        client = client.no_proxy();
    }
    let client = client.build().map_err(|e| wrong(&e.without_url().to_string()))?;
    let base = url.trim_end_matches('/');
    let name = format!("engine {}", base.split_once("://").map_or(base, |(_, rest)| rest));
    Ok(Receiver { name, way: Way::Engine { client, url: format!("{base}/api/v1/agent"), token } })
}

/// Sends what waits, for ever, in order; after a failure it waits ever longer.
pub(super) async fn send_for_ever(receiver: Receiver, outbox: Arc<Outbox>) {
    let mut back_off = Duration::from_secs(1);
    let mut failing = false;
    loop {
        // Listen first, look then: what is kept in between is heard.
        let news = outbox.news.notified();
        let next = outbox.spool().next_for(&receiver.name);
        let Some(message) = next else {
            news.await;
            continue;
        };
        match receiver.send(&message).await {
            Ok(()) => {
                outbox.spool().taken(&receiver.name, message.sequence, &outbox.receivers);
                back_off = Duration::from_secs(1);
                if std::mem::take(&mut failing) {
                    tracing::info!(receiver = %receiver.name, "takes messages again");
                }
            }
            Err(Refusal::Never(reason)) => {
                tracing::warn!(receiver = %receiver.name, sequence = message.sequence, %reason, "refused a message; dropped");
                outbox.spool().refused(&receiver.name, &message, &outbox.receivers);
            }
            Err(Refusal::Later(reason)) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(receiver = %receiver.name, %reason, "takes no messages; they wait on disk");
                }
                tokio::time::sleep(back_off).await;
                back_off = (back_off * 2).min(MOST_BACK_OFF);
            }
        }
    }
}

impl Receiver {
    async fn send(&self, message: &AgentMessage) -> Result<(), Refusal> {
        match &self.way {
            Way::Influx(sink) => match sink.write_lines(to_lines(&readings(message))).await {
                Ok(()) => Ok(()),
                Err(LinesRefused::Later(error)) => Err(Refusal::Later(error.detail)),
                Err(LinesRefused::Never(error)) => Err(Refusal::Never(error.detail)),
            },
            Way::Engine { client, url, token } => {
                let mut request = client.post(url).json(message);
                if let Some(token) = token {
                    request = request.bearer_auth(token.expose());
                }
                let answer = request.send().await;
                let answer = answer.map_err(|e| Refusal::Later(e.without_url().to_string()))?;
                judge(answer.status())?;
                // An engine that says nothing of it has refused none.
                let taken = answer.json::<Taken>().await;
                if let Some(refused) = taken.ok().map(|t| t.from_the_future).filter(|refused| *refused > 0) {
                    tracing::warn!(
                        sequence = message.sequence,
                        refused,
                        "the engine refused readings that are stamped later than now: set this host's clock"
                    );
                }
                Ok(())
            }
        }
    }
}

/// Conflict means that the engine has the message already.
fn judge(status: StatusCode) -> Result<(), Refusal> {
    let said = format!("HTTP {}", status.as_u16());
    match status {
        s if s.is_success() || s == StatusCode::CONFLICT => Ok(()),
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
            Err(Refusal::Never(said))
        }
        _ => Err(Refusal::Later(said)),
    }
}

/// The message as InfluxDB takes it: metrics are fields, the host, the partition and the labels tags.
fn readings(message: &AgentMessage) -> Vec<Reading> {
    let one = |reading: &crate::protocol::AgentReading| {
        let mut tags = vec![("host".to_string(), message.host.to_string())];
        if !reading.partition.is_empty() {
            tags.push(("partition".to_string(), reading.partition.clone()));
        }
        let labels = message.labels.iter().filter(|(key, _)| *key != "host" && *key != "partition");
        tags.extend(labels.map(|(key, value)| (key.clone(), value.clone())));
        let fields = reading.metrics.iter().map(|(name, value)| (name.clone(), *value)).collect();
        Reading { at: reading.at, measurement: AGENT_MEASUREMENT.to_string(), tags, fields }
    };
    message.readings.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_wrong_is_dropped_and_a_receiver_that_is_wrong_is_waited_for() {
        assert_eq!(judge(StatusCode::OK), Ok(()));
        assert_eq!(judge(StatusCode::CONFLICT), Ok(()), "taken already");
        assert!(matches!(judge(StatusCode::UNPROCESSABLE_ENTITY), Err(Refusal::Never(_))));
        for status in [StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND, StatusCode::BAD_GATEWAY] {
            assert!(matches!(judge(status), Err(Refusal::Later(_))), "{status}");
        }
    }

    #[test]
    fn an_engine_without_a_scheme_is_refused_with_what_was_expected() {
        let mut config = Config::default();
        config.agent.engines = vec!["127.0.0.1:7117".into()];
        let error = receivers(&config).err().unwrap().to_string();
        assert!(error.contains("agent.engines") && error.contains("http://HOST:PORT"), "{error}");
    }
}
