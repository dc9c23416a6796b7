//! A person's own model is tried in a process of its own before this one loads it: a graph can bring
//! a runtime down. The child is this program's hidden subcommand `check-model PATH`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Runtime, Slot, Tensor};
use crate::fleet::rng::Random;
use crate::predict::models::error::ModelError;

/// What the child found: names and shapes, `null` = any number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checked {
    /// What ran it.
    pub runtime: String,
    /// What goes in.
    pub inputs: Vec<(String, Vec<Option<usize>>)>,
    /// What comes out.
    pub outputs: Vec<(String, Vec<Option<usize>>)>,
}

/// Rows of the runs: one, few, and as many as the engine gives at once.
const ROWS: [usize; 3] = [1, 3, 512];
/// Numbers of the fleet are robust deviations, cut here.
const FARTHEST: f32 = crate::predict::failure::features::CLIP;

/// What a run is given.
#[derive(Clone, Copy, Debug)]
enum Given {
    /// A fleet that stands still.
    Noughts,
    /// A usual one.
    Usual,
    /// All as far from normal as it can be told, up and down.
    Farthest,
}

impl Given {
    const ALL: [Given; 3] = [Given::Noughts, Given::Usual, Given::Farthest];

    fn words(self) -> &'static str {
        match self {
            Given::Noughts => "noughts",
            Given::Usual => "ordinary numbers",
            Given::Farthest => "numbers far from normal",
        }
    }

    fn value(self, random: &mut Random) -> f32 {
        match self {
            Given::Noughts => 0.0,
            Given::Usual => (random.normal() as f32).clamp(-FARTHEST, FARTHEST),
            Given::Farthest if random.chance(0.5) => FARTHEST,
            Given::Farthest => -FARTHEST,
        }
    }
}

/// Done in the child: loads the file and runs it on noughts, on ordinary numbers and on such as lie far from
/// normal, with one row, with few and with many; what comes out must be finite.
///
/// # Errors
/// What the runtime says, or an output that is not finite.
pub fn check_here(runtime: &dyn Runtime, bytes: &[u8], file: &str) -> Result<Checked, ModelError> {
    let mut session = runtime.load(bytes, file)?;
    let mut random = Random::new(1);
    for (rows, given) in ROWS.into_iter().flat_map(|rows| Given::ALL.map(|given| (rows, given))) {
        let inputs: Vec<Tensor> = session
            .inputs()
            .iter()
            .map(|slot| {
                let shape: Vec<usize> = slot.shape.iter().map(|d| d.unwrap_or(rows)).collect();
                let count = shape.iter().try_fold(1usize, |all, &d| all.checked_mul(d));
                let count = count.filter(|&c| c <= 1 << 26).ok_or_else(|| ModelError::Refused {
                    file: file.into(),
                    detail: format!("input {}: {shape:?} is too large", slot.name),
                })?;
                Ok(Tensor::new(shape, (0..count).map(|_| given.value(&mut random)).collect()))
            })
            .collect::<Result<_, ModelError>>()?;
        let outputs = session.run(&inputs)?;
        if let Some(bad) = outputs.iter().position(|t| t.values.iter().any(|v| !v.is_finite())) {
            let name = session.outputs().get(bad).map_or("?", |slot| slot.name.as_str());
            let given = given.words();
            let detail = format!("output {name} is not finite on {given} in {rows} rows");
            return Err(ModelError::Refused { file: file.into(), detail });
        }
    }
    let list = |slots: &[Slot]| slots.iter().map(|s| (s.name.clone(), s.shape.clone())).collect();
    Ok(Checked { runtime: runtime.name(), inputs: list(session.inputs()), outputs: list(session.outputs()) })
}

/// How a person's own graph is tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trial {
    /// This program.
    pub program: PathBuf,
    /// Where the configuration says that ONNX Runtime is.
    pub runtime: Option<PathBuf>,
    /// The child is killed where it has not answered by then.
    pub patience: Duration,
}

impl Trial {
    /// By this program, with the patience that a large graph needs.
    ///
    /// # Errors
    /// The system does not say where this program is.
    pub fn by_this_program(runtime: Option<&Path>) -> std::io::Result<Self> {
        let program = std::env::current_exe()?;
        Ok(Self { program, runtime: runtime.map(Path::to_path_buf), patience: Duration::from_secs(20) })
    }
}

/// Asks a child: `program check-model FILE`, which is killed where it does not answer in time.
///
/// # Errors
/// The child refused, crashed or hung.
pub fn check_in_child(trial: &Trial, file: &Path) -> Result<Checked, ModelError> {
    let Trial { program, runtime, patience } = trial;
    let name = file.display().to_string();
    let refused = |detail: String| ModelError::Refused { file: name.clone(), detail };
    let mut command = Command::new(program);
    command.arg("check-model").arg(file);
    if let Some(runtime) = runtime {
        command.arg("--runtime").arg(runtime);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| refused(format!("cannot start {}: {e}", program.display())))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            if let Some(stream) = stream {
                // What is not text is not an answer; the exit status decides then.
                let _ = stream.take(1 << 20).read_to_string(&mut text);
            }
            text
        })
    };
    let out = read(stdout.map(|s| Box::new(s) as Box<dyn Read + Send>));
    let err = read(stderr.map(|s| Box::new(s) as Box<dyn Read + Send>));
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < *patience => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(refused(format!("no answer within {} s", patience.as_secs())));
            }
            Err(e) => return Err(refused(e.to_string())),
        }
    };
    let out = out.join().unwrap_or_default();
    let err = err.join().unwrap_or_default();
    if !status.success() {
        let said = err.lines().last().unwrap_or_default().to_string();
        return Err(refused(format!("{status}: {said}")));
    }
    serde_json::from_str(out.trim()).map_err(|e| refused(format!("an answer that makes no sense: {e}")))
}
