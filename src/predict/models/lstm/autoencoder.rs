//! The autoencoder: runs over a batch of windows, and its training. Windows go through it time first,
//! `[step][window][metric]`, as the file's graph has them, too: ONNX's LSTM operator wants them so.

use super::forward::{BATCH, Packed, by_time, dense, reset};
use super::train::{
    Adam, Progress, State, Tape, Training, dense_backward, dense_forward, new_dense, new_layer, squares,
};
use super::{Autoencoder, Dense};
use crate::fleet::rng::Random;

impl Autoencoder {
    /// Metrics of a row.
    pub fn metrics(&self) -> usize {
        self.head.outputs
    }
}

/// The autoencoder, ready to run.
#[derive(Clone, Debug)]
pub struct AutoencoderRun {
    steps: usize,
    encoder: Packed,
    decoder: Packed,
    head: Dense,
}

impl AutoencoderRun {
    /// Of these weights.
    pub fn new(model: &Autoencoder) -> Self {
        Self {
            steps: model.steps,
            encoder: Packed::new(&model.encoder),
            decoder: Packed::new(&model.decoder),
            head: model.head.clone(),
        }
    }

    /// Rebuilds windows: `[step][window][metric]` in and out.
    ///
    /// # Panics
    /// Where `windows` is not a whole number of windows.
    pub fn rebuild(&self, windows: &[f32]) -> Vec<f32> {
        let size = (self.steps * self.encoder.inputs()).max(1);
        assert_eq!(windows.len() % size, 0, "a whole number of windows");
        let count = windows.len() / size;
        let mut out = vec![0f32; windows.len()];
        let mut scratch = Scratch::default();
        for first in (0..count).step_by(BATCH) {
            self.batch(windows, count, first, &mut scratch, &mut out);
        }
        out
    }

    /// Rebuilds [`BATCH`] of `all` windows, from the `first` on.
    fn batch(&self, windows: &[f32], all: usize, first: usize, scratch: &mut Scratch, out: &mut [f32]) {
        let (steps, metrics, cells_each) = (self.steps, self.encoder.inputs(), self.encoder.hidden());
        let count = BATCH.min(all - first);
        let place = |t: usize| (t * all + first) * metrics..(t * all + first + count) * metrics;
        let Scratch { x, gates, step, cells, hidden, tape, rows } = scratch;
        x.clear();
        (0..steps).for_each(|t| x.extend_from_slice(&windows[place(t)]));
        self.encoder.input_gates(x, steps * count, gates);
        reset(cells, count * cells_each);
        reset(hidden, count * cells_each);
        for gates in gates.chunks_exact_mut(count * 4 * cells_each) {
            self.encoder.step(gates, cells, hidden);
        }
        self.decoder.untold_gates(count, gates);
        tape.clear();
        for _ in 0..steps {
            step.clear();
            step.extend_from_slice(gates);
            self.decoder.step(step, cells, hidden);
            tape.extend_from_slice(hidden);
        }
        dense(&self.head, tape, steps * count, rows);
        for (t, rows) in rows.chunks_exact(count * metrics).enumerate() {
            out[place(t)].copy_from_slice(rows);
        }
    }
}

#[derive(Default)]
struct Scratch {
    x: Vec<f32>,
    gates: Vec<f32>,
    step: Vec<f32>,
    cells: Vec<f32>,
    hidden: Vec<f32>,
    tape: Vec<f32>,
    rows: Vec<f32>,
}

/// Trains an autoencoder on windows, `[window][step][metric]`.
pub fn train_autoencoder(
    windows: &[f32],
    metrics: usize,
    training: &Training,
    progress: Progress<'_>,
) -> Autoencoder {
    let mut random = Random::new(training.seed);
    let (steps, hidden) = (training.steps.max(1), training.hidden.max(1));
    let mut model = Autoencoder {
        steps,
        encoder: new_layer(metrics, hidden, &mut random),
        decoder: new_layer(0, hidden, &mut random),
        head: new_dense(hidden, metrics, &mut random),
    };
    let size = steps * metrics;
    let count = windows.len().checked_div(size).unwrap_or(0);
    if count == 0 {
        return model;
    }
    let mut order: Vec<usize> = (0..count).collect();
    let per_epoch = count.div_ceil(training.batch.max(1));
    let mut adam = Adam::new(training, per_epoch);
    let mut targets = Vec::new();
    for epoch in 0..training.epochs {
        shuffle(&mut order, &mut random);
        let (mut loss, mut batches) = (0.0, 0);
        for batch in order.chunks(training.batch.max(1)) {
            by_time(batch.iter().map(|w| &windows[w * size..][..size]), steps, metrics, &mut targets);
            loss += descend(&mut model, &targets, batch.len(), &mut adam);
            batches += 1;
        }
        progress(epoch + 1, training.epochs, loss / batches.max(1) as f32);
    }
    model
}

fn descend(model: &mut Autoencoder, targets: &[f32], count: usize, adam: &mut Adam) -> f32 {
    let (loss, encoder, decoder, head) = derivatives(model, targets, count);
    let Autoencoder { encoder: e, decoder: d, head: h, .. } = model;
    adam.step(
        &mut [&mut e.w, &mut e.r, &mut e.b, &mut d.r, &mut d.b, &mut h.weights, &mut h.bias],
        &[&encoder.w, &encoder.r, &encoder.b, &decoder.r, &decoder.b, &head.weights, &head.bias],
    );
    loss
}

/// The loss of a batch (`[step][window][metric]`) and its derivatives: encoder, decoder, head.
fn derivatives(
    model: &Autoencoder,
    targets: &[f32],
    count: usize,
) -> (f32, super::Layer, super::Layer, Dense) {
    let steps = model.steps;
    let x: Vec<f32> = targets.iter().map(|v| if v.is_nan() { 0.0 } else { *v }).collect();
    let encoded = Tape::run(&model.encoder, &x, steps, count, &State::zero(count, model.encoder.hidden));
    let decoded = Tape::run(&model.decoder, &[], steps, count, &encoded.last_state());
    let told = dense_forward(&model.head, decoded.outputs(), steps * count);
    let (loss, error) = squares(&told, targets);
    let (head, told_back) = dense_backward(&model.head, decoded.outputs(), &error, steps * count);
    let (decoder, remembered) = decoded.back(&model.decoder, &[], Some(&told_back), None);
    let (encoder, _) = encoded.back(&model.encoder, &x, None, Some(remembered));
    (loss, encoder, decoder, head)
}

fn shuffle(order: &mut [usize], random: &mut Random) {
    for at in (1..order.len()).rev() {
        order.swap(at, random.below(at + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::super::train::tests::waves;
    use super::*;

    #[test]
    fn derivatives_agree_with_differences() {
        let mut random = Random::new(3);
        let (steps, metrics, hidden, count) = (5, 3, 4, 2);
        let model = Autoencoder {
            steps,
            encoder: new_layer(metrics, hidden, &mut random),
            decoder: new_layer(0, hidden, &mut random),
            head: new_dense(hidden, metrics, &mut random),
        };
        let targets = waves(count, steps, metrics, 1);
        let (_, encoder, decoder, head) = derivatives(&model, &targets, count);
        let differ = |change: &dyn Fn(&mut Autoencoder, f32)| {
            let (mut up, mut down) = (model.clone(), model.clone());
            change(&mut up, 1e-2);
            change(&mut down, -1e-2);
            let loss = |model| f64::from(derivatives(model, &targets, count).0);
            (loss(&up) - loss(&down)) / 2e-2
        };
        for at in [0, 7, 20, 40] {
            let checks = [
                (differ(&|m, e| m.encoder.w[at] += e), encoder.w[at]),
                (differ(&|m, e| m.encoder.r[at] += e), encoder.r[at]),
                (differ(&|m, e| m.encoder.b[at % 16] += e), encoder.b[at % 16]),
                (differ(&|m, e| m.decoder.r[at] += e), decoder.r[at]),
                (differ(&|m, e| m.decoder.b[at % 16] += e), decoder.b[at % 16]),
                (differ(&|m, e| m.head.weights[at % 12] += e), head.weights[at % 12]),
            ];
            for (want, got) in checks {
                assert!((want - f64::from(got)).abs() < 2e-4, "{want} and {got}");
            }
        }
    }

    #[test]
    fn an_autoencoder_rebuilds_what_it_was_trained_on_and_not_what_is_unlike() {
        let windows = waves(600, 16, 2, 1);
        let training = Training { hidden: 16, epochs: 30, steps: 16, ..Training::default() };
        let mut losses = Vec::new();
        let model = train_autoencoder(&windows, 2, &training, &mut |_, _, loss| losses.push(loss));
        assert!(losses[29] < losses[0] / 5.0, "{losses:?}");
        let run = AutoencoderRun::new(&model);
        let error = |windows: &[f32]| {
            let mut x = Vec::new();
            by_time(windows.chunks_exact(32), 16, 2, &mut x);
            run.rebuild(&x).iter().zip(&x).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / x.len() as f32
        };
        let mut odd = waves(10, 16, 2, 7);
        odd.iter_mut().skip(5).step_by(7).for_each(|x| *x = -*x + 1.0);
        assert!(error(&odd) > 4.0 * error(&waves(10, 16, 2, 8)));
        let again = train_autoencoder(&windows, 2, &training, &mut |_, _, _| {});
        assert_eq!(again, model, "the same seed trains the same model");
    }

    #[test]
    fn a_window_is_rebuilt_the_same_whoever_stands_beside_it() {
        let training = Training { hidden: 8, epochs: 0, steps: 6, ..Training::default() };
        let run = AutoencoderRun::new(&train_autoencoder(&[], 3, &training, &mut |_, _, _| {}));
        // More than one batch, the last of them not full.
        let (windows, count) = (waves(150, 6, 3, 4), 150);
        let mut x = Vec::new();
        by_time(windows.chunks_exact(18), 6, 3, &mut x);
        let together = run.rebuild(&x);
        for window in [0, 63, 64, 149] {
            // One window alone reads the same, time first or not.
            let alone = run.rebuild(&windows[window * 18..(window + 1) * 18]);
            for t in 0..6 {
                let there = &together[(t * count + window) * 3..][..3];
                for (a, b) in there.iter().zip(&alone[t * 3..]) {
                    assert!((a - b).abs() < 1e-6, "window {window}, step {t}: {a} and {b}");
                }
            }
        }
    }

    #[test]
    fn gaps_and_no_data_are_borne() {
        let mut windows = waves(70, 16, 2, 1);
        windows.iter_mut().step_by(9).for_each(|x| *x = f32::NAN);
        let training = Training { hidden: 4, epochs: 2, steps: 16, ..Training::default() };
        let model = train_autoencoder(&windows, 2, &training, &mut |_, _, _| {});
        assert!(model.encoder.w.iter().all(|w| w.is_finite()));
        train_autoencoder(&[], 2, &training, &mut |_, _, _| {});
    }
}
