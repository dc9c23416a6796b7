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
use super::models::lstm::forward::by_time;
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
    /// It wants `[step][window][metric]`, as ours do; a person's own may want windows first.
    time_first: bool,
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
        let (steps, time_first) = match session.inputs() {
            [slot] => match slot.shape[..] {
                [Some(steps), None, Some(metrics)] if metrics == card.features.metrics.len() => (steps, true),
                [None, Some(steps), Some(metrics)] if metrics == card.features.metrics.len() => {
                    (steps, false)
                }
                _ => {
                    let detail = format!(
                        "it takes {:?}, not [steps, any, metrics] or [any, steps, metrics]",
                        slot.shape
                    );
                    return Err(wrong(detail));
                }
            },
            all => return Err(wrong(format!("it takes {} tensors, one was expected", all.len()))),
        };
        if steps == 0 || card.features.metrics.is_empty() {
            return Err(wrong("a window of it holds no numbers".into()));
        }
        let usual = card.measures.get("mean_error_of_healthy").copied().unwrap_or(f64::NAN) as f32;
        if usual.is_nan() || usual <= 0.0 {
            return Err(wrong("measures.mean_error_of_healthy must be a number over 0".into()));
        }
        Ok(Self { session: Mutex::new(session), spec: card.features.clone(), steps, time_first, usual })
    }

    /// Errors of the windows (`[window][step][metric]`), in units of that of healthy partitions.
    fn errors(&self, windows: Vec<f32>) -> Result<Vec<f32>, ModelError> {
        let metrics = self.spec.metrics.len();
        let count = windows.len() / (self.steps * metrics).max(1);
        let input = if self.time_first {
            let mut turned = Vec::with_capacity(windows.len());
            by_time(windows.chunks_exact(self.steps * metrics), self.steps, metrics, &mut turned);
            Tensor::new([self.steps, count, metrics], turned)
        } else {
            Tensor::new([count, self.steps, metrics], windows)
        };
        let input = [input];
        let mut session = self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let rebuilt = session.run(&input)?;
        let mut errors = vec![0f32; count];
        let rows = input[0].values.chunks_exact(metrics).zip(rebuilt[0].values.chunks_exact(metrics));
        for (at, (a, b)) in rows.enumerate() {
            let window = if self.time_first { at % count } else { at / self.steps };
            errors[window] += a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        }
        let usual = (self.steps * metrics) as f32 * self.usual;
        errors.iter_mut().for_each(|e| *e /= usual);
        Ok(errors)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::models::runtime::Slot;

    /// Rebuilds every number of window `w` as `w` more than it is.
    struct Off {
        inputs: Vec<Slot>,
        windows: usize,
    }

    impl Runtime for [Option<usize>; 3] {
        fn name(&self) -> String {
            "of a test".into()
        }

        fn load(&self, _: &[u8], _: &str) -> Result<Box<dyn Session>, ModelError> {
            let windows = self.iter().position(Option::is_none).unwrap_or(0);
            Ok(Box::new(Off { inputs: vec![Slot { name: "windows".into(), shape: self.to_vec() }], windows }))
        }
    }

    impl Session for Off {
        fn inputs(&self) -> &[Slot] {
            &self.inputs
        }

        fn outputs(&self) -> &[Slot] {
            &self.inputs
        }

        fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
            let shape = &inputs[0].shape;
            let below: usize = shape[self.windows + 1..].iter().product();
            let off = |at: usize| (at / below % shape[self.windows]) as f32;
            let values = inputs[0].values.iter().enumerate().map(|(at, x)| x + off(at)).collect();
            Ok(vec![Tensor::new(shape.clone(), values)])
        }
    }

    #[test]
    fn an_error_is_that_of_its_window_whichever_way_round_a_file_wants_them() {
        let mut card = crate::predict::failure::open(None).unwrap().autoencoder.unwrap().1;
        card.features.metrics.truncate(3);
        card.measures.insert("mean_error_of_healthy".into(), 0.5);
        let windows: Vec<f32> = (0..4 * 5 * 3).map(|n| n as f32).collect();
        for shape in [[Some(5), None, Some(3)], [None, Some(5), Some(3)]] {
            let rebuilder = Rebuilder::open(&shape, &[], &card).unwrap();
            assert_eq!(rebuilder.errors(windows.clone()).unwrap(), [0.0, 2.0, 8.0, 18.0], "{shape:?}");
        }
        let odd = Rebuilder::open(&[None, Some(5), Some(4)], &[], &card).unwrap_err().to_string();
        let none = Rebuilder::open(&[None, Some(0), Some(3)], &[], &card).unwrap_err().to_string();
        assert!(none.contains("holds no numbers"), "{none}");
        assert!(odd.contains("not [steps, any, metrics] or [any, steps, metrics]"), "{odd}");
    }
}
