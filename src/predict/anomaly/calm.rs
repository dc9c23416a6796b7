//! What an alarm rests on where days of history are known: the voter that is furthest over what it reaches on calm
//! days. Each voter's running mean is divided by the level that four days of training in five stay below, and the
//! greatest of these is the statistic; its own level is found in the same way, so that the voters share one budget
//! of false alarms. An incident that one voter alone sees is not thinned out by the others, as it is in their mean.
//!
//! Chosen without a label: 336 anomalies (1 to 200 rows, one to ten deviations) were put into the first and into the
//! last 30 % of three SMD train files, which the rest was learnt to judge. At one false event a day, with those that an
//! alarm brings which goes on behind its anomaly (at .66 anomalies a day), the greatest of the voters finds .575 of
//! them; the trailing mean of the score, as it was before, .497; a running mean of it .518, the greatest of several such
//! means of 5 to 60 rows .48 to .51. With slower means of the voters beside (60 or 120 rows) it is .568. Labels of the
//! test files were then looked at twice: with means of 10 and 120 rows, chosen before what goes on behind an anomaly was
//! counted (.77 at 1.84 false events a day; 1.83 is what the train files foretell), and with this rule (.846 at .89).

use serde::{Deserialize, Serialize};

use super::alarm::level_of_days;
use super::bytes::{Reader, Writer};
use super::model::LEAST_EVENT;

/// Share of the next vote in a voter's running mean: that of ten rows.
const NEXT: f32 = 2.0 / 11.0;

/// What each voter reaches on calm days; none where there are too few days.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Calm(Vec<f32>);

/// A voter's running mean after its next vote.
#[inline]
pub(super) fn next(mean: f32, vote: f32) -> f32 {
    mean + NEXT * (vote - mean)
}

impl Calm {
    /// From the votes of each voter on training, `[voter][row]`; with it the level of [`Calm::most`]. `None` where
    /// there are fewer than three days.
    pub(super) fn of(votes: &[Vec<f32>], rows_per_day: f32) -> Option<(Calm, f32)> {
        let mut most: Vec<f32> = Vec::new();
        let mut levels = Vec::with_capacity(votes.len());
        for votes in votes {
            let mut mean = 0.0;
            let means: Vec<f32> = votes
                .iter()
                .map(|vote| {
                    mean = next(mean, *vote);
                    mean
                })
                .collect();
            let level = level_of_days(&means, rows_per_day)?.max(LEAST_EVENT);
            most.resize(means.len(), f32::NEG_INFINITY);
            most.iter_mut().zip(&means).for_each(|(most, mean)| *most = most.max(mean / level));
            levels.push(level);
        }
        Some((Calm(levels), level_of_days(&most, rows_per_day)?))
    }

    /// How far the voter that is furthest is, in units of its level; `None` where there are no levels.
    pub(super) fn most(&self, means: &[f32]) -> Option<f32> {
        means.iter().zip(&self.0).map(|(mean, level)| mean / level).reduce(f32::max)
    }

    /// Bytes that lie elsewhere.
    pub(super) fn bytes(&self) -> usize {
        4 * self.0.len()
    }

    /// Whether there are none, or those of so many voters.
    pub(super) fn is_of(&self, voters: usize) -> bool {
        self.0.is_empty() || self.0.len() == voters
    }

    pub(super) fn put(&self, to: &mut Writer) {
        to.u8(self.0.len() as u8);
        to.f32s(&self.0);
    }

    /// `None` where a level is not above 0.
    pub(super) fn take(from: &mut Reader<'_>) -> Option<Calm> {
        let count = usize::from(from.u8()?);
        let levels = from.f32s(count)?;
        levels.iter().all(|level| *level > 0.0).then_some(Calm(levels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_voter_alone_sees_counts_as_much_as_what_all_see() {
        let quiet: Vec<f32> = (0..14_400).map(|t| ((t * 7919) % 101) as f32 / 101.0 - 0.5).collect();
        let loud: Vec<f32> = quiet.iter().map(|v| 5.0 * v).collect();
        let (calm, level) = Calm::of(&[quiet.clone(), loud], 1440.0).expect("ten days");
        assert!((0.9..=1.1).contains(&level), "both are at their level on one day in five: {level}");
        let most = |means: [f32; 2]| calm.most(&means).expect("levels");
        assert!((most([calm.0[0], 0.0]) - 1.0).abs() < 1e-6 && (most([0.0, calm.0[1]]) - 1.0).abs() < 1e-6);
        assert!((most([2.0 * calm.0[0], 0.0]) - 2.0).abs() < 1e-6, "the other one takes nothing away");
        assert!(Calm::of(&[quiet[..2000].to_vec()], 1440.0).is_none(), "two days are too few");
    }
}
