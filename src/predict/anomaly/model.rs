//! The combined model of one partition (or of an application, pooled): fit, score a row, score history.

use serde::{Deserialize, Serialize};

use super::{
    accept::Ranges,
    alarm::{AlarmRule, level_of, level_of_days},
    error::AnomalyError,
    moments::Moments,
    scaler::{Scaler, Scaling},
    sequence::{self, Sequence, SequenceState},
    trial,
    view::{Memory, VOTERS, View, Voter},
};
use crate::predict::models::lstm::train::Training;

/// Rows of the trailing mean that is shown.
pub const TRAILING: usize = 10;
/// Rows of the slower one that the score also rests on.
pub const SLOW: usize = 30;
/// Fewest rows a model is fitted from.
pub const FEWEST_ROWS: usize = 30;

/// How to fit.
#[derive(Clone, Copy, Debug)]
pub struct FitOptions<'a> {
    /// The application's pooled moments (those of one of its models, or merged), which own moments blend
    /// into.
    pub pooled: Option<&'a [Moments]>,
    /// Rows of a day: the alarm level allows one false alarm a day.
    pub rows_per_day: f32,
    /// How an LSTM voter is trained; `None` = never. It is used from [`sequence::FEWEST_ROWS`] rows on,
    /// where it tells anomalies better that are put into held-back history.
    pub sequence: Option<Training>,
}

impl Default for FitOptions<'_> {
    /// One row a minute, no LSTM.
    fn default() -> Self {
        FitOptions { pooled: None, rows_per_day: 1440.0, sequence: None }
    }
}

/// How an LSTM voter is trained, for [`FitOptions::sequence`]: 32 cells, twelve passes over 8 streams.
pub const SEQUENCE: Training = Training { hidden: 32, epochs: 12, batch: 8, steps: 32, rate: 1e-2, seed: 0 };

/// What normal looks like for one partition. About 9 KB for 16 metrics.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AnomalyModel {
    metrics: usize,
    rows: usize,
    views: Vec<View>,
    /// The LSTM voter; it weighs as much as all the others together.
    #[serde(default)]
    sequence: Option<Box<Sequence>>,
    #[serde(default)]
    ranges: Ranges,
    alarm: f32,
    /// The [`RowScore::smooth`] over which an event begins.
    #[serde(default)]
    event: f32,
}

/// What a partition's stream carries from row to row: about 1 KB for 16 metrics.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AnomalyState {
    memories: Vec<Memory>,
    seen: u64,
    /// The last [`SLOW`] raw scores.
    ring: Vec<f32>,
    /// Shares by metric of the last [`TRAILING`] of them.
    shares: Vec<f32>,
    #[serde(default)]
    sequence: Option<SequenceState>,
}

/// The score of one row: 0 = ordinary, 1 = as unusual as one training row in a thousand.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RowScore {
    /// Of this row alone: for the fast alarm.
    pub raw: f32,
    /// Trailing mean over the last 10 rows: for the state that is shown.
    pub smooth: f32,
    /// Mean of this row, the last 10 and the last 30: rises at once, stays while it lasts.
    pub score: f32,
    /// Share of metrics that had a value. Where it is 0, the score says nothing.
    pub present: f32,
}

/// Scores of history, one a row.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Scores {
    /// See [`RowScore::raw`].
    pub raw: Vec<f32>,
    /// See [`RowScore::smooth`].
    pub smooth: Vec<f32>,
    /// See [`RowScore::score`].
    pub score: Vec<f32>,
}

impl AnomalyModel {
    /// Learns from history `columns`, `[metric][time]` on one even grid, NaN = missing. Gives the model and
    /// the partition's own moments, one a view (for the application's pooled model).
    pub fn fit(
        columns: &[&[f32]],
        options: &FitOptions<'_>,
    ) -> Result<(AnomalyModel, Vec<Moments>), AnomalyError> {
        let rows = same_rows(columns)?;
        let metrics = columns.len();
        let found = (0..rows).filter(|&t| columns.iter().any(|c| c[t].is_finite())).count();
        if found < FEWEST_ROWS {
            return Err(AnomalyError::TooShort { found, needed: FEWEST_ROWS });
        }
        if let Some(other) = options.pooled.and_then(|p| p.iter().find(|m| m.metrics() != metrics)) {
            return Err(AnomalyError::Shape { found: other.metrics(), expected: metrics });
        }
        let (views, moments) = Scaling::BOTH
            .iter()
            .enumerate()
            .map(|(k, &scaling)| View::fit(columns, scaling, options.pooled.and_then(|p| p.get(k))))
            .unzip();
        let ranges = Ranges::of(columns);
        let (alarm, event) = (f32::INFINITY, f32::INFINITY);
        let mut model = AnomalyModel { metrics, rows, views, sequence: None, ranges, alarm, event };
        if let Some(training) = options.sequence.filter(|_| rows >= sequence::FEWEST_ROWS) {
            let early: Vec<&[f32]> = columns.iter().map(|c| &c[..trial::cut_of(columns)]).collect();
            let plain = FitOptions { sequence: None, ..*options };
            if trial::is_won(&AnomalyModel::fit(&early, &plain)?.0, columns, &training) {
                model = model.with_sequence(Sequence::fit(columns, &training));
            }
        }
        let scores = model.score_columns(columns)?;
        model.alarm = level_of(&scores.score, options.rows_per_day);
        model.event = level_of_days(&scores.smooth, options.rows_per_day)
            .unwrap_or_else(|| level_of(&scores.smooth, options.rows_per_day));
        Ok((model, moments))
    }

    pub(super) fn with_sequence(self, sequence: Sequence) -> AnomalyModel {
        AnomalyModel { sequence: Some(Box::new(sequence)), ..self }
    }

    /// The LSTM voter, where it is used.
    pub fn sequence(&self) -> Option<&Sequence> {
        self.sequence.as_deref()
    }

    /// Weight of each linear voter.
    fn weight(&self) -> f32 {
        let linear = if self.sequence.is_some() { 0.5 } else { 1.0 };
        linear / (VOTERS * self.views.len()) as f32
    }

    /// Metrics a row.
    pub fn metrics(&self) -> usize {
        self.metrics
    }

    /// Rows it was fitted from.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Location and scale (in standard deviations) of every metric.
    pub fn scaler(&self) -> &Scaler {
        &self.views[0].scaler
    }

    /// The [`RowScore::score`] over which an alarm stands, from the training scores alone.
    pub fn alarm_level(&self) -> f32 {
        self.alarm
    }

    /// The [`RowScore::smooth`] over which an event begins: what two days of training in three stay below.
    pub fn event_level(&self) -> f32 {
        self.event
    }

    /// Bytes of the model, without a stream's state.
    pub fn bytes(&self) -> usize {
        std::mem::size_of::<Self>()
            + 12 * self.metrics
            + self.views.iter().map(View::bytes).sum::<usize>()
            + self.sequence.as_ref().map_or(0, |s| s.bytes())
    }

    /// A fresh stream.
    pub fn state(&self) -> AnomalyState {
        let sequence = self.sequence.as_ref().map(|s| s.state());
        AnomalyState { sequence, ..AnomalyState::new(self.views.len(), self.metrics) }
    }

    /// Scores the next row (`metrics` values in their own units, NaN = missing) and writes the contribution
    /// of each metric to the raw score into `contributions` (they sum to it). A missing value is taken as
    /// the metric's own running mean; what is absent at the end of `row` counts as missing.
    pub fn score_row(&self, state: &mut AnomalyState, row: &[f32], contributions: &mut [f32]) -> RowScore {
        let present = row.iter().take(self.metrics).filter(|v| v.is_finite()).count();
        let weight = self.weight();
        let mut shares = vec![0.0f32; self.metrics];
        let mut raw = 0.0;
        for (view, memory) in self.views.iter().zip(&mut state.memories) {
            raw += view.score_row(memory, state.seen == 0, row, weight, &mut shares);
        }
        if let (Some(sequence), Some(memory)) = (&self.sequence, &mut state.sequence) {
            raw += sequence.score_row(memory, row, 0.5, &mut shares);
        }
        state.push(raw, &shares);
        for (out, share) in contributions.iter_mut().zip(&shares) {
            *out = *share;
        }
        let (smooth, slow) = (state.mean_of(TRAILING), state.mean_of(SLOW));
        RowScore {
            raw,
            smooth,
            score: (raw + smooth + slow) / 3.0,
            present: present as f32 / self.metrics as f32,
        }
    }

    /// Scores history `[metric][time]` in blocks; the same values as [`AnomalyModel::score_row`] row by row.
    pub fn score_columns(&self, columns: &[&[f32]]) -> Result<Scores, AnomalyError> {
        let rows = same_rows(columns)?;
        if columns.len() != self.metrics {
            return Err(AnomalyError::Shape { found: columns.len(), expected: self.metrics });
        }
        let weight = self.weight();
        let mut raw = vec![0.0f32; rows];
        for view in &self.views {
            for vote in view.votes(columns) {
                raw.iter_mut().zip(&vote).for_each(|(sum, v)| *sum += weight * v);
            }
        }
        if let Some(sequence) = &self.sequence {
            raw.iter_mut().zip(&sequence.votes(columns)).for_each(|(sum, v)| *sum += 0.5 * v);
        }
        let smooth = trailing_mean(&raw, TRAILING);
        let slow = trailing_mean(&raw, SLOW);
        let score = raw.iter().zip(&smooth).zip(&slow).map(|((r, m), s)| (r + m + s) / 3.0).collect();
        Ok(Scores { raw, smooth, score })
    }

    /// What each voter says of every row on its own, normalised: one list a view and voter, for reports.
    pub fn voter_scores(&self, columns: &[&[f32]]) -> Vec<(Scaling, Voter, Vec<f32>)> {
        self.views
            .iter()
            .zip(Scaling::BOTH)
            .flat_map(|(view, scaling)| {
                Voter::ALL.into_iter().zip(view.votes(columns)).map(move |(voter, v)| (scaling, voter, v))
            })
            .collect()
    }

    /// Whether an alarm stands at each row of history `[metric][time]`: the trailing mean over the level
    /// from training, and news; metrics that were moved for good are read from their new place.
    pub fn alarms(&self, columns: &[&[f32]]) -> Result<Vec<bool>, AnomalyError> {
        let rows = same_rows(columns)?;
        if columns.len() != self.metrics {
            return Err(AnomalyError::Shape { found: columns.len(), expected: self.metrics });
        }
        let mut read: Vec<Vec<f32>> = vec![Vec::with_capacity(rows); self.metrics];
        let mut acceptance = self.ranges.acceptance();
        let mut row = vec![f32::NAN; self.metrics];
        for t in 0..rows {
            row.iter_mut().zip(columns).for_each(|(value, column)| *value = column[t]);
            acceptance.read(&self.ranges, &mut row);
            read.iter_mut().zip(&row).for_each(|(column, value)| column.push(*value));
        }
        let read: Vec<&[f32]> = read.iter().map(Vec::as_slice).collect();
        let mut rule = AlarmRule::new(self.event);
        Ok(self.score_columns(&read)?.smooth.iter().map(|&s| rule.step(s)).collect())
    }
}

impl AnomalyState {
    fn new(views: usize, metrics: usize) -> AnomalyState {
        AnomalyState {
            memories: vec![Memory::new(metrics); views],
            seen: 0,
            ring: vec![0.0; SLOW],
            shares: vec![0.0; metrics * TRAILING],
            sequence: None,
        }
    }

    /// After a gap in the data the one-step predictor and the trailing means start anew; the level is kept.
    pub fn after_gap(&mut self) {
        self.seen = 0;
        self.sequence.iter_mut().for_each(SequenceState::after_gap);
        self.ring.fill(0.0);
        self.shares.fill(0.0);
    }

    /// Rows seen since the start or the last gap.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Contributions to [`RowScore::smooth`] by metric; they sum to it.
    pub fn smooth_contributions(&self) -> Vec<f32> {
        let metrics = self.shares.len() / TRAILING;
        let mut out = vec![0.0f32; metrics];
        let filled = self.seen.min(TRAILING as u64) as usize;
        for line in self.shares.chunks_exact(metrics.max(1)).take(filled) {
            out.iter_mut().zip(line).for_each(|(o, s)| *o += s / filled as f32);
        }
        out
    }

    fn push(&mut self, raw: f32, shares: &[f32]) {
        self.ring[(self.seen % SLOW as u64) as usize] = raw;
        let place = (self.seen % TRAILING as u64) as usize;
        self.shares[place * shares.len()..(place + 1) * shares.len()].copy_from_slice(shares);
        self.seen += 1;
    }

    /// Places of the newest rows in the ring, fewer than `count` at the start.
    fn newest(&self, count: usize) -> impl Iterator<Item = usize> {
        let count = self.seen.min(count as u64);
        (self.seen - count..self.seen).map(|t| (t % SLOW as u64) as usize)
    }

    fn mean_of(&self, count: usize) -> f32 {
        let filled = self.seen.clamp(1, count as u64) as f32;
        self.newest(count).map(|p| self.ring[p]).sum::<f32>() / filled
    }
}

fn same_rows(columns: &[&[f32]]) -> Result<usize, AnomalyError> {
    let rows = columns.first().ok_or(AnomalyError::NoMetric)?.len();
    match columns.iter().position(|c| c.len() != rows) {
        Some(metric) => Err(AnomalyError::Ragged { metric, found: columns[metric].len(), expected: rows }),
        None => Ok(rows),
    }
}

/// Mean over the last `width` values, fewer at the start.
pub fn trailing_mean(values: &[f32], width: usize) -> Vec<f32> {
    let mut sum = 0.0f64;
    values
        .iter()
        .enumerate()
        .map(|(i, &v)| {
            sum += f64::from(v);
            if i >= width {
                sum -= f64::from(values[i - width]);
            }
            (sum / (i + 1).min(width) as f64) as f32
        })
        .collect()
}
