//! What a partition's stream of scores carries from row to row, and the score of a row.

use serde::{Deserialize, Serialize};

use super::bytes::{Reader, Writer};
use super::calm;
use super::model::{SLOW, TRAILING};
use super::sequence::{Sequence, SequenceState};
use super::view::{Memory, VOTERS};

/// No stream reads so many rows.
const MOST_SEEN: u64 = 1 << 48;

/// What a partition's stream carries from row to row: about 700 bytes for 16 metrics, and 640 more where
/// contributions were worked out of late.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AnomalyState {
    pub(super) memories: Vec<Memory>,
    pub(super) seen: u64,
    /// The last [`SLOW`] raw scores.
    ring: Vec<f32>,
    /// Shares by metric of the last [`TRAILING`] of them; empty where none was worked out.
    shares: Vec<f32>,
    /// Rows in a row of which none was.
    bare: u8,
    pub(super) sequence: Option<SequenceState>,
    /// The running mean of each voter's vote.
    means: Vec<f32>,
    /// The running mean of each metric's pull; none where the model has no levels of them.
    pulls: Vec<f32>,
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
    /// What alarms rest on, see [`super::calm`].
    pub event: f32,
    /// Share of metrics that had a value. Where it is 0, the score says nothing.
    pub present: f32,
}

impl AnomalyState {
    /// Of so many views and metrics, `pulled` of which are looked at one by one.
    pub(super) fn new(
        views: usize,
        metrics: usize,
        sequence: Option<SequenceState>,
        pulled: usize,
    ) -> AnomalyState {
        AnomalyState {
            means: vec![0.0; views * VOTERS + usize::from(sequence.is_some())],
            pulls: vec![0.0; pulled],
            memories: vec![Memory::new(metrics); views],
            seen: 0,
            ring: vec![0.0; SLOW],
            shares: Vec::new(),
            bare: 0,
            sequence,
        }
    }

    /// After a gap in the data the one-step predictor and the trailing means start anew; the level is kept.
    pub fn after_gap(&mut self) {
        self.seen = 0;
        self.sequence.iter_mut().for_each(SequenceState::after_gap);
        self.ring.fill(0.0);
        self.means.fill(0.0);
        self.pulls.fill(0.0);
        self.shares = Vec::new();
    }

    /// Takes the voters' votes on the next row, and the metrics' pulls, into their running means.
    pub(super) fn hear(&mut self, votes: &[f32], pulls: &[f32]) {
        self.means.iter_mut().zip(votes).for_each(|(mean, vote)| *mean = calm::next(*mean, *vote));
        self.pulls.iter_mut().zip(pulls).for_each(|(mean, pull)| *mean = calm::next_pull(*mean, *pull));
    }

    /// The running means of the votes, and of the pulls.
    pub(super) fn heard(&self) -> (&[f32], &[f32]) {
        (&self.means, &self.pulls)
    }

    /// Bytes that lie elsewhere.
    pub(super) fn bytes(&self) -> usize {
        let memories: usize = self.memories.iter().map(Memory::bytes).sum();
        let sequence = self.sequence.as_ref().map_or(0, SequenceState::bytes);
        memories + sequence + 4 * (self.ring.len() + self.shares.len() + self.means.len() + self.pulls.len())
    }

    /// Rows seen since the start or the last gap.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Contributions to [`RowScore::smooth`] by metric, of its rows of which they were worked out; where
    /// that is all of them, they sum to it. Empty where it is none.
    pub fn smooth_contributions(&self) -> Vec<f32> {
        let metrics = self.shares.len() / TRAILING;
        let mut out = vec![0.0f32; metrics];
        let filled = self.seen.min(TRAILING as u64) as usize;
        for line in self.shares.chunks_exact(metrics.max(1)).take(filled) {
            out.iter_mut().zip(line).for_each(|(o, s)| *o += s / filled as f32);
        }
        out
    }

    /// `shares` is empty where none was worked out.
    pub(super) fn push(&mut self, raw: f32, shares: &[f32]) {
        self.ring[(self.seen % SLOW as u64) as usize] = raw;
        let place = (self.seen % TRAILING as u64) as usize;
        if shares.is_empty() {
            let metrics = self.shares.len() / TRAILING;
            self.shares[place * metrics..(place + 1) * metrics].fill(0.0);
            self.bare = self.bare.saturating_add(1);
            if usize::from(self.bare) >= TRAILING {
                self.shares = Vec::new();
            }
        } else {
            self.shares.resize(shares.len() * TRAILING, 0.0);
            self.shares[place * shares.len()..(place + 1) * shares.len()].copy_from_slice(shares);
            self.bare = 0;
        }
        self.seen += 1;
    }

    /// The newest `count` of the raw scores, fewer at the start; the older ones first.
    fn newest(&self, count: usize) -> impl Iterator<Item = &f32> {
        let count = self.seen.min(count as u64) as usize;
        let end = (self.seen % SLOW as u64) as usize;
        let (from, upto) = (end.saturating_sub(count), SLOW - count.saturating_sub(end));
        self.ring[upto..].iter().chain(&self.ring[from..end])
    }

    pub(super) fn put(&self, to: &mut Writer) {
        self.memories.iter().for_each(|memory| memory.put(to));
        to.u64(self.seen);
        to.f32s(&self.ring);
        to.u8(u8::from(!self.shares.is_empty()));
        to.f32s(&self.shares);
        to.u8(self.bare);
        self.sequence.iter().for_each(|sequence| sequence.put(to));
        to.f32s(&self.means);
        to.f32s(&self.pulls);
    }

    pub(super) fn take(
        from: &mut Reader<'_>,
        views: usize,
        metrics: usize,
        sequence: Option<&Sequence>,
        pulled: usize,
    ) -> Option<AnomalyState> {
        let memories = (0..views).map(|_| Memory::take(from, metrics)).collect::<Option<_>>()?;
        let seen = from.u64().filter(|seen| *seen < MOST_SEEN)?;
        let ring = from.f32s(SLOW)?;
        let shares = if from.flag()? { from.f32s(metrics * TRAILING)? } else { Vec::new() };
        let bare = from.u8()?;
        let sequence = match sequence {
            Some(voter) => Some(voter.take_state(from)?),
            None => None,
        };
        let means = from.f32s(views * VOTERS + usize::from(sequence.is_some()))?;
        let pulls = from.f32s(pulled)?;
        Some(AnomalyState { memories, seen, ring, shares, bare, sequence, means, pulls })
    }

    pub(super) fn mean_of(&self, count: usize) -> f32 {
        let filled = self.seen.clamp(1, count as u64) as f32;
        self.newest(count).sum::<f32>() / filled
    }
}
