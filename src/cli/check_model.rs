//! `foreshift check-model FILE`, hidden: loads a person's own ONNX model and runs it on numbers as the
//! engine gives them, in a process of its own, because a graph can bring a runtime down. Prints what it found as JSON.

use std::path::{Path, PathBuf};

use crate::predict::models::ModelError;
use crate::predict::models::runtime::check::{Checked, check_here};
use crate::predict::models::runtime::choose;

/// What the command takes.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckModel {
    /// The ONNX file.
    pub file: PathBuf,
    /// The library of ONNX Runtime, or its folder.
    #[arg(long)]
    pub runtime: Option<PathBuf>,
}

/// Runs the check.
///
/// # Errors
/// The file cannot be read, is not a model, or does not run.
pub fn run(command: &CheckModel) -> Result<Checked, ModelError> {
    check_file(&command.file, command.runtime.as_deref())
}

fn check_file(file: &Path, runtime: Option<&Path>) -> Result<Checked, ModelError> {
    let name = file.display().to_string();
    let bytes =
        std::fs::read(file).map_err(|e| ModelError::File { path: name.clone(), detail: e.to_string() })?;
    let (runtime, unusable) = choose(runtime);
    check_here(runtime.as_ref(), &bytes, &name).map_err(|error| unusable.unwrap_or(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_model_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine.onnx");
        std::fs::write(&file, "hello").unwrap();
        let error = check_file(&file, None).unwrap_err().to_string();
        assert!(error.contains("mine.onnx"), "{error}");
        let error = check_file(&dir.path().join("none.onnx"), None).unwrap_err().to_string();
        assert!(error.contains("none.onnx"), "{error}");
    }
}
