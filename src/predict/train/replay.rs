//! History as training sees it: every partition's metrics on one grid, run through an assessor slot by
//! slot, its features taken every so often. Nothing from after a row's time can reach the row.

use super::{OnProgress, Progress};
use crate::fleet::{
    ApplicationId, Bytes, Generation, HostId, Partition, PartitionId, ServingState, Span, Timestamp,
    Topology, Workload, WorkloadId,
};
use crate::predict::combined::CombinedOptions;
use crate::predict::failure::features::FeatureSpec;
use crate::predict::failure::live;
use crate::predict::models::FeatureMatrix;
use crate::predict::{AssessOptions, Assessor, Context, ForecastOptions};
use crate::telemetry::window::{MetricIx, PartitionIx, Windows, WindowsConfig};

/// One partition's past.
#[derive(Clone, PartialEq, Debug)]
pub struct History {
    /// Its name.
    pub partition: PartitionId,
    /// The kind of work that it hosted.
    pub kind: String,
    /// `[metric][slot]`, the metrics in canonical order; NaN = missing.
    pub metrics: Vec<Vec<f32>>,
}

/// When rows are taken.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sampling {
    /// Start of slot 0.
    pub start: Timestamp,
    /// Width of a slot.
    pub step: Span,
    /// The first slot that gives rows; before it the assessor learns what is normal.
    pub from: usize,
    /// Rows are taken every so many slots.
    pub every: usize,
    /// Steps of the windows that are kept for an autoencoder; 0 = none.
    pub window: usize,
    /// Windows are kept every so many rows.
    pub window_every: usize,
}

/// What a replay gives.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// One row a partition and time.
    pub rows: FeatureMatrix,
    /// Number of the partition of each row.
    pub units: Vec<u32>,
    /// Slot of each row.
    pub slots: Vec<u32>,
    /// `[window][step][metric]` in robust deviations.
    pub windows: Vec<f32>,
    /// Row of each window.
    pub window_rows: Vec<usize>,
}

/// Replays `histories`, all on the grid of `sampling`.
pub fn replay(
    histories: &[History],
    sampling: &Sampling,
    spec: &FeatureSpec,
    progress: OnProgress<'_>,
) -> Replayed {
    let config = WindowsConfig { step: sampling.step, ..WindowsConfig::default() };
    let mut windows = Windows::new(config, sampling.start);
    let indices: Vec<PartitionIx> = histories.iter().map(|h| windows.intern(&h.partition)).collect();
    let topology = topology_of(histories);
    // Forecasts and combinations are no feature; making them would be most of the time.
    let forecast = ForecastOptions { budget: 0, ..ForecastOptions::default() };
    let combined = CombinedOptions { fits: 0, ..CombinedOptions::default() };
    let mut assessor = Assessor::new(AssessOptions { forecast, combined, ..AssessOptions::default() });
    let slots = histories.iter().flat_map(|h| h.metrics.iter().map(Vec::len)).max().unwrap_or(0);
    let every = sampling.every.max(1);
    let mut out = Replayed { rows: FeatureMatrix::empty(spec.width()), ..Replayed::default() };
    for slot in 0..slots {
        let at = sampling.start + Span(sampling.step.0 * slot as i64);
        windows.advance(at);
        for (history, &p) in histories.iter().zip(&indices) {
            for (m, row) in history.metrics.iter().enumerate() {
                if let Some(&x) = row.get(slot).filter(|x| x.is_finite()) {
                    windows.put(p, MetricIx(m as u16), at, x);
                }
            }
        }
        if slot % every != 0 {
            continue;
        }
        assessor.assess(&windows, &Context { topology: &topology, failures: &[] }, at);
        if slot < sampling.from {
            continue;
        }
        let features = live::features(spec, &assessor, &windows);
        let keep_windows = sampling.window > 0
            && ((slot - sampling.from) / every).is_multiple_of(sampling.window_every.max(1));
        for (unit, &p) in indices.iter().enumerate() {
            // A partition that is not known now is no row.
            if assessor.assessments().get(p.0 as usize).is_none_or(|a| a.instability.is_none()) {
                continue;
            }
            if keep_windows
                && let Some(window) = live::window_of(spec, &assessor, &windows, p, sampling.window)
            {
                out.windows.extend(window);
                out.window_rows.push(out.units.len());
            }
            out.rows.push(features.row(p.0 as usize));
            out.units.push(unit as u32);
            out.slots.push(slot as u32);
        }
        progress(Progress { what: "replaying history".into(), share: (slot + 1) as f64 / slots as f64 });
    }
    out
}

/// Every partition on a host of its own, with one workload of its kind.
fn topology_of(histories: &[History]) -> Topology {
    let mut topology = Topology::default();
    for history in histories {
        topology.partitions.push(Partition {
            id: history.partition.clone(),
            host: history.partition.host(),
            class: "training".into(),
            serving: ServingState::Active,
            address: String::new(),
        });
        topology.workloads.push(Workload {
            id: WorkloadId::from(history.partition.as_str()),
            application: ApplicationId::from("training"),
            class: "training".into(),
            kind: history.kind.clone(),
            partition: history.partition.clone(),
            replicas: Vec::new(),
            size: Bytes(0),
            writes_per_s: 0.0,
            requests_per_s: 0.0,
            depends_on: Vec::new(),
            stateless: false,
            generation: Generation::default(),
            labels: std::collections::BTreeMap::new(),
        });
    }
    topology.hosts = histories
        .iter()
        .map(|h| h.partition.host())
        .map(|id: HostId| crate::fleet::Host {
            id,
            site: "training".into(),
            rack: "training".into(),
            capacity: None,
            labels: std::collections::BTreeMap::new(),
        })
        .collect();
    topology.normalise();
    topology
}
