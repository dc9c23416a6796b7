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

/// How a field of one row is read.
pub type Get = for<'a> fn(&'a Snapshot, usize) -> Value<'a>;

/// A field: its name in filters, and how to get it.
#[derive(Clone, Copy)]
pub struct Field {
    /// Name in filters and in `sort`.
    pub name: &'static str,
    /// Sorts from large to small at first.
    pub large_first: LargeFirst,
    /// Its value in a row.
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

const fn up(name: &'static str, get: Get) -> Field {
    Field { name, large_first: LargeFirst::No, get }
}

const fn down(name: &'static str, get: Get) -> Field {
    Field { name, large_first: LargeFirst::Yes, get }
}

fn text(t: &str) -> Value<'_> {
    Value::Text(t)
}

fn number(n: f64) -> Value<'static> {
    Value::Number(n)
}

fn or_nan(n: Option<f64>) -> Value<'static> {
    Value::Number(n.unwrap_or(f64::NAN))
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
    up("host", |s, i| text(host(s, i).id.as_str())),
    up("state", |s, i| text(worst_state(s, host(s, i)).map_or("", |w| w.word()))),
    up("site", |s, i| text(host(s, i).site.as_str())),
    up("rack", |s, i| text(host(s, i).rack.as_str())),
    down("risk", |s, i| or_nan(risk(s, host(s, i)))),
    down("load", |s, i| or_nan(host(s, i).load.map(|l| l.get()))),
    down("partitions", |s, i| number(host(s, i).partitions.len() as f64)),
];

static PARTITIONS: [Field; 13] = [
    up("state", |s, i| text(partition(s, i).shown.word())),
    up("partition", |s, i| text(partition(s, i).id.as_str())),
    up("health", |s, i| or_nan(partition(s, i).health.map(|h| h.get()))),
    down("p15m", |s, i| or_nan(probability(partition(s, i), 0))),
    down("p1h", |s, i| or_nan(probability(partition(s, i), 1))),
    down("p24h", |s, i| or_nan(probability(partition(s, i), 2))),
    down("instability", |s, i| or_nan(partition(s, i).instability)),
    down("workloads", |s, i| number(f64::from(partition(s, i).workloads))),
    down("data", |s, i| number(partition(s, i).data.0 as f64)),
    up("class", |s, i| text(&partition(s, i).class)),
    up("host", |s, i| text(partition(s, i).host.as_str())),
    down("since", |s, i| number(partition(s, i).since.seconds())),
    up("because", |s, i| text(&partition(s, i).because)),
];

static WORKLOADS: [Field; 8] = [
    up("workload", |s, i| text(s.workloads[i].id.as_str())),
    up("application", |s, i| text(s.workloads[i].application.as_str())),
    up("hps", |s, i| or_nan(s.workloads[i].hps.map(|h| h.get()))),
    up("partition", |s, i| text(s.workloads[i].partition.as_str())),
    down("size", |s, i| number(s.workloads[i].size.0 as f64)),
    down("disruption", |s, i| number(s.workloads[i].disruption)),
    up("kind", |s, i| text(&s.workloads[i].kind)),
    up("class", |s, i| text(&s.workloads[i].class)),
];

static PROPOSALS: [Field; 5] = [
    down("proposal", |s, i| number(s.proposals[i].id.0 as f64)),
    up("title", |s, i| text(&s.proposals[i].title)),
    down("moves", |s, i| number(s.proposals[i].moves.len() as f64)),
    up("expires", |s, i| number(s.proposals[i].expires.seconds())),
    up("status", |s, i| text(&s.proposals[i].status)),
];

static MIGRATIONS: [Field; 6] = [
    down("migration", |s, i| number(s.migrations[i].id.0 as f64)),
    up("workload", |s, i| text(s.migrations[i].workload.as_str())),
    up("source", |s, i| text(s.migrations[i].source.as_str())),
    up("destination", |s, i| text(s.migrations[i].destination.as_str())),
    up("phase", |s, i| text(s.migrations[i].phase.word())),
    down("started", |s, i| number(s.migrations[i].started.seconds())),
];

static AUDIT: [Field; 4] = [
    down("time", |s, i| number(s.audit[i].at.seconds())),
    up("actor", |s, i| text(&s.audit[i].actor)),
    up("act", |s, i| text(&s.audit[i].act)),
    up("outcome", |s, i| text(&s.audit[i].outcome)),
];

static ALERTS: [Field; 4] = [
    down("time", |s, i| number(s.alerts[i].at.seconds())),
    up("severity", |s, i| {
        text(match s.alerts[i].severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        })
    }),
    up("subject", |s, i| text(&s.alerts[i].subject)),
    up("text", |s, i| text(&s.alerts[i].text)),
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
