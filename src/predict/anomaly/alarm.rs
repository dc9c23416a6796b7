//! When a score is an alarm: over the level that training set, and news. What has stood over the level for
//! half a day without a break is taken for the new normal and left out (the score goes on saying it): else
//! one gauge that was moved for good, a resized pool or a new limit, would hide every later alarm until the
//! next training.

use serde::{Deserialize, Serialize};

use super::bytes::{Reader, Writer};
use super::hysteresis::Hysteresis;
use super::scaler::quantile;

/// Stretches that must all lie over the level: half a day.
pub(super) const STRETCHES: usize = 12;

/// Rows of a stretch: those of an hour.
pub(super) fn stretch(rows_per_day: f32) -> u16 {
    (rows_per_day / 24.0).clamp(1.0, f32::from(u16::MAX)) as u16
}

/// The rule and its state for one partition; about 100 bytes.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct AlarmRule {
    level: f32,
    hysteresis: Hysteresis,
    /// The mean of each of the last stretches where it lay over the level, else 0.
    standing: [f32; STRETCHES],
    place: u8,
    /// Rows of a stretch.
    stretch: u16,
    rows: u16,
    sum: f32,
    accepted: f32,
}

impl AlarmRule {
    /// On at `level`, off after five rows under 80 % of it; `stretch` rows are an hour.
    pub fn new(level: f32, stretch: u16) -> AlarmRule {
        AlarmRule {
            level,
            hysteresis: Hysteresis::new(level, 0.8 * level, 1, 5),
            standing: [0.0; STRETCHES],
            place: 0,
            stretch: stretch.max(1),
            rows: 0,
            sum: 0.0,
            accepted: 0.0,
        }
    }

    /// Takes the next score and says whether an alarm stands. A score that is NaN changes nothing.
    pub fn step(&mut self, score: f32) -> bool {
        if score.is_nan() {
            return self.hysteresis.alarmed();
        }
        let news = score - self.accepted;
        self.sum += score;
        self.rows += 1;
        if self.rows == self.stretch {
            let mean = self.sum / f32::from(self.stretch);
            self.standing[usize::from(self.place)] = if mean > self.level { mean } else { 0.0 };
            self.place = (self.place + 1) % STRETCHES as u8;
            (self.rows, self.sum) = (0, 0.0);
            self.accepted = self.standing.iter().copied().fold(f32::INFINITY, f32::min);
        }
        self.hysteresis.step(news)
    }

    /// Whether an alarm stands.
    pub fn alarmed(&self) -> bool {
        self.hysteresis.alarmed()
    }

    /// How much of the score is taken for the new normal.
    pub fn accepted(&self) -> f32 {
        self.accepted
    }

    /// What it carries; level and stretch are the model's.
    pub(super) fn put(&self, to: &mut Writer) {
        self.hysteresis.put(to);
        to.f32s(&self.standing);
        to.u8(self.place);
        to.u16(self.rows);
        to.f32s(&[self.sum, self.accepted]);
    }

    pub(super) fn take(from: &mut Reader<'_>, level: f32, stretch: u16) -> Option<AlarmRule> {
        let mut out = AlarmRule::new(level, stretch);
        out.hysteresis.take(from)?;
        out.standing = from.f32s(STRETCHES)?.try_into().ok()?;
        out.place = from.u8().filter(|place| usize::from(*place) < STRETCHES)?;
        out.rows = from.u16().filter(|rows| *rows < out.stretch)?;
        (out.sum, out.accepted) = (from.f32()?, from.f32()?);
        Some(out)
    }
}

/// The lowest level at which training itself would have raised at most one alarm a day (alarms within an
/// hour are one), and no more than one row in twenty stands over it. Infinite where there is no score.
pub(super) fn level_of(scores: &[f32], rows_per_day: f32) -> f32 {
    let mut sorted: Vec<f32> = scores.iter().copied().filter(|s| s.is_finite()).collect();
    let rows = sorted.len();
    if rows == 0 {
        return f32::INFINITY;
    }
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let allowed = (rows as f32 / rows_per_day).ceil() as usize;
    let mut level = sorted[0];
    for k in 1..200 {
        let rank = ((rows as f64 / 20.0).powf(f64::from(k) / 199.0) as usize).min(rows - 1);
        if runs_over(scores, sorted[rank], (rows_per_day / 24.0) as usize) > allowed {
            break;
        }
        level = sorted[rank];
    }
    level
}

/// Share of training's days that stay below the level of events: with it there is about one false event a day on the
/// parts of SMD's train files that were not learnt from (see [`super::calm`]; 1.3 with two days of three, 1.1 with
/// three of four, .9 with six of seven).
const CALM_DAYS: f64 = 0.8;

/// The level that four days of training in five stay below. A few disturbed days do not raise it. `None`
/// where there are fewer than three days.
pub(super) fn level_of_days(scores: &[f32], rows_per_day: f32) -> Option<f32> {
    let day = (rows_per_day as usize).max(1);
    let mut highest: Vec<f32> = scores
        .chunks(day)
        .filter(|d| d.len() > day / 2)
        .map(|d| d.iter().copied().filter(|s| s.is_finite()).fold(f32::NEG_INFINITY, f32::max))
        .filter(|s| s.is_finite())
        .collect();
    highest.sort_unstable_by(f32::total_cmp);
    (highest.len() >= 3).then(|| quantile(&highest, CALM_DAYS))
}

/// Runs of scores over `level`, those less than `merge` rows apart as one.
fn runs_over(scores: &[f32], level: f32, merge: usize) -> usize {
    let mut runs = 0;
    let mut last = None;
    for t in (0..scores.len()).filter(|&t| scores[t] > level) {
        runs += usize::from(last.is_none_or(|l| t - l > merge));
        last = Some(t);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_for_good_is_accepted_after_half_a_day_and_then_news_alarm_again() {
        let mut rule = AlarmRule::new(1.0, 60);
        assert!(!rule.step(0.5));
        assert!((0..700).all(|_| rule.step(5.0)), "it stands for as long as it is news");
        (0..200).for_each(|_| {
            rule.step(5.0);
        });
        assert!(!rule.step(5.0) && rule.accepted() > 3.9);
        assert!(rule.step(7.0), "what comes on top is an alarm");
        (0..200).for_each(|_| {
            rule.step(0.0);
        });
        assert_eq!(rule.accepted(), 0.0, "and when it is over, nothing is accepted any more");
    }

    #[test]
    fn a_disturbed_day_does_not_raise_the_level() {
        let mut scores: Vec<f32> = (0..10_080).map(|t| if t % 1440 == 7 { 1.0 } else { 0.1 }).collect();
        assert_eq!(level_of_days(&scores, 1440.0), Some(1.0));
        (1500..1900).step_by(61).for_each(|t| scores[t] = 50.0);
        assert_eq!(level_of_days(&scores, 1440.0), Some(1.0));
        assert_eq!(level_of_days(&scores[..2000], 1440.0), None, "two days are too few");
    }

    #[test]
    fn training_would_have_alarmed_about_once_a_day_at_its_level() {
        let scores: Vec<f32> =
            (0..14_400).map(|t| if t % 288 == 0 { 1.0 + (t % 7) as f32 } else { 0.1 }).collect();
        let level = level_of(&scores, 1440.0);
        assert!(runs_over(&scores, level, 60) <= 10 && level >= 1.0, "{level}");
    }
}
