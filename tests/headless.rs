//! The program without a terminal: what it writes, how it stops, what it refuses, and what it shows
//! of a fleet that Telegraf writes into a real InfluxDB 1.x.

#[path = "support/influx1.rs"]
mod influx1;
#[path = "support/program.rs"]
mod program;
mod support;
#[path = "support/telegraf.rs"]
mod telegraf;

use std::time::Duration;

use foreshift::fleet::{Clock, PredictionState, SystemClock};
use influx1::Influx1;
use program::{Program, bare};
use serde_json::{Value, json};
use support::{free_port, wait_until_async};

const LONG: Duration = Duration::from_secs(60);

fn telemetry(url: &str) -> String {
    format!(
        "[telemetry]\nsource = \"influxdb1\"\nurl = \"{url}\"\ndatabase = \"telegraf\"\nstep = \"10s\"\n\
         [telemetry.write_back]\nenabled = true\nbucket = \"scores\""
    )
}

/// Six hosts over the last half hour, up to now.
async fn feed(server: &Influx1) {
    let now = SystemClock.now().millis() / 1000;
    server.query("", "CREATE DATABASE telegraf").await;
    server.write("telegraf", telegraf::lines(6, now - 1_800, now)).await;
}

#[tokio::test]
async fn it_logs_json_lines_and_stops_cleanly_on_sigterm() {
    let program = Program::new("", "");
    let mut engine = program.engine(&[]);
    assert!(program.snapshot().await.sequence > 0 || engine.is_running());
    let status = engine.stop("TERM", Duration::from_secs(5));
    assert_eq!(status.code(), Some(0), "{}", engine.log_tail());
    let log = engine.log();
    assert!(log.lines().count() > 0);
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
    assert!(log.contains("SIGTERM"), "{log}");
}

#[tokio::test]
async fn a_read_only_engine_changes_nothing_and_cannot_be_automatic() {
    let program = Program::new("", "");
    let _engine = program.engine(&["--read-only"]);
    for command in [
        json!({ "command": "stop_everything" }),
        json!({ "command": "set_mode", "mode": "auto" }),
        json!({ "command": "evacuate", "host": "h1" }),
    ] {
        let (status, refusal) = program.ask(command.clone()).await;
        assert_eq!((status, &refusal["refusal"]), (403, &json!("read_only")), "{command}");
    }
    assert!(program.snapshot().await.stopped.is_none());

    let both = Program::new("", "").run(&["--headless", "--auto", "--read-only"]);
    let said = String::from_utf8_lossy(&both.stderr);
    assert!(!both.status.success() && said.contains("--read-only"), "{said}");
}

#[test]
fn a_wrong_configuration_is_named_with_file_line_and_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, "[engine]\nname = \"a\"\nintervall = \"15s\"\n").expect("a file");
    for arguments in [["check"], ["--headless"]] {
        let output = bare(&arguments).arg("--config").arg(&file).output().expect("the program");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("wrong.toml:3") && said.contains("intervall"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_it_found_and_whether_it_can_be_used() {
    let Some(server) = Influx1::start().await else { return };
    feed(&server).await;
    let found = Program::new("", &telemetry(&server.url)).run(&["check"]);
    let said = String::from_utf8_lossy(&found.stdout);
    assert_eq!(found.status.code(), Some(0), "{said}");
    assert!(said.contains("6 hosts") && said.contains("made with the first scores"), "{said}");
    let none = server.query("", "SHOW DATABASES").await.to_string();
    assert!(!none.contains("scores"), "check makes nothing: {none}");

    let wrong = Program::new("", &telemetry(&format!("http://127.0.0.1:{}", free_port()))).run(&["check"]);
    let said = String::from_utf8_lossy(&wrong.stdout);
    assert_eq!(wrong.status.code(), Some(1), "{said}");
    assert!(said.contains("broken") && said.contains("telemetry"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_in_an_influxdb_are_shown_written_back_and_unknown_when_their_data_stops() {
    let Some(server) = Influx1::start().await else { return };
    feed(&server).await;
    let program = Program::new("interval = \"1s\"\nstale_after = \"15s\"", &telemetry(&server.url));
    let _engine = program.engine(&[]);
    wait_until_async("six hosts are shown", LONG, || async {
        let snapshot = program.snapshot().await;
        snapshot.hosts.len() == 6 && snapshot.partitions.len() == 6
    })
    .await;
    wait_until_async("hosts are judged, and scores are written back", LONG, || async {
        // Telegraf goes on.
        let now = SystemClock.now().millis() / 1000;
        server.write("telegraf", telegraf::lines(6, now - 30, now)).await;
        let shown = server.query("scores", "SHOW MEASUREMENTS").await;
        shown.pointer("/results/0/series/0/values").is_some()
    })
    .await;
    // Nobody writes any more: what is not known is never shown as well.
    wait_until_async("all are unknown", LONG, || async {
        let snapshot = program.snapshot().await;
        snapshot.partitions.iter().all(|p| p.prediction == PredictionState::Unknown)
    })
    .await;
    assert_eq!(program.snapshot().await.partitions.len(), 6);
}
