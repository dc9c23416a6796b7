//! Training by back-propagation through time (Werbos 1990) and Adam (Kingma and Ba 2015), on one
//! thread, deterministic by seed. Losses are mean squares over the numbers that are there: a target
//! that is NaN counts nothing, an input that is NaN is fed as 0, the normal.

use super::forward::transpose;
use super::kernel::{multiply_add, step_gates};
use super::{Dense, Layer, Predictor};
use crate::fleet::rng::Random;

/// How a network is trained.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Training {
    /// Cells of a layer.
    pub hidden: usize,
    /// Passes over the data.
    pub epochs: usize,
    /// Windows or streams that are learnt from together.
    pub batch: usize,
    /// Steps of a window; of the predictor, steps that an error is traced back.
    pub steps: usize,
    /// Adam's rate at the start; it falls to a tenth along half a cosine.
    pub rate: f32,
    /// Seed of weights and order.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self { hidden: 32, epochs: 5, batch: 64, steps: 32, rate: 1e-2, seed: 0 }
    }
}

/// What is called after each epoch: its number from 1, of how many, and the mean loss.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize, f32);

/// Trains a one-step predictor on rows, `[time][metric]`: the series is cut into as many streams as
/// a batch holds, each carries its memory on, and errors are traced back over `steps` steps.
pub fn train_predictor(
    rows: &[f32],
    metrics: usize,
    training: &Training,
    progress: Progress<'_>,
) -> Predictor {
    let mut random = Random::new(training.seed);
    let hidden = training.hidden.max(1);
    let mut model = Predictor {
        layer: new_layer(metrics, hidden, &mut random),
        head: new_dense(hidden, metrics, &mut random),
    };
    let count = rows.len().checked_div(metrics).unwrap_or(0);
    let steps = training.steps.max(1);
    let streams = training.batch.max(1).min((count / (steps + 1)).max(1));
    let length = count / streams;
    if length < 2 {
        return model;
    }
    let chunks = (length - 1).div_ceil(steps);
    let mut adam = Adam::new(training, chunks);
    for epoch in 0..training.epochs {
        // Other cuts in every epoch, so that no row is always the first.
        let slack = count - streams * length;
        let offset = random.below(slack + 1);
        let mut state = State::zero(streams, hidden);
        let mut loss = 0.0;
        for chunk in 0..chunks {
            let from = chunk * steps;
            let taken = steps.min(length - 1 - from);
            let at = |t: usize, stream: usize| {
                let row = offset + stream * length + from + t;
                &rows[row * metrics..(row + 1) * metrics]
            };
            let gather = |shift: usize| -> Vec<f32> {
                (0..taken).flat_map(|t| (0..streams).flat_map(move |s| at(t + shift, s))).copied().collect()
            };
            let x: Vec<f32> = gather(0).iter().map(|v| if v.is_nan() { 0.0 } else { *v }).collect();
            let targets = gather(1);
            let tape = Tape::run(&model.layer, &x, taken, streams, &state);
            let told = dense_forward(&model.head, tape.outputs(), taken * streams);
            let (part, error) = squares(&told, &targets);
            loss += part;
            let (head, back) = dense_backward(&model.head, tape.outputs(), &error, taken * streams);
            let (layer, _) = tape.back(&model.layer, &x, Some(&back), None);
            state = tape.last_state();
            let Predictor { layer: l, head: h } = &mut model;
            adam.step(
                &mut [&mut l.w, &mut l.r, &mut l.b, &mut h.weights, &mut h.bias],
                &[&layer.w, &layer.r, &layer.b, &head.weights, &head.bias],
            );
        }
        progress(epoch + 1, training.epochs, loss / chunks as f32);
    }
    model
}

/// Uniform within `1 / √hidden`, as PyTorch begins; the forget gate's bias at 1 (Jozefowicz et al.
/// 2015).
pub(super) fn new_layer(inputs: usize, hidden: usize, random: &mut Random) -> Layer {
    let bound = 1.0 / (hidden as f64).sqrt();
    let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| random.between(-bound, bound) as f32).collect() };
    let (w, r, mut b) = (draw(4 * hidden * inputs), draw(4 * hidden * hidden), draw(4 * hidden));
    b[2 * hidden..3 * hidden].fill(1.0);
    Layer { inputs, hidden, w, r, b }
}

pub(super) fn new_dense(inputs: usize, outputs: usize, random: &mut Random) -> Dense {
    let bound = 1.0 / (inputs as f64).sqrt();
    let weights = (0..inputs * outputs).map(|_| random.between(-bound, bound) as f32).collect();
    Dense { inputs, outputs, weights, bias: vec![0.0; outputs] }
}

/// Mean square over the targets that are there, and its derivative.
pub(super) fn squares(told: &[f32], targets: &[f32]) -> (f32, Vec<f32>) {
    let there = targets.iter().filter(|t| !t.is_nan()).count().max(1) as f32;
    let mut loss = 0f32;
    let error = told
        .iter()
        .zip(targets)
        .map(|(y, t)| {
            let e = if t.is_nan() { 0.0 } else { y - t };
            loss += e * e;
            2.0 * e / there
        })
        .collect();
    (loss / there, error)
}

/// Of each row of a batch, `[row][hidden]`: what a layer remembers, or the derivatives of that.
pub(super) struct State {
    pub(super) cells: Vec<f32>,
    pub(super) hidden: Vec<f32>,
}

impl State {
    pub(super) fn zero(count: usize, hidden: usize) -> Self {
        Self { cells: vec![0.0; count * hidden], hidden: vec![0.0; count * hidden] }
    }
}

/// What a forward pass leaves for the way back: activations of the gates `[step][row][4 hidden]`,
/// cells and outputs `[step + 1][row][hidden]`, the state before at 0.
pub(super) struct Tape {
    count: usize,
    hidden: usize,
    gates: Vec<f32>,
    cells: Vec<f32>,
    states: Vec<f32>,
}

impl Tape {
    pub(super) fn run(layer: &Layer, x: &[f32], steps: usize, count: usize, before: &State) -> Self {
        let hidden = layer.hidden;
        let (size, wide) = (count * hidden, count * 4 * hidden);
        let (w, r) = (transpose(&layer.w, 4 * hidden, layer.inputs), transpose(&layer.r, 4 * hidden, hidden));
        let mut gates = layer.b.repeat(steps * count);
        multiply_add(&mut gates, x, &w, (steps * count, layer.inputs, 4 * hidden));
        let mut cells = before.cells.clone();
        let mut states = before.hidden.clone();
        cells.resize((steps + 1) * size, 0.0);
        states.resize((steps + 1) * size, 0.0);
        for t in 0..steps {
            let gates = &mut gates[t * wide..(t + 1) * wide];
            let (old, new) = states.split_at_mut((t + 1) * size);
            multiply_add(gates, &old[t * size..], &r, (count, hidden, 4 * hidden));
            let (old_cells, new_cells) = cells.split_at_mut((t + 1) * size);
            new_cells[..size].copy_from_slice(&old_cells[t * size..]);
            step_gates(gates, &mut new_cells[..size], &mut new[..size], hidden);
        }
        Self { count, hidden, gates, cells, states }
    }

    fn size(&self) -> usize {
        self.count * self.hidden
    }

    pub(super) fn outputs(&self) -> &[f32] {
        &self.states[self.size()..]
    }

    pub(super) fn last_hidden(&self) -> &[f32] {
        &self.states[self.states.len() - self.size()..]
    }

    pub(super) fn last_state(&self) -> State {
        let cells = self.cells[self.cells.len() - self.size()..].to_vec();
        State { cells, hidden: self.last_hidden().to_vec() }
    }

    /// Derivatives of the weights and of the state before the first step, from those of the outputs (none:
    /// nothing reads them) and of the state after the last step (none: nothing reads that).
    pub(super) fn back(
        &self,
        layer: &Layer,
        x: &[f32],
        outputs: Option<&[f32]>,
        last: Option<State>,
    ) -> (Layer, State) {
        let (size, hidden, count) = (self.size(), self.hidden, self.count);
        let wide = 4 * hidden;
        let steps = self.gates.len() / (count * wide);
        let mut slopes = vec![0f32; self.gates.len()];
        let State { cells: mut cells_back, hidden: mut hidden_back } =
            last.unwrap_or_else(|| State::zero(count, hidden));
        for t in (0..steps).rev() {
            if let Some(outputs) = outputs {
                for (h, o) in hidden_back.iter_mut().zip(&outputs[t * size..(t + 1) * size]) {
                    *h += o;
                }
            }
            let gates = &self.gates[t * count * wide..(t + 1) * count * wide];
            let slopes = &mut slopes[t * count * wide..(t + 1) * count * wide];
            let before = &self.cells[t * size..(t + 1) * size];
            let after = &self.cells[(t + 1) * size..(t + 2) * size];
            for row in 0..count {
                let g = &gates[row * wide..(row + 1) * wide];
                let s = &mut slopes[row * wide..(row + 1) * wide];
                let span = row * hidden..(row + 1) * hidden;
                step_back(
                    g,
                    s,
                    (&before[span.clone()], &after[span.clone()]),
                    (&mut cells_back[span.clone()], &hidden_back[span]),
                );
            }
            hidden_back.fill(0.0);
            multiply_add(&mut hidden_back, slopes, &layer.r, (count, wide, hidden));
        }
        let mut grown = Layer {
            inputs: layer.inputs,
            hidden,
            w: vec![0.0; layer.w.len()],
            r: vec![0.0; layer.r.len()],
            b: vec![0.0; wide],
        };
        let turned = transpose(&slopes, steps * count, wide);
        multiply_add(&mut grown.w, &turned, x, (wide, steps * count, layer.inputs));
        multiply_add(&mut grown.r, &turned, &self.states[..steps * size], (wide, steps * count, hidden));
        for row in slopes.chunks_exact(wide) {
            for (b, s) in grown.b.iter_mut().zip(row) {
                *b += s;
            }
        }
        (grown, State { cells: cells_back, hidden: hidden_back })
    }
}

/// One row's way back through a cell: `gates` are activations, `slopes` become derivatives of the
/// sums before them; `cells_back` is carried on to the step before.
fn step_back(
    gates: &[f32],
    slopes: &mut [f32],
    (before, after): (&[f32], &[f32]),
    (cells_back, hidden_back): (&mut [f32], &[f32]),
) {
    let n = before.len();
    let (i, rest) = gates.split_at(n);
    let (o, rest) = rest.split_at(n);
    let (f, g) = rest.split_at(n);
    let (si, rest) = slopes.split_at_mut(n);
    let (so, rest) = rest.split_at_mut(n);
    let (sf, sg) = rest.split_at_mut(n);
    for h in 0..n {
        // The output's activation is at hand: tanh(c) anew is dearer than it looks, so by parts.
        let squashed = after[h].tanh();
        let cell = cells_back[h] + hidden_back[h] * o[h] * (1.0 - squashed * squashed);
        si[h] = cell * g[h] * i[h] * (1.0 - i[h]);
        so[h] = hidden_back[h] * squashed * o[h] * (1.0 - o[h]);
        sf[h] = cell * before[h] * f[h] * (1.0 - f[h]);
        sg[h] = cell * i[h] * (1.0 - g[h] * g[h]);
        cells_back[h] = cell * f[h];
    }
}

pub(super) fn dense_forward(layer: &Dense, x: &[f32], rows: usize) -> Vec<f32> {
    let mut out = layer.bias.repeat(rows);
    multiply_add(&mut out, x, &layer.weights, (rows, layer.inputs, layer.outputs));
    out
}

pub(super) fn dense_backward(layer: &Dense, x: &[f32], error: &[f32], rows: usize) -> (Dense, Vec<f32>) {
    let (inputs, outputs) = (layer.inputs, layer.outputs);
    let mut grown = Dense { inputs, outputs, weights: vec![0.0; inputs * outputs], bias: vec![0.0; outputs] };
    let turned = transpose(x, rows, inputs);
    multiply_add(&mut grown.weights, &turned, error, (inputs, rows, outputs));
    for row in error.chunks_exact(outputs) {
        for (b, e) in grown.bias.iter_mut().zip(row) {
            *b += e;
        }
    }
    let mut back = vec![0f32; x.len()];
    let turned = transpose(&layer.weights, inputs, outputs);
    multiply_add(&mut back, error, &turned, (rows, outputs, inputs));
    (grown, back)
}

/// Adam with clipped gradients (norm 1) and a rate that falls.
pub(super) struct Adam {
    rate: f32,
    total: f32,
    done: i32,
    moments: Vec<(Vec<f32>, Vec<f32>)>,
}

impl Adam {
    pub(super) fn new(training: &Training, steps_per_epoch: usize) -> Self {
        let total = (training.epochs * steps_per_epoch).max(1) as f32;
        Self { rate: training.rate, total, done: 0, moments: Vec::new() }
    }

    pub(super) fn step(&mut self, weights: &mut [&mut Vec<f32>], gradients: &[&Vec<f32>]) {
        if self.moments.is_empty() {
            self.moments = gradients.iter().map(|g| (vec![0.0; g.len()], vec![0.0; g.len()])).collect();
        }
        let norm: f32 = gradients.iter().flat_map(|g| g.iter()).map(|g| g * g).sum::<f32>().sqrt();
        if !norm.is_finite() {
            return;
        }
        let clip = 1.0 / norm.max(1.0);
        let share = (self.done as f32 / self.total).min(1.0);
        let rate = self.rate * (0.55 + 0.45 * (std::f32::consts::PI * share).cos());
        self.done += 1;
        let (fade1, fade2) = (1.0 - 0.9f32.powi(self.done), 1.0 - 0.999f32.powi(self.done));
        for ((weights, gradient), (first, second)) in weights.iter_mut().zip(gradients).zip(&mut self.moments)
        {
            for (((w, &g), m), v) in
                weights.iter_mut().zip(gradient.iter()).zip(first.iter_mut()).zip(second.iter_mut())
            {
                let g = g * clip;
                *m = 0.9 * *m + 0.1 * g;
                *v = 0.999 * *v + 0.001 * g * g;
                *w -= rate * (*m / fade1) / ((*v / fade2).sqrt() + 1e-8);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::predict::models::lstm::forward::PredictorRun;

    pub(crate) fn waves(count: usize, steps: usize, metrics: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        let mut out = Vec::new();
        for _ in 0..count {
            let phase = random.unit() * std::f64::consts::TAU;
            for t in 0..steps {
                for m in 0..metrics {
                    let x = (phase + t as f64 * 0.4 + m as f64).sin();
                    out.push((x + 0.05 * random.normal()) as f32);
                }
            }
        }
        out
    }

    #[test]
    fn a_predictor_says_the_next_row_better_than_the_last_one_does() {
        let rows = waves(1, 4000, 3, 5);
        let training = Training { hidden: 16, epochs: 12, batch: 16, ..Training::default() };
        let model = train_predictor(&rows, 3, &training, &mut |_, _, _| {});
        let run = PredictorRun::new(&model);
        let fresh = waves(1, 400, 3, 6);
        let mut state = run.start(1);
        let (mut ours, mut naive) = (0.0, 0.0);
        for pair in fresh.windows(6).step_by(3) {
            let next = run.step(&pair[..3], &mut state);
            for m in 0..3 {
                ours += (next[m] - pair[3 + m]).powi(2);
                naive += (pair[m] - pair[3 + m]).powi(2);
            }
        }
        assert!(ours < naive / 3.0, "{ours} and {naive}");
    }

    #[test]
    fn too_little_data_is_borne() {
        let training = Training { hidden: 4, epochs: 2, steps: 16, ..Training::default() };
        train_predictor(&[1.0], 1, &training, &mut |_, _, _| {});
        train_predictor(&waves(70, 16, 2, 1), 2, &training, &mut |_, _, _| {});
    }
}
