//! `foreshift train --app`: a model of one application's partitions, kept with its card beside the fleet's,
//! compared with what speaks now on hosts held back, shown, put into use and taken back; and refused where
//! too little has failed.

#[path = "support/program.rs"]
mod program;
mod support;

use std::fmt::Write;
use std::path::Path;

use foreshift::fleet::rng::Random;
use program::Program;
use serde_json::Value;

/// Monday, 2026-01-05T00:00:00Z.
const START: i64 = 1_767_571_200_000;
const DAY: i64 = 86_400_000;
const DAYS: i64 = 3;
const HOSTS: usize = 24;
const WARNING: i64 = 90 * 60_000;

/// A third of the hosts of `orders` fails every day, after its disk has slowed down; of `carts` one host a
/// day, and its disks slow down for a scrub that harms nothing.
fn dies(application: &str, host: usize, day: i64) -> Option<i64> {
    let fails = match application {
        "orders" => (host as i64 + day) % 3 == 0,
        _ => host as i64 == day,
    };
    fails.then(|| day * DAY + 5 * 3_600_000 + (host as i64 * 7_919 + day * 104_729) % 960 * 60_000)
}

fn record(folder: &Path) -> (String, String, String) {
    let (mut lines, mut failures) = (String::new(), String::from("at,subject,cause,label\n"));
    let mut random = Random::new(3);
    let mut roots = String::new();
    for application in ["orders", "carts"] {
        let mut own = Vec::new();
        for h in 0..HOSTS {
            let name = format!("{application}{h:02}");
            std::fs::create_dir_all(folder.join(&name).join(format!("work-{name}"))).unwrap();
            own.push(folder.join(&name).display().to_string());
            let deaths: Vec<i64> = (0..DAYS).filter_map(|d| dies(application, h, d)).collect();
            for at in &deaths {
                writeln!(failures, "{},{name},the disk failed,failed", START + at).unwrap();
            }
            for at in (0..DAYS * DAY).step_by(30_000) {
                let near = deaths.iter().find(|d| at > **d - WARNING && at <= **d + 30 * 60_000);
                if near.is_some_and(|d| at > *d) {
                    continue;
                }
                let warned = near.map_or(0.0, |d| 1.0 - (d - at) as f64 / WARNING as f64);
                let scrub = (at - h as i64 * 3_600_000).rem_euclid(DAY) < WARNING && application == "carts";
                let slow =
                    if application == "orders" { 5.0 * warned } else { 5.0 * f64::from(u8::from(scrub)) };
                let latency = 5.0 * (0.25 * random.normal()).exp() * (1.0 + slow);
                let busy = 40.0 + 3.0 * random.normal();
                writeln!(
                    lines,
                    "foreshift_agent,host={name} disk.write_latency={latency:.3},cpu.busy={busy:.2} {}",
                    START + at
                )
                .unwrap();
            }
        }
        write!(roots, "[drivers.{application}]\nclass = \"files\"\nroots = {own:?}\n").unwrap();
    }
    let (recorded, labels) = (folder.join("recorded.lp"), folder.join("failures.csv"));
    std::fs::write(&recorded, lines).unwrap();
    std::fs::write(&labels, failures).unwrap();
    (recorded.display().to_string(), labels.display().to_string(), roots)
}

fn said(program: &Program, arguments: &[&str]) -> (bool, String) {
    let output = program.run(arguments);
    let all = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&all).into_owned())
}

/// Runs it and expects one JSON object.
fn object(program: &Program, arguments: &[&str]) -> Value {
    let output = program.run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {error}"))
}

/// What `check` says of models: of the fleet, and of applications.
fn models(program: &Program) -> (Vec<String>, Vec<String>) {
    let checked: Value = serde_json::from_slice(&program.run(&["check", "--json"]).stdout).unwrap();
    let of = |what: &str| -> Vec<String> {
        let findings = checked["findings"].as_array().unwrap().iter();
        findings.filter(|f| f["what"] == what).map(|f| f["said"].as_str().unwrap().to_string()).collect()
    };
    (of("model"), of("model of orders"))
}

#[test]
fn an_application_gets_a_model_of_its_own_where_enough_of_it_has_failed() {
    let folder = tempfile::tempdir().unwrap();
    let (recorded, labels, drivers) = record(folder.path());
    let program =
        Program::new("", &format!("[telemetry]\nsource = \"replay\"\nfiles = [{recorded:?}]\n{drivers}"));
    let train = |application: &str, more: &[&str]| {
        let from = START.to_string();
        said(
            &program,
            &[&["train", "--app", application, "--from", &from, "--failures", &labels], more].concat(),
        )
    };
    let (well, nobody) = train("billing", &[]);
    assert!(!well && nobody.contains("does the work of billing"), "{nobody}");
    assert!(nobody.contains("carts, orders"), "{nobody}");
    let (well, few) = train("carts", &[]);
    assert!(
        !well && few.contains("3 failures on 3 hosts are recorded of the 24 partitions of carts"),
        "{few}"
    );
    assert!(few.contains("needs 20 on 10") && few.contains("the fleet's model goes on"), "{few}");
    let listed = object(&program, &["models", "list", "--json"]);
    assert_eq!(listed["applications"].as_array().map(Vec::len), Some(0), "nothing is kept of it");

    let before = models(&program);
    assert!(before.1.is_empty());
    let from = START.to_string();
    let trained =
        object(&program, &["train", "--app", "orders", "--json", "--from", &from, "--failures", &labels]);
    println!("{trained:#}");
    assert_eq!((&trained["application"], &trained["partitions"]), (&"orders".into(), &HOSTS.into()));
    assert_eq!((&trained["failures"], &trained["in_shadow"]), (&HOSTS.into(), &Value::Bool(true)));
    let listed = object(&program, &["models", "list", "--json"]);
    assert_eq!(listed["versions"].as_array().map(Vec::len), Some(0), "the fleet's folder is not touched");
    let own = &listed["applications"][0];
    assert_eq!((&own["application"], &own["shadow"]["version"]), (&"orders".into(), &1.into()));
    let cards: Vec<&Value> = own["versions"][0]["cards"].as_array().unwrap().iter().collect();
    let signed: Vec<&&Value> = cards.iter().filter(|c| c["application"] == "orders").collect();
    assert!(!signed.is_empty(), "{own:#}");
    for card in signed {
        assert!(card["data"]["source"].as_str().is_some() && card["data"]["until"].as_i64().is_some());
        let window = trained["windows"].as_array().unwrap().iter();
        let window =
            window.clone().find(|w| w["within_s"].as_f64() == card["within_seconds"].as_f64()).unwrap();
        assert_eq!(window["champion"]["rows"], window["challenger"]["rows"], "on the same rows");
        assert_eq!(card["measures"]["fleets_average_precision"], window["champion"]["auprc"], "{card:#}");
    }
    let (_, words) = said(&program, &["models", "list"]);
    assert!(words.contains("orders:\n") && words.contains("~    1"), "{words}");
    assert!(words.contains("the fleet's model on the same rows"), "{words}");
    assert_eq!(models(&program), before, "what is in shadow does not speak");

    assert!(
        said(&program, &["models", "--app", "orders", "promote", "1"])
            .1
            .contains("version 1 of orders speaks")
    );
    let now = models(&program);
    assert_eq!(now.0, before.0);
    assert!(!now.1.is_empty() && now.1[0].starts_with("version 1: "), "{:?}", now.1);
    let (well, none) = said(&program, &["models", "revert"]);
    assert!(!well && none.contains("no version is in use: the shipped models speak already"), "{none}");
    let (_, back) = said(&program, &["models", "--app", "orders", "revert"]);
    assert!(back.contains("the fleet's models for orders speak"), "{back}");
    assert_eq!(models(&program), before);
}
