//! Rules that hold between keys. Each broken one is told with the key it is to be mended at; all
//! are told at once.

mod drivers;
mod shared;

use std::collections::BTreeMap;

use tracing_subscriber::filter::LevelFilter;

use super::place::{Places, written};
use super::schema::{AgentSink, Config, TelemetrySource};
use super::secrets::{SECRET_FORM, Secret};
use crate::fleet::Span;

/// Broken rules: the key's path and what is wrong with it.
type Broken = Vec<(String, String)>;

/// The rules that need nothing but the file.
pub(crate) fn check(config: &Config, places: &Places) -> Broken {
    let mut broken = Broken::new();
    engine(config, &mut broken);
    telemetry(config, &mut broken);
    predict(config, &mut broken);
    plan(config, &mut broken);
    limits(config, &mut broken);
    migration(config, &mut broken);
    drivers::drivers(config, places, &mut broken);
    shared::shared(config, &mut broken);
    outside(config, &mut broken);
    agent(config, &mut broken);
    broken
}

/// The rules about what is on this machine's disk.
pub(crate) fn check_paths(config: &Config) -> Broken {
    let mut broken = Broken::new();
    let mut say = |key: &str, what: String| broken.push((key.to_string(), what));
    for (key, directory) in
        [("engine.data_dir", &config.engine.data_dir), ("agent.spool_dir", &config.agent.spool_dir)]
    {
        if directory.exists() && !directory.is_dir() {
            say(key, format!("expected a directory, {} is a file", directory.display()));
        }
    }
    if let Some(directory) = &config.predict.model_dir
        && !directory.is_dir()
    {
        say("predict.model_dir", format!("there is no directory {}", directory.display()));
    }
    if let Some(library) = &config.predict.onnxruntime
        && !library.is_file()
    {
        say("predict.onnxruntime", format!("there is no file {}", library.display()));
    }
    for (i, file) in config.telemetry.files.iter().enumerate() {
        if !file.exists() {
            say(&format!("telemetry.files[{i}]"), format!("there is no file {}", file.display()));
        }
    }
    broken
}

fn say(broken: &mut Broken, key: impl Into<String>, what: impl Into<String>) {
    broken.push((key.into(), what.into()));
}

fn positive(broken: &mut Broken, spans: &[(&str, Span)]) {
    for (key, span) in spans {
        if span.0 <= 0 {
            say(broken, *key, "must be longer than nothing");
        }
    }
}

fn address(broken: &mut Broken, key: impl Into<String>, url: &str) {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match rest.map(|rest| rest.split('/').next().unwrap_or("")) {
        None | Some("") => say(broken, key, "expected an address that begins with http:// or https://"),
        Some(authority) if authority.contains('@') => {
            say(broken, key, "an address holds no credentials; use the keys made for them");
        }
        Some(_) => {}
    }
}

fn secret(broken: &mut Broken, key: impl Into<String>, secret: &Option<Secret>) {
    if secret.as_ref().is_some_and(Secret::is_empty_reference) {
        say(broken, key, format!("names no place; expected {SECRET_FORM}"));
    }
}

fn engine(config: &Config, broken: &mut Broken) {
    let engine = &config.engine;
    if engine.interval < Span::seconds(1) {
        say(broken, "engine.interval", "must be 1s or longer");
    }
    if let Some(part) = not_a_filter(&engine.log) {
        let what = format!(
            "expected a level (error warn info debug trace) or filters like \"foreshift=debug,info\", got {part:?}"
        );
        say(broken, "engine.log", what);
    }
    if engine.stale_after < engine.interval {
        say(broken, "engine.stale_after", "must not be shorter than engine.interval");
    }
}

fn telemetry(config: &Config, broken: &mut Broken) {
    let t = &config.telemetry;
    positive(broken, &[("telemetry.timeout", t.timeout)]);
    if t.step < Span::seconds(1) {
        say(broken, "telemetry.step", "must be 1s or longer");
    }
    if t.history < Span(t.step.0.saturating_mul(2)) {
        say(broken, "telemetry.history", "must hold at least two steps (telemetry.step)");
    }
    secret(broken, "telemetry.token", &t.token);
    secret(broken, "telemetry.password", &t.password);
    match t.source {
        TelemetrySource::Influxdb2 => {
            address(broken, "telemetry.url", &t.url);
            for (key, missing) in
                [("org", t.org.is_empty()), ("bucket", t.bucket.is_empty()), ("token", t.token.is_none())]
            {
                if missing {
                    say(
                        broken,
                        format!("telemetry.{key}"),
                        format!("source \"influxdb2\" needs the key `{key}`"),
                    );
                }
            }
            if t.write_back.enabled && t.write_back.bucket == t.bucket {
                say(broken, "telemetry.write_back.bucket", "must be another bucket than telemetry.bucket");
            }
        }
        TelemetrySource::Influxdb1 => {
            address(broken, "telemetry.url", &t.url);
            if t.database.is_empty() {
                say(broken, "telemetry.database", "source \"influxdb1\" needs the key `database`");
            }
            if t.write_back.enabled && t.write_back.bucket == t.database {
                say(
                    broken,
                    "telemetry.write_back.bucket",
                    "must be another database than telemetry.database",
                );
            }
        }
        TelemetrySource::Replay if t.files.is_empty() => {
            say(broken, "telemetry.files", "source \"replay\" needs the key `files`");
        }
        TelemetrySource::Replay | TelemetrySource::Embedded => {}
    }
    for (i, mapping) in t.mapping.iter().enumerate() {
        if !mapping.scale.is_finite() || mapping.scale.abs() < f64::MIN_POSITIVE {
            say(broken, format!("telemetry.mapping[{i}].scale"), "expected a number other than 0");
        }
        if mapping.metric.is_empty() {
            say(broken, format!("telemetry.mapping[{i}].metric"), "expected the name of a metric");
        }
    }
}

fn predict(config: &Config, broken: &mut Broken) {
    let predict = &config.predict;
    if predict.windows.is_empty() {
        say(broken, "predict.windows", "expected at least one window");
    }
    for (i, window) in predict.windows.iter().enumerate() {
        if window.0 <= 0 {
            say(broken, format!("predict.windows[{i}]"), "must be longer than nothing");
        } else if i > 0 && *window <= predict.windows[i - 1] {
            say(
                broken,
                format!("predict.windows[{i}]"),
                "windows must grow: each longer than the one before",
            );
        }
    }
    for (metric, weight) in &predict.weights {
        if !weight.is_finite() || *weight < 0.0 {
            say(broken, format!("predict.weights.{}", written(metric)), "expected 0 or a greater number");
        }
    }
    positive(
        broken,
        &[
            ("predict.learning_period", predict.learning_period),
            ("predict.relearn_every", predict.relearn_every),
        ],
    );
    let (shadow, training) = (&predict.shadow, &predict.training);
    positive(
        broken,
        &[
            ("predict.shadow.every", shadow.every),
            ("predict.shadow.at_most", shadow.at_most),
            ("predict.shadow.false_revert_every", shadow.false_revert_every),
            ("predict.training.every", training.every),
            ("predict.training.from", training.from),
        ],
    );
    if !(shadow.certainty.is_finite() && shadow.certainty > 1.0) {
        say(broken, "predict.shadow.certainty", "expected a number over 1, for example 20");
    }
    if predict.expires_after < config.engine.interval {
        say(
            broken,
            "predict.expires_after",
            "must not be shorter than engine.interval, or nothing is ever done",
        );
    }
}

fn plan(config: &Config, broken: &mut Broken) {
    let plan = &config.plan;
    for (i, threshold) in plan.thresholds.iter().enumerate() {
        let at = |key: &str| format!("plan.thresholds[{i}].{key}");
        if threshold.off >= threshold.on {
            say(
                broken,
                at("off"),
                format!("must be below `on` ({}), or states would flap; got {}", threshold.on, threshold.off),
            );
        }
        if !config.predict.windows.contains(&threshold.within) {
            say(broken, at("within"), "must be one of predict.windows");
        }
        if plan.thresholds[..i].iter().any(|t| t.within == threshold.within) {
            say(broken, at("within"), "this window has a threshold already; keep one");
        }
    }
    if plan.confirm.k == 0 || plan.confirm.k > plan.confirm.n {
        say(broken, "plan.confirm.k", format!("must be from 1 to `n` ({})", plan.confirm.n));
    }
    if plan.confirm.n > 64 {
        say(broken, "plan.confirm.n", "must be 64 or less");
    }
    if plan.fill_limit.get() <= 0.0 {
        say(broken, "plan.fill_limit", "must be more than 0%");
    }
    if plan.most_load.get() <= 0.0 {
        say(broken, "plan.most_load", "must be more than 0%");
    }
    if plan.storm.number == 0 {
        say(broken, "plan.storm.number", "must be 1 or more");
    }
    positive(broken, &[("plan.max_proposal_age", plan.max_proposal_age)]);
}

fn limits(config: &Config, broken: &mut Broken) {
    let limits = &config.limits;
    let moves = limits.moves;
    for (key, least, greatest, name) in [
        ("host", moves.host, moves.rack, "rack"),
        ("rack", moves.rack, moves.site, "site"),
        ("site", moves.site, moves.fleet, "fleet"),
    ] {
        if least == 0 {
            say(
                broken,
                format!("limits.moves.{key}"),
                "must be 1 or more; mode = \"advise\" stops automatic moves",
            );
        } else if least > greatest {
            say(broken, format!("limits.moves.{key}"), format!("must not be over `{name}` ({greatest})"));
        }
    }
    if limits.moves_per_hour == 0 {
        say(broken, "limits.moves_per_hour", "must be 1 or more");
    }
    if limits.bytes_per_second.0 == 0 {
        say(broken, "limits.bytes_per_second", "must be more than nothing");
    }
    for (i, window) in limits.windows.iter().enumerate() {
        if window.from == window.to {
            say(broken, format!("limits.windows[{i}].to"), "must be another time than `from`");
        }
    }
}

fn migration(config: &Config, broken: &mut Broken) {
    let migration = &config.migration;
    let mut before = 0.0;
    for (i, step) in migration.canary.iter().enumerate() {
        if step.share.get() <= before {
            let what = format!("canary steps must grow: more than {}%", (before * 100.0).round());
            say(broken, format!("migration.canary[{i}].share"), what);
        }
        before = step.share.get();
    }
    if !migration.p99_tolerance.is_finite() || migration.p99_tolerance < 0.0 {
        say(broken, "migration.p99_tolerance", "expected 0 or a greater number");
    }
    if !migration.latency_margin_ms.is_finite() || migration.latency_margin_ms < 0.0 {
        say(broken, "migration.latency_margin_ms", "expected 0 or a greater number, in milliseconds");
    }
    if migration.fence_budget.0 <= 0 || migration.fence_budget > Span::seconds(10) {
        say(broken, "migration.fence_budget", "must be over 0s and at most 10s: writes wait meanwhile");
    }
    let t = migration.timeouts;
    positive(
        broken,
        &[
            ("migration.timeouts.prepare", t.prepare),
            ("migration.timeouts.copy", t.copy),
            ("migration.timeouts.catch_up", t.catch_up),
            ("migration.timeouts.verify", t.verify),
            ("migration.timeouts.call", t.call),
        ],
    );
    if t.copy_rate.0 == 0 {
        say(broken, "migration.timeouts.copy_rate", "must be more than nothing");
    }
}

fn outside(config: &Config, broken: &mut Broken) {
    for (i, hook) in config.alerts.webhooks.iter().enumerate() {
        address(broken, format!("alerts.webhooks[{i}].url"), &hook.url);
        secret(broken, format!("alerts.webhooks[{i}].authorization"), &hook.authorization);
    }
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (action, keys) in &config.console.keys {
        for key in keys.all() {
            if let Some(other) = taken.insert(key, action).filter(|other| *other != action) {
                let what = format!("the key \"{key}\" is given to `{other}`, too; keep one");
                say(broken, format!("console.keys.{}", written(action)), what);
            }
        }
    }
}

fn agent(config: &Config, broken: &mut Broken) {
    let agent = &config.agent;
    positive(broken, &[("agent.collect_every", agent.collect_every)]);
    if agent.send_every < agent.collect_every {
        say(broken, "agent.send_every", "must not be shorter than agent.collect_every");
    }
    match agent.send_to {
        AgentSink::Engine if agent.engines.is_empty() => {
            say(broken, "agent.engines", "send_to = \"engine\" needs at least one address");
        }
        AgentSink::Influxdb
            if !matches!(
                config.telemetry.source,
                TelemetrySource::Influxdb1 | TelemetrySource::Influxdb2
            ) =>
        {
            say(broken, "agent.send_to", "\"influxdb\" needs the server's address in [telemetry]");
        }
        AgentSink::Engine | AgentSink::Influxdb => {}
    }
    for (i, engine) in agent.engines.iter().enumerate() {
        address(broken, format!("agent.engines[{i}]"), engine);
    }
    for (i, endpoint) in agent.endpoints.iter().enumerate() {
        address(broken, format!("agent.endpoints[{i}].url"), &endpoint.url);
    }
    secret(broken, "agent.token", &agent.token);
    for (i, log) in agent.logs.iter().enumerate() {
        if log.file.is_some() == log.unit.is_some() {
            say(broken, format!("agent.logs[{i}]"), "expected one of `file` and `unit`");
        }
    }
    for (name, process) in &agent.partitions {
        let ways = [process.pid_file.is_some(), process.unit.is_some(), process.command.is_some()];
        if ways.iter().filter(|way| **way).count() != 1 {
            say(
                broken,
                format!("agent.partitions.{}", written(name)),
                "expected one of `pid_file`, `unit` and `command`",
            );
        }
    }
    if agent.spool_size.0 == 0 {
        say(broken, "agent.spool_size", "must be more than nothing");
    }
}

/// The first part of a log filter that is none.
fn not_a_filter(text: &str) -> Option<&str> {
    let is_level = |word: &str| word.trim().parse::<LevelFilter>().is_ok();
    text.split(',').find(|part| match part.rsplit_once('=') {
        Some((_, level)) => !is_level(level),
        None => !is_level(part),
    })
}
