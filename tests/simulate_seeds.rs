//! The migration machine survives every seed, and every planted bug is caught.

use foreshift::migrate::runner::Planted;
use foreshift::migrate::simulation::{Setting, run_seed};

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("FORESHIFT_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    0..count
}

#[test]
fn every_seed_ends_as_exactly_the_old_or_the_new_owner() {
    let failed: Vec<String> = seeds()
        .map(|seed| run_seed(seed, Setting::default()))
        .filter_map(|o| o.violation.map(|v| format!("seed {}: {v}", o.seed)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_seed_repeats_bit_for_bit() {
    let setting = Setting { trace: true, ..Setting::default() };
    let (a, b) = (run_seed(7, setting), run_seed(7, setting));
    assert!(a.trace.len() > 100);
    assert_eq!(a.trace, b.trace);
}

#[test]
fn every_planted_bug_is_caught() {
    let bugs = [
        Planted::RepeatWithoutProbe,
        Planted::BlindCommit,
        Planted::NoLedger,
        Planted::NoEpoch,
        Planted::NoLimits,
        Planted::IgnoreDifference,
        Planted::OtherPlan,
    ];
    for planted in bugs {
        let caught = (0..400).find_map(|seed| {
            run_seed(seed, Setting { planted, ..Setting::default() }).violation.map(|v| (seed, v))
        });
        let (seed, violation) = caught.unwrap_or_else(|| panic!("{planted:?} was not caught in 400 seeds"));
        println!("{planted:?}: seed {seed}: {violation}");
    }
}
