//! Metrics that were moved for good. A gauge that has stood outside of everything training saw for half a
//! day is taken for the new normal and read from there, and by as much less as it has come to vary more:
//! else a resized pool or a new limit, which is one change, would drown every later alarm.
//!
//! Of a metric that stood still in all of training nothing is known but that: its scale is a guess, and once it
//! moves it would be loud for good. Half a day of hours in which it moved, one after the other or not, are its
//! training: from then on it is read by how far it went in these.

use serde::{Deserialize, Serialize};

use super::alarm::STRETCHES;
use super::bytes::{Reader, Writer};
use super::moments::SHRINK;
use super::scaler::guessed_scale;

/// What is nearer together is the same, in shares of the values.
const ROUNDING: f32 = 1e-5;

/// What stood still in training and has moved since is loud where it goes so many times as far as it usually does:
/// all of its movement is beyond what training reached, so no level of calm days is there to hold it back.
const LOUD: f32 = 10.0;

/// Where the means of training's stretches lay, by metric, and how far the rows of one lay apart.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Ranges {
    low: Vec<f32>,
    high: Vec<f32>,
    middle: Vec<f32>,
    /// The largest standard deviation within a stretch.
    spread: Vec<f32>,
    /// Rows of a stretch.
    stretch: u16,
}

impl Ranges {
    /// Of history `[metric][time]` in stretches of so many rows.
    pub(super) fn of(columns: &[&[f32]], stretch: u16) -> Ranges {
        let mut out = Ranges { stretch: stretch.max(1), ..Ranges::default() };
        for column in columns {
            let stretches: Vec<(f32, f32)> = column
                .chunks(usize::from(out.stretch))
                .filter_map(|values| {
                    let mut sums = Sums::default();
                    values.iter().for_each(|&v| sums.add(v));
                    sums.mean_and_deviation()
                })
                .collect();
            let means = stretches.iter().map(|s| s.0);
            out.low.push(means.clone().fold(f32::INFINITY, f32::min));
            out.high.push(means.clone().fold(f32::NEG_INFINITY, f32::max));
            out.middle.push(means.sum::<f32>() / stretches.len().max(1) as f32);
            out.spread.push(stretches.iter().map(|s| s.1).fold(0.0, f32::max));
        }
        out
    }

    /// A fresh stream.
    pub fn acceptance(&self) -> Acceptance {
        Acceptance { rows: 0, metrics: vec![Course::default(); self.low.len()] }
    }

    /// How far a stretch lies from the middle of training, where outside of all that training saw.
    fn moved(&self, metric: usize, mean: f32) -> Option<f32> {
        let (low, high) = (self.low[metric], self.high[metric]);
        // The sums of training were the same: what was there is within, whatever the rounding.
        let slack = ROUNDING * (low.abs() + high.abs());
        (mean > high + slack || mean < low - slack).then(|| mean - self.middle[metric])
    }

    /// Whether training saw nothing of the metric but one value.
    fn is_still(&self, metric: usize) -> bool {
        let (low, high) = (self.low[metric], self.high[metric]);
        // A sum of the same values, rounded, is not always so many times one.
        let slack = ROUNDING * (low.abs() + high.abs());
        high - low <= slack && low <= high && self.spread[metric] <= slack
    }

    /// How far a stretch of a still metric went (root of the mean square), where it moved.
    fn stirred(&self, metric: usize, (mean, deviation): (f32, f32)) -> Option<f32> {
        let far = deviation.hypot(mean - self.middle[metric]);
        (far > ROUNDING * self.middle[metric].abs()).then_some(far)
    }

    /// What a still metric's distance is divided by where it usually goes as far as `far`, at least 1: [`LOUD`] times
    /// as far is then one deviation of the shrunk covariance, in which it has none of its own.
    fn learnt(&self, metric: usize, far: f32) -> f32 {
        let deviation = guessed_scale(self.middle[metric]) * SHRINK.sqrt() as f32;
        (LOUD * far / deviation).clamp(1.0, 1e9)
    }

    /// What a distance is divided by where stretches vary by `deviation`, at least 1.
    fn wider(&self, metric: usize, deviation: f32) -> f32 {
        let wider = deviation / self.spread[metric].max(0.01 * (self.high[metric] - self.low[metric]));
        // Where training saw nothing vary, there is no scale for what varies now.
        if wider.is_nan() { 1.0 } else { wider.clamp(1.0, 1e6) }
    }

    pub(super) fn bytes(&self) -> usize {
        std::mem::size_of::<Self>() + 16 * self.low.len()
    }

    pub(super) fn put(&self, to: &mut Writer) {
        [&self.low, &self.high, &self.middle, &self.spread].into_iter().for_each(|part| to.f32s(part));
    }

    /// Of a metric that training never saw, the range is infinite the wrong way round.
    pub(super) fn take(from: &mut Reader<'_>, metrics: usize, stretch: u16) -> Option<Ranges> {
        let (low, high) = (from.any_f32s(metrics)?, from.any_f32s(metrics)?);
        Some(Ranges { low, high, middle: from.f32s(metrics)?, spread: from.f32s(metrics)?, stretch })
    }
}

/// Of the values of one stretch that are there: their number, sum, and sum of squares.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Sums(f64, f64, f64);

impl Sums {
    fn add(&mut self, value: f32) {
        if value.is_finite() {
            let x = f64::from(value);
            *self = Sums(self.0 + 1.0, self.1 + x, self.2 + x * x);
        }
    }

    fn mean_and_deviation(self) -> Option<(f32, f32)> {
        let mean = self.1 / self.0;
        (self.0 > 0.0).then(|| (mean as f32, (self.2 / self.0 - mean * mean).max(0.0).sqrt() as f32))
    }
}

/// What one partition's stream has accepted; 32 bytes a metric, and 110 more for one that is away.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Acceptance {
    rows: u16,
    metrics: Vec<Course>,
}

/// Of one metric.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Course {
    sums: Sums,
    away: Option<Box<Away>>,
}

/// A metric whose last stretches all lay outside of training's range, and on one side; of one that stood still in
/// training, the last in which it moved.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Away {
    stretches: u32,
    /// How far each of the last ones lay from the middle.
    moved: [f32; STRETCHES],
    /// How far the rows of each lay apart; of a still metric, from training's value.
    deviations: [f32; STRETCHES],
    /// What is taken for the new normal, from the middle; 0 = nothing yet.
    accepted: f32,
    /// What a distance from the new place is divided by, at least 1.
    wider: f32,
}

impl Acceptance {
    /// Reads the next row: in both, what stood still in training by how far it has gone since; in `row`, a metric
    /// that was moved for good from its new place, unless it is back at the old one. Says whether the two differ.
    pub fn read(&mut self, ranges: &Ranges, plain: &mut [f32], row: &mut [f32]) -> bool {
        let mut changed = false;
        for (m, course) in self.metrics.iter_mut().enumerate() {
            let (value, middle) = (&mut row[m], &ranges.middle[m]);
            if !value.is_finite() {
                continue;
            }
            course.sums.add(*value);
            if ranges.is_still(m) {
                if let Some(away) = course.away.as_deref().filter(|a| a.wider > 1.0) {
                    *value = middle + (*value - middle) / away.wider;
                    plain[m] = *value;
                }
                continue;
            }
            let Some(away) = course.away.as_deref().filter(|a| a.accepted != 0.0) else { continue };
            let (from_old, from_new) = (*value - middle, *value - middle - away.accepted);
            if from_new.abs() < from_old.abs() {
                *value = middle + from_new / away.wider;
                changed = true;
            }
        }
        self.rows += 1;
        if self.rows >= ranges.stretch {
            self.rows = 0;
            self.metrics.iter_mut().enumerate().for_each(|(m, course)| course.end_stretch(ranges, m));
        }
        changed
    }

    /// Bytes, what lies elsewhere included.
    pub(super) fn bytes(&self) -> usize {
        let away = self.metrics.iter().filter(|c| c.away.is_some()).count();
        std::mem::size_of::<Self>()
            + std::mem::size_of::<Course>() * self.metrics.len()
            + std::mem::size_of::<Away>() * away
    }

    pub(super) fn put(&self, to: &mut Writer) {
        to.u16(self.rows);
        for course in &self.metrics {
            let Sums(count, sum, squares) = course.sums;
            [count, sum, squares].into_iter().for_each(|v| to.f64(v));
            to.u8(u8::from(course.away.is_some()));
            if let Some(away) = course.away.as_deref() {
                to.u32(away.stretches);
                to.f32s(&away.moved);
                to.f32s(&away.deviations);
                to.f32s(&[away.accepted, away.wider]);
            }
        }
    }

    pub(super) fn take(from: &mut Reader<'_>, ranges: &Ranges) -> Option<Acceptance> {
        let rows = from.u16().filter(|rows| *rows < ranges.stretch)?;
        let mut out = Acceptance { rows, ..ranges.acceptance() };
        for course in &mut out.metrics {
            course.sums = Sums(from.f64()?, from.f64()?, from.f64()?);
            if from.flag()? {
                let stretches = from.u32().filter(|n| *n < u32::MAX / 2)?;
                let (moved, deviations) = (from.f32s(STRETCHES)?, from.f32s(STRETCHES)?);
                let (accepted, wider) = (from.f32()?, from.f32()?);
                let (moved, deviations) = (moved.try_into().ok()?, deviations.try_into().ok()?);
                course.away = Some(Box::new(Away { stretches, moved, deviations, accepted, wider }));
            }
        }
        Some(out)
    }
}

impl Course {
    fn end_stretch(&mut self, ranges: &Ranges, m: usize) {
        let stretch = std::mem::take(&mut self.sums).mean_and_deviation();
        if ranges.is_still(m) {
            let Some(far) = stretch.and_then(|s| ranges.stirred(m, s)) else { return };
            let away = self.away.get_or_insert_default();
            away.deviations[away.stretches as usize % STRETCHES] = far;
            away.stretches += 1;
            if away.stretches as usize >= STRETCHES {
                away.wider = ranges.learnt(m, middle_of(away.deviations));
            }
            return;
        }
        let Some((moved, deviation)) = stretch.and_then(|s| Some((ranges.moved(m, s.0)?, s.1))) else {
            self.away = None;
            return;
        };
        let before = self.away.take().filter(|a| (a.moved[0] > 0.0) == (moved > 0.0));
        let mut away = before.unwrap_or_default();
        let place = away.stretches as usize % STRETCHES;
        (away.moved[place], away.deviations[place]) = (moved, deviation);
        away.stretches += 1;
        if away.stretches as usize >= STRETCHES {
            away.accepted = middle_of(away.moved);
            away.wider = ranges.wider(m, middle_of(away.deviations));
        }
        self.away = Some(away);
    }
}

fn middle_of(mut values: [f32; STRETCHES]) -> f32 {
    values.sort_unstable_by(f32::total_cmp);
    values[STRETCHES / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_moved_for_good_is_read_from_its_new_place_after_half_a_day_and_back_at_once() {
        let history: Vec<f32> = (0..1440).map(|t| 5.0 + (t % 3) as f32).collect();
        let still = vec![1.0f32; 1440];
        let ranges = Ranges::of(&[&history, &still], 60);
        let mut stream = ranges.acceptance();
        let mut read = |x: f32, y: f32| {
            let mut row = [x, y];
            let mut plain = row;
            stream.read(&ranges, &mut plain, &mut row);
            row
        };
        for t in 0..1440 {
            let x = 5.0 + (t % 3) as f32;
            assert_eq!(read(x, 1.0), [x, 1.0], "what training saw is left as it is");
        }
        assert!((0..700).all(|_| read(40.0, 1.0)[0] == 40.0), "it is news for half a day");
        (0..60).for_each(|_| {
            read(40.0, 1.0);
        });
        let [moved, other] = read(41.0, 1.0);
        assert!((moved - 7.0).abs() < 1e-3 && other == 1.0, "{moved}");
        assert_eq!(read(6.0, f32::NAN)[0], 6.0, "the old place is still normal");
        assert!(read(60.0, 1.0)[0] > 20.0, "what comes on top is news");
    }

    #[test]
    fn a_gauge_that_varies_more_at_its_new_place_is_read_by_that() {
        let history: Vec<f32> = (0..1440).map(|t| 5.0 + (t % 3) as f32).collect();
        let ranges = Ranges::of(&[&history], 60);
        let mut stream = ranges.acceptance();
        let mut read = |x: f32| {
            let mut row = [x];
            let mut plain = row;
            stream.read(&ranges, &mut plain, &mut row);
            row[0]
        };
        (0..720).for_each(|t| {
            read(100.0 + 20.0 * (t % 3) as f32);
        });
        let usual = [read(100.0), read(120.0), read(140.0)];
        assert!(usual.iter().all(|x| (4.9..7.1).contains(x)), "{usual:?}");
        assert!(read(300.0) > 13.0, "what is far from that too is news");
    }

    #[test]
    fn what_stood_still_in_training_is_news_for_half_a_day_of_movement_and_then_read_by_how_far_it_goes() {
        let ranges = Ranges::of(&[&[0.0f32; 1440]], 60);
        assert!(
            Ranges::of(&[&[5.3f32; 1440]], 7).is_still(0) && !Ranges::of(&[&[f32::NAN; 9]], 7).is_still(0)
        );
        let mut stream = ranges.acceptance();
        let mut read = |x: f32| {
            let (mut plain, mut row) = ([x], [x]);
            assert!(!stream.read(&ranges, &mut plain, &mut row), "both are read alike");
            assert_eq!(plain, row);
            row[0]
        };
        // It moves in every second hour only, to both sides.
        for t in 0..24 * 60 - 60 {
            let x = if t / 60 % 2 == 0 { [0.5, -0.5][t % 2] } else { 0.0 };
            assert_eq!(read(x), x, "it is news: minute {t}");
        }
        (0..60).for_each(|_| {
            read(0.0);
        });
        let usual = read(0.5);
        assert!((0.0..0.001).contains(&usual), "far within what was guessed to be its deviation: {usual}");
        assert!(read(50.0) > 0.01, "what is far beyond is news");
        assert_eq!(read(0.0), 0.0);
        let mut bytes = Writer::default();
        stream.put(&mut bytes);
        assert_eq!(Acceptance::take(&mut Reader(&bytes.0), &ranges), Some(stream), "kept as it is");
    }
}
