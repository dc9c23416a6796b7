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

    let demo = bare(&["demo", "--headless", "--read-only"]).output().expect("the program");
    let said = String::from_utf8_lossy(&demo.stderr);
    assert!(!demo.status.success() && said.contains("automatic mode"), "{said}");

    let both = Program::new("", "").run(&["--headless", "--auto", "--read-only"]);
    let said = String::from_utf8_lossy(&both.stderr);
    assert!(!both.status.success() && said.contains("--read-only"), "{said}");
}

#[tokio::test]
async fn a_failure_that_nothing_can_be_learnt_from_is_refused_and_says_why() {
    let program = Program::new("", "");
    let _engine = program.engine(&[]);
    let now = SystemClock.now().millis();
    for (subject, at, why) in [("h1", now + 86_400_000, "future"), (" ", now, "expected the name")] {
        let record = json!({ "command": "record_failure", "subject": subject, "at": at, "cause": "disk" });
        let (status, refusal) = program.ask(record).await;
        assert_eq!((status, &refusal["refusal"]), (422, &json!("invalid")), "{refusal}");
        assert!(refusal["reason"].as_str().is_some_and(|reason| reason.contains(why)), "{refusal}");
    }
    let record = json!({ "command": "record_failure", "subject": "h1", "at": now, "cause": "disk" });
    assert_eq!(program.ask(record.clone()).await.0, 200);
    let (_, again) = program.ask(record).await;
    assert!(again["said"].as_str().is_some_and(|said| said.contains("already")), "{again}");
    assert_eq!(failures(&program, &["list"]).matches("h1").count(), 1);
}

/// What `failures` prints while the engine runs; it goes well.
fn failures(program: &Program, arguments: &[&str]) -> String {
    let output = program.run(&[&["failures"], arguments].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_failure_history_is_kept_by_the_engine_while_it_runs() {
    let program = Program::new("", "");
    let mut engine = program.engine(&[]);
    failures(&program, &["add", "h1/p1", "--cause", "disk", "--at", "2026-11-01T03:00:00Z"]);
    let file = program.config.with_file_name("more.csv");
    let lines =
        "at,subject,cause,label\n2026-11-01T03:00:00Z,h1/p1,disk,failed\n1790000000,h2,power,survived\n";
    std::fs::write(&file, lines).expect("a file");
    let said = failures(&program, &["import", &file.display().to_string()]);
    assert!(said.contains("1 records taken; 1 left out"), "{said}");
    failures(&program, &["correct", "1", "mitigated", "--cause", "it was moved away"]);
    let none = program.run(&["failures", "correct", "9", "failed"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("no record 9"), "{none:?}");
    let listed: Value = serde_json::from_str(&failures(&program, &["list", "--json"])).expect("JSON");
    assert_eq!(listed[0]["label"], "mitigated");
    assert_eq!((&listed[1]["subject"], &listed[1]["origin"]), (&json!("h2"), &json!("import")));

    // The same when it has ended, from its files.
    let exported = failures(&program, &["export"]);
    engine.stop("TERM", Duration::from_secs(5));
    assert_eq!(failures(&program, &["export"]), exported);
    assert!(exported.contains("2026-11-01T03:00:00Z,h1/p1,it was moved away,mitigated"), "{exported}");
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
async fn a_read_only_engine_judges_the_hosts_in_an_influxdb_and_writes_nothing_there() {
    let Some(server) = Influx1::start().await else { return };
    feed(&server).await;
    let program = Program::new("interval = \"1s\"", &telemetry(&server.url));
    let _engine = program.engine(&["--read-only"]);
    wait_until_async("hosts are judged", LONG, || async {
        let now = SystemClock.now().millis() / 1000;
        server.write("telegraf", telegraf::lines(6, now - 30, now)).await;
        let snapshot = program.snapshot().await;
        snapshot.partitions.iter().filter(|p| p.health.is_some()).count() == 6
    })
    .await;
    let judged = program.snapshot().await.sequence;
    wait_until_async("three more cycles", LONG, || async { program.snapshot().await.sequence >= judged + 3 })
        .await;
    let none = server.query("", "SHOW DATABASES").await.to_string();
    assert!(none.contains("telegraf") && !none.contains("scores"), "{none}");
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
