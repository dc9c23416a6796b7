//! Application metrics pushed over UDP in StatsD's format: `name:value|g`, `|c`, `|ms`, `|h`, with a
//! sample rate `|@0.1` and tags `|#partition:p2`. A name may begin with `partition/`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use super::ByPartition;
use crate::agent::AgentError;

/// Most names at once; others are left out.
const MOST_NAMES: usize = 256;

#[derive(Clone, Copy)]
enum Kept {
    /// The last value, until another comes.
    Gauge(f64),
    /// The sum since the last look.
    Counter(f64),
    /// Sum and number since the last look.
    Timer(f64, f64),
}

type Values = HashMap<(String, String), Kept>;

/// The listener and what it has heard.
pub(super) struct Statsd {
    values: Arc<Mutex<Values>>,
    task: AbortHandle,
}

impl Statsd {
    /// Listens; nothing where the address is empty.
    pub(super) async fn start(address: &str) -> Result<Option<Self>, AgentError> {
        if address.is_empty() {
            return Ok(None);
        }
        let socket = UdpSocket::bind(address)
            .await
            .map_err(|e| AgentError::Listen { address: address.into(), detail: e.to_string() })?;
        let values: Arc<Mutex<Values>> = Arc::default();
        let heard = values.clone();
        let task = tokio::spawn(async move {
            let mut datagram = vec![0u8; 65_536];
            loop {
                let Ok(len) = socket.recv(&mut datagram).await else {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                };
                let text = String::from_utf8_lossy(&datagram[..len]);
                let mut values = heard.lock().unwrap_or_else(PoisonError::into_inner);
                text.lines().for_each(|line| take(&mut values, line));
            }
        });
        Ok(Some(Self { values, task: task.abort_handle() }))
    }

    pub(super) fn read(&self, elapsed: f64, all: &mut ByPartition) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let read: BTreeMap<(String, String), Kept> = values.drain().collect();
        for ((partition, name), kept) in read {
            let value = match kept {
                Kept::Gauge(value) => {
                    values.insert((partition.clone(), name.clone()), kept);
                    value
                }
                Kept::Counter(sum) if elapsed > 0.0 => sum / elapsed,
                Kept::Timer(sum, count) if count > 0.0 => sum / count,
                _ => continue,
            };
            all.entry(partition).or_default().insert(name, value);
        }
    }
}

impl Drop for Statsd {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One line; what is not understood is left out.
fn take(values: &mut Values, line: &str) {
    let Some((name, rest)) = line.trim().split_once(':') else { return };
    let mut parts = rest.split('|');
    let (Some(number), Some(kind)) = (parts.next(), parts.next()) else { return };
    let Some(value) = number.parse::<f64>().ok().filter(|v| v.is_finite()) else { return };
    let (mut share, mut partition) = (1.0, "");
    for part in parts {
        if let Some(rate) = part.strip_prefix('@').and_then(|r| r.parse::<f64>().ok()) {
            share = if rate > 0.0 && rate <= 1.0 { rate } else { 1.0 };
        } else if let Some(tags) = part.strip_prefix('#') {
            partition = tags.split(',').find_map(|tag| tag.strip_prefix("partition:")).unwrap_or("");
        }
    }
    let (partition, name) =
        name.split_once('/').filter(|_| partition.is_empty()).unwrap_or((partition, name));
    let key = (partition.to_string(), name.to_string());
    if name.is_empty() || values.len() >= MOST_NAMES && !values.contains_key(&key) {
        return;
    }
    let before = values.get(&key).copied();
    let kept = match (kind, before) {
        ("g", Some(Kept::Gauge(known))) if number.starts_with(['+', '-']) => Kept::Gauge(known + value),
        ("g", _) => Kept::Gauge(value),
        ("c", Some(Kept::Counter(sum))) => Kept::Counter(sum + value / share),
        ("c", _) => Kept::Counter(value / share),
        ("ms" | "h" | "d", Some(Kept::Timer(sum, n))) => Kept::Timer(sum + value / share, n + 1.0 / share),
        ("ms" | "h" | "d", _) => Kept::Timer(value / share, 1.0 / share),
        _ => return,
    };
    values.insert(key, kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::collect::Metrics;
    use proptest::prelude::*;

    #[tokio::test]
    async fn gauges_stay_counters_are_per_second_and_timers_are_means() {
        let statsd = Statsd::start("127.0.0.1:0").await.unwrap().unwrap();
        {
            let mut values = statsd.values.lock().unwrap();
            for line in
                ["queue.depth:4|g", "queue.depth:+2|g", "p2/jobs:5|c|@0.5", "p2/jobs:10|c", "junk", "x:|c"]
            {
                take(&mut values, line);
            }
            take(&mut values, "request.latency:10|ms|#env:a,partition:p2");
            take(&mut values, "request.latency:30|ms|#partition:p2");
        }
        let mut all = ByPartition::new();
        statsd.read(10.0, &mut all);
        assert_eq!(all[""], Metrics::from([("queue.depth".into(), 6.0)]));
        assert_eq!(all["p2"], Metrics::from([("jobs".into(), 2.0), ("request.latency".into(), 20.0)]));
        let mut then = ByPartition::new();
        statsd.read(10.0, &mut then);
        assert_eq!(then.len(), 1, "a gauge stays, the others need news");
    }

    proptest! {
        #[test]
        fn no_datagram_makes_it_panic(line in "[a-z:|@#,/.0-9+-]{0,60}") {
            take(&mut Values::new(), &line);
        }
    }
}
