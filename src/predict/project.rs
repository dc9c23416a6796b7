//! From partitions to what people ask about: the Health Projection Score of every workload and the
//! Failure Risk Score of every host.

use std::collections::HashMap;

use super::assessment::{Assessment, Contribution, HostRisk, WorkloadProjection};
use super::context::{Context, Outcome, Subject};
use crate::fleet::{
    HealthScore, MetricName, PartitionId, Probability, Span, Timestamp, Topology, Workload, WorkloadId,
};

/// What a projection weighs, in points of 100.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ProjectionOptions {
    /// The probability within this window looks ahead.
    pub window: Span,
    /// Share of its partition's lost health that a workload loses.
    pub partition: f64,
    /// Points at a probability of 1 that its partition fails.
    pub ahead: f64,
    /// Points at a certain failure of everything that it needs, at full correlation.
    pub dependencies: f64,
    /// Points for one recent failure of its own.
    pub history: f64,
    /// A failure within this span after one of a dependency counts as caused by it.
    pub together: Span,
}

impl Default for ProjectionOptions {
    fn default() -> Self {
        Self {
            window: Span::hours(1),
            partition: 0.6,
            ahead: 40.0,
            dependencies: 30.0,
            history: 4.0,
            together: Span::minutes(10),
        }
    }
}

/// Projections of all workloads, in the order of `context.topology.workloads`. A workload on a
/// partition about which nothing is known has no score.
pub fn workloads(
    assessments: &[Assessment],
    context: &Context,
    options: &ProjectionOptions,
    now: Timestamp,
) -> Vec<WorkloadProjection> {
    let by_partition = index(assessments);
    let mut failed: HashMap<&WorkloadId, Vec<Timestamp>> = HashMap::new();
    for failure in context.failures.iter().filter(|f| f.outcome == Outcome::Failed) {
        if let Subject::Workload(id) = &failure.subject {
            failed.entry(id).or_default().push(failure.at);
        }
    }
    context
        .topology
        .workloads
        .iter()
        .map(|w| {
            let projection = Projection { by_partition: &by_partition, failed: &failed, options, now };
            projection.of(w, context.topology)
        })
        .collect()
}

struct Projection<'a> {
    by_partition: &'a HashMap<&'a PartitionId, &'a Assessment>,
    failed: &'a HashMap<&'a WorkloadId, Vec<Timestamp>>,
    options: &'a ProjectionOptions,
    now: Timestamp,
}

impl Projection<'_> {
    fn of(&self, workload: &Workload, topology: &Topology) -> WorkloadProjection {
        let unknown = WorkloadProjection { workload: workload.id.clone(), hps: None, why: Vec::new() };
        let Some(own) = self.live(&workload.partition) else { return unknown };
        let Some(health) = own.health else { return unknown };
        let mut why = Vec::new();
        let mut add = |what: &str, amount: f64, words: String| {
            if amount > 0.005 {
                why.push(Contribution { metric: MetricName::from(what), amount, words });
            }
        };
        let lost = 100.0 - health.get();
        let because = own.why_health.first().map_or("", |c| c.words.as_str());
        add(
            "environment",
            self.options.partition * lost,
            format!("health of {} is {health:.0}: {because}", workload.partition),
        );
        let p = own.failure_within(self.options.window).map_or(0.0, Probability::get);
        add(
            "forecast",
            self.options.ahead * p,
            format!(
                "{} fails with {:.0} % within {}",
                workload.partition,
                100.0 * p,
                self.options.window.as_window()
            ),
        );
        let (risk, name) = self.dependencies(workload, topology);
        add("dependencies", self.options.dependencies * risk, format!("needs {name}, which is at risk"));
        let past = self.past(&workload.id);
        add("own history", self.options.history * past.min(5.0), "it failed before, of late".to_string());
        let total: f64 = why.iter().map(|c| c.amount).sum();
        let scale = if total > 100.0 { 100.0 / total } else { 1.0 };
        for c in &mut why {
            c.amount *= scale;
        }
        why.sort_by(|a, b| b.amount.total_cmp(&a.amount));
        WorkloadProjection {
            workload: workload.id.clone(),
            hps: HealthScore::clamped(100.0 - total.min(100.0)),
            why,
        }
    }

    /// The assessment of a partition that has not expired.
    fn live(&self, partition: &PartitionId) -> Option<&Assessment> {
        self.by_partition.get(partition).copied().filter(|a| a.expires >= self.now)
    }

    /// The greatest risk from what it needs: probability that the dependency's partition fails
    /// times how often the workload failed with it before.
    fn dependencies(&self, workload: &Workload, topology: &Topology) -> (f64, String) {
        let mut worst = (0.0f64, String::new());
        for id in &workload.depends_on {
            let Some(needed) = topology.workload(id) else { continue };
            if needed.partition == workload.partition {
                continue;
            }
            let p = self
                .live(&needed.partition)
                .and_then(|a| a.failure_within(self.options.window))
                .map_or(0.0, Probability::get);
            let risk = p * self.correlation(&workload.id, id);
            if risk > worst.0 {
                worst = (risk, id.to_string());
            }
        }
        worst
    }

    /// Share of the dependency's failures after which the workload failed too; with nothing
    /// recorded one half (Laplace's rule of succession).
    fn correlation(&self, workload: &WorkloadId, needed: &WorkloadId) -> f64 {
        let own = self.failed.get(workload).map_or(&[][..], Vec::as_slice);
        let theirs = self.failed.get(needed).map_or(&[][..], Vec::as_slice);
        let together = theirs
            .iter()
            .filter(|t| own.iter().any(|o| (Span::ZERO..=self.options.together).contains(&(*o - **t))))
            .count();
        (together as f64 + 1.0) / (theirs.len() as f64 + 2.0)
    }

    fn past(&self, workload: &WorkloadId) -> f64 {
        let half_life = Span::days(14).0 as f64;
        let times = self.failed.get(workload).map_or(&[][..], Vec::as_slice);
        times.iter().map(|at| 0.5f64.powf(at.age(self.now).0 as f64 / half_life)).sum()
    }
}

/// Failure Risk Score of every host, in the order of `topology.hosts`: the probability that any of
/// its partitions fails within `window`, taken as independent (an upper bound where they share a
/// cause). Partitions about which nothing is known lower the confidence; a host with none known
/// has no score.
pub fn hosts(assessments: &[Assessment], topology: &Topology, window: Span, now: Timestamp) -> Vec<HostRisk> {
    let by_partition = index(assessments);
    let mut of_host: HashMap<&str, Tally<'_>> = HashMap::new();
    for partition in &topology.partitions {
        let tally = of_host.entry(partition.host.as_str()).or_default();
        tally.all += 1;
        let live = by_partition.get(&partition.id).filter(|a| a.expires >= now && a.health.is_some());
        if let Some((p, a)) = live.and_then(|a| a.failure_within(window).map(|p| (p, *a))) {
            tally.survives *= 1.0 - p.get();
            tally.known += 1;
            if tally.least.is_none_or(|least| a.confidence.value() < least.confidence.value()) {
                tally.least = Some(a);
            }
        }
    }
    topology
        .hosts
        .iter()
        .map(|host| {
            let tally = of_host.remove(host.id.as_str()).unwrap_or_default();
            let least = tally.least.map(|a| (a.partition.clone(), a.confidence));
            let share = f64::from(tally.known) / f64::from(tally.all.max(1));
            HostRisk {
                host: host.id.clone(),
                within: window,
                risk: least.as_ref().and_then(|_| Probability::clamped(1.0 - tally.survives)),
                confidence: least.as_ref().map_or(0.0, |(_, least)| least.value() * share),
                least,
                known: (tally.known, tally.all),
            }
        })
        .collect()
}

/// What is counted of one host.
struct Tally<'a> {
    survives: f64,
    least: Option<&'a Assessment>,
    known: u32,
    all: u32,
}

impl Default for Tally<'_> {
    fn default() -> Self {
        Self { survives: 1.0, least: None, known: 0, all: 0 }
    }
}

fn index(assessments: &[Assessment]) -> HashMap<&PartitionId, &Assessment> {
    assessments.iter().map(|a| (&a.partition, a)).collect()
}
