use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::drivers::{Action, Artifact, CleanupPolicy};
use crate::fleet::{Epoch, Generation, MigrationId, Phase, Share, Timestamp};
use crate::migrate::act::{Act, Side};
use crate::migrate::journal::{Head, Note, Record, RecordHash, Verdict};
use crate::migrate::judge::{Judgement, Ruling};
use crate::migrate::ledger::{Foreseen, Ledger};
use crate::migrate::state::*;
use crate::protocol::JudgeLine;

fn artifact(text: &str) -> Artifact {
    Artifact { kind: format!("{text}é"), name: "fs_0123456789abcdef".to_string(), partition: text.into() }
}

fn notes(text: &str, at: i64, number: u64) -> Vec<Note> {
    let own = || text.to_string();
    let artifact = artifact(text);
    let verdicts = [Verdict::Applied, Verdict::Failed, Verdict::Unknown];
    let policies = [CleanupPolicy::Always, CleanupPolicy::OnFailure, CleanupPolicy::DeferredOnSuccess];
    let mut all = vec![
        Note::Intent { step: own(), idem: own(), args: own(), deadline: Some(Timestamp(at)) },
        Note::Intent { step: own(), idem: own(), args: own(), deadline: None },
        Note::CleanupDone { artifact: artifact.clone() },
        Note::Decision { what: own(), why: own() },
        Note::Fence { leader: Epoch(number), generation: Generation(number / 3) },
        Note::Budget { change: at as i8, what: own() },
    ];
    all.extend(verdicts.map(|result| Note::Outcome { step: own(), idem: own(), result, evidence: own() }));
    all.extend(policies.map(|policy| Note::CleanupAdd { artifact: artifact.clone(), policy }));
    all.extend(Phase::ALL.map(|to| Note::State { from: Phase::Hold, to, reason: own() }));
    all
}

/// Every action there is, both ways.
fn acts() -> Vec<Act> {
    use Action::*;
    let share = Share::new(0.05).unwrap();
    let mut acts: Vec<Act> = [
        Announce,
        Prepare,
        Replicate,
        StopReplication,
        Verify,
        ArmReverse,
        ProbeReverse,
        Unfence,
        VerifyAtCut,
        Commit,
        Open,
        EnableReverse,
        Retire,
    ]
    .into_iter()
    .chain([CanaryShare { share }, Fence { deadline: Timestamp(-4) }, Cleanup { artifact: artifact("h") }])
    .flat_map(|action| [Act::forward(action.clone()), Act::back(action)])
    .collect();
    acts.push(Act::route(Share::MAX));
    acts
}

fn ledger() -> Ledger {
    let (artifact, policy) = (artifact("h"), CleanupPolicy::Always);
    let foreseen = Foreseen { step: "prepare".to_string(), side: Side::Back, artifact, policy };
    let mut ledger = Ledger::default();
    std::sync::Arc::make_mut(&mut ledger.foreseen).resize(300, foreseen);
    ledger.enter("prepare", Side::Back);
    ledger.gone(&ledger.lines[0].artifact.clone());
    ledger
}

/// One of which nothing stands as it stood at the beginning.
fn full() -> Progress {
    let line = |text: &str| {
        let [what, source, destination, verdict] = ["p50", "1 ms", text, "pass"].map(str::to_string);
        JudgeLine { what, source, destination, verdict }
    };
    Progress {
        deadline: Some(Timestamp(-1)),
        todo: Todo::Probe,
        due: Timestamp(i64::MAX),
        queue: acts().into(),
        waiting: "for a window".to_string(),
        tries: 1,
        probes: 2,
        attempt: 3,
        cuts: 4,
        mismatches: 300,
        unfencing: true,
        at_gate: true,
        verified: true,
        compared: Some(Timestamp(5)),
        reverse: Reverse::Proved { at: Timestamp(6) },
        canary: 7,
        watched_since: Some(Timestamp(8)),
        looks: 9,
        judgement: Some(std::sync::Arc::new(Judgement {
            ruling: Ruling::Inconclusive,
            critical: true,
            why: "too few".to_string(),
            lines: vec![line("2 ms"), line("")],
        })),
        lag_ok: 10,
        dead: 11,
        back: BackStage::Redirecting,
        back_cuts: u32::MAX,
        refused: "they differ".to_string(),
        hold: Some(Hold { reason: HoldReason::Failed, from: Phase::Canary, todo: Todo::Watch }),
        wish: Some(Wish::RollBack { actor: "anna".to_string() }),
        touched: Touched { prepare: true, replicate: false, canary: true, fence: true },
        ledger: ledger(),
        cause: "asked for".to_string(),
        again: Again::Elsewhere,
        admitted: true,
        switched: true,
        started: Timestamp(i64::MIN),
        ended: Some(Timestamp(12)),
        journal: Head { next: 1 << 40, hash: RecordHash::of_bytes(&[7; 32]).unwrap() },
        ..Progress::fresh(Phase::RollingBackPost, Epoch(u64::MAX), Timestamp(1_790_000_000_000))
    }
}

fn is_kept(mut progress: Progress) {
    // A state names its ledger only.
    if progress.ledger != Ledger::default() {
        progress.ledger = ledger();
    }
    let (bytes, json) = (progress.bytes(), serde_json::to_vec(&progress).unwrap());
    if progress.ledger != Ledger::default() {
        progress.ledger = Ledger::named([300, 1, 1]);
    }
    assert_eq!(Progress::read(&bytes).unwrap(), progress);
    assert_eq!(Progress::read(&json).unwrap(), progress, "of an earlier version");
    assert!(bytes.len() * 2 < json.len(), "{} of {} bytes", bytes.len(), json.len());
    for cut in 0..bytes.len() {
        assert!(Progress::read(&bytes[..cut]).is_err(), "{cut} of {} bytes", bytes.len());
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Progress::read(&longer).unwrap_err().to_string(), "1 bytes are left behind its end");
}

/// What no JSON may leave out.
const ALWAYS: [&str; 7] = ["phase", "since", "epoch", "todo", "due", "started", "journal"];

#[test]
fn a_progress_is_read_as_it_was_written_whatever_of_it_stands_as_at_the_beginning() {
    let full = full();
    is_kept(full.clone());
    let Value::Object(all) = serde_json::to_value(&full).unwrap() else { panic!("an object") };
    // All fields but the evidence, which the journal has.
    assert_eq!(all.len(), 38);
    for field in all.keys().filter(|field| !ALWAYS.contains(&field.as_str())) {
        let mut but_one = all.clone();
        but_one.remove(field);
        is_kept(serde_json::from_value(Value::Object(but_one)).unwrap());
        let mut alone = all.clone();
        alone.retain(|key, _| key == field || ALWAYS.contains(&key.as_str()));
        is_kept(serde_json::from_value(Value::Object(alone)).unwrap());
    }
}

#[test]
fn every_word_of_a_progress_is_read_as_it_was_written() {
    let words = [
        ("todo", "go admit perform probe poll watch gate commit person nothing", "todo"),
        ("reverse", "none armed enabled", "reverse"),
        ("back", "fencing committing redirecting unfencing", ""),
        ("again", "no retry elsewhere", ""),
        ("phase", "hold stuck done source_lost", ""),
    ];
    for (field, all, tag) in words {
        for word in all.split(' ') {
            let mut json = serde_json::to_value(full()).unwrap();
            json[field] = if tag.is_empty() { json!(word) } else { json!({ tag: word }) };
            is_kept(serde_json::from_value(json).unwrap());
        }
    }
    for reason in ["operator", "inconclusive", "deadline", "failed", "no_way_back"] {
        let mut json = serde_json::to_value(full()).unwrap();
        json["hold"]["reason"] = json!(reason);
        is_kept(serde_json::from_value(json).unwrap());
    }
    for (field, value) in [
        ("wish", json!({"wish": "pause", "actor": "bo"})),
        ("touched", json!({"prepare": false, "replicate": true, "canary": false, "fence": false})),
    ] {
        let mut json = serde_json::to_value(full()).unwrap();
        json[field] = value;
        is_kept(serde_json::from_value(json).unwrap());
    }
    for ruling in ["pass", "inconclusive", "fail"] {
        let mut json = serde_json::to_value(full()).unwrap();
        json["judgement"]["ruling"] = json!(ruling);
        is_kept(serde_json::from_value(json).unwrap());
    }
}

#[test]
fn the_numbers_of_the_form_are_those_of_every_store_that_was_written() {
    let words: Vec<&str> = Phase::ALL.iter().map(|phase| phase.word()).collect();
    assert!(Phase::ALL.iter().enumerate().all(|(number, phase)| *phase as usize == number));
    assert_eq!(
        words.join(" "),
        "proposed approved admitted prepare copy catch up verify way back canary fence cut redirect watch retire \
         rolling back rolling back source lost hold stuck done aborted rolled back stale expired denied"
    );
    let hex = |bytes: Vec<u8>| crate::fleet::digits::hex(&bytes);
    let record = Record {
        seq: 300,
        prev: RecordHash::of_bytes(&[7; 32]).unwrap(),
        migration: MigrationId(12),
        at: Timestamp(1_790_000_000_000),
        epoch: Epoch(3),
        actor: "engine".to_string(),
        phase: Phase::Fencing,
        note: Note::Intent {
            step: "fence".to_string(),
            idem: "i".to_string(),
            args: "a".to_string(),
            deadline: Some(Timestamp(-1)),
        },
    };
    let start = format!("01ac0220{}0c80b083c5986803", "07".repeat(32));
    assert_eq!(hex(record.bytes()), format!("{start}06656e67696e6509000566656e636501690161{}", "0101"));
    // Whoever has to change this gives the form a new number, and goes on reading this one.
    assert_eq!(hex(blake3::hash(&full().bytes()).as_bytes()[..8].to_vec()), "44a6e316aad6b78a");
}

#[test]
fn a_ledger_is_read_as_it_was_written_and_so_is_that_of_an_earlier_version() {
    for ledger in [Ledger::default(), ledger()] {
        let named = Ledger::named(ledger.holds().counts());
        for bytes in [ledger.bytes(), serde_json::to_vec(&ledger).unwrap()] {
            let mut read = named.clone();
            assert_eq!(read.take(Some(&bytes)), Ok(true));
            assert_eq!(read, ledger);
        }
        let bytes = ledger.bytes();
        for cut in 0..bytes.len() {
            assert!(ledger_of(&bytes[..cut]).is_err(), "{cut} of {} bytes", bytes.len());
        }
        assert!(ledger_of(&[&bytes[..], &[0]].concat()).is_err());
    }
}

/// What JSON calls each, in the order of their numbers.
fn words<T: serde::Serialize>(all: &[T], tag: &str) -> String {
    let word = |one: &T| {
        let json = serde_json::to_value(one).unwrap();
        let word = if tag.is_empty() { json } else { json[tag].clone() };
        word.as_str().unwrap().to_string()
    };
    all.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_a_number_stands_for_does_not_change() {
    use progress::{AGAIN, REASONS, RULINGS, STAGES, TODOS};
    assert_eq!(words(&TODOS, "todo"), "go admit perform probe poll watch gate commit person nothing");
    assert_eq!(words(&STAGES, ""), "fencing committing redirecting unfencing");
    assert_eq!(words(&AGAIN, ""), "no retry elsewhere");
    assert_eq!(words(&RULINGS, ""), "pass inconclusive fail");
    assert_eq!(words(&REASONS, ""), "operator inconclusive deadline failed no_way_back");
    assert_eq!(words(&record::VERDICTS, ""), "applied failed unknown");
    assert_eq!(words(&bytes::POLICIES, ""), "always on_failure deferred_on_success");
    assert_eq!(words(&ledger::SIDES, ""), "forward back");
}

fn record() -> impl Strategy<Value = Record> {
    (".{0,9}", any::<i64>(), any::<u64>(), any::<[u8; 32]>(), 0..Phase::ALL.len()).prop_flat_map(
        |(text, at, number, hash, phase)| {
            proptest::sample::select(notes(&text, at, number)).prop_map(move |note| Record {
                seq: number,
                prev: RecordHash::of_bytes(if number % 3 == 0 { &[] } else { &hash }).unwrap(),
                migration: MigrationId(number.rotate_left(7)),
                at: Timestamp(at),
                epoch: Epoch(number.rotate_left(31)),
                actor: text.clone(),
                phase: Phase::ALL[phase],
                note,
            })
        },
    )
}

proptest! {
    #[test]
    fn a_record_is_read_as_it_was_written_and_so_is_that_of_an_earlier_version(record in record()) {
        let bytes = record.bytes();
        prop_assert_eq!(&Record::read(&bytes).unwrap(), &record);
        prop_assert_eq!(record_front(&bytes).unwrap(), (record.seq, record.prev));
        let json = serde_json::to_vec(&record).unwrap();
        prop_assert_eq!(&Record::read(&json).unwrap(), &record);
        prop_assert_eq!(record_front(&json).unwrap(), (record.seq, record.prev));
        for cut in 0..bytes.len() {
            prop_assert!(Record::read(&bytes[..cut]).is_err());
        }
        prop_assert!(Record::read(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn other_bytes_are_refused_or_read_and_nothing_breaks(
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        at in 0usize..400,
        byte: u8,
    ) {
        let formed = [&[FORM][..], &noise].concat();
        let mut changed = full().bytes();
        if let Some(place) = changed.get_mut(at) {
            *place = byte;
        }
        for bytes in [&noise, &formed, &changed] {
            if let Ok(progress) = Progress::read(bytes) {
                // What a ledger is said to hold is not written: the ledger itself is.
                let written = Progress { ledger: Ledger::default(), ..progress };
                prop_assert_eq!(Progress::read(&written.bytes()).unwrap(), written);
            }
            if let Ok(ledger) = ledger_of(bytes) {
                prop_assert_eq!(ledger_of(&ledger.bytes()).unwrap(), ledger);
            }
            if let Ok(record) = Record::read(bytes) {
                prop_assert_eq!(Record::read(&record.bytes()).unwrap(), record);
            }
        }
    }
}

#[test]
fn what_a_newer_version_wrote_is_named() {
    let said = Progress::read(&[9, 1, 2]).unwrap_err().to_string();
    assert_eq!(
        said,
        "expected form 1 or JSON, got form 9: a newer foreshift wrote it, which can go on with it"
    );
    assert!(Record::read(&[]).unwrap_err().to_string().contains("ends where"));
}
