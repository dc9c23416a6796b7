//! The program's own log on its way to the log screen: events go into tui-logger's buffer as they
//! happen, and the console is told that there are some. tui-logger's own way to start runs a thread
//! that looks a hundred times a second; here nothing runs while nothing is logged.

use tokio::sync::Notify;
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use tui_logger::TuiTracingSubscriberLayer;

/// tui-logger's buffer is one a process, and so is the word that something is in it.
static NEWS: Notify = Notify::const_new();

/// The layer that collects the log for the console.
pub struct OwnLog(TuiTracingSubscriberLayer);

impl OwnLog {
    /// A layer that takes events down to `least`; what a filter before it lets through of those.
    pub fn down_to(least: tui_logger::LevelFilter) -> Self {
        tui_logger::set_default_level(least);
        Self(TuiTracingSubscriberLayer)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for OwnLog {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        self.0.on_event(event, context);
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
