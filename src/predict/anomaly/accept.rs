//! Metrics that were moved for good. A gauge that has stood outside of everything training saw for half a
//! day is taken for the new normal and read from there, and by as much less as it has come to vary more:
//! else a resized pool or a new limit, which is one change, would drown every later alarm.

use serde::{Deserialize, Serialize};

use super::alarm::{STRETCH, STRETCHES};

/// Where the means of training's stretches lay, by metric, and how far the rows of one lay apart.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Ranges {
    low: Vec<f32>,
    high: Vec<f32>,
    middle: Vec<f32>,
    /// The largest standard deviation within a stretch.
    spread: Vec<f32>,
}

impl Ranges {
    /// Of history `[metric][time]`.
    pub(super) fn of(columns: &[&[f32]]) -> Ranges {
        let mut out = Ranges::default();
        for column in columns {
            let stretches: Vec<(f32, f32)> = column
                .chunks(usize::from(STRETCH))
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
        let metrics = self.low.len();
        Acceptance {
            rows: 0,
            place: 0,
            sums: vec![Sums::default(); metrics],
            moved: vec![[0.0; STRETCHES]; metrics],
            deviations: vec![[0.0; STRETCHES]; metrics],
            accepted: vec![0.0; metrics],
            wider: vec![1.0; metrics],
        }
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

/// What one partition's stream has accepted; about 130 bytes a metric.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Acceptance {
    rows: u16,
    place: u8,
    sums: Vec<Sums>,
    /// How far each of the last stretches lay from the middle, 0 where within training's range.
    moved: Vec<[f32; STRETCHES]>,
    deviations: Vec<[f32; STRETCHES]>,
    accepted: Vec<f32>,
    /// What a distance from the new place is divided by, at least 1.
    wider: Vec<f32>,
}

impl Acceptance {
    /// Reads the next row: a metric that was moved for good from its new place, unless it is back at the
    /// old one.
    pub fn read(&mut self, ranges: &Ranges, row: &mut [f32]) {
        for (m, value) in row.iter_mut().enumerate().take(self.sums.len()) {
            if !value.is_finite() {
                continue;
            }
            self.sums[m].add(*value);
            let (from_old, from_new) =
                (*value - ranges.middle[m], *value - ranges.middle[m] - self.accepted[m]);
            if from_new.abs() < from_old.abs() {
                *value = ranges.middle[m] + from_new / self.wider[m];
            }
        }
        self.rows += 1;
        if self.rows < STRETCH {
            return;
        }
        self.rows = 0;
        for m in 0..self.sums.len() {
            let place = usize::from(self.place);
            let stretch = std::mem::take(&mut self.sums[m]).mean_and_deviation();
            // The sums of training were the same: what was there is within, whatever the rounding.
            let slack = 1e-5 * (ranges.low[m].abs() + ranges.high[m].abs());
            let outside = |mean: f32| mean > ranges.high[m] + slack || mean < ranges.low[m] - slack;
            let moved = stretch.filter(|s| outside(s.0)).map_or(0.0, |s| s.0 - ranges.middle[m]);
            self.moved[m][place] = moved;
            self.deviations[m][place] = stretch.map_or(0.0, |s| s.1);
            let all = &self.moved[m];
            let one_side = all.iter().all(|&x| x > 0.0) || all.iter().all(|&x| x < 0.0);
            self.accepted[m] = if one_side { middle_of(*all) } else { 0.0 };
            let spread = ranges.spread[m].max(0.01 * (ranges.high[m] - ranges.low[m]));
            let wider = middle_of(self.deviations[m]) / spread;
            // Where training saw nothing vary, there is no scale for what varies now.
            self.wider[m] = if wider.is_nan() { 1.0 } else { wider.clamp(1.0, 1e6) };
        }
        self.place = (self.place + 1) % STRETCHES as u8;
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
        let ranges = Ranges::of(&[&history, &still]);
        let mut stream = ranges.acceptance();
        let mut read = |x: f32, y: f32| {
            let mut row = [x, y];
            stream.read(&ranges, &mut row);
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
        let ranges = Ranges::of(&[&history]);
        let mut stream = ranges.acceptance();
        let mut read = |x: f32| {
            let mut row = [x];
            stream.read(&ranges, &mut row);
            row[0]
        };
        (0..720).for_each(|t| {
            read(100.0 + 20.0 * (t % 3) as f32);
        });
        let usual = [read(100.0), read(120.0), read(140.0)];
        assert!(usual.iter().all(|x| (4.9..7.1).contains(x)), "{usual:?}");
        assert!(read(300.0) > 13.0, "what is far from that too is news");
    }
}
