//! Features of the whole fleet from the windows and what the assessor has learnt of each partition:
//! used by the cycle and, by replaying history through an assessor, by training.

use super::features::{FeatureSpec, PartitionContext, compute};
use crate::predict::assess::Assessor;
use crate::predict::models::matrix::FeatureMatrix;
use crate::telemetry::window::{MetricIx, PartitionIx, Windows};

/// One row a partition of the assessor's last cycle, in the windows' order.
pub fn features(spec: &FeatureSpec, assessor: &Assessor, windows: &Windows) -> FeatureMatrix {
    let partitions = windows.partitions().len().min(assessor.assessments().len());
    let all: Vec<u32> = (0..partitions as u32).collect();
    features_of(spec, assessor, windows, &all)
}

/// One row each of the partitions `which`, by their number in the windows, in that order.
///
/// # Panics
/// Where there is no assessment of one of them.
pub fn features_of(
    spec: &FeatureSpec,
    assessor: &Assessor,
    windows: &Windows,
    which: &[u32],
) -> FeatureMatrix {
    let partitions = which.len();
    let width = assessor.columns.len();
    let metrics: Vec<Option<usize>> = spec
        .metrics
        .iter()
        .map(|name| windows.metric(name).map(|m| m.0 as usize).filter(|&m| m < width))
        .collect();
    let kinds: Vec<Option<usize>> = assessor.derived.kinds.iter().map(|k| spec.kind(k)).collect();
    let per = spec.metrics.len();
    let mut location = vec![f32::NAN; partitions * per];
    let mut scale = vec![f32::NAN; partitions * per];
    let mut extras = vec![f32::NAN; partitions * spec.extras.len()];
    for (row, &p) in which.iter().enumerate() {
        for (k, metric) in metrics.iter().enumerate() {
            if let Some((l, s)) = metric.and_then(|m| assessor.normal.get(p as usize * width + m)) {
                (location[row * per + k], scale[row * per + k]) = (*l, *s);
            }
        }
        let said = &assessor.assessments()[p as usize];
        for (e, name) in spec.extras.iter().enumerate() {
            let value = match name.as_str() {
                "instability" => said.instability,
                "health" => said.health.map(|h| h.get()),
                _ => None,
            };
            extras[row * spec.extras.len() + e] = value.map_or(f32::NAN, |v| v as f32);
        }
    }
    let kind_of = |p: u32| assessor.derived.kind.get(p as usize).copied();
    let context = |row: usize| PartitionContext {
        location: &location[row * per..(row + 1) * per],
        scale: &scale[row * per..(row + 1) * per],
        extras: &extras[row * spec.extras.len()..(row + 1) * spec.extras.len()],
        kind: kind_of(which[row]).and_then(|k| kinds.get(k as usize).copied().flatten()),
    };
    let mut rows = compute(spec, partitions, context, |row, k| match metrics[k] {
        Some(m) => windows.row(PartitionIx(which[row]), MetricIx(m as u16)),
        None => (&[], &[]),
    });
    // A runtime refuses them, and with them the whole fleet.
    rows.drop_infinite();
    rows
}

/// The last `steps` slots of a partition's metrics in robust deviations, `[step][metric]`, missing as
/// 0: what an autoencoder reads. `None` where fewer than half of the numbers are there.
pub fn window_of(
    spec: &FeatureSpec,
    assessor: &Assessor,
    windows: &Windows,
    partition: PartitionIx,
    steps: usize,
) -> Option<Vec<f32>> {
    let (width, per) = (assessor.columns.len(), spec.metrics.len());
    let mut out = vec![0f32; steps * per];
    let mut row = vec![f32::NAN; steps];
    let mut seen = 0;
    for (k, name) in spec.metrics.iter().enumerate() {
        let Some(m) = windows.metric(name).filter(|m| (m.0 as usize) < width) else { continue };
        let (location, scale) = *assessor.normal.get(partition.0 as usize * width + m.0 as usize)?;
        let shape = assessor.columns[m.0 as usize].shape;
        windows.copy_row(partition, m, &mut row);
        for (t, &x) in row.iter().enumerate() {
            let z = (shape.to(x) - location) / scale;
            if !x.is_nan() && z.is_finite() {
                out[t * per + k] = z.clamp(-super::features::CLIP, super::features::CLIP);
                seen += 1;
            }
        }
    }
    (2 * seen >= steps * per).then_some(out)
}
