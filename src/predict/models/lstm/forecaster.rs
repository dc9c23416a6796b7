//! The forecaster: runs over a batch of windows, and its training. One layer reads the window, a few values
//! a step; a dense layer on what it has in the end says all steps ahead at once (direct multi-horizon: no
//! step rests on what was said of the one before).

use super::forward::{BATCH, Packed, by_time, dense, reset};
use super::train::{
    Adam, Progress, State, Tape, Training, dense_backward, dense_forward, new_dense, new_layer,
};
use super::{Dense, Forecaster};
use crate::fleet::rng::Random;

impl Forecaster {
    /// Numbers of one step.
    pub fn inputs(&self) -> usize {
        self.layer.inputs
    }

    /// Steps ahead.
    pub fn ahead(&self) -> usize {
        self.head.outputs
    }
}

/// A forecaster, ready to run.
#[derive(Clone, PartialEq, Debug)]
pub struct ForecasterRun {
    steps: usize,
    layer: Packed,
    head: Dense,
}

impl ForecasterRun {
    /// Of these weights.
    pub fn new(model: &Forecaster) -> Self {
        Self { steps: model.steps, layer: Packed::new(&model.layer), head: model.head.clone() }
    }

    /// The network, as it stands in a file.
    pub fn forecaster(&self) -> Forecaster {
        Forecaster { steps: self.steps, layer: self.layer.layer(), head: self.head.clone() }
    }

    /// Cells.
    pub fn cells(&self) -> usize {
        self.layer.hidden()
    }

    /// What follows windows (`[window][step][input]`): `[window][ahead]`.
    ///
    /// # Panics
    /// Where `windows` is not a whole number of windows.
    pub fn ahead_of(&self, windows: &[f32]) -> Vec<f32> {
        let size = (self.steps * self.layer.inputs()).max(1);
        assert_eq!(windows.len() % size, 0, "a whole number of windows");
        let mut out = Vec::with_capacity(windows.len() / size * self.head.outputs);
        let (mut x, mut gates, mut cells, mut hidden, mut rows) = Default::default();
        for batch in windows.chunks(BATCH * size) {
            let count = batch.len() / size;
            by_time(batch.chunks_exact(size), self.steps, self.layer.inputs(), &mut x);
            self.layer.input_gates(&x, self.steps * count, &mut gates);
            reset(&mut cells, count * self.layer.hidden());
            reset(&mut hidden, count * self.layer.hidden());
            for gates in gates.chunks_exact_mut((count * 4 * self.layer.hidden()).max(1)) {
                self.layer.step(gates, &mut cells, &mut hidden);
            }
            dense(&self.head, &hidden, count, &mut rows);
            out.extend_from_slice(&rows);
        }
        out
    }
}

/// Where training takes its windows from: appends one window (`[step][input]`) and what follows it
/// (`[ahead]`, NaN = not known, counts nothing).
pub type Draw<'a> = &'a mut dyn FnMut(&mut Random, &mut Vec<f32>, &mut Vec<f32>);

/// Errors beyond this count by their size, smaller ones by their square (Huber 1964): a spike is not to
/// lead the weights.
const HUBER: f32 = 1.0;

/// Trains a forecaster of `inputs` numbers a step and `ahead` values said, over `training.steps` steps a
/// window, with `batches` batches an epoch of what `draw` gives. The head begins at nought: the untrained
/// network says nothing but its base.
pub fn train_forecaster(
    (inputs, ahead): (usize, usize),
    training: &Training,
    batches: usize,
    draw: Draw<'_>,
    progress: Progress<'_>,
) -> Forecaster {
    let mut random = Random::new(training.seed);
    let (steps, hidden) = (training.steps.max(1), training.hidden.max(1));
    let layer = new_layer(inputs, hidden, &mut random);
    let mut head = new_dense(hidden, ahead, &mut random);
    head.weights.fill(0.0);
    let mut model = Forecaster { steps, layer, head };
    let mut adam = Adam::new(training, batches);
    let count = training.batch.max(1);
    let (mut windows, mut targets, mut x) = (Vec::new(), Vec::new(), Vec::new());
    for epoch in 0..training.epochs {
        let mut loss = 0.0;
        for _ in 0..batches {
            windows.clear();
            targets.clear();
            (0..count).for_each(|_| draw(&mut random, &mut windows, &mut targets));
            by_time(windows.chunks_exact((steps * inputs).max(1)), steps, inputs, &mut x);
            loss += descend(&mut model, &x, &targets, count, &mut adam);
        }
        progress(epoch + 1, training.epochs, loss / batches.max(1) as f32);
    }
    model
}

fn descend(model: &mut Forecaster, x: &[f32], targets: &[f32], count: usize, adam: &mut Adam) -> f32 {
    let (steps, hidden) = (model.steps, model.layer.hidden);
    let tape = Tape::run(&model.layer, x, steps, count, &State::zero(count, hidden));
    let told = dense_forward(&model.head, tape.last_hidden(), count);
    let (loss, error) = huber(&told, targets);
    let (head, last) = dense_backward(&model.head, tape.last_hidden(), &error, count);
    let last = State { cells: vec![0.0; last.len()], hidden: last };
    let (layer, _) = tape.back(&model.layer, x, None, Some(last));
    let Forecaster { layer: l, head: h, .. } = model;
    adam.step(
        &mut [&mut l.w, &mut l.r, &mut l.b, &mut h.weights, &mut h.bias],
        &[&layer.w, &layer.r, &layer.b, &head.weights, &head.bias],
    );
    loss
}

/// Mean Huber loss over the targets that are there, and its derivative.
fn huber(told: &[f32], targets: &[f32]) -> (f32, Vec<f32>) {
    let there = targets.iter().filter(|t| !t.is_nan()).count().max(1) as f32;
    let mut loss = 0f32;
    let error = told
        .iter()
        .zip(targets)
        .map(|(y, t)| {
            let e = if t.is_nan() { 0.0 } else { y - t };
            let near = e.clamp(-HUBER, HUBER);
            loss += near * (e - near / 2.0);
            near / there
        })
        .collect();
    (loss / there, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_a_square_near_nought_and_straight_beyond() {
        let (loss, slope) = huber(&[0.5, 3.0, 1.0], &[0.0, 0.0, f32::NAN]);
        assert!((loss - (0.125 + 2.5) / 2.0).abs() < 1e-6, "{loss}");
        assert_eq!(slope, [0.25, 0.5, 0.0]);
    }

    #[test]
    fn derivatives_agree_with_differences() {
        let mut random = Random::new(4);
        let (steps, inputs, hidden, ahead, count) = (4, 2, 3, 2, 5);
        let model = Forecaster {
            steps,
            layer: new_layer(inputs, hidden, &mut random),
            head: new_dense(hidden, ahead, &mut random),
        };
        let windows: Vec<f32> = (0..count * steps * inputs).map(|_| random.normal() as f32).collect();
        let targets: Vec<f32> = (0..count * ahead).map(|_| random.normal() as f32).collect();
        let mut x = Vec::new();
        by_time(windows.chunks_exact((steps * inputs).max(1)), steps, inputs, &mut x);
        // The tape's outputs are what the kernels run: the same numbers from windows as they stand in a file.
        let loss = |m: &Forecaster| f64::from(huber(&ForecasterRun::new(m).ahead_of(&windows), &targets).0);
        let tape = Tape::run(&model.layer, &x, steps, count, &State::zero(count, hidden));
        let told = dense_forward(&model.head, tape.last_hidden(), count);
        let (_, error) = huber(&told, &targets);
        let (head, last) = dense_backward(&model.head, tape.last_hidden(), &error, count);
        let last = State { cells: vec![0.0; last.len()], hidden: last };
        let (layer, _) = tape.back(&model.layer, &x, None, Some(last));
        let differ = |change: &dyn Fn(&mut Forecaster, f32)| {
            let (mut up, mut down) = (model.clone(), model.clone());
            change(&mut up, 1e-2);
            change(&mut down, -1e-2);
            (loss(&up) - loss(&down)) / 2e-2
        };
        for at in [0, 5, 11] {
            for (want, got) in [
                (differ(&|m, e| m.layer.w[at] += e), layer.w[at]),
                (differ(&|m, e| m.layer.r[at] += e), layer.r[at]),
                (differ(&|m, e| m.layer.b[at] += e), layer.b[at]),
                (differ(&|m, e| m.head.weights[at % 6] += e), head.weights[at % 6]),
            ] {
                assert!((want - f64::from(got)).abs() < 5e-4, "{want} and {got}");
            }
        }
    }
}
