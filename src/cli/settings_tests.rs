//! Every key of the configuration's sections on the engine does something: with another value of it the
//! engine's parts are set up otherwise.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::cli::moving;

/// Another value of each key than its default.
const OTHER: &str = r#"
[fleet]
name = "eu"
[fleet.hosts."db-1"]
site = "fra"
rack = "r1"
capacity = "1TB"
labels = { tier = "gold" }
[fleet.workloads."orders"]
application = "shop"
kind = "oltp"
depends_on = ["customers"]
preferred_host = "db-2"
labels = { move = "yes" }
[engine]
interval = "5s"
mode = "auto"
stale_after = "3m"
name = "one"
[predict]
windows = ["15m", "2h"]
weights = { "disk.write_latency" = 2.0 }
expires_after = "4m"
[predict.shadow]
every = "6m"
least_failures = 11
certainty = 21.0
at_most = "31d"
false_revert_every = "300d"
[plan]
thresholds = [{ within = "15m", on = "51%", off = "30%" }]
host_risk = "61%"
risk_tolerance = "21%"
footprint_from = "30%"
max_proposal_age = "16m"
anti_affinity = ["site"]
cool_down = "31m"
fill_limit = "86%"
most_load = "81%"
preferred_unavailable = "hold"
candidates = { move = "yes" }
destinations = { tier = "gold" }
[plan.confirm]
k = 2
n = 5
[plan.storm]
share = "11%"
number = 6
calm = "11m"
[limits]
moves_per_hour = 61
bytes_per_second = "100MB"
fleet_share = "21%"
outside_windows_from = "91%"
windows = [{ from = "22:00", to = "04:00" }]
[limits.moves]
fleet = 9
site = 7
rack = 5
host = 3
[migration]
canary = [{ share = "7%", hold = "30s" }]
p99_tolerance = 0.26
latency_margin_ms = 0.7
min_samples = 101
soak = "3m"
compare_after_soak = false
retries = 4
retry_after = "6s"
fence_budget = "400ms"
[migration.timeouts]
prepare = "3m"
copy = "2m"
copy_rate = "11MB"
catch_up = "3m"
verify = "4m"
"#;

/// Keys that are read where a part is made, and the source that reads them.
const ELSEWHERE: [(&str, &str, &str); 17] = [
    ("engine.listen", "engine.listen", include_str!("engine.rs")),
    ("engine.data_dir", "engine.data_dir", include_str!("engine.rs")),
    ("engine.log", "engine.log", include_str!("console.rs")),
    ("engine.threads", "engine.threads", include_str!("settings.rs")),
    ("predict.runtime", "predict.runtime", include_str!("models.rs")),
    ("predict.model_dir", "predict.model_dir", include_str!("models.rs")),
    ("predict.onnxruntime", "predict.onnxruntime", include_str!("models.rs")),
    ("predict.learning_period", "predict.learning_period", include_str!("engine.rs")),
    ("predict.relearn_every", "predict.relearn_every", include_str!("engine.rs")),
    ("predict.training.enabled", "training.enabled", include_str!("train_background.rs")),
    ("predict.training.every", "training.every", include_str!("train_background.rs")),
    ("predict.training.from", "settings.from", include_str!("train_background.rs")),
    ("predict.training.least_failures", "settings.least_failures", include_str!("train_background.rs")),
    ("predict.training.detectors", "training.detectors", include_str!("engine.rs")),
    ("fleet.nodes", "fleet.nodes", include_str!("systems.rs")),
    ("migration.after", "migration.after", include_str!("systems.rs")),
    ("migration.timeouts.call", "timeouts.call", include_str!("moving.rs")),
];

const SECTIONS: [&str; 6] = ["fleet", "engine", "predict", "plan", "limits", "migration"];

/// How the engine's parts are set up.
fn parts(config: &Config) -> String {
    format!(
        "{:?}",
        (
            (engine(config), pull(config), assess(config), shadow(config), hysteresis(config)),
            (plans(config, &HashMap::new()), policy(config), moving::limits(config), inventory(config)),
        )
    )
}

/// The paths of all values: a table of free names (labels, weights) counts as one value.
fn paths(value: &toml::Value, path: &str, found: &mut BTreeMap<String, toml::Value>) {
    const FREE: [&str; 5] = ["labels", "weights", "candidates", "destinations", "nodes"];
    let free = FREE.contains(&path.rsplit('.').next().unwrap_or_default());
    match value {
        toml::Value::Table(table) if !free => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                paths(value, &path, found);
            }
        }
        value => {
            found.insert(path.to_string(), value.clone());
        }
    }
}

fn set(root: &mut toml::Table, path: &str, value: toml::Value) {
    match path.split_once('.') {
        None => {
            root.insert(path.to_string(), value);
        }
        Some((first, rest)) => {
            let inner = root.entry(first).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            set(inner.as_table_mut().expect("a table"), rest, value);
        }
    }
}

#[test]
fn every_key_about_the_engine_does_something() {
    let mut others = BTreeMap::new();
    paths(&toml::Value::Table(OTHER.parse().expect("valid")), "", &mut others);
    let usual = parts(&Config::default());
    for (path, value) in &others {
        let mut table = toml::Table::new();
        set(&mut table, path, value.clone());
        let config: Config = toml::Value::Table(table).try_into().expect("a configuration");
        assert_ne!(parts(&config), usual, "nothing reads {path}");
    }
    for (path, word, source) in ELSEWHERE {
        assert!(source.contains(word), "nothing reads {path}");
    }
    // No key is forgotten, also none that is not written by default.
    let both: Config = toml::from_str(OTHER).expect("a configuration");
    let mut known = BTreeMap::new();
    for config in [&both, &Config::default()] {
        paths(&toml::Value::try_from(config).expect("a table"), "", &mut known);
    }
    let covered: BTreeSet<&str> = others.keys().map(String::as_str).collect();
    let elsewhere: BTreeSet<&str> = ELSEWHERE.iter().map(|(path, ..)| *path).collect();
    for path in known.keys().filter(|p| SECTIONS.iter().any(|s| p.starts_with(&format!("{s}.")))) {
        assert!(
            covered.contains(path.as_str()) || elsewhere.contains(path.as_str()),
            "{path} is not looked at"
        );
    }
}
