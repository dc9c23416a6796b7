//! `foreshift eval` as a person meets it: small folders, right and wrong.

use super::*;

fn command(task: Task, format: Format, data: &Path) -> EvalCommand {
    EvalCommand { task, format, data: data.to_owned(), protocol: None, horizon: None, json: true }
}

#[test]
fn wrong_input_is_named_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("writes");
    let said = |task, format| run(&command(task, format, folder.path())).expect_err("refused").to_string();
    assert!(said(Task::Anomaly, Format::M4).contains("anomaly takes smd or nab"));
    assert!(said(Task::Anomaly, Format::Smd).contains("NAME_train.csv"));
    write("a_train.csv", "1,2\n1,x\n");
    write("a_test.csv", "1,2\n1,2\n");
    write("a_test_label.csv", "0\n1\n");
    let text = said(Task::Anomaly, Format::Smd);
    assert!(text.contains("a_train.csv:2:") && text.contains("\"x\""), "{text}");
    write("a_train.csv", "1,2\n1\n");
    assert!(said(Task::Anomaly, Format::Smd).contains("expected 2 numbers, got \"1 numbers\""));
    let gone = run(&command(Task::Forecast, Format::M4, Path::new("nowhere"))).expect_err("refused");
    assert!(gone.to_string().contains("no such folder"));
}

/// Files of a folder, by their path in it.
fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
        std::fs::write(path, text).expect("writes");
    }
    folder
}

/// Rows of a machine whose second metric leaves the first in `broken`.
fn rows(broken: std::ops::Range<usize>) -> String {
    (0..ROWS)
        .map(|t| {
            let load = (t as f64 / 30.0).sin() + (t * 7919 % 101) as f64 / 200.0;
            format!("{load:.4},{:.4}\n", if broken.contains(&t) { 3.0 } else { 2.0 * load })
        })
        .collect()
}

/// One label a row.
fn labels(rows: usize, broken: std::ops::Range<usize>) -> String {
    (0..rows).map(|t| if broken.contains(&t) { "1\n" } else { "0\n" }).collect()
}

const ROWS: usize = 1500;
const BROKEN: std::ops::Range<usize> = 900..950;

fn json(task: Task, format: Format, data: &Path) -> serde_json::Value {
    let text = run(&command(task, format, data)).expect("runs");
    serde_json::from_str(&text).expect("one JSON object")
}

fn refused(command: &EvalCommand) -> String {
    run(command).expect_err("refused").to_string()
}

#[test]
fn a_machine_is_evaluated_to_one_json_object_with_every_measure() {
    let folder = folder(&[
        ("m_train.csv", rows(0..0)),
        ("m_test.csv", rows(BROKEN)),
        ("m_test_label.csv", labels(ROWS, BROKEN)),
    ]);
    let value = json(Task::Anomaly, Format::Smd, folder.path());
    assert_eq!(value["series"][0]["name"], "m");
    for measure in ["vus_pr", "auc_pr", "best_f1", "event_recall_1fpd", "false_events_per_day"] {
        assert!(value["mean"][measure].is_number(), "{measure}");
    }
    assert!(value["mean"]["vus_pr"].as_f64() > Some(0.8), "{value}");
    assert!(value["series"][0]["train_s"].is_number() && value["peak_rss_mb"].is_number());
}

#[test]
fn a_machine_without_labelled_rows_counts_in_false_events_alone_and_one_without_labels_is_told() {
    let folder = folder(&[
        ("a/train/m1.txt", rows(0..0)),
        ("a/test/m1.txt", rows(BROKEN)),
        ("a/test_label/m1.txt", labels(ROWS, BROKEN)),
        ("a/train/._m1.txt", "\u{0}".to_owned()),
        ("a/train/m2.txt", rows(0..0)),
        ("a/test/m2.txt", rows(BROKEN)),
        ("a/test_label/m2.txt", labels(ROWS, 0..0)),
        ("a/train/m3.txt", rows(0..0)),
        ("a/test/m3.txt", rows(0..0)),
    ]);
    let value = json(Task::Anomaly, Format::Smd, folder.path());
    let (m1, m2, mean) = (&value["series"][0], &value["series"][1], &value["mean"]);
    for measure in ["vus_pr", "auc_pr", "best_f1", "event_recall_1fpd"] {
        assert!(m2[measure].is_null(), "{measure}: {m2}");
        assert_eq!(m1[measure], mean[measure], "{measure}");
    }
    let false_events = |v: &serde_json::Value| v["false_events_per_day"].as_f64().expect("a number");
    assert!(false_events(m2) > 0.0, "an alarm on what the labels call calm is a false one: {m2}");
    assert!((false_events(mean) - (false_events(m1) + false_events(m2)) / 2.0).abs() < 1e-9);
    assert_eq!(value["skipped"][0]["name"], "m3");
    assert_eq!(value["skipped"][0]["reason"], "no test_label file");
    let notes = value["notes"].to_string();
    assert!(notes.contains("m2: its labels are all 0") && notes.contains("not one a day"), "{notes}");
    let table = run(&EvalCommand { json: false, ..command(Task::Anomaly, Format::Smd, folder.path()) });
    let table = table.expect("runs");
    assert!(table.contains("skipped: m3: no test_label file") && table.contains("–"), "{table}");
}

#[test]
fn a_machine_that_does_not_fit_together_is_named_with_its_files_and_what_to_do() {
    let bad = |label: String, train: String| {
        let folder = folder(&[
            ("m1_train.csv", rows(0..0)),
            ("m1_test.csv", rows(BROKEN)),
            ("m1_test_label.csv", labels(ROWS, BROKEN)),
            ("m2_train.csv", train),
            ("m2_test.csv", rows(BROKEN)),
            ("m2_test_label.csv", label),
        ]);
        refused(&command(Task::Anomaly, Format::Smd, folder.path()))
    };
    let said = bad(labels(ROWS - 1, BROKEN), rows(0..0));
    assert!(said.contains("m2_test_label.csv: 1499 labels for the 1500 rows of"), "{said}");
    assert!(said.contains("m2_test.csv: give one label a row, or take the machine out"), "{said}");
    let said = bad(labels(ROWS, BROKEN), "1,2\n1,3\n".to_owned());
    assert!(said.contains("m2: 2 rows with values in its train file where 30 are needed"), "{said}");
    assert!(!said.contains("retryable"), "{said}");
    let said = bad(labels(ROWS, BROKEN), "1\n".repeat(ROWS));
    assert!(said.contains("m2_test.csv: 2 metrics where") && said.contains("has 1: give both"), "{said}");
}

#[test]
fn two_machines_of_one_name_are_refused_with_both_places() {
    let mut files = Vec::new();
    for place in ["a", "b"] {
        for part in ["train", "test", "test_label"] {
            files.push(format!("{place}/{part}/m.txt"));
        }
    }
    let files: Vec<(&str, String)> = files.iter().map(|f| (f.as_str(), "1\n".to_owned())).collect();
    let said = refused(&command(Task::Anomaly, Format::Smd, folder(&files).path()));
    assert!(said.contains("a/train/m.txt and ") && said.contains("b/train/m.txt could both"), "{said}");
}

/// A NAB series of 1,000 minutes.
fn minutes() -> String {
    (0..1000).map(|i| format!("2014-01-01 {:02}:{:02}:00,{}\n", i / 60, i % 60, i % 7)).collect()
}

const WINDOW: &str = r#"[["2014-01-01 08:20:00.000000", "2014-01-01 09:10:00.000000"]]"#;

#[test]
fn nab_is_found_below_the_folder_with_or_without_header_and_tells_what_it_left_out() {
    let labels = format!(r#"{{"g/x.csv": {WINDOW}, "g/y.csv": [], "g/gone.csv": []}}"#);
    let folder = folder(&[
        ("one/NAB-master/labels/combined_windows.json", labels.clone()),
        ("one/NAB-master/data/g/x.csv", format!("timestamp,value\n{}", minutes())),
        ("one/NAB-master/data/g/y.csv", minutes()),
        ("one/NAB-master/data/g/._y.csv", "\u{0}".to_owned()),
        ("one/NAB-master/data/g/z.csv", minutes()),
        ("one/NAB-master/results/numenta/r.csv", "a".to_owned()),
    ]);
    let value = json(Task::Anomaly, Format::Nab, folder.path());
    assert_eq!(value["series"][0]["rows"], value["series"][1]["rows"], "the first row is kept");
    let skipped: Vec<&str> =
        value["skipped"].as_array().expect("a list").iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(skipped, ["g/gone", "g/z"]);
    assert!(value["mean"]["nab_standard"].is_number());
    assert!(value["notes"].to_string().contains("1 series without windows"), "{}", value["notes"]);
    let other = folder.path().join("two/NAB-master/labels");
    std::fs::create_dir_all(&other).expect("a folder");
    std::fs::write(other.join("combined_windows.json"), labels).expect("writes");
    let said = refused(&command(Task::Anomaly, Format::Nab, folder.path()));
    assert!(said.contains("one/NAB-master") && said.contains("two/NAB-master"), "{said}");
}

#[test]
fn nab_windows_that_end_before_they_begin_are_refused_and_none_at_all_gives_no_score() {
    let with = |windows: &str| {
        folder(&[
            ("labels/combined_windows.json", format!(r#"{{"g/x.csv": {windows}}}"#)),
            ("data/g/x.csv", minutes()),
        ])
    };
    let reversed = with(r#"[["2014-01-01 09:10:00", "2014-01-01 08:20:00"]]"#);
    let said = refused(&command(Task::Anomaly, Format::Nab, reversed.path()));
    assert!(said.contains("combined_windows.json: g/x: the window from 2014-01-01 09:10:00"), "{said}");
    assert!(said.contains("turn it round"), "{said}");
    let none = json(Task::Anomaly, Format::Nab, with("[]").path());
    assert!(none["mean"]["nab_standard"].is_null(), "{none}");
    assert!(none["notes"].to_string().contains("no series has a window"), "{none}");
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    let data = tempfile::tempdir().expect("a folder");
    let of = |task, format| command(task, format, data.path());
    let said = refused(&EvalCommand { protocol: Some(Protocol::Ops), ..of(Task::Forecast, Format::M4) });
    assert!(said.contains("leave it out with --format m4"), "{said}");
    for format in [Format::Smd, Format::Nab] {
        let said = refused(&EvalCommand { horizon: Some(7), ..of(Task::Anomaly, format) });
        assert!(said.contains("--horizon") && said.contains("leave it out"), "{said}");
    }
    let line = |hours: usize| (0..hours).map(|h| format!(",{}", 10 + h % 24)).collect::<String>();
    let m4 = folder(&[
        ("M4-methods/Dataset/Train/Hourly-train.csv", format!("V1,V2\nH1{}\n", line(100))),
        ("M4-methods/Dataset/Test/Hourly-test.csv", format!("V1,V2\nH1{}\n", line(48))),
    ]);
    let far = EvalCommand { horizon: Some(100), ..command(Task::Forecast, Format::M4, m4.path()) };
    let said = refused(&far);
    assert!(said.contains("--horizon 100: Hourly-test.csv has 48 values a series: give 48"), "{said}");
}

/// These series are too short for the network; that it sees longer ones in one order is the reader's promise.
#[test]
fn the_order_of_its_lines_does_not_change_the_figures_of_m4() {
    let line = |name: usize, from: usize, hours: usize| {
        let values: String = (from..from + hours)
            .map(|h| {
                format!(
                    ",{}",
                    50.0 + 20.0 * (h as f64 * std::f64::consts::TAU / 24.0).sin()
                        + (h * name * 7919 % 101) as f64 / 20.0
                )
            })
            .collect();
        format!("H{name}{values}\n")
    };
    let of = |names: [usize; 3]| {
        let all = |from, hours| names.iter().map(|&n| line(n, from, hours)).collect::<String>();
        let folder = folder(&[
            ("Hourly-train.csv", format!("V1,V2\n{}", all(0, 500))),
            ("Hourly-test.csv", format!("V1,V2\n{}", all(500, 48))),
        ]);
        let mut value = json(Task::Forecast, Format::M4, folder.path());
        for one in value["series"].as_array_mut().expect("a list") {
            one["train_s"] = 0.into();
            one["score_points_per_s"] = 0.into();
        }
        assert_eq!(value["series"][2]["name"], "H10");
        (value["series"].clone(), value["mean"]["owa"].clone())
    };
    assert_eq!(of([1, 2, 10]), of([10, 2, 1]));
}

#[test]
fn a_series_that_a_forecast_cannot_be_held_to_is_not_perfect() {
    let daily = |hours: usize| (0..hours).map(|h| format!(",{}", 10 + h % 24)).collect::<String>();
    let noisy = |hours: usize| (0..hours).map(|h| format!(",{}", 50 + h * 7919 % 31)).collect::<String>();
    let data = folder(&[
        ("Hourly-train.csv", format!("H1{}\nH2{}\nH3,7\n", ",5".repeat(500), noisy(300))),
        ("Hourly-test.csv", format!("H1{}\nH2{}\nH3{}\n", ",500".repeat(48), noisy(48), daily(48))),
    ]);
    let value = json(Task::Forecast, Format::M4, data.path());
    let (constant, good, short) = (&value["series"][0], &value["series"][1], &value["series"][2]);
    for one in [constant, short] {
        assert!(one["mase"].is_null() && one["owa"].is_null() && one["smape"].is_number(), "{one}");
    }
    assert_eq!(value["mean"]["mase"], good["mase"], "{value}");
    assert!(value["mean"]["owa"].is_number());
    assert!(value["notes"].to_string().contains("H1, H3: no MASE and no OWA"), "{}", value["notes"]);
}

#[test]
fn what_is_missing_of_a_machine_is_told_and_nothing_at_all_has_no_figures() {
    let some =
        rows(BROKEN).replacen('\n', "\nnan,1e60\n", 1).lines().take(ROWS).collect::<Vec<_>>().join("\n");
    let folder = folder(&[
        ("m1_train.csv", rows(0..0)),
        ("m1_test.csv", some),
        ("m1_test_label.csv", labels(ROWS, BROKEN)),
        ("m2_train.csv", rows(0..0)),
        ("m2_test.csv", "nan,inf\n".repeat(ROWS)),
        ("m2_test_label.csv", labels(ROWS, BROKEN)),
    ]);
    let value = json(Task::Anomaly, Format::Smd, folder.path());
    let (m1, m2) = (&value["series"][0], &value["series"][1]);
    for measure in ["vus_pr", "auc_pr", "best_f1", "event_recall_1fpd", "false_events_per_day"] {
        assert!(m2[measure].is_null(), "{measure}: {m2}");
        assert_eq!(m1[measure], value["mean"][measure], "{measure}");
    }
    let notes = value["notes"].to_string();
    assert!(notes.contains("m1: 0.07 % of its test file is missing"), "{notes}");
    assert!(notes.contains("m2: 100 % of its test file is missing"), "{notes}");
    assert!(notes.contains("m2: nothing to judge"), "{notes}");
}

#[test]
fn a_series_of_nab_without_a_number_is_told_and_not_in_the_score() {
    let labels = format!(r#"{{"g/x.csv": {WINDOW}, "g/y.csv": {WINDOW}}}"#);
    let gone: String = minutes().lines().map(|l| format!("{},nan\n", l.split(',').next().unwrap())).collect();
    let folder = folder(&[
        ("labels/combined_windows.json", labels),
        ("data/g/x.csv", minutes()),
        ("data/g/y.csv", gone),
    ]);
    let value = json(Task::Anomaly, Format::Nab, folder.path());
    assert!(value["series"][1]["rows"].is_null() && value["series"][0]["rows"] == 1000.0, "{value}");
    let notes = value["notes"].to_string();
    assert!(notes.contains("g/y: 100 % of it is missing") && notes.contains("over the 1 series"), "{notes}");
    std::fs::copy(folder.path().join("data/g/y.csv"), folder.path().join("data/g/x.csv")).expect("copies");
    assert!(json(Task::Anomaly, Format::Nab, folder.path())["mean"]["nab_standard"].is_null());
}
