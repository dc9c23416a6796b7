//! `foreshift check`: validates the configuration, tries every connection, and says what it found.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use super::{console, engine, models, place, systems};
use crate::api::Access;
use crate::config::{Config, TelemetrySource};
use crate::drivers::{Artifact, Router};
use crate::fleet::{Span, SystemClock, Topology};
use crate::state::Store;
use crate::telemetry::Sink;
use crate::telemetry::embedded::StoreError;
use crate::tui::Engine;

/// Longest wait for one connection.
const DEADLINE: Duration = Duration::from_secs(15);
/// History that baselines and training want.
const WANTED_HISTORY: Span = Span::days(30);

/// Arguments of `foreshift check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// One JSON object instead of lines.
    #[arg(long)]
    pub json: bool,
}

/// How one thing was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Well,
    Warning,
    Broken,
}

impl Verdict {
    fn sign(self) -> &'static str {
        match self {
            Verdict::Well => "✔ ok     ",
            Verdict::Warning => "▲ warning",
            Verdict::Broken => "✖ broken ",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Verdict::Well => "ok",
            Verdict::Warning => "warning",
            Verdict::Broken => "broken",
        }
    }
}

struct Finding {
    what: String,
    verdict: Verdict,
    said: String,
}

/// Runs it. Exit status 1 where something is broken.
///
/// # Errors
/// Where there is no configuration, or it is wrong; the error names line and key.
pub fn run(args: &CheckArgs, named: Option<&Path>) -> Result<ExitCode> {
    let Some((path, config)) = place::load(named)? else {
        bail!("there is no configuration: pass --config FILE; config.example.toml explains every key");
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let mut findings =
        vec![finding("configuration", Verdict::Well, format!("{} is understood", path.display()))];
    findings.extend(runtime.block_on(all(&config)));
    let broken = findings.iter().any(|f| f.verdict == Verdict::Broken);
    if args.json {
        let list: Vec<_> = findings
            .iter()
            .map(|f| json!({ "what": f.what, "verdict": f.verdict.word(), "said": f.said }))
            .collect();
        say!("{}", json!({ "ok": !broken, "findings": list }));
    } else {
        let width = findings.iter().map(|f| f.what.chars().count()).max().unwrap_or(0);
        for f in &findings {
            say!("{}  {:<width$}  {}", f.verdict.sign(), f.what, f.said);
        }
    }
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn finding(what: impl Into<String>, verdict: Verdict, said: impl Into<String>) -> Finding {
    Finding { what: what.into(), verdict, said: said.into() }
}

async fn all(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(state(config).await);
    findings.extend(telemetry(config).await);
    if config.telemetry.history < WANTED_HISTORY {
        let said = format!(
            "telemetry.history is {}: baselines and training want 30 days or more",
            config.telemetry.history
        );
        findings.push(finding("history", Verdict::Warning, said));
    }
    findings.extend(drivers(config).await);
    findings.push(listen(config).await);
    findings.extend(secrets(config));
    findings.extend(console(config));
    for (what, well, said) in models::check(config) {
        findings.push(finding(what, if well { Verdict::Well } else { Verdict::Warning }, said));
    }
    findings
}

/// Whether a folder is there, or could be, and can be written to; nothing is made to find that out.
fn can_be_made(folder: &Path) -> Result<()> {
    let folder = std::path::absolute(folder)?;
    let Some(there) = folder.ancestors().find(|f| f.exists()) else { return Ok(()) };
    if !there.is_dir() {
        bail!("{} is no folder", there.display());
    }
    if there.metadata()?.permissions().readonly() {
        bail!("{} cannot be written to", there.display());
    }
    Ok(())
}

async fn state(config: &Config) -> Finding {
    let path = place::state_file(&config.engine.data_dir);
    if !path.exists() {
        return match can_be_made(&config.engine.data_dir) {
            Ok(()) => finding("state", Verdict::Well, format!("{} will be made", path.display())),
            Err(error) => {
                finding("state", Verdict::Broken, format!("{} cannot be made: {error}", path.display()))
            }
        };
    }
    match place::open_state(&config.engine.data_dir) {
        Ok(store) => match store.revision().await {
            Ok(revision) => {
                finding("state", Verdict::Well, format!("{} at revision {revision}", path.display()))
            }
            Err(error) => finding("state", Verdict::Broken, error.to_string()),
        },
        Err(error) => finding("state", Verdict::Warning, error.to_string()),
    }
}

async fn telemetry(config: &Config) -> Vec<Finding> {
    let what = "telemetry";
    let folder = place::series_dir(&config.engine.data_dir);
    if config.telemetry.source == TelemetrySource::Embedded && !folder.exists() {
        return vec![finding(
            what,
            Verdict::Well,
            format!("the embedded store {} will be made", folder.display()),
        )];
    }
    let series = match engine::series(config, Arc::new(SystemClock)) {
        Ok(series) => series,
        // As with the state: a healthy engine has it.
        Err(error) if matches!(error.downcast_ref(), Some(StoreError::InUse { .. })) => {
            return vec![finding(what, Verdict::Warning, error.to_string())];
        }
        Err(error) => return vec![finding(what, Verdict::Broken, format!("{error:#}"))],
    };
    let read = match tokio::time::timeout(DEADLINE, series.source.check()).await {
        Ok(Ok(said)) => {
            let short = said.to_lowercase().contains("warning");
            finding(what, if short { Verdict::Warning } else { Verdict::Well }, said)
        }
        Ok(Err(error)) => finding(what, Verdict::Broken, error.to_string()),
        Err(_) => {
            let name = series.source.name();
            finding(what, Verdict::Broken, format!("{name} did not answer within 15 s"))
        }
    };
    // What agents write to the engine itself needs no permission.
    let sink = series.sink.filter(|_| series.intake.is_none());
    match sink {
        Some(sink) => vec![read, write_back(&*sink).await],
        None => vec![read],
    }
}

/// Whether scores would be taken.
async fn write_back(sink: &dyn Sink) -> Finding {
    let what = "write-back";
    match tokio::time::timeout(DEADLINE, sink.check()).await {
        Ok(Ok(said)) => finding(what, Verdict::Well, said),
        Ok(Err(error)) => finding(what, Verdict::Broken, error.to_string()),
        Err(_) => finding(what, Verdict::Broken, format!("{} did not answer within 15 s", sink.name())),
    }
}

async fn drivers(config: &Config) -> Vec<Finding> {
    if config.drivers.is_empty() {
        let said = "none: the fleet is watched, and nothing can be moved";
        return vec![finding("drivers", Verdict::Warning, said)];
    }
    let systems = match systems::open(config) {
        Ok(systems) => systems,
        Err(error) => return vec![finding("drivers", Verdict::Broken, format!("{error:#}"))],
    };
    let mut findings = Vec::new();
    for (class, mover) in &systems.movers {
        let what = format!("driver {class}");
        let found = match tokio::time::timeout(DEADLINE, mover.discover()).await {
            Ok(Ok(found)) => {
                let said =
                    format!("{} partitions, {} workloads", found.partitions.len(), found.workloads.len());
                if let Some(router) = systems.routers.get(class) {
                    findings.push(route(class, &**router, &found).await);
                }
                match found.workloads.is_empty() {
                    false => finding(what, Verdict::Well, said),
                    true => {
                        let said =
                            format!("{said}: nothing there can be moved; is what it names spelt right?");
                        finding(what, Verdict::Warning, said)
                    }
                }
            }
            Ok(Err(error)) => finding(what, Verdict::Broken, error.to_string()),
            Err(_) => finding(what, Verdict::Broken, "no answer within 15 s"),
        };
        findings.push(found);
        match tokio::time::timeout(DEADLINE, mover.leaks()).await {
            Ok(Ok(leaks)) if leaks.is_empty() => {}
            Ok(Ok(leaks)) => {
                if let Some(fence) = leaks.iter().find(|leak| leak.kind == Artifact::FENCE) {
                    let said = format!(
                        "nobody may write to a workload on {}: {} holds it; where no engine cuts over now, `foreshift \
                         leaks --remove` makes its last owner writable",
                        fence.partition, fence.name
                    );
                    findings.push(finding(format!("driver {class}"), Verdict::Broken, said));
                }
                let names: Vec<&str> = leaks.iter().map(|a| a.name.as_str()).take(5).collect();
                let said = format!(
                    "{} artifacts of ours: {}; harmless while an engine's migrations run",
                    leaks.len(),
                    names.join(", ")
                );
                findings.push(finding(format!("driver {class}"), Verdict::Warning, said));
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
    findings
}

/// Whether the router has a server for every place that a workload can move to.
async fn route(class: &str, router: &dyn Router, found: &Topology) -> Finding {
    let what = format!("router of {class}");
    for workload in &found.workloads {
        let weights = match tokio::time::timeout(DEADLINE, router.weights(&workload.id)).await {
            Ok(Ok(weights)) => weights,
            Ok(Err(error)) => return finding(what, Verdict::Broken, error.to_string()),
            Err(_) => return finding(what, Verdict::Broken, "no answer within 15 s"),
        };
        let without = found.partitions.iter().find(|p| !weights.iter().any(|w| w.partition == p.id));
        if let Some(partition) = without {
            let said = format!(
                "{} has no server for {}: a move there would be undone; add the server, or name it in `servers`",
                workload.id, partition.id
            );
            return finding(what, Verdict::Broken, said);
        }
    }
    finding(what, Verdict::Well, format!("has a server for each of {} places", found.partitions.len()))
}

async fn listen(config: &Config) -> Finding {
    let address = config.engine.listen;
    if let Some(reason) = Access::default().refuses_to_listen(address) {
        return finding("listen", Verdict::Broken, reason);
    }
    match tokio::net::TcpListener::bind(address).await {
        Ok(_) => finding("listen", Verdict::Well, format!("{address} is free")),
        Err(error) => {
            finding("listen", Verdict::Warning, format!("{address}: {error}; an engine may be running"))
        }
    }
}

/// What of keys and theme would keep the console from coming up, or would be said on it.
fn console(config: &Config) -> Vec<Finding> {
    let options = console::options(&config.console, None, Engine::Embedded);
    let keys = options.keymap().err().map(|error| (Verdict::Broken, format!("console.{error}")));
    let theme = match options.looks() {
        Ok((_, _, wrong)) => wrong.into_iter().map(|error| (Verdict::Warning, error.to_string())).collect(),
        Err(error) => vec![(Verdict::Broken, format!("console.theme: {error}"))],
    };
    keys.into_iter().chain(theme).map(|(verdict, said)| finding("console", verdict, said)).collect()
}

/// Secrets of parts that are not connected to by a check.
fn secrets(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, hook) in config.alerts.webhooks.iter().enumerate() {
        if let Some(secret) = &hook.authorization
            && let Err(error) = secret.reveal()
        {
            let what = format!("alerts.webhooks[{number}]");
            findings.push(finding(what, Verdict::Broken, error.to_string()));
        }
    }
    if config.telemetry.source == TelemetrySource::Embedded && config.telemetry.token.is_some() {
        let said = "telemetry.token is not used by the embedded store";
        findings.push(finding("telemetry", Verdict::Warning, said));
    }
    findings
}
