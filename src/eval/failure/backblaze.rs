//! Backblaze drive statistics: real disks, real failures, few of them. Split by date: the test is the
//! last days whose outcome within the horizon is known; what trains, chooses and calibrates ends a horizon
//! before it, so that none of it was known later than the first test day. Days just before a validation
//! of later days would share its failures (a drive that fails soon after), so choosing goes by folds of
//! drives instead.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use super::actions::{Track, choose};
use super::judge::{Thresholds, best_row_threshold, judge};
use super::{FailureEvalError, Series, read_text};
use crate::eval::measures::auc_pr;
use crate::fleet::rng::Random;
use crate::predict::failure::fit::{Candidates, Sample, fit_crossed};
use crate::predict::models::{FeatureMatrix, trees::Growth};

const FILE: &str = "drives.csv";
const SMART: usize = 5;
/// Attributes 1, 5, 9, 194, 197: read errors, remapped sectors, hours, temperature, pending sectors.
const NAMES: [&str; SMART] = ["smart_1_raw", "smart_5_raw", "smart_9_raw", "smart_194_raw", "smart_197_raw"];

struct Drive {
    model: usize,
    capacity: f32,
    /// Day and attributes, by day.
    days: Vec<(i64, [f32; SMART])>,
    failed: Option<i64>,
}

pub(super) fn run(data: &Path, horizon: usize, seed: u64) -> Result<Vec<Series>, FailureEvalError> {
    let Some(text) = read_text(data, FILE)? else {
        let detail = format!("no {FILE} (or .gz)");
        return Err(FailureEvalError::TooLittle { path: data.display().to_string(), detail });
    };
    let drives = parse(&text)?;
    let horizon_days = horizon as i64;
    let last = drives.iter().flat_map(|d| d.days.last()).map(|d| d.0).max().unwrap_or(0);
    let test = last - 2 * horizon_days + 1..=last - horizon_days;
    let known = i64::MIN..=test.start() - horizon_days - 1;
    let begun = Instant::now();
    let usual = usual_temperatures(&drives, *known.end());
    let [known, test] =
        [known, test].map(|days| Rows::of(&drives, &usual, |day| days.contains(&day), horizon_days, last));
    let sample = Sample { rows: &known.features, labels: &known.labels, units: &known.units, weights: &[] };
    let fitted = fit_crossed(&sample, &candidates(seed)).ok_or_else(|| FailureEvalError::TooLittle {
        path: FILE.into(),
        detail: format!("{} days: no failure to learn from", last + 1),
    })?;
    let train_s = begun.elapsed().as_secs_f64();
    let shown =
        |margins: &[f64]| -> Vec<f64> { margins.iter().map(|&m| fitted.calibrator.probability(m)).collect() };
    let held_out = shown(&fitted.margins);
    let thresholds = Thresholds {
        row: best_row_threshold(&held_out, &known.labels),
        act: choose(&known.tracks(&held_out), horizon),
    };
    let begun = Instant::now();
    let tested = shown(&fitted.scorer.margins(&test.features));
    let seconds = begun.elapsed().as_secs_f64().max(1e-9);
    let mut measures = judge(&tested, &test.labels, &test.tracks(&tested), thresholds, horizon);
    let (low, high) = interval(&tested, &test, seed);
    measures.insert("auprc_low".into(), low);
    measures.insert("auprc_high".into(), high);
    measures.insert("train_s".into(), train_s);
    measures.insert("score_points_per_s".into(), (tested.len() * SMART) as f64 / seconds);
    measures.insert("validation_auprc".into(), fitted.validation.auprc);
    Ok(vec![Series { name: "drives".into(), measures, model: fitted.chosen }])
}

/// With a few dozen failures to learn from, a leaf must hold a whole unit of second derivative, as in
/// XGBoost: thousands of rows that live, or several that fail.
fn candidates(seed: u64) -> Candidates {
    let forest = Growth {
        trees: 100,
        rate: 0.05,
        leaves: 64,
        depth: 6,
        leaf_rows: 1,
        leaf_weight: 1.0,
        l2: 1.0,
        seed,
        ..Growth::default()
    };
    Candidates { forests: vec![forest], penalties: vec![10.0, 100.0], folds: 5 }
}

struct Rows {
    features: FeatureMatrix,
    labels: Vec<bool>,
    units: Vec<u32>,
    left: Vec<Option<usize>>,
    seen: Vec<usize>,
}

/// Features of a drive-day.
const WIDTH: usize = 4 * SMART + 10;

impl Rows {
    fn of(
        drives: &[Drive],
        usual: &HashMap<usize, f32>,
        wanted: impl Fn(i64) -> bool,
        horizon: i64,
        last: i64,
    ) -> Self {
        let mut out = Self {
            features: FeatureMatrix::empty(WIDTH),
            labels: Vec::new(),
            units: Vec::new(),
            left: Vec::new(),
            seen: Vec::new(),
        };
        for (unit, drive) in drives.iter().enumerate() {
            for at in 0..drive.days.len() {
                let day = drive.days[at].0;
                // The day of the failure itself is no warning.
                if !wanted(day) || drive.failed.is_some_and(|f| f <= day) {
                    continue;
                }
                out.features.push(&features(drive, at, usual));
                out.labels.push(drive.failed.is_some_and(|f| f - day <= horizon));
                out.units.push(unit as u32);
                out.left.push(drive.failed.map(|f| (f - day) as usize));
                out.seen.push((last - day) as usize);
            }
        }
        out
    }

    fn tracks(&self, probabilities: &[f64]) -> Vec<Track> {
        let mut tracks: Vec<(u32, Track)> = Vec::new();
        for (row, &p) in probabilities.iter().enumerate() {
            if tracks.last().is_none_or(|t| t.0 != self.units[row]) {
                tracks.push((self.units[row], Track::default()));
            }
            if let Some((_, track)) = tracks.last_mut() {
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
fn features(drive: &Drive, at: usize, usual: &HashMap<usize, f32>) -> [f32; WIDTH] {
    let (day, now) = drive.days[at];
    let before = |days: i64| drive.days[..=at].iter().rev().find(|d| d.0 <= day - days).map(|d| d.1);
    let (yesterday, week) = (before(1), before(7).or_else(|| drive.days.first().map(|d| d.1)));
    let log = |x: f32| if x.is_nan() { x } else { x.max(0.0).ln_1p() };
    let mut out = [f32::NAN; WIDTH];
    for k in 0..SMART {
        out[4 * k] = log(now[k]);
        out[4 * k + 1] = yesterday.map_or(f32::NAN, |y| log(now[k]) - log(y[k]));
        out[4 * k + 2] = week.map_or(f32::NAN, |w| log(now[k]) - log(w[k]));
        out[4 * k + 3] = drive.days[..=at]
            .iter()
            .rev()
            .take_while(|d| d.0 > day - 7)
            .map(|d| log(d.1[k]))
            .fold(f32::NAN, f32::max);
    }
    let rest = &mut out[4 * SMART..];
    rest[0] = now[3] - usual.get(&drive.model).copied().unwrap_or(f32::NAN);
    rest[1] = drive.capacity;
    rest[2] = drive.model as f32;
    rest[3] = at as f32;
    rest[4] = f32::from(u8::from(now[1] > 0.0)) + f32::from(u8::from(now[4] > 0.0));
    rest[5] = week.map_or(f32::NAN, |w| log(now[1] + now[4]) - log(w[1] + w[4]));
    let ran = |from: usize, to: usize| {
        let days = drive.days[to].0 - drive.days[from].0;
        if days > 0 { (drive.days[to].1[2] - drive.days[from].1[2]) / days as f32 } else { f32::NAN }
    };
    let since = |days: i64| drive.days[..=at].iter().rposition(|d| d.0 <= day - days);
    rest[6] = since(1).map_or(f32::NAN, |from| ran(from, at));
    rest[7] = ran(since(7).unwrap_or(0), at);
    let first = drive.days[..=at].partition_point(|d| d.0 <= day - 7).max(1);
    let steps = (first..=at).map(|to| ran(to - 1, to));
    rest[8] = steps.clone().fold(f32::NAN, f32::min);
    rest[9] = steps.filter(|&hours| hours <= 0.0).count() as f32;
    out
}

/// Mean temperature of each model, up to a day.
fn usual_temperatures(drives: &[Drive], until: i64) -> HashMap<usize, f32> {
    let mut sums: HashMap<usize, (f64, f64)> = HashMap::new();
    for drive in drives {
        let sum = sums.entry(drive.model).or_default();
        for (_, smart) in drive.days.iter().filter(|d| d.0 <= until && !d.1[3].is_nan()) {
            *sum = (sum.0 + f64::from(smart[3]), sum.1 + 1.0);
        }
    }
    sums.into_iter().filter(|(_, s)| s.1 > 0.0).map(|(m, s)| (m, (s.0 / s.1) as f32)).collect()
}

/// 95 % interval of the average precision, by drawing drives anew 200 times.
fn interval(probabilities: &[f64], rows: &Rows, seed: u64) -> (f64, f64) {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for row in 0..rows.units.len() {
        match spans.last_mut() {
            Some(span) if rows.units[span.0] == rows.units[row] => span.1 = row + 1,
            _ => spans.push((row, row + 1)),
        }
    }
    let mut random = Random::new(seed).fork("interval");
    let mut drawn: Vec<f64> = (0..200)
        .map(|_| {
            let (mut p, mut y) = (Vec::new(), Vec::new());
            for _ in 0..spans.len() {
                let (from, to) = spans[random.below(spans.len())];
                p.extend_from_slice(&probabilities[from..to]);
                y.extend_from_slice(&rows.labels[from..to]);
            }
            auc_pr(&p, &y)
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    (drawn[4], drawn[194])
}

fn parse(text: &str) -> Result<Vec<Drive>, FailureEvalError> {
    let malformed = |line: usize, expected: &str, got: &str| FailureEvalError::Malformed {
        path: FILE.into(),
        line,
        expected: expected.into(),
        got: got.chars().take(100).collect(),
    };
    let mut lines = text.lines().enumerate();
    let header: Vec<&str> = lines.next().map(|l| l.1.split(',').collect()).unwrap_or_default();
    let column = |name: &str| {
        header
            .iter()
            .position(|h| *h == name)
            .ok_or_else(|| malformed(1, &format!("a column {name}"), &header.join(",")))
    };
    let (date, serial, model) = (column("date")?, column("serial_number")?, column("model")?);
    let (capacity, failure) = (column("capacity_bytes")?, column("failure")?);
    let smart: Vec<usize> = NAMES.iter().map(|n| column(n)).collect::<Result<_, _>>()?;
    let mut index: HashMap<String, usize> = HashMap::new();
    let mut models: Vec<String> = Vec::new();
    let mut drives: Vec<Drive> = Vec::new();
    let mut first = i64::MAX;
    for (at, line) in lines {
        if line.is_empty() {
            continue;
        }
        let fields: Vec<&str> = line.split(',').collect();
        if fields.len() != header.len() {
            return Err(malformed(at + 1, &format!("{} fields", header.len()), line));
        }
        let day: jiff::civil::Date =
            fields[date].parse().map_err(|_| malformed(at + 1, "a date, 2013-04-10", fields[date]))?;
        let day = day.to_zoned(jiff::tz::TimeZone::UTC).map_or(0, |z| z.timestamp().as_second() / 86_400);
        first = first.min(day);
        let number = |column: usize| fields[column].parse::<f32>().unwrap_or(f32::NAN);
        let unit = *index.entry(fields[serial].to_string()).or_insert_with(|| {
            let known = models.iter().position(|m| m == fields[model]).unwrap_or_else(|| {
                models.push(fields[model].to_string());
                models.len() - 1
            });
            let capacity = (number(capacity) / 1e12).clamp(0.0, 1e3);
            drives.push(Drive { model: known, capacity, days: Vec::new(), failed: None });
            drives.len() - 1
        });
        drives[unit].days.push((day, std::array::from_fn(|k| number(smart[k]))));
        if fields[failure] == "1" {
            drives[unit].failed = Some(day);
        }
    }
    for drive in &mut drives {
        drive.days.iter_mut().for_each(|d| d.0 -= first);
        drive.days.sort_by_key(|d| d.0);
        drive.failed = drive.failed.map(|day| day - first);
    }
    // Models are numbered by how common they are, so that the number means something to a tree.
    let mut common = vec![0usize; models.len()];
    drives.iter().for_each(|d| common[d.model] += 1);
    let mut order: Vec<usize> = (0..models.len()).collect();
    order.sort_by_key(|&m| std::cmp::Reverse(common[m]));
    let mut rank = vec![0; models.len()];
    order.iter().enumerate().for_each(|(at, &m)| rank[m] = at);
    drives.iter_mut().for_each(|d| d.model = rank[d.model]);
    Ok(drives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_a_field_too_few_is_named() {
        let header = format!("date,serial_number,model,capacity_bytes,failure,{}", NAMES.join(","));
        let error = parse(&format!("{header}\n2013-04-10,a,b,1\n")).err().unwrap().to_string();
        assert!(error.starts_with("drives.csv:2: expected 10 fields"), "{error}");
        let error = parse("date,x\n").err().unwrap().to_string();
        assert!(error.contains("a column serial_number"), "{error}");
    }
}
