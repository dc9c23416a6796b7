//! The drift alarm: what the models read lies outside what they were trained on.

use super::core::Core;
use crate::fleet::Timestamp;
use crate::protocol::Severity;

/// Share of inputs outside the training range from which on it is alarmed on, and under which no longer.
const DRIFT: (f64, f64) = (0.05, 0.025);

impl Core {
    /// Shows how far what the models read lies outside what they were trained on, and alarms on it from
    /// [`DRIFT`]`.0` on until it is under [`DRIFT`]`.1`.
    pub(super) fn watch_drift(&mut self, now: Timestamp) {
        let drift = self.brain.assessor().drift();
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        self.snapshot.models.drift = drift
            .iter()
            .map(|d| {
                let share = percent(d.share);
                format!(
                    "within {}: {share} of what it read lay outside its training range",
                    d.within.as_window()
                )
            })
            .collect();
        let Some(worst) = drift.iter().max_by(|a, b| a.share.total_cmp(&b.share)).copied() else {
            self.alerts.clear(now, "models", "drift");
            return;
        };
        if worst.share >= DRIFT.0 {
            let text = format!(
                "{} of what the model for {} reads lies outside what it was trained on: take its probabilities with \
                 care, and train anew",
                percent(worst.share),
                worst.within.as_window()
            );
            self.alerts.raise(now, Severity::Warning, "models", "drift", text);
        } else if worst.share < DRIFT.1 {
            self.alerts.clear(now, "models", "drift");
        }
    }
}
