//! A source that gives recorded files back: for backtests, and to look at yesterday's incident.
//!
//! Three forms, told apart by their content: CSV with a header, long (`time,partition,metric,value`)
//! or wide (`time,partition,cpu.busy,…`); JSON lines (`{"at":…,"partition":…,"metrics":{…}}`); and
//! line protocol of our agent's measurement, as `[agent]` writes it. A time is RFC 3339, or a number
//! in seconds, milliseconds or nanoseconds since the epoch, told apart by its size.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::Deserialize;
use thiserror::Error;

use super::influx::AGENT_MEASUREMENT;
use super::source::{Ingest, PullReport, Source, SourceError};
use crate::fleet::{HostId, PartitionId, Timestamp};

/// Why a recording cannot be read.
#[derive(Clone, Debug, Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("recording {file}: {detail}")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        detail: String,
    },
    /// A line is none of the forms.
    #[error("recording {file}, line {line}: {detail}")]
    Line {
        /// The file.
        file: String,
        /// Its number, from 1.
        line: usize,
        /// Expected and got.
        detail: String,
    },
}

/// Recorded samples, in order of time.
#[derive(Debug, Default)]
pub struct ReplaySource {
    names: Vec<(PartitionId, String)>,
    index: HashMap<(PartitionId, String), u32>,
    samples: Vec<(Timestamp, u32, f32)>,
    labels: BTreeMap<HostId, BTreeMap<String, String>>,
    files: usize,
}

#[derive(Deserialize)]
struct JsonLine {
    at: serde_json::Value,
    #[serde(default)]
    host: String,
    #[serde(default)]
    partition: String,
    metrics: BTreeMap<String, Option<f64>>,
}

impl ReplaySource {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the file and the line that is not understood.
    pub fn open(files: &[PathBuf]) -> Result<Self, ReplayError> {
        let mut replay = Self::default();
        for path in files {
            let file = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|e| ReplayError::File { file: file.clone(), detail: e.to_string() })?;
            replay.read(&text, path).map_err(|(line, detail)| ReplayError::Line { file, line, detail })?;
        }
        replay.files = files.len();
        Ok(replay.in_order())
    }

    /// The first and the last moment; `None` where there is no sample.
    pub fn range(&self) -> Option<(Timestamp, Timestamp)> {
        Some((self.samples.first()?.0, self.samples.last()?.0))
    }

    fn in_order(mut self) -> Self {
        self.samples.sort_by_key(|(at, series, _)| (*at, *series));
        self
    }

    fn read(&mut self, text: &str, path: &Path) -> Result<(), (usize, String)> {
        let mut lines =
            text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())).filter(|(_, l)| !l.is_empty());
        let Some((number, first)) = lines.clone().find(|(_, line)| !line.starts_with('#')) else {
            return Ok(());
        };
        if first.starts_with('{') {
            return lines.try_for_each(|(n, line)| self.json(line).map_err(|e| (n, e)));
        }
        if first.starts_with("time,") {
            let header: Vec<&str> = first.split(',').map(str::trim).collect();
            let rows = lines.filter(|(n, line)| *n > number && !line.starts_with('#'));
            return rows.into_iter().try_for_each(|(n, line)| self.csv(&header, line).map_err(|e| (n, e)));
        }
        if first.starts_with(AGENT_MEASUREMENT) {
            let rows = lines.filter(|(_, line)| !line.starts_with('#'));
            return rows.into_iter().try_for_each(|(n, line)| self.line_protocol(line).map_err(|e| (n, e)));
        }
        let what = path.extension().and_then(|e| e.to_str()).unwrap_or("none");
        Err((
            number,
            format!(
                "expected a CSV header that begins with `time,`, JSON lines, or line protocol of \
                 {AGENT_MEASUREMENT}; got something else (extension {what})"
            ),
        ))
    }

    fn json(&mut self, line: &str) -> Result<(), String> {
        let row: JsonLine = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let at = match &row.at {
            serde_json::Value::String(text) => time(text)?,
            number => time(&number.to_string())?,
        };
        let partition = match row.host.as_str() {
            "" => PartitionId::from(row.partition),
            host => PartitionId::of(&HostId::from(host), &row.partition),
        };
        for (metric, value) in row.metrics {
            self.put(&partition, &metric, at, value.unwrap_or(f64::NAN));
        }
        Ok(())
    }

    fn csv(&mut self, header: &[&str], line: &str) -> Result<(), String> {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        if cells.len() != header.len() {
            return Err(format!("expected {} cells, got {}", header.len(), cells.len()));
        }
        if header.get(1) != Some(&"partition") {
            return Err("expected the second column to be `partition`".into());
        }
        let (at, partition) = (time(cells[0])?, PartitionId::from(cells[1]));
        if header[2..] == ["metric", "value"] {
            self.put(&partition, cells[2], at, number(cells[3])?);
        } else {
            for (metric, cell) in header.iter().zip(&cells).skip(2) {
                self.put(&partition, metric, at, number(cell)?);
            }
        }
        Ok(())
    }

    fn line_protocol(&mut self, line: &str) -> Result<(), String> {
        let (head, rest) = split(line, ' ').ok_or("expected `measurement,tags fields time`")?;
        let (fields, at) = rest.rsplit_once(' ').ok_or("expected a time at the end of the line")?;
        let at = time(at)?;
        let (mut host, mut part, mut labels) = (String::new(), String::new(), Vec::new());
        for (key, value) in pairs(head.split_once(',').map_or("", |(_, tags)| tags)) {
            match key.as_str() {
                "host" => host = value,
                "partition" => part = value,
                _ => labels.push((key, value)),
            }
        }
        if host.is_empty() {
            return Err("expected a tag `host`".into());
        }
        let host = HostId::from(host);
        self.labels.entry(host.clone()).or_default().extend(labels);
        let partition = PartitionId::of(&host, &part);
        for (metric, value) in pairs(fields) {
            self.put(&partition, &metric, at, number(value.trim_end_matches(['i', 'u']))?);
        }
        Ok(())
    }

    fn put(&mut self, partition: &PartitionId, metric: &str, at: Timestamp, value: f64) {
        let key = (partition.clone(), metric.to_string());
        let next = self.names.len() as u32;
        let series = *self.index.entry(key.clone()).or_insert(next);
        if series == next {
            self.names.push(key);
        }
        self.samples.push((at, series, value as f32));
    }
}

/// The part before the first such character that is not escaped, and the part behind it.
fn split(text: &str, at: char) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == at => return Some((&text[..index], &text[index + c.len_utf8()..])),
            _ => {}
        }
    }
    None
}

/// `key=value,…` with line protocol's escapes taken back.
fn pairs(mut text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    while !text.is_empty() {
        let (pair, rest) = split(text, ',').unwrap_or((text, ""));
        if let Some((key, value)) = split(pair, '=') {
            let plain = |text: &str| text.replace("\\,", ",").replace("\\ ", " ").replace("\\=", "=");
            pairs.push((plain(key), plain(value)));
        }
        text = rest;
    }
    pairs
}

fn number(text: &str) -> Result<f64, String> {
    if text.is_empty() || text.eq_ignore_ascii_case("nan") {
        return Ok(f64::NAN);
    }
    text.parse().map_err(|_| format!("expected a number, got {text:?}"))
}

/// A number since the epoch: seconds, milliseconds, microseconds or nanoseconds, by how many digits there are.
pub(crate) fn since_epoch(number: i64) -> Timestamp {
    Timestamp(match number.unsigned_abs() {
        0..100_000_000_000 => number.saturating_mul(1000),
        100_000_000_000..100_000_000_000_000 => number,
        100_000_000_000_000..100_000_000_000_000_000 => number / 1000,
        _ => number / 1_000_000,
    })
}

fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(number) = text.parse::<i64>() {
        return Ok(since_epoch(number));
    }
    text.parse::<jiff::Timestamp>()
        .map(|t| Timestamp(t.as_millisecond()))
        .map_err(|_| format!("expected a time (RFC 3339, or a number since the epoch), got {text:?}"))
}

#[async_trait]
impl Source for ReplaySource {
    fn name(&self) -> String {
        format!("replay of {} file{}", self.files, if self.files == 1 { "" } else { "s" })
    }

    async fn pull(
        &self,
        since: Timestamp,
        until: Timestamp,
        into: &mut dyn Ingest,
    ) -> Result<PullReport, SourceError> {
        let from = self.samples.partition_point(|(at, _, _)| *at < since);
        let to = self.samples.partition_point(|(at, _, _)| *at < until).max(from);
        let mut numbers: Vec<Option<u32>> = vec![None; self.names.len()];
        let mut report = PullReport::default();
        for &(at, series, value) in &self.samples[from..to] {
            let number = *numbers[series as usize].get_or_insert_with(|| {
                let (partition, metric) = &self.names[series as usize];
                into.series(partition, metric)
            });
            into.push(number, at, value);
            report.points += 1;
            report.newest = Some(at);
        }
        for (host, labels) in &self.labels {
            labels.iter().for_each(|(key, value)| into.label(host, key, value));
        }
        Ok(report)
    }

    async fn check(&self) -> Result<String, SourceError> {
        let (series, samples) = (self.names.len(), self.samples.len());
        Ok(match self.range() {
            Some((first, last)) => {
                format!("{}: {samples} samples of {series} series over {}", self.name(), last - first)
            }
            None => format!("{}: no samples (WARNING: nothing to replay)", self.name()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Span;
    use crate::telemetry::{PartitionIx, Windows, WindowsConfig};
    use proptest::prelude::*;

    fn replay(text: &str) -> Result<ReplaySource, (usize, String)> {
        let mut replay = ReplaySource::default();
        replay.read(text, Path::new("x.csv"))?;
        Ok(replay.in_order())
    }

    #[tokio::test]
    async fn every_form_gives_the_same_samples() {
        let forms = [
            "time,partition,metric,value\n1700000000,h/p1,temp,40\n# a remark\n1700000030,h/p1,temp,41.5\n",
            "time,partition,temp,own\n2023-11-14T22:13:20Z,h/p1,40,\n2023-11-14T22:13:50Z,h/p1,41.5,\n",
            "{\"at\":1700000000000,\"host\":\"h\",\"partition\":\"p1\",\"metrics\":{\"temp\":40}}\n\
             {\"at\":\"2023-11-14T22:13:50Z\",\"partition\":\"h/p1\",\"metrics\":{\"temp\":41.5,\"x\":null}}\n",
            "foreshift_agent,host=h,partition=p1,rack=r\\ 1 temp=40 1700000000000000000\n\
             foreshift_agent,host=h,partition=p1 temp=41.5 1700000030000\n",
        ];
        for text in forms {
            let replay = replay(text).unwrap();
            let start = Timestamp(1_700_000_000_000);
            let mut windows = Windows::new(WindowsConfig::default(), start + Span::minutes(1));
            replay.pull(start, start + Span::minutes(1), &mut windows).await.unwrap();
            assert_eq!(windows.counters().taken, 2, "{text}");
            let temp = windows.metric("temp").unwrap();
            assert_eq!(windows.latest(PartitionIx(0), temp, 5), Some(41.5));
            assert_eq!(windows.partitions()[0].as_str(), "h/p1");
            let none = replay.pull(start + Span::minutes(1), start, &mut windows).await.unwrap();
            assert_eq!(none.points, 0);
        }
    }

    #[test]
    fn a_line_that_is_not_understood_is_named_with_what_was_expected() {
        let (line, detail) = replay("time,partition,temp\n1,h,40\n1,h,hot\n").unwrap_err();
        assert_eq!((line, detail.as_str()), (3, "expected a number, got \"hot\""));
        assert_eq!(replay("hello\n").unwrap_err().0, 1);
        assert!(replay("").unwrap().range().is_none());
    }

    proptest! {
        #[test]
        fn no_recording_makes_the_reader_panic(
            text in "(time,|partition|foreshift_agent,host=h |[{}\":,\\\\ =0-9a-z.\n]){0,120}"
        ) {
            let _ = replay(&text);
        }
    }
}
