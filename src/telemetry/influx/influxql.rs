//! InfluxQL, for InfluxDB 1.x and 3.x: the text of the queries, and reading the chunked JSON answers
//! chunk by chunk.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use memchr::memchr;
use reqwest::{Method, RequestBuilder};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::gather::{Among, Gather, Range};
use super::mapping::{Kind, Rule};
use super::transport::{Failure, Server, network};
use crate::fleet::Timestamp;
use crate::telemetry::source::{PullReport, SourceError};

/// Longest chunk that is waited for.
const LONGEST_CHUNK: usize = 64 << 20;

/// The query for one measurement of the whole fleet or of some hosts, a value a step.
pub(super) fn query(rule: &Rule, kind: Kind, keep: &[&str], among: &Among, range: Range) -> String {
    let fields = rule.field_keys(kind);
    let select: Vec<String> = match kind {
        Kind::Gauge if fields.is_empty() => vec!["mean(*)".to_string()],
        Kind::Gauge => fields.iter().map(|f| format!("mean({0}) AS {0}", name(f))).collect(),
        Kind::Counter => {
            fields.iter().map(|f| format!("non_negative_derivative(last({0}), 1s) AS {0}", name(f))).collect()
        }
    };
    let start = match kind {
        Kind::Gauge => range.start,
        Kind::Counter => range.start - range.every - range.every,
    };
    let mut only: String =
        rule.only.iter().map(|(tag, value)| format!(" AND {} = {}", name(tag), text(value))).collect();
    if !among.hosts.is_empty() {
        let any = among.hosts.iter().map(|host| format!("{} = {}", name(among.tag), text(host.as_str())));
        only.push_str(&format!(" AND ({})", any.collect::<Vec<_>>().join(" OR ")));
    }
    let tags: String = keep.iter().map(|tag| format!(", {}", name(tag))).collect();
    format!(
        "SELECT {select} FROM {measurement} WHERE time >= {start}ms AND time < {stop}ms{only} \
         GROUP BY time({every}ms){tags} fill(none)",
        select = select.join(", "),
        measurement = name(&rule.measurement),
        start = start.0.max(0),
        stop = range.stop.0,
        every = range.every.0.max(1),
    )
}

/// A request with that statement; times are in milliseconds.
pub(super) fn request(
    server: &Server,
    method: Method,
    database: &str,
    retention_policy: &str,
    statement: &str,
) -> RequestBuilder {
    let mut parameters = vec![("q", statement), ("epoch", "ms")];
    if !database.is_empty() {
        parameters.push(("db", database));
    }
    if !retention_policy.is_empty() {
        parameters.push(("rp", retention_policy));
    }
    server.request(method, "query").query(&parameters)
}

/// Runs a query and hands each series on as it arrives.
pub(super) async fn run(
    server: &Server,
    source_name: &str,
    request: RequestBuilder,
    mut take: impl FnMut(&Part),
) -> Result<PullReport, SourceError> {
    let mut report = PullReport::default();
    let whole = async {
        let mut response = server
            .send(request.query(&[("chunked", "true")]))
            .await
            .map_err(|f| f.into_source(source_name))?;
        let mut carry: Vec<u8> = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| network(e).into_source(source_name))? {
            report.bytes += piece.len() as u64;
            let mut rest: &[u8] = &piece;
            while let Some(end) = memchr(b'\n', rest) {
                carry.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                chunk(source_name, &carry, report.bytes, &mut take)?;
                carry.clear();
            }
            carry.extend_from_slice(rest);
            if carry.len() > LONGEST_CHUNK {
                return Err(nonsense(source_name, report.bytes, "a chunk longer than 64 MB"));
            }
        }
        chunk(source_name, &carry, report.bytes, &mut take)
    };
    tokio::time::timeout(server.whole(), whole)
        .await
        .map_err(|_| server.too_slow().into_source(source_name))??;
    Ok(report)
}

/// Hands the values of one measurement's query to the gathering.
pub(super) fn gather(part: &Part, gather: &mut Gather<'_>) -> u64 {
    let mut rejected = 0;
    let Some(time) = part.columns.iter().position(|c| c == "time") else {
        return part.values.len() as u64;
    };
    let tag = |key: &str| part.tags.get(key).map(|value| Cow::Borrowed(value.as_str()));
    for (index, column) in part.columns.iter().enumerate().filter(|(index, _)| *index != time) {
        let field = column.strip_prefix("mean_").filter(|_| gather.takes_all()).unwrap_or(column);
        let Some(series) = gather.open(field, tag) else { continue };
        for row in &part.values {
            match (row.get(time), row.get(index)) {
                (Some(Cell(Some(at))), Some(Cell(Some(value)))) => {
                    gather.sample(series.clone(), Timestamp(*at as i64), *value);
                }
                (Some(Cell(Some(_))), Some(Cell(None))) => {}
                _ => rejected += 1,
            }
        }
    }
    rejected
}

/// One series, or a part of it.
#[derive(serde::Deserialize, Debug, Default)]
pub(super) struct Part {
    #[serde(default)]
    pub(super) tags: HashMap<String, String>,
    #[serde(default)]
    pub(super) columns: Vec<String>,
    #[serde(default)]
    pub(super) values: Vec<Vec<Cell>>,
}

/// A number; anything else is missing, except that text is kept for `SHOW …` (see [`Texts`]).
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell(pub(super) Option<f64>);

#[derive(serde::Deserialize)]
struct Answer<P> {
    #[serde(default = "Vec::new")]
    results: Vec<ResultOf<P>>,
    error: Option<String>,
}

#[derive(serde::Deserialize)]
struct ResultOf<P> {
    #[serde(default = "Vec::new")]
    series: Vec<P>,
    error: Option<String>,
}

impl<P> Answer<P> {
    /// Why a statement failed, which the status of the answer does not say: the server sends that before it
    /// begins.
    fn refusal(&self) -> Option<&str> {
        self.results.iter().filter_map(|r| r.error.as_deref()).chain(self.error.as_deref()).next()
    }
}

/// Runs a statement that gives no rows. It is done when the answer has ended, not when it begins, and the
/// server gives it up where nobody listens to the end.
pub(super) async fn execute(server: &Server, request: RequestBuilder) -> Result<(), Failure> {
    let answer: Answer<serde::de::IgnoredAny> = server.json(request).await?;
    match answer.refusal() {
        Some(detail) => Err(Failure::Refused(detail.into())),
        None => Ok(()),
    }
}

fn chunk(
    source_name: &str,
    bytes: &[u8],
    offset: u64,
    take: &mut impl FnMut(&Part),
) -> Result<(), SourceError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let answer: Answer<Part> =
        serde_json::from_slice(bytes).map_err(|e| nonsense(source_name, offset, &e.to_string()))?;
    if let Some(detail) = answer.refusal() {
        return Err(SourceError::Refused { source_name: source_name.into(), detail: detail.into() });
    }
    answer.results.iter().flat_map(|result| &result.series).for_each(take);
    Ok(())
}

fn nonsense(source_name: &str, offset: u64, got: &str) -> SourceError {
    SourceError::Nonsense {
        source_name: source_name.into(),
        place: format!("byte {offset}"),
        detail: format!("expected InfluxDB's JSON, got {got}"),
    }
}

/// The rows of a short answer as text, for `SHOW …`.
pub(super) async fn rows(
    server: &Server,
    source_name: &str,
    request: RequestBuilder,
) -> Result<Vec<HashMap<String, String>>, SourceError> {
    #[derive(serde::Deserialize)]
    struct Texts {
        #[serde(default)]
        columns: Vec<String>,
        #[serde(default)]
        values: Vec<Vec<serde_json::Value>>,
    }
    let answer: Answer<Texts> = server.json(request).await.map_err(|f| f.into_source(source_name))?;
    if let Some(detail) = answer.refusal() {
        return Err(SourceError::Refused { source_name: source_name.into(), detail: detail.into() });
    }
    let plain = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let parts = answer.results.iter().flat_map(|result| &result.series);
    Ok(parts
        .flat_map(|part| {
            part.values.iter().map(|row| part.columns.iter().cloned().zip(row.iter().map(plain)).collect())
        })
        .collect())
}

/// An InfluxQL identifier.
pub(super) fn name(plain: &str) -> String {
    format!("\"{}\"", escape(plain, '"'))
}

/// An InfluxQL string literal.
pub(super) fn text(plain: &str) -> String {
    format!("'{}'", escape(plain, '\''))
}

fn escape(plain: &str, quote: char) -> String {
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            c if c == quote || c == '\\' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl<'de> Visitor<'de> for Number {
            type Value = Cell;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a truth value, text or null")
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Cell, E> {
                Ok(Cell(Some(n)))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Cell, E> {
                Ok(Cell(Some(n as f64)))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Cell, E> {
                Ok(Cell(Some(n as f64)))
            }
            fn visit_bool<E: de::Error>(self, b: bool) -> Result<Cell, E> {
                Ok(Cell(Some(f64::from(u8::from(b)))))
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<Cell, E> {
                Ok(Cell(None))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Cell, E> {
                Ok(Cell(None))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mapping::standard;
    use super::*;
    use crate::fleet::Span;

    #[test]
    fn one_statement_a_measurement_is_windowed_on_the_server() {
        let rules = standard();
        let rule = |name: &str| rules.iter().find(|r| r.measurement == name).unwrap();
        let range = Range::new(
            Timestamp(1_700_000_000_000),
            Timestamp(1_700_000_060_000),
            Span::seconds(10),
            Span::ZERO,
        )
        .unwrap();
        let all = Among { tag: "host", hosts: &[] };
        let some = Among { tag: "host", hosts: &["a".into(), "b'c".into()] };
        insta::assert_snapshot!(query(rule("cpu"), Kind::Gauge, &["host", "rack"], &all, range), @r#"SELECT mean("usage_idle") AS "usage_idle", mean("usage_iowait") AS "usage_iowait" FROM "cpu" WHERE time >= 1700000000000ms AND time < 1700000060000ms AND "cpu" = 'cpu-total' GROUP BY time(10000ms), "host", "rack" fill(none)"#);
        insta::assert_snapshot!(query(rule("net"), Kind::Counter, &["host"], &some, range), @r#"SELECT non_negative_derivative(last("bytes_recv"), 1s) AS "bytes_recv", non_negative_derivative(last("bytes_sent"), 1s) AS "bytes_sent" FROM "net" WHERE time >= 1699999980000ms AND time < 1700000060000ms AND ("host" = 'a' OR "host" = 'b\'c') GROUP BY time(10000ms), "host" fill(none)"#);
    }

    #[test]
    fn a_name_cannot_break_out_of_its_quotes() {
        assert_eq!(name("a\"b"), r#""a\"b""#);
        assert_eq!(text("a'; DROP DATABASE x --\\"), r"'a\'; DROP DATABASE x --\\'");
    }

    #[test]
    fn an_error_within_the_answer_and_an_answer_that_is_none_are_told() {
        let mut take = |_: &Part| {};
        let refused = chunk("s", br#"{"results":[{"statement_id":0,"error":"boom"}]}"#, 9, &mut take);
        assert!(matches!(refused, Err(SourceError::Refused { detail, .. }) if detail == "boom"));
        assert!(matches!(chunk("s", b"<html>", 6, &mut take), Err(SourceError::Nonsense { .. })));
    }
}
