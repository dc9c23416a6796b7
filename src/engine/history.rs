//! Warming the baselines at the start: history is read in parts, oldest first, as much of it as the
//! time allows, while the console is already up. All parts count: the assessor gathers them, and the first
//! cycle makes the baselines.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::observe::Pulled;
use crate::fleet::{Span, Timestamp};
use crate::telemetry::{Source, Windows, WindowsConfig};

/// One part.
const PART: Span = Span::hours(6);
/// Parts begin on whole hours, which are what the assessor keeps.
const HOUR: Span = Span::hours(1);

/// What history is read.
#[derive(Clone)]
pub struct HistoryPlan {
    /// From where; averaged over wide steps where the source can.
    pub source: Arc<dyn Source>,
    /// How far back, at most.
    pub span: Span,
    /// Spacing.
    pub step: Span,
    /// How long reading may take in all.
    pub budget: Duration,
}

/// The parts of the history before `now`, oldest first; the newest ends at `now`.
pub fn parts(span: Span, now: Timestamp) -> impl DoubleEndedIterator<Item = (Timestamp, Timestamp)> {
    let edge = now.floor(HOUR);
    let count = span.0.div_euclid(PART.0).max(1);
    (0..count).rev().map(move |k| {
        let until = edge - Span(k * PART.0);
        (until - PART, if k == 0 { now } else { until })
    })
}

/// Reads one part into windows of its own; `None` where nothing is there or the source fails.
pub async fn part(source: &dyn Source, step: Span, from: Timestamp, until: Timestamp) -> Option<Windows> {
    let len = usize::try_from((until - from).0 / step.0.max(1)).unwrap_or(72).max(2) + 1;
    let config = WindowsConfig { step, len, ..WindowsConfig::default() };
    let mut windows = Windows::new(config, until);
    let mut pulled = Pulled::default();
    if let Err(error) = source.pull(from, until, &mut pulled).await {
        tracing::warn!(%error, "history cannot be read; baselines begin with what comes");
        return None;
    }
    if pulled.is_empty() {
        return None;
    }
    pulled.pour(&mut windows, &HashMap::new());
    Some(windows)
}

/// Sends the history before `now`, oldest part first. The newest part is read first to learn how
/// long a part takes; what does not fit into the budget is left out at the old end.
pub async fn send(plan: HistoryPlan, now: Timestamp, parts: mpsc::Sender<Windows>) {
    let started = Instant::now();
    let mut all: Vec<(Timestamp, Timestamp)> = self::parts(plan.span, now).collect();
    let Some((from, until)) = all.pop() else { return };
    let newest = part(&*plan.source, plan.step, from, until).await;
    let took = started.elapsed().max(Duration::from_millis(1));
    let affordable = (plan.budget.as_secs_f64() / took.as_secs_f64()) as usize;
    if affordable < all.len() {
        let read = Span((affordable as i64).saturating_add(1).saturating_mul(PART.0));
        tracing::info!(%read, wanted = %plan.span, "part of the history is read, to be ready in time");
        all.drain(..all.len() - affordable);
    }
    for (from, until) in all {
        if started.elapsed() > plan.budget {
            break;
        }
        if let Some(windows) = part(&*plan.source, plan.step, from, until).await
            && parts.send(windows).await.is_err()
        {
            return;
        }
    }
    if let Some(windows) = newest {
        let _ = parts.send(windows).await;
    }
}
