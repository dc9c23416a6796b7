//! The models themselves: how they are grown or trained, how they run, and how they stand in files.
//! Everything here works on plain numbers; what the numbers mean is said by the rooms above.

pub mod linear;
pub mod matrix;
pub mod trees;

pub use matrix::FeatureMatrix;
