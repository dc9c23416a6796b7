//! Backtests: a person's own history through the very engine that would run on it, judged by what is
//! known to have happened.
//!
//! `feed` gives history on as time passes and `replay` steps the engine through it: the same predict
//! and decide, at the cycle's pace, with nothing from later than the cycle. What it said is judged by
//! `predict::failure::truth` (what happened), `calls` (what was said and what came of it), `held` (what was
//! predicted and could not be moved), `tally` (counts and cost),
//! `calibration`, `sweep` (the same predictions under other thresholds) and `recommend`. None of these
//! reaches the engine. `report` is what a person or a program reads.

pub mod calibration;
pub mod calls;
pub mod error;
pub mod feed;
pub mod held;
pub mod recommend;
pub mod replay;
pub mod report;
pub mod sweep;
pub mod tally;

pub use crate::predict::failure::truth::{self, Incident, Truth};
pub use error::BacktestError;
pub use replay::{Advance, Setup, run};
pub use report::Report;
pub use tally::Rates;
