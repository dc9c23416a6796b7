//! Failures of public data sets are predicted as well as the published models do.

use foreshift::eval::failure::{Format, run};

fn folder(name: &str) -> Option<std::path::PathBuf> {
    let data = std::env::var("FORESHIFT_DATA").unwrap_or_else(|_| "../shared/data".to_owned());
    let folder = std::path::Path::new(&data).join(name);
    if !folder.is_dir() {
        println!("skipped: needs {name} under FORESHIFT_DATA");
        return None;
    }
    Some(folder)
}

#[test]
fn engines_that_will_fail_are_told_and_others_left_alone() {
    let Some(folder) = folder("cmapss") else { return };
    let report = run(Format::Cmapss, &folder, 30, 1).unwrap();
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
    for series in &report.series {
        let m = |name: &str| series.measures[name];
        assert!(m("auprc") >= 0.94, "{}: {}", series.name, m("auprc"));
        assert!(m("false_actions") <= 0.01 * m("actions").max(100.0), "{}", series.name);
    }
}

#[test]
fn drives_are_ranked_far_better_than_by_chance() {
    let Some(folder) = folder("backblaze") else { return };
    let report = run(Format::Backblaze, &folder, 7, 1).unwrap();
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
    let m = &report.series[0].measures;
    assert!(m["auprc"] > 10.0 * m["base_rate"], "{m:?}");
}
