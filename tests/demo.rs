//! The demo without a terminal: the same seed gives the same report to the byte, and moving first
//! costs no more service than moving after the failure.

#[path = "support/program.rs"]
mod program;
mod support;

use std::process::{Command, Stdio};

use program::bare;
use serde_json::Value;

fn demo() -> Command {
    bare(&["demo", "--headless", "--seed", "3", "--for", "900s", "--report", "json"])
}

#[test]
fn one_seed_gives_one_report_and_moving_first_costs_no_more_than_moving_after() {
    let home = tempfile::tempdir().expect("a folder");
    let runs: Vec<_> = (0..2)
        .map(|_| {
            demo()
                .current_dir(home.path())
                .env("HOME", home.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the program")
        })
        .collect();
    let outputs: Vec<_> = runs.into_iter().map(|run| run.wait_with_output().expect("its output")).collect();
    for output in &outputs {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&outputs[0].stdout);
    assert_eq!(text, String::from_utf8_lossy(&outputs[1].stdout));

    let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    println!("{report}");
    for key in [
        "/cycles",
        "/partitions",
        "/workloads",
        "/failures/injected",
        "/failures/averted",
        "/failures/missed",
        "/false_migrations",
        "/migrations/completed",
        "/migrations/rolled_back",
        "/migrations/failed",
        "/unavailable_s/proactive",
        "/unavailable_s/reactive",
    ] {
        assert!(report.pointer(key).is_some_and(Value::is_number), "{key}: {report:#}");
    }
    // Without an averted failure there is no lead time.
    for key in ["/lead_time_s/p50", "/lead_time_s/min"] {
        assert!(report.pointer(key).is_some_and(|v| v.is_number() || v.is_null()), "{key}: {report:#}");
    }
    assert!(report["cycles"].as_u64() > Some(50) && report["failures"]["injected"].as_u64() > Some(0));
    let unavailable = |which: &str| report["unavailable_s"][which].as_f64().expect("a number");
    assert!(unavailable("proactive") <= unavailable("reactive"), "{report:#}");
}
