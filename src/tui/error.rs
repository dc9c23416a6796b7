//! What can go wrong with a console.

use thiserror::Error;

use super::keymap::KeymapError;
use super::theme::ThemeError;

/// Why the console did not start, or ended.
#[derive(Debug, Error)]
pub enum ConsoleError {
    /// There is no terminal. Permanent: start it in one, or without a console.
    #[error(
        "there is no terminal to draw on ({0}): start it in a terminal, or use --headless, or `foreshift attach` from one"
    )]
    NoTerminal(&'static str),
    /// The terminal refuses something. Unknown whether it helps to try again.
    #[error("the terminal: {0}")]
    Terminal(#[from] std::io::Error),
    /// The theme cannot be worn. Permanent until the file is mended.
    #[error(transparent)]
    Theme(#[from] ThemeError),
    /// The keys cannot be used. Permanent until the configuration is mended.
    #[error(transparent)]
    Keymap(#[from] KeymapError),
}
