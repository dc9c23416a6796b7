//! What a backtest is given: the span, and the records of failures with the place where each is written.
//! What cannot be used is named with that place, what was expected, and what to do.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::cli::failures;
use crate::config::{Config, quantity};
use crate::engine::failures::{Failure, as_past};
use crate::eval::backtest::Incident;
use crate::eval::backtest::error::written;
use crate::eval::backtest::truth::partitions_of;
use crate::fleet::{HostId, PartitionId, Span, Timestamp, Topology};
use crate::predict::Calibration;
use crate::telemetry::{Ingest, Source};

/// A subject that is not known at once is looked for in so much history before its failure.
const LOOK_BACK: Span = Span::minutes(30);
/// Names that an error lists.
const NAMED: usize = 8;

/// A day and minute as a progress line shows it.
pub(in crate::cli) fn day(at: Timestamp) -> String {
    written(at).chars().take(16).collect::<String>().replace('T', " ")
}

/// A time, a day, or a span before `end`.
fn time(option: &str, text: &str, end: Timestamp) -> Result<Timestamp> {
    if let Ok(at) = failures::parse_time(text) {
        return Ok(at);
    }
    if let Ok(at) = failures::parse_time(&format!("{text}T00:00:00Z")) {
        return Ok(at);
    }
    match quantity::parse_span(text).filter(|s| s.0 > 0) {
        Some(span) => Ok(end - span),
        None => bail!(
            "{option} {text:?}: expected a time (2026-11-21T03:00:00Z, 2026-11-21, seconds or milliseconds since 1970) or a \
             span of time (7d)"
        ),
    }
}

/// The span that is replayed.
///
/// # Errors
/// Where it is none, or lies in the future.
pub(in crate::cli) fn span(
    from: &str,
    to: Option<&str>,
    end: Timestamp,
    now: Timestamp,
) -> Result<(Timestamp, Timestamp)> {
    let until = match to {
        Some(text) => time("--to", text, now)?,
        None => end,
    };
    if until > now {
        bail!("--to {}: lies in the future; history ends now: leave --to out", written(until));
    }
    let start = time("--from", from, until)?;
    if start >= until {
        bail!(
            "--from {} lies after --to {}: expected an earlier time; exchange them, or leave --to out for a span up \
             to now",
            written(start),
            written(until)
        );
    }
    Ok((start, until))
}

/// One record and where it is written.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Label {
    place: String,
    from_file: bool,
    record: Failure,
}

/// All records.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Labels(Vec<Label>);

impl Labels {
    /// The failure history of the state store, and a file's. Where an engine holds the store, a file has
    /// to do alone.
    ///
    /// # Errors
    /// Where neither can be read; the error says what to do.
    pub(in crate::cli) async fn load(
        config: &Config,
        file: Option<&Path>,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let mut labels = Self::default();
        match failures::recorded(config).await {
            Ok(records) => labels.0.extend(records.into_iter().map(|record| Label {
                place: format!("record {} of the failure history", record.number),
                from_file: false,
                record,
            })),
            Err(error) if file.is_some() => {
                notes.push(format!("the failure history of the state store was left out: {error}"));
            }
            Err(error) => {
                return Err(error).context(
                    "the failure history cannot be read, neither from its files nor from an engine that runs on them: \
                     stop what has them open, or pass the failures with --failures FILE (columns \
                     at,subject,cause,label)",
                );
            }
        }
        if let Some(file) = file {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("--failures {}: cannot be read", file.display()))?;
            labels.add_file(&text, file)?;
        }
        Ok(labels)
    }

    fn add_file(&mut self, text: &str, file: &Path) -> Result<()> {
        let key = |r: &Failure| (r.at, r.subject.clone(), r.label.word());
        let mut known: HashSet<_> = self.0.iter().map(|l| key(&l.record)).collect();
        for (line, record) in failures::parse_lined(text, file)? {
            if known.insert(key(&record)) {
                let place = format!("{}:{line}", file.display());
                self.0.push(Label { place, from_file: true, record });
            }
        }
        Ok(())
    }

    /// These records, each from the place of that name.
    pub(in crate::cli) fn of(records: Vec<Failure>, place: &str) -> Self {
        let label = |record| Label { place: place.to_string(), from_file: false, record };
        Self(records.into_iter().map(label).collect())
    }

    /// What the engine is told as its time comes.
    pub(in crate::cli) fn records(&self) -> Vec<Failure> {
        self.0.iter().map(|l| l.record.clone()).collect()
    }
}

/// The partitions that a source knows.
#[derive(Default)]
struct Names(BTreeSet<PartitionId>);

impl Ingest for Names {
    fn series(&mut self, partition: &PartitionId, _: &str) -> u32 {
        self.0.insert(partition.clone());
        0
    }

    fn push(&mut self, _: u32, _: Timestamp, _: f32) {}

    fn label(&mut self, _: &HostId, _: &str, _: &str) {}
}

/// The records between `from` and `to`, on the partitions that they name. What lies outside is left out,
/// and told; so is a stored record of something that has no data. A file's is an error: a slip of the
/// pen there would make the figures wrong.
///
/// # Errors
/// A file's subject that nobody knows; the source fails.
pub(in crate::cli) async fn resolve(
    labels: &Labels,
    topology: &Topology,
    source: &dyn Source,
    (from, to): (Timestamp, Timestamp),
    notes: &mut Vec<String>,
) -> Result<Vec<Incident>> {
    let (inside, outside): (Vec<&Label>, Vec<&Label>) =
        labels.0.iter().partition(|l| l.record.at > from && l.record.at <= to);
    if let Some(first) = outside.first() {
        notes.push(format!(
            "{} of {} records lie outside {} to {} and are not judged (the first: {}, {} at {})",
            outside.len(),
            labels.0.len(),
            written(from),
            written(to),
            first.place,
            first.record.subject,
            written(first.record.at)
        ));
    }
    let mut names = Names::default();
    if !inside.is_empty() {
        for (since, until) in [(from, (from + LOOK_BACK).min(to)), ((to - LOOK_BACK).max(from), to)] {
            source.pull(since, until, &mut names).await?;
        }
    }
    let mut incidents = Vec::new();
    for label in inside {
        let record = &label.record;
        let mut partitions = partitions_of(&record.subject, topology, &names.0);
        if partitions.is_empty() {
            source.pull(record.at - LOOK_BACK, record.at, &mut names).await?;
            partitions = partitions_of(&record.subject, topology, &names.0);
        }
        if partitions.is_empty() && label.from_file {
            bail!("{}", unknown(label, topology, &names.0));
        }
        if partitions.is_empty() {
            notes.push(format!("{}; left out", unknown(label, topology, &names.0)));
            continue;
        }
        incidents.push(Incident {
            place: label.place.clone(),
            subject: record.subject.clone(),
            cause: record.cause.clone(),
            at: record.at,
            outcome: as_past(record, topology).outcome,
            partitions,
        });
    }
    Ok(incidents)
}

fn unknown(label: &Label, topology: &Topology, seen: &BTreeSet<PartitionId>) -> String {
    let mut known: BTreeSet<&str> = seen.iter().map(PartitionId::as_str).collect();
    known.extend(topology.partitions.iter().map(|p| p.id.as_str()));
    // The nearest names first: they share most of their beginning.
    let subject = label.record.subject.as_str();
    let shared = |name: &str| name.chars().zip(subject.chars()).take_while(|(a, b)| a == b).count();
    let mut near: Vec<&str> = known.into_iter().collect();
    near.sort_by_key(|name| std::cmp::Reverse(shared(name)));
    let more = if near.len() > NAMED { format!(" and {} more", near.len() - NAMED) } else { String::new() };
    near.truncate(NAMED);
    format!(
        "{}: {subject:?} at {} is no partition, host or workload that has data then: expected one of {}{more}; \
         mend the name or remove the record",
        label.place,
        written(label.record.at),
        near.join(", "),
    )
}

/// Warns where a model was trained on what is replayed: it has seen the answers.
pub(in crate::cli) fn warn_of_seen_data(config: &Config, from: Timestamp, notes: &mut Vec<String>) {
    let Ok(opened) = crate::predict::failure::open(config.predict.model_dir.as_deref()) else { return };
    for card in &opened.cards {
        if card.calibration == Some(Calibration::Calibrated) && card.data.until > from {
            notes.push(format!(
                "the model for {} was trained on data until {}: it has seen the answers, and these figures flatter \
                 it; choose --from after that",
                card.title,
                written(card.data.until)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn a_span_is_read_as_people_write_it() {
        let (from, to) = span("7d", None, NOW, NOW).unwrap();
        assert_eq!((to, to - from), (NOW, Span::days(7)));
        let (from, to) = span("2026-11-01", Some("2026-11-02T12:00:00Z"), NOW, NOW).unwrap();
        assert_eq!((to - from, written(from)), (Span::hours(36), "2026-11-01T00:00:00Z".to_string()));
        assert_eq!(
            span("1000", Some("2000"), NOW, NOW).unwrap(),
            (Timestamp(1_000_000), Timestamp(2_000_000))
        );
    }

    #[test]
    fn a_span_that_is_none_is_refused_with_both_ends() {
        let said = |from: &str, to: Option<&str>| span(from, to, NOW, NOW).unwrap_err().to_string();
        assert!(
            said("2026-11-02", Some("2026-11-01"))
                .contains("2026-11-02T00:00:00Z lies after --to 2026-11-01")
        );
        assert!(said("soon", None).contains("--from \"soon\": expected a time"));
        assert!(said("7d", Some("2100-01-01")).contains("lies in the future"));
        assert!(said("5000", Some("5000")).contains("lies after"), "an empty span is none");
    }

    #[test]
    fn a_record_of_a_file_keeps_its_line_and_a_known_one_is_not_taken_twice() {
        let mut labels = Labels::default();
        let text = "at,subject,cause,label\n\n1795230000,h1,disk,failed\n1795230000,h1,other words,failed\n1795240000,h1,,survived\n";
        labels.add_file(text, Path::new("f.csv")).unwrap();
        let places: Vec<&str> = labels.0.iter().map(|l| l.place.as_str()).collect();
        assert_eq!(places, ["f.csv:3", "f.csv:5"]);
    }

    #[test]
    fn an_unknown_name_is_told_with_the_nearest_ones() {
        let mut labels = Labels::default();
        labels.add_file("1795230000,db-77/p1,disk,failed\n", Path::new("f.csv")).unwrap();
        let seen: BTreeSet<PartitionId> = ["web-1", "db-7/p1", "db-8/p1"].map(PartitionId::from).into();
        let said = unknown(&labels.0[0], &Topology::default(), &seen);
        assert!(said.starts_with("f.csv:1: \"db-77/p1\" at 2026-11-21T03:00:00Z is no partition"), "{said}");
        assert!(said.contains("expected one of db-7/p1, db-8/p1, web-1; mend"), "{said}");
    }
}
