//! Every parser of what comes from outside, thrown at random bytes and at good input with a few places
//! changed: none panics, and what is refused is refused with words.

use std::path::Path;

use foreshift::cli::failures::{parse_csv, parse_time};
use foreshift::config::{Config, quantity};
use foreshift::eval::datasets;
use foreshift::predict::failure::shipped;
use foreshift::predict::models::onnx;
use foreshift::predict::train::Card;
use foreshift::telemetry::ReplaySource;
use proptest::prelude::*;

/// Good text with some of its characters exchanged, doubled or taken out.
fn bent(good: &'static str) -> impl Strategy<Value = String> {
    let chars = good.chars().count();
    let change = (0..chars, 0..3u8, any::<char>());
    proptest::collection::vec(change, 1..8).prop_map(move |changes| {
        let mut all: Vec<char> = good.chars().collect();
        for (at, how, c) in changes {
            let at = at % all.len().max(1);
            match how {
                0 if !all.is_empty() => all[at] = c,
                1 => all.insert(at.min(all.len()), c),
                _ if !all.is_empty() => drop(all.remove(at)),
                _ => {}
            }
        }
        all.into_iter().collect()
    })
}

const FAILURES: &str = "at,subject,cause,label\n2026-11-21T03:00:00Z,h1/p1,\"disk, \"\"sda\"\"\",failed\n\
                        1795230000000,h2,heat,mitigated\n";
const RECORDED: &str =
    "time,partition,metric,value\n2026-11-21T03:00:00Z,h1,cpu.busy,12.5\n1795230000,h2,mem.used,3\n";
const CONFIG: &str = include_str!("../config.example.toml");
const CARD: &str = include_str!("../assets/models/failure-15m.toml");

/// Reads a recording through the file that it would be in.
fn replayed(text: &[u8]) -> Result<usize, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recorded.csv");
    std::fs::write(&file, text).unwrap();
    ReplaySource::open(&[file]).map(|_| 0).map_err(|e| e.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn failures_are_read_or_refused_with_file_and_line(text in prop_oneof![bent(FAILURES), any::<String>()]) {
        if let Err(error) = parse_csv(&text, Path::new("f.csv")) {
            prop_assert!(format!("{error:#}").contains("f.csv:"), "{error:#}");
        }
    }

    #[test]
    fn a_time_or_a_span_is_one_or_none(text in any::<String>()) {
        let _ = parse_time(&text);
        if let Some(span) = quantity::parse_span(&text) {
            prop_assert!(text.chars().any(|c| c.is_ascii_digit()), "{text:?} is {span:?}");
        }
        let _ = quantity::parse_bytes(&text);
    }

    #[test]
    fn a_configuration_is_read_or_refused_with_words(text in prop_oneof![bent(CONFIG), any::<String>()]) {
        if let Err(error) = Config::parse(&text, Path::new("foreshift.toml")) {
            prop_assert!(error.to_string().contains("foreshift.toml"), "{error}");
        }
    }

    #[test]
    fn a_card_that_was_changed_is_held_to_its_model(text in prop_oneof![bent(CARD), any::<String>()]) {
        let model = shipped::files()[0];
        match Card::read(&text, model, "failure-15m.toml") {
            Ok(card) => prop_assert_eq!(card.hash.len(), 64),
            Err(error) => prop_assert!(error.to_string().contains("failure-15m.toml"), "{}", error),
        }
    }

    #[test]
    fn a_model_with_bytes_changed_is_read_or_refused(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = shipped::files()[0].to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Err(error) = onnx::decode(&bytes, "failure-15m.onnx") {
            prop_assert!(error.to_string().contains("failure-15m.onnx"), "{error}");
        }
    }

    #[test]
    fn a_recording_is_read_or_refused_with_its_line(
        text in prop_oneof![bent(RECORDED).prop_map(String::into_bytes), any::<Vec<u8>>()]
    ) {
        if let Err(error) = replayed(&text) {
            prop_assert!(error.contains("recorded.csv"), "{error}");
        }
    }

    #[test]
    fn public_data_that_is_bent_is_refused_with_words(
        text in prop_oneof![bent("timestamp,value\n2014-04-01 00:00:00,20.0\n2014-04-01 00:05:00,21.5\n"), any::<String>()]
    ) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("series.csv"), &text).unwrap();
        std::fs::write(folder.path().join("Hourly-train.csv"), &text).unwrap();
        std::fs::write(folder.path().join("Hourly-test.csv"), &text).unwrap();
        for error in [
            datasets::nab::read(folder.path()).err().map(|e| e.to_string()),
            datasets::m4::read(folder.path()).err().map(|e| e.to_string()),
        ].into_iter().flatten() {
            prop_assert!(!error.is_empty());
        }
    }
}
