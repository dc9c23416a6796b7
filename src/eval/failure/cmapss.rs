//! C-MAPSS (Saxena et al. 2008): engines that run until they fail. Units are split by number into
//! training (60 %), validation (15 %) and test (25 %); the `test_*` engines, cut off before they fail,
//! with `RUL_*` are a second test. Sensors are standardised within the flight regime, by training
//! rows alone.
//!
//! How small a calibration error can be seen: an engine's stated failures are 3.5 (FD001) and 3.9 (FD002)
//! rows beside what happened, one standard deviation. Engines drawn with replacement from those that the
//! calibration was fitted on, so that it is right for them, have .0028 (.0009 to .0062 in eight of ten
//! draws) where 25 are drawn from FD001, and .0018 (.0006 to .0040) where 65 are drawn from FD002.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use super::actions::{Track, choose};
use super::engines::{self, Engine, SENSORS};
use super::judge::{Thresholds, best_row_threshold, judge};
use super::{FailureEvalError, Series};
use crate::eval::datasets::Skipped;
use crate::predict::failure::features::{CLIP, FeatureSpec, PartitionContext, compute};
use crate::predict::failure::fit::{Candidates, Sample, fit};
use crate::predict::models::FeatureMatrix;

/// Spreads of the three settings over all data sets; they say how alike two regimes are.
const SETTINGS: [f64; 3] = [42.0, 0.84, 40.0];
/// Settings closer than this are one regime.
const REGIME: f64 = 0.1;
/// Cycles that tell what is normal for an engine.
const RUN_IN: usize = 20;

/// All data sets that are found in the folder, and what of them was left out.
pub(super) fn run(
    data: &Path,
    horizon: usize,
    seed: u64,
) -> Result<(Vec<Series>, Vec<Skipped>), FailureEvalError> {
    let found = engines::read(data)?;
    let mut series = Vec::new();
    for set in found.all {
        let placed = |error: FailureEvalError| match error {
            FailureEvalError::TooLittle { detail, .. } => {
                FailureEvalError::TooLittle { path: set.path.display().to_string(), detail }
            }
            other => other,
        };
        series.extend(run_set(set.name, set.train, set.second, horizon, seed).map_err(placed)?);
    }
    Ok((series, found.skipped))
}

fn run_set(
    set: &str,
    mut engines: Vec<Engine>,
    second: Vec<Engine>,
    horizon: usize,
    seed: u64,
) -> Result<Vec<Series>, FailureEvalError> {
    let count = engines.len();
    let train_end = (count as f64 * 0.6).round() as usize;
    let validation_end = train_end + (count as f64 * 0.15).round() as usize;
    if count < 20 {
        let detail = format!("{count} engines, at least 20 are needed: give the whole file");
        return Err(FailureEvalError::TooLittle { path: format!("train_{set}"), detail });
    }
    engines.extend(second);
    let begun = Instant::now();
    let regimes = Regimes::of(&engines[..train_end]);
    let rows = |part: Range<usize>| Rows::of(&engines[part.clone()], part.start, &regimes, horizon);
    let (train, validation) = (rows(0..train_end), rows(train_end..validation_end));
    let fitted =
        fit(&train.sample(), &validation.sample(), &Candidates::thorough(seed)).ok_or_else(|| {
            FailureEvalError::TooLittle {
                path: format!("train_{set}"),
                detail: format!(
                    "no failure within {horizon} cycles among the training or validation engines: give a longer --horizon or more engines"
                ),
            }
        })?;
    let probabilities =
        |margins: &[f64]| -> Vec<f64> { margins.iter().map(|&m| fitted.calibrator.probability(m)).collect() };
    let shown = probabilities(&fitted.margins);
    let thresholds = Thresholds {
        row: best_row_threshold(&shown, &validation.labels),
        act: choose(&validation.tracks(&shown), horizon),
    };
    let train_s = begun.elapsed().as_secs_f64();
    let mut out = Vec::new();
    for (name, part) in
        [(set.to_string(), validation_end..count), (format!("{set} test"), count..engines.len())]
    {
        if part.is_empty() {
            continue;
        }
        let begun = Instant::now();
        let rows = rows(part);
        let shown = probabilities(&fitted.scorer.margins(&rows.features));
        let seconds = begun.elapsed().as_secs_f64().max(1e-9);
        let mut measures = judge(&shown, &rows.labels, &rows.tracks(&shown), thresholds, horizon);
        measures.insert("train_s".into(), train_s);
        measures.insert("score_points_per_s".into(), (shown.len() * SENSORS) as f64 / seconds);
        measures.insert("validation_auprc".into(), fitted.validation.auprc);
        out.push(Series { name, measures, model: fitted.chosen.clone() });
    }
    Ok(out)
}

/// Flight regimes and the location and scale of each sensor within them, from training engines.
struct Regimes {
    centres: Vec<[f64; 3]>,
    /// `[regime][sensor]`: location and 1 / scale; 0 where the sensor says nothing there.
    scales: Vec<Vec<(f64, f64)>>,
}

impl Regimes {
    fn of(engines: &[Engine]) -> Self {
        let mut regimes = Self { centres: Vec::new(), scales: Vec::new() };
        for engine in engines {
            for settings in &engine.settings {
                if regimes.nearest(settings).is_none_or(|(_, distance)| distance > REGIME) {
                    regimes.centres.push(*settings);
                }
            }
        }
        let mut sums = vec![vec![(0f64, 0f64, 0f64); SENSORS]; regimes.centres.len()];
        for engine in engines {
            for (cycle, settings) in engine.settings.iter().enumerate() {
                let Some((regime, _)) = regimes.nearest(settings) else { continue };
                for (sensor, cell) in sums[regime].iter_mut().enumerate() {
                    let x = f64::from(engine.sensors[sensor][cycle]);
                    *cell = (cell.0 + 1.0, cell.1 + x, cell.2 + x * x);
                }
            }
        }
        regimes.scales = sums
            .into_iter()
            .map(|row| {
                row.into_iter()
                    .map(|(n, sum, squares)| {
                        let mean = sum / n;
                        let deviation = (squares / n - mean * mean).max(0.0).sqrt();
                        let says = deviation > 1e-5 * (1.0 + mean.abs());
                        (mean, if says { 1.0 / deviation } else { 0.0 })
                    })
                    .collect()
            })
            .collect();
        regimes
    }

    fn nearest(&self, settings: &[f64; 3]) -> Option<(usize, f64)> {
        self.centres
            .iter()
            .map(|c| (0..3).map(|k| ((c[k] - settings[k]) / SETTINGS[k]).powi(2)).sum::<f64>().sqrt())
            .enumerate()
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// `[sensor][cycle]`, in standard deviations of the regime that each cycle was flown in.
    fn standardise(&self, engine: &Engine) -> Vec<Vec<f32>> {
        let flown: Vec<Option<usize>> =
            engine.settings.iter().map(|s| self.nearest(s).map(|n| n.0)).collect();
        (0..SENSORS)
            .map(|sensor| {
                let row = &engine.sensors[sensor];
                row.iter()
                    .zip(&flown)
                    .map(|(&x, regime)| match regime.map(|r| self.scales[r][sensor]) {
                        Some((mean, inverse)) => {
                            (((f64::from(x) - mean) * inverse) as f32).clamp(-CLIP, CLIP)
                        }
                        None => f32::NAN,
                    })
                    .collect()
            })
            .collect()
    }
}

/// Rows of some engines.
struct Rows {
    features: FeatureMatrix,
    labels: Vec<bool>,
    units: Vec<u32>,
    left: Vec<usize>,
}

impl Rows {
    fn of(engines: &[Engine], first: usize, regimes: &Regimes, horizon: usize) -> Self {
        let spec = spec();
        let (mut labels, mut units, mut left) = (Vec::new(), Vec::new(), Vec::new());
        let mut features = FeatureMatrix::empty(spec.width());
        for (at, engine) in engines.iter().enumerate() {
            let z = regimes.standardise(engine);
            let cycles = engine.cycles();
            let extras: Vec<Vec<f32>> = (0..cycles).map(|cycle| wear(&z, cycle)).collect();
            let rows = compute(
                &spec,
                cycles,
                |cycle| PartitionContext {
                    location: &[0.0; SENSORS],
                    scale: &[1.0; SENSORS],
                    extras: &extras[cycle],
                    kind: None,
                },
                |cycle, sensor| (&z[sensor][..=cycle], &[]),
            );
            for cycle in 0..cycles {
                features.push(rows.row(cycle));
                let rest = cycles - 1 - cycle + engine.left;
                labels.push(rest <= horizon);
                left.push(rest);
                units.push((first + at) as u32);
            }
        }
        Self { features, labels, units, left }
    }

    fn sample(&self) -> Sample<'_> {
        Sample { rows: &self.features, labels: &self.labels, units: &self.units, weights: &[] }
    }

    fn tracks(&self, probabilities: &[f64]) -> Vec<Track> {
        let mut tracks: Vec<(u32, Track)> = Vec::new();
        for (row, &p) in probabilities.iter().enumerate() {
            if tracks.last().is_none_or(|t| t.0 != self.units[row]) {
                tracks.push((self.units[row], Track::default()));
            }
            if let Some((_, track)) = tracks.last_mut() {
                track.probabilities.push(p);
                track.left.push(Some(self.left[row]));
                track.seen.push(0);
            }
        }
        tracks.into_iter().map(|t| t.1).collect()
    }
}

/// Sensors, how far each has come from the engine's own first cycles, and its age.
fn spec() -> FeatureSpec {
    let names = |part: &str| (1..=SENSORS).map(|s| format!("s{s}{part}")).collect::<Vec<String>>();
    let mut extras = names(".wear");
    extras.push("age".into());
    FeatureSpec { metrics: names(""), extras, ..FeatureSpec::default() }
}

/// The weighted mean over the last ten cycles less the mean of the engine's first ones, by sensor;
/// then its age in hundreds of cycles.
fn wear(z: &[Vec<f32>], cycle: usize) -> Vec<f32> {
    let fade = 1.0 - 2.0 / 11.0f32;
    let mut out: Vec<f32> = z
        .iter()
        .map(|row| {
            let first = &row[..(cycle + 1).min(RUN_IN)];
            let normal = first.iter().sum::<f32>() / first.len() as f32;
            let (mut sum, mut weight) = (0f32, 0f32);
            for &x in &row[(cycle + 1).saturating_sub(64)..=cycle] {
                sum = sum * fade + x;
                weight = weight * fade + 1.0;
            }
            sum / weight - normal
        })
        .collect();
    out.push(cycle as f32 / 100.0);
    out
}
