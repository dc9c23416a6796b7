//! Observe and predict: the windows, the assessor, and the prediction state of every partition.

use std::collections::{BTreeMap, HashMap};

use crate::fleet::{ApplicationId, HostId, PartitionId, PredictionState, Share, Span, Timestamp, Topology};
use crate::predict::failure::Opened;
use crate::predict::keep::Kept;
use crate::predict::models::ModelError;
use crate::predict::models::runtime::Runtime;
use crate::predict::train::ForecastModel;
use crate::predict::{
    AssessOptions, Assessment, Assessor, Context, Evacuation, HysteresisOptions, PartitionInsight,
    PastFailure, PredictionMachine, Reading, Taught,
};
use crate::telemetry::{PartitionIx, Windows, WindowsConfig};

use super::observe::Pulled;
use super::picture::{Standing, Trends};
use super::teach::Due;

/// A partition changed its prediction state.
#[derive(Clone, PartialEq, Debug)]
pub struct Transition {
    /// The partition.
    pub partition: PartitionId,
    /// What it was.
    pub from: PredictionState,
    /// What it is.
    pub to: PredictionState,
}

/// Windows, assessor and states.
#[derive(Debug)]
pub struct Brain {
    windows: Windows,
    assessor: Assessor,
    hysteresis: HysteresisOptions,
    machines: Vec<PredictionMachine>,
    trends: Trends,
    /// Partitions by the name of their host, where they bear names of their own.
    on_host: HashMap<PartitionId, Vec<PartitionId>>,
    /// Newest sample in the history of what has none since.
    remembered: HashMap<PartitionId, Timestamp>,
    /// Detectors that were kept over a restart, until their partition's first samples are here.
    kept: HashMap<PartitionId, Kept>,
}

impl Brain {
    /// A brain that has seen nothing.
    pub fn new(
        windows: WindowsConfig,
        assess: AssessOptions,
        hysteresis: HysteresisOptions,
        now: Timestamp,
    ) -> Self {
        Self {
            windows: Windows::new(windows, now),
            assessor: Assessor::new(assess),
            hysteresis,
            machines: Vec::new(),
            trends: Trends::default(),
            on_host: HashMap::new(),
            remembered: HashMap::new(),
            kept: HashMap::new(),
        }
    }

    /// The windows.
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// The assessor.
    pub fn assessor(&self) -> &Assessor {
        &self.assessor
    }

    /// Health over the last two hours.
    pub fn trends(&self) -> &Trends {
        &self.trends
    }

    /// From now on these models say the chances of failure and watch the course of metrics, run by
    /// `runtime`.
    ///
    /// # Errors
    /// A file that the runtime cannot read; what could be opened is in use then.
    pub fn set_models(&mut self, runtime: &dyn Runtime, opened: Opened) -> Result<(), ModelError> {
        self.assessor.use_models(runtime, opened)
    }

    /// What is wrong with models and was not told yet.
    pub fn take_model_troubles(&mut self) -> Vec<String> {
        self.assessor.take_model_troubles()
    }

    /// From now on this model speaks of an application's partitions.
    ///
    /// # Errors
    /// A file that the runtime cannot read; who spoke before goes on then.
    pub fn set_model_of(
        &mut self,
        application: &ApplicationId,
        version: u32,
        runtime: &dyn Runtime,
        opened: Opened,
    ) -> Result<(), ModelError> {
        self.assessor.use_model_of(application.clone(), version, runtime, opened)
    }

    /// The fleet's model speaks of that application's partitions again.
    pub fn forget_model_of(&mut self, application: &ApplicationId) {
        self.assessor.forget_model_of(application);
    }

    /// Partitions of which the model of an application spoke in the last cycle: whose, and which version.
    pub fn speakers(&self) -> HashMap<PartitionId, String> {
        let named = self.windows.partitions().iter().enumerate();
        named
            .filter_map(|(p, partition)| {
                let (application, version) = self.assessor.speaker(PartitionIx(p as u32))?;
                Some((partition.clone(), format!("model of {application}, version {version}")))
            })
            .collect()
    }

    /// Warms the baselines with a part of the history, and remembers whom it tells of.
    pub fn learn_history(&mut self, history: &Windows) {
        self.assessor.observe_history(history);
        for (p, partition) in history.partitions().iter().enumerate() {
            let Some(seen) = history.last_seen(PartitionIx(p as u32)) else { continue };
            let newest = self.remembered.entry(partition.clone()).or_insert(seen);
            *newest = seen.max(*newest);
        }
    }

    /// Partitions that were measured, now or in the history that was read.
    pub fn seen(&self) -> Vec<PartitionId> {
        let named = self.windows.partitions().iter().enumerate();
        let measured = named.filter(|(p, _)| self.windows.last_seen(PartitionIx(*p as u32)).is_some());
        let mut seen: Vec<PartitionId> = measured.map(|(_, partition)| partition.clone()).collect();
        let mut silent: Vec<PartitionId> =
            self.remembered.keys().filter(|p| !is_measured(&self.windows, p)).cloned().collect();
        silent.sort();
        seen.extend(silent);
        seen
    }

    /// Partitions of which nothing could be said since the engine began, `patience` ago or longer, with
    /// their newest sample.
    pub fn never_known(&self, patience: Span, now: Timestamp) -> Vec<(PartitionId, Option<Timestamp>)> {
        let all = self.windows.partitions().iter().zip(&self.machines).enumerate();
        all.filter(|(_, (_, machine))| machine.was_never_known() && now - machine.since() >= patience)
            .map(|(p, (partition, _))| (partition.clone(), self.last_seen(PartitionIx(p as u32), partition)))
            .collect()
    }

    fn last_seen(&self, ix: PartitionIx, partition: &PartitionId) -> Option<Timestamp> {
        self.windows.last_seen(ix).or_else(|| self.remembered.get(partition).copied())
    }

    /// Partitions whose detector is to be fitted from days of history, those that never were first, then
    /// those of which it was `every` ago; not while they are unusual.
    pub fn lessons_due(&self, every: Span) -> Vec<Due> {
        let mut hosts: HashMap<&PartitionId, Vec<&PartitionId>> = HashMap::new();
        for (host, inside) in &self.on_host {
            inside.iter().for_each(|p| hosts.entry(p).or_default().push(host));
        }
        let due = self.assessor.lessons_due(&self.windows, every);
        let named = |p: PartitionIx| {
            let partition = self.windows.partitions()[p.0 as usize].clone();
            let of_host = hosts.get(&partition).into_iter().flatten().map(|h| (*h).clone());
            let sources = std::iter::once(partition.clone()).chain(of_host).collect();
            Due { partition, sources, application: self.assessor.application_of(p).to_string() }
        };
        due.into_iter().map(named).collect()
    }

    /// From now on this detector watches the partition; says whether it can.
    pub fn teach(&mut self, partition: &PartitionId, taught: Taught) -> bool {
        let Some(ix) = self.windows.partition(partition) else { return false };
        self.kept.remove(partition);
        self.assessor.teach(&self.windows, ix, taught)
    }

    /// From now on this network is tried on the series of its application; says whether it can be.
    pub fn use_forecaster(&mut self, model: ForecastModel) -> bool {
        self.assessor.use_forecaster(model)
    }

    /// Detectors that were kept over a restart: each watches its partition from its first samples on, where
    /// it fits what is measured.
    pub fn remember(&mut self, kept: Vec<Kept>) {
        self.kept.extend(kept.into_iter().map(|kept| (kept.partition.clone(), kept)));
    }

    /// Where the streams of the detectors stand, to be kept; `None` where there is nothing to keep.
    pub fn streams(&self) -> Option<Vec<u8>> {
        let waiting = self.kept.iter().filter_map(|(p, kept)| Some((p, kept.stream.as_ref()?)));
        self.assessor.streams(&self.windows, waiting)
    }

    /// Goes on with the detectors that were kept, of partitions whose samples are here.
    fn resume(&mut self) {
        let here =
            |p: &PartitionId| self.windows.partition(p).filter(|ix| self.windows.last_seen(*ix).is_some());
        let ready: Vec<(PartitionId, PartitionIx)> =
            self.kept.keys().filter_map(|p| Some((p.clone(), here(p)?))).collect();
        for (partition, ix) in ready {
            let Some(kept) = self.kept.remove(&partition) else { continue };
            if let Err(unfit) = self.assessor.resume(&self.windows, ix, kept) {
                let partition = partition.as_str();
                tracing::warn!(partition, reason = %unfit, "a kept detector is refused and fitted anew");
            }
        }
    }

    /// Takes what was pulled.
    pub fn take(&mut self, pulled: Pulled, now: Timestamp) {
        self.windows.advance(now);
        pulled.pour(&mut self.windows, &self.on_host);
    }

    /// Learns which partitions stand on which host.
    pub fn place(&mut self, topology: &Topology) {
        self.on_host.clear();
        for partition in topology.partitions.iter().filter(|p| p.id.as_str() != p.host.as_str()) {
            let host = PartitionId::of(&partition.host, "");
            self.on_host.entry(host).or_default().push(partition.id.clone());
        }
    }

    /// One pass: assess every partition, step its state machine. `evacuations` tells which
    /// partitions are being emptied or were.
    pub fn cycle(
        &mut self,
        topology: &Topology,
        failures: &[PastFailure],
        evacuations: &HashMap<PartitionId, Evacuation>,
        now: Timestamp,
    ) -> Vec<Transition> {
        self.windows.advance(now);
        for partition in &topology.partitions {
            self.windows.intern(&partition.id);
        }
        self.resume();
        self.remembered.retain(|partition, _| !is_measured(&self.windows, partition));
        self.assessor.share_history(&self.windows, &self.on_host);
        let context = Context { topology, failures };
        self.assessor.assess(&self.windows, &context, now);
        let count = self.windows.partitions().len();
        self.machines.resize_with(count, || PredictionMachine::new(now));
        let mut transitions = Vec::new();
        for (index, (machine, partition)) in
            self.machines.iter_mut().zip(self.windows.partitions()).enumerate()
        {
            let ix = crate::telemetry::PartitionIx(index as u32);
            let reading: Reading<'_> = self.assessor.reading(ix);
            let evacuation = evacuations.get(partition).copied().unwrap_or_default();
            if let Some(from) = machine.step(reading, evacuation, &self.hysteresis, now) {
                transitions.push(Transition { partition: partition.clone(), from, to: machine.state() });
            }
        }
        let scores =
            self.assessor.assessments().iter().map(|a| (&a.partition, a.health.map(|h| h.get() as f32)));
        self.trends.record(now, scores);
        transitions
    }

    /// Assessments of the last cycle by partition.
    pub fn assessments(&self) -> HashMap<PartitionId, Assessment> {
        self.assessor.assessments().iter().map(|a| (a.partition.clone(), a.clone())).collect()
    }

    /// Prediction state, since when, and the newest sample of every partition.
    pub fn standings(&self) -> HashMap<PartitionId, Standing> {
        self.windows
            .partitions()
            .iter()
            .zip(&self.machines)
            .enumerate()
            .map(|(index, (partition, machine))| {
                let ix = crate::telemetry::PartitionIx(index as u32);
                let standing = Standing {
                    prediction: machine.state(),
                    since: machine.since(),
                    seen: self.last_seen(ix, partition),
                };
                (partition.clone(), standing)
            })
            .collect()
    }

    /// Everything about one partition as of the last cycle.
    pub fn detail(&self, partition: &PartitionId) -> Option<PartitionInsight> {
        let ix = self.windows.partition(partition)?;
        self.assessor.detail(&self.windows, ix)
    }

    /// Load of every partition that has processing of its own: its newest cpu value, where it is not the
    /// very value of another partition of the same host (then it is the host's).
    pub fn partition_loads(&self, topology: &Topology) -> BTreeMap<PartitionId, Share> {
        let Some(cpu) = self.windows.metric("cpu.busy") else { return BTreeMap::new() };
        let mut by_host: HashMap<&HostId, Vec<(&PartitionId, f32)>> = HashMap::new();
        for partition in &topology.partitions {
            let newest = self.windows.partition(&partition.id).and_then(|ix| self.windows.latest(ix, cpu, 4));
            if let Some(busy) = newest {
                by_host.entry(&partition.host).or_default().push((&partition.id, busy));
            }
        }
        let own = by_host.values().flat_map(|all| {
            all.iter().filter(|(id, busy)| !all.iter().any(|(other, b)| other != id && b == busy))
        });
        own.filter_map(|(id, busy)| Some(((*id).clone(), Share::clamped(f64::from(*busy) / 100.0)?)))
            .collect()
    }

    /// Load of every host: the mean of its partitions' newest cpu values.
    pub fn loads(&self, topology: &Topology) -> HashMap<HostId, Share> {
        let Some(cpu) = self.windows.metric("cpu.busy") else { return HashMap::new() };
        let mut sums: HashMap<HostId, (f64, u32)> = HashMap::new();
        for partition in &topology.partitions {
            let Some(ix) = self.windows.partition(&partition.id) else { continue };
            if let Some(busy) = self.windows.latest(ix, cpu, 4) {
                let entry = sums.entry(partition.host.clone()).or_default();
                entry.0 += f64::from(busy) / 100.0;
                entry.1 += 1;
            }
        }
        sums.into_iter()
            .filter_map(|(host, (sum, n))| Share::clamped(sum / f64::from(n)).map(|s| (host, s)))
            .collect()
    }

    /// The newest sample of the whole fleet.
    pub fn newest(&self) -> Option<Timestamp> {
        (0..self.windows.partitions().len())
            .filter_map(|i| self.windows.last_seen(crate::telemetry::PartitionIx(i as u32)))
            .max()
    }
}

fn is_measured(windows: &Windows, partition: &PartitionId) -> bool {
    windows.partition(partition).is_some_and(|ix| windows.last_seen(ix).is_some())
}
