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
use super::failure::{FeatureSpec, live, shipped};
use super::health;
use super::models::ModelError;
use super::models::lstm::forward::by_time;
use super::models::runtime::kernels::Kernels;
use super::models::runtime::{Runtime, Session, Slot, Tensor, words};
use super::train::Card;
use super::train::card::ERROR_OF_HEALTHY;
use crate::telemetry::{PartitionIx, Windows};

/// Every partition has its turn once in so many cycles.
pub const EVERY: u64 = 30;
/// Most partitions in one cycle.
pub const BUDGET: usize = 512;
/// Windows that are given to the model at once. More are no quicker, and a runtime keeps the room that the most of them
/// took.
const AT_ONCE: usize = 64;
/// Partitions this far from their normal are looked at in every cycle.
const UNUSUAL: f32 = 5.0;
/// An error counts from so many times the mean error of healthy partitions on.
const COUNTS_FROM: f32 = 4.0;
/// No error is told as more than so many times the usual.
const MOST_TIMES: f32 = 1e6;
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
    /// For people.
    file: String,
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
    /// Makes the file ready on that runtime; `file` is named in errors.
    ///
    /// # Errors
    /// The file is no autoencoder of the card's metrics, or the card does not say how well healthy
    /// partitions are rebuilt.
    pub fn open(runtime: &dyn Runtime, file: &str, onnx: &[u8], card: &Card) -> Result<Self, ModelError> {
        let wrong = |detail: String| ModelError::Card { file: file.into(), detail };
        let session = runtime.load(onnx, file)?;
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
        let (windows, kept) = match (session.inputs(), session.outputs()) {
            ([input], [output, ..]) => (input, output),
            _ => return Err(wrong("it gives nothing".into())),
        };
        if !rebuilds(windows, kept) {
            return Err(ModelError::Output {
                file: file.into(),
                output: kept.name.clone(),
                expected: format!("the shape of its input, {}", words(&windows.shape)),
                got: words(&kept.shape),
            });
        }
        let usual = card.measures.get(ERROR_OF_HEALTHY).copied().unwrap_or(f64::NAN) as f32;
        if usual.is_nan() || usual <= 0.0 {
            return Err(wrong("measures.mean_error_of_healthy must be a number over 0".into()));
        }
        let (spec, file) = (card.features.clone(), file.to_string());
        Ok(Self { session: Mutex::new(session), spec, steps, time_first, usual, file })
    }

    /// The one that comes with the program, on the built-in kernels.
    fn shipped() -> Result<Self, ModelError> {
        let (onnx, _, card) = shipped::autoencoder()?;
        Self::open(&Kernels, &card.title, onnx, &card)
    }

    /// Errors of the windows (`[window][step][metric]`), in units of that of healthy partitions.
    fn errors(&self, windows: &[f32]) -> Result<Vec<f32>, ModelError> {
        let parts = windows.chunks((AT_ONCE * self.steps * self.spec.metrics.len()).max(1));
        let parts: Result<Vec<Vec<f32>>, ModelError> = parts.map(|part| self.errors_of(part)).collect();
        Ok(parts?.concat())
    }

    fn errors_of(&self, windows: &[f32]) -> Result<Vec<f32>, ModelError> {
        let metrics = self.spec.metrics.len();
        let count = windows.len() / (self.steps * metrics).max(1);
        let input = if self.time_first {
            let mut turned = Vec::with_capacity(windows.len());
            by_time(windows.chunks_exact(self.steps * metrics), self.steps, metrics, &mut turned);
            Tensor::new([self.steps, count, metrics], turned)
        } else {
            Tensor::new([count, self.steps, metrics], windows.to_vec())
        };
        let input = [input];
        let mut session = self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let rebuilt = session.run(&input)?;
        let odd = |got: String| ModelError::Output {
            file: self.file.clone(),
            output: session.outputs().first().map(|slot| slot.name.clone()).unwrap_or_default(),
            expected: format!("{} finite numbers in the shape {:?}", input[0].values.len(), input[0].shape),
            got,
        };
        let Some(rebuilt) = rebuilt.first() else { return Err(odd("nothing".into())) };
        if rebuilt.shape != input[0].shape || rebuilt.values.len() != input[0].values.len() {
            return Err(odd(format!("the shape {:?}", rebuilt.shape)));
        }
        if let Some(at) = rebuilt.values.iter().position(|x| !x.is_finite()) {
            return Err(odd(format!("{} at {at}", rebuilt.values[at])));
        }
        let mut errors = vec![0f32; count];
        let rows = input[0].values.chunks_exact(metrics).zip(rebuilt.values.chunks_exact(metrics));
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

    /// The autoencoder that should watch cannot: the shipped one does from now on, and people are told.
    pub(super) fn stand_in(&mut self, error: &ModelError) {
        tracing::error!(%error, "the autoencoder is out of use");
        self.rebuilder = Rebuilder::shipped()
            .inspect_err(|error| tracing::error!(%error, "nor can the shipped one run"))
            .ok();
        self.model_troubles.push(format!("the shipped autoencoder stands in: {error}"));
    }

    /// What is wrong with models and was not told yet.
    pub fn take_model_troubles(&mut self) -> Vec<String> {
        std::mem::take(&mut self.model_troubles)
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
        match rebuilder.errors(&batch) {
            Ok(errors) => {
                for (p, error) in whose.into_iter().zip(errors) {
                    // Squares of sound numbers may be too large to add up: as unlike as can be.
                    self.rows[p as usize].rebuilt = error.min(MOST_TIMES);
                }
            }
            Err(error) => {
                self.stand_in(&error);
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

/// Whether what comes out can have the shape of what goes in.
fn rebuilds(input: &Slot, output: &Slot) -> bool {
    input.shape.len() == output.shape.len()
        && input.shape.iter().zip(&output.shape).all(|(i, o)| o.is_none() || i == o)
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
        card.measures.insert(ERROR_OF_HEALTHY.into(), 0.5);
        let windows: Vec<f32> = (0..4 * 5 * 3).map(|n| n as f32).collect();
        // More than are given at once, and a part of as many.
        let many = windows.repeat(AT_ONCE / 2 + 1);
        for shape in [[Some(5), None, Some(3)], [None, Some(5), Some(3)]] {
            let rebuilder = Rebuilder::open(&shape, "mine.onnx", &[], &card).unwrap();
            assert_eq!(rebuilder.errors(&windows).unwrap(), [0.0, 2.0, 8.0, 18.0], "{shape:?}");
            let begins_anew = |i: usize| (i % AT_ONCE * (i % AT_ONCE) * 2) as f32;
            let expected: Vec<f32> = (0..AT_ONCE * 2 + 4).map(begins_anew).collect();
            assert_eq!(rebuilder.errors(&many).unwrap(), expected, "{shape:?}");
        }
        let odd =
            Rebuilder::open(&[None, Some(5), Some(4)], "mine.onnx", &[], &card).unwrap_err().to_string();
        let none =
            Rebuilder::open(&[None, Some(0), Some(3)], "mine.onnx", &[], &card).unwrap_err().to_string();
        assert!(none.contains("holds no numbers"), "{none}");
        assert!(odd.contains("not [steps, any, metrics] or [any, steps, metrics]"), "{odd}");
    }

    /// Gives the same wrong answer to whatever it is given.
    struct Wrong(fn(&Tensor) -> Tensor);

    impl Runtime for Wrong {
        fn name(&self) -> String {
            "of a test".into()
        }

        fn load(&self, _: &[u8], _: &str) -> Result<Box<dyn Session>, ModelError> {
            let slot = Slot { name: "x".into(), shape: vec![None, Some(32), Some(16)] };
            Ok(Box::new(Answers { slots: vec![slot], answer: self.0 }))
        }
    }

    struct Answers {
        slots: Vec<Slot>,
        answer: fn(&Tensor) -> Tensor,
    }

    impl Session for Answers {
        fn inputs(&self) -> &[Slot] {
            &self.slots
        }

        fn outputs(&self) -> &[Slot] {
            &self.slots
        }

        fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
            Ok(vec![(self.answer)(&inputs[0])])
        }
    }

    #[test]
    fn an_autoencoder_that_answers_with_nonsense_is_out_of_use_and_the_shipped_one_stands_in() {
        use crate::predict::test_fleet::{as_it_is, warmed};
        let not_a_number = |x: &Tensor| Tensor::new(x.shape.clone(), vec![f32::NAN; x.values.len()]);
        let too_few = |x: &Tensor| Tensor::new([x.shape[0], 1, 16], vec![0.0; x.shape[0] * 16]);
        let card = crate::predict::failure::open(None).unwrap().autoencoder.unwrap().1;
        for (wrong, words) in [(Wrong(not_a_number), "got NaN at 0"), (Wrong(too_few), "1, 16]")] {
            let (mut fleet, mut assessor) = warmed(40);
            assessor.set_rebuilder(Rebuilder::open(&wrong, "mine.onnx", &[], &card).unwrap());
            for _ in 0..EVERY {
                fleet.run(crate::fleet::Span::seconds(30), as_it_is);
                fleet.assess(&mut assessor);
            }
            let told = assessor.take_model_troubles().join("; ");
            assert!(told.contains("mine.onnx: output x") && told.contains(words), "{told}");
            assert!(assessor.take_model_troubles().is_empty(), "it is told once");
            let watches = assessor.rebuilder.as_ref().map(|r| r.file.clone());
            assert_eq!(watches, Some(card.title.clone()));
            assert!(assessor.rows.iter().any(|row| row.rebuilt > 0.0), "and watches from then on");
        }
    }
}
