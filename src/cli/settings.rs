//! Maps the configuration onto the options of the rooms, which know nothing of the file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Result;

use crate::alert::{Format, Target};
use crate::config::{self, AntiAffinity, Config, ModeSetting, TelemetrySource};
use crate::drivers::Mover;
use crate::engine::inventory::{Inventory, Place, Profile};
use crate::engine::observe::PullOptions;
use crate::engine::options::EngineOptions;
use crate::fleet::{HostId, Span, WorkloadId};
use crate::migrate::Policy;
use crate::plan::options::{self as plan, ClassPolicy, Places, PlanOptions};
use crate::plan::{CanaryPlan, CanaryStep};
use crate::predict::shadow::ShadowOptions;
use crate::predict::{AssessOptions, HysteresisOptions, MetricWeight, WindowThreshold};
use crate::protocol::{Mode, Severity};
use crate::telemetry::WindowsConfig;
use crate::telemetry::influx;

/// Two hours and four minutes are held in memory.
const HELD: Span = Span::minutes(124);

/// The engine's options.
pub fn engine(config: &Config) -> EngineOptions {
    let name = if config.engine.name.is_empty() { host_name() } else { config.engine.name.clone() };
    let step = config.telemetry.step.max(Span::seconds(1));
    EngineOptions {
        fleet_name: config.fleet.name.clone(),
        name,
        mode: match config.engine.mode {
            ModeSetting::ReadOnly => Mode::ReadOnly,
            ModeSetting::Advise => Mode::Advise,
            ModeSetting::Auto => Mode::Auto,
        },
        interval: config.engine.interval.max(Span::millis(200)),
        stale_after: config.engine.stale_after,
        windows: WindowsConfig {
            step,
            len: usize::try_from(HELD.0 / step.0).unwrap_or(248).clamp(32, 8192),
            ..WindowsConfig::default()
        },
        history: config.telemetry.history,
        storm_calm: config.plan.storm.calm,
        ..EngineOptions::default()
    }
}

/// Sets how many threads the predictions of this process have; a second call changes nothing.
pub fn threads(config: &Config) {
    // 0 is rayon's own word for as many as there are cores.
    let threads = config.engine.threads;
    let set = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    if let Err(error) = set {
        tracing::debug!(%error, threads, "the threads of the predictions were set before");
    }
}

/// The name of this machine.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|n| n.trim().to_string())
        .ok()
        .filter(|n| !n.is_empty())
        .unwrap_or_else(|| "single".into())
}

/// How time series are pulled.
pub fn pull(config: &Config) -> PullOptions {
    let options = engine(config);
    PullOptions {
        interval: Span(options.interval.0 / 2).max(Span::millis(100)),
        deadline: config.telemetry.timeout,
        step: options.windows.step,
        reach: Span(options.windows.step.0 * options.windows.len as i64),
    }
}

/// How assessments are made.
pub fn assess(config: &Config) -> AssessOptions {
    let mut options = AssessOptions {
        windows: config.predict.windows.clone(),
        time_to_live: config.predict.expires_after,
        max_age: config.engine.stale_after,
        ..AssessOptions::default()
    };
    for (metric, weight) in &config.predict.weights {
        options.weights.retain(|w| &w.metric != metric);
        options.weights.push(MetricWeight { metric: metric.clone(), kind: None, weight: *weight });
    }
    options
}

/// How a model runs in shadow.
pub fn shadow(config: &Config) -> ShadowOptions {
    let settings = &config.predict.shadow;
    ShadowOptions {
        every: settings.every,
        least_failures: settings.least_failures,
        certainty: settings.certainty,
        at_most: settings.at_most,
        false_revert_every: settings.false_revert_every,
        ..ShadowOptions::default()
    }
}

fn thresholds(config: &Config) -> Vec<WindowThreshold> {
    config
        .plan
        .thresholds
        .iter()
        .map(|t| WindowThreshold { within: t.within, on: t.on, off: t.off })
        .collect()
}

/// When a partition changes its prediction state.
pub fn hysteresis(config: &Config) -> HysteresisOptions {
    HysteresisOptions {
        thresholds: thresholds(config),
        k: config.plan.confirm.k as u32,
        n: config.plan.confirm.n as u32,
        ..HysteresisOptions::default()
    }
}

/// How plans are made.
pub fn plans(config: &Config, movers: &HashMap<String, Arc<dyn Mover>>) -> PlanOptions {
    let defaults = PlanOptions::default();
    let settings = &config.plan;
    let apart = |level: AntiAffinity| {
        if settings.anti_affinity.contains(&level) { plan::Apart::Prefer } else { plan::Apart::Ignore }
    };
    let labels = |wanted: &BTreeMap<String, String>| wanted.clone().into_iter().collect();
    let preferred = config
        .fleet
        .workloads
        .iter()
        .filter_map(|(workload, profile)| {
            let target = profile.preferred_host.as_ref()?.to_string();
            Some(plan::Preferred { subject: workload.to_string(), target })
        })
        .collect();
    PlanOptions {
        thresholds: thresholds(config),
        host_risk: settings.host_risk,
        candidates: plan::CandidateRules { only_labels: labels(&settings.candidates), ..defaults.candidates },
        destinations: plan::DestinationRules {
            only_labels: labels(&settings.destinations),
            most_data: settings.fill_limit,
            most_load: settings.most_load,
            apart_by_rack: apart(AntiAffinity::Rack),
            apart_by_site: apart(AntiAffinity::Site),
            preferred,
            preferred_unavailable: match settings.preferred_unavailable {
                config::PreferredUnavailable::NextBest => plan::PreferredUnavailable::NextBest,
                config::PreferredUnavailable::Hold => plan::PreferredUnavailable::Hold,
            },
            ..defaults.destinations
        },
        limits: plan::Limits {
            fleet: config.limits.moves.fleet as u32,
            site: config.limits.moves.site as u32,
            rack: config.limits.moves.rack as u32,
            host: config.limits.moves.host as u32,
            per_hour: config.limits.moves_per_hour as u32,
            cool_down: settings.cool_down,
            share_of_hosts: config.limits.fleet_share,
            freezes: Vec::new(),
        },
        storm: plan::StormBrake {
            most_partitions: settings.storm.number,
            most_share: settings.storm.share,
            ..defaults.storm
        },
        canary: canary(config),
        soak: config.migration.soak,
        valid_for: settings.max_proposal_age,
        risk_tolerance: settings.risk_tolerance,
        footprint_discrepancy: settings.footprint_from,
        classes: movers.values().map(|m| class(config, &**m)).collect(),
        ..defaults
    }
}

fn canary(config: &Config) -> CanaryPlan {
    CanaryPlan {
        steps: config
            .migration
            .canary
            .iter()
            .map(|s| CanaryStep { share: s.share, duration: s.hold })
            .collect(),
        p99_tolerance: config.migration.p99_tolerance,
        latency_margin_ms: config.migration.latency_margin_ms,
        min_samples: config.migration.min_samples,
    }
}

/// What the planner has to know of a driver's class.
fn class(config: &Config, mover: &dyn Mover) -> ClassPolicy {
    let capabilities = mover.capabilities();
    let places = if mover.shares_partitions() { Places::SameClass } else { Places::CopyOrEmpty };
    ClassPolicy {
        capabilities,
        places,
        bandwidth: (config.limits.bytes_per_second.0 as f64).max(1.0),
        blackout: mover.fence_budget().unwrap_or(Span::millis(50)),
        ..ClassPolicy::unknown(mover.class())
    }
}

/// Bounds and patience of migrations.
pub fn policy(config: &Config) -> Policy {
    let settings = &config.migration;
    Policy {
        fence_budget: settings.fence_budget,
        attempts: settings.retries + 1,
        retry_after: settings.retry_after,
        prepare_limit: settings.timeouts.prepare,
        copy_least: settings.timeouts.copy,
        catch_up_least: settings.timeouts.catch_up,
        verify_least: settings.timeouts.verify,
        copy_rate: Some(settings.timeouts.copy_rate),
        compare_again: settings.compare_after_soak,
        ..Policy::default()
    }
}

/// What the configuration says of the fleet.
pub fn inventory(config: &Config) -> Inventory {
    Inventory::configured(places(config), profiles(config))
}

fn profiles(config: &Config) -> BTreeMap<WorkloadId, Profile> {
    let profile = |said: &config::WorkloadProfile| Profile {
        application: said.application.clone(),
        kind: said.kind.clone(),
        depends_on: said.depends_on.clone(),
        labels: said.labels.clone(),
    };
    config.fleet.workloads.iter().map(|(id, said)| (id.clone(), profile(said))).collect()
}

fn places(config: &Config) -> BTreeMap<HostId, Place> {
    config
        .fleet
        .hosts
        .iter()
        .map(|(host, place)| {
            let text = |t: Option<&str>| t.unwrap_or_default().to_string();
            let known = Place {
                site: text(place.site.as_ref().map(|s| s.as_str())),
                rack: text(place.rack.as_ref().map(|r| r.as_str())),
                data: place.capacity,
                labels: place.labels.clone(),
            };
            (host.clone(), known)
        })
        .collect()
}

/// How to reach the InfluxDB of `[telemetry]`, reading from or writing to `name`.
///
/// # Errors
/// Where a secret cannot be read; the error names where it is kept.
pub fn influx(config: &Config, name: &str) -> Result<influx::InfluxOptions> {
    let t = &config.telemetry;
    let place = match t.source {
        TelemetrySource::Influxdb2 => influx::Place::Bucket { org: t.org.clone(), bucket: name.to_string() },
        _ => influx::Place::Database {
            database: name.to_string(),
            retention_policy: if name == t.database { t.retention_policy.clone() } else { String::new() },
        },
    };
    let secret = |s: &config::Secret| s.reveal().map(|r| influx::Secret::new(r.expose()));
    let credentials = match (&t.token, t.username.is_empty()) {
        (Some(token), _) => influx::Credentials::Token(secret(token)?),
        (None, false) => influx::Credentials::User {
            name: t.username.clone(),
            password: t.password.as_ref().map(secret).transpose()?.unwrap_or_default(),
        },
        (None, true) => influx::Credentials::None,
    };
    let timeouts = influx::Timeouts { idle: t.timeout, ..influx::Timeouts::default() };
    Ok(influx::InfluxOptions { url: t.url.clone(), place, credentials, timeouts })
}

/// The bucket or database that is read.
pub fn read_name(config: &Config) -> &str {
    match config.telemetry.source {
        TelemetrySource::Influxdb2 => &config.telemetry.bucket,
        _ => &config.telemetry.database,
    }
}

/// How an InfluxDB is read, averaged over `every`.
pub fn read(config: &Config, every: Span) -> influx::ReadOptions {
    let t = &config.telemetry;
    let mut tags = influx::Tags { host: t.host_tag.clone(), ..influx::Tags::default() };
    if !t.partition_tag.is_empty() {
        tags.partition = t.partition_tag.clone();
    }
    let mut rules: BTreeMap<&str, influx::Rule> = BTreeMap::new();
    for mapping in &t.mapping {
        let rule = rules
            .entry(&mapping.measurement)
            .or_insert_with(|| influx::Rule::new(&mapping.measurement, Vec::new()));
        rule.only.extend(mapping.tags.iter().map(|(k, v)| (k.clone(), v.clone())));
        let field = influx::FieldRule::mean(&mapping.field, &mapping.metric);
        rule.fields.push(influx::FieldRule { scale: mapping.scale, ..field });
    }
    influx::ReadOptions {
        every,
        tags,
        rules: rules.into_values().collect(),
        ..influx::ReadOptions::default()
    }
}

/// Who is told of alerts.
///
/// # Errors
/// Where a secret cannot be read.
pub fn targets(config: &Config) -> Result<Vec<Target>> {
    config
        .alerts
        .webhooks
        .iter()
        .map(|hook| {
            let authorization = hook
                .authorization
                .as_ref()
                .map(|s| s.reveal().map(|r| r.expose().to_string()))
                .transpose()?;
            let format = if hook.url.contains("hooks.slack.com") { Format::Slack } else { Format::Plain };
            let from = match hook.from {
                config::Severity::Info => Severity::Info,
                config::Severity::Warning => Severity::Warning,
                config::Severity::Critical => Severity::Critical,
            };
            Ok(Target { url: hook.url.clone(), format, authorization, from })
        })
        .collect()
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
