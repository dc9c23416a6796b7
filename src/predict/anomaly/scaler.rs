//! Location and scale of every metric, learnt from its own history: what one robust standard deviation is.

use serde::{Deserialize, Serialize};

use super::bytes::{Reader, Writer};

/// Rows that quantiles are taken from, evenly spaced; extremes are taken from all.
pub(super) const SAMPLE: usize = 4096;
/// The least deviation of a metric, in ranges; where it has none, of its level.
const GUESS: f32 = 0.01;
/// z-scores beyond this are cut: one wild metric must not drown the rest.
pub const CLIP: f32 = 20.0;

/// What the scale of a metric is. Neither is right for every machine: by the deviation, a metric that
/// mostly rests is loud when it moves; by the range, it is not. Both views together are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Scaling {
    /// The standard deviation, at least 1 % of the range.
    Deviation,
    /// The range.
    Range,
}

impl Scaling {
    /// Both, in the order of a model's views.
    pub const BOTH: [Scaling; 2] = [Scaling::Deviation, Scaling::Range];

    /// Smallest scale, in ranges.
    fn floor(self) -> f32 {
        match self {
            Scaling::Deviation => GUESS,
            Scaling::Range => 1.0,
        }
    }
}

/// Location and inverse scale, one a metric.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Scaler {
    /// Location of each metric, in its unit.
    pub location: Vec<f32>,
    /// 1 / scale of each metric.
    pub inverse: Vec<f32>,
}

/// The z-score of a value by a metric's location and the inverse of its scale, cut at ±[`CLIP`]; NaN stays NaN.
#[inline]
pub(super) fn standardised(value: f32, location: f32, inverse: f32) -> f32 {
    ((value - location) * inverse).clamp(-CLIP, CLIP)
}

impl Scaler {
    /// Learns from `[metric][time]`; NaN and infinite values are skipped, a metric with none gets location
    /// 0 and scale 1.
    pub fn fit(columns: &[&[f32]], scaling: Scaling) -> Scaler {
        let (location, inverse) = columns.iter().map(|c| location_and_inverse(c, scaling.floor())).unzip();
        Scaler { location, inverse }
    }

    /// The z-score of `value` of metric `metric`, cut at ±[`CLIP`]; NaN stays NaN.
    #[inline]
    pub fn z(&self, metric: usize, value: f32) -> f32 {
        standardised(value, self.location[metric], self.inverse[metric])
    }

    /// Scale of a metric in its own unit.
    pub fn scale(&self, metric: usize) -> f32 {
        1.0 / self.inverse[metric]
    }

    pub(super) fn put(&self, to: &mut Writer) {
        to.f32s(&self.location);
        to.f32s(&self.inverse);
    }

    pub(super) fn take(from: &mut Reader<'_>, metrics: usize) -> Option<Scaler> {
        let (location, inverse) = (from.f32s(metrics)?, from.f32s(metrics)?);
        inverse.iter().all(|i| *i > 0.0).then_some(Scaler { location, inverse })
    }
}

/// Mean and standard deviation of the values winsorised at their 0.1 % and 99.9 % quantiles; the scale is
/// at least `least` of the range, or of the level where the metric is constant, so that a first small change of
/// a constant metric is seen but does not outweigh all others.
fn location_and_inverse(column: &[f32], least: f32) -> (f32, f32) {
    let sample = sorted_sample(column);
    if sample.is_empty() {
        return (0.0, 1.0);
    }
    let low = quantile(&sample, 0.001);
    let high = quantile(&sample, 0.999);
    let (mut count, mut sum, mut square, mut min, mut max) = (0.0f64, 0.0f64, 0.0f64, f32::MAX, f32::MIN);
    for &v in column.iter().filter(|v| v.is_finite()) {
        let shifted = f64::from(v.clamp(low, high) - low);
        count += 1.0;
        sum += shifted;
        square += shifted * shifted;
        min = min.min(v);
        max = max.max(v);
    }
    let mean = sum / count;
    let deviation = (square / count - mean * mean).max(0.0).sqrt() as f32;
    let location = low + mean as f32;
    let range = max - min;
    let floor = least * if range > 0.0 { range } else { level_of(location) };
    let scale = deviation.max(floor);
    (location, if scale.is_finite() && scale > 0.0 { 1.0 / scale } else { 1.0 })
}

/// What one deviation of a metric is taken to be that has stood at `location` all the time.
pub(super) fn guessed_scale(location: f32) -> f32 {
    GUESS * level_of(location)
}

fn level_of(location: f32) -> f32 {
    location.abs().max(1.0)
}

/// Up to [`SAMPLE`] finite values, evenly spaced over the column, sorted.
pub(super) fn sorted_sample(column: &[f32]) -> Vec<f32> {
    let step = column.len().div_ceil(SAMPLE).max(1);
    let mut sample: Vec<f32> = column.iter().step_by(step).copied().filter(|v| v.is_finite()).collect();
    if sample.is_empty() {
        sample = column.iter().copied().filter(|v| v.is_finite()).take(SAMPLE).collect();
    }
    sample.sort_unstable_by(f32::total_cmp);
    sample
}

/// The quantile of a sorted sample, linear between its values.
pub(super) fn quantile(sorted: &[f32], q: f64) -> f32 {
    let place = q * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (place - below as f64) as f32 * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_missing_and_wild_metrics_get_a_finite_scale() {
        let constant = vec![5.0f32; 100];
        let missing = vec![f32::NAN; 100];
        let mut wild: Vec<f32> = (0..1000).map(|i| (i % 10) as f32).collect();
        wild[500] = f32::INFINITY;
        wild[501] = 1e6;
        let scaler = Scaler::fit(&[&constant, &missing, &wild], Scaling::Deviation);
        assert_eq!(scaler.z(0, 5.0), 0.0);
        assert!(scaler.z(0, 6.0) > 10.0);
        assert!(scaler.inverse.iter().all(|i| i.is_finite() && *i > 0.0));
        assert!(scaler.z(1, 1.0).is_finite() && scaler.z(2, f32::NAN).is_nan());
    }
}
