//! Steps the engine through recorded time: history warms it, samples reach it as their time comes, a
//! record of a failure when an engine would have known of it, and every cycle it predicts and decides
//! as it would have. A proposal that nothing blocks counts as carried out at once, so that what was
//! called is not called again and again, nor taken for a storm; nothing is moved, and the metrics stay
//! what they were.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::calibration::Reliability;
use super::calls::{Call, Calls, is_over, judge};
use super::error::{BacktestError, written};
use super::feed::Feed;
use super::held::HeldBack;
use super::report::{self, Report};
use super::sweep::Sweep;
use super::tally::{Rates, tally};
use super::truth::{Incident, Truth};
use crate::engine::failures::Failure;
use crate::engine::{Core, history};
use crate::fleet::{
    ApplicationId, Bytes, Generation, Partition, PartitionId, PredictionState, Probability, ServingState,
    Span, Timestamp, Topology, Workload, WorkloadId,
};
use crate::plan::Trigger;
use crate::predict::{HysteresisOptions, Outcome, Reading};
use crate::telemetry::{PartitionIx, Source};

/// Data that begin or end so far within the span are worth a word.
const GAP: Span = Span::minutes(30);
/// The class under which stand-ins for unknown placement are discovered, and their partitions'.
const STAND_IN: &str = "host";

/// What is replayed.
pub struct Setup {
    /// An engine that has seen nothing, without a runner, with what its drivers discovered.
    pub core: Core,
    /// How its states change; the same options its brain has.
    pub hysteresis: HysteresisOptions,
    /// Where samples come from.
    pub source: Arc<dyn Source>,
    /// The same with wide steps, to warm the baselines with what was before.
    pub history: Arc<dyn Source>,
    /// The first cycle.
    pub from: Timestamp,
    /// The last cycle is not after this.
    pub to: Timestamp,
    /// Records that the engine is told, each when an engine would have known of it.
    pub told: Vec<Failure>,
    /// The records between `from` and `to` that it is judged by, on their partitions.
    pub incidents: Vec<Incident>,
    /// What things cost.
    pub rates: Rates,
}

/// How far the replay has come.
#[derive(Clone, Copy, Debug)]
pub struct Advance {
    /// 0 to 1.
    pub share: f64,
    /// In replayed time.
    pub at: Timestamp,
    /// Samples given to the engine so far.
    pub points: u64,
}

/// One partition that the engine proposed to empty.
#[derive(Clone, Debug)]
pub(super) struct Proposed {
    pub(super) partition: PartitionId,
    pub(super) at: Timestamp,
    pub(super) title: String,
    pub(super) because: String,
    pub(super) within: Span,
    pub(super) probability: Probability,
    pub(super) moves: usize,
    pub(super) destinations: Vec<PartitionId>,
    /// Why it could not have been carried out then; `None` = it could.
    pub(super) blocked: Option<String>,
    /// When it first could have been.
    pub(super) acted: Option<Timestamp>,
}

impl Proposed {
    pub(super) fn call(&self) -> Option<Call> {
        Some(Call { partition: self.partition.clone(), at: self.acted?, within: self.within })
    }
}

/// What the replay gathers.
struct Gathered {
    truth: Truth,
    proposed: Vec<Proposed>,
    /// Partitions in an episode that was proposed, with the number in `proposed`.
    open: BTreeMap<PartitionId, usize>,
    held: HeldBack,
    sweep: Sweep,
    reliability: Vec<Reliability>,
    /// The highest probability said in the middle window before each failure, by number of incident.
    highest: Vec<Option<f64>>,
    first_seen: HashMap<PartitionId, Timestamp>,
    cycles: u64,
}

/// Replays and judges. `progress` is told at every cycle.
///
/// # Errors
/// The span is empty or holds no sample, or the source fails.
pub async fn run(mut setup: Setup, progress: &mut dyn FnMut(Advance)) -> Result<Report, BacktestError> {
    let options = setup.core.options().clone();
    let interval = options.interval.max(Span::millis(200));
    if setup.to - setup.from < Span(interval.0 * 2) {
        let (from, to) = (written(setup.from), written(setup.to));
        return Err(BacktestError::Empty { from, to, cycle: interval });
    }
    warm(&mut setup, options.history, options.history_step).await;
    let step = options.windows.step;
    let reach = Span(step.0 * options.windows.len as i64);
    let mut feed = Feed::new(setup.source.clone(), setup.from - reach, setup.to, step);
    let windows = setup.core.brain_mut().assessor().options().windows.clone();
    let middle = windows[windows.len() / 2];
    let placed = !setup.core.topology().workloads.is_empty();
    let mut told = std::mem::take(&mut setup.told);
    told.sort_by(|a, b| (a.at, &a.subject, &a.cause).cmp(&(b.at, &b.subject, &b.cause)));
    let mut told = told.into_iter().peekable();
    let truth = Truth::new(std::mem::take(&mut setup.incidents), setup.to);
    let mut gathered = Gathered {
        highest: vec![None; truth.incidents().len()],
        truth,
        proposed: Vec::new(),
        open: BTreeMap::new(),
        held: HeldBack::default(),
        sweep: Sweep::new(&setup.hysteresis),
        reliability: windows.iter().map(|w| Reliability::new(*w)).collect(),
        first_seen: HashMap::new(),
        cycles: 0,
    };
    let core = &mut setup.core;
    let mut now = setup.from;
    while now <= setup.to {
        while let Some(record) = told.next_if(|f| f.at + options.heartbeat_lost <= now) {
            core.learn_failure(record).await?;
        }
        core.take(feed.until(now).await?, now);
        if !placed {
            stand_in(core, now);
        }
        core.cycle(now).await?;
        core.take_alert_events();
        gathered.look(core, middle, now);
        core.assume_emptied(gathered.emptied());
        gathered.cycles += 1;
        let share = (now - setup.from).0 as f64 / (setup.to - setup.from).0 as f64;
        progress(Advance { share, at: now, points: feed.points });
        now += interval;
    }
    let Some((first, last)) = feed.first.zip(feed.last) else {
        let (from, to) = (written(setup.from), written(setup.to));
        return Err(BacktestError::NoData { source_name: setup.source.name(), from, to });
    };
    Ok(judged(&setup, gathered, placed, (first, last, feed.points)))
}

/// Warms the baselines with what was before the span, oldest first, as an engine does at its start.
async fn warm(setup: &mut Setup, span: Span, step: Span) {
    for (from, until) in history::parts(span, setup.from) {
        if let Some(part) = history::part(&*setup.history, step, from, until).await {
            setup.core.brain_mut().learn_history(&part);
        }
    }
}

/// Where no driver says what stands where, every partition is taken to hold one workload, so that there
/// is something to be moved; hosts with partitions of their own are none themselves.
fn stand_in(core: &mut Core, now: Timestamp) {
    let seen = core.brain_mut().windows().partitions().to_vec();
    if core.topology().workloads.len() == seen.len() {
        return;
    }
    let inside: std::collections::HashSet<String> =
        seen.iter().filter(|p| p.as_str().contains('/')).map(|p| p.host().to_string()).collect();
    let own = seen.iter().filter(|p| p.as_str().contains('/') || !inside.contains(p.as_str()));
    let mut topology = Topology::default();
    for id in own {
        topology.partitions.push(Partition {
            id: id.clone(),
            host: id.host(),
            class: STAND_IN.into(),
            serving: ServingState::Active,
            address: String::new(),
        });
        topology.workloads.push(Workload {
            id: WorkloadId::from(format!("work of {id}").as_str()),
            application: ApplicationId::from("unknown"),
            class: STAND_IN.into(),
            kind: String::new(),
            partition: id.clone(),
            replicas: Vec::new(),
            size: Bytes(0),
            writes_per_s: 0.0,
            requests_per_s: 0.0,
            depends_on: Vec::new(),
            stateless: false,
            generation: Generation::default(),
            labels: BTreeMap::new(),
        });
    }
    if core.topology().workloads.len() != topology.workloads.len() {
        core.discovery(STAND_IN.into(), Ok(topology), now);
    }
}

impl Gathered {
    /// Notes what the engine says after a cycle.
    fn look(&mut self, core: &mut Core, middle: Span, now: Timestamp) {
        self.note_proposals(core, now);
        let brain = core.brain_mut();
        let (partitions, assessor) = (brain.windows().partitions(), brain.assessor());
        for (index, partition) in partitions.iter().enumerate() {
            if !self.first_seen.contains_key(partition)
                && let Some(at) = brain.windows().last_seen(PartitionIx(index as u32))
            {
                self.first_seen.insert(partition.clone(), at);
            }
            let reading = assessor.reading(PartitionIx(index as u32));
            self.sweep.take(index, partition, reading, now);
            let Reading::Known { failure, .. } = reading else { continue };
            let events = self.truth.events(partition);
            for reliability in &mut self.reliability {
                let within = reliability.within();
                if let Some(stated) = failure.iter().find(|f| f.within == within)
                    && let Some(happened) = self.truth.label(partition, events, now, within)
                {
                    reliability.add(stated.probability.get(), happened);
                }
            }
        }
        for (incident, highest) in self.truth.incidents().iter().zip(&mut self.highest) {
            if incident.outcome != Outcome::Failed || incident.at <= now || incident.at - middle > now {
                continue;
            }
            for partition in &incident.partitions {
                let Some(index) = brain.windows().partition(partition) else { continue };
                let Reading::Known { failure, .. } = assessor.reading(index) else { continue };
                let said = failure.iter().find(|f| f.within == middle).map(|f| f.probability.get());
                if said.is_some_and(|said| highest.is_none_or(|h| said > h)) {
                    *highest = said;
                }
            }
        }
    }

    /// Partitions in an episode whose proposal nothing blocked.
    fn emptied(&self) -> BTreeSet<PartitionId> {
        let acted = |number: &usize| self.proposed.get(*number).is_some_and(|p| p.acted.is_some());
        self.open.iter().filter(|(_, number)| acted(number)).map(|(p, _)| p.clone()).collect()
    }

    fn note_proposals(&mut self, core: &Core, now: Timestamp) {
        let snapshot = core.snapshot();
        let view = |partition: &PartitionId| {
            let found = snapshot.partitions.binary_search_by(|p| p.id.cmp(partition)).ok()?;
            snapshot.partitions.get(found)
        };
        let state =
            |partition: &PartitionId| view(partition).map_or(PredictionState::Unknown, |v| v.prediction);
        self.open.retain(|partition, _| !is_over(state(partition)));
        for proposal in core.waiting() {
            let Trigger::PredictiveFailure { within, probability, .. } = &proposal.trigger else { continue };
            let mut sources: Vec<&PartitionId> = proposal.moves.iter().map(|m| &m.source).collect();
            sources.sort();
            sources.dedup();
            for source in sources {
                let number = *self.open.entry(source.clone()).or_insert_with(|| {
                    let own = proposal.moves.iter().filter(|m| &m.source == source);
                    let mut destinations: Vec<PartitionId> =
                        own.clone().map(|m| m.destination.clone()).collect();
                    destinations.sort();
                    destinations.dedup();
                    self.proposed.push(Proposed {
                        partition: source.clone(),
                        at: now,
                        title: proposal.title.clone(),
                        because: view(source).map(|v| v.because.clone()).unwrap_or_default(),
                        within: *within,
                        probability: *probability,
                        moves: own.count(),
                        destinations,
                        blocked: proposal.blocked.clone(),
                        acted: None,
                    });
                    self.proposed.len() - 1
                });
                if let Some(noted) = self.proposed.get_mut(number)
                    && noted.acted.is_none()
                    && proposal.blocked.is_none()
                {
                    noted.acted = Some(now);
                }
            }
        }
        let open = &self.open;
        self.held.look(core, now, |partition| open.contains_key(partition), state);
    }
}

/// Judges what was gathered. Records that lie before a partition's first sample are left out, and told.
fn judged(
    setup: &Setup,
    gathered: Gathered,
    placed: bool,
    (first, last, points): (Timestamp, Timestamp, u64),
) -> Report {
    let Gathered { truth, proposed, held, sweep, reliability, highest, first_seen, cycles, .. } = gathered;
    let mut notes = Vec::new();
    if first > setup.from + GAP {
        notes.push(format!(
            "the data begin at {}, {} after --from {}: before that nothing is held (`foreshift check` says how long \
             the source keeps data)",
            written(first),
            first - setup.from,
            written(setup.from)
        ));
    }
    if setup.to - last > GAP {
        notes.push(format!("the data end at {}, {} before --to", written(last), setup.to - last));
    }
    let known = |i: &&(Incident, Option<f64>)| {
        i.0.partitions.iter().any(|p| first_seen.get(p).is_some_and(|seen| *seen <= i.0.at))
    };
    let all: Vec<(Incident, Option<f64>)> = truth.incidents().iter().cloned().zip(highest).collect();
    for (early, _) in all.iter().filter(|i| !known(i)) {
        let seen = early.partitions.iter().filter_map(|p| first_seen.get(p)).min();
        notes.push(format!(
            "{}: {} at {} lies before its first sample ({}), so nothing could be said of it: left out",
            early.place,
            early.subject,
            written(early.at),
            seen.map_or_else(|| "there is none".to_string(), |at| written(*at))
        ));
    }
    let (kept, highest): (Vec<Incident>, Vec<Option<f64>>) = all.iter().filter(known).cloned().unzip();
    let truth = Truth::new(kept, setup.to);
    let calls: Vec<Call> = proposed.iter().filter_map(Proposed::call).collect();
    let by_partition = Calls::of(&calls);
    let least = setup.rates.least_lead;
    let failed: Vec<_> =
        truth.incidents().iter().zip(highest).filter(|(i, _)| i.outcome == Outcome::Failed).collect();
    let held_before = held.missed(failed.iter().map(|(i, _)| *i), &by_partition, &truth, least);
    let failures: Vec<report::Failed> = failed
        .into_iter()
        .zip(held_before)
        .map(|((i, highest), held)| {
            report::Failed::of(i, &by_partition.saved(i, &truth, least), highest, held)
        })
        .collect();
    let held = held.report(&truth, least);
    if !held.is_empty() {
        notes.push(format!(
            "{} predictions were held because nothing could be moved; the thresholds above take each as carried out, as \
             if there had been room",
            held.len()
        ));
    }
    let proposals = proposed
        .iter()
        .map(|p| {
            let verdict = p.call().map(|call| judge(&call, &truth, least));
            report::Proposal::of(p, verdict)
        })
        .collect();
    let curves = sweep.finish(&truth, &setup.rates);
    let configured = tally(&calls, &truth, &setup.rates);
    Report {
        task: "backtest".into(),
        source: setup.source.name(),
        from: written(setup.from),
        to: written(setup.to),
        cycle_s: setup.core.options().interval.as_seconds(),
        cycles,
        partitions: first_seen.len(),
        points,
        models: setup.core.snapshot().models.models.clone(),
        placement: report::placement(placed),
        carried_out: report::CARRIED_OUT.into(),
        rates: setup.rates,
        told_after_s: setup.core.options().heartbeat_lost.as_seconds(),
        missed_held: failures.iter().filter(|f| f.held.is_some()).count(),
        failures,
        outcomes_unknown: truth.incidents().iter().filter(|i| i.outcome == Outcome::MitigatedUnknown).count(),
        proposals,
        held,
        configured,
        calibration: reliability.iter().map(Reliability::finish).collect(),
        recommendations: curves
            .iter()
            .map(|c| super::recommend::recommend(c, &truth, setup.to - setup.from, &setup.rates))
            .collect(),
        curves: curves.into_iter().map(report::Curve::of).collect(),
        notes,
    }
}
