//! The models themselves: how they are grown or trained, how they run, and how they stand in files.
//! Everything here works on plain numbers; what the numbers mean is said by the rooms above.

pub mod error;
pub mod linear;
pub mod lstm;
pub mod matrix;
pub mod onnx;
pub mod runtime;
pub mod trees;

pub use error::ModelError;
pub use matrix::FeatureMatrix;
