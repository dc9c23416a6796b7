//! Anomaly detection held to public data: SMD machines under two protocols, NAB as a corpus.
//!
//! `ops` is what an operator does: fit on the train file, score the test file row by row, the threshold
//! from training scores alone. `tsb` is TSB-AD's: the first rows of the test file are the training part,
//! the whole file is scored. Figures whose threshold the labels chose are marked as oracle.

use std::path::Path;
use std::time::Instant;

use super::{
    datasets::{self, Machine, smd::ROWS_PER_DAY},
    error::EvalError,
    measures::{
        NabProfile, NabSeries, auc_pr, autocorrelation_length, best_f1, judge_alarms, nab_score, vus,
    },
    report::{Report, SeriesReport},
};
use crate::predict::anomaly::{
    AnomalyError, AnomalyModel, FitOptions, Sequencing,
    model::{FEWEST_ROWS, SEQUENCE},
    univariate,
};

/// How SMD is split.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// Fit on the train file.
    #[default]
    Ops,
    /// Fit on the head of the test file, as TSB-AD does.
    Tsb,
}

/// Alarmed rows less than an hour apart are one alarm.
const MERGE: usize = 60;
/// TSB-AD's number of thresholds.
const THRESHOLDS: usize = 250;

/// Every machine in `data`. All are read and checked before the first is trained, and read again for their
/// turn: one that cannot be evaluated costs no training, and memory holds one at a time.
pub fn smd(data: &Path, protocol: Protocol) -> Result<Report, EvalError> {
    let found = datasets::smd::find(data)?;
    for (name, files) in &found.all {
        check(&datasets::smd::read(name, files)?, protocol)?;
    }
    let mut notes = vec![
        "event_recall_1fpd and false_events_per_day stand at the threshold chosen from training scores: \
         the alarms are as many as false_events_per_day says, not one a day"
            .to_owned(),
        "SMD's labels hold debatable events; some machines stay under .5 for every published method"
            .to_owned(),
    ];
    let mut series = Vec::new();
    for (name, files) in &found.all {
        let one = datasets::smd::read(name, files)?;
        if !one.truth.contains(&true) {
            notes.push(format!("{name}: its labels are all 0: it counts in false_events_per_day alone"));
        }
        for (file, metrics) in [("train", &one.train), ("test", &one.test)] {
            let share = missing(metrics.iter().flatten());
            if share > 0.0 {
                notes.push(format!(
                    "{name}: {} of its {file} file is missing (no finite numbers)",
                    percent(share)
                ));
            }
        }
        if missing(one.test.iter().flatten()) >= 1.0 {
            notes.push(format!("{name}: nothing to judge: it has no figures and is in no mean"));
        }
        series.push(machine(&one, protocol)?);
    }
    Ok(Report {
        task: "anomaly",
        format: "smd",
        protocol: match protocol {
            Protocol::Ops => "ops".to_owned(),
            Protocol::Tsb => "tsb".to_owned(),
        },
        mean: Report::mean_of(&series),
        series,
        oracle: vec!["best_f1"],
        notes,
        skipped: found.skipped,
    })
}

/// Share of the numbers that are none.
fn missing<'a>(values: impl Iterator<Item = &'a f32>) -> f64 {
    let (mut all, mut gone) = (0u64, 0u64);
    for value in values {
        all += 1;
        gone += u64::from(!value.is_finite());
    }
    gone as f64 / all.max(1) as f64
}

/// `12 %`; a little is not none, and nearly all not all.
fn percent(share: f64) -> String {
    match 100.0 * share {
        p if p >= 100.0 => "100 %".to_owned(),
        p => format!("{:.2} %", p.clamp(0.01, 99.99)),
    }
}

/// TSB-AD's training part of an SMD test file: a quarter of it, ending 100 rows before the first labelled
/// row, at least 500 rows.
fn tsb_head(truth: &[bool]) -> usize {
    let first = truth.iter().position(|&t| t).unwrap_or(truth.len());
    first.saturating_sub(100).min(truth.len() / 4).max(500).min(truth.len())
}

/// What the protocol trains on, `[metric][time]`.
fn training_part(m: &Machine, protocol: Protocol) -> Vec<&[f32]> {
    match protocol {
        Protocol::Ops => m.train.iter().map(Vec::as_slice).collect(),
        Protocol::Tsb => {
            let head = tsb_head(&m.truth);
            m.test.iter().map(|c| &c[..head]).collect()
        }
    }
}

/// Whether there is enough to train on.
fn check(m: &Machine, protocol: Protocol) -> Result<(), EvalError> {
    let train = training_part(m, protocol);
    let rows = train.first().map_or(0, |c| c.len());
    let found = (0..rows).filter(|&t| train.iter().any(|c| c[t].is_finite())).count();
    if found >= FEWEST_ROWS {
        return Ok(());
    }
    let part = match protocol {
        Protocol::Ops => "its train file",
        Protocol::Tsb => "the part of its test file that tsb trains on",
    };
    Err(EvalError::Unusable {
        name: m.name.clone(),
        reason: format!(
            "{found} rows with values in {part} where {FEWEST_ROWS} are needed: give more rows, or take the machine out"
        ),
    })
}

fn machine(m: &Machine, protocol: Protocol) -> Result<SeriesReport, EvalError> {
    let train = training_part(m, protocol);
    let test: Vec<&[f32]> = m.test.iter().map(Vec::as_slice).collect();
    let unusable = |e: AnomalyError| EvalError::Unusable {
        name: m.name.clone(),
        reason: e.to_string().trim_end_matches(" (permanent)").to_owned(),
    };
    let started = Instant::now();
    let options = FitOptions { sequence: Sequencing::Trained(SEQUENCE), ..FitOptions::default() };
    let (model, _) = AnomalyModel::fit(&train, &options).map_err(unusable)?;
    let train_s = started.elapsed().as_secs_f64();
    let started = Instant::now();
    // Row by row, through the function that the engine's cycle calls.
    let said = model.read_columns(&test).map_err(unusable)?;
    let seconds = started.elapsed().as_secs_f64();
    let score: Vec<f64> = said.score.iter().map(|&s| f64::from(s)).collect();
    let volume = vus(&score, &m.truth, autocorrelation_length(&m.test[0]), THRESHOLDS);
    // Without a measured row nothing was judged, without a labelled one there is nothing to rank or to find.
    let measured = missing(m.test.iter().flatten()) < 1.0;
    let if_measured = |value: f64| if measured { value } else { f64::NAN };
    let if_labelled = |value: f64| if m.truth.contains(&true) { if_measured(value) } else { f64::NAN };
    let events = judge_alarms(&said.alarmed, &m.truth, MERGE, ROWS_PER_DAY, f64::from(model.event_level()));
    Ok(SeriesReport {
        name: m.name.clone(),
        measures: vec![
            ("vus_pr", if_labelled(volume.pr)),
            ("auc_pr", if_labelled(auc_pr(&score, &m.truth))),
            ("best_f1", if_labelled(best_f1(&score, &m.truth))),
            ("event_recall_1fpd", if_measured(events.recall)),
            ("false_events_per_day", if_measured(events.false_per_day)),
        ],
        train_s,
        score_points_per_s: (test.len() * m.truth.len()) as f64 / seconds,
    })
}

/// Every series of NAB in `data`, scored by the univariate detector; the three profiles are those of the
/// whole set that was found, normalised over it.
pub fn nab(data: &Path) -> Result<Report, EvalError> {
    let found = datasets::nab::read(data)?;
    let files = &found.all;
    let mut series = Vec::new();
    let mut scored = Vec::new();
    let mut gaps = Vec::new();
    for file in files {
        let share = missing(file.values.iter());
        if share > 0.0 {
            gaps.push(format!("{}: {} of it is missing (no finite numbers)", file.name, percent(share)));
        }
        if share >= 1.0 {
            gaps.push(format!("{}: nothing to judge: it is not in the score", file.name));
            let measures = vec![("windows", f64::NAN), ("rows", f64::NAN)];
            series.push(SeriesReport { name: file.name.clone(), measures, ..SeriesReport::default() });
            continue;
        }
        let started = Instant::now();
        let score = univariate::score_series(&file.values);
        let seconds = started.elapsed().as_secs_f64();
        let one =
            NabSeries { score: score.iter().map(|&s| f64::from(s)).collect(), windows: file.windows.clone() };
        series.push(SeriesReport {
            name: file.name.clone(),
            measures: vec![("windows", file.windows.len() as f64), ("rows", file.values.len() as f64)],
            train_s: 0.0,
            score_points_per_s: file.values.len() as f64 / seconds.max(1e-9),
        });
        scored.push(one);
    }
    let mean = vec![
        ("nab_standard", nab_score(&scored, NabProfile::STANDARD).0),
        ("nab_low_fp", nab_score(&scored, NabProfile::LOW_FP).0),
        ("nab_low_fn", nab_score(&scored, NabProfile::LOW_FN).0),
    ];
    let mut notes = vec![
        "as in NAB itself, each profile's one threshold is optimised on the series it is scored on"
            .to_owned(),
        format!("normalised over the {} series that could be judged", scored.len()),
    ];
    notes.extend(gaps);
    match files.iter().filter(|f| f.windows.is_empty()).count() {
        0 => {}
        all if all == files.len() => notes.push("no series has a window: there is no score".to_owned()),
        some => notes.push(format!(
            "{some} series without windows: as in NAB itself, their false alarms count and nothing else"
        )),
    }
    Ok(Report {
        task: "anomaly",
        format: "nab",
        protocol: "stream, probation 15 %".to_owned(),
        series,
        mean,
        oracle: vec!["nab_standard", "nab_low_fp", "nab_low_fn"],
        notes,
        skipped: found.skipped,
    })
}
