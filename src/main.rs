//! Parses the command line, dispatches, sets the exit code; nothing else.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Before anything else: two providers in one tree would panic without a choice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    foreshift::cli::run(foreshift::cli::Cli::parse())
}
