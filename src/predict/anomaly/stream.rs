//! The detector as it runs: rows in, one after the other, and out of each its score and whether an alarm
//! stands. The engine reads every row of a partition through [`AnomalyModel::read`], and so does
//! `foreshift eval anomaly`: what was measured is what runs.

use serde::{Deserialize, Serialize};

use super::accept::Acceptance;
use super::alarm::AlarmRule;
use super::bytes::{Reader, Writer};
use super::error::AnomalyError;
use super::model::{AnomalyModel, same_rows};
use super::scaler::Scaling;
use super::state::{AnomalyState, RowScore};
use super::view::Scratch;

/// Rows without a moved metric after which both readings are one again: by then the running means (a tenth
/// of each row) have forgotten that they differed.
const ONE_AGAIN: u16 = 360;

/// What one partition's stream carries from row to row: about 1.5 KB for 16 metrics, and more where contributions
/// are kept and while a metric that was moved for good is read from its new place.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Stream {
    /// The rows as they are: what is shown.
    plain: AnomalyState,
    /// The rows with moved metrics read from their new place: what alarms rest on. None = the same.
    settled: Option<Box<AnomalyState>>,
    acceptance: Acceptance,
    /// Rows in a row that were read as they are.
    unchanged: u16,
    rule: AlarmRule,
}

/// Where contributions by metric go, and from what on they are worked out.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Set to the contribution of each metric to the raw score; left alone below `from`.
    pub into: &'a mut [f32],
    /// How far a voter is where they are worked out (the least raw score where no day is known); of a metric by
    /// itself it is where that alarms.
    pub from: f32,
}

/// What the detector says of one row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reading {
    /// Of the row as it is.
    pub score: RowScore,
    /// What the alarm rests on ([`RowScore::event`]), less what has stood for half a day.
    pub news: f32,
    /// Whether an alarm stands.
    pub alarmed: bool,
}

/// What the detector says of history, row by row.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Readings {
    /// See [`RowScore::score`].
    pub score: Vec<f32>,
    /// See [`Reading::news`].
    pub news: Vec<f32>,
    /// See [`Reading::alarmed`].
    pub alarmed: Vec<bool>,
}

impl Stream {
    /// After a gap in the data: see [`AnomalyState::after_gap`]. An alarm that stands is kept.
    pub fn after_gap(&mut self) {
        self.plain.after_gap();
        self.settled.iter_mut().for_each(|s| s.after_gap());
    }

    /// Whether an alarm stands.
    pub fn alarmed(&self) -> bool {
        self.rule.alarmed()
    }

    /// Contributions by metric to the trailing mean of the reading that alarms rest on, of its rows of which they
    /// were worked out.
    pub fn contributions(&self) -> Vec<f32> {
        self.settled.as_deref().unwrap_or(&self.plain).smooth_contributions()
    }

    /// Bytes, what lies elsewhere included.
    pub fn bytes(&self) -> usize {
        std::mem::size_of::<Self>()
            + self.plain.bytes()
            + self.settled.as_deref().map_or(0, |s| std::mem::size_of::<AnomalyState>() + s.bytes())
            + self.acceptance.bytes()
    }
}

impl Stream {
    /// All that it carries; the rule and the shapes are the model's.
    pub(in crate::predict) fn put(&self, to: &mut Writer) {
        self.plain.put(to);
        to.u8(u8::from(self.settled.is_some()));
        self.settled.iter().for_each(|settled| settled.put(to));
        self.acceptance.put(to);
        to.u16(self.unchanged);
        self.rule.put(to);
    }
}

impl AnomalyModel {
    /// A stream of this model as it was put; `None` where the bytes are not that.
    pub(in crate::predict) fn take_stream(&self, from: &mut Reader<'_>) -> Option<Stream> {
        let (views, metrics, pulled) = (Scaling::BOTH.len(), self.metrics(), self.calm().metrics());
        let plain = AnomalyState::take(from, views, metrics, self.sequence(), pulled)?;
        let settled = match from.flag()? {
            true => Some(Box::new(AnomalyState::take(from, views, metrics, self.sequence(), pulled)?)),
            false => None,
        };
        let acceptance = Acceptance::take(from, self.ranges())?;
        let unchanged = from.u16()?;
        let rule = AlarmRule::take(from, self.event_level(), self.stretch())?;
        Some(Stream { plain, settled, acceptance, unchanged, rule })
    }

    /// A fresh stream.
    pub fn stream(&self) -> Stream {
        Stream {
            plain: self.state(),
            settled: None,
            acceptance: self.ranges().acceptance(),
            unchanged: 0,
            rule: AlarmRule::new(self.event_level(), self.stretch()),
        }
    }

    /// The metric that alarms rest on now, where that is one by itself and no voter.
    pub fn furthest(&self, stream: &Stream) -> Option<usize> {
        let (means, pulls) = stream.settled.as_deref().unwrap_or(&stream.plain).heard();
        self.calm().furthest(means, pulls)
    }

    /// Reads the next row (`metrics` values in their own units, NaN = missing). Where contributions are
    /// wanted they are those of the reading that alarms rest on, and [`Stream::contributions`] knows them.
    pub fn read(
        &self,
        stream: &mut Stream,
        row: &[f32],
        wanted: Option<Wanted<'_>>,
        room: &mut Scratch,
    ) -> Reading {
        let [mut plain_row, mut settled_row] = std::mem::take(&mut room.rows);
        for taken in [&mut plain_row, &mut settled_row] {
            taken.clear();
            taken.extend_from_slice(&row[..row.len().min(self.metrics())]);
            taken.resize(self.metrics(), f32::NAN);
        }
        if stream.acceptance.read(self.ranges(), &mut plain_row, &mut settled_row) {
            stream.unchanged = 0;
            if stream.settled.is_none() {
                stream.settled = Some(Box::new(stream.plain.clone()));
            }
        } else {
            stream.unchanged = stream.unchanged.saturating_add(1);
            if stream.unchanged >= ONE_AGAIN {
                stream.settled = None;
            }
        }
        let (score, event) = match &mut stream.settled {
            Some(settled) => {
                let score = self.score(&mut stream.plain, &plain_row, None, room);
                (score, self.score(settled, &settled_row, wanted, room).event)
            }
            None => {
                let score = self.score(&mut stream.plain, &plain_row, wanted, room);
                (score, score.event)
            }
        };
        room.rows = [plain_row, settled_row];
        let alarmed = stream.rule.step(event);
        Reading { score, news: event - stream.rule.accepted(), alarmed }
    }

    /// Reads history `[metric][time]` from a fresh stream.
    ///
    /// # Errors
    /// The columns are of different length, or not those of the model.
    pub fn read_columns(&self, columns: &[&[f32]]) -> Result<Readings, AnomalyError> {
        let rows = same_rows(columns)?;
        if columns.len() != self.metrics() {
            return Err(AnomalyError::Shape { found: columns.len(), expected: self.metrics() });
        }
        let (mut stream, mut room) = (self.stream(), Scratch::default());
        let mut row = vec![f32::NAN; columns.len()];
        let mut out = Readings::default();
        for t in 0..rows {
            row.iter_mut().zip(columns).for_each(|(value, column)| *value = column[t]);
            let said = self.read(&mut stream, &row, None, &mut room);
            out.score.push(said.score.score);
            out.news.push(said.news);
            out.alarmed.push(said.alarmed);
        }
        Ok(out)
    }
}
