//! Flux: the text of the queries, and reading their answers as they arrive.

use std::ops::Range as Numbers;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::csv::{CsvError, Parser, Row, Rows};
use super::gather::{Among, Gather, Range};
use super::mapping::{Kind, Rule};
use super::transport::{Server, network};
use crate::fleet::Timestamp;
use crate::telemetry::source::{PullReport, SourceError};

/// The query for one measurement of the whole fleet or of some hosts, a value a step.
pub(super) fn query(
    bucket: &str,
    rule: &Rule,
    kind: Kind,
    keep: &[&str],
    among: &Among,
    range: Range,
) -> String {
    let mut filter = format!("r._measurement == {}", text(&rule.measurement));
    let fields = rule.field_keys(kind);
    if !fields.is_empty() {
        let any: Vec<String> = fields.iter().map(|f| format!("r._field == {}", text(f))).collect();
        filter.push_str(&format!(" and ({})", any.join(" or ")));
    }
    for (tag, value) in &rule.only {
        filter.push_str(&format!(" and r[{}] == {}", text(tag), text(value)));
    }
    if !among.hosts.is_empty() {
        let any = among.hosts.iter().map(|host| format!("r[{}] == {}", text(among.tag), text(host.as_str())));
        filter.push_str(&format!(" and ({})", any.collect::<Vec<_>>().join(" or ")));
    }
    let (function, rest) = match kind {
        Kind::Gauge => ("mean", ""),
        Kind::Counter => ("last", "\n  |> derivative(unit: 1s, nonNegative: true)"),
    };
    // A counter's first growth needs the steps before.
    let start = match kind {
        Kind::Gauge => range.start,
        Kind::Counter => range.start - range.every - range.every,
    };
    let keep: Vec<String> = ["_time", "_value", "_field"].iter().chain(keep).map(|c| text(c)).collect();
    format!(
        "from(bucket: {bucket})\n  |> range(start: {start}, stop: {stop})\n  |> filter(fn: (r) => {filter})\n  \
         |> aggregateWindow(every: {every}ms, fn: {function}, createEmpty: false, timeSrc: \"_start\"){rest}\n  \
         |> keep(columns: [{keep}])",
        bucket = text(bucket),
        start = time(start),
        stop = time(range.stop),
        every = range.every.0.max(1),
        keep = keep.join(", "),
    )
}

/// The newest samples and the hosts of the last hour, for `check`.
pub(super) fn survey(bucket: &str, measurements: &[&str], host: &str, newest: bool) -> String {
    let any: Vec<String> = measurements.iter().map(|m| format!("r._measurement == {}", text(m))).collect();
    let (bucket, host_text, any) = (text(bucket), text(host), any.join(" or "));
    if newest {
        format!(
            "from(bucket: {bucket})\n  |> range(start: -30d)\n  |> filter(fn: (r) => {any})\n  |> last()\n  \
             |> keep(columns: [\"_time\"])\n  |> group()\n  |> max(column: \"_time\")"
        )
    } else {
        format!(
            "import \"influxdata/influxdb/schema\"\nschema.tagValues(bucket: {bucket}, tag: {host_text}, \
             predicate: (r) => {any}, start: -1h)"
        )
    }
}

/// The request with that query.
pub(super) fn request(server: &Server, org: &str, query: &str) -> RequestBuilder {
    let body = json!({
        "query": query,
        "type": "flux",
        "dialect": {"header": true, "delimiter": ",", "annotations": ["datatype", "group", "default"]},
    });
    server
        .request(Method::POST, "api/v2/query")
        .query(&[("org", org)])
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/csv")
        .body(body.to_string())
}

/// Pieces of an answer that may have arrived before they are read.
const AHEAD: usize = 32;

/// Runs a query and hands its rows on as they arrive. The answer is taken from the network by a task
/// of its own, so that reading the rows and waiting for more of them go on at the same time.
pub(super) async fn run(
    server: &Server,
    source_name: &str,
    request: RequestBuilder,
    rows: &mut (impl Rows + Send),
) -> Result<PullReport, SourceError> {
    let whole = async {
        let response = server.send(request).await.map_err(|f| f.into_source(source_name))?;
        let (pieces, mut arrived) = mpsc::channel(AHEAD);
        // Dropped, it ends the task.
        let mut taking = JoinSet::new();
        taking.spawn(take(response, pieces));
        let mut parser = Parser::new();
        while let Some(piece) = arrived.recv().await {
            let piece = piece.map_err(|e| network(e).into_source(source_name))?;
            parser.feed(&piece, rows).map_err(|e| csv_error(source_name, e))?;
        }
        parser.finish(rows).map_err(|e| csv_error(source_name, e))
    };
    let counts = tokio::time::timeout(server.whole(), whole)
        .await
        .map_err(|_| server.too_slow().into_source(source_name))??;
    Ok(PullReport {
        points: counts.points,
        rejected: counts.rejected,
        bytes: counts.bytes,
        ..PullReport::default()
    })
}

/// Takes an answer from the network, piece by piece, until its end or its first failure.
async fn take(mut response: Response, pieces: mpsc::Sender<reqwest::Result<Bytes>>) {
    while let Some(piece) = response.chunk().await.transpose() {
        let last = piece.is_err();
        if pieces.send(piece).await.is_err() || last {
            return;
        }
    }
}

fn csv_error(source_name: &str, error: CsvError) -> SourceError {
    let source_name = source_name.to_string();
    match error {
        CsvError::Server(detail) => SourceError::Refused { source_name, detail },
        CsvError::Nonsense { place, detail } => SourceError::Nonsense { source_name, place, detail },
    }
}

/// Rows of a query of ours, on their way into the gathering.
pub(super) struct FluxRows<'a> {
    pub(super) gather: Gather<'a>,
    open: Vec<Numbers<u32>>,
}

impl<'a> FluxRows<'a> {
    pub(super) fn new(gather: Gather<'a>) -> Self {
        Self { gather, open: Vec::new() }
    }
}

impl Rows for FluxRows<'_> {
    fn series(&mut self, row: &Row<'_>) -> Option<u32> {
        let field = row.get("_field")?;
        let numbers = self.gather.open(&field, |tag| row.get(tag))?;
        self.open.push(numbers);
        Some(self.open.len() as u32 - 1)
    }

    #[inline]
    fn sample(&mut self, series: u32, at: Timestamp, value: f64) {
        if let Some(numbers) = self.open.get(series as usize) {
            self.gather.sample(numbers.clone(), at, value);
        }
    }
}

/// Collects one column of tables without a time, and the times of those with one.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) values: Vec<String>,
    pub(super) newest: Option<Timestamp>,
}

impl Rows for Survey {
    fn series(&mut self, _row: &Row<'_>) -> Option<u32> {
        None
    }
    fn sample(&mut self, _series: u32, _at: Timestamp, _value: f64) {}
    fn record(&mut self, row: &Row<'_>) {
        if let Some(value) = row.get("_value") {
            self.values.push(value.into_owned());
        }
        if let Some(time) = row.get("_time") {
            self.newest = self.newest.max(super::csv::parse_time(time.as_bytes()));
        }
    }
}

/// A Flux string literal.
fn text(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len() + 2);
    out.push('"');
    for c in plain.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '$' => out.push_str("\\x24"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A Flux time literal.
fn time(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0.max(0)).map_or_else(|_| "now()".into(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::mapping::standard;
    use super::*;
    use crate::fleet::Span;

    #[test]
    fn one_query_a_measurement_is_windowed_on_the_server() {
        let rules = standard();
        let rule = |name: &str| rules.iter().find(|r| r.measurement == name).unwrap();
        let range = Range::new(
            Timestamp(1_700_000_000_000),
            Timestamp(1_700_000_060_000),
            Span::seconds(10),
            Span::ZERO,
        )
        .unwrap();
        let keep = ["host", "rack"];
        let all = Among { tag: "host", hosts: &[] };
        let some = Among { tag: "host", hosts: &["a".into(), "b\"c".into()] };
        insta::assert_snapshot!(query("tele\"graf", rule("cpu"), Kind::Gauge, &keep, &all, range), @r#"
        from(bucket: "tele\"graf")
          |> range(start: 2023-11-14T22:13:20Z, stop: 2023-11-14T22:14:20Z)
          |> filter(fn: (r) => r._measurement == "cpu" and (r._field == "usage_idle" or r._field == "usage_iowait") and r["cpu"] == "cpu-total")
          |> aggregateWindow(every: 10000ms, fn: mean, createEmpty: false, timeSrc: "_start")
          |> keep(columns: ["_time", "_value", "_field", "host", "rack"])
        "#);
        insta::assert_snapshot!(query("telegraf", rule("net"), Kind::Counter, &keep, &some, range), @r#"
        from(bucket: "telegraf")
          |> range(start: 2023-11-14T22:13:00Z, stop: 2023-11-14T22:14:20Z)
          |> filter(fn: (r) => r._measurement == "net" and (r._field == "bytes_recv" or r._field == "bytes_sent") and (r["host"] == "a" or r["host"] == "b\"c"))
          |> aggregateWindow(every: 10000ms, fn: last, createEmpty: false, timeSrc: "_start")
          |> derivative(unit: 1s, nonNegative: true)
          |> keep(columns: ["_time", "_value", "_field", "host", "rack"])
        "#);
    }

    #[test]
    fn a_name_cannot_break_out_of_its_text() {
        assert_eq!(text("a\"b\\c${d}\n"), r#""a\"b\\c\x24{d}\n""#);
    }
}
