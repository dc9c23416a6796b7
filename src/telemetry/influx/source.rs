//! Reading: the pull of the whole fleet, one query a measurement, and what `check` says.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use influxdb2::models::{Buckets, HealthCheck};
use reqwest::Method;
use tokio::sync::Mutex;

use super::few::Few;
use super::flux::{self, FluxRows, Survey};
use super::gather::{Among, Gather, Known, Range};
use super::influxql;
use super::mapping::{Kind, Rule, with_users};
use super::transport::{Failure, Server};
use super::{InfluxOptions, Place, ReadOptions};
use crate::fleet::{Clock, HostId, PartitionId, Span, SystemClock, Timestamp};
use crate::telemetry::WindowsConfig;
use crate::telemetry::source::{Ingest, PullReport, Source, SourceError};

/// History that baselines and training want.
const WANTED_DAYS: i64 = 30;

/// Reads an InfluxDB of either version.
pub struct InfluxSource {
    server: Server,
    place: Place,
    read: ReadOptions,
    rules: Vec<Rule>,
    known: Mutex<Known>,
}

/// What `check` found out.
struct Found {
    version: String,
    /// Seconds that samples are kept, 0 = for ever.
    kept: i64,
    hosts: Vec<String>,
    newest: Option<Timestamp>,
}

impl InfluxSource {
    /// A source; nothing is asked of the server yet.
    ///
    /// # Errors
    /// A sentence about what is wrong with the address or the credentials.
    pub fn new(options: &InfluxOptions, read: ReadOptions) -> Result<Self, String> {
        let server = Server::new(&options.url, &options.credentials, options.timeouts)?;
        let rules = with_users(&read.rules);
        let read = ReadOptions { every: read.every.max(Span::seconds(1)), ..read };
        Ok(Self { server, place: options.place.clone(), read, rules, known: Mutex::default() })
    }

    /// How many partitions the pulls so far have found.
    pub async fn partitions_found(&self) -> usize {
        self.known.lock().await.partitions()
    }

    /// Every measurement of some hosts, or of the whole fleet where none is named.
    async fn pull_all(
        &self,
        hosts: &[HostId],
        range: Range,
        known: &mut Known,
        into: &mut dyn Ingest,
    ) -> Result<PullReport, SourceError> {
        let mut total = PullReport::default();
        for rule in &self.rules {
            let kinds = [(Kind::Gauge, rule.has_gauges()), (Kind::Counter, rule.has_counters())];
            for (kind, _) in kinds.into_iter().filter(|(_, wanted)| *wanted) {
                let one = self.pull_one(rule, kind, hosts, range, known, into).await?;
                total.points += one.points;
                total.rejected += one.rejected;
                total.bytes += one.bytes;
                total.newest = total.newest.max(one.newest);
            }
        }
        Ok(total)
    }

    /// One measurement's gauges or counters.
    async fn pull_one(
        &self,
        rule: &Rule,
        kind: Kind,
        hosts: &[HostId],
        range: Range,
        known: &mut Known,
        into: &mut dyn Ingest,
    ) -> Result<PullReport, SourceError> {
        let among = Among { tag: &self.read.tags.host, hosts };
        let keep = self.read.tags.all(rule.instance.as_deref());
        let gather = Gather::new(rule, kind, &self.read.tags, range, known, into);
        let name = self.name();
        match &self.place {
            Place::Bucket { org, bucket } => {
                let query = flux::query(bucket, rule, kind, &keep, &among, range);
                let mut rows = FluxRows::new(gather);
                let read =
                    flux::run(&self.server, &name, flux::request(&self.server, org, &query), &mut rows);
                let read = read.await?;
                Ok(PullReport { bytes: read.bytes, rejected: read.rejected, ..rows.gather.finish() })
            }
            Place::Database { database, retention_policy } => {
                let statement = influxql::query(rule, kind, &keep, &among, range);
                let request =
                    influxql::request(&self.server, Method::GET, database, retention_policy, &statement);
                let (mut gather, mut rejected) = (gather, 0);
                let take = |part: &influxql::Part| rejected += influxql::gather(part, &mut gather);
                let read = influxql::run(&self.server, &name, request, take).await?;
                Ok(PullReport { bytes: read.bytes, rejected, ..gather.finish() })
            }
        }
    }

    async fn look(&self) -> Result<Found, SourceError> {
        match &self.place {
            Place::Bucket { org, bucket } => self.look_at_bucket(org, bucket).await,
            Place::Database { database, retention_policy } => {
                self.look_at_database(database, retention_policy).await
            }
        }
    }

    async fn look_at_bucket(&self, org: &str, bucket: &str) -> Result<Found, SourceError> {
        let name = self.name();
        let failed = |f: Failure| f.into_source(&name);
        let health: HealthCheck =
            self.server.json(self.server.request(Method::GET, "health")).await.map_err(failed)?;
        let request =
            self.server.request(Method::GET, "api/v2/buckets").query(&[("org", org), ("name", bucket)]);
        let buckets: Buckets = self.server.json(request).await.map_err(failed)?;
        let found = buckets.buckets.into_iter().find(|b| b.name == bucket).ok_or_else(|| {
            failed(Failure::NotFound(format!("there is no bucket {bucket:?} that this token may read")))
        })?;
        let kept = found.retention_rules.first().map_or(0, |rule| i64::from(rule.every_seconds));
        let measurements: Vec<&str> = self.rules.iter().map(|r| r.measurement.as_str()).collect();
        let mut hosts = Survey::default();
        let query = flux::survey(bucket, &measurements, &self.read.tags.host, false);
        flux::run(&self.server, &name, flux::request(&self.server, org, &query), &mut hosts).await?;
        let mut newest = Survey::default();
        let query = flux::survey(bucket, &measurements, &self.read.tags.host, true);
        flux::run(&self.server, &name, flux::request(&self.server, org, &query), &mut newest).await?;
        Ok(Found {
            version: health.version.unwrap_or_default(),
            kept,
            hosts: hosts.values,
            newest: newest.newest,
        })
    }

    async fn look_at_database(&self, database: &str, policy: &str) -> Result<Found, SourceError> {
        let name = self.name();
        let ping = self.server.send(self.server.request(Method::GET, "ping")).await;
        let ping = ping.map_err(|f| f.into_source(&name))?;
        let version = ping.headers().get("X-Influxdb-Version").and_then(|v| v.to_str().ok());
        let version = version.unwrap_or_default().to_string();
        let ask = async |statement: String| {
            let request = influxql::request(&self.server, Method::GET, database, policy, &statement);
            influxql::rows(&self.server, &name, request).await
        };
        let policies = ask(format!("SHOW RETENTION POLICIES ON {}", influxql::name(database))).await?;
        let policy = policies.iter().find(|row| match policy {
            "" => row.get("default").is_some_and(|d| d == "true"),
            named => row.get("name").is_some_and(|n| n == named),
        });
        let kept = policy.and_then(|row| go_seconds(row.get("duration")?)).unwrap_or(0);
        let host_tag = influxql::name(&self.read.tags.host);
        let hosts = ask(format!("SHOW TAG VALUES WITH KEY = {host_tag}")).await?;
        let measurements: Vec<String> = self.rules.iter().map(|r| influxql::name(&r.measurement)).collect();
        let newest = format!("SELECT * FROM {} ORDER BY time DESC LIMIT 1", measurements.join(", "));
        let newest = ask(newest).await?;
        let mut hosts: Vec<String> = hosts.into_iter().filter_map(|mut row| row.remove("value")).collect();
        hosts.sort();
        hosts.dedup();
        Ok(Found {
            version,
            kept,
            hosts,
            newest: newest.iter().filter_map(|row| row.get("time")?.parse().ok().map(Timestamp)).max(),
        })
    }
}

#[async_trait]
impl Source for InfluxSource {
    fn name(&self) -> String {
        format!("influx {}/{}", self.server.address(), self.place.name())
    }

    /// Whole steps alone: a step is given on when it has ended, stamped with its start. A little of
    /// what was read before is read again, and what was written late is given on then.
    async fn pull(
        &self,
        since: Timestamp,
        until: Timestamp,
        into: &mut dyn Ingest,
    ) -> Result<PullReport, SourceError> {
        let Some(range) = Range::new(since, until, self.read.every, self.read.overlap) else {
            return Ok(PullReport::default());
        };
        let mut known = self.known.lock().await;
        self.pull_all(&[], range, &mut known, into).await
    }

    /// Their hosts alone are asked for; the pulls' watermark and what they have given stay as they are.
    async fn pull_of(
        &self,
        partitions: &[PartitionId],
        since: Timestamp,
        until: Timestamp,
        into: &mut dyn Ingest,
    ) -> Result<Option<PullReport>, SourceError> {
        let hosts: BTreeSet<HostId> = partitions.iter().map(PartitionId::host).collect();
        let hosts: Vec<HostId> = hosts.into_iter().collect();
        let range = Range::new(since, until, self.read.every, Span::ZERO).filter(|_| !hosts.is_empty());
        let Some(range) = range else { return Ok(Some(PullReport::default())) };
        let mut few = Few::new(partitions, since, into);
        let report = self.pull_all(&hosts, range, &mut Known::default(), &mut few).await?;
        Ok(Some(PullReport { points: few.given, ..report }))
    }

    async fn check(&self) -> Result<String, SourceError> {
        let found =
            tokio::time::timeout(Duration::from_secs(30), self.look()).await.unwrap_or_else(|_| {
                Err(SourceError::Unreachable {
                    source_name: self.name(),
                    detail: "no answer within 30 s".into(),
                })
            })?;
        Ok(found.sentence(&self.name(), SystemClock.now()))
    }
}

impl Found {
    fn sentence(&self, name: &str, now: Timestamp) -> String {
        let version = if self.version.is_empty() { "unknown version" } else { &self.version };
        let kept = match Span::seconds(self.kept) {
            Span::ZERO => "everything kept".to_string(),
            kept if kept < Span::days(WANTED_DAYS) => format!(
                "{kept} kept (WARNING: baselines and training want {WANTED_DAYS} days; raise the retention)"
            ),
            kept => format!("{kept} kept"),
        };
        let newest = match self.newest {
            Some(at) if at > now + WindowsConfig::default().max_skew => format!(
                "newest sample stamped {} from now (WARNING: a host's clock runs ahead; what it writes speaks for it \
                 after it has fallen silent)",
                at - now
            ),
            Some(at) => format!("newest sample {} old", at.age(now)),
            None => {
                "no sample of a known measurement (WARNING: does Telegraf or an agent write here?)".into()
            }
        };
        let some: Vec<&str> = self.hosts.iter().take(3).map(String::as_str).collect();
        let more = if self.hosts.len() > some.len() { ", …" } else { "" };
        let hosts = match self.hosts.len() {
            0 => "no hosts seen".to_string(),
            n => format!("{n} host{} seen ({}{more})", if n == 1 { "" } else { "s" }, some.join(", ")),
        };
        format!("{name}: version {version}, {kept}, {newest}, {hosts}")
    }
}

/// Go's way to write a duration, `720h0m0s`, in seconds.
fn go_seconds(text: &str) -> Option<i64> {
    let mut total = 0i64;
    let mut number = 0i64;
    for c in text.chars() {
        match c {
            '0'..='9' => number = number.checked_mul(10)?.checked_add(i64::from(c as u8 - b'0'))?,
            'h' | 'm' | 's' => {
                let unit = if c == 'h' {
                    3600
                } else if c == 'm' {
                    60
                } else {
                    1
                };
                total = total.checked_add(number.checked_mul(unit)?)?;
                number = 0;
            }
            _ => return None,
        }
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go_are_understood() {
        assert_eq!(go_seconds("720h0m0s"), Some(30 * 86_400));
        assert_eq!(go_seconds("0s"), Some(0));
        assert_eq!(go_seconds("1x"), None);
    }

    #[test]
    fn check_says_what_was_found_and_warns_where_less_than_thirty_days_are_kept() {
        let found = Found {
            version: "v2.7.12".into(),
            kept: 7 * 86_400,
            hosts: ["a", "b", "c", "d"].map(String::from).to_vec(),
            newest: Some(Timestamp(60_000)),
        };
        insta::assert_snapshot!(found.sentence("influx x/y", Timestamp(72_000)), @"influx x/y: version v2.7.12, 7 d 0 h kept (WARNING: baselines and training want 30 days; raise the retention), newest sample 12 s old, 4 hosts seen (a, b, c, …)");
        let said = found.sentence("influx x/y", Timestamp(-3_600_000));
        assert!(said.contains("newest sample stamped 1 h 01 from now (WARNING: a host's clock"), "{said}");
    }
}
