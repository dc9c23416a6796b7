//! The LSTM autoencoder over every partition: how badly does it rebuild the last minutes of all metrics,
//! having learnt from healthy partitions only?
//!
//! One batch a cycle through whatever runtime there is: partitions that are unusual by themselves, then
//! those whose turn it is (partition `p` in cycle `c` where `(c + p) mod` [`EVERY`] `= 0`), at most
//! [`BUDGET`]. An error far over that of healthy partitions costs points of health beside those of the
//! single metrics; probabilities do not rest on it. (Malhotra et al. 2016, "LSTM-based encoder-decoder for
//! multi-sensor anomaly detection".)

use std::sync::Mutex;

use super::assess::Assessor;
use super::failure::{FeatureSpec, live};
use super::health;
use super::models::ModelError;
use super::models::runtime::{Runtime, Session, Tensor};
use super::train::Card;
use crate::telemetry::{PartitionIx, Windows};

/// Every partition has its turn once in so many cycles.
pub const EVERY: u64 = 30;
/// Most partitions in one cycle.
pub const BUDGET: usize = 512;
/// Partitions this far from their normal are looked at in every cycle.
const UNUSUAL: f32 = 5.0;
/// An error counts from so many times the mean error of healthy partitions on.
const COUNTS_FROM: f32 = 4.0;
/// Log-odds that a window rebuilt very badly adds at most.
const MOST_ODDS: f64 = 3.0;

/// An autoencoder that is ready to run.
pub struct Rebuilder {
    session: Mutex<Box<dyn Session>>,
    spec: FeatureSpec,
    steps: usize,
    /// Mean squared error of healthy partitions.
    usual: f32,
}

impl std::fmt::Debug for Rebuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rebuilder")
            .field("steps", &self.steps)
            .field("usual", &self.usual)
            .finish_non_exhaustive()
    }
}

impl Rebuilder {
    /// Makes the file ready on that runtime.
    ///
    /// # Errors
    /// The file is no autoencoder of the card's metrics, or the card does not say how well healthy
    /// partitions are rebuilt.
    pub fn open(runtime: &dyn Runtime, onnx: &[u8], card: &Card) -> Result<Self, ModelError> {
        let wrong = |detail: String| ModelError::Card { file: card.title.clone(), detail };
        let session = runtime.load(onnx, &card.title)?;
        let steps = match session.inputs() {
            [slot] => match slot.shape[..] {
                [None, Some(steps), Some(metrics)] if metrics == card.features.metrics.len() => steps,
                _ => return Err(wrong(format!("it takes {:?}, not [any, steps, metrics]", slot.shape))),
            },
            all => return Err(wrong(format!("it takes {} tensors, one was expected", all.len()))),
        };
        let usual = card.measures.get("mean_error_of_healthy").copied().unwrap_or(f64::NAN) as f32;
        if usual.is_nan() || usual <= 0.0 {
            return Err(wrong("measures.mean_error_of_healthy must be a number over 0".into()));
        }
        Ok(Self { session: Mutex::new(session), spec: card.features.clone(), steps, usual })
    }

    /// Errors of the windows, in units of that of healthy partitions.
    fn errors(&self, windows: Vec<f32>) -> Result<Vec<f32>, ModelError> {
        let size = self.steps * self.spec.metrics.len();
        let input = Tensor::new([windows.len() / size.max(1), self.steps, self.spec.metrics.len()], windows);
        let input = [input];
        let mut session = self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let rebuilt = session.run(&input)?;
        let rows = input[0].values.chunks_exact(size).zip(rebuilt[0].values.chunks_exact(size));
        Ok(rows
            .map(|(a, b)| {
                a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>() / size as f32 / self.usual
            })
            .collect())
    }
}

impl Assessor {
    /// From now on this autoencoder watches the course of every partition.
    pub fn set_rebuilder(&mut self, rebuilder: Rebuilder) {
        self.rebuilder = Some(rebuilder);
    }

    /// Rebuilds the windows of the partitions that are due.
    pub(super) fn rebuild_due(&mut self, windows: &Windows) {
        let Some(rebuilder) = &self.rebuilder else { return };
        let count = windows.partitions().len();
        let mut due: Vec<(bool, u32)> = (0..count)
            .filter(|&p| self.rows[p].gap.is_none())
            .map(|p| (self.rows[p].instability < UNUSUAL, p as u32))
            .filter(|&(calm, p)| !calm || (self.cycle + u64::from(p)).is_multiple_of(EVERY))
            .collect();
        due.sort_unstable();
        due.truncate(BUDGET);
        let size = rebuilder.steps * rebuilder.spec.metrics.len();
        let (mut batch, mut whose) = (Vec::with_capacity(due.len() * size), Vec::with_capacity(due.len()));
        for (_, p) in due {
            match live::window_of(&rebuilder.spec, self, windows, PartitionIx(p), rebuilder.steps) {
                Some(window) => {
                    batch.extend_from_slice(&window);
                    whose.push(p);
                }
                None => self.rows[p as usize].rebuilt = 0.0,
            }
        }
        if whose.is_empty() {
            return;
        }
        match rebuilder.errors(batch) {
            Ok(errors) => {
                for (p, error) in whose.into_iter().zip(errors) {
                    self.rows[p as usize].rebuilt = if error.is_finite() { error } else { 0.0 };
                }
            }
            Err(error) => {
                // The reasons and scores of metrics go on without it.
                tracing::error!(%error, "the autoencoder cannot run and is left out from now on");
                self.rebuilder = None;
                self.rows.iter_mut().for_each(|row| row.rebuilt = 0.0);
            }
        }
    }

    /// Takes the points of a course that is unlike a healthy one off the health scores, with the reason.
    pub(super) fn weigh_rebuilt(&mut self) {
        for (out, row) in self.assessments.iter_mut().zip(&self.rows) {
            let over = f64::from(row.rebuilt / COUNTS_FROM);
            if over <= 1.0 {
                continue;
            }
            let words = format!(
                "the course of its last minutes is unlike a healthy one: the autoencoder's error is {:.0} × the usual",
                row.rebuilt
            );
            out.take_off("course", health::saturated(over, MOST_ODDS), words);
        }
    }
}
