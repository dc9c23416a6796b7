//! Every parser of what comes from outside, thrown at random bytes and at good input with a few places
//! changed: none panics, and what is refused is refused with words.

#[path = "support/parsers.rs"]
mod parsers;

use foreshift::predict::failure::shipped;
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

const NAB: &str = "timestamp,value\n2014-04-01 00:00:00,20.0\n2014-04-01 00:05:00,21.5\n";
const LABELS: &str = r#"{"series.csv": [["2014-04-01 00:00:00.000000", "2014-04-01 00:05:00.000000"]]}"#;
const ENGINES: &str = "1 1 -0.0007 -0.0004 100.0 518.67 641.82 1589.70 1400.60 14.62 21.61 554.36 2388.06 9046.19 1.30 \
                       47.47 521.66 2388.02 8138.62 8.4195 0.03 392 2388 100.00 39.06 23.4190\n";
const DRIVES: &str = "date,serial_number,model,capacity_bytes,failure,smart_1_raw,smart_5_raw,smart_9_raw,\
                      smart_194_raw,smart_197_raw\n2023-01-01,S1,M1,4000787030016,0,17,0,100,20,0\n";
const COMMAND: &str = r#"{"command":"approve","proposal":7,"plan":"abc","reason":"it is late"}"#;
const RECORD: &str = r#"{"migration":7,"seq":1,"at":1000,"epoch":3,"actor":"engine","phase":"copying","note":{"kind":"STATE","from":"preparing","to":"copying","why":""},"before":"","hash":""}"#;

/// Otherwise what is thrown at a series never reaches its parser.
#[test]
fn public_data_that_is_good_is_read() {
    assert_eq!(parsers::nab(NAB.as_bytes(), LABELS.as_bytes()), None);
}

/// Any bytes, or good text that was bent.
fn odd(good: &'static str) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        bent(good).prop_map(String::into_bytes),
        any::<String>().prop_map(String::into_bytes),
        any::<Vec<u8>>()
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn failures_are_read_or_refused_with_file_and_line(bytes in odd(FAILURES)) {
        parsers::failures(&bytes);
    }

    #[test]
    fn a_time_or_a_span_is_one_or_none(bytes in odd("2026-11-21T03:00:00Z 1h30m 12.5MB")) {
        parsers::quantities(&bytes);
    }

    #[test]
    fn a_configuration_is_read_or_refused_with_words(bytes in odd(CONFIG)) {
        parsers::config(&bytes);
    }

    #[test]
    fn a_card_that_was_changed_is_held_to_its_model(bytes in odd(CARD)) {
        parsers::card(&bytes);
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
        parsers::model(&bytes);
    }

    #[test]
    fn a_recording_is_read_or_refused_with_its_line(bytes in odd(RECORDED)) {
        parsers::recording(&bytes);
    }

    #[test]
    fn public_data_that_is_bent_is_refused_with_words(bytes in odd(NAB)) {
        parsers::public_data(&bytes);
    }

    #[test]
    fn labels_of_public_data_are_read_or_refused_with_words(bytes in odd(LABELS)) {
        let said = parsers::nab(NAB.as_bytes(), &bytes);
        prop_assert!(said.is_none_or(|words| !words.is_empty()));
    }

    #[test]
    fn engines_are_read_or_refused_by_their_file(bytes in odd(ENGINES), left in odd("17\n")) {
        let good = ENGINES.as_bytes();
        parsers::engines(&bytes, good, b"17\n");
        parsers::engines(good, &bytes, b"17\n");
        parsers::engines(good, good, &left);
    }

    #[test]
    fn drives_are_read_or_refused_by_their_file(bytes in odd(DRIVES)) {
        parsers::drives(&bytes);
    }

    #[test]
    fn what_is_no_network_for_forecasts_is_refused_by_its_file(bytes in odd(CARD)) {
        parsers::forecaster(&bytes);
    }

    #[test]
    fn what_is_no_detector_is_refused_with_words(bytes in any::<Vec<u8>>()) {
        parsers::detector(&bytes);
    }

    #[test]
    fn messages_are_read_or_refused(bytes in odd(COMMAND)) {
        parsers::messages(&bytes);
    }

    #[test]
    fn a_record_that_was_changed_is_no_record(bytes in odd(RECORD)) {
        parsers::stored(&bytes);
    }
}
