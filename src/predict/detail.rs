//! Everything about one partition, for its screen: history, normal range, forecast, reasons.

use super::assess::Assessor;
use super::assessment::{Assessment, Forecast};
use super::gap::Gap;
use super::health;
use super::others::WindowWhy;
use crate::fleet::{MetricName, Span, Timestamp};
use crate::telemetry::{MetricIx, PartitionIx, Unit, Windows};

/// One metric of one partition.
#[derive(Clone, PartialEq, Debug)]
pub struct MetricInsight {
    /// Canonical name.
    pub metric: MetricName,
    /// For people.
    pub label: String,
    /// What it is measured in; `None` for a foreign metric.
    pub unit: Option<Unit>,
    /// Time of the first value.
    pub start: Timestamp,
    /// Width of a slot.
    pub step: Span,
    /// History, oldest first; NaN = missing.
    pub history: Vec<f32>,
    /// Where about 95 of 100 values lie while it is normal, now.
    pub normal: Option<(f32, f32)>,
    /// Robust standard deviations from normal now.
    pub deviation: Option<f64>,
    /// The forecast, if one was made.
    pub forecast: Option<Forecast>,
}

/// All that is known of one partition.
#[derive(Clone, PartialEq, Debug)]
pub struct PartitionInsight {
    /// What was said of it in the last cycle.
    pub assessment: Assessment,
    /// Why nothing is said, if so.
    pub gap: Option<Gap>,
    /// Who said the chance of failure of the middle window; empty where nothing is said.
    pub model: String,
    /// Why the chances of the other windows are what they are, where a model gave them.
    pub others: Vec<WindowWhy>,
    /// Its metrics, most unusual first; those that never had a value are left out.
    pub metrics: Vec<MetricInsight>,
}

impl Assessor {
    /// Everything about one partition as of the last cycle; `None` where it was not in that cycle.
    pub fn detail(&self, windows: &Windows, partition: PartitionIx) -> Option<PartitionInsight> {
        let p = partition.0 as usize;
        let assessment = self.assessments().get(p)?.clone();
        let width = self.columns.len();
        let row = self.rows.get(p)?;
        let mut metrics: Vec<(f64, MetricInsight)> = Vec::new();
        for m in 0..windows.metrics().len().min(width) {
            let metric = MetricIx(m as u16);
            if windows.newest(partition, metric).is_none() {
                continue;
            }
            let column = &self.columns[m];
            let cell = p * width + m;
            let mut history = vec![f32::NAN; windows.config().len];
            windows.copy_row(partition, metric, &mut history);
            let (location, sd) = self.normal[cell];
            let z = f64::from(self.deviations[cell]);
            let normal = location.is_finite().then(|| {
                let low = column.shape.from(location - 2.0 * sd);
                let low = if column.unit.is_some() { low.max(0.0) } else { low };
                (low, column.shape.from(location + 2.0 * sd))
            });
            let insight = MetricInsight {
                metric: column.name.clone(),
                label: column.label.clone(),
                unit: column.unit,
                start: windows.tail(),
                step: windows.config().step,
                history,
                normal,
                deviation: z.is_finite().then_some(z),
                forecast: row.forecasts.iter().find(|f| f.metric == column.name).cloned(),
            };
            metrics.push((health::bad_deviation(z, column.bad_direction), insight));
        }
        metrics.sort_by(|a, b| b.0.total_cmp(&a.0));
        let metrics = metrics.into_iter().map(|m| m.1).collect();
        let model = self.who_spoke(partition).unwrap_or_default();
        let others = self.why_others(windows, partition);
        Some(PartitionInsight { assessment, gap: row.gap, model, others, metrics })
    }
}
