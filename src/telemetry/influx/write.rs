//! Writing back: line protocol in batches to a bucket or database of our own, which is made where it
//! is missing and we may.

use async_trait::async_trait;
use influxdb2::models::retention_rule::Type as RuleType;
use influxdb2::models::{Organizations, PostBucketRequest, RetentionRule};
use reqwest::Method;

use super::line::lines;
use super::transport::{Failure, Server};
use super::{InfluxOptions, Place, influxql};
use crate::fleet::Span;
use crate::telemetry::source::{Reading, Sink, SinkError, Written};

/// Lines in one request.
const BATCH: usize = 5_000;

/// Why lines were not taken.
#[derive(Clone, Debug)]
pub enum LinesRefused {
    /// The server is away, busy, or refuses us: they may be taken once that is mended.
    Later(SinkError),
    /// The server refuses these lines; they will not be taken another time.
    Never(SinkError),
}

/// Writes to an InfluxDB of either version.
pub struct InfluxSink {
    server: Server,
    place: Place,
    keep: Option<Span>,
}

impl InfluxSink {
    /// A sink that makes its bucket or database where it is missing, to keep samples for `keep`
    /// (`None` = for ever).
    ///
    /// # Errors
    /// A sentence about what is wrong with the address or the credentials.
    pub fn new(options: &InfluxOptions, keep: Option<Span>) -> Result<Self, String> {
        let server = Server::new(&options.url, &options.credentials, options.timeouts)?;
        Ok(Self { server, place: options.place.clone(), keep })
    }

    /// Writes a body of line protocol, times in milliseconds; for the agent, whose spool has to know
    /// whether these lines will ever be taken.
    ///
    /// # Errors
    /// Whether to try these lines again.
    pub async fn write_lines(&self, body: Vec<u8>) -> Result<(), LinesRefused> {
        let refused = |failure: Failure| match failure {
            Failure::Refused(_) | Failure::TooLarge(_) => {
                LinesRefused::Never(failure.into_sink(&self.name()))
            }
            other => LinesRefused::Later(other.into_sink(&self.name())),
        };
        match self.post(body.clone()).await {
            Err(Failure::NotFound(detail)) => {
                self.create(&detail).await.map_err(LinesRefused::Later)?;
                self.post(body).await.map_err(refused)
            }
            other => other.map_err(refused),
        }
    }

    /// A batch; where it is too large for the server, its halves.
    async fn write_batch(&self, batch: &[Vec<u8>]) -> Result<(), SinkError> {
        let mut waiting = vec![batch];
        while let Some(part) = waiting.pop() {
            match self.post(part.concat()).await {
                Ok(()) => {}
                Err(Failure::NotFound(detail)) => {
                    self.create(&detail).await?;
                    self.post(part.concat()).await.map_err(|f| f.into_sink(&self.name()))?;
                }
                Err(Failure::TooLarge(_)) if part.len() > 1 => {
                    let (left, right) = part.split_at(part.len() / 2);
                    waiting.extend([right, left]);
                }
                Err(failure) => return Err(failure.into_sink(&self.name())),
            }
        }
        Ok(())
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), Failure> {
        let request = match &self.place {
            Place::Bucket { org, bucket } => self.server.request(Method::POST, "api/v2/write").query(&[
                ("org", org.as_str()),
                ("bucket", bucket),
                ("precision", "ms"),
            ]),
            Place::Database { database, retention_policy } => self
                .server
                .request(Method::POST, "write")
                .query(&[("db", database.as_str()), ("rp", retention_policy), ("precision", "ms")]),
        };
        self.server.send(request.body(body)).await.map(drop)
    }

    async fn create(&self, missing: &str) -> Result<(), SinkError> {
        let created = match &self.place {
            Place::Bucket { org, bucket } => self.create_bucket(org, bucket).await,
            Place::Database { database, .. } => self.create_database(database).await,
        };
        created.map_err(|failure| {
            let mut error = failure.into_sink(&self.name());
            error.detail = format!(
                "{missing}; making {} failed: {} (make it, or give us the right to)",
                self.place.name(),
                error.detail
            );
            error
        })?;
        tracing::info!(sink = %self.name(), "made the place that scores are written to");
        Ok(())
    }

    async fn create_bucket(&self, org: &str, bucket: &str) -> Result<(), Failure> {
        let request = self.server.request(Method::GET, "api/v2/orgs").query(&[("org", org)]);
        let found: Organizations = self.server.json(request).await?;
        let id = found
            .orgs
            .into_iter()
            .find(|o| o.name == org)
            .and_then(|o| o.id)
            .ok_or_else(|| Failure::NotFound(format!("there is no organisation {org:?}")))?;
        let mut wanted = PostBucketRequest::new(id, bucket.to_string());
        if let Some(keep) = self.keep {
            let seconds = i32::try_from(keep.0 / 1000).unwrap_or(i32::MAX).max(3600);
            wanted.retention_rules.push(RetentionRule::new(RuleType::Expire, seconds));
        }
        let request = self.server.request(Method::POST, "api/v2/buckets").json(&wanted);
        self.server.send(request).await.map(drop)
    }

    async fn create_database(&self, database: &str) -> Result<(), Failure> {
        let duration = match self.keep {
            Some(keep) => format!("{}s", (keep.0 / 1000).max(3600)),
            None => "INF".to_string(),
        };
        let statement = format!("CREATE DATABASE {} WITH DURATION {duration}", influxql::name(database));
        let request = influxql::request(&self.server, Method::POST, "", "", &statement);
        influxql::execute(&self.server, request).await
    }
}

#[async_trait]
impl Sink for InfluxSink {
    fn name(&self) -> String {
        format!("influx {}/{}", self.server.address(), self.place.name())
    }

    async fn write(&self, readings: &[Reading]) -> Result<Written, SinkError> {
        let all = lines(readings);
        for batch in all.lines.chunks(BATCH) {
            self.write_batch(batch).await?;
        }
        Ok(Written { accepted: all.lines.len() as u64, left_out: all.left_out })
    }

    /// Who asks, and for what, is looked at before the lines are: so it is asked with none.
    async fn check(&self) -> Result<String, SinkError> {
        let name = self.name();
        match self.post(Vec::new()).await {
            Ok(()) | Err(Failure::Refused(_)) => Ok(format!("{name}: scores may be written")),
            Err(Failure::NotFound(detail)) => {
                Ok(format!("{name}: {detail}; it is made with the first scores, where we may"))
            }
            Err(failure) => Err(failure.into_sink(&name)),
        }
    }
}
