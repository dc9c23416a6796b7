//! The console. One loop owns the model; `update` is a pure function from model and message to
//! effects; the screens are pure functions from the model to cells; nothing is drawn, and no byte
//! written, unless something changed. It knows an engine by [`crate::protocol`] alone.

mod act;
pub mod action;
mod app;
mod ask;
mod can;
mod chosen;
mod clipboard;
pub mod confirm;
mod error;
pub mod field;
mod filter;
pub mod key;
pub mod keymap;
pub mod list;
pub mod model;
mod options;
mod own_log;
pub mod palette;
pub mod past;
mod popups;
pub mod screens;
pub mod terminal;
pub mod text;
pub mod theme;
pub mod update;
pub mod widgets;

pub use app::{Exit, run};
pub use can::{Can, can};
pub use error::ConsoleError;
pub use model::Engine;
pub use options::{ConsoleOptions, Mouse, Pace};
pub use own_log::OwnLog;
