//! Does the LSTM voter earn its place? Both scores are held to anomalies that are put into the last fifth
//! of the history, which neither was fitted on: no label is needed, and none of a test is seen.

use super::model::AnomalyModel;
use super::scaler::{Scaler, Scaling};
use super::sequence::{Sequence, Sequencing};
use crate::fleet::rng::Random;
use crate::predict::failure::quality::average_precision;

/// Times that anomalies are put in anew.
const DRAWS: u64 = 3;
/// One anomaly in so many rows.
const ROWS_PER_EVENT: usize = 400;

/// Whether the score with an LSTM voter, its own trained half as long on the first four fifths, tells anomalies in
/// the rest better than `linear`, which was fitted on the same rows, does alone.
pub(super) fn is_won(linear: &AnomalyModel, columns: &[&[f32]], sequencing: Sequencing<'_>) -> bool {
    let cut = cut_of(columns);
    let early: Vec<&[f32]> = columns.iter().map(|c| &c[..cut]).collect();
    let Some(sequence) = Sequence::fit(&early, sequencing.halved()) else { return false };
    let with = linear.clone().with_sequence(sequence);
    let scale = Scaler::fit(&early, Scaling::Deviation);
    let scales: Vec<f32> = (0..columns.len()).map(|m| scale.scale(m)).collect();
    let mut random = Random::new(sequencing.seed()).fork("trial");
    let mut sums = [0f64; 2];
    for _ in 0..DRAWS {
        let mut held: Vec<Vec<f32>> = columns.iter().map(|c| c[cut..].to_vec()).collect();
        let truth = put_in(&mut held, &scales, &mut random);
        let held: Vec<&[f32]> = held.iter().map(Vec::as_slice).collect();
        for (sum, model) in sums.iter_mut().zip([linear, &with]) {
            let Ok(scores) = model.score_columns(&held) else { return false };
            let score: Vec<f64> = scores.score.iter().map(|&s| f64::from(s)).collect();
            *sum += average_precision(&score, &truth);
        }
    }
    sums[1] > sums[0]
}

/// Rows that are learnt from in a trial.
pub(super) fn cut_of(columns: &[&[f32]]) -> usize {
    columns.first().map_or(0, |c| c.len() / 5 * 4)
}

/// Puts anomalies of 5 to 100 rows into some of the metrics: moved, drifting, of another time, frozen, or
/// noisy, by one to five deviations. Gives the rows that they stand in.
fn put_in(columns: &mut [Vec<f32>], scales: &[f32], random: &mut Random) -> Vec<bool> {
    let (metrics, rows) = (columns.len(), columns[0].len());
    let clean: Vec<Vec<f32>> = columns.to_vec();
    let mut truth = vec![false; rows];
    let events = (rows / ROWS_PER_EVENT).max(4);
    let slot = rows / events;
    for event in 0..events {
        let len = (10f64.powf(random.between(0.7, 2.0)) as usize).min(slot / 2);
        let from = event * slot + random.below(slot - len);
        let (size, kind) = (random.between(1.0, 5.0), random.below(5));
        for _ in 0..=random.below(metrics / 3 + 1) {
            let m = random.below(metrics);
            let sign = if random.chance(0.7) { size } else { -size };
            let lag = 200 + random.below(rows / 2);
            for t in from..from + len {
                let x = clean[m][t];
                let moved = |by: f64| x + by as f32 * scales[m];
                columns[m][t] = match kind {
                    0 => moved(sign),
                    1 => moved(sign * (t - from + 1) as f64 / len as f64),
                    2 => clean[m][(t + lag) % rows],
                    3 => clean[m][from],
                    _ => moved(0.7 * size * random.normal()),
                };
            }
        }
        truth[from..from + len].fill(true);
    }
    truth
}
