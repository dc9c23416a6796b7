//! The engine's own metrics in Prometheus' text format.

use std::fmt::Write;

use crate::protocol::{Severity, Snapshot};

/// All metrics of a snapshot.
pub fn render(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    let head = |name: &str, help: &str, kind: &str| format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    let texts = [
        head("foreshift_partition_health", "Health score, 0 to 100; absent while unknown.", "gauge"),
        head("foreshift_failure_probability", "Probability of failure within the window.", "gauge"),
        head("foreshift_migrations", "Migrations by phase.", "gauge"),
        head("foreshift_alerts", "Open alerts by severity.", "gauge"),
        head("foreshift_cycle_seconds", "Time the last cycle took.", "gauge"),
        head("foreshift_samples_taken_total", "Samples taken since the start.", "counter"),
        head("foreshift_data_age_seconds", "Age of the newest sample; absent while there is none.", "gauge"),
    ];
    out.push_str(&texts[0]);
    for partition in snapshot.partitions.iter() {
        if let Some(health) = partition.health {
            let _ = writeln!(
                out,
                "foreshift_partition_health{{partition=\"{}\"}} {}",
                escape(partition.id.as_str()),
                health.get()
            );
        }
    }
    out.push_str(&texts[1]);
    for partition in snapshot.partitions.iter() {
        for (window, probability) in snapshot.windows.iter().zip(&partition.failure) {
            let _ = writeln!(
                out,
                "foreshift_failure_probability{{partition=\"{}\",within_seconds=\"{}\"}} {}",
                escape(partition.id.as_str()),
                window.0 / 1000,
                probability.get()
            );
        }
    }
    out.push_str(&texts[2]);
    let mut phases = std::collections::BTreeMap::new();
    for migration in snapshot.migrations.iter() {
        *phases.entry(format!("{:?}", migration.phase)).or_insert(0u32) += 1;
    }
    for (phase, count) in phases {
        let _ = writeln!(out, "foreshift_migrations{{phase=\"{phase}\"}} {count}");
    }
    out.push_str(&texts[3]);
    for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
        let count = snapshot.alerts.iter().filter(|a| a.severity == severity).count();
        let _ = writeln!(out, "foreshift_alerts{{severity=\"{severity:?}\"}} {count}");
    }
    let _ = writeln!(out, "{}foreshift_cycle_seconds {}", texts[4], snapshot.cycle_ms / 1000.0);
    let _ = writeln!(out, "{}foreshift_samples_taken_total {}", texts[5], snapshot.data.taken);
    if let Some(newest) = snapshot.data.newest {
        let age = newest.age(snapshot.at).as_seconds();
        let _ = writeln!(out, "{}foreshift_data_age_seconds {age}", texts[6]);
    }
    out
}

/// A label's value as Prometheus' text format wants it.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
