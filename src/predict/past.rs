//! What history says of one metric of one partition, gathered part by part: an hour becomes one small
//! record, so that days to months of it are held in a fraction of the room of their samples. When the last
//! part is there, a [`Baseline`] is made of all records at once, by medians over days, and they are dropped.
//!
//! Hours of which little was measured count for what is there. One bad stretch teaches nothing: profiles
//! are medians over days, location and scale medians over the newest week. What has been unusual to the end
//! for as long as a running engine takes for the new normal ([`Pace::freeze`]) is the new normal here, too.

use super::baseline::{Baseline, MAD_TO_SIGMA, WEEKLY_UNIT, median};
use super::reach::Reach;
use super::season::{Pace, Season};
use super::shape::Shape;
use crate::fleet::{Span, Timestamp};

pub(super) const HOUR_MS: i64 = 3_600_000;
/// Hours of a metric that are kept, at most: a quarter of a year. The oldest go first.
const MOST_HOURS: usize = 24 * 7 * 13;
/// Bytes that the records of all metrics may take together, until the baselines are made; a week is kept in any case.
const BUDGET: usize = 1 << 30;
/// Location and scale are those of so many hours, the newest.
const RECENT: usize = 24 * 7;
/// Hours of so many days make what an hour of the day or of the week usually reaches.
const LEAST_DAYS: usize = 3;
/// An hour reaches further than its middle from so many scales on; less is noise.
const REACHES: f32 = 4.0;
/// Hours further off than this are unusual.
const UNUSUAL: f32 = 6.0;

/// One hour, on the scale of judgement; levels are differences from [`Past::origin`], packed.
#[derive(Clone, Copy, Debug)]
struct Hour {
    /// Hours since [`Past::first`].
    at: i16,
    /// Samples.
    samples: u8,
    middle: u16,
    /// Median and mean of the absolute deviations from the middle.
    spread: u16,
    mean_spread: u16,
    /// The lowest and the highest but one.
    low: u16,
    high: u16,
}

/// An hour unpacked.
#[derive(Clone, Copy)]
struct Seen {
    hour: i64,
    samples: f32,
    middle: f32,
    spread: f32,
    mean_spread: f32,
    low: f32,
    high: f32,
}

impl Seen {
    fn of_day(&self) -> usize {
        self.hour.rem_euclid(24) as usize
    }

    fn of_week(&self) -> usize {
        self.hour.rem_euclid(168) as usize
    }
}

/// The history of one metric of one partition.
#[derive(Clone, Debug)]
pub(super) struct Past {
    /// The hour of the first record that came.
    first: i64,
    origin: f32,
    step: Span,
    newest: Timestamp,
    /// By time.
    hours: Vec<Hour>,
}

/// How many hours of each metric are kept where there are so many metrics of partitions in all.
pub(super) fn most_hours(series: usize) -> usize {
    // A list that grows has room for as many again.
    (BUDGET / (2 * size_of::<Hour>() * series.max(1))).clamp(RECENT, MOST_HOURS)
}

/// How the history of a metric ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Its newest sample.
    pub(super) at: Timestamp,
    /// The middle of its last hour, on the scale of judgement.
    pub(super) middle: f32,
}

impl Past {
    /// Adds a row of evenly spaced history in the metric's unit, NaN = missing; `past` is what was gathered
    /// before; of the newest `most` hours. An hour that comes twice counts once, the fuller one.
    pub(super) fn add(
        past: &mut Option<Box<Past>>,
        values: &[f32],
        start: Timestamp,
        step: Span,
        shape: Shape,
        most: usize,
    ) {
        let at = |i: usize| start + Span(step.0.saturating_mul(i as i64));
        let mut samples: Vec<f32> = Vec::with_capacity(64);
        let mut from = 0;
        while from < values.len() {
            let hour = at(from).0.div_euclid(HOUR_MS);
            let until = (from + 1..values.len())
                .find(|&i| at(i).0.div_euclid(HOUR_MS) != hour)
                .unwrap_or(values.len());
            samples.clear();
            samples.extend(values[from..until].iter().map(|&v| shape.to(v)).filter(|y| y.is_finite()));
            if !samples.is_empty() {
                let newest = (from..until).rev().find(|&i| values[i].is_finite()).map_or(start, at);
                let middle = median(&mut samples);
                let past = past.get_or_insert_with(|| {
                    Box::new(Past { first: hour, origin: middle, step, newest, hours: Vec::new() })
                });
                past.step = step;
                past.newest = past.newest.max(newest);
                past.put(hour, middle, &mut samples, most);
            }
            from = until;
        }
    }

    fn put(&mut self, hour: i64, middle: f32, samples: &mut [f32], most: usize) {
        let Ok(at) = i16::try_from(hour.saturating_sub(self.first)) else { return };
        samples.sort_unstable_by(f32::total_cmp);
        // One sample that is far off is no level of the hour.
        let edge = usize::from(samples.len() >= 4);
        let (low, high) = (samples[edge], samples[samples.len() - 1 - edge]);
        let count = u8::try_from(samples.len()).unwrap_or(u8::MAX);
        samples.iter_mut().for_each(|y| *y = (*y - middle).abs());
        let mean_spread = samples.iter().sum::<f32>() / samples.len() as f32;
        let record = Hour {
            at,
            samples: count,
            middle: pack(middle - self.origin),
            spread: pack(median(samples)),
            mean_spread: pack(mean_spread),
            low: pack(low - self.origin),
            high: pack(high - self.origin),
        };
        match self.hours.binary_search_by_key(&at, |h| h.at) {
            Ok(same) if self.hours[same].samples < count => self.hours[same] = record,
            Ok(_) => {}
            Err(place) => self.hours.insert(place, record),
        }
        if self.hours.len() > most {
            self.hours.remove(0);
        }
    }

    /// How it ends.
    pub(super) fn end(&self) -> Option<End> {
        let last = self.hours.last()?;
        Some(End { at: self.newest, middle: self.origin + unpack(last.middle) })
    }

    /// The baseline that all of it makes; `None` where it is too little for any.
    pub(super) fn baseline(&self, shape: Shape, pace: Pace) -> Option<Baseline> {
        let seen: Vec<Seen> = self
            .hours
            .iter()
            .map(|h| Seen {
                hour: self.first + i64::from(h.at),
                samples: f32::from(h.samples),
                middle: self.origin + unpack(h.middle),
                spread: unpack(h.spread),
                mean_spread: unpack(h.mean_spread),
                low: self.origin + unpack(h.low),
                high: self.origin + unpack(h.high),
            })
            .collect();
        let fit = Fit::of(&seen, self.step, shape, pace)?;
        let unit = fit.unit(shape);
        let whole = fit.baseline(&seen, shape, pace);
        let unusual = |s: &&Seen| {
            let season = Season::at(Timestamp(s.hour.saturating_mul(HOUR_MS).saturating_add(HOUR_MS / 2)));
            (s.middle - whole.normal(s.middle, season, pace)).abs() > UNUSUAL * unit
        };
        let run = seen.iter().rev().take_while(unusual).count();
        let new = &seen[seen.len() - run..];
        if run < seen.len() && steps(new, self.step, pace) >= i64::from(pace.freeze) {
            return Fit::of(new, self.step, shape, pace).map(|fit| fit.baseline(new, shape, pace));
        }
        Some(whole)
    }
}

/// Learning steps that hours hold.
fn steps(seen: &[Seen], step: Span, pace: Pace) -> i64 {
    let samples: f64 = seen.iter().map(|s| f64::from(s.samples)).sum();
    (samples * step.0.max(1) as f64 / pace.step.0.max(1) as f64) as i64
}

/// Location, daily profile and scale.
struct Fit {
    count: u16,
    location: f32,
    daily: [f32; 24],
    scale: f32,
}

impl Fit {
    fn of(seen: &[Seen], step: Span, shape: Shape, pace: Pace) -> Option<Fit> {
        if seen.iter().map(|s| s.samples).sum::<f32>() < 4.0 {
            return None;
        }
        let count = u16::try_from(steps(seen, step, pace)).unwrap_or(u16::MAX);
        let recent = &seen[seen.len().saturating_sub(RECENT)..];
        let mut scratch: Vec<(f32, f32)> = Vec::with_capacity(seen.len());
        let mut fit = Fit { count, location: 0.0, daily: [0.0; 24], scale: 0.0 };
        if count >= pace.daily() {
            let base = weighted(&mut scratch, seen.iter().map(|s| (s.middle, s.samples)));
            for (hour, slot) in fit.daily.iter_mut().enumerate() {
                let here = seen.iter().filter(|s| s.of_day() == hour);
                let off = weighted(&mut scratch, here.map(|s| (s.middle - base, s.samples)));
                let n: f32 = scratch.iter().map(|s| s.1).sum();
                *slot = if off.is_finite() { off * n / (n + 2.0) } else { 0.0 };
            }
        }
        let left = recent.iter().map(|s| (s.middle - fit.of_hour(s), s.samples));
        fit.location = weighted(&mut scratch, left);
        // Between hours and within them; their middles err by what is within, which is little.
        let left = recent.iter().map(|s| ((s.middle - fit.of_hour(s)).abs(), s.samples));
        let between = weighted(&mut scratch, left);
        let within = weighted(&mut scratch, recent.iter().map(|s| (s.spread, s.samples)));
        fit.scale = between.hypot(within) * MAD_TO_SIGMA;
        if fit.scale <= shape.floor(fit.location) * 1e-3 {
            // What is constant more than half the time has none; its mean deviation speaks.
            let samples: f32 = recent.iter().map(|s| s.samples).sum();
            let off = |s: &Seen| s.samples * (s.mean_spread.max((s.middle - fit.of_hour(s)).abs()));
            fit.scale = recent.iter().map(off).sum::<f32>() / samples;
        }
        (fit.location.is_finite() && fit.scale.is_finite()).then_some(fit)
    }

    fn of_hour(&self, seen: &Seen) -> f32 {
        self.location + self.daily[seen.of_day()]
    }

    fn unit(&self, shape: Shape) -> f32 {
        self.scale.max(shape.floor(self.location))
    }

    fn baseline(self, seen: &[Seen], shape: Shape, pace: Pace) -> Baseline {
        let unit = self.unit(shape);
        let mut baseline = Baseline::of(self.location, self.scale, self.count);
        if self.count < pace.daily() {
            return baseline;
        }
        baseline.set_daily(self.daily, unit);
        let levels = self.levels_of_days(seen);
        let mut of_day: [Vec<(Seen, f32)>; 24] = Default::default();
        for (s, level) in seen.iter().zip(levels) {
            of_day[s.of_day()].push((*s, level));
        }
        let usual = std::array::from_fn(|hour| {
            let here = || of_day[hour].iter();
            let low = here().map(|(s, level)| self.of_hour(s) + level - s.low);
            let high = here().map(|(s, level)| s.high - self.of_hour(s) - level);
            (reach(low, unit), reach(high, unit))
        });
        baseline.set_reach(Reach::of(usual, seen.last().map_or(0, |s| s.hour)));
        if self.count >= pace.weekly() {
            let mut scratch = Vec::new();
            for week_hour in 0..168usize {
                let here = of_day[week_hour % 24].iter().filter(|(s, _)| s.of_week() == week_hour);
                let off = weighted(&mut scratch, here.map(|(s, _)| (s.middle - self.of_hour(s), s.samples)));
                if scratch.len() >= LEAST_DAYS {
                    // What stands out is taken at its word; the rest may be chance.
                    let n = scratch.len() as f32;
                    let share = if off.abs() > REACHES * unit { 1.0 } else { n / (n + 1.0) };
                    let units = off * share / unit / WEEKLY_UNIT;
                    baseline.set_weekly(week_hour, units.clamp(-127.0, 127.0).round() as i8);
                }
            }
        }
        baseline
    }

    /// For every hour how far its whole day was off: not what the hour itself reaches.
    fn levels_of_days(&self, seen: &[Seen]) -> Vec<f32> {
        let mut scratch = Vec::new();
        let mut levels = Vec::with_capacity(seen.len());
        for day in seen.chunk_by(|a, b| a.hour.div_euclid(24) == b.hour.div_euclid(24)) {
            let level = weighted(&mut scratch, day.iter().map(|s| (s.middle - self.of_hour(s), s.samples)));
            // A few hours are no day.
            levels.extend(day.iter().map(|_| if day.len() >= 12 { level } else { 0.0 }));
        }
        levels
    }
}

/// How many scales further than its middle an hour of the day usually reaches: what it reached on a quarter
/// of the days, three at least, is usual; then whatever it reached on three.
fn reach(days: impl Iterator<Item = f32>, unit: f32) -> u8 {
    let mut days: Vec<f32> = days.collect();
    days.sort_unstable_by(|a, b| b.total_cmp(a));
    let usual = days.len().div_ceil(4).max(LEAST_DAYS);
    if unit <= 0.0 || days.get(usual - 1).is_none_or(|d| *d <= REACHES * unit) {
        return 0;
    }
    (days[LEAST_DAYS - 1] / unit).ceil().clamp(0.0, 255.0) as u8
}

/// The weighted median of `(value, weight)`, by way of `scratch`, which holds them then; NaN of none.
fn weighted(scratch: &mut Vec<(f32, f32)>, values: impl Iterator<Item = (f32, f32)>) -> f32 {
    scratch.clear();
    scratch.extend(values);
    scratch.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let half = scratch.iter().map(|v| v.1).sum::<f32>() / 2.0;
    let mut sum = 0.0;
    for (i, (value, weight)) in scratch.iter().enumerate() {
        sum += weight;
        if sum > half {
            return *value;
        }
        if sum == half {
            let next = scratch.get(i + 1).map_or(*value, |n| n.0);
            return value + (next - value) / 2.0;
        }
    }
    f32::NAN
}

/// The upper half of a number: eight bits of it, whatever its size.
fn pack(x: f32) -> u16 {
    (x.clamp(-3e38, 3e38).to_bits().saturating_add(0x8000) >> 16) as u16
}

fn unpack(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

#[cfg(test)]
mod tests;
