//! Every parser of what comes from outside as a function of bytes: none panics, and what is refused is
//! refused with words that name the place. `tests/parsers.rs` throws bent input at them, and the targets in
//! `fuzz/` what libFuzzer finds.

// Each fuzz target uses one of them.
#![allow(dead_code, unreachable_pub)]

use std::path::Path;

use foreshift::cli::failures::{parse_csv, parse_time};
use foreshift::config::{Config, quantity};
use foreshift::eval::{datasets, failure};
use foreshift::fleet::{MigrationId, Revision, Span, Timestamp};
use foreshift::migrate::plan::{Approved, Plan};
use foreshift::migrate::{Progress, journal};
use foreshift::predict::failure::shipped;
use foreshift::predict::keep::record;
use foreshift::predict::models::onnx;
use foreshift::predict::train::{Card, ForecastModel};
use foreshift::protocol::{AgentMessage, Command, Snapshot};
use foreshift::state::Entry;
use foreshift::telemetry::ReplaySource;

fn names(place: &str, said: &str) {
    assert!(said.contains(place), "{said:?} does not name {place}");
}

/// `foreshift.toml`.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = Config::parse(&text, Path::new("foreshift.toml")) {
        names("foreshift.toml", &error.to_string());
    }
}

/// Times, spans and sizes.
pub fn quantities(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (parse_time(&text), quantity::parse_bytes(&text));
    if let Some(span) = quantity::parse_span(&text) {
        assert!(text.chars().any(|c| c.is_ascii_digit()), "{text:?} is {span:?}");
    }
}

/// Recorded failures as CSV.
pub fn failures(bytes: &[u8]) {
    if let Err(error) = parse_csv(&String::from_utf8_lossy(bytes), Path::new("f.csv")) {
        names("f.csv:", &format!("{error:#}"));
    }
}

/// The card of a model.
pub fn card(bytes: &[u8]) {
    match Card::read(&String::from_utf8_lossy(bytes), shipped::files()[0], "failure-15m.toml") {
        Ok(card) => assert_eq!(card.hash.len(), 64),
        Err(error) => names("failure-15m.toml", &error.to_string()),
    }
}

/// A model.
pub fn model(bytes: &[u8]) {
    if let Err(error) = onnx::decode(bytes, "failure-15m.onnx") {
        names("failure-15m.onnx", &error.to_string());
    }
}

/// A recording of metrics, read through the file that it would be in.
pub fn recording(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("recorded.csv");
    std::fs::write(&file, bytes).expect("a file");
    if let Err(error) = ReplaySource::open(&[file]) {
        names("recorded.csv", &error.to_string());
    }
}

/// Why a series of NAB with these labels of `series.csv` is refused; `None` where it is read.
pub fn nab(series: &[u8], labels: &[u8]) -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("series.csv"), series).expect("a file");
    std::fs::write(folder.path().join("combined_windows.json"), labels).expect("a file");
    datasets::nab::read(folder.path()).err().map(|e| e.to_string())
}

/// Why these engines of C-MAPSS are refused: what trains, what is tested on, the cycles that those had left.
pub fn engines(train: &[u8], test: &[u8], left: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    for (part, bytes) in [("train", train), ("test", test), ("RUL", left)] {
        std::fs::write(folder.path().join(format!("{part}_FD001.txt")), bytes).expect("a file");
    }
    if let Err(error) = failure::run(failure::Format::Cmapss, folder.path(), 30, 0) {
        names("FD001", &error.to_string());
    }
}

/// Drives of Backblaze, in one file and as a daily one.
pub fn drives(bytes: &[u8]) {
    for name in ["drives.csv", "2023-01-01.csv"] {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(name), bytes).expect("a file");
        if let Err(error) = failure::run(failure::Format::Backblaze, folder.path(), 7, 0) {
            names(&folder.path().display().to_string(), &error.to_string());
        }
    }
}

/// The card of a network for forecasts beside a file that is none, and any file beside a card.
pub fn forecaster(bytes: &[u8]) {
    let card = String::from_utf8_lossy(bytes);
    let said = [
        ForecastModel::read(shipped::files()[0], &card, "shop.onnx").err(),
        ForecastModel::read(bytes, include_str!("../../assets/models/failure-15m.toml"), "shop.onnx").err(),
    ];
    for error in said {
        names("shop.onnx", &error.expect("no network for forecasts").to_string());
    }
}

/// Public data sets.
pub fn public_data(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["Hourly-train.csv", "Hourly-test.csv", "m_train.txt", "m_test.txt", "m_label.txt"] {
        std::fs::write(folder.path().join(name), bytes).expect("a file");
    }
    let files = ["m_train.txt", "m_test.txt", "m_label.txt"].map(|name| folder.path().join(name));
    let said = [
        nab(bytes, br#"{"series.csv": [["2014-04-01 00:00:00", "2014-04-01 00:05:00"]]}"#),
        nab(b"timestamp,value\n2014-04-01 00:00:00,20.0\n", bytes),
        datasets::m4::read(folder.path()).err().map(|e| e.to_string()),
        datasets::smd::read("m", &files).err().map(|e| e.to_string()),
    ];
    assert!(said.into_iter().flatten().all(|words| !words.is_empty()));
}

/// A kept detector.
pub fn detector(bytes: &[u8]) {
    if let Err(unfit) = record::decode(bytes, Span::seconds(30), Timestamp(0)) {
        assert!(!unfit.to_string().is_empty());
    }
}

/// What agents, consoles and other programs send.
pub fn messages(bytes: &[u8]) {
    for said in [
        serde_json::from_slice::<AgentMessage>(bytes).err(),
        serde_json::from_slice::<Command>(bytes).err(),
        serde_json::from_slice::<Snapshot>(bytes).err(),
    ] {
        assert!(said.is_none_or(|error| !error.to_string().is_empty()));
    }
}

/// A record of the journal, the plan, the progress and the ledger of a migration, and the bytes of an approval, as
/// the store has them.
pub fn stored(bytes: &[u8]) {
    let _ = Approved::read(bytes);
    if let Ok(plan) = Plan::read(bytes) {
        assert!(Plan::read(&plan.bytes()).is_ok());
    }
    if let Ok(mut progress) = Progress::read(bytes) {
        let _ = progress.ledger.take(Some(bytes));
        assert!(Progress::read(&progress.bytes()).is_ok());
    }
    let key = journal::record_key(MigrationId(7), 1);
    let entry =
        Entry { key: key.clone(), value: bytes.to_vec(), created: Revision(1), modified: Revision(1) };
    if let Err(broken) = journal::verify(MigrationId(7), &[entry], None) {
        assert!(!broken.to_string().is_empty());
    }
}
