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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Core, test_parts};
    use crate::fleet::{PartitionId, PredictionState};
    use crate::predict::Maturity;
    use crate::telemetry::Batch;
    use crate::telemetry::embedded::EmbeddedStore;

    /// Five hosts with four metrics every 30 seconds, until the moment each was heard last.
    fn store(from: Timestamp, until: impl Fn(usize) -> Timestamp) -> EmbeddedStore {
        let store = EmbeddedStore::in_memory().unwrap();
        let mut random = crate::fleet::rng::Random::new(5);
        for host in 0..5 {
            let times: Vec<Timestamp> =
                (0..).map(|i| from + Span::seconds(30 * i)).take_while(|t| *t < until(host)).collect();
            let mut batch = Batch::new(times.clone());
            for (metric, level) in
                [("cpu.busy", 40.0), ("mem.used", 55.0), ("disk.write_latency", 7.0), ("temp", 41.0)]
            {
                let values = times.iter().map(|_| level * (1.0 + 0.05 * random.normal() as f32)).collect();
                batch = batch.with_column(metric, values);
            }
            store.append(&PartitionId::from(format!("h{host}")), &batch).unwrap();
        }
        store
    }

    #[test]
    fn parts_follow_each_other_to_the_present() {
        let now = Timestamp(Span::days(20_000).0 + Span::minutes(17).0);
        let all: Vec<_> = parts(Span::days(2), now).collect();
        assert_eq!(all.len(), 8);
        assert!(all.windows(2).all(|w| w[0].1 == w[1].0));
        assert_eq!(all.last().unwrap().1, now);
        assert!(now - all[0].0 >= Span::days(2));
    }

    #[tokio::test]
    async fn a_start_knows_days_and_shows_who_went_silent_before_it() {
        let start = Timestamp(Span::days(20_000).0 + Span::minutes(17).0);
        let died = start - Span::hours(5);
        let (from, end) = (start - Span::days(4), start + Span::minutes(10));
        let store = Arc::new(store(from, |host| if host == 3 { died } else { end }));
        let mut core = Core::start(test_parts::parts(start), start).await.unwrap();
        let plan = HistoryPlan {
            source: store.clone(),
            span: Span::days(30),
            step: Span::minutes(5),
            budget: Duration::from_secs(600),
        };
        let (sender, mut parts) = mpsc::channel(1);
        let sending = tokio::spawn(send(plan, start, sender));
        while let Some(windows) = parts.recv().await {
            core.brain_mut().learn_history(&windows);
        }
        sending.await.unwrap();
        let mut pulled_until = start - Span::hours(2);
        for cycle in 0..10 {
            let now = start + Span::seconds(30 * (cycle + 1));
            let mut pulled = Pulled::default();
            store.pull(pulled_until, now, &mut pulled).await.unwrap();
            core.take(pulled, now);
            core.cycle(now).await.unwrap();
            pulled_until = now;
        }
        let snapshot = core.snapshot();
        let row = |host: &str| snapshot.partitions.iter().find(|p| p.id.as_str() == host).unwrap();
        let silent = row("h3");
        assert_eq!((silent.prediction, silent.health), (PredictionState::Unknown, None));
        let seen = silent.seen.expect("history knows when it was heard last");
        assert!(died - seen <= Span::minutes(6), "{}", died - seen);
        let of = core.brain_mut().windows().partition(&"h1".into()).unwrap();
        let gap = core.brain_mut().assessor().gap(of);
        assert_eq!(row("h1").prediction, PredictionState::Healthy, "{gap:?}");
        let said: Vec<String> = snapshot.alerts.iter().map(|a| format!("{} {}", a.subject, a.text)).collect();
        assert!(said.len() == 1 && said[0].starts_with("h3 sends no data young enough"), "{said:?}");
        let known = core.assessments().iter().find(|a| a.partition.as_str() == "h1").unwrap();
        assert_eq!(known.maturity, Maturity::Own, "days of history count");
    }
}
