//! Public data sets, quality measures, and the protocols that hold predictions to them.

pub mod failure;
pub mod measures;
