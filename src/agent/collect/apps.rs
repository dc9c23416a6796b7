//! Application metrics from pages in Prometheus' text format. What the configuration maps becomes
//! that metric; a few others are kept under their own names.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::{ByPartition, Metrics};
use crate::config::Endpoint;
use crate::fleet::Span;
use crate::telemetry::schema::{Unit, canonical};

/// Longest wait for a page.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most bytes of a page.
const LARGEST: usize = 8 << 20;
/// Most metrics kept under their own names, of one page.
const MOST_OWN: usize = 32;
/// What exporters say of themselves.
const OF_THE_EXPORTER: [&str; 6] = ["go_", "process_", "promhttp_", "python_", "jvm_", "scrape_"];

/// The tasks that read pages, and what they read last.
#[derive(Default)]
pub(super) struct Apps {
    read: Arc<Mutex<HashMap<usize, (String, Metrics)>>>,
    tasks: Vec<AbortHandle>,
}

impl Apps {
    pub(super) fn start(endpoints: &[Endpoint], every: Span) -> Self {
        let read: Arc<Mutex<HashMap<usize, (String, Metrics)>>> = Arc::default();
        let tasks = endpoints
            .iter()
            .cloned()
            .enumerate()
            .map(|(index, endpoint)| {
                let read = read.clone();
                tokio::spawn(async move {
                    let partition = endpoint.partition.clone();
                    read_for_ever(endpoint, every, |metrics| {
                        let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                        read.insert(index, (partition.clone(), metrics));
                    })
                    .await;
                })
                .abort_handle()
            })
            .collect();
        Self { read, tasks }
    }

    /// What was read since the last look; a page that does not answer says nothing.
    pub(super) fn read(&self, all: &mut ByPartition) {
        let read = std::mem::take(&mut *self.read.lock().unwrap_or_else(PoisonError::into_inner));
        for (partition, metrics) in read.into_values() {
            all.entry(partition).or_default().extend(metrics);
        }
    }
}

impl Drop for Apps {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn read_for_ever(endpoint: Endpoint, every: Span, keep: impl Fn(Metrics)) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build();
    let Ok(client) = client else { return };
    let mut page = Page::new(endpoint.metrics);
    let mut ticks = interval(every.max(Span::seconds(1)).to_std());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        match get(&client, &endpoint.url).await {
            Ok(text) => keep(page.read(&text, Instant::now())),
            Err(error) => tracing::debug!(url = %endpoint.url, %error, "no application metrics"),
        }
    }
}

async fn get(client: &reqwest::Client, url: &str) -> Result<String, reqwest::Error> {
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        body.extend_from_slice(&piece);
        if body.len() > LARGEST {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// One page over time: counters need what they were before.
struct Page {
    names: BTreeMap<String, String>,
    before: HashMap<String, (f64, Instant)>,
}

impl Page {
    fn new(names: BTreeMap<String, String>) -> Self {
        Self { names, before: HashMap::new() }
    }

    fn read(&mut self, text: &str, now: Instant) -> Metrics {
        let page = parse(text);
        let mut metrics = Metrics::new();
        for (name, metric) in self.names.clone() {
            if let Some(value) = self.mapped(&page, &name, now) {
                metrics.insert(metric.clone(), value * scale(&name, &metric));
            }
        }
        let own = page.samples.iter().filter(|(name, _)| {
            page.kinds.get(*name).is_some_and(|kind| kind == "gauge")
                && !self.names.contains_key(*name)
                && !OF_THE_EXPORTER.iter().any(|prefix| name.starts_with(prefix))
        });
        metrics.extend(own.take(MOST_OWN).map(|(name, sum)| (name.clone(), sum.mean())));
        metrics
    }

    /// A gauge as it is (the mean over its labels), a counter per second, a histogram or summary as
    /// the mean of what it observed since the last look.
    fn mapped(&mut self, page: &Parsed, name: &str, now: Instant) -> Option<f64> {
        if let (Some(sum), Some(count)) =
            (page.total(&format!("{name}_sum")), page.total(&format!("{name}_count")))
        {
            let sum = self.growth(&format!("{name}_sum"), sum, now).map(|(grown, _)| grown);
            let count = self.growth(&format!("{name}_count"), count, now).map(|(grown, _)| grown);
            return sum.zip(count).filter(|(_, count)| *count > 0.0).map(|(sum, count)| sum / count);
        }
        let samples = page.samples.get(name)?;
        if page.kinds.get(name).is_some_and(|kind| kind == "counter") || name.ends_with("_total") {
            let (grown, seconds) = self.growth(name, samples.sum, now)?;
            return (seconds > 0.0).then(|| grown / seconds);
        }
        Some(samples.mean())
    }

    /// How much it grew, in how many seconds; nothing after a reset.
    fn growth(&mut self, name: &str, value: f64, now: Instant) -> Option<(f64, f64)> {
        let (before, then) = self.before.insert(name.to_string(), (value, now))?;
        (value >= before).then(|| (value - before, (now - then).as_secs_f64()))
    }
}

/// Prometheus' names end with their unit; our metrics have theirs.
fn scale(name: &str, metric: &str) -> f64 {
    match canonical(metric).map(|m| m.unit) {
        Some(Unit::Millis) if name.ends_with("_seconds") => 1000.0,
        Some(Unit::Percent) if name.ends_with("_ratio") => 100.0,
        Some(Unit::PerMinute) if name.ends_with("_total") => 60.0,
        _ => 1.0,
    }
}

#[derive(Default)]
struct Parsed {
    samples: BTreeMap<String, Samples>,
    kinds: HashMap<String, String>,
}

#[derive(Clone, Copy, Default)]
struct Samples {
    sum: f64,
    count: u32,
}

impl Samples {
    fn mean(self) -> f64 {
        self.sum / f64::from(self.count.max(1))
    }
}

impl Parsed {
    fn total(&self, name: &str) -> Option<f64> {
        self.samples.get(name).map(|samples| samples.sum)
    }
}

fn parse(text: &str) -> Parsed {
    let mut page = Parsed::default();
    for line in text.lines().map(str::trim) {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            if let Some((name, kind)) = kind.split_once(' ') {
                page.kinds.insert(name.to_string(), kind.trim().to_string());
            }
        } else if let Some((name, value)) = sample(line) {
            let samples = page.samples.entry(name.to_string()).or_default();
            samples.sum += value;
            samples.count += 1;
        }
    }
    page
}

/// `name{label="…"} value [time]`; nothing for comments, quantiles, buckets and what is not finite.
fn sample(line: &str) -> Option<(&str, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let (name, rest) = line.split_at(end);
    let rest = if rest.starts_with('{') {
        let (labels, rest) = rest.split_at(labels_end(rest)?);
        if labels.contains("quantile=\"") || labels.contains("le=\"") {
            return None;
        }
        rest
    } else {
        rest
    };
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some((name, value))
}

/// Where the labels end, behind their brace; a brace within a value does not count.
fn labels_end(labels: &str) -> Option<usize> {
    let (mut within, mut escaped) = (false, false);
    for (index, c) in labels.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => within = !within,
            '}' if !within => return Some(index + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: &str = "# HELP app_queue_length x\n# TYPE app_queue_length gauge\n\
        app_queue_length{q=\"a}\\\"\"} 3\napp_queue_length{q=\"b\"} 5 1700000000000\n\
        # TYPE app_requests_total counter\napp_requests_total 100\n\
        # TYPE app_request_seconds histogram\napp_request_seconds_bucket{le=\"0.1\"} 9\n\
        app_request_seconds_sum 2.0\napp_request_seconds_count 10\n\
        # TYPE go_threads gauge\ngo_threads 9\n# TYPE app_sessions gauge\napp_sessions NaN\n\
        # TYPE app_users gauge\napp_users 7\n";

    #[test]
    fn gauges_counters_and_histograms_become_the_metrics_they_are_mapped_to() {
        let names = [
            ("app_queue_length", "queue.depth"),
            ("app_request_seconds", "request.latency"),
            ("app_requests_total", "requests"),
        ];
        let names = names.map(|(a, b)| (a.to_string(), b.to_string())).into();
        let mut page = Page::new(names);
        let begin = Instant::now();
        let first = page.read(PAGE, begin);
        assert_eq!(first, Metrics::from([("queue.depth".into(), 4.0), ("app_users".into(), 7.0)]));
        let later = PAGE
            .replace("_total 100", "_total 150")
            .replace("_sum 2.0", "_sum 3.0")
            .replace("_count 10", "_count 30");
        let second = page.read(&later, begin + Duration::from_secs(5));
        assert_eq!(second["requests"], 10.0);
        assert!((second["request.latency"] - 50.0).abs() < 1e-9, "seconds become milliseconds");
    }

    proptest! {
        #[test]
        fn no_page_makes_the_reader_panic(text in "([a-z_{}\"=\\\\#0-9. \n]|# TYPE ){0,200}") {
            let _ = Page::new(BTreeMap::new()).read(&text, Instant::now());
        }
    }
}
