//! `foreshift train` on history in a real InfluxDB 1.6: models are made, held to what speaks now on hosts
//! that neither has seen, put into use where they are better, used by the engine, and taken back.

#[path = "support/influx1.rs"]
mod influx1;
#[path = "support/lived.rs"]
mod lived;
#[path = "support/program.rs"]
mod program;
mod support;

use std::fmt::Write;

use foreshift::fleet::Span;
use influx1::Influx1;
use lived::{START, life};
use program::Program;
use serde_json::Value;

/// Runs it and expects one JSON object.
fn object(program: &Program, arguments: &[&str]) -> Value {
    let output = program.run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {error}"))
}

fn said(program: &Program, arguments: &[&str]) -> (bool, String) {
    let output = program.run(arguments);
    let all = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&all).into_owned())
}

/// What `check` says of models.
fn models(program: &Program) -> String {
    let checked = program.run(&["check", "--json"]);
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let findings = checked["findings"].as_array().unwrap().iter();
    findings.filter(|f| f["what"] == "model").map(|f| f["said"].to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_own_history_is_made_compared_used_and_taken_back() {
    let Some(server) = Influx1::start().await else { return };
    let (rows, died) = life(11, Span::hours(12)).await;
    server.query("", "CREATE DATABASE telegraf").await;
    for body in rows.bodies(START + Span::hours(12)) {
        server.write("telegraf", body).await;
    }
    let program = Program::new(
        "",
        &format!(
            "[telemetry]\nsource = \"influxdb1\"\nurl = {:?}\ndatabase = \"telegraf\"\npartition_tag = \"partition\"\n\
             history = \"1d\"\n",
            server.url
        ),
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("failures.csv");
    let mut csv = String::from("at,subject,cause,label\n");
    for (_, partitions, at) in &died {
        partitions.iter().for_each(|p| writeln!(csv, "{},{p},died,failed", at.0).unwrap());
    }
    std::fs::write(&file, csv).unwrap();
    let (labels, to) = (file.display().to_string(), (START + Span::hours(12)).0.to_string());
    let span = ["--from", "12h", "--to", &to, "--failures", &labels];

    let (well, nothing) = said(&program, &["train", "--from", "12h", "--to", &to]);
    assert!(!well && nothing.contains("0 of 66 partitions failed, too few to train on"), "{nothing}");

    let before = models(&program);
    assert!(before.contains("calibrated on other fleets (shipped)"), "{before}");
    // Trained, it runs in shadow and says nothing.
    let shadowed = object(&program, &[&["train", "--json"], &span[..]].concat());
    assert_eq!((&shadowed["in_use"], &shadowed["in_shadow"]), (&Value::Bool(false), &Value::Bool(true)));
    let course = shadowed["autoencoder"].as_str().unwrap();
    assert!(course.contains("area under the ROC curve") && course.contains("held-back windows"), "{course}");
    let listed = object(&program, &["models", "list", "--json"]);
    assert_eq!((&listed["shadow"]["version"], &listed["shadow"]["seat"]), (&1.into(), &"challenger".into()));
    assert_eq!(models(&program), before, "what is in shadow does not speak");
    assert!(said(&program, &["models", "list"]).1.contains("~ version 1 in shadow since"));

    let trained = object(&program, &[&["train", "--promote", "--json"], &span[..]].concat());
    println!("{trained:#}");
    assert_eq!(trained["failures"], died.iter().map(|d| d.1.len()).sum::<usize>());
    let windows = trained["windows"].as_array().unwrap();
    assert!(windows.iter().all(|w| w["challenger"]["rows"] == w["champion"]["rows"]), "on the same rows");
    let better = windows.iter().filter(|w| w["better"] == true).count();
    assert_eq!(trained["in_use"], better > 0, "in use where it is better, and only there");
    for window in windows.iter().filter(|w| w["better"] == true) {
        let of = |who: &str, what: &str| window[who][what].as_f64().unwrap();
        assert!(of("challenger", "auprc") > of("champion", "auprc"), "{window}");
        assert!(of("challenger", "brier") <= 1.02 * of("champion", "brier"), "{window}");
    }
    assert!(better > 0, "a day of the very fleet teaches more than other fleets: {trained:#}");
    let now = models(&program);
    assert!(now.contains("calibrated on this fleet"), "the engine opens what check opens: {now}");

    let listed = object(&program, &["models", "list", "--json"]);
    assert_eq!(listed["versions"][1]["in_use"], true);
    let cards = listed["versions"][1]["cards"].as_array().unwrap();
    assert!(
        cards.len() >= windows.len()
            && cards.iter().all(|c| c["hash"].as_str().is_some_and(|h| h.len() == 64))
    );
    // A backtest with it says that it has seen the answers.
    let from = (START + Span::hours(11)).0.to_string();
    let tested =
        object(&program, &["backtest", "--json", "--from", &from, "--to", &to, "--failures", &labels]);
    assert!(tested["notes"].to_string().contains("has seen the answers"), "{}", tested["notes"]);
    assert!(tested["models"].to_string().contains("calibrated on this fleet"), "{}", tested["models"]);

    // The same seed and history make the same models, which are then no better than themselves.
    let again = object(&program, &[&["train", "--promote", "--json"], &span[..]].concat());
    assert_eq!((&again["in_use"], &again["version"]), (&Value::Bool(false), &3.into()), "{again:#}");
    let listed = object(&program, &["models", "list", "--json"]);
    let hashes = |version: usize| -> Vec<String> {
        let cards = listed["versions"][version]["cards"].as_array().unwrap().iter();
        cards.map(|c| c["hash"].as_str().unwrap().to_string()).collect()
    };
    let of_better: Vec<&Value> = windows.iter().filter(|w| w["better"] == true).collect();
    assert!(hashes(2).iter().filter(|h| hashes(1).contains(h)).count() >= of_better.len());
    // What says no more than the base rate is not put into use by hand, either.
    let skill = |w: &Value| w["challenger"]["brier_skill"].as_f64().unwrap();
    let worthless = again["windows"].as_array().unwrap().iter().any(|w| skill(w) <= 0.0);
    let (well, words) = said(&program, &["models", "promote", "3"]);
    assert_eq!((well, words.contains("base rate")), (!worthless, worthless), "{words}");
    if well {
        let listed = object(&program, &["models", "list", "--json"]);
        assert_eq!(listed["versions"][2]["in_use"], true);
        assert_eq!((&listed["shadow"]["version"], &listed["shadow"]["seat"]), (&2.into(), &"former".into()));
        assert!(said(&program, &["models", "revert"]).1.contains("version 2 speaks"));
    }
    assert!(said(&program, &["models", "revert"]).1.contains("the shipped models speak"));
    assert_eq!(models(&program), before);
    let (well, none) = said(&program, &["models", "revert"]);
    assert!(!well && none.contains("the shipped models speak already"), "{none}");
    let (well, none) = said(&program, &["models", "promote", "9"]);
    assert!(!well && none.contains("there is no version 9"), "{none}");
}
