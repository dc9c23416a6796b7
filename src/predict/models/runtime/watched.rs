//! A graph that is not ours runs on a thread of its own, with a deadline: it may loop for ever on real
//! numbers though it ended on all that it was tried on. Who is too slow is stopped and never asked again; a
//! kernel that heeds no stop keeps its thread, and nobody waits for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::{Session, Slot, Tensor};
use crate::predict::models::error::ModelError;

/// Longest that one run of a person's own model may take.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// How long a run that is to stop is waited for.
const STOPPING: Duration = Duration::from_secs(1);

type Answer = Result<Vec<Tensor>, ModelError>;

/// A session behind a deadline.
pub(super) struct Watched {
    file: String,
    inputs: Vec<Slot>,
    outputs: Vec<Slot>,
    deadline: Duration,
    /// Asks a run that is under way to end.
    stop: Arc<dyn Fn() + Send + Sync>,
    /// `None` once it was too slow.
    line: Option<(SyncSender<Vec<Tensor>>, Receiver<Answer>)>,
}

impl Watched {
    /// Lets `session` run on a thread of its own; `stop` ends a run of it.
    pub(super) fn new(
        mut session: Box<dyn Session>,
        file: &str,
        deadline: Duration,
        stop: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<Self, ModelError> {
        let (inputs, outputs) = (session.inputs().to_vec(), session.outputs().to_vec());
        let (ask, asked) = sync_channel::<Vec<Tensor>>(1);
        let (answer, answers) = sync_channel::<Answer>(1);
        let work = move || {
            while let Ok(inputs) = asked.recv() {
                if answer.send(session.run(&inputs)).is_err() {
                    return;
                }
            }
        };
        // It ends with the line to it; a run that heeds no stop must not be waited for.
        std::thread::Builder::new().name("own model".into()).spawn(work).map_err(|e| {
            ModelError::Inconsistent { file: file.into(), detail: format!("no thread to run it on: {e}") }
        })?;
        Ok(Self { file: file.into(), inputs, outputs, deadline, stop, line: Some((ask, answers)) })
    }

    fn too_slow(&self) -> ModelError {
        ModelError::TooSlow { model: self.file.clone(), seconds: self.deadline.as_secs_f64() }
    }
}

impl Session for Watched {
    fn inputs(&self) -> &[Slot] {
        &self.inputs
    }

    fn outputs(&self) -> &[Slot] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[Tensor]) -> Answer {
        let Some((ask, answers)) = &self.line else { return Err(self.too_slow()) };
        let gone =
            || ModelError::Inconsistent { file: self.file.clone(), detail: "the runtime broke off".into() };
        ask.send(inputs.to_vec()).map_err(|_| gone())?;
        match answers.recv_timeout(self.deadline) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
            Err(RecvTimeoutError::Timeout) => {
                (self.stop)();
                if answers.recv_timeout(STOPPING).is_err() {
                    tracing::error!(model = %self.file, "a run does not stop: its thread is left behind");
                }
                self.line = None;
                Err(self.too_slow())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use super::*;

    /// Runs until it is told to stop, where its first number is over 0.
    struct Endless(Vec<Slot>, Arc<AtomicBool>);

    impl Session for Endless {
        fn inputs(&self) -> &[Slot] {
            &self.0
        }

        fn outputs(&self) -> &[Slot] {
            &self.0
        }

        fn run(&mut self, inputs: &[Tensor]) -> Answer {
            while inputs[0].values[0] > 0.0 && !self.1.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            Ok(inputs.to_vec())
        }
    }

    #[test]
    fn a_run_without_an_end_is_stopped_and_its_model_never_asked_again() {
        let told = Arc::new(AtomicBool::new(false));
        let stop = told.clone();
        let slots = vec![Slot { name: "x".into(), shape: vec![None] }];
        let mut session = Watched::new(
            Box::new(Endless(slots, told.clone())),
            "mine.onnx",
            Duration::from_millis(50),
            Arc::new(move || stop.store(true, Ordering::SeqCst)),
        )
        .unwrap();
        let calm = [Tensor::new([1], vec![0.0])];
        assert_eq!(session.run(&calm).unwrap(), calm);
        let error = session.run(&[Tensor::new([1], vec![1.0])]).unwrap_err();
        assert!(error.to_string().contains("mine.onnx: no answer within 0.05 s"), "{error}");
        assert!(told.load(Ordering::SeqCst));
        let begun = Instant::now();
        session.run(&calm).unwrap_err();
        assert!(begun.elapsed() < Duration::from_millis(40), "refused at once");
    }
}
