//! The fields of every list: one table that sorts, filters and titles the columns.

use crate::fleet::{Span, Timestamp};
use crate::protocol::{HostView, PartitionView, Severity, Snapshot};

/// The lists that can be sorted and filtered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ListKind {
    /// Hosts.
    Hosts,
    /// Partitions.
    Partitions,
    /// Workloads.
    Workloads,
    /// Proposals.
    Proposals,
    /// Migrations.
    Migrations,
    /// Audit entries.
    Audit,
    /// Alerts.
    Alerts,
}

/// A field's value; missing numbers are NaN and sort last.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A number.
    Number(f64),
}

/// How a field of one row is read, which tells what it holds.
#[derive(Clone, Copy)]
pub enum Get {
    /// Text.
    Text(for<'a> fn(&'a Snapshot, usize) -> &'a str),
    /// A number; NaN = missing.
    Number(fn(&Snapshot, usize) -> f64),
}

/// A field: its name in filters, and how to get it.
#[derive(Clone, Copy)]
pub struct Field {
    /// Name in filters and in `sort`.
    pub name: &'static str,
    /// Sorts from large to small at first.
    pub large_first: LargeFirst,
    /// How it is read.
    pub get: Get,
}

/// Which end of a field comes first when it is sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LargeFirst {
    /// Large numbers first.
    Yes,
    /// Small numbers and early letters first.
    No,
}

impl Field {
    /// Its value in row `i`.
    pub fn value<'a>(&self, snapshot: &'a Snapshot, i: usize) -> Value<'a> {
        match self.get {
            Get::Text(get) => Value::Text(get(snapshot, i)),
            Get::Number(get) => Value::Number(get(snapshot, i)),
        }
    }

    /// Whether it holds numbers.
    pub fn is_number(&self) -> bool {
        matches!(self.get, Get::Number(_))
    }
}

const fn words(name: &'static str, get: for<'a> fn(&'a Snapshot, usize) -> &'a str) -> Field {
    Field { name, large_first: LargeFirst::No, get: Get::Text(get) }
}

const fn up(name: &'static str, get: fn(&Snapshot, usize) -> f64) -> Field {
    Field { name, large_first: LargeFirst::No, get: Get::Number(get) }
}

const fn down(name: &'static str, get: fn(&Snapshot, usize) -> f64) -> Field {
    Field { name, large_first: LargeFirst::Yes, get: Get::Number(get) }
}

fn or_nan(n: Option<f64>) -> f64 {
    n.unwrap_or(f64::NAN)
}

fn partition(s: &Snapshot, i: usize) -> &PartitionView {
    &s.partitions[i]
}

fn host(s: &Snapshot, i: usize) -> &HostView {
    &s.hosts[i]
}

/// Probability of the window `w`, 0 to 1.
pub fn probability(view: &PartitionView, w: usize) -> Option<f64> {
    view.failure.get(w).map(|p| p.get())
}

/// The window that screens speak of first: the middle one.
pub fn middle_window(snapshot: &Snapshot) -> usize {
    snapshot.windows.len() / 2
}

/// The partitions of a host that exist in the snapshot.
pub fn partitions_of<'a>(
    snapshot: &'a Snapshot,
    host: &'a HostView,
) -> impl Iterator<Item = &'a PartitionView> {
    host.partitions.iter().filter_map(|i| snapshot.partitions.get(*i as usize))
}

/// The word of the worst state on a host.
pub fn worst_state(snapshot: &Snapshot, host: &HostView) -> Option<crate::fleet::ShownState> {
    partitions_of(snapshot, host).map(|p| p.shown).min_by_key(|s| badness(*s))
}

/// The share of a host's partitions that are forbidden to serve.
pub fn out_of_service(snapshot: &Snapshot, host: &HostView) -> f64 {
    let fenced = partitions_of(snapshot, host).filter(|p| p.shown == crate::fleet::ShownState::Fenced);
    fenced.count() as f64 / host.partitions.len().max(1) as f64
}

/// What a host is sorted and filtered by as its risk: what has happened there already comes before all that may.
fn risk(snapshot: &Snapshot, host: &HostView) -> Option<f64> {
    match out_of_service(snapshot, host) {
        out if out > 0.0 => Some(1.0 + out),
        _ => host.risk.map(|r| r.get()),
    }
}

/// Rank of a state by how much it needs a person; 0 = most.
pub fn badness(state: crate::fleet::ShownState) -> u8 {
    use crate::fleet::ShownState as S;
    match state {
        S::Fenced => 0,
        S::PredictiveFailure => 1,
        S::Unknown => 2,
        S::Suspect => 3,
        S::Migrating => 4,
        S::Probation => 5,
        S::Standby => 6,
        S::Passive => 7,
        S::Active => 8,
        S::Decommissioned => 9,
    }
}

static HOSTS: [Field; 7] = [
    words("host", |s, i| host(s, i).id.as_str()),
    words("state", |s, i| worst_state(s, host(s, i)).map_or("", |w| w.word())),
    words("site", |s, i| host(s, i).site.as_str()),
    words("rack", |s, i| host(s, i).rack.as_str()),
    down("risk", |s, i| or_nan(risk(s, host(s, i)))),
    down("load", |s, i| or_nan(host(s, i).load.map(|l| l.get()))),
    down("partitions", |s, i| host(s, i).partitions.len() as f64),
];

static PARTITIONS: [Field; 13] = [
    words("state", |s, i| partition(s, i).shown.word()),
    words("partition", |s, i| partition(s, i).id.as_str()),
    up("health", |s, i| or_nan(partition(s, i).health.map(|h| h.get()))),
    down("p15m", |s, i| or_nan(probability(partition(s, i), 0))),
    down("p1h", |s, i| or_nan(probability(partition(s, i), 1))),
    down("p24h", |s, i| or_nan(probability(partition(s, i), 2))),
    down("instability", |s, i| or_nan(partition(s, i).instability)),
    down("workloads", |s, i| f64::from(partition(s, i).workloads)),
    down("data", |s, i| partition(s, i).data.0 as f64),
    words("class", |s, i| &partition(s, i).class),
    words("host", |s, i| partition(s, i).host.as_str()),
    down("since", |s, i| partition(s, i).since.seconds()),
    words("because", |s, i| &partition(s, i).because),
];

static WORKLOADS: [Field; 8] = [
    words("workload", |s, i| s.workloads[i].id.as_str()),
    words("application", |s, i| s.workloads[i].application.as_str()),
    up("hps", |s, i| or_nan(s.workloads[i].hps.map(|h| h.get()))),
    words("partition", |s, i| s.workloads[i].partition.as_str()),
    down("size", |s, i| s.workloads[i].size.0 as f64),
    down("disruption", |s, i| s.workloads[i].disruption),
    words("kind", |s, i| &s.workloads[i].kind),
    words("class", |s, i| &s.workloads[i].class),
];

static PROPOSALS: [Field; 5] = [
    down("proposal", |s, i| s.proposals[i].id.0 as f64),
    words("title", |s, i| &s.proposals[i].title),
    down("moves", |s, i| s.proposals[i].moves.len() as f64),
    up("expires", |s, i| s.proposals[i].expires.seconds()),
    words("status", |s, i| &s.proposals[i].status),
];

static MIGRATIONS: [Field; 6] = [
    down("migration", |s, i| s.migrations[i].id.0 as f64),
    words("workload", |s, i| s.migrations[i].workload.as_str()),
    words("source", |s, i| s.migrations[i].source.as_str()),
    words("destination", |s, i| s.migrations[i].destination.as_str()),
    words("phase", |s, i| s.migrations[i].phase.word()),
    down("started", |s, i| s.migrations[i].started.seconds()),
];

static AUDIT: [Field; 4] = [
    down("time", |s, i| s.audit[i].at.seconds()),
    words("actor", |s, i| &s.audit[i].actor),
    words("act", |s, i| &s.audit[i].act),
    words("outcome", |s, i| &s.audit[i].outcome),
];

static ALERTS: [Field; 4] = [
    down("time", |s, i| s.alerts[i].at.seconds()),
    words("severity", |s, i| match s.alerts[i].severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }),
    words("subject", |s, i| &s.alerts[i].subject),
    words("text", |s, i| &s.alerts[i].text),
];

impl ListKind {
    /// Its fields, in the order in which `sort` goes through them.
    pub fn fields(self) -> &'static [Field] {
        match self {
            ListKind::Hosts => &HOSTS,
            ListKind::Partitions => &PARTITIONS,
            ListKind::Workloads => &WORKLOADS,
            ListKind::Proposals => &PROPOSALS,
            ListKind::Migrations => &MIGRATIONS,
            ListKind::Audit => &AUDIT,
            ListKind::Alerts => &ALERTS,
        }
    }

    /// How many rows the snapshot has.
    pub fn len(self, s: &Snapshot) -> usize {
        match self {
            ListKind::Hosts => s.hosts.len(),
            ListKind::Partitions => s.partitions.len(),
            ListKind::Workloads => s.workloads.len(),
            ListKind::Proposals => s.proposals.len(),
            ListKind::Migrations => s.migrations.len(),
            ListKind::Audit => s.audit.len(),
            ListKind::Alerts => s.alerts.len(),
        }
    }

    /// The name by which a row is found again in the next snapshot.
    pub fn key(self, s: &Snapshot, i: usize) -> String {
        match self {
            ListKind::Hosts => s.hosts[i].id.to_string(),
            ListKind::Partitions => s.partitions[i].id.to_string(),
            ListKind::Workloads => s.workloads[i].id.to_string(),
            ListKind::Proposals => s.proposals[i].id.to_string(),
            ListKind::Migrations => s.migrations[i].id.to_string(),
            ListKind::Audit => format!("{} {} {}", s.audit[i].at.0, s.audit[i].actor, s.audit[i].act),
            ListKind::Alerts => format!("{} {}", s.alerts[i].at.0, s.alerts[i].subject),
        }
    }

    /// The field that sorts it until a person chooses another; `None` = as the engine sorted it.
    pub fn first_sort(self) -> Option<usize> {
        let name = match self {
            ListKind::Hosts => "risk",
            ListKind::Partitions => "p1h",
            ListKind::Workloads => "hps",
            ListKind::Proposals | ListKind::Migrations | ListKind::Audit | ListKind::Alerts => return None,
        };
        self.fields().iter().position(|f| f.name == name)
    }
}

/// Age of a point in time as `3 m 20`; `–` for never.
pub fn age(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or("–".to_string(), |at| at.age(now).to_string())
}

/// What is left until a point in time.
pub fn left(until: Timestamp, now: Timestamp) -> Span {
    Span((until - now).0.max(0))
}
