//! The registry of moments says the truth: whatever the runner writes or calls, in whatever phase and
//! under whatever faults, is listed there. `tests/kill_everywhere.rs` kills a real engine at each.

use std::collections::BTreeSet;

use foreshift::migrate::runner::moments::{Occasion, registry};
use foreshift::migrate::simulation::{Setting, run_seed};

fn seeds() -> u64 {
    std::env::var("FORESHIFT_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
}

#[test]
fn nothing_is_written_or_called_that_the_registry_of_moments_does_not_list() {
    let setting = Setting { occasions: true, ..Setting::default() };
    let listed: BTreeSet<Occasion> = registry().into_iter().collect();
    let seen: BTreeSet<Occasion> = (0..seeds()).flat_map(|seed| run_seed(seed, setting).occasions).collect();
    let strange: Vec<&Occasion> = seen.difference(&listed).collect();
    assert!(strange.is_empty(), "not listed in moments.rs, so nothing kills an engine there: {strange:?}");
    let unseen: Vec<&Occasion> = listed.difference(&seen).collect();
    println!("{} of {} seen; not: {unseen:?}", seen.len(), listed.len());
    assert!(seen.len() * 10 >= listed.len() * 8, "listed and not seen: {unseen:?}");
}
