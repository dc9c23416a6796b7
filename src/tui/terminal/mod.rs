//! The terminal itself: what it can show, taking it and giving it back, bytes in, bytes out.

pub mod backend;
pub mod capabilities;
pub mod guard;
pub mod input;
pub mod tty;

pub use backend::FrugalBackend;
