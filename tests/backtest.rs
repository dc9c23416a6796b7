//! `foreshift backtest` on histories whose failures are known: a real InfluxDB 1.6 that holds what the
//! simulated fleet's agents sent, recorded files, and the demo.

#[path = "support/influx1.rs"]
mod influx1;
#[path = "support/lived.rs"]
mod lived;
#[path = "support/program.rs"]
mod program;
mod support;

use std::fmt::Write;

use foreshift::fleet::{PartitionId, Span};
use influx1::Influx1;
use lived::{START, life};
use program::{Program, bare};
use serde_json::Value;

/// The configuration for a database: one threshold, of the shortest window, so that what is needless can
/// be told soon.
fn over(server: &Influx1, database: &str) -> Program {
    Program::new(
        "",
        &format!(
            "[telemetry]\nsource = \"influxdb1\"\nurl = {:?}\ndatabase = {database:?}\npartition_tag = \"partition\"\n\
             history = \"1d\"\n[[plan.thresholds]]\nwithin = \"15m\"\non = 0.2\noff = 0.1\n",
            server.url
        ),
    )
}

fn minutes(n: i64) -> String {
    (START + Span::minutes(n)).0.to_string()
}

/// Runs it: the one object, and the bytes.
fn backtest(program: &Program, arguments: &[&str]) -> (Value, Vec<u8>) {
    let output = program.command(&["backtest", "--json"]).args(arguments).output().expect("the program");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {error}"));
    (value, output.stdout)
}

/// Runs it and expects words on standard error, and nothing on standard output.
fn refused(program: &Program, arguments: &[&str]) -> String {
    let output = program.command(&["backtest", "--json"]).args(arguments).output().expect("the program");
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_real_influxdb_it_proposes_before_the_failure_and_counts_the_needless_one() {
    let Some(server) = Influx1::start().await else { return };
    let (rows, died) = life(7, Span::minutes(80)).await;
    for (database, until) in [("whole", Span::minutes(80)), ("cut", Span::minutes(30))] {
        server.query("", &format!("CREATE DATABASE {database}")).await;
        for body in rows.bodies(START + until) {
            server.write(database, body).await;
        }
    }
    // The first host to die is recorded; those that died later are not, so calls of them are needless as
    // far as anybody knows.
    let (host, partitions, at) = &died[0];
    let forgotten: Vec<&str> = died[1..].iter().flat_map(|d| &d.1).map(PartitionId::as_str).collect();
    let whole = over(&server, "whole");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("failures.csv");
    std::fs::write(&file, format!("at,subject,cause,label\n{},{host},dying disk,failed\n", at.0)).unwrap();
    let labels = file.display().to_string();
    let (from, to) = (minutes(0), minutes(80));
    let span = ["--from", &from, "--to", &to, "--failures", &labels];
    let (report, bytes) = backtest(&whole, &span);

    let failure = &report["failures"][0];
    assert_eq!(failure["record"], format!("{labels}:2"), "the place of the record");
    assert_eq!(failure["partitions"].as_array().map(Vec::len), Some(partitions.len()));
    assert_eq!(failure["caught"], true, "{failure}");
    let lead = failure["lead_s"].as_f64().unwrap();
    assert!((60.0..480.0).contains(&lead), "proposed {lead} s ahead");
    let proposals = report["proposals"].as_array().unwrap();
    for partition in partitions {
        let own = proposals.iter().find(|p| p["partition"] == partition.as_str()).unwrap();
        assert_eq!(own["verdict"], "right");
        assert!(own["could_at"].as_str() < failure["at"].as_str() && own["because"] != "", "{own}");
        assert!(own["moves"] == 1 && own["destinations"].as_array().is_some_and(|d| d.len() == 1), "{own}");
    }
    let needless: Vec<&Value> = proposals.iter().filter(|p| p["verdict"] == "needless").collect();
    let of_forgotten = |p: &&Value| p["partition"].as_str().is_some_and(|p| forgotten.contains(&p));
    assert!(needless.iter().any(of_forgotten), "{forgotten:?}: {proposals:#?}");
    assert_eq!(report["configured"]["needless"], needless.len());
    assert_eq!(report["recommendations"][0]["threshold"], Value::Null, "one failure recommends nothing");
    assert_eq!(report["recommendations"][0]["trust"], "too_few");
    assert_eq!(backtest(&whole, &span).1, bytes, "the same history gives the same bytes");

    // Causality: what was said before the history ends is the same when there is nothing after it.
    let (cut, _) = backtest(&over(&server, "cut"), &["--from", &from, "--to", &to, "--failures", &labels]);
    let ends = "2026-01-05T00:30:00Z";
    let before = |report: &Value| -> Vec<Value> {
        let said = ["at", "partition", "title", "because", "probability", "moves", "destinations", "blocked"];
        let all = report["proposals"].as_array().unwrap().iter();
        let all = all.filter(|p| p["at"].as_str() <= Some(ends));
        all.map(|p| said.iter().map(|k| p[*k].clone()).collect()).collect()
    };
    assert!(!before(&cut).is_empty());
    assert_eq!(before(&cut), before(&report));
    assert!(cut["notes"].to_string().contains("the data end at 2026-01-05T00:2"), "{}", cut["notes"]);

    // And what cannot be used is named with its place.
    std::fs::write(
        &file,
        format!("at,subject,cause,label\n{},{host},x,failed\n{},{host}x,y,failed\n", at.0, at.0),
    )
    .unwrap();
    let said = refused(&whole, &span);
    assert!(said.contains(&format!("{labels}:3: \"{host}x\"")) && said.contains("expected one of"), "{said}");
    let nothing = refused(&whole, &["--from", "2020-01-01", "--to", "2020-01-01T01:00:00Z"]);
    assert!(
        nothing.contains("holds no sample between 2020-01-01T00:00:00Z") && nothing.contains("choose a span")
    );
    let early = minutes(-3000);
    let (kept, _) = backtest(&whole, &["--from", &early, "--to", &minutes(-1430)]);
    assert!(kept["notes"].to_string().contains("before that nothing is held"), "{}", kept["notes"]);
}

/// A recording of four quiet partitions over an hour, and its configuration.
fn recorded() -> (Program, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut csv = String::from("time,partition,cpu.busy,mem.used\n");
    for i in 0..120 {
        for p in 0..4 {
            let at = START.0 + i * 30_000;
            // The fourth begins in the middle.
            if p < 3 || i >= 60 {
                writeln!(csv, "{at},h{p},{},{}", 20 + (i * 7 + p * 3) % 5, 40 + p).unwrap();
            }
        }
    }
    let file = folder.path().join("recorded.csv");
    std::fs::write(&file, csv).unwrap();
    let rest = format!("[telemetry]\nsource = \"replay\"\nfiles = [{:?}]\n", file.display().to_string());
    (Program::new("", &rest), folder)
}

#[test]
fn recorded_files_need_no_server_and_a_quiet_hour_proposes_nothing() {
    let (program, _folder) = recorded();
    let (report, _) = backtest(&program, &["--from", "1h"]);
    assert_eq!((&report["partitions"], &report["proposals"]), (&4.into(), &Value::Array(Vec::new())));
    assert_eq!(report["to"], "2026-01-05T00:59:30.001Z", "up to the last sample");
    assert!(report["recommendations"][0]["words"].to_string().contains("no failure is recorded"));
    let text = program.run(&["backtest", "--from", "1h"]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains("failures   0 recorded: 0 caught, 0 missed"), "{text}");
}

#[test]
fn what_was_moved_away_counts_for_nothing_and_stored_records_are_used() {
    let (program, _folder) = recorded();
    for (label, at) in [("failed", minutes(40)), ("mitigated", minutes(45))] {
        let added = program.run(&["failures", "add", "h0", "--at", &at, "--label", label]);
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    }
    let (report, _) = backtest(&program, &["--from", "1h"]);
    assert_eq!((&report["configured"]["failures"], &report["outcomes_unknown"]), (&1.into(), &1.into()));
    assert_eq!(report["failures"][0]["record"], "record 1 of the failure history");
    assert_eq!(report["failures"][0]["caught"], false);
}

#[test]
fn bad_input_is_named_with_its_place_what_was_expected_and_what_to_do() {
    let (program, folder) = recorded();
    let said = refused(&program, &["--from", "2026-01-06", "--to", "2026-01-05"]);
    assert!(said.contains("--from 2026-01-06T00:00:00Z lies after --to 2026-01-05T00:00:00Z"), "{said}");
    assert!(refused(&program, &["--from", "yesterday"]).contains("--from \"yesterday\": expected a time"));
    assert!(refused(&program, &["--to", "2100-01-01"]).contains("lies in the future"));
    assert!(refused(&program, &["--crash-cost", "-1"]).contains("not negative"));
    let tiny = refused(&program, &["--from", "10s"]);
    assert!(tiny.contains("shorter than two cycles"), "{tiny}");
    let file = folder.path().join("f.csv").display().to_string();
    let with = |text: &str| {
        std::fs::write(&file, text).unwrap();
        ["--from", "1h", "--failures", &file].map(str::to_string)
    };
    let refuse = |text: &str| {
        let arguments = with(text);
        refused(&program, &arguments.each_ref().map(String::as_str))
    };
    let said = refuse("at,subject,cause,label\n2026-01-05T00:30:00Z,h1,x,exploded\n");
    assert!(said.contains("f.csv:2: label \"exploded\": expected failed, survived or mitigated"), "{said}");
    let said = refuse("2026-01-05T00:30:00Z,h9,x,failed\n");
    assert!(said.contains("f.csv:1: \"h9\"") && said.contains("expected one of h0, h1, h2, h3"), "{said}");
    let missing = refused(&program, &["--failures", "nowhere.csv"]);
    assert!(missing.contains("--failures nowhere.csv: cannot be read"), "{missing}");
    // A label before the data is left out, and told.
    let arguments = with("2026-01-05T00:10:00Z,h3,x,failed\n2025-12-05T00:10:00Z,h1,x,failed\n");
    let (report, _) = backtest(&program, &arguments.each_ref().map(String::as_str));
    let notes = report["notes"].to_string();
    assert!(notes.contains("f.csv:1: h3 at 2026-01-05T00:10:00Z lies before its first sample"), "{notes}");
    assert!(notes.contains("1 of 2 records lie outside"), "{notes}");
    assert_eq!(report["configured"]["failures"], 0);
    let home = tempfile::tempdir().unwrap();
    let none = bare(&["backtest"]).current_dir(home.path()).env("HOME", home.path()).output().unwrap();
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(said.contains("pass --config FILE") && said.contains("--demo"), "{said}");
}

#[test]
fn the_demo_shows_it_with_nothing_installed_the_same_by_seed() {
    let home = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let mut command = bare(&["backtest", "--demo", "--seed", "7", "--for", "60m"]);
        command.args(more).current_dir(home.path()).env("HOME", home.path()).output().unwrap()
    };
    let (first, again) = (run(&["--json"]), run(&["--json"]));
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert_eq!(first.stdout, again.stdout);
    let report: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert!(report["configured"]["caught"].as_u64() > Some(0), "{:#}", report["configured"]);
    let text = String::from_utf8_lossy(&run(&[]).stdout).into_owned();
    for part in ["As configured", "Over time", "Thresholds within 15 m", "What to set", "TOO FEW FAILURES"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
