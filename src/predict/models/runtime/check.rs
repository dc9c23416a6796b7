//! A person's own model is tried in a process of its own before this one loads it: a graph can bring
//! a runtime down. The child is this program's hidden subcommand `check-model PATH`.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Runtime, Slot, Tensor};
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

/// Done in the child: loads the file and runs it on noughts, one row and three.
///
/// # Errors
/// What the runtime says.
pub fn check_here(runtime: &dyn Runtime, bytes: &[u8], file: &str) -> Result<Checked, ModelError> {
    let mut session = runtime.load(bytes, file)?;
    for rows in [1usize, 3] {
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
                Ok(Tensor::new(shape, vec![0.0; count]))
            })
            .collect::<Result<_, ModelError>>()?;
        let outputs = session.run(&inputs)?;
        if let Some(bad) = outputs.iter().position(|t| t.values.iter().any(|v| !v.is_finite())) {
            let detail = format!("output {bad} is not finite on an input of noughts");
            return Err(ModelError::Refused { file: file.into(), detail });
        }
    }
    let list = |slots: &[Slot]| slots.iter().map(|s| (s.name.clone(), s.shape.clone())).collect();
    Ok(Checked { runtime: runtime.name(), inputs: list(session.inputs()), outputs: list(session.outputs()) })
}

/// Asks a child: `program check-model FILE`, which must answer within `patience`.
///
/// # Errors
/// The child refused, crashed or hung.
pub fn check_in_child(program: &Path, file: &Path, patience: Duration) -> Result<Checked, ModelError> {
    let name = file.display().to_string();
    let refused = |detail: String| ModelError::Refused { file: name.clone(), detail };
    let mut child = Command::new(program)
        .arg("check-model")
        .arg(file)
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
            Ok(None) if begun.elapsed() < patience => std::thread::sleep(Duration::from_millis(5)),
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
