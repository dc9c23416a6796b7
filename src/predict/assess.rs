//! The assessor: windows in, one [`Assessment`] for every partition out, each cycle.
//!
//! It owns what was learnt (baselines, forecasts) in dense arrays in the order of the windows'
//! partitions. A cycle is a few passes over these, each parallel over partitions and the same
//! whatever the number of threads: levels → deviations from the own (or, while there is none, the
//! peers') baseline → evidence → scores with attribution; then baselines learn, unless the
//! partition is anomalous, and the forecasts that are due are made.

use std::collections::HashMap;

use rayon::prelude::*;

use super::assessment::{Assessment, Confidence, Forecast, Maturity};
use super::baseline::Baseline;
use super::chances::Heads;
use super::column::Column;
use super::combined::Pools;
use super::context::{Context, Derived};
use super::drift::Drift;
use super::failure::FailureModel;
use super::gap::Gap;
use super::health;
use super::hysteresis::Reading;
use super::missing::Last;
use super::options::AssessOptions;
use super::own::Own;
use super::past::Past;
use super::rebuilt::Rebuilder;
use super::recall::Recall;
use super::scene::Scene;
use super::season::Pace;
use super::speaker::Lines;
use super::train::ForecastModel;
use super::watch::Watch;
use crate::fleet::{MetricName, PartitionId, Span, Timestamp};
use crate::telemetry::{PartitionIx, Windows};

/// Partitions handed to a thread at once.
pub(super) const BATCH: usize = 64;
/// Work that comes to a partition less unusual than this sets its level anew.
const CALM_BELOW: f32 = 5.0;
/// The step in which the work came, and a whole one after it.
const SETTLING_STEPS: u8 = 2;
/// Learning stops for a partition that is further off than this.
pub(super) const FREEZE_ABOVE: f32 = 8.0;
/// Contributions smaller than this are put together.
pub(super) const SMALLEST: f64 = 0.05;

/// What the assessor keeps of one partition beside its baselines.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) gap: Option<Gap>,
    pub(super) seen: Option<Timestamp>,
    /// Share of the metrics it usually has that have data now.
    pub(super) coverage: f32,
    pub(super) maturity: Maturity,
    pub(super) regime: u64,
    /// How many workloads it hosted then.
    pub(super) hosted: u32,
    /// Learning steps until it has found its level after taking work over.
    pub(super) settling: u8,
    pub(super) seeded: bool,
    pub(super) instability: f32,
    /// The same after what its peers do at the same time was taken off.
    pub(super) beside_peers: f32,
    /// Forecasts, most unusual metric first.
    pub(super) forecasts: Vec<Forecast>,
    /// The cycle in which they were made.
    pub(super) forecast_cycle: Option<u64>,
    /// Error of the autoencoder in units of that of healthy partitions; 0 = not looked at.
    pub(super) rebuilt: f32,
    /// The model of its metrics together.
    pub(super) watch: Option<Box<Watch>>,
}

impl Default for Row {
    fn default() -> Self {
        Row {
            gap: Some(Gap::Never),
            seen: None,
            coverage: 0.0,
            maturity: Maturity::Untrained,
            regime: 0,
            hosted: 0,
            settling: 0,
            seeded: false,
            instability: 0.0,
            beside_peers: 0.0,
            forecasts: Vec::new(),
            forecast_cycle: None,
            rebuilt: 0.0,
            watch: None,
        }
    }
}

/// Assesses the whole fleet, cycle by cycle. Pure: it is given the time.
#[derive(Debug)]
pub struct Assessor {
    pub(super) options: AssessOptions,
    pub(super) pace: Pace,
    pub(super) partitions: Vec<PartitionId>,
    pub(super) columns: Vec<Column>,
    pub(super) derived: Derived,
    /// `[partition][metric]`
    pub(super) baselines: Vec<Baseline>,
    /// History that was read and is not settled yet, `[partition][metric]`; empty where there is none.
    pub(super) pasts: Vec<Option<Box<Past>>>,
    /// What each metric said last, `[partition][metric]`.
    pub(super) last: Vec<Last>,
    /// Present levels in the metric's unit, `[partition][metric]`; NaN = missing.
    pub(super) levels: Vec<f32>,
    /// Single-slot noise of the present window, in the metric's unit.
    pub(super) noises: Vec<f32>,
    /// Slots behind each level.
    pub(super) slots: Vec<u8>,
    /// Levels on the scale of judgement, for the peers' statistics.
    pub(super) judged: Vec<f32>,
    /// What is normal, on the scale of judgement: location and standard deviation.
    pub(super) normal: Vec<(f32, f32)>,
    /// Robust standard deviations from normal; NaN = missing or no baseline.
    pub(super) deviations: Vec<f32>,
    pub(super) rows: Vec<Row>,
    pub(super) assessments: Vec<Assessment>,
    pub(super) failure_model: Option<Box<FailureModel>>,
    /// What the heads of it say of themselves, by window.
    pub(super) lines: Lines,
    /// What runs the heads of the failure model; none = its own kernels.
    pub(super) heads: Heads,
    /// Models of one application each, by its name.
    pub(super) own: Vec<Own>,
    /// Which of them spoke of a partition in the last cycle.
    pub(super) spoken: Vec<Option<u32>>,
    pub(super) recall: Recall,
    pub(super) rebuilder: Option<Rebuilder>,
    /// What is wrong with models, until it is told.
    pub(super) model_troubles: Vec<String>,
    /// Networks for forecasts, by application (`class/kind`).
    pub(super) forecasters: HashMap<String, ForecastModel>,
    pub(super) pools: Pools,
    pub(super) last_learnt: Option<i64>,
    pub(super) cycle: u64,
    pub(super) drift: Vec<Drift>,
}

impl Assessor {
    /// An assessor that has learnt nothing.
    pub fn new(options: AssessOptions) -> Self {
        let every = options.learn_every.max(Span::seconds(1));
        let steps = |span: Span| (span.0 / every.0).clamp(1, 20_000) as u16;
        let pace = Pace {
            own_scale: steps(options.own_scale_after),
            day: steps(options.own_after),
            memory: steps(options.memory),
            freeze: steps(options.freeze_at_most),
            step: every,
        };
        Assessor {
            options: AssessOptions { learn_every: every, ..options },
            pace,
            partitions: Vec::new(),
            columns: Vec::new(),
            derived: Derived::default(),
            baselines: Vec::new(),
            pasts: Vec::new(),
            last: Vec::new(),
            levels: Vec::new(),
            noises: Vec::new(),
            slots: Vec::new(),
            judged: Vec::new(),
            normal: Vec::new(),
            deviations: Vec::new(),
            rows: Vec::new(),
            assessments: Vec::new(),
            failure_model: None,
            lines: Lines::default(),
            heads: Heads::default(),
            own: Vec::new(),
            spoken: Vec::new(),
            recall: Recall::default(),
            rebuilder: None,
            model_troubles: Vec::new(),
            forecasters: HashMap::new(),
            pools: Pools::default(),
            last_learnt: None,
            cycle: 0,
            drift: Vec::new(),
        }
    }

    /// The options in force.
    pub fn options(&self) -> &AssessOptions {
        &self.options
    }

    /// The assessments of the last cycle, in the order of the windows' partitions.
    pub fn assessments(&self) -> &[Assessment] {
        &self.assessments
    }

    /// Why nothing can be said of a partition; `None` where something can.
    pub fn gap(&self, partition: PartitionIx) -> Option<Gap> {
        self.rows.get(partition.0 as usize).map_or(Some(Gap::Never), |r| r.gap)
    }

    /// What the state machine of a partition ([`super::hysteresis`]) reads of the last cycle.
    pub fn reading(&self, partition: PartitionIx) -> Reading<'_> {
        match (self.rows.get(partition.0 as usize), self.assessments.get(partition.0 as usize)) {
            (Some(row), Some(assessment)) if row.gap.is_none() => Reading::Known {
                instability: f64::from(row.instability),
                beside_peers: f64::from(row.beside_peers),
                alarm: assessment.anomaly.is_some_and(|a| a.is_suspect()),
                failure: &assessment.failure,
            },
            _ => Reading::Unknown,
        }
    }

    /// Forecasts of a partition, most unusual metric first; made on the rolling schedule.
    pub fn forecasts(&self, partition: PartitionIx) -> &[Forecast] {
        self.rows.get(partition.0 as usize).map_or(&[], |r| &r.forecasts)
    }

    /// How many series were forecast in the last cycle.
    pub fn forecasts_made(&self) -> usize {
        let made = self.rows.iter().filter(|r| r.forecast_cycle == Some(self.cycle));
        made.map(|r| r.forecasts.len()).sum()
    }

    /// Assesses every partition of `windows` at `now`. The answer is in the order of
    /// `windows.partitions()` and stays readable with [`Assessor::assessments`].
    pub fn assess(&mut self, windows: &Windows, context: &Context, now: Timestamp) -> &[Assessment] {
        self.cycle += 1;
        self.align(windows);
        let count = windows.partitions().len();
        if self.derived.refresh(context, &self.partitions[..count], now) {
            for column in &mut self.columns {
                column.weigh(&self.derived.kinds, &self.options);
            }
            self.notice_regimes();
        }
        self.settle_history();
        self.read_levels(windows, now);
        self.seed(windows);
        self.deviate(now);
        self.watch_combinations(windows);
        self.rebuild_due(windows);
        self.forecast_due(windows, now);
        self.conclude(now);
        self.recall_failures(windows, context, now);
        self.say_chances(windows, now);
        self.weigh_combinations();
        self.weigh_rebuilt();
        self.learn(windows);
        &self.assessments
    }

    /// Puts the rows into the windows' order; partitions known from history alone stay behind them.
    fn align(&mut self, windows: &Windows) {
        self.intern(windows.partitions(), windows.metrics());
        let (count, width) = (windows.partitions().len(), self.columns.len());
        let cells = self.partitions.len() * width;
        self.levels.resize(cells, f32::NAN);
        self.noises.resize(cells, f32::NAN);
        self.slots.resize(cells, 0);
        self.judged.resize(cells, f32::NAN);
        self.normal.resize(cells, (f32::NAN, f32::NAN));
        self.deviations.resize(cells, f32::NAN);
        self.assessments.truncate(count);
        for id in &self.partitions[self.assessments.len()..count] {
            self.assessments.push(Assessment {
                partition: id.clone(),
                at: Timestamp(0),
                expires: Timestamp(0),
                health: None,
                instability: None,
                anomaly: None,
                failure: Vec::new(),
                why_health: Vec::new(),
                why_failure: Vec::new(),
                failure_base: 0.0,
                given_by: None,
                maturity: Maturity::Untrained,
                confidence: Confidence::default(),
            });
        }
    }

    /// Makes room for the partitions and metrics of `windows`.
    pub(super) fn intern_windows(&mut self, windows: &Windows) {
        self.intern(windows.partitions(), windows.metrics());
    }

    /// Makes `partitions` and `metrics` the first rows and columns, in their order.
    pub(super) fn intern(&mut self, partitions: &[PartitionId], metrics: &[MetricName]) {
        let same_rows = self.partitions.get(..partitions.len()) == Some(partitions);
        let same_columns = self.columns.len() >= metrics.len()
            && self.columns.iter().zip(metrics).all(|(c, m)| &c.name == m);
        if same_rows && same_columns {
            return;
        }
        let old_width = self.columns.len();
        let mut columns: Vec<Column> = metrics.iter().map(|m| Column::new(m, &self.options)).collect();
        let known: std::collections::HashSet<&MetricName> = metrics.iter().collect();
        columns.extend(self.columns.iter().filter(|c| !known.contains(&c.name)).cloned());
        let old_column: Vec<Option<usize>> =
            columns.iter().map(|c| self.columns.iter().position(|o| o.name == c.name)).collect();
        for column in &mut columns {
            column.weigh(&self.derived.kinds, &self.options);
        }
        let listed: std::collections::HashSet<&PartitionId> = partitions.iter().collect();
        let mut order: Vec<PartitionId> = partitions.to_vec();
        order.extend(self.partitions.iter().filter(|p| !listed.contains(p)).cloned());
        let old_row: HashMap<&PartitionId, usize> =
            self.partitions.iter().enumerate().map(|(i, p)| (p, i)).collect();
        let cells = order.len() * columns.len();
        let (mut baselines, mut last) = (Vec::with_capacity(cells), Vec::with_capacity(cells));
        let mut pasts = Vec::with_capacity(if self.pasts.is_empty() { 0 } else { cells });
        let mut rows = Vec::with_capacity(order.len());
        for id in &order {
            let from = old_row.get(id).copied();
            for column in &old_column {
                let cell = from.zip(*column).map(|(row, column)| row * old_width + column);
                baselines.push(
                    cell.map_or_else(Baseline::default, |cell| std::mem::take(&mut self.baselines[cell])),
                );
                last.push(cell.map_or_else(Last::default, |cell| self.last[cell]));
                if !self.pasts.is_empty() {
                    pasts.push(cell.and_then(|cell| self.pasts[cell].take()));
                }
            }
            rows.push(from.map_or_else(Row::default, |row| std::mem::take(&mut self.rows[row])));
        }
        self.partitions = order;
        self.columns = columns;
        (self.baselines, self.pasts, self.last) = (baselines, pasts, last);
        self.rows = rows;
        self.assessments.clear();
        for array in [&mut self.levels, &mut self.noises, &mut self.judged, &mut self.deviations] {
            array.clear();
        }
        self.slots.clear();
        self.normal.clear();
    }

    /// A partition that got other work has a new normal to find, unless it is anomalous now: where
    /// work came, its level of the next two learning steps; where work went, it learns faster.
    fn notice_regimes(&mut self) {
        let width = self.columns.len();
        for (ix, &regime) in self.derived.regime.iter().enumerate() {
            let row = &mut self.rows[ix];
            let changed = row.regime != 0 && row.regime != regime;
            let more = self.derived.hosted[ix] > row.hosted;
            (row.regime, row.hosted) = (regime, self.derived.hosted[ix]);
            if changed && more && (row.instability < CALM_BELOW || row.settling > 0) {
                row.settling = SETTLING_STEPS;
            } else if changed && row.instability < FREEZE_ABOVE {
                for baseline in &mut self.baselines[ix * width..(ix + 1) * width] {
                    baseline.loosen(self.pace);
                }
            }
        }
    }

    /// Scores, probabilities and their reasons.
    fn conclude(&mut self, now: Timestamp) {
        let bases: Vec<f64> = self.options.windows.iter().map(|w| health::base_odds(*w)).collect();
        let mut assessments = std::mem::take(&mut self.assessments);
        assessments.par_iter_mut().enumerate().with_min_len(BATCH).for_each(|(p, out)| {
            self.scene(p, &bases, now).write(out);
        });
        self.assessments = assessments;
    }

    /// All that goes into the assessment of partition `p`.
    pub(super) fn scene<'a>(&'a self, p: usize, bases: &'a [f64], now: Timestamp) -> Scene<'a> {
        let cells = p * self.columns.len()..(p + 1) * self.columns.len();
        Scene {
            columns: &self.columns,
            row: &self.rows[p],
            options: &self.options,
            bases,
            normal: &self.normal[cells.clone()],
            levels: &self.levels[cells.clone()],
            deviations: &self.deviations[cells.clone()],
            last: &self.last[cells],
            kind: usize::from(self.derived.kind[p]),
            past: f64::from(self.derived.failures[p]),
            now,
        }
    }
}
