//! Scores, probabilities, forecasts and the state of migrations as readings for the time-series
//! database (C9), and the task that writes them without making the loop wait.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::fleet::Timestamp;
use crate::predict::Assessment;
use crate::protocol::{MigrationView, Snapshot};
use crate::telemetry::{Reading, Sink};

/// Batches that may wait; what comes beyond is dropped and said so.
const QUEUE: usize = 16;
/// Tries of one batch.
const TRIES: u32 = 3;

/// What is written after a cycle.
pub fn readings<'a>(
    at: Timestamp,
    snapshot: &Snapshot,
    assessments: impl Iterator<Item = &'a Assessment>,
) -> Vec<Reading> {
    let mut out = Vec::with_capacity(snapshot.partitions.len() + snapshot.migrations.len());
    for assessment in assessments {
        let Some(health) = assessment.health else { continue };
        let mut fields = vec![("health".to_string(), health.get())];
        if let Some(instability) = assessment.instability {
            fields.push(("instability".into(), instability));
        }
        if let Some(anomaly) = assessment.anomaly {
            fields.push(("anomaly".into(), anomaly.score));
            fields.push(("anomaly_alarm".into(), f64::from(u8::from(anomaly.alarmed))));
        }
        for failure in &assessment.failure {
            fields.push((format!("failure_{}s", failure.within.0 / 1000), failure.probability.get()));
        }
        fields.push(("confidence".into(), assessment.confidence.value()));
        out.push(Reading {
            at,
            measurement: "foreshift_score".into(),
            tags: vec![
                ("host".into(), assessment.partition.host().to_string()),
                ("partition".into(), assessment.partition.to_string()),
            ],
            fields,
        });
    }
    out.extend(snapshot.migrations.iter().map(|m| migration(at, m)));
    out
}

fn migration(at: Timestamp, m: &MigrationView) -> Reading {
    let mut fields = vec![
        ("phase".to_string(), f64::from(phase_number(m))),
        ("ended".to_string(), f64::from(u8::from(m.phase.is_end()))),
    ];
    if let Some(progress) = m.progress {
        fields.push(("progress".into(), progress.get()));
    }
    Reading {
        at,
        measurement: "foreshift_migration".into(),
        tags: vec![
            ("destination".into(), m.destination.to_string()),
            ("migration".into(), m.id.to_string()),
            ("source".into(), m.source.to_string()),
            ("workload".into(), m.workload.to_string()),
        ],
        fields,
    }
}

/// The phase as its place in `Phase::ALL`, for charts.
fn phase_number(m: &MigrationView) -> u8 {
    let at = crate::fleet::Phase::ALL.iter().position(|p| *p == m.phase).unwrap_or_default();
    u8::try_from(at).unwrap_or(u8::MAX)
}

/// Writes batches until `batches` is closed; `failing` holds the last error while there is one.
pub async fn write_for_ever(
    sink: Arc<dyn Sink>,
    mut batches: mpsc::Receiver<Vec<Reading>>,
    failing: watch::Sender<Option<String>>,
) {
    while let Some(batch) = batches.recv().await {
        let mut outcome = None;
        for attempt in 0..TRIES {
            match sink.write(&batch).await {
                Ok(_) => {
                    outcome = None;
                    break;
                }
                Err(error) => {
                    let again = error.retryable && attempt + 1 < TRIES;
                    let wait = error.wait.map_or(1000 << attempt, |w| w.0.clamp(0, 30_000));
                    outcome = Some(error.to_string());
                    if !again {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(wait.unsigned_abs())).await;
                }
            }
        }
        if let Some(reason) = &outcome {
            tracing::warn!(%reason, readings = batch.len(), "write-back failed");
        }
        failing.send_if_modified(|now| {
            let changed = *now != outcome;
            *now = outcome;
            changed
        });
    }
}

/// The bounded queue to the writer.
pub fn queue() -> (mpsc::Sender<Vec<Reading>>, mpsc::Receiver<Vec<Reading>>) {
    mpsc::channel(QUEUE)
}
