//! Alerts: what is open, and who is told. The board is pure; the notifier sends in a task of its
//! own and never makes the engine wait.

pub mod board;
pub mod notify;

pub use board::{Alert, Board, Event};
pub use notify::{Format, Notifier, Target};
