//! Where the log goes: JSON lines on standard output without a terminal, the console's log screen
//! with one; a subcommand that prints a report logs to standard error.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::tui::OwnLog;

/// Who reads the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogTo {
    /// JSON lines on standard output.
    JsonLines,
    /// The console's log screen.
    Console,
    /// Text on standard error, warnings and worse.
    StandardError,
    /// The same, errors alone: what a replayed engine warns of is not of now, and a simulated one warns
    /// of faults that are meant to hit it.
    ErrorsAlone,
}

/// Sets the log up for the whole process; `RUST_LOG` overrides what the configuration says. A second call
/// changes nothing.
pub fn start(to: LogTo) {
    start_at(to, "");
}

/// The same; `level` is `engine.log` of the configuration, empty = as usual.
pub fn start_at(to: LogTo, level: &str) {
    let said = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| level.to_string());
    let filter = |default: LevelFilter| {
        EnvFilter::builder()
            .with_default_directive(default.into())
            .parse_lossy(&said)
            .add_directive("hyper=warn".parse().unwrap_or_else(|_| default.into()))
            .add_directive("ort=warn".parse().unwrap_or_else(|_| default.into()))
    };
    let registry = tracing_subscriber::registry();
    let done = match to {
        LogTo::JsonLines => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(std::io::stdout)
                    .with_filter(filter(LevelFilter::INFO)),
            )
            .try_init(),
        // What the filter lets through is kept, down to where `RUST_LOG` says.
        LogTo::Console => registry
            .with(OwnLog::down_to(tui_logger::LevelFilter::Trace).with_filter(filter(LevelFilter::INFO)))
            .try_init(),
        LogTo::StandardError | LogTo::ErrorsAlone => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(std::io::stderr)
                    .with_ansi(coloured())
                    .with_filter(filter(if to == LogTo::ErrorsAlone {
                        LevelFilter::ERROR
                    } else {
                        LevelFilter::WARN
                    })),
            )
            .try_init(),
    };
    let _ = done;
}

/// Whether somebody looks at standard error who wants colours.
fn coloured() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}
