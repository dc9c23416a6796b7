//! Turns what the engine knows into the views that consoles show. Pure: everything is an argument.

use std::collections::{BTreeMap, HashMap};

use crate::drivers::{Capabilities, Job, Mover};
use crate::fleet::{
    Bytes, Generation, HostId, MigrationId, PartitionId, PredictionState, Share, ShownState, Span, Timestamp,
    Topology, WorkloadId,
};
use crate::plan::proposal::Rejected;
use crate::plan::{Proposal, Trigger};
use crate::predict::{Assessment, Calibration, Confidence, HostRisk, WorkloadProjection};
use crate::protocol::{HostSure, HostView, MoveView, PartitionView, ProposalView, Sure, WorkloadView};
use crate::telemetry::schema;

use super::book::{Entry, Status};

/// Values in a trend: two hours at five minutes.
pub const TREND: usize = 24;
/// Width of one value of a trend.
pub const TREND_STEP: Span = Span::minutes(5);

/// The last health scores of every partition on an even grid; NaN where unknown.
#[derive(Clone, Debug, Default)]
pub struct Trends {
    slot: i64,
    rows: HashMap<PartitionId, [f32; TREND]>,
}

impl Trends {
    /// Writes the present scores into the newest value, moving on where a new one begins.
    pub fn record<'a>(
        &mut self,
        now: Timestamp,
        scores: impl Iterator<Item = (&'a PartitionId, Option<f32>)>,
    ) {
        let slot = now.0.div_euclid(TREND_STEP.0);
        let shift = usize::try_from(slot - self.slot).unwrap_or(0).min(TREND);
        self.slot = self.slot.max(slot);
        if shift > 0 {
            for row in self.rows.values_mut() {
                row.rotate_left(shift % TREND);
                row[TREND - shift..].fill(f32::NAN);
            }
        }
        for (id, score) in scores {
            let row = self.rows.entry(id.clone()).or_insert([f32::NAN; TREND]);
            row[TREND - 1] = score.unwrap_or(f32::NAN);
        }
    }

    fn of(&self, id: &PartitionId) -> Vec<f32> {
        self.rows.get(id).map_or_else(|| vec![f32::NAN; TREND], |row| row.to_vec())
    }
}

/// What is known of a partition beside its assessment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// What the prediction state machine says.
    pub prediction: PredictionState,
    /// Since when.
    pub since: Timestamp,
    /// Time of its newest sample.
    pub seen: Option<Timestamp>,
}

fn calibration_word(assessment: &Assessment) -> &'static str {
    // What stands first is the middle window: it is what screens and reasons speak of.
    match assessment.failure.get(assessment.failure.len() / 2).map(|f| f.calibration) {
        None => "",
        Some(Calibration::Calibrated) => "calibrated",
        Some(Calibration::Shipped) => "shipped model",
        Some(Calibration::Uncalibrated) => "uncalibrated",
    }
}

/// The two top reasons in a few words.
fn because(assessment: &Assessment) -> String {
    let words: Vec<&str> = assessment
        .why_health
        .iter()
        .filter(|c| c.amount >= 1.0 && !c.words.is_empty())
        .take(2)
        .map(|c| c.words.as_str())
        .collect();
    words.join(", ")
}

/// Rows of all partitions, sorted by name.
pub fn partitions(
    topology: &Topology,
    assessments: &HashMap<PartitionId, Assessment>,
    standings: &HashMap<PartitionId, Standing>,
    trends: &Trends,
) -> Vec<PartitionView> {
    let mut load: HashMap<&PartitionId, (u32, u64)> = HashMap::new();
    for workload in &topology.workloads {
        let entry = load.entry(&workload.partition).or_default();
        entry.0 += 1;
        entry.1 = entry.1.saturating_add(workload.size.0);
    }
    topology
        .partitions
        .iter()
        .map(|partition| {
            let standing = standings.get(&partition.id).copied().unwrap_or_default();
            let assessment = assessments.get(&partition.id);
            let (workloads, data) = load.get(&partition.id).copied().unwrap_or_default();
            PartitionView {
                id: partition.id.clone(),
                host: partition.host.clone(),
                class: partition.class.clone(),
                serving: partition.serving,
                prediction: standing.prediction,
                shown: ShownState::of(partition.serving, standing.prediction),
                since: standing.since,
                seen: standing.seen,
                health: assessment.and_then(|a| a.health),
                trend: trends.of(&partition.id),
                failure: assessment
                    .map(|a| a.failure.iter().map(|f| f.probability).collect())
                    .unwrap_or_default(),
                calibration: assessment.map(calibration_word).unwrap_or_default().to_string(),
                because: assessment.map(because).unwrap_or_default(),
                instability: assessment.and_then(|a| a.instability),
                workloads,
                data: Bytes(data),
            }
        })
        .collect()
}

/// Says of every partition that is forbidden to serve since when it is and why, as far as the rows `before` these
/// tell. One that is so from the engine's first look on may have been for longer: it counts from its last sample.
pub fn out_of_service(rows: &mut [PartitionView], before: &[PartitionView], now: Timestamp) {
    const WHY: &str = "no answer from its system";
    let earlier: HashMap<&PartitionId, &PartitionView> = before.iter().map(|p| (&p.id, p)).collect();
    for row in rows.iter_mut().filter(|row| row.shown == ShownState::Fenced) {
        (row.since, row.because) = match earlier.get(&row.id) {
            Some(was) if was.shown == ShownState::Fenced => (was.since, was.because.clone()),
            Some(was) if was.because.is_empty() => (now, WHY.to_string()),
            Some(was) => (now, format!("{WHY}; before that: {}", was.because)),
            None => (row.seen.unwrap_or(now), WHY.to_string()),
        };
    }
}

/// Rows of all hosts, sorted by site, rack and name.
pub fn hosts(
    topology: &Topology,
    risks: &HashMap<HostId, HostRisk>,
    loads: &HashMap<HostId, Share>,
) -> Vec<HostView> {
    let mut inside: BTreeMap<&HostId, Vec<u32>> = BTreeMap::new();
    for (index, partition) in (0u32..).zip(&topology.partitions) {
        inside.entry(&partition.host).or_default().push(index);
    }
    let mut views: Vec<HostView> = topology
        .hosts
        .iter()
        .map(|host| HostView {
            id: host.id.clone(),
            site: host.site.clone(),
            rack: host.rack.clone(),
            risk: risks.get(&host.id).and_then(|r| r.risk),
            confidence: risks.get(&host.id).map_or(0.0, |r| r.confidence),
            sure: risks.get(&host.id).and_then(host_sure),
            load: loads.get(&host.id).copied().or(host.capacity.map(|c| c.load)),
            partitions: inside.get(&host.id).cloned().unwrap_or_default(),
        })
        .collect();
    views.sort_by(|a, b| (&a.site, &a.rack, &a.id).cmp(&(&b.site, &b.rack, &b.id)));
    views
}

fn host_sure(risk: &HostRisk) -> Option<HostSure> {
    let (least, parts) = risk.least.as_ref()?;
    Some(HostSure { within: risk.within, least: least.clone(), parts: sure(parts), known: risk.known.0 })
}

/// What a confidence is made of.
pub fn sure(confidence: &Confidence) -> Sure {
    let Confidence { known, there, calibrated, inside } = *confidence;
    Sure { known, there, calibrated, inside }
}

/// Rows of all workloads, sorted by name.
pub fn workloads(
    topology: &Topology,
    projections: &HashMap<WorkloadId, WorkloadProjection>,
    disruptions: &HashMap<WorkloadId, f64>,
) -> Vec<WorkloadView> {
    topology
        .workloads
        .iter()
        .map(|w| WorkloadView {
            id: w.id.clone(),
            application: w.application.clone(),
            kind: w.kind.clone(),
            class: w.class.clone(),
            partition: w.partition.clone(),
            replicas: w.replicas.clone(),
            size: w.size,
            hps: projections.get(&w.id).and_then(|p| p.hps),
            disruption: disruptions.get(&w.id).copied().unwrap_or_default(),
            generation: w.generation,
        })
        .collect()
}

fn way_back_word(capabilities: &Capabilities) -> &'static str {
    match (capabilities.reverse, capabilities.reverse_proved_before_cut) {
        (true, true) => "proved before the cut",
        (true, false) => "proved while watched",
        (false, _) => "none",
    }
}

/// Whether anything can be tried at the destination before the cut.
fn can_try(capabilities: &Capabilities) -> bool {
    capabilities.canary_traffic || capabilities.canary_reads
}

/// What a canary of this driver carries.
pub fn canary_carries(capabilities: &Capabilities) -> &'static str {
    if capabilities.canary_traffic {
        "real traffic"
    } else if capabilities.canary_reads {
        "reads compared by value"
    } else {
        "nothing (this driver cannot)"
    }
}

/// Why it was proposed, in a sentence.
pub fn trigger_sentence(trigger: &Trigger) -> String {
    match trigger {
        Trigger::PredictiveFailure { partition, within, probability } => {
            format!("{partition} fails within {} with {probability}", within.as_window())
        }
        Trigger::Operator { host, actor } => format!("{actor} asked to empty {host}"),
        Trigger::Footprint { discrepancy } => format!("the footprint is {discrepancy} off"),
    }
}

fn moves(proposal: &Proposal, movers: &HashMap<String, std::sync::Arc<dyn Mover>>) -> Vec<MoveView> {
    proposal
        .moves
        .iter()
        .map(|m| {
            let job = Job {
                migration: MigrationId(0),
                workload: m.workload.clone(),
                source: m.source.clone(),
                destination: m.destination.clone(),
                generation: Generation(m.generation.0 + 1),
            };
            MoveView {
                workload: m.workload.clone(),
                source: m.source.clone(),
                destination: m.destination.clone(),
                because: m.because.clone(),
                data: m.data,
                duration: m.duration,
                blackout: m.blackout,
                disruption: m.disruption,
                in_time: m.in_time,
                way_back: way_back_word(&m.capabilities).to_string(),
                commands: movers.get(&m.class).map(|mover| mover.describe(&job)).unwrap_or_default(),
            }
        })
        .collect()
}

/// The view of a proposal.
pub fn proposal(entry: &Entry, movers: &HashMap<String, std::sync::Arc<dyn Mover>>) -> ProposalView {
    let p = &entry.proposal;
    ProposalView {
        id: p.id,
        title: p.title.clone(),
        trigger: trigger_sentence(&p.trigger),
        plan: p.hash().hex(),
        status: entry.status.words(),
        open: entry.status == Status::Waiting,
        made: p.made,
        expires: p.expires,
        moves: moves(p, movers),
        canary: match p.moves.iter().any(|m| can_try(&m.capabilities)) {
            true => p.canary.steps.iter().map(|s| (s.share, s.duration)).collect(),
            false => Vec::new(),
        },
        canary_carries: p
            .moves
            .first()
            .map(|m| match p.canary.steps.is_empty() {
                true => "nothing (no steps are configured)",
                false => canary_carries(&m.capabilities),
            })
            .unwrap_or_default()
            .to_string(),
        soak: p.soak,
        risk: (p.outlook.risk_before, p.outlook.risk_after),
        loads: p.outlook.loads.clone(),
        if_nothing: p.outlook.if_nothing.clone(),
        way_back: p.outlook.way_back.clone(),
        rejected: p.rejected.iter().map(|r| (not_chosen(r, p.moves.len()), r.reason.clone())).collect(),
        risks: p.risks.clone(),
        blocked: p.blocked.clone(),
        difference: entry.difference.clone(),
        topology: p.topology,
    }
}

/// Who was not chosen, and for which of several moves.
fn not_chosen(rejected: &Rejected, moves: usize) -> String {
    match &rejected.workload {
        Some(workload) if moves > 1 => format!("{} for {workload}", rejected.candidate),
        _ => rejected.candidate.clone(),
    }
}

/// A metric's label and unit for people; metrics that are not canonical bear their own name.
pub fn metric_words(name: &str) -> (String, String) {
    schema::canonical(name)
        .map_or_else(|| (name.to_string(), String::new()), |m| (m.label.into(), m.unit.suffix().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_service_says_since_when_and_why_and_keeps_saying_it() {
        use crate::fleet::{Partition, ServingState};
        let of = |serving| Topology {
            partitions: vec![Partition {
                id: "h/p".into(),
                host: "h".into(),
                class: "sim".into(),
                serving,
                address: String::new(),
            }],
            ..Topology::default()
        };
        let rows = |serving| partitions(&of(serving), &HashMap::new(), &HashMap::new(), &Trends::default());
        let mut well = rows(ServingState::Active);
        well[0].because = "disk latency ×6".to_string();
        let mut dead = rows(ServingState::Fenced);
        out_of_service(&mut dead, &well, Timestamp(5_000));
        assert_eq!(dead[0].since, Timestamp(5_000));
        assert_eq!(dead[0].because, "no answer from its system; before that: disk latency ×6");
        let mut later = rows(ServingState::Fenced);
        out_of_service(&mut later, &dead, Timestamp(9_000));
        assert_eq!((later[0].since, &later[0].because), (Timestamp(5_000), &dead[0].because));
    }

    #[test]
    fn a_trend_moves_on_with_time_and_keeps_gaps() {
        let mut trends = Trends::default();
        let id = PartitionId::from("h/p");
        trends.record(Timestamp(0), std::iter::once((&id, Some(90.0))));
        trends.record(Timestamp(2 * TREND_STEP.0), std::iter::once((&id, Some(80.0))));
        let row = trends.of(&id);
        assert_eq!(row[TREND - 3], 90.0);
        assert!(row[TREND - 2].is_nan());
        assert_eq!(row[TREND - 1], 80.0);
    }
}
