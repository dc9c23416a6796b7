//! Public data sets as they are published, plain or gzipped, each read whole and checked line by line.

pub mod m4;
pub mod nab;
pub mod smd;
pub(in crate::eval) mod text;

pub use m4::M4Series;
pub use nab::NabFile;
pub use smd::Machine;

use serde::Serialize;

/// What a data set holds of one kind, and what of it could not be taken.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// What can be evaluated.
    pub all: Vec<T>,
    /// What was left out; told in the report.
    pub skipped: Vec<Skipped>,
}

/// A part of a data set that was left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Skipped {
    /// `machine-1-7`, `H1`, `FD001 test`.
    pub name: String,
    /// What is missing.
    pub reason: String,
}

impl Skipped {
    pub(in crate::eval) fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { name: name.into(), reason: reason.into() }
    }
}
