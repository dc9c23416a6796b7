//! Publishing: the rows anew after a cycle, everything else whenever it changed.

use std::sync::Arc;

use super::core::Core;
use super::picture;
use crate::fleet::{PartitionId, Timestamp, Topology};
use crate::predict::{Contribution, Forecast, Maturity, MetricInsight, WindowWhy};
use crate::protocol::{
    ForecastView, MetricDetail, PartitionDetail, Reason, Severity, Snapshot, WindowReasons,
};
use crate::telemetry::{Failing, SourceStatus};

impl Core {
    /// Builds the rows of hosts, partitions and workloads after a cycle.
    pub(super) fn refresh_rows(&mut self, topology: &Topology, now: Timestamp) {
        let assessments = self.brain.assessments();
        let standings = self.brain.standings();
        let loads = self.brain.loads(topology);
        let mut rows = picture::partitions(topology, &assessments, &standings, self.brain.trends());
        let speakers = self.brain.speakers();
        for row in rows.iter_mut().filter(|_| !speakers.is_empty()) {
            if let Some(who) = speakers.get(&row.id) {
                row.calibration = format!("{}, {who}", row.calibration);
            }
        }
        picture::out_of_service(&mut rows, &self.snapshot.partitions, now);
        self.snapshot.partitions = Arc::new(rows);
        self.snapshot.hosts = Arc::new(picture::hosts(topology, &self.host_risks, &loads));
        self.snapshot.workloads =
            Arc::new(picture::workloads(topology, &self.projections, &self.disruptions));
        let counters = self.brain.windows().counters();
        self.snapshot.data.taken = counters.taken;
        self.snapshot.data.dropped = [
            ("not a number", counters.not_finite),
            ("too late", counters.late),
            ("from the future", counters.future + self.presence.from_the_future),
            ("too many metrics", counters.metric_overflow),
            ("lost with the store", self.lost),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.to_string(), count))
        .collect();
        self.snapshot.data.newest = self.brain.newest();
    }

    /// Brings everything that is not a row up to date and numbers the snapshot.
    pub fn publish(&mut self, now: Timestamp) {
        let proposals = self.book.entries().into_iter().map(|e| picture::proposal(e, &self.movers)).collect();
        self.snapshot.sequence += 1;
        self.snapshot.at = now;
        self.snapshot.mode = self.mode;
        self.snapshot.stopped = self.stopped.clone();
        self.snapshot.frozen = self.frozen.clone();
        self.snapshot.proposals = Arc::new(proposals);
        self.snapshot.migrations = self.migrations.clone();
        self.snapshot.alerts = Arc::new(self.alerts.view());
        self.snapshot.audit = Arc::new(self.audit.recent());
    }

    /// The snapshot as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.snapshot.clone())
    }

    /// Notes how the source is; returns whether the header changes.
    pub fn source_status(&mut self, status: &SourceStatus, now: Timestamp) -> bool {
        let failing = match status {
            SourceStatus::Failing { what, reason, retry_at, .. } => {
                Some((*what, (reason.clone(), *retry_at)))
            }
            SourceStatus::Live | SourceStatus::Starting => None,
        };
        if failing.as_ref().map(|(_, said)| said) == self.snapshot.data.failing.as_ref() {
            return false;
        }
        match &failing {
            Some((what, (reason, _))) => {
                let severity = match what {
                    Failing::Server => Severity::Warning,
                    Failing::OwnStore => Severity::Critical,
                };
                self.alerts.raise(now, severity, "telemetry", "source", reason.clone());
            }
            None => self.alerts.clear(now, "telemetry", "source"),
        }
        let failing = failing.map(|(_, said)| said);
        self.snapshot.data.failing = failing;
        true
    }

    /// Notes why the write-back fails, or that it does not.
    pub fn sink_status(&mut self, failing: Option<String>) {
        self.snapshot.data.sink_failing = failing;
    }

    /// Everything about one partition, for its screen.
    pub fn inspect(&self, partition: &PartitionId, now: Timestamp) -> Option<PartitionDetail> {
        let insight = self.brain.detail(partition)?;
        let assessment = insight.assessment;
        let mut events = self.events.get(partition).cloned().unwrap_or_default();
        events.extend(
            self.failures.of(partition.as_str()).map(|f| (f.at, format!("{:?}: {}", f.label, f.cause))),
        );
        events.sort_by_key(|e| std::cmp::Reverse(e.0));
        Some(PartitionDetail {
            id: partition.clone(),
            at: now,
            metrics: insight.metrics.into_iter().map(metric).collect(),
            why_health: assessment.why_health.iter().map(reason).collect(),
            why_failure: assessment.why_failure.iter().map(reason).collect(),
            failure_base: assessment.failure_base,
            track_record: self.track_record(),
            why_others: insight.others.into_iter().map(other_window).collect(),
            model: insight.model,
            maturity: maturity_words(assessment.maturity).to_string(),
            confidence: assessment.confidence.value(),
            sure: (!assessment.failure.is_empty()).then(|| picture::sure(&assessment.confidence)),
            workloads: self.topology().on_partition(partition).map(|w| w.id.clone()).collect(),
            events,
        })
    }
}

fn maturity_words(maturity: Maturity) -> &'static str {
    match maturity {
        Maturity::Untrained => "nothing learnt of it yet",
        Maturity::Pooled => "judged by its peers' normal",
        Maturity::OwnScale => "judged by its own normal (hours)",
        Maturity::Own => "judged by its own normal (days)",
    }
}

fn reason(c: &Contribution) -> Reason {
    let (label, _) = picture::metric_words(c.metric.as_str());
    Reason { what: label, amount: c.amount, words: c.words.clone() }
}

fn other_window(why: WindowWhy) -> WindowReasons {
    WindowReasons {
        within: why.within,
        probability: why.probability,
        base: why.base,
        parts: why.parts.iter().map(reason).collect(),
    }
}

fn forecast(f: Forecast) -> ForecastView {
    ForecastView {
        start: f.start,
        step: f.step,
        median: f.median,
        low50: f.band50.0,
        high50: f.band50.1,
        low90: f.band90.0,
        high90: f.band90.1,
        method: f.method,
        crossing: f.crossing.map(|c| (c.bound, c.at, c.between.0, c.between.1)),
    }
}

fn metric(m: MetricInsight) -> MetricDetail {
    MetricDetail {
        metric: m.metric.to_string(),
        label: m.label,
        unit: m.unit.map(|u| u.suffix().to_string()).unwrap_or_default(),
        start: m.start,
        step: m.step,
        history: m.history,
        normal: m.normal,
        deviation: m.deviation,
        forecast: m.forecast.map(forecast),
    }
}
