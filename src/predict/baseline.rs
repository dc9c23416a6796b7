//! The healthy profile of one metric of one partition: robust location and scale, a daily and a
//! weekly profile, learnt from history at once and kept up to date in constant memory (about 300
//! bytes a metric). Statistics run on a scale where the metric is roughly symmetric ([`Shape`]).

use crate::fleet::{Span, Timestamp};
use crate::telemetry::{Metric, Unit};

/// Makes MAD estimate the standard deviation of a normal distribution.
const MAD_TO_SIGMA: f32 = 1.4826;
const HOUR_MS: i64 = 3_600_000;
/// Weekly profile: one unit of its `i8` is this share of the scale.
const WEEKLY_UNIT: f32 = 1.0 / 16.0;

/// The scale on which a metric is judged, and the least spread that is taken seriously there.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Shape {
    /// As it is. The floor is `floor + relative × |location|`.
    Linear {
        /// In the metric's unit.
        floor: f32,
        /// Share of the location.
        relative: f32,
    },
    /// `ln(x + offset)`: latencies and rates, whose spread grows with their level.
    Log {
        /// In the metric's unit; below it differences count little.
        offset: f32,
        /// On the log scale.
        floor: f32,
    },
}

impl Shape {
    /// The shape of a canonical metric by its unit; of a foreign metric without one, linear with a
    /// relative floor.
    pub fn of(metric: Option<&Metric>) -> Self {
        match metric.map(|m| m.unit) {
            Some(Unit::Percent) => Shape::Linear { floor: 1.0, relative: 0.0 },
            Some(Unit::Celsius) => Shape::Linear { floor: 0.7, relative: 0.0 },
            Some(Unit::Volts) => Shape::Linear { floor: 0.0, relative: 0.003 },
            Some(Unit::Millis) => Shape::Log { offset: 0.1, floor: 0.08 },
            Some(Unit::BytesPerSecond) => Shape::Log { offset: 1e5, floor: 0.1 },
            Some(Unit::PerSecond) => Shape::Log { offset: 1.0, floor: 0.1 },
            Some(Unit::PerMinute | Unit::Count) => Shape::Log { offset: 1.0, floor: 0.25 },
            None => Shape::Linear { floor: 1e-6, relative: 0.05 },
        }
    }

    /// From the metric's unit to the scale of judgement; NaN stays NaN.
    pub fn to(self, x: f32) -> f32 {
        match self {
            Shape::Linear { .. } => x,
            Shape::Log { offset, .. } => (x.max(0.0) + offset).ln(),
        }
    }

    /// And back.
    pub fn from(self, y: f32) -> f32 {
        match self {
            Shape::Linear { .. } => y,
            Shape::Log { offset, .. } => (y.exp() - offset).max(0.0),
        }
    }

    /// A small spread around `x`, carried over to the scale of judgement.
    pub fn spread(self, x: f32, sd: f32) -> f32 {
        match self {
            Shape::Linear { .. } => sd,
            Shape::Log { offset, .. } => sd / (x.max(0.0) + offset),
        }
    }

    /// The least scale at a location.
    pub fn floor(self, location: f32) -> f32 {
        match self {
            Shape::Linear { floor, relative } => floor + relative * location.abs(),
            Shape::Log { floor, .. } => floor,
        }
    }
}

/// Where in the day and the week a time is; the same for the whole fleet in one cycle.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Season {
    hour: usize,
    next: usize,
    share: f32,
    week_hour: usize,
}

impl Season {
    /// The season at `at`, in UTC; between the middles of two hours the daily profile is read by
    /// linear interpolation.
    pub fn at(at: Timestamp) -> Self {
        let shifted = at.0.saturating_sub(HOUR_MS / 2);
        let hour = shifted.div_euclid(HOUR_MS);
        let share = shifted.rem_euclid(HOUR_MS) as f32 / HOUR_MS as f32;
        let first = hour.rem_euclid(24) as usize;
        Self {
            hour: first,
            next: (first + 1) % 24,
            share,
            week_hour: at.0.div_euclid(HOUR_MS).rem_euclid(168) as usize,
        }
    }
}

/// How fast a baseline learns; derived once from the options.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pace {
    /// Learning steps after which own location and scale speak.
    pub own_scale: u16,
    /// Learning steps of a day.
    pub day: u16,
    /// Learning steps of the location's memory.
    pub memory: u16,
    /// Frozen learning steps after which the baseline is learnt anew.
    pub freeze: u16,
    /// Width of one learning step.
    pub step: Span,
}

impl Pace {
    /// The day's profile is used from here on.
    fn daily(self) -> u16 {
        self.day.saturating_mul(2)
    }

    /// The week's profile is used from here on.
    fn weekly(self) -> u16 {
        self.day.saturating_mul(10)
    }
}

/// The baseline of one metric of one partition.
#[derive(Clone, Copy, Debug)]
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
    /// Deviation of each hour of the week from the daily profile, in sixteenths of the scale.
    weekly: [i8; 168],
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
            weekly: [0; 168],
        }
    }
}

impl Baseline {
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

    /// What is normal at that season, on the scale of judgement; NaN = nothing learnt.
    pub fn expected(&self, season: Season, pace: Pace) -> f32 {
        let mut expected = self.location;
        if self.count >= pace.daily() {
            let (a, b) = (self.daily[season.hour], self.daily[season.next]);
            expected += a + (b - a) * season.share;
            if self.count >= pace.weekly() {
                expected += f32::from(self.weekly[season.week_hour]) * WEEKLY_UNIT * self.scale;
            }
        }
        expected
    }

    /// Learns from a row of evenly spaced history, all at once: medians, so that a few bad hours in
    /// it do no harm. `values` are in the metric's unit, NaN = missing; what was learnt before is
    /// replaced if the row holds more.
    pub fn learn_row(&mut self, values: &[f32], start: Timestamp, step: Span, shape: Shape, pace: Pace) {
        let mut rows: Vec<(Timestamp, f32)> = values
            .iter()
            .enumerate()
            .filter(|(_, v)| v.is_finite())
            .map(|(i, v)| (start + Span(step.0.saturating_mul(i as i64)), shape.to(*v)))
            .collect();
        let steps = (rows.len() as i64).saturating_mul(step.0.max(1)) / pace.step.0.max(1);
        let count = u16::try_from(steps).unwrap_or(u16::MAX);
        if rows.len() < 4 || count < self.count {
            return;
        }
        let mut scratch: Vec<f32> = Vec::with_capacity(rows.len());
        *self = Baseline { noise: self.noise, count, ..Baseline::default() };
        scratch.extend(rows.iter().map(|r| r.1));
        self.location = median(&mut scratch);
        if count >= pace.daily() {
            let base = self.location;
            for (hour, slot) in self.daily.iter_mut().enumerate() {
                scratch.clear();
                scratch.extend(rows.iter().filter(|r| hour_of(r.0, 24) == hour).map(|r| r.1 - base));
                let n = scratch.len() as f32;
                *slot = if scratch.is_empty() { 0.0 } else { median(&mut scratch) * n / (n + 2.0) };
            }
        }
        for (at, y) in &mut rows {
            *y -= self.location + if count >= pace.daily() { self.daily[hour_of(*at, 24)] } else { 0.0 };
        }
        scratch.clear();
        scratch.extend(rows.iter().map(|r| r.1.abs()));
        let mean = scratch.iter().sum::<f32>() / scratch.len() as f32;
        let mad = median(&mut scratch) * MAD_TO_SIGMA;
        // A metric that is constant more than half the time has no MAD; its mean deviation speaks.
        self.scale = if mad > 0.0 { mad } else { mean };
        if count >= pace.weekly() && self.scale > 0.0 {
            for (hour, slot) in self.weekly.iter_mut().enumerate() {
                scratch.clear();
                scratch.extend(rows.iter().filter(|r| hour_of(r.0, 168) == hour).map(|r| r.1));
                if scratch.len() >= 2 {
                    let n = scratch.len() as f32;
                    let units = median(&mut scratch) * n / (n + 4.0) / self.scale / WEEKLY_UNIT;
                    *slot = units.clamp(-127.0, 127.0) as i8;
                }
            }
        }
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
            if self.frozen >= pace.freeze {
                *self = Baseline { location: y, noise, count: 1, scale: self.scale, ..Baseline::default() };
            }
            return;
        }
        self.frozen = 0;
        self.count = self.count.saturating_add(1);
        let n = f32::from(self.count);
        let residual = y - self.expected(season, pace);
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
        self.daily[hour] += off.clamp(-3.0 * scale, 3.0 * scale) * hourly;
        if self.count >= pace.daily() {
            let slot = &mut self.weekly[season.week_hour];
            let units = f32::from(*slot) + (clipped / scale / WEEKLY_UNIT).clamp(-8.0, 8.0) * hourly;
            *slot = units.clamp(-127.0, 127.0).round() as i8;
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

fn hour_of(at: Timestamp, period: i64) -> usize {
    at.0.div_euclid(HOUR_MS).rem_euclid(period) as usize
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
    use crate::fleet::rng::Random;

    const PACE: Pace = Pace { own_scale: 48, day: 288, memory: 576, freeze: 288, step: Span::minutes(5) };
    const SHAPE: Shape = Shape::Linear { floor: 1.0, relative: 0.0 };

    fn day_wave(at: Timestamp) -> f32 {
        40.0 + 20.0 * (at.seconds() / 86_400.0 * std::f64::consts::TAU).sin() as f32
    }

    #[test]
    fn a_baseline_fits_in_twelve_kilobytes_for_sixteen_metrics() {
        assert!(16 * size_of::<Baseline>() < 6_000, "{}", size_of::<Baseline>());
    }

    #[test]
    fn a_daily_rhythm_is_normal_once_it_was_seen() {
        let mut random = Random::new(1);
        let row: Vec<f32> =
            (0..864).map(|i| day_wave(Timestamp(i * 300_000)) + 2.0 * random.normal() as f32).collect();
        let mut baseline = Baseline::default();
        baseline.learn_row(&row, Timestamp(0), Span::minutes(5), SHAPE, PACE);
        for hour in 0..24 {
            let at = Timestamp(72 * 3_600_000 + hour * 3_600_000 + 600_000);
            let off = baseline.expected(Season::at(at), PACE) - day_wave(at);
            assert!(off.abs() < 2.5, "hour {hour}: {off}");
        }
        assert!((1.0..4.0).contains(&baseline.scale()), "{}", baseline.scale());
    }

    #[test]
    fn a_bad_night_in_the_history_does_not_move_the_baseline() {
        let mut row = vec![10.0f32; 288];
        for (i, v) in row.iter_mut().enumerate() {
            *v += (i % 5) as f32;
        }
        row[..60].fill(900.0);
        let mut baseline = Baseline::default();
        baseline.learn_row(&row, Timestamp(0), Span::minutes(5), SHAPE, PACE);
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
        at_once.learn_row(&row, Timestamp(0), Span::minutes(5), SHAPE, PACE);
        let season = Season::at(Timestamp(0));
        assert!((stepwise.expected(season, PACE) - at_once.expected(season, PACE)).abs() < 3.0);
        assert!((stepwise.scale() / at_once.scale() - 1.0).abs() < 0.35, "{}", stepwise.scale());
    }

    #[test]
    fn an_anomaly_teaches_nothing_until_it_is_the_new_normal() {
        let mut baseline = Baseline::default();
        baseline.learn_row(&[10.0, 11.0, 10.0, 9.0].repeat(100), Timestamp(0), PACE.step, SHAPE, PACE);
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
    fn odd_values_are_survived() {
        let mut baseline = Baseline::default();
        let season = Season::at(Timestamp(i64::MIN));
        for y in [f32::NAN, f32::INFINITY, f32::MIN, f32::MAX, 0.0, -0.0] {
            baseline.learn(y, f32::NAN, f32::NAN, season, SHAPE, PACE);
            baseline.learn_row(&[y; 9], Timestamp(i64::MAX), Span(i64::MAX), SHAPE, PACE);
        }
        assert!(median(&mut []).is_nan());
    }
}
