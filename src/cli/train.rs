//! `foreshift train`: trains models in the product. `--shipped` makes the models that come with the
//! program, from simulated scenarios; without it the fleet's own history is used (`train_run` reads it
//! and hands it to `train_history`).

use std::path::PathBuf;

use super::train_rows::Rows;
use crate::eval::backtest::Truth;
use crate::fleet::{PartitionId, Span, Timestamp};
use crate::predict::failure::features::FeatureSpec;
use crate::predict::failure::fit::Candidates;
use crate::predict::models::ModelError;
use crate::predict::models::lstm::train::Training;
use crate::predict::train::card::Data;
use crate::predict::train::failure::HeadFile;
use crate::predict::train::registry::write_files;
use crate::predict::train::{
    History, Progress, Sampling, TrainOptions, Trained, autoencoder, replay, train_failure,
};
use crate::predict::{Calibration, Outcome};
use crate::sim::lacking::lacking;
use crate::sim::training::{Episode, STEP, Scenario, episode};

/// What the command takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Train {
    /// Make the models that come with the program, from simulated scenarios.
    #[arg(long)]
    pub shipped: bool,
    /// Train a model of one application, on the partitions that do its work; the fleet's model goes on
    /// speaking of all others.
    #[arg(long, value_name = "NAME", conflicts_with = "shipped")]
    pub app: Option<String>,
    /// Where the history begins: a time, or how long before --to (30d).
    #[arg(long, default_value = "30d", value_name = "TIME", conflicts_with = "shipped")]
    pub from: String,
    /// Where it ends; default: now (of recorded files: their last sample).
    #[arg(long, value_name = "TIME", conflicts_with = "shipped")]
    pub to: Option<String>,
    /// Further recorded failures: CSV with the columns at, subject, cause, label.
    #[arg(long, value_name = "FILE", conflicts_with = "shipped")]
    pub failures: Option<PathBuf>,
    /// One JSON object on standard output, and nothing else there.
    #[arg(long, conflicts_with = "shipped")]
    pub json: bool,
    /// Put the model into use at once where it is better on held-back hosts, instead of letting it run in
    /// shadow until it has proved better on what happens from now on.
    #[arg(long, conflicts_with = "shipped")]
    pub promote: bool,
    /// Where to write the models.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Seed of the training; the same seed and data give the same models.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Scenarios to simulate for the shipped models.
    #[arg(long, default_value_t = 900, requires = "shipped")]
    pub episodes: usize,
}

/// Slots of a shipped scenario: twelve hours.
const SLOTS: usize = 1440;
/// Slots until an assessor has learnt each partition's own scale, and a bit.
const LEARN: usize = 500;
/// Steps of the autoencoder's windows.
pub(super) const STEPS: usize = 32;

/// The windows that shipped models speak of.
pub fn windows() -> [Span; 3] {
    [Span::minutes(15), Span::hours(1), Span::hours(24)]
}

/// Makes the shipped models: one a failure window, and the autoencoder. The models of failure see every
/// episode twice, the second time with metrics missing that many fleets do not have; the autoencoder,
/// to which missing is normal, once.
///
/// # Errors
/// Too few episodes to hold failures in every part of the data.
pub fn train_shipped(
    episodes: usize,
    seed: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<HeadFile>, ModelError> {
    // Seeds that neither the demo nor a test uses.
    let root = crate::fleet::rng::Random::new(seed ^ 0x5eed_0f0a_11ed).fork("shipped models");
    let mut all: Vec<Episode> =
        (0..episodes).map(|i| episode(&mut root.fork(&format!("episode {i}")), STEP, SLOTS)).collect();
    let failures = all.iter().filter(|e| e.fails_at.is_some()).count();
    for i in 0..episodes {
        all.push(all[i].without(&lacking(&mut root.fork(&format!("lacking {i}")))));
    }
    let histories: Vec<History> = all
        .iter()
        .enumerate()
        .map(|(i, e)| History {
            partition: PartitionId::from(format!("training-{i}")),
            kind: e.workload_kind.clone(),
            metrics: e.metrics.clone(),
        })
        .collect();
    let mut kinds: Vec<String> = all.iter().map(|e| e.workload_kind.clone()).collect();
    kinds.sort();
    kinds.dedup();
    let spec = FeatureSpec::canonical(kinds);
    let start = Timestamp(1_704_067_200_000);
    let sampling = Sampling { start, step: STEP, from: LEARN, every: 4, window: STEPS, window_every: 4 };
    let mut replayed = replay(&histories, &sampling, &spec, progress);
    // Both of an episode are one unit: not learnt from on one side of a split and judged on the other.
    let seen = replayed.units.clone();
    replayed.units.iter_mut().for_each(|unit| *unit %= episodes.max(1) as u32);
    let data = Data {
        source: format!(
            "{episodes} simulated scenarios of twelve hours, each with all metrics and with some missing \
             (sim::training, sim::lacking)"
        ),
        from: start,
        until: start + Span(STEP.0 * SLOTS as i64),
        partitions: episodes,
        failures,
        rows: replayed.units.len(),
    };
    let candidates = Candidates::compact(seed);
    let options =
        TrainOptions { windows: windows().to_vec(), candidates, calibration: Calibration::Shipped, seed };
    let slots = &replayed.slots;
    let label = |row: usize, within: Span| -> Option<bool> {
        let (episode, slot) = (&all[seen[row] as usize], slots[row] as usize);
        let ahead = (within.0 / STEP.0) as usize;
        let Some(fails) = episode.fails_at else {
            // Whether a harmless episode would have gone on well is for its maker to say: it would.
            return Some(false);
        };
        match episode.onset {
            Some(onset) if slot >= onset => Some(fails - slot.min(fails) <= ahead),
            // Before anything tells, the window that reaches past the onset can't be known, and a
            // fleet's true rate of such surprises is not that of the scenarios.
            _ => (slot + ahead < fails).then_some(false),
        }
    };
    let weight = |row: usize| weight_of(&all[seen[row] as usize], slots[row] as usize);
    let trained = train_failure(&replayed, &spec, &data, &options, (&label, &weight), progress)?;
    let mut files = trained.files;
    let training = Training { hidden: 32, epochs: 12, steps: STEPS, rate: 5e-3, seed, ..Training::default() };
    let healthy = |row: usize| {
        if seen[row] as usize >= episodes {
            return None;
        }
        let (episode, slot) = (&all[seen[row] as usize], slots[row] as usize);
        match episode.onset {
            None if episode.kind == Scenario::Healthy => Some(true),
            None => None,
            Some(onset) if slot < onset => Some(true),
            // Only once something has been wrong for the whole window.
            Some(onset) if episode.fails_at.is_some() && slot >= onset + STEPS => Some(false),
            Some(_) => None,
        }
    };
    files.push(autoencoder::train(&replayed, &spec, &data, &training, &healthy, progress).0);
    Ok(files)
}

/// Real fleets are calm nearly always: a calm row stands for many, a harmless disturbance for a few.
fn weight_of(episode: &Episode, slot: usize) -> f32 {
    match episode.onset {
        Some(onset) if slot >= onset && episode.fails_at.is_some() => 1.0,
        Some(onset) if slot >= onset => 3.0,
        _ => 20.0,
    }
}

/// Writes what [`train_shipped`] made.
///
/// # Errors
/// The folder can't be written.
pub fn write_shipped(files: &[HeadFile], folder: &std::path::Path) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder)
        .map_err(|e| ModelError::File { path: folder.display().to_string(), detail: e.to_string() })?;
    files.iter().try_for_each(|file| write_files(folder, file))
}

/// Trains on a fleet's own history, a head a window: rows of it, whose and when each is, and what became of them. Rows
/// from which work was moved away in time are left out, never counted as survived.
///
/// # Errors
/// Too few failures.
pub(super) fn train_history(
    rows: &Rows,
    truth: &Truth,
    spec: &FeatureSpec,
    data: &Data,
    (windows, seed): (&[Span], u64),
    progress: &mut dyn FnMut(Progress),
) -> Result<Trained, ModelError> {
    let labels: Vec<(Span, Vec<Option<bool>>)> =
        windows.iter().map(|&within| (within, labels(rows, truth, within))).collect();
    let label = |row: usize, within: Span| labels.iter().find(|l| l.0 == within).and_then(|l| l.1[row]);
    let options = TrainOptions {
        windows: windows.to_vec(),
        candidates: Candidates::compact(seed),
        calibration: Calibration::Calibrated,
        seed,
    };
    train_failure(&rows.replayed, spec, data, &options, (&label, &|_| 1.0), progress)
}

/// What a model of these rows has learnt from.
pub(super) fn data_of(
    rows: &Rows,
    truth: &Truth,
    (source, from, until): (&str, Timestamp, Timestamp),
) -> Data {
    let failed = |p: &&PartitionId| truth.events(p).iter().any(|e| e.outcome == Outcome::Failed);
    Data {
        source: source.into(),
        from,
        until,
        partitions: rows.partitions.len(),
        failures: rows.partitions.iter().filter(failed).count(),
        rows: rows.times.len(),
    }
}

/// What became of each row within a window; `None` = cannot be known.
pub(super) fn labels(rows: &Rows, truth: &Truth, within: Span) -> Vec<Option<bool>> {
    let of = |row: usize| {
        let partition = &rows.partitions[rows.of[row] as usize];
        truth.label(partition, truth.events(partition), rows.times[row], within)
    };
    (0..rows.times.len()).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::calibrate::Calibrator;
    use crate::predict::failure::{FailureModel, Incident};
    use crate::predict::models::FeatureMatrix;
    use crate::predict::train::failure::assemble;
    use crate::predict::train::{Registry, compare};

    fn small(seed: u64) -> Vec<HeadFile> {
        train_shipped(60, seed, &mut |_| {}).unwrap()
    }

    #[test]
    fn the_same_seed_makes_the_same_files_and_versions_can_be_taken_back() {
        let files = small(3);
        assert_eq!(small(3), files);
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(dir.path(), "orders/eu");
        let first = registry.add(&files).unwrap();
        registry.promote(first).unwrap();
        let second = registry.add(&files).unwrap();
        assert_eq!(registry.current(), Some(first), "a new version is not in use by itself");
        registry.promote(second).unwrap();
        assert_eq!((registry.current(), registry.revert().unwrap()), (Some(second), first));
        assert!(registry.revert().unwrap_err().to_string().contains("no earlier version"));
        // A model that was changed behind its card's back is not loaded.
        let path = dir.path().join("orders_eu/0002/failure-1h.onnx");
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = registry.promote(second).unwrap_err().to_string();
        assert!(error.contains("does not match its model"), "{error}");
    }

    #[test]
    fn a_challenger_takes_over_only_where_it_is_better() {
        let files = small(5);
        let heads = |files: &[HeadFile]| {
            let heads = files.iter().filter(|f| f.card.within_seconds.is_some());
            assemble(heads.map(|f| (f.onnx.as_slice(), f.card.clone()))).unwrap()
        };
        let champion = heads(&files);
        let within = Span::hours(1);
        let feature = champion.spec.mean10(6);
        let mut rows = FeatureMatrix::missing(400, champion.spec.width());
        let mut labels = Vec::new();
        for r in 0..400 {
            rows.row_mut(r).fill(0.0);
            rows.row_mut(r)[feature] = if r % 8 == 0 { 6.0 } else { 0.2 };
            labels.push(r % 8 == 0);
        }
        let same = compare(&champion, &champion, &rows, &labels, within).unwrap();
        assert!(!same.promote, "{}", same.why);
        // Told the other way round, the champion is the worse one.
        let windows = [within];
        let idle = crate::predict::failure::FailureModel::uncalibrated(champion.spec.clone(), &windows);
        let stating = |model: &FailureModel, slope, offset| {
            let mut model = model.clone();
            model.heads.iter_mut().for_each(|head| head.calibrator = Calibrator::Platt { slope, offset });
            model
        };
        // These rows are none that it learnt from: it is told how to state what it sees in them.
        let plain = stating(&champion, 1.0, 0.0).predict(&rows);
        let head = champion.heads.iter().position(|head| head.within == within).unwrap();
        let margin = |row: usize| plain.row(row)[head].ln() - (-plain.row(row)[head]).ln_1p();
        let slope = 8.0 / (margin(0) - margin(1));
        let told = stating(&champion, slope, -slope * (margin(0) + margin(1)) / 2.0);
        let better = compare(&idle, &told, &rows, &labels, within).unwrap();
        assert!(better.promote, "{}", better.why);
        // To rank better than a champion that states nonsense is not enough.
        let (nonsense, boastful) = (stating(&idle, 1.0, 40.0), stating(&champion, 0.01, 3.0));
        let verdict = compare(&nonsense, &boastful, &rows, &labels, within).unwrap();
        assert!(verdict.challenger.auprc > verdict.champion.auprc && verdict.challenger.brier_skill < 0.0);
        assert!(!verdict.promote && verdict.why.contains("no better than the base rate"), "{}", verdict.why);
    }

    #[test]
    fn what_learns_nothing_is_not_called_calibrated() {
        let spec = FeatureSpec::canonical(Vec::new());
        let mut random = crate::fleet::rng::Random::new(4);
        let rows = FeatureMatrix::empty(spec.width());
        let mut replayed =
            crate::predict::train::Replayed { rows, ..crate::predict::train::Replayed::default() };
        let mut labels = Vec::new();
        for row in 0..1500u32 {
            let noise: Vec<f32> = (0..spec.width()).map(|_| random.normal() as f32).collect();
            replayed.rows.push(&noise);
            replayed.units.push(row / 30);
            labels.push(random.chance(0.3));
        }
        let options = TrainOptions {
            windows: windows().to_vec(),
            candidates: Candidates::compact(1),
            calibration: Calibration::Calibrated,
            seed: 1,
        };
        let label = |row: usize, _: Span| Some(labels[row]);
        let trained =
            train_failure(&replayed, &spec, &Data::default(), &options, (&label, &|_| 1.0), &mut |_| {})
                .unwrap();
        for file in &trained.files {
            let skill = file.card.quality.unwrap().brier_skill;
            let calibrated = file.card.calibration == Some(Calibration::Calibrated);
            assert_eq!(calibrated, skill > 0.0, "Brier skill {skill}");
        }
        assert!(trained.files.iter().any(|f| f.card.worthless().is_some()), "noise teaches nothing");
    }

    #[test]
    fn history_without_a_failure_is_refused_with_words() {
        let spec = FeatureSpec::canonical(Vec::new());
        let mut replayed = crate::predict::train::Replayed {
            rows: FeatureMatrix::missing(400, spec.width()),
            ..crate::predict::train::Replayed::default()
        };
        replayed.units = (0..400).map(|r| r % 20).collect();
        let rows = Rows {
            replayed,
            of: (0..400).map(|r| r % 20).collect(),
            times: (0..400).map(|r| Timestamp(i64::from(r / 20) * 300_000)).collect(),
            partitions: (0..20).map(|p| PartitionId::from(format!("h{p}"))).collect(),
            points: 0,
            every: Span::minutes(5),
        };
        let until = Timestamp(1_000_000_000);
        let truth = Truth::new(Vec::new(), until);
        let from = Timestamp(0);
        let train = |truth: &Truth, windows: &[Span], until: Timestamp| {
            train_history(
                &rows,
                truth,
                &spec,
                &data_of(&rows, truth, ("test", from, until)),
                (windows, 1),
                &mut |_| {},
            )
        };
        let error = train(&truth, &windows(), until).err().unwrap().to_string();
        assert!(error.contains("0 of 20 partitions failed, too few to train on"), "{error}");
        assert!(
            error.ends_with("train over a longer time (--from) or with more recorded failures"),
            "{error}"
        );

        // All but two of the hosts fail an hour in; of a day nobody can know.
        let end = Timestamp(7_200_000);
        let incidents = (0..18).map(|p| Incident {
            place: format!("failures.csv:{p}"),
            subject: format!("h{p}"),
            cause: "died".into(),
            at: Timestamp(3_600_000),
            outcome: Outcome::Failed,
            partitions: vec![PartitionId::from(format!("h{p}"))],
        });
        let truth = Truth::new(incidents.collect(), end);
        let trained = train(&truth, &[Span::minutes(30), Span::hours(24)], end).unwrap();
        let titles: Vec<&str> = trained.files.iter().map(|f| f.card.title.as_str()).collect();
        assert_eq!(titles, ["failure within 30 m"]);
        assert_eq!(trained.untrained.len(), 1);
        let why = trained.untrained[0].words();
        assert!(why.starts_with("within 24 h: not trained: the history is too short"), "{why}");
    }
}
