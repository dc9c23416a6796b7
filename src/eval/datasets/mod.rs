//! Public data sets as they are published, plain or gzipped, each read whole and checked line by line.

pub mod m4;
pub mod nab;
pub mod smd;
pub(super) mod text;

pub use m4::M4Series;
pub use nab::NabFile;
pub use smd::Machine;
