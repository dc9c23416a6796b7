//! The healthy profile of one metric of one partition: robust location and scale, a daily and a
//! weekly profile and what each hour of the day usually reaches, made from history (`past.rs`) and kept up
//! to date in constant memory (about 300 bytes a metric). Statistics run on a scale where the metric is
//! roughly symmetric ([`Shape`]).

use super::reach::{Reach, Sides};
use super::season::{Pace, Season};
use super::shape::Shape;
use crate::fleet::Span;

/// Makes MAD estimate the standard deviation of a normal distribution.
pub(super) const MAD_TO_SIGMA: f32 = 1.4826;
/// Weekly profile: one unit of its `i8` is this share of [`Baseline::unit`].
pub(super) const WEEKLY_UNIT: f32 = 1.0 / 4.0;
/// Hours of the day whose middles are further apart than this many scales are a step (work that begins or
/// ends), not a slope: around it all that lies between them is normal.
const STEP: f32 = 4.0;

/// Of what an hour of the week was off, its place in the weekly profile moves so much each week.
const WEEKLY_GAIN: f32 = 1.0 / 3.0;

/// The baseline of one metric of one partition.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// Location on the scale of judgement; NaN = nothing learnt.
    location: f32,
    /// Robust standard deviation of what the profile leaves over.
    scale: f32,
    /// Standard deviation of one window slot around its neighbours; NaN = not known.
    noise: f32,
    /// Learning steps taken.
    count: u16,
    /// Learning steps left out in a row because the metric was unusual.
    frozen: u16,
    /// Deviation of each hour of the day from the location.
    daily: [f32; 24],
    /// What a unit of the weekly profile and of the reach is worth: the scale when they were made.
    unit: f32,
    /// How far each hour of the day usually reaches. Few metrics have any, so it has a place of its own.
    reach: Option<Box<Reach>>,
    /// Deviation of each hour of the week from the daily profile, in quarters of the unit.
    weekly: [i8; 168],
    /// What the present hour says of it so far: a step alone is less than its numbers can hold.
    hour: Hour,
}

/// An hour of the week that is not over, in constant memory.
#[derive(Clone, Copy, Default, Debug)]
struct Hour {
    of_week: u8,
    steps: u8,
    /// Sum of what the steps were off, in [`Hour::PART`]s of a unit of the weekly profile.
    sum: i16,
}

impl Hour {
    const PART: f32 = 1.0 / 8.0;

    /// Adds a step; where another hour has begun, the one before and by how many units it was off, less where it had
    /// few steps.
    fn add(&mut self, of_week: usize, units: f32, pace: Pace) -> Option<(usize, f32)> {
        let of_week = of_week as u8;
        let ended = (self.of_week != of_week && self.steps > 0).then(|| {
            let whole = (f32::from(pace.day) / 24.0).min(255.0);
            (usize::from(self.of_week), f32::from(self.sum) * Self::PART / f32::from(self.steps).max(whole))
        });
        if self.of_week != of_week {
            *self = Hour { of_week, ..Hour::default() };
        }
        if self.steps < u8::MAX {
            self.steps += 1;
            self.sum = self.sum.saturating_add((units / Self::PART).round() as i16);
        }
        ended
    }
}

impl Default for Baseline {
    fn default() -> Self {
        Self {
            location: f32::NAN,
            scale: 0.0,
            noise: f32::NAN,
            count: 0,
            frozen: 0,
            daily: [0.0; 24],
            unit: 0.0,
            reach: None,
            weekly: [0; 168],
            hour: Hour::default(),
        }
    }
}

impl Baseline {
    /// One without profiles, from what `count` learning steps said.
    pub(super) fn of(location: f32, scale: f32, count: u16) -> Self {
        Baseline { location, scale, count, ..Baseline::default() }
    }

    pub(super) fn set_daily(&mut self, daily: [f32; 24], unit: f32) {
        (self.daily, self.unit) = (daily, unit);
    }

    pub(super) fn set_reach(&mut self, reach: Option<Box<Reach>>) {
        self.reach = reach;
    }

    fn reach(&self, hour: usize) -> Sides {
        self.reach.as_ref().map_or((0, 0), |reach| reach.usual(hour))
    }

    /// How far `y` is from the middle of its hour, in units.
    fn off(&self, y: f32, season: Season, pace: Pace) -> f32 {
        (y - self.location - self.of_week(season, pace) - self.daily[season.week_hour % 24]) / self.unit
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Baseline>() + self.reach.as_ref().map_or(0, |_| size_of::<Reach>())
    }

    pub(super) fn set_weekly(&mut self, week_hour: usize, units: i8) {
        self.weekly[week_hour] = units;
    }

    /// Takes what history made, where that rests on as much as what was learnt before.
    pub(super) fn take_over(&mut self, made: Baseline) {
        if made.count >= self.count {
            *self = Baseline { noise: self.noise, ..made };
        }
    }

    /// Learning steps taken, saturating.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Spread of what the profile leaves over, on the scale of judgement.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Standard deviation of a single slot; NaN = not known yet.
    pub fn noise(&self) -> f32 {
        self.noise
    }

    /// The middle of what is normal at that season, on the scale of judgement; NaN = nothing learnt.
    pub fn expected(&self, season: Season, pace: Pace) -> f32 {
        if self.count < pace.daily() {
            return self.location;
        }
        let (a, b) = (self.daily[season.hour], self.daily[season.next]);
        self.location + self.of_week(season, pace) + a + (b - a) * season.share
    }

    /// The normal value that is nearest to `y`: the expected one, but where hours reach further (a batch
    /// job) or a step lies between them, any of those.
    pub fn normal(&self, y: f32, season: Season, pace: Pace) -> f32 {
        let expected = self.expected(season, pace);
        if self.count < pace.daily() || self.unit <= 0.0 {
            return expected;
        }
        let (a, b) = (self.daily[season.hour], self.daily[season.next]);
        let ((under_a, over_a), (under_b, over_b)) = (self.reach(season.hour), self.reach(season.next));
        let step = (b - a).abs() > STEP * self.unit;
        if !step && under_a.max(over_a).max(under_b).max(over_b) == 0 {
            return expected;
        }
        let level = self.location + self.of_week(season, pace);
        let units = |n: u8| f32::from(n) * self.unit;
        let low = level + (a - units(under_a)).min(b - units(under_b));
        let high = level + (a + units(over_a)).max(b + units(over_b));
        if y.is_finite() { y.max(low).min(high) } else { expected }
    }

    fn of_week(&self, season: Season, pace: Pace) -> f32 {
        if self.count < pace.weekly() {
            return 0.0;
        }
        f32::from(self.weekly[season.week_hour]) * WEEKLY_UNIT * self.unit
    }

    /// Learns location and scale from a short row of evenly spaced values, all at once: medians, so that a
    /// few bad ones do no harm. `values` are in the metric's unit, NaN = missing; what was learnt before is
    /// replaced if the row holds more.
    pub fn learn_row(&mut self, values: &[f32], step: Span, shape: Shape, pace: Pace) {
        let mut row: Vec<f32> = values.iter().map(|v| shape.to(*v)).filter(|y| y.is_finite()).collect();
        let steps = (row.len() as i64).saturating_mul(step.0.max(1)) / pace.step.0.max(1);
        let count = u16::try_from(steps).unwrap_or(u16::MAX);
        if row.len() < 4 || count < self.count {
            return;
        }
        let location = median(&mut row);
        row.iter_mut().for_each(|y| *y = (*y - location).abs());
        let mean = row.iter().sum::<f32>() / row.len() as f32;
        let mad = median(&mut row) * MAD_TO_SIGMA;
        // A metric that is constant more than half the time has no MAD; its mean deviation speaks.
        let scale = if mad > 0.0 { mad } else { mean };
        *self = Baseline { noise: self.noise, ..Baseline::of(location, scale, count) };
    }

    /// One learning step: `y` is the mean over the step on the scale of judgement, `noise` the
    /// spread of single slots (NaN = not known), `z` how unusual it was. Unusual values teach
    /// nothing, until they have lasted for the whole freeze, when they are the new normal.
    ///
    /// The updates are recursive M-estimates with Huber's clipped residual (Huber 1964), gain
    /// `1/n` first and exponential forgetting later.
    pub fn learn(&mut self, y: f32, noise: f32, z: f32, season: Season, shape: Shape, pace: Pace) {
        if !y.is_finite() {
            return;
        }
        if self.location.is_nan() {
            self.location = y;
            self.noise = noise;
            self.count = 1;
            return;
        }
        if self.count >= pace.own_scale && z.abs() > 6.0 {
            self.frozen = self.frozen.saturating_add(1);
            if self.count >= pace.daily() && self.unit > 0.0 {
                let off = self.off(y, season, pace);
                self.reach.get_or_insert_default().note_unusual(season.since_1970, off);
            }
            if self.frozen >= pace.freeze {
                *self = Baseline { location: y, noise, count: 1, scale: self.scale, ..Baseline::default() };
            }
            return;
        }
        self.frozen = 0;
        let off = self.off(y, season, pace);
        if self.reach.as_mut().is_some_and(|reach| !reach.note_usual(season.since_1970, off)) {
            self.reach = None;
        }
        self.count = self.count.saturating_add(1);
        let n = f32::from(self.count);
        let residual = y - self.normal(y, season, pace);
        let scale = self.scale.max(shape.floor(self.location));
        let clipped = residual.clamp(-3.0 * scale, 3.0 * scale);
        let first = f32::from(self.count <= 12);
        self.location += (residual * first + clipped * (1.0 - first)) * (1.0 / n).max(rate(pace.memory));
        let square = (clipped / scale).powi(2);
        let kept = (self.scale / scale).powi(2);
        let gain = (1.0 / n).max(rate(pace.memory.saturating_mul(2)));
        self.scale = scale * (kept + (square - kept) * gain).max(0.0).sqrt();
        let hour = season.week_hour % 24;
        let hourly = (24.0 / f32::from(pace.day.max(24))).min(1.0) / 3.0;
        let off = y - self.location - self.daily[hour];
        let (under, over) = self.reach(hour);
        // What the hour usually reaches does not draw its middle there.
        let off = off - off.max(-f32::from(under) * self.unit).min(f32::from(over) * self.unit);
        self.daily[hour] += off.clamp(-3.0 * scale, 3.0 * scale) * hourly;
        if self.count >= pace.daily() {
            self.unit = if self.unit > 0.0 { self.unit } else { scale };
            let units = (clipped / self.unit / WEEKLY_UNIT).clamp(-16.0, 16.0);
            if let Some((hour, off)) = self.hour.add(season.week_hour, units, pace) {
                let slot = &mut self.weekly[hour];
                *slot = (f32::from(*slot) + off * WEEKLY_GAIN).clamp(-127.0, 127.0).round() as i8;
            }
        }
        if noise.is_finite() {
            self.noise =
                if self.noise.is_nan() { noise } else { self.noise + (noise - self.noise) * rate(pace.day) };
        }
    }

    /// The spread of single slots, where nothing is known yet.
    pub fn first_noise(&mut self, noise: f32) {
        if self.noise.is_nan() {
            self.noise = noise;
        }
    }

    /// Takes `y`, the mean over a learning step at that season, for the new level: the partition has
    /// taken work over. Scale and profile stay.
    pub fn rebase(&mut self, y: f32, season: Season, shape: Shape, pace: Pace) {
        if y.is_finite() && self.location.is_finite() {
            self.location += y - self.expected(season, pace);
            self.scale = self.scale.max(shape.floor(self.location));
            self.frozen = 0;
        }
    }

    /// Forgets most of what it is sure of, so that a partition whose hosted work has changed soon
    /// finds its new level; scale and profile stay.
    pub fn loosen(&mut self, pace: Pace) {
        self.count = self.count.min(pace.own_scale / 4);
        self.frozen = 0;
    }
}

fn rate(steps: u16) -> f32 {
    1.0 / f32::from(steps.max(1))
}

/// The median of finite values; NaN of none. Reorders them.
pub fn median(values: &mut [f32]) -> f32 {
    let n = values.len();
    if n == 0 {
        return f32::NAN;
    }
    let (below, &mut upper, _) = values.select_nth_unstable_by(n / 2, f32::total_cmp);
    if n % 2 == 1 {
        return upper;
    }
    let lower = below.iter().copied().max_by(f32::total_cmp).unwrap_or(upper);
    lower + (upper - lower) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Timestamp;
    use crate::fleet::rng::Random;

    const PACE: Pace = Pace { own_scale: 48, day: 288, memory: 576, freeze: 288, step: Span::minutes(5) };
    const SHAPE: Shape = Shape::Linear { floor: 1.0, relative: 0.0 };

    #[test]
    fn a_baseline_fits_in_twelve_kilobytes_for_sixteen_metrics() {
        assert!(16 * size_of::<Baseline>() < 6_000, "{}", size_of::<Baseline>());
    }

    #[test]
    fn a_bad_part_of_a_short_row_does_not_move_the_baseline() {
        let mut row = vec![10.0f32; 288];
        for (i, v) in row.iter_mut().enumerate() {
            *v += (i % 5) as f32;
        }
        row[..60].fill(900.0);
        let mut baseline = Baseline::default();
        baseline.learn_row(&row, Span::minutes(5), SHAPE, PACE);
        let expected = baseline.expected(Season::at(Timestamp(0)), PACE);
        assert!((10.0..=14.0).contains(&expected), "{expected}");
        assert!(baseline.scale() < 4.0);
    }

    #[test]
    fn learning_step_by_step_arrives_where_learning_at_once_does() {
        let mut random = Random::new(3);
        let mut stepwise = Baseline::default();
        let mut row = Vec::new();
        for i in 0..2_000i64 {
            let y = 50.0 + 4.0 * random.normal() as f32;
            row.push(y);
            stepwise.learn(y, 1.0, 0.0, Season::at(Timestamp(i * 300_000)), SHAPE, PACE);
        }
        let mut at_once = Baseline::default();
        at_once.learn_row(&row, Span::minutes(5), SHAPE, PACE);
        let season = Season::at(Timestamp(0));
        assert!((stepwise.expected(season, PACE) - at_once.expected(season, PACE)).abs() < 3.0);
        assert!((stepwise.scale() / at_once.scale() - 1.0).abs() < 0.35, "{}", stepwise.scale());
    }

    #[test]
    fn weekends_become_normal_while_the_engine_runs() {
        for (step, noise) in [(5, 1.0), (60, 0.3)] {
            let pace = Pace {
                own_scale: (240 / step) as u16,
                day: (1_440 / step) as u16,
                memory: (2_880 / step) as u16,
                freeze: (1_440 / step) as u16,
                step: Span::minutes(step),
            };
            let mut random = Random::new(9);
            let mut baseline = Baseline::default();
            let mut off = [0.0f32; 9];
            let in_week = 7 * 1_440 / step;
            for i in 0..9 * in_week {
                let at = Timestamp(i * step * 60_000);
                // 1970 begins with a Thursday.
                let weekend = (2..4).contains(&(i * step / 1_440 % 7));
                let usual = if weekend { 44.0 } else { 50.0 };
                let y = usual + noise * 2.0 * random.normal() as f32;
                let season = Season::at(at + Span::minutes(step / 2));
                let expected = baseline.expected(season, pace);
                off[(i / in_week) as usize] += (expected - usual).abs() / in_week as f32;
                let z = (y - expected) / baseline.scale().max(1.0);
                baseline.learn(y, 1.0, z, season, SHAPE, pace);
            }
            println!("every {step} min: off by {off:.2?} in each week");
            assert!(off[8] < 0.6 * off[1], "every {step} min: {off:?}");
        }
    }

    #[test]
    fn a_nightly_job_that_begins_while_the_engine_runs_is_no_failure_for_long() {
        let mut random = Random::new(4);
        let mut baseline = Baseline::default();
        let mut unusual = [0u32; 40];
        for i in 0..40 * 288i64 {
            let (day, minute) = (i / 288, i % 288 * 5);
            let job = (8..30).contains(&day) && (130..165).contains(&minute);
            // One real incident by day, and one beside the job.
            let incident = day == 25 && (840..900).contains(&minute) || day == 26 && minute == 140;
            let mut y = 50.0 + 2.0 * random.normal() as f32;
            y += if job { 45.0 } else { 0.0 } + if incident { 70.0 } else { 0.0 };
            let season = Season::at(Timestamp(i * 300_000) + Span::minutes(2));
            let z = (y - baseline.normal(y, season, PACE)) / baseline.scale().max(1.0);
            unusual[day as usize] += u32::from(baseline.count() >= PACE.own_scale && z.abs() > 6.0);
            baseline.learn(y, 1.0, z, season, SHAPE, PACE);
        }
        println!("{unusual:?}");
        assert!(unusual[8..11].iter().all(|n| *n == 7), "three nights are told: {unusual:?}");
        assert_eq!(unusual[11..25].iter().sum::<u32>(), 0, "{unusual:?}");
        assert_eq!((unusual[25], unusual[26]), (12, 1), "an incident is one: {unusual:?}");
        assert_eq!(unusual[30..].iter().sum::<u32>(), 0, "{unusual:?}");
    }

    #[test]
    fn an_anomaly_teaches_nothing_until_it_is_the_new_normal() {
        let mut baseline = Baseline::default();
        baseline.learn_row(&[10.0, 11.0, 10.0, 9.0].repeat(100), PACE.step, SHAPE, PACE);
        let season = Season::at(Timestamp(0));
        let before = baseline.expected(season, PACE);
        for _ in 0..200 {
            baseline.learn(90.0, 1.0, 20.0, season, SHAPE, PACE);
        }
        assert_eq!(baseline.expected(season, PACE), before);
        for _ in 0..100 {
            baseline.learn(90.0, 1.0, 20.0, season, SHAPE, PACE);
        }
        assert!((baseline.expected(season, PACE) - 90.0).abs() < 5.0);
    }

    #[test]
    fn what_is_missing_stays_missing_on_every_scale() {
        for shape in [SHAPE, Shape::Log { offset: 0.1, floor: 0.1 }] {
            assert!(shape.to(f32::NAN).is_nan());
            assert!(shape.to(-1.0).is_finite());
        }
    }

    #[test]
    fn odd_values_are_survived() {
        let mut baseline = Baseline::default();
        let season = Season::at(Timestamp(i64::MIN));
        for y in [f32::NAN, f32::INFINITY, f32::MIN, f32::MAX, 0.0, -0.0] {
            baseline.learn(y, f32::NAN, f32::NAN, season, SHAPE, PACE);
            baseline.learn_row(&[y; 9], Span(i64::MAX), SHAPE, PACE);
        }
        assert!(median(&mut []).is_nan());
    }
}
