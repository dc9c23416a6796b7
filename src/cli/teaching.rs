//! The thread that fits anomaly detectors and networks for forecasts from days of history: of lowest priority, one partition after the
//! other, and a look for those that are due every so often.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;

use super::train_background::lowest_priority;
use crate::engine::brain::Brain;
use crate::engine::teach::{Desk, TeachOptions, round};
use crate::fleet::{Clock, SystemClock, Timestamp};
use crate::predict::keep::{NetworkShelf, Shelf};
use crate::telemetry::Source;

/// The first look after a start: the engine comes first.
const AFTER_START: Duration = Duration::from_secs(300);
/// Between two looks for partitions that are due.
const BETWEEN: Duration = Duration::from_secs(1800);

/// Gives the brain the detectors that were kept, and says which were refused and why.
pub(super) fn recall(shelf: &Shelf, brain: &mut Brain, now: Timestamp) {
    let loaded = shelf.load(now);
    for (place, unfit) in &loaded.refused {
        tracing::warn!(place = %place.display(), reason = %unfit, "a kept detector is refused and fitted anew");
    }
    let streams = loaded.kept.iter().filter(|kept| kept.stream.is_some()).count();
    if !loaded.kept.is_empty() {
        tracing::info!(kept = loaded.kept.len(), streams, "detectors from before the start");
    }
    brain.remember(loaded.kept);
}

/// Gives the brain the networks for forecasts that were kept, and says which were refused and why.
pub(super) fn recall_networks(shelf: &NetworkShelf, brain: &mut Brain, now: Timestamp) {
    let (kept, refused) = shelf.load(now);
    for (place, unfit) in &refused {
        tracing::warn!(place = %place.display(), reason = %unfit, "a kept network is refused and trained anew");
    }
    for model in kept {
        brain.use_forecaster(model);
    }
}

/// Starts it; it ends with `stop`, between two looks.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(
    source: Arc<dyn Source>,
    desk: Desk,
    options: TeachOptions,
    stop: CancellationToken,
) -> Result<()> {
    let work = move || {
        lowest_priority();
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(for_ever(&*source, &desk, &options, &stop)),
            Err(error) => tracing::error!(%error, "no detectors are fitted from history"),
        }
    };
    std::thread::Builder::new().name("teaching".into()).spawn(work).context("the teaching thread")?;
    Ok(())
}

async fn for_ever(source: &dyn Source, desk: &Desk, options: &TeachOptions, stop: &CancellationToken) {
    let mut wait = AFTER_START;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = BETWEEN;
        let done = tokio::select! {
            () = stop.cancelled() => return,
            done = round(source, desk, options, SystemClock.now()) => done,
        };
        match done {
            Ok(done) if done.left > 0 => tracing::info!(
                partitions = done.left,
                "too many to fit detectors from the history of a source that is read as a whole"
            ),
            Ok(done) => tracing::info!(due = done.due, taught = done.taught, "detectors from history"),
            Err(error) => tracing::warn!(%error, "the history for detectors cannot be read"),
        }
    }
}
