//! What can be wrong with a model file or a call of it.

use thiserror::Error;

/// Why a model can't be used. None is worth trying again without a change of file or setting.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ModelError {
    /// The bytes are no ONNX model.
    #[error("{file}: not an ONNX model, or cut short ({detail}); train it again or restore the file")]
    Corrupt {
        /// The file or model name.
        file: String,
        /// What the decoder met.
        detail: String,
    },
    /// An ONNX model, but not one of the graphs that the built-in kernels run.
    #[error(
        "{file}: an ONNX graph that the built-in kernels cannot run ({detail}); install ONNX Runtime \
         (pip install onnxruntime) or name its library in the configuration"
    )]
    Foreign {
        /// The file or model name.
        file: String,
        /// What does not fit.
        detail: String,
    },
    /// Numbers inside contradict one another.
    #[error("{file}: {detail}; train it again or restore the file")]
    Inconsistent {
        /// The file or model name.
        file: String,
        /// What contradicts what.
        detail: String,
    },
    /// The call does not fit the model.
    #[error("{model}: input {input}: expected {expected}, got {got}")]
    Shape {
        /// The model's name.
        model: String,
        /// The input's name.
        input: String,
        /// What the model takes.
        expected: String,
        /// What was given.
        got: String,
    },
    /// NaN or infinity where the model needs numbers; runtimes answer such with numbers that look
    /// healthy.
    #[error("{model}: input {input}: value {index} is not finite; fill gaps or leave the row out")]
    NotFinite {
        /// The model's name.
        model: String,
        /// The input's name.
        input: String,
        /// Which value.
        index: usize,
    },
    /// A run took longer than any may.
    #[error(
        "{model}: no answer within {seconds} s, so it is out of use; make its graph end and be faster, or take \
         its file out of the folder"
    )]
    TooSlow {
        /// The model's name.
        model: String,
        /// The deadline.
        seconds: f64,
    },
    /// What comes out is not what the model is there for.
    #[error(
        "{file}: output {output}: expected {expected}, got {got}; export it anew or take its file out of the folder"
    )]
    Output {
        /// The file or model name.
        file: String,
        /// The output's name.
        output: String,
        /// What is needed.
        expected: String,
        /// What it gives.
        got: String,
    },
    /// The card says another thing than the model.
    #[error("{file}: the card does not match its model: {detail}; restore both, or train again")]
    Card {
        /// The card's file.
        file: String,
        /// What differs.
        detail: String,
    },
    /// Too little happened in a history to learn from it.
    #[error("{of}: {detail}; train over a longer time (--from) or with more recorded failures")]
    TooFew {
        /// The history.
        of: String,
        /// What there is, and what is needed.
        detail: String,
    },
    /// A version that says no more than the base rate is not put into use.
    #[error(
        "version {version} is not put into use: {detail}; train over a longer time (--from) or with more recorded \
         failures"
    )]
    Worthless {
        /// Its number.
        version: u32,
        /// Which windows, with the figures.
        detail: String,
    },
    /// ONNX Runtime can't be used.
    #[error("ONNX Runtime at {path}: {detail}; the built-in kernels are used instead")]
    Runtime {
        /// The library.
        path: String,
        /// What it said.
        detail: String,
    },
    /// A model file or folder can't be read or written.
    #[error("{path}: {detail}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        detail: String,
    },
    /// A person's own model did not pass the check in a process of its own.
    #[error("{file}: refused by the check in a process of its own: {detail}")]
    Refused {
        /// The file.
        file: String,
        /// What happened there.
        detail: String,
    },
}
