//! Backblaze drive statistics: real disks, real failures, few of them. Split by date: the test is the
//! last days whose outcome within the horizon is known; what trains, chooses and calibrates ends a horizon
//! before it, and of its drives nothing is known that came later than the eve of the test. Days just before
//! a validation of later days would share its failures (a drive that fails soon after), so choosing goes by
//! folds of drives instead.
//!
//! An action is false where the drive lived the horizon after it and was not seen to fail at all: nobody has
//! seen two whole horizons after a day of the test, so that some may have been early.

mod rows;
mod table;

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Instant;

use self::rows::{Models, Rows};
use self::table::{SMART, Table};
use super::actions::{WATCHED, choose};
use super::judge::{Thresholds, best_row_threshold, judge};
use super::{FailureEvalError, Series};
use crate::eval::measures::auc_pr;
use crate::fleet::rng::Random;
use crate::predict::failure::fit::{Candidates, Fitted, Sample, fit_crossed};
use crate::predict::models::trees::Growth;

/// The series, and what is to be known of it.
pub(super) fn run(
    data: &Path,
    horizon: usize,
    seed: u64,
) -> Result<(Vec<Series>, Vec<String>), FailureEvalError> {
    let table = table::read(data)?;
    let split = Split::of(&table, horizon as i32);
    let too_little = |detail| FailureEvalError::TooLittle { path: data.display().to_string(), detail };
    split.check(&table).map_err(too_little)?;
    let begun = Instant::now();
    let learnt = Learnt::of(&table, &split, &candidates(seed)).ok_or_else(|| {
        too_little(format!(
            "there must be drives that fail within {horizon} days of {}, which is learnt from, and others \
             that do not: give more drives or earlier days",
            span(&table, &split.known)
        ))
    })?;
    let train_s = begun.elapsed().as_secs_f64();

    let begun = Instant::now();
    let from = *split.test.start();
    let seen = from - WATCHED as i32 + 1..=*split.test.end();
    let rows = Rows::of(&table, &learnt.models, seen, split.horizon, split.last);
    let shown = learnt.probabilities(&learnt.fitted.scorer.margins(&rows.features));
    let seconds = begun.elapsed().as_secs_f64().max(1e-9);

    let judged = rows.of_days_from(from);
    let probabilities: Vec<f64> = judged.iter().map(|&row| shown[row]).collect();
    let labels: Vec<bool> = judged.iter().map(|&row| rows.labels[row]).collect();
    let units: Vec<u32> = judged.iter().map(|&row| rows.units[row]).collect();
    let tracks = rows.tracks(&shown, from);
    let mut measures = judge(&probabilities, &labels, &tracks, learnt.thresholds, horizon);
    let days = span(&table, &split.test);
    let mut notes = vec![format!(
        "tested on {days}; a false action is one after which the drive lived {horizon} days and was not seen to \
         fail later (some may have been early: nobody has seen {} days after it)",
        2 * horizon
    )];
    let failed = labels.contains(&true);
    let (low, high) =
        if failed { interval(&probabilities, &labels, &units, seed) } else { (f64::NAN, f64::NAN) };
    measures.insert("auprc_low".into(), low);
    measures.insert("auprc_high".into(), high);
    if !failed {
        notes.push(format!(
            "no drive fails within {horizon} days of {days}: what needs a failure has no figure; for it, give \
             more drives or other days"
        ));
    }
    if table.repeated > 0 {
        notes.push(format!("{} rows repeat another one and are counted once", table.repeated));
    }
    measures.insert("train_s".into(), train_s);
    measures.insert("score_points_per_s".into(), (shown.len() * SMART) as f64 / seconds);
    measures.insert("validation_auprc".into(), learnt.fitted.validation.auprc);
    Ok((vec![Series { name: "drives".into(), measures, model: learnt.fitted.chosen }], notes))
}

/// Which days are what.
struct Split {
    /// Learnt from, chosen by and calibrated on.
    known: RangeInclusive<i32>,
    /// Judged.
    test: RangeInclusive<i32>,
    /// The last day of all.
    last: i32,
    horizon: i32,
}

impl Split {
    fn of(table: &Table, horizon: i32) -> Self {
        let last = table.last();
        let test = last - 2 * horizon + 1..=last - horizon;
        Self { known: 0..=test.start() - horizon - 1, test, last, horizon }
    }

    /// What is missing, and what to do.
    fn check(&self, table: &Table) -> Result<(), String> {
        let (days, needed) = (self.last + 1, 3 * self.horizon + 1);
        if days < needed {
            return Err(format!(
                "{days} days, {}; at a horizon of {} days at least {needed} are needed, {} of them after the days \
                 that are learnt from: give more days, or a shorter --horizon",
                span(table, &(0..=self.last)),
                self.horizon,
                3 * self.horizon,
            ));
        }
        if !table.drives.iter().flat_map(|d| &d.days).any(|d| self.test.contains(&d.day)) {
            let test = span(table, &self.test);
            return Err(format!("no rows of {test}, the days of the test: give the files of these days"));
        }
        Ok(())
    }
}

/// `2013-05-06 to 2013-05-12`.
fn span(table: &Table, days: &RangeInclusive<i32>) -> String {
    format!("{} to {}", table.date(*days.start()), table.date(*days.end()))
}

/// What is known on the eve of the test.
#[derive(Debug)]
struct Learnt {
    models: Models,
    fitted: Fitted,
    thresholds: Thresholds,
}

impl Learnt {
    /// `None` where drives of but one kind are known.
    fn of(table: &Table, split: &Split, candidates: &Candidates) -> Option<Self> {
        let models = Models::of(table, *split.known.end());
        let eve = split.test.start() - 1;
        let known = Rows::of(table, &models, split.known.clone(), split.horizon, eve);
        let sample =
            Sample { rows: &known.features, labels: &known.labels, units: &known.units, weights: &[] };
        let fitted = fit_crossed(&sample, candidates)?;
        let mut learnt = Self { models, fitted, thresholds: Thresholds { row: 0.5, act: 0.5 } };
        let held_out = learnt.probabilities(&learnt.fitted.margins);
        learnt.thresholds = Thresholds {
            row: best_row_threshold(&held_out, &known.labels),
            act: choose(&known.tracks(&held_out, *split.known.start()), split.horizon as usize),
        };
        Some(learnt)
    }

    fn probabilities(&self, margins: &[f64]) -> Vec<f64> {
        margins.iter().map(|&m| self.fitted.calibrator.probability(m)).collect()
    }
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

/// 95 % interval of the average precision, by drawing drives anew 200 times.
fn interval(probabilities: &[f64], labels: &[bool], units: &[u32], seed: u64) -> (f64, f64) {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for row in 0..units.len() {
        match spans.last_mut() {
            Some(span) if units[span.0] == units[row] => span.1 = row + 1,
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
                y.extend_from_slice(&labels[from..to]);
            }
            auc_pr(&p, &y)
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    (drawn[4], drawn[194])
}

#[cfg(test)]
mod tests;
