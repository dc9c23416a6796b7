//! What runs a model file: ONNX Runtime where its library is found ([`locate`], [`native`]), else
//! the built-in kernels ([`kernels`]). Both read the same files and agree to 1e-5. Whoever runs says
//! which of them speaks.

pub mod check;
pub mod kernels;
pub mod locate;
pub mod native;
pub mod watched;

use std::sync::Arc;

use super::error::ModelError;

/// Numbers with a shape, row after row.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tensor {
    /// Dimensions.
    pub shape: Vec<usize>,
    /// As many numbers as the dimensions multiply to.
    pub values: Vec<f32>,
}

impl Tensor {
    /// Of that shape.
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        Self { shape: shape.into(), values }
    }
}

/// Name and shape of an input or output; `None` = any number of rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Its name in the file.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<Option<usize>>,
}

/// Something that can run model files.
pub trait Runtime: Send + Sync {
    /// For people: `ONNX Runtime 1.31.1 (/usr/lib/libonnxruntime.so)` or `built-in kernels`.
    fn name(&self) -> String;

    /// Makes a file ready to run; `file` is named in errors.
    ///
    /// # Errors
    /// Corrupt or foreign files.
    fn load(&self, bytes: &[u8], file: &str) -> Result<Box<dyn Session>, ModelError>;
}

/// A model, ready to run. One thread at a time.
pub trait Session: Send {
    /// What goes in.
    fn inputs(&self) -> &[Slot];

    /// What comes out.
    fn outputs(&self) -> &[Slot];

    /// Runs a batch: one tensor an input, in their order; gives one an output.
    ///
    /// # Errors
    /// Tensors that do not fit, numbers that are not finite where the model needs such.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ModelError>;
}

/// The runtime of this process: ONNX Runtime where its library is found and can be used, else the
/// built-in kernels. `configured` comes first; then `ORT_DYLIB_PATH`, the usual folders and a
/// pip-installed `onnxruntime`. The second value says why a library that was found is not used.
pub fn choose(configured: Option<&std::path::Path>) -> (Arc<dyn Runtime>, Option<ModelError>) {
    match locate::find(configured) {
        None => (Arc::new(kernels::Kernels), None),
        Some(path) => match native::Native::open(&path) {
            Ok(native) => (Arc::new(native), None),
            Err(error) => (Arc::new(kernels::Kernels), Some(error)),
        },
    }
}

/// Checks what is given against what a model takes. `missing_allowed`: trees and linear models take
/// NaN for a missing value; everything else refuses what is not finite, because a runtime would
/// answer it with numbers that look healthy.
pub(crate) fn check_inputs(
    model: &str,
    slots: &[Slot],
    missing: Missing,
    inputs: &[Tensor],
) -> Result<(), ModelError> {
    if inputs.len() != slots.len() {
        return Err(ModelError::Shape {
            model: model.into(),
            input: "all".into(),
            expected: format!("{} tensors", slots.len()),
            got: inputs.len().to_string(),
        });
    }
    for (slot, tensor) in slots.iter().zip(inputs) {
        let fits = slot.shape.len() == tensor.shape.len()
            && slot.shape.iter().zip(&tensor.shape).all(|(want, got)| want.is_none_or(|w| w == *got));
        if !fits || tensor.shape.iter().product::<usize>() != tensor.values.len() {
            return Err(ModelError::Shape {
                model: model.into(),
                input: slot.name.clone(),
                expected: words(&slot.shape),
                got: format!("{:?} with {} numbers", tensor.shape, tensor.values.len()),
            });
        }
        if let Some(index) = first_refused(&tensor.values, missing) {
            return Err(ModelError::NotFinite { model: model.into(), input: slot.name.clone(), index });
        }
    }
    Ok(())
}

/// The first value that a model does not take. Whole stretches are asked without a branch a value: a window
/// of numbers is read in a few microseconds, and it is nearly always sound.
fn first_refused(values: &[f32], missing: Missing) -> Option<usize> {
    const STRETCH: usize = 256;
    let refused = |x: &f32| match missing {
        Missing::Taken => x.is_infinite(),
        Missing::Refused => !x.is_finite(),
    };
    let (stretch, _) =
        values.chunks(STRETCH).enumerate().find(|(_, x)| x.iter().fold(false, |any, x| any | refused(x)))?;
    values.iter().skip(stretch * STRETCH).position(refused).map(|at| stretch * STRETCH + at)
}

/// What a model makes of NaN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Missing {
    /// A missing value.
    Taken,
    /// Nothing: it is refused.
    Refused,
}

pub(crate) fn words(shape: &[Option<usize>]) -> String {
    let dims: Vec<String> = shape.iter().map(|d| d.map_or_else(|| "any".into(), |d| d.to_string())).collect();
    format!("[{}]", dims.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_that_a_model_does_not_take_is_found_wherever_it_stands() {
        for len in [0usize, 1, 255, 256, 257, 1000] {
            let sound = vec![1f32; len];
            assert_eq!(first_refused(&sound, Missing::Refused), None);
            for at in (0..len).step_by(85).chain(len.checked_sub(1)) {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut values = sound.clone();
                    values[at..].fill(bad);
                    assert_eq!(first_refused(&values, Missing::Refused), Some(at));
                    let taken = (!bad.is_nan()).then_some(at);
                    assert_eq!(first_refused(&values, Missing::Taken), taken);
                }
            }
        }
    }
}
