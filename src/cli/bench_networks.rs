//! What `foreshift bench --networks` measures beside all else: a fleet that has been watched for weeks, so that an
//! LSTM votes in the detector of every partition and every application's forecasts have a network among their
//! candidates. As in the engine ([`crate::engine::networks`]) some hundred networks serve all.

use crate::fleet::rng::Random;
use crate::fleet::{MetricName, Span, Timestamp};
use crate::predict::anomaly::model::SEQUENCE;
use crate::predict::anomaly::{AnomalyModel, FitOptions, Sequencing};
use crate::predict::combined::rows_per_day;
use crate::predict::forecast::Shape;
use crate::predict::forecast::clean::coarse;
use crate::predict::train::{ForecastModel, Stretches};
use crate::predict::{Assessor, ForecastOptions, Taught};
use crate::telemetry::{PartitionIx, Windows, WindowsConfig};

/// Levels that partitions have.
pub(super) const LEVELS: usize = 17;
/// Networks of each level: 289 in all, about as many as 8 MB hold.
const COPIES: usize = 17;
/// History that detectors and networks are fitted from.
const DAYS: i64 = 8;
/// Slots after which a metric's course begins anew.
const PERIOD: i64 = 24;

/// The value of a metric at a time, in slots of `step`: one peak every twelve minutes, which the rows before tell an
/// LSTM and no linear voter, and a little noise.
pub(super) fn value(level: f32, metric: usize, (at, step): (Timestamp, Span), random: &mut Random) -> f32 {
    let place = (at.0 / step.0.max(1) + 5 * metric as i64).rem_euclid(PERIOD);
    let peak = if place == 0 { 1.5 } else { 1.0 };
    level * peak * (1.0 + 0.02 * (random.unit() as f32 - 0.5))
}

/// How many partitions an LSTM votes of, and how many applications have a network for forecasts.
pub(super) fn give(
    assessor: &mut Assessor,
    windows: &Windows,
    levels: impl Fn(usize, usize) -> f32,
) -> (usize, usize) {
    let config = windows.config();
    let rows = (Span::days(DAYS).0 / config.step.0.max(1)) as usize;
    let from = windows.tail() - Span(config.step.0 * rows as i64);
    let metrics = windows.metrics().to_vec();
    let mut random = Random::new(7);
    let histories: Vec<Vec<Vec<f32>>> = (0..LEVELS)
        .map(|p| {
            let of = |m: usize, random: &mut Random| -> Vec<f32> {
                let at = |t: usize| from + Span(config.step.0 * t as i64);
                (0..rows).map(|t| value(levels(p, m), m, (at(t), config.step), random)).collect()
            };
            (0..metrics.len()).map(|m| of(m, &mut random)).collect()
        })
        .collect();
    let voters = teach(assessor, windows, &histories, &metrics, (from, windows.tail()));
    (voters, networks(assessor, &histories, config, windows.tail()))
}

/// Gives every partition its detector; says in how many an LSTM votes.
fn teach(
    assessor: &mut Assessor,
    windows: &Windows,
    histories: &[Vec<Vec<f32>>],
    metrics: &[MetricName],
    (from, until): (Timestamp, Timestamp),
) -> usize {
    let mut copies: Vec<Vec<AnomalyModel>> = Vec::new();
    let mut lent = None;
    for history in histories {
        let columns: Vec<&[f32]> = history.iter().map(Vec::as_slice).collect();
        let sequence = lent.as_ref().map_or(Sequencing::Trained(SEQUENCE), Sequencing::Borrowed);
        let options =
            FitOptions { pooled: None, rows_per_day: rows_per_day(windows.config().step), sequence };
        let Ok((model, _)) = AnomalyModel::fit(&columns, &options) else { return 0 };
        lent = lent.or_else(|| model.sequence().map(|voter| voter.network().clone()));
        // Written and read again a model has a network of its own.
        let text = serde_json::to_vec(&model).expect("plain data serialises");
        let own = || serde_json::from_slice(&text).expect("what was written is read");
        copies.push((0..COPIES).map(|_| own()).collect());
    }
    let mut voters = 0;
    for p in 0..windows.partitions().len() {
        let of_level = &copies[p % LEVELS];
        let model = of_level[p / LEVELS % COPIES].clone();
        let votes = model.sequence().is_some();
        let taught = Taught { model, metrics: metrics.to_vec(), fitted: until, from, until };
        voters += usize::from(assessor.teach(windows, PartitionIx(p as u32), taught) && votes);
    }
    voters
}

/// Gives every application its network for forecasts; says how many it gave.
fn networks(
    assessor: &mut Assessor,
    histories: &[Vec<Vec<f32>>],
    config: WindowsConfig,
    until: Timestamp,
) -> usize {
    let ForecastOptions { step, horizon, .. } = assessor.options().forecast;
    let mut stretches = Stretches::new(Shape { ahead: horizon, ..Shape::PLAIN });
    let mut random = Random::new(8);
    let slots = (step.0 / config.step.0.max(1)).max(1) as usize;
    for column in histories.iter().flatten() {
        stretches.add(&coarse((column, &[]), slots), &mut random);
    }
    let mut given = 0;
    for application in ["class0/oltp", "class1/cache", "class2/batch"] {
        if let Ok(model) = ForecastModel::train(application, &stretches, step, (until, until)) {
            given += usize::from(assessor.use_forecaster(model));
        }
    }
    given
}
