//! What a person may rely on from the detector in the engine: it is the one that is evaluated.

use super::anomaly::{AnomalyModel, FitOptions};
use super::combined::rows_per_day;
use super::*;
use crate::fleet::rng::Random;
use crate::fleet::{PartitionId, Span, Timestamp, Topology};
use crate::telemetry::{CANONICAL, Ingest, PartitionIx, Windows, WindowsConfig};

/// Rows of 16 metrics that follow a daily load.
fn history(rows: usize, random: &mut Random) -> Vec<Vec<f32>> {
    let mut columns = vec![Vec::with_capacity(rows); CANONICAL.len()];
    for t in 0..rows {
        let load = (t as f64 / 2880.0 * std::f64::consts::TAU).sin();
        for (m, column) in columns.iter_mut().enumerate() {
            let level = 40.0 + m as f64 + 6.0 * load * (m % 4) as f64;
            column.push((level + 0.5 * random.normal()) as f32);
        }
    }
    columns
}

fn slices(columns: &[Vec<f32>]) -> Vec<&[f32]> {
    columns.iter().map(Vec::as_slice).collect()
}

/// Partitions that are fed row by row from `histories`, each with the model of its own first four days.
struct Bench {
    windows: Windows,
    assessor: Assessor,
    ids: Vec<PartitionId>,
    models: Vec<AnomalyModel>,
    now: Timestamp,
}

impl Bench {
    fn new(partitions: usize) -> Bench {
        let now = Timestamp(Span::days(20_000).0);
        let mut windows = Windows::new(WindowsConfig::default(), now);
        let ids: Vec<PartitionId> = (0..partitions).map(|i| PartitionId::from(format!("h{i}/p1"))).collect();
        ids.iter().for_each(|id| {
            windows.intern(id);
        });
        let rows_per_day = rows_per_day(windows.config().step);
        let mut bench = Bench {
            windows,
            assessor: Assessor::new(AssessOptions::default()),
            models: Vec::new(),
            ids,
            now,
        };
        for p in 0..partitions {
            let learnt = history(4 * 2880, &mut Random::new(p as u64));
            let options = FitOptions { rows_per_day, ..FitOptions::default() };
            bench.models.push(AnomalyModel::fit(&slices(&learnt), &options).unwrap().0);
            let (model, metrics) = (bench.models[p].clone(), bench.windows.metrics().to_vec());
            let taught = Taught { model, metrics, fitted: now, from: now - Span::days(4), until: now };
            assert!(bench.assessor.teach(&bench.windows, PartitionIx(p as u32), taught));
        }
        bench
    }

    /// One row of every partition, and a cycle.
    fn step(&mut self, rows: &[Vec<f32>]) -> Vec<Assessment> {
        self.now += self.windows.config().step;
        self.windows.advance(self.now);
        for (id, row) in self.ids.iter().zip(rows) {
            for (metric, value) in CANONICAL.iter().zip(row) {
                let series = self.windows.series(id, metric.name);
                self.windows.push(series, self.now, *value);
            }
        }
        let topology = Topology::default();
        let context = Context { topology: &topology, failures: &[] };
        self.assessor.assess(&self.windows, &context, self.now).to_vec()
    }
}

#[test]
fn the_engine_gives_the_scores_and_the_alarms_of_the_evaluation_sample_for_sample() {
    let mut bench = Bench::new(1);
    assert!(bench.models[0].knows_days() && bench.assessor.is_taught(PartitionIx(0)));
    let mut random = Random::new(77);
    let mut fed = history(500, &mut random);
    // A relation breaks for an hour; later a value is missing for a while.
    fed[3][200..320].iter_mut().for_each(|x| *x -= 9.0);
    fed[7][400..430].fill(f32::NAN);
    // The evaluation reads the same rows as a file: an empty window, then what was fed.
    let empty = bench.windows.config().len - 1;
    let file: Vec<Vec<f32>> =
        fed.iter().map(|c| std::iter::repeat_n(f32::NAN, empty).chain(c.iter().copied()).collect()).collect();
    let evaluated = bench.models[0].read_columns(&slices(&file)).unwrap();
    let mut alarms = Vec::new();
    for t in 0..500 {
        let row: Vec<f32> = fed.iter().map(|c| c[t]).collect();
        let said = bench.step(&[row]).remove(0);
        // A slot is read two slots after it began.
        let (Some(anomaly), Some(slot)) = (said.anomaly, t.checked_sub(2)) else { continue };
        assert!(
            (anomaly.score - f64::from(evaluated.score[empty + slot])).abs() < 1e-6,
            "row {slot}: {anomaly:?}, evaluated {}",
            evaluated.score[empty + slot]
        );
        assert_eq!(anomaly.alarmed, evaluated.alarmed[empty + slot], "row {slot}");
        alarms.push((slot, anomaly.alarmed));
    }
    assert!(alarms.len() > 480, "{}", alarms.len());
    let first = alarms.iter().find(|(_, alarmed)| *alarmed).expect("a broken relation is an alarm").0;
    assert!((200..215).contains(&first), "{first}");
    assert!(!alarms.last().unwrap().1, "and it ends");
}

#[test]
fn an_alarm_of_days_is_watched_and_one_that_most_peers_share_is_the_load() {
    let mut bench = Bench::new(6);
    let mut random = Random::new(5);
    let calm: Vec<Vec<Vec<f32>>> = (0..6).map(|_| history(120, &mut random)).collect();
    let at = |p: usize, m: usize, t: usize| calm[p][m][t];
    let sick = |bench: &mut Bench, which: &dyn Fn(usize) -> bool| {
        let mut suspects = Vec::new();
        for t in 0..120 {
            let rows: Vec<Vec<f32>> = (0..6)
                .map(|p| {
                    let off = if which(p) && t > 60 { 9.0 } else { 0.0 };
                    (0..16).map(|m| at(p, m, t) - if m % 4 == 3 { off } else { 0.0 }).collect()
                })
                .collect();
            bench.step(&rows);
            for p in 0..6 {
                if let Reading::Known { alarm: true, .. } = bench.assessor.reading(PartitionIx(p)) {
                    suspects.push(p);
                }
            }
        }
        suspects.sort_unstable();
        suspects.dedup();
        suspects
    };
    assert_eq!(sick(&mut bench, &|p| p == 4), [4]);
    assert_eq!(sick(&mut Bench::new(6), &|_| true), [0u32; 0], "what all do is the load");
}
