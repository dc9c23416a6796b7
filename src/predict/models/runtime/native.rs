//! ONNX Runtime, loaded from its library when the program runs. The choice of library is made once a
//! process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::{RunOptions, Session as OrtSession, SessionInputValue};
use ort::value::{TensorElementType, TensorRef, ValueType};

use super::watched::{DEADLINE, Watched};
use super::{Missing, Runtime, Session, Slot, Tensor, check_inputs};
use crate::predict::models::error::ModelError;
use crate::predict::models::onnx;

/// ONNX Runtime.
pub struct Native {
    path: PathBuf,
    version: String,
    environment: Arc<Environment>,
}

/// The environment that this process made, if any: there can be only one.
static OPENED: Mutex<Option<(PathBuf, Arc<Environment>)>> = Mutex::new(None);

impl Native {
    /// Loads the library at `path`. A second call gets the library of the first, whatever its path.
    ///
    /// # Errors
    /// No such library, not ONNX Runtime, or older than 1.24.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let wrong = |detail: String| ModelError::Runtime { path: path.display().to_string(), detail };
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.is_none() {
            // The loader asserts on a library that is not what it says.
            let made = std::panic::catch_unwind(|| {
                let builder = ort::init_from(path).map_err(|e| e.to_string())?;
                builder.with_telemetry(false).build().map_err(|e| e.to_string())
            });
            let environment =
                made.map_err(|_| wrong("the library is not ONNX Runtime".into()))?.map_err(wrong)?;
            *opened = Some((path.to_path_buf(), Arc::new(environment)));
        }
        let Some((path, environment)) = opened.clone() else {
            return Err(wrong("no environment".into()));
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let version = name.split_once(".so.").map(|(_, v)| v.to_string()).unwrap_or_default();
        Ok(Self { path, version, environment })
    }
}

impl Runtime for Native {
    fn name(&self) -> String {
        format!("ONNX Runtime {} ({})", self.version, self.path.display())
    }

    fn load(&self, bytes: &[u8], file: &str) -> Result<Box<dyn Session>, ModelError> {
        let corrupt = |e: String| ModelError::Corrupt { file: file.into(), detail: e };
        if bytes.is_empty() || bytes.len() > onnx::MOST_BYTES {
            return Err(corrupt(format!("{} bytes", bytes.len())));
        }
        // Threads are the engine's: it runs a session on each of its own.
        let session = OrtSession::builder(&self.environment)
            .and_then(|b| Ok(b.with_intra_threads(1)?.with_inter_threads(1)?))
            .and_then(|mut b| b.commit_from_memory(bytes))
            .map_err(|e| corrupt(e.to_string()))?;
        let slots = |outlets: &[ort::value::Outlet]| -> Result<Vec<Slot>, ModelError> {
            outlets.iter().map(|o| slot_of(o.name(), o.dtype(), file)).collect()
        };
        let inputs = slots(session.inputs())?;
        let outputs = slots(session.outputs())?;
        if let Some(odd) = session.inputs().iter().find(|o| !is_float(o.dtype())) {
            let detail = format!("input {}: expected 32-bit floats, got {:?}", odd.name(), odd.dtype());
            return Err(ModelError::Inconsistent { file: file.into(), detail });
        }
        // Only trees and our linear graphs know what a missing value is.
        let ours = onnx::decode(bytes, file);
        let missing = match &ours {
            Ok(onnx::Model::Autoencoder(_) | onnx::Model::Predictor(_) | onnx::Model::Forecaster(_))
            | Err(_) => Missing::Refused,
            Ok(_) => Missing::Taken,
        };
        let options = Arc::new(RunOptions::new().map_err(|e| corrupt(e.to_string()))?);
        let stop = options.clone();
        let loaded = Box::new(Loaded { file: file.into(), session, inputs, outputs, missing, options });
        if ours.is_ok() {
            // Our graphs have no loops.
            return Ok(loaded);
        }
        let stop = move || {
            if let Err(error) = stop.terminate() {
                tracing::error!(%error, "ONNX Runtime cannot stop a run");
            }
        };
        Ok(Box::new(Watched::new(loaded, file, DEADLINE, Arc::new(stop))?))
    }
}

fn is_float(kind: &ValueType) -> bool {
    matches!(kind, ValueType::Tensor { ty: TensorElementType::Float32, .. })
}

fn slot_of(name: &str, kind: &ValueType, file: &str) -> Result<Slot, ModelError> {
    let ValueType::Tensor { shape, .. } = kind else {
        let detail = format!("{name}: expected a tensor, got {kind:?}");
        return Err(ModelError::Inconsistent { file: file.into(), detail });
    };
    Ok(Slot { name: name.into(), shape: shape.iter().map(|&d| usize::try_from(d).ok()).collect() })
}

struct Loaded {
    file: String,
    session: OrtSession,
    inputs: Vec<Slot>,
    outputs: Vec<Slot>,
    missing: Missing,
    options: Arc<RunOptions>,
}

impl Session for Loaded {
    fn inputs(&self) -> &[Slot] {
        &self.inputs
    }

    fn outputs(&self) -> &[Slot] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        check_inputs(&self.file, &self.inputs, self.missing, inputs)?;
        let failed = |e: ort::Error| ModelError::Inconsistent {
            file: self.file.clone(),
            detail: format!("ONNX Runtime: {e}"),
        };
        let given: Vec<(&str, SessionInputValue<'_>)> = self
            .inputs
            .iter()
            .zip(inputs)
            .map(|(slot, tensor)| {
                let view = TensorRef::from_array_view((tensor.shape.clone(), tensor.values.as_slice()))?;
                Ok((slot.name.as_str(), SessionInputValue::from(view)))
            })
            .collect::<Result<_, ort::Error>>()
            .map_err(failed)?;
        let outputs = self.session.run_with_options(given, &*self.options).map_err(failed)?;
        let mut out = Vec::with_capacity(self.outputs.len());
        for slot in &self.outputs {
            let value = &outputs[slot.name.as_str()];
            out.push(match value.try_extract_tensor::<f32>() {
                Ok((shape, values)) => Tensor::new(dims(shape), values.to_vec()),
                Err(_) => {
                    let (shape, values) = value.try_extract_tensor::<i64>().map_err(failed)?;
                    Tensor::new(dims(shape), values.iter().map(|&v| v as f32).collect())
                }
            });
        }
        Ok(out)
    }
}

fn dims(shape: &[i64]) -> Vec<usize> {
    shape.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect()
}
