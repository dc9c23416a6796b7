//! From rows to metrics: which partition and metric a series is, rates, ratios, and several
//! instances of a host as one. Both dialects end here.
//!
//! Series that are one metric go straight through. Disks, interfaces and sensors are held for one
//! query, on the query's own time grid, and combined at its end.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::mapping::{Combine, Derive, FieldRule, Kind, Rule};
use crate::fleet::{HostId, PartitionId, Span, Timestamp};
use crate::telemetry::source::{Ingest, PullReport};

/// The most steps that instances are held for: half a year of half minutes.
const MOST_STEPS: i64 = 1 << 19;

/// Tags that say where a host stands and which partition a series belongs to.
#[derive(Clone, PartialEq, Debug)]
pub struct Tags {
    /// The tag with the host's name.
    pub host: String,
    /// The tag with the partition's part of the name, where a host has several.
    pub partition: String,
    /// Tags that become labels of the host.
    pub labels: Vec<String>,
}

impl Default for Tags {
    /// Telegraf's `host`; `partition`; `site`, `rack`, `dc`, `datacenter`, `region`.
    fn default() -> Self {
        Self {
            host: "host".into(),
            partition: "partition".into(),
            labels: ["site", "rack", "dc", "datacenter", "region"].map(String::from).to_vec(),
        }
    }
}

impl Tags {
    /// All tags that a query has to keep, with the one that tells instances apart.
    pub(super) fn all<'a>(&'a self, instance: Option<&'a str>) -> Vec<&'a str> {
        let mut all = vec![self.host.as_str(), self.partition.as_str()];
        all.extend(self.labels.iter().map(String::as_str));
        all.extend(instance);
        all
    }
}

/// Whose series are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Among<'a> {
    /// The tag with the host's name.
    pub(super) tag: &'a str,
    /// Of these hosts alone; none = of the whole fleet.
    pub(super) hosts: &'a [HostId],
}

/// What is known of the fleet from pulls before: names and how far each series was read.
#[derive(Default)]
pub(super) struct Known {
    partitions: HashMap<PartitionId, u32>,
    metrics: HashMap<String, u16>,
    newest: HashMap<(u32, u16), Timestamp>,
}

impl Known {
    fn number(&mut self, partition: &PartitionId, metric: &str) -> (u32, u16) {
        let partitions = self.partitions.len() as u32;
        let p = *self.partitions.entry(partition.clone()).or_insert(partitions);
        let m = match self.metrics.get(metric) {
            Some(&m) => m,
            None => {
                let m = self.metrics.len().min(usize::from(u16::MAX)) as u16;
                self.metrics.insert(metric.to_string(), m);
                m
            }
        };
        (p, m)
    }

    /// Partitions seen so far.
    pub(super) fn partitions(&self) -> usize {
        self.partitions.len()
    }
}

/// The time range of a query and its steps.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Range {
    /// What was asked for: older samples are given on only where they are new.
    pub(super) since: Timestamp,
    /// Start of the first step, somewhat before `since`.
    pub(super) start: Timestamp,
    /// End of the last whole step.
    pub(super) stop: Timestamp,
    /// Width of a step.
    pub(super) every: Span,
}

impl Range {
    /// The whole steps of `[since, until)` and those of `overlap` before, for samples that were
    /// written late; `None` where no step is whole.
    pub(super) fn new(since: Timestamp, until: Timestamp, every: Span, overlap: Span) -> Option<Self> {
        let (start, stop) = ((since - overlap).floor(every), until.floor(every));
        (start < stop).then_some(Self { since, start, stop, every })
    }

    fn steps(&self) -> usize {
        ((self.stop - self.start).0 / self.every.0.max(1)).clamp(0, MOST_STEPS) as usize
    }

    fn slot(&self, at: Timestamp) -> Option<usize> {
        let slot = usize::try_from((at - self.start).0.div_euclid(self.every.0.max(1))).ok()?;
        (slot < self.steps()).then_some(slot)
    }
}

/// How one series of an answer goes on.
struct Series {
    known: (u32, u16),
    /// Its number in the ingest; `None` = held and combined.
    direct: Option<u32>,
    held: Option<Held>,
    newest_before: Option<Timestamp>,
    newest: Option<Timestamp>,
    scale: f64,
    offset: f64,
}

/// Where the values of an instance are held.
#[derive(Clone, Copy)]
struct Held {
    row: usize,
    /// The divisor of a ratio, not its dividend.
    divisor: bool,
}

/// The values of one field of one instance, a value a step; NaN = missing.
struct Row {
    partition: PartitionId,
    rule: usize,
    instance: String,
    values: Vec<f64>,
    divisors: Vec<f64>,
}

/// Gathers the rows of one query.
pub(super) struct Gather<'a> {
    rule: &'a Rule,
    kind: Kind,
    tags: &'a Tags,
    range: Range,
    known: &'a mut Known,
    into: &'a mut dyn Ingest,
    series: Vec<Series>,
    rows: Vec<Row>,
    row_of: HashMap<(PartitionId, usize, String), usize>,
    report: PullReport,
}

impl<'a> Gather<'a> {
    pub(super) fn new(
        rule: &'a Rule,
        kind: Kind,
        tags: &'a Tags,
        range: Range,
        known: &'a mut Known,
        into: &'a mut dyn Ingest,
    ) -> Self {
        Self {
            rule,
            kind,
            tags,
            range,
            known,
            into,
            series: Vec::new(),
            rows: Vec::new(),
            row_of: HashMap::new(),
            report: PullReport::default(),
        }
    }

    /// The numbers of the series that a field of these tags feeds; none where it is not wanted.
    pub(super) fn open<'t>(
        &mut self,
        field: &str,
        tag: impl Fn(&str) -> Option<Cow<'t, str>>,
    ) -> Option<std::ops::Range<u32>> {
        let first = self.series.len() as u32;
        let host = tag(&self.tags.host).filter(|h| !h.is_empty())?;
        let host = HostId::from(&*host);
        let partition = PartitionId::of(&host, &tag(&self.tags.partition).unwrap_or_default());
        let instance = self.rule.instance.as_deref().and_then(&tag).unwrap_or_default();
        if self.rule.skip.iter().any(|skip| instance.starts_with(skip.as_str())) {
            return None;
        }
        for key in &self.tags.labels {
            if let Some(value) = tag(key).filter(|v| !v.is_empty()) {
                self.into.label(&host, key, &value);
            }
        }
        if self.rule.fields.is_empty() {
            self.push_direct(&partition, field, 1.0, 0.0);
        }
        let rule = self.rule;
        for (index, field_rule) in rule.fields.iter().enumerate() {
            let divisor = matches!(field_rule.derive, Derive::RateBy { per } if per == field);
            if field_rule.field != field && !divisor || (field_rule.derive == Derive::Mean) != self.gauges() {
                continue;
            }
            if self.rule.instance.is_some() || field_rule.derive != Derive::Mean {
                self.push_held(&partition, field_rule, index, &instance, divisor);
            } else {
                self.push_direct(&partition, &field_rule.metric, field_rule.scale, field_rule.offset);
            }
        }
        let end = self.series.len() as u32;
        (end > first).then_some(first..end)
    }

    /// One sample of these series.
    #[inline]
    pub(super) fn sample(&mut self, series: std::ops::Range<u32>, at: Timestamp, value: f64) {
        for number in series {
            let Some(series) = self.series.get_mut(number as usize) else { continue };
            if let Some(into) = series.direct {
                if at < self.range.since && series.newest_before.is_some_and(|newest| at <= newest) {
                    continue;
                }
                self.into.push(into, at, (value * series.scale + series.offset) as f32);
                self.report.points += 1;
                if !value.is_nan() && series.newest.is_none_or(|newest| at > newest) {
                    series.newest = Some(at);
                }
            } else if let (Some(held), Some(slot)) = (series.held, self.range.slot(at)) {
                let row = &mut self.rows[held.row];
                let values = if held.divisor { &mut row.divisors } else { &mut row.values };
                values[slot] = value;
            }
        }
    }

    /// Gives the combined metrics on, and what was done.
    pub(super) fn finish(mut self) -> PullReport {
        let mut by_metric: BTreeMap<(PartitionId, &str), Vec<usize>> = BTreeMap::new();
        for (index, row) in self.rows.iter().enumerate() {
            let metric = self.rule.fields[row.rule].metric.as_str();
            by_metric.entry((row.partition.clone(), metric)).or_default().push(index);
        }
        for ((partition, metric), rows) in by_metric {
            let combined = self.combine(&rows);
            let known = self.known.number(&partition, metric);
            let newest_before = self.known.newest.get(&known).copied();
            let series = self.into.series(&partition, metric);
            let mut newest = None;
            for (slot, value) in combined.into_iter().enumerate().filter(|(_, v)| v.is_finite()) {
                let at = self.range.start + Span(self.range.every.0 * slot as i64);
                if at < self.range.since && newest_before.is_some_and(|newest| at <= newest) {
                    continue;
                }
                self.into.push(series, at, value as f32);
                self.report.points += 1;
                newest = Some(at);
            }
            note_newest(self.known, &mut self.report, known, newest);
        }
        for series in &self.series {
            note_newest(self.known, &mut self.report, series.known, series.newest);
        }
        self.report
    }

    /// Whether every field is a metric of its own name.
    pub(super) fn takes_all(&self) -> bool {
        self.rule.fields.is_empty()
    }

    fn gauges(&self) -> bool {
        self.kind == Kind::Gauge
    }

    fn push_direct(&mut self, partition: &PartitionId, metric: &str, scale: f64, offset: f64) {
        let known = self.known.number(partition, metric);
        let direct = self.into.series(partition, metric);
        let newest_before = self.known.newest.get(&known).copied();
        self.series.push(Series {
            known,
            direct: Some(direct),
            held: None,
            newest_before,
            newest: None,
            scale,
            offset,
        });
    }

    fn push_held(
        &mut self,
        partition: &PartitionId,
        field: &FieldRule,
        rule: usize,
        instance: &str,
        divisor: bool,
    ) {
        let steps = self.range.steps();
        let rows = &mut self.rows;
        let row = *self.row_of.entry((partition.clone(), rule, instance.to_string())).or_insert_with(|| {
            let missing = || vec![f64::NAN; steps];
            let divisors = if matches!(field.derive, Derive::RateBy { .. }) { missing() } else { Vec::new() };
            let (partition, instance) = (partition.clone(), instance.to_string());
            rows.push(Row { partition, rule, instance, values: missing(), divisors });
            rows.len() - 1
        });
        let known = self.known.number(partition, &field.metric);
        self.series.push(Series {
            known,
            direct: None,
            held: Some(Held { row, divisor }),
            newest_before: None,
            newest: None,
            scale: 1.0,
            offset: 0.0,
        });
    }

    /// The instances of one metric of one partition as one value a step.
    fn combine(&self, rows: &[usize]) -> Vec<f64> {
        let rows: Vec<&Row> = rows.iter().map(|&index| &self.rows[index]).collect();
        let mut totals = vec![(0.0f64, 0u32); self.range.steps()];
        for row in &rows {
            let rule = &self.rule.fields[row.rule];
            if rule.combine == Combine::Sum
                && rows.iter().any(|other| is_part_of(&row.instance, &other.instance))
            {
                continue;
            }
            for (slot, total) in totals.iter_mut().enumerate() {
                let value = match rule.derive {
                    Derive::RateBy { .. } if row.divisors[slot] > 0.0 => {
                        row.values[slot] / row.divisors[slot]
                    }
                    Derive::RateBy { .. } => f64::NAN,
                    Derive::Mean | Derive::Rate => row.values[slot],
                } * rule.scale
                    + rule.offset;
                if !value.is_finite() {
                    continue;
                }
                total.0 = match rule.combine {
                    Combine::Max if total.1 > 0 => total.0.max(value),
                    Combine::Max => value,
                    Combine::Sum | Combine::Mean => total.0 + value,
                };
                total.1 += 1;
            }
        }
        let mean = rows.first().is_some_and(|row| self.rule.fields[row.rule].combine == Combine::Mean);
        totals
            .into_iter()
            .map(|(total, count)| match count {
                0 => f64::NAN,
                n if mean => total / f64::from(n),
                _ => total,
            })
            .collect()
    }
}

/// `sda1` is a part of `sda`, `nvme0n1p2` of `nvme0n1`.
fn is_part_of(part: &str, whole: &str) -> bool {
    let Some(rest) = part.strip_prefix(whole).filter(|rest| !rest.is_empty() && !whole.is_empty()) else {
        return false;
    };
    let digits =
        rest.strip_prefix('p').filter(|_| whole.ends_with(|c: char| c.is_ascii_digit())).unwrap_or(rest);
    let numbered = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    numbered && (digits.len() < rest.len() || !whole.ends_with(|c: char| c.is_ascii_digit()))
}

fn note_newest(known: &mut Known, report: &mut PullReport, of: (u32, u16), newest: Option<Timestamp>) {
    if let Some(newest) = newest {
        let entry = known.newest.entry(of).or_insert(newest);
        *entry = newest.max(*entry);
        report.newest = report.newest.max(Some(newest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_disks_are_parts_and_disks_are_not() {
        assert!(is_part_of("sda1", "sda") && is_part_of("nvme0n1p2", "nvme0n1"));
        assert!(!is_part_of("sda", "sda") && !is_part_of("sdab", "sda"));
        assert!(!is_part_of("nvme0n11", "nvme0n1") && !is_part_of("eth10", "eth1"));
        assert!(!is_part_of("eth0.100", "eth0"));
    }

    #[test]
    fn a_range_has_whole_steps_and_an_overlap() {
        let range = Range::new(Timestamp(95_000), Timestamp(128_000), Span::seconds(10), Span::seconds(20));
        let range = range.unwrap();
        assert_eq!((range.start, range.stop, range.steps()), (Timestamp(70_000), Timestamp(120_000), 5));
        assert_eq!(range.slot(Timestamp(69_999)), None);
        assert_eq!(range.slot(Timestamp(119_999)), Some(4));
        assert_eq!(range.slot(Timestamp(120_000)), None);
        assert!(Range::new(Timestamp(5), Timestamp(9), Span::seconds(10), Span::ZERO).is_none());
    }
}
