//! The combined model of one partition (or of an application, pooled): fit, score a row, score history.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    accept::Ranges,
    alarm::{level_of, stretch},
    bytes::{Reader, Writer},
    calm::Calm,
    error::AnomalyError,
    moments::Moments,
    scaler::{Scaler, Scaling},
    sequence::{Sequence, Sequencing},
    state::{AnomalyState, RowScore},
    stream::Wanted,
    trial,
    view::{Scratch, VOTERS, View, Voter},
};
use crate::predict::models::lstm::forward::PredictorRun;
use crate::predict::models::lstm::train::Training;

/// Rows of the trailing mean that is shown.
pub const TRAILING: usize = 10;
/// Rows of the slower one that the score also rests on.
pub const SLOW: usize = 30;
/// Fewest rows a model is fitted from.
pub const FEWEST_ROWS: usize = 30;
/// Fewer than three days of training say little of a day's highest score: an event must then be over so
/// many times what training reached, and over a row in a thousand.
const SHORT: f32 = 1.2;
/// Where training was next to constant, its highest score says nothing of what an event is.
pub(super) const LEAST_EVENT: f32 = 0.1;

/// How to fit.
#[derive(Clone, Copy, Debug)]
pub struct FitOptions<'a> {
    /// The application's pooled moments (those of one of its models, or merged), which own moments blend
    /// into.
    pub pooled: Option<&'a [Moments]>,
    /// Rows of a day: the alarm level allows one false alarm a day.
    pub rows_per_day: f32,
    /// Whose LSTM votes. It is used from [`super::sequence::FEWEST_ROWS`] rows with data on, where it tells
    /// anomalies better that are put into held-back history.
    pub sequence: Sequencing<'a>,
}

impl Default for FitOptions<'_> {
    /// One row a minute, no LSTM.
    fn default() -> Self {
        FitOptions { pooled: None, rows_per_day: 1440.0, sequence: Sequencing::Never }
    }
}

/// How an LSTM voter is trained, for [`FitOptions::sequence`]: 32 cells, twelve passes over 8 streams.
pub const SEQUENCE: Training = Training { hidden: 32, epochs: 12, batch: 8, steps: 32, rate: 1e-2, seed: 0 };

/// What normal looks like for one partition. About 5.2 KB for 16 metrics, 1 KB more with an LSTM voter, whose
/// network (27 KB) may serve others too.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AnomalyModel {
    metrics: usize,
    rows: usize,
    views: Vec<View>,
    /// The LSTM voter; it weighs as much as all the others together.
    sequence: Option<Box<Sequence>>,
    ranges: Ranges,
    alarm: f32,
    /// The [`RowScore::event`] over which an event begins.
    event: f32,
    /// What each voter, and each metric by itself, reaches on calm days.
    calm: Calm,
    /// See [`View::pull_scales`]; none where the metrics are not looked at one by one.
    pull_scales: Vec<f32>,
    /// Whether that rests on days of training.
    by_days: bool,
    /// Rows of an hour.
    stretch: u16,
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
        let stretch = stretch(options.rows_per_day);
        let mut model = AnomalyModel {
            metrics,
            rows,
            views,
            sequence: None,
            ranges: Ranges::of(columns, stretch),
            alarm: f32::INFINITY,
            event: f32::INFINITY,
            calm: Calm::default(),
            pull_scales: Vec::new(),
            by_days: false,
            stretch,
        };
        if options.sequence.is_tried(found, metrics) {
            let early: Vec<&[f32]> = columns.iter().map(|c| &c[..trial::cut_of(columns)]).collect();
            let plain = FitOptions { sequence: Sequencing::Never, ..*options };
            if trial::is_won(&AnomalyModel::fit(&early, &plain)?.0, columns, options.sequence)
                && let Some(sequence) = Sequence::fit(columns, options.sequence)
            {
                model = model.with_sequence(sequence);
            }
        }
        let votes = model.votes(columns);
        let scores = model.scores_of(&votes, rows);
        model.alarm = level_of(&scores.score, options.rows_per_day);
        let pulls = || model.views[0].pulls(columns);
        match Calm::of(&votes, pulls, options.rows_per_day) {
            Some((calm, level)) => {
                (model.calm, model.by_days, model.event) = (calm, true, level.max(LEAST_EVENT));
                model.pull_scales = model.views[0].pull_scales();
            }
            None => model.event = SHORT * level_of(&scores.smooth, options.rows_per_day).max(1.0),
        }
        Ok((model, moments))
    }

    pub(super) fn with_sequence(self, sequence: Sequence) -> AnomalyModel {
        AnomalyModel { sequence: Some(Box::new(sequence)), ..self }
    }

    /// The LSTM voter, where it is used.
    pub fn sequence(&self) -> Option<&Sequence> {
        self.sequence.as_deref()
    }

    /// Runs the network among those that its own is equal to, so that what peers share is held once; one that
    /// is equal to none becomes one of them.
    pub(in crate::predict) fn share_network(&mut self, known: &mut Vec<Arc<PredictorRun>>) {
        if let Some(sequence) = &mut self.sequence {
            sequence.share_network(known);
        }
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

    /// The [`RowScore::event`] over which an event begins: what four days of training in five stay below; with
    /// fewer than three days, more than all of it.
    pub fn event_level(&self) -> f32 {
        self.event
    }

    /// Whether the level of events rests on days of training, as the published figures do, and not on an
    /// hour or two.
    pub fn knows_days(&self) -> bool {
        self.by_days
    }

    pub(super) fn stretch(&self) -> u16 {
        self.stretch
    }

    /// As it was kept before there were levels of metrics.
    #[cfg(test)]
    pub(super) fn without_metrics(mut self) -> AnomalyModel {
        self.calm.forget_metrics();
        self.pull_scales = Vec::new();
        self
    }

    pub(super) fn calm(&self) -> &Calm {
        &self.calm
    }

    pub(super) fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// Bytes of the model, without a stream's state and without an LSTM voter's network.
    pub fn bytes(&self) -> usize {
        std::mem::size_of::<Self>()
            + self.ranges.bytes()
            + self.calm.bytes()
            + 4 * self.pull_scales.len()
            + self.views.iter().map(View::bytes).sum::<usize>()
            + self.sequence.as_ref().map_or(0, |s| s.bytes())
    }

    /// The numbers of the model; those of an LSTM voter come last.
    pub(in crate::predict) fn put(&self, to: &mut Writer) {
        to.u32(u32::try_from(self.rows).unwrap_or(u32::MAX));
        to.u16(self.stretch);
        to.f32s(&[self.alarm, self.event]);
        to.u8(u8::from(self.by_days));
        self.calm.put(to);
        self.views.iter().for_each(|view| view.put(to));
        self.ranges.put(to);
        self.sequence.iter().for_each(|sequence| sequence.put(to));
    }

    /// The model with the LSTM voter that follows its numbers.
    pub(in crate::predict) fn take_sequence(self, from: &mut Reader<'_>) -> Option<AnomalyModel> {
        let sequence = Sequence::take(from, self.metrics)?;
        let model = self.with_sequence(sequence);
        model.calm.is_of(model.voters()).then_some(model)
    }

    /// A model of so many metrics, as it was put, without an LSTM voter; `None` where the bytes are not one, or one that could
    /// never alarm.
    pub(in crate::predict) fn take(from: &mut Reader<'_>, metrics: usize) -> Option<AnomalyModel> {
        let rows = from.u32()? as usize;
        let stretch = from.u16().filter(|rows| *rows > 0)?;
        let alarm = from.any_f32().filter(|level| !level.is_nan())?;
        let event = from.f32().filter(|level| *level > 0.0)?;
        let by_days = from.flag()?;
        let calm = Calm::take(from, metrics)?;
        let views = Scaling::BOTH.iter().map(|_| View::take(from, metrics)).collect::<Option<Vec<_>>>()?;
        let pull_scales = if calm.metrics() > 0 { views[0].pull_scales() } else { Vec::new() };
        let ranges = Ranges::take(from, metrics, stretch)?;
        let model = AnomalyModel {
            metrics,
            rows,
            views,
            sequence: None,
            ranges,
            alarm,
            event,
            calm,
            pull_scales,
            by_days,
            stretch,
        };
        // With an LSTM voter there is one more, which is looked at where that is read.
        let voters = model.voters();
        (model.calm.is_of(voters) || model.calm.is_of(voters + 1)).then_some(model)
    }

    /// A fresh stream.
    pub fn state(&self) -> AnomalyState {
        let sequence = self.sequence.as_ref().map(|s| s.state());
        AnomalyState::new(self.views.len(), self.metrics, sequence, self.calm.metrics())
    }

    /// Scores the next row (`metrics` values in their own units, NaN = missing) and writes the contribution
    /// of each metric to the raw score into `contributions` (they sum to it). A missing value is taken as
    /// the metric's own running mean; what is absent at the end of `row` counts as missing.
    pub fn score_row(&self, state: &mut AnomalyState, row: &[f32], contributions: &mut [f32]) -> RowScore {
        let wanted = Wanted { into: contributions, from: f32::NEG_INFINITY };
        self.score(state, row, Some(wanted), &mut Scratch::default())
    }

    /// The same; contributions only where they are wanted.
    pub(super) fn score(
        &self,
        state: &mut AnomalyState,
        row: &[f32],
        wanted: Option<Wanted<'_>>,
        room: &mut Scratch,
    ) -> RowScore {
        let present = row.iter().take(self.metrics).filter(|v| v.is_finite()).count();
        let (weight, first) = (self.weight(), state.seen == 0);
        let mut raw = 0.0;
        room.votes.clear();
        for ((view, memory), one) in self.views.iter().zip(&state.memories).zip(&mut room.views) {
            view.load_row(memory, row, one);
            let votes = view.vote_row(first, weight, None, one);
            raw += votes.iter().map(|vote| vote * weight).sum::<f32>();
            room.votes.extend(votes);
        }
        let said = state.sequence.as_mut().and_then(|memory| self.sequence()?.vote_row(memory, row));
        raw += said.as_ref().map_or(0.0, |said| 0.5 * said.vote());
        if self.sequence.is_some() {
            room.votes.push(said.as_ref().map_or(0.0, |said| said.vote()));
        }
        room.pulls.clear();
        if !self.pull_scales.is_empty() && !first {
            self.views[0].pull_row(&self.pull_scales, &room.views[0], &mut room.pulls);
        }
        state.hear(&room.votes, &room.pulls);
        let (means, pulls) = state.heard();
        let [voter, metric] = self.calm.most(means, pulls);
        // On calm days, too, some metric is often at half of its level: its alarm is awaited.
        let alone = metric.is_some_and(|metric| metric >= self.event);
        let wanted = wanted.filter(|wanted| alone || voter.unwrap_or(raw) >= wanted.from);
        let shares = &mut room.shares;
        shares.clear();
        if let Some(wanted) = wanted {
            shares.resize(self.metrics, 0.0);
            for (view, room) in self.views.iter().zip(&mut room.views) {
                view.vote_row(first, weight, Some(shares), room);
            }
            if let (Some(sequence), Some(said)) = (&self.sequence, &said) {
                sequence.share_out(said, 0.5, shares);
            }
            wanted.into.iter_mut().zip(&*shares).for_each(|(out, share)| *out = *share);
        }
        for (memory, room) in state.memories.iter_mut().zip(&room.views) {
            View::pass_row(memory, room);
        }
        state.push(raw, &room.shares);
        let (smooth, slow) = (state.mean_of(TRAILING), state.mean_of(SLOW));
        RowScore {
            raw,
            smooth,
            score: (raw + smooth + slow) / 3.0,
            event: voter.map_or(smooth, |voter| metric.map_or(voter, |metric| voter.max(metric))),
            present: present as f32 / self.metrics as f32,
        }
    }

    /// Scores history `[metric][time]` in blocks; the same values as [`AnomalyModel::score_row`] row by row.
    pub fn score_columns(&self, columns: &[&[f32]]) -> Result<Scores, AnomalyError> {
        let rows = same_rows(columns)?;
        if columns.len() != self.metrics {
            return Err(AnomalyError::Shape { found: columns.len(), expected: self.metrics });
        }
        Ok(self.scores_of(&self.votes(columns), rows))
    }

    /// Each voter's vote on every row of checked columns, the LSTM's last.
    fn votes(&self, columns: &[&[f32]]) -> Vec<Vec<f32>> {
        let linear = self.views.iter().flat_map(|view| view.votes(columns));
        linear.chain(self.sequence.iter().map(|sequence| sequence.votes(columns))).collect()
    }

    /// How many voters there are.
    fn voters(&self) -> usize {
        VOTERS * self.views.len() + usize::from(self.sequence.is_some())
    }

    fn scores_of(&self, votes: &[Vec<f32>], rows: usize) -> Scores {
        let weight = self.weight();
        let mut raw = vec![0.0f32; rows];
        for (voter, votes) in votes.iter().enumerate() {
            let weight = if voter < VOTERS * self.views.len() { weight } else { 0.5 };
            raw.iter_mut().zip(votes).for_each(|(sum, v)| *sum += weight * v);
        }
        let smooth = trailing_mean(&raw, TRAILING);
        let slow = trailing_mean(&raw, SLOW);
        let score = raw.iter().zip(&smooth).zip(&slow).map(|((r, m), s)| (r + m + s) / 3.0).collect();
        Scores { raw, smooth, score }
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
}

pub(super) fn same_rows(columns: &[&[f32]]) -> Result<usize, AnomalyError> {
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
