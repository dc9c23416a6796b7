//! The program's own log on its way to the log screen: events go into tui-logger's buffer as they
//! happen, and the console is told that there are some. tui-logger's own way to start runs a thread
//! that looks a hundred times a second; here nothing runs while nothing is logged. Its own layer
//! sorts the message in among the fields; here it comes first.

use std::fmt::{self, Write};

use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// tui-logger's buffer is one a process, and so is the word that something is in it.
static NEWS: Notify = Notify::const_new();

/// The layer that collects the log for the console.
pub struct OwnLog(());

impl OwnLog {
    /// A layer that takes events down to `least`; what a filter before it lets through of those.
    pub fn down_to(least: tui_logger::LevelFilter) -> Self {
        tui_logger::set_default_level(least);
        Self(())
    }
}

/// What an event or a span says: its message, and its fields behind it.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Words {
    fn add(&mut self, name: &str, value: impl fmt::Display) {
        let said = match name {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, "  {name}={value}"),
        };
        // A string takes everything.
        debug_assert!(said.is_ok());
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), format_args!("{value:?}"));
    }
}

fn level(level: Level) -> log::Level {
    match level {
        Level::ERROR => log::Level::Error,
        Level::WARN => log::Level::Warn,
        Level::INFO => log::Level::Info,
        Level::DEBUG => log::Level::Debug,
        Level::TRACE => log::Level::Trace,
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for OwnLog {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut words = Words::default();
        attributes.record(&mut words);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(words);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(around) = span.extensions().get::<Words>() {
                words.fields.push_str(&around.fields);
            }
        }
        let about = event.metadata();
        tui_logger::Drain::new().log(
            &log::Record::builder()
                .args(format_args!("{}{}", words.message, words.fields))
                .level(level(*about.level()))
                .target(about.target())
                .build(),
        );
        NEWS.notify_one();
    }
}

/// Waits until something has been logged since the last call.
pub(super) async fn news() {
    NEWS.notified().await;
}

/// Moves what has been logged to where the screen reads it.
pub(super) fn take() {
    tui_logger::move_events();
}
