//! Drive-days as rows that a model reads, with what became of each as far as it is known on a given day.

use std::cmp::Reverse;
use std::ops::RangeInclusive;

use super::table::{Drive, SMART, Table};
use crate::eval::failure::actions::Track;
use crate::predict::models::FeatureMatrix;

/// Features of a drive-day.
const WIDTH: usize = 4 * SMART + 10;

/// What the days up to one of them say of each of the table's models.
#[derive(Debug)]
pub(super) struct Models {
    /// How common it is, 0 first, so that the number means something to a tree; models that were not
    /// seen yet share the last place.
    rank: Vec<f32>,
    /// Mean temperature; NaN where none was seen.
    usual: Vec<f32>,
}

impl Models {
    pub(super) fn of(table: &Table, until: i32) -> Self {
        let count = table.models.len();
        let (mut drives, mut sums) = (vec![0usize; count], vec![(0f64, 0f64); count]);
        for drive in &table.drives {
            let mut seen = drive.days.iter().take_while(|d| d.day <= until).peekable();
            drives[drive.model] += usize::from(seen.peek().is_some());
            let sum = &mut sums[drive.model];
            for day in seen.filter(|d| !d.smart[3].is_nan()) {
                *sum = (sum.0 + f64::from(day.smart[3]), sum.1 + 1.0);
            }
        }
        let mut order: Vec<usize> = (0..count).filter(|&m| drives[m] > 0).collect();
        // The sort is stable and models stand by name: so do those that are as common.
        order.sort_by_key(|&m| Reverse(drives[m]));
        let mut rank = vec![order.len() as f32; count];
        order.iter().enumerate().for_each(|(at, &m)| rank[m] = at as f32);
        Self { rank, usual: sums.into_iter().map(|(sum, n)| (sum / n) as f32).collect() }
    }
}

/// Rows of some days.
pub(super) struct Rows {
    pub(super) features: FeatureMatrix,
    /// Fails within the horizon.
    pub(super) labels: Vec<bool>,
    /// Drives by number, of those that have a row.
    pub(super) units: Vec<u32>,
    days: Vec<i32>,
    left: Vec<Option<usize>>,
    seen: Vec<usize>,
}

impl Rows {
    /// Those of the wanted days, with what is known of them on day `last`.
    pub(super) fn of(
        table: &Table,
        models: &Models,
        wanted: RangeInclusive<i32>,
        horizon: i32,
        last: i32,
    ) -> Self {
        let mut out = Self {
            features: FeatureMatrix::empty(WIDTH),
            labels: Vec::new(),
            units: Vec::new(),
            days: Vec::new(),
            left: Vec::new(),
            seen: Vec::new(),
        };
        let mut unit = 0;
        for drive in &table.drives {
            let failed = drive.failed.filter(|&f| f <= last);
            let end = drive.days.iter().rev().map(|d| d.day).find(|&day| day <= last).unwrap_or(last);
            let before = out.units.len();
            for (at, day) in drive.days.iter().enumerate().map(|(at, d)| (at, d.day)) {
                // The day of the failure itself is no warning.
                if !wanted.contains(&day) || failed.is_some_and(|f| f <= day) {
                    continue;
                }
                out.features.push(&features(drive, at, models));
                out.labels.push(failed.is_some_and(|f| f - day <= horizon));
                out.units.push(unit);
                out.days.push(day);
                out.left.push(failed.map(|f| (f - day) as usize));
                out.seen.push((end - day) as usize);
            }
            unit += u32::from(out.units.len() > before);
        }
        out
    }

    /// Rows whose day is `from` or later.
    pub(super) fn of_days_from(&self, from: i32) -> Vec<usize> {
        (0..self.days.len()).filter(|&row| self.days[row] >= from).collect()
    }

    /// One track a drive; rows before day `from` are its run-in.
    pub(super) fn tracks(&self, probabilities: &[f64], from: i32) -> Vec<Track> {
        let mut tracks: Vec<(u32, Track)> = Vec::new();
        for (row, &p) in probabilities.iter().enumerate() {
            if tracks.last().is_none_or(|t| t.0 != self.units[row]) {
                tracks.push((self.units[row], Track::default()));
            }
            if let Some((_, track)) = tracks.last_mut() {
                track.run_in += usize::from(self.days[row] < from);
                track.probabilities.push(p);
                track.left.push(self.left[row]);
                track.seen.push(self.seen[row]);
            }
        }
        tracks.into_iter().map(|t| t.1).collect()
    }
}

/// Each attribute now, on a log scale; its change over one and seven days; its most in seven days;
/// then temperature against drives of the same model, capacity, model, days seen, whether anything
/// was ever remapped or pending, and whether that grew; then hours run a day since yesterday, over seven
/// days and at the least of these, and how many days the hours have stood still. A drive that was taken
/// out of service or no longer answers runs less than 24 hours a day; on the log scale that is lost.
fn features(drive: &Drive, at: usize, models: &Models) -> [f32; WIDTH] {
    let (day, now) = (drive.days[at].day, &drive.days[at].smart);
    let before = |days: i32| drive.days[..=at].iter().rev().find(|d| d.day <= day - days).map(|d| &d.smart);
    let (yesterday, week) = (before(1), before(7).or_else(|| drive.days.first().map(|d| &d.smart)));
    let log = |x: f32| if x.is_nan() { x } else { x.max(0.0).ln_1p() };
    let mut out = [f32::NAN; WIDTH];
    for k in 0..SMART {
        out[4 * k] = log(now[k]);
        out[4 * k + 1] = yesterday.map_or(f32::NAN, |y| log(now[k]) - log(y[k]));
        out[4 * k + 2] = week.map_or(f32::NAN, |w| log(now[k]) - log(w[k]));
        out[4 * k + 3] = drive.days[..=at]
            .iter()
            .rev()
            .take_while(|d| d.day > day - 7)
            .map(|d| log(d.smart[k]))
            .fold(f32::NAN, f32::max);
    }
    let rest = &mut out[4 * SMART..];
    rest[0] = now[3] - models.usual[drive.model];
    rest[1] = drive.capacity;
    rest[2] = models.rank[drive.model];
    rest[3] = at as f32;
    rest[4] = f32::from(u8::from(now[1] > 0.0)) + f32::from(u8::from(now[4] > 0.0));
    rest[5] = week.map_or(f32::NAN, |w| log(now[1] + now[4]) - log(w[1] + w[4]));
    let ran = |from: usize, to: usize| {
        let (from, to) = (&drive.days[from], &drive.days[to]);
        let days = to.day - from.day;
        if days > 0 { (to.smart[2] - from.smart[2]) / days as f32 } else { f32::NAN }
    };
    let since = |days: i32| drive.days[..=at].iter().rposition(|d| d.day <= day - days);
    rest[6] = since(1).map_or(f32::NAN, |from| ran(from, at));
    rest[7] = ran(since(7).unwrap_or(0), at);
    let first = drive.days[..=at].partition_point(|d| d.day <= day - 7).max(1);
    let steps = (first..=at).map(|to| ran(to - 1, to));
    rest[8] = steps.clone().fold(f32::NAN, f32::min);
    rest[9] = steps.filter(|&hours| hours <= 0.0).count() as f32;
    out
}
