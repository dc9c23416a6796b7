//! `foreshift evacuate`: plans and performs what the console does by key, through the engine that
//! runs on this configuration, or one of its own where none does.

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::engine::{self, person};
use super::read_only::Hands;
use crate::fleet::{HostId, Phase, ProposalId};
use crate::protocol::{Command, Link, MigrationView, ProposalView, Reply, Snapshot};

/// Arguments of `foreshift evacuate`.
#[derive(Args, Debug)]
pub struct EvacuateArgs {
    /// The host to empty.
    pub host: String,
    /// Show the plan and touch nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Print one JSON object to standard output and nothing else.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub report: Option<Report>,
    /// Give up watching after so many seconds; what runs goes on in the journal.
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    pub timeout: u64,
}

/// Forms of a report.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// One JSON object.
    Json,
}

/// Runs it. Exit status 0 where every move ended well (or for a dry run a plan exists), 1 where
/// one did not, 2 where nothing could be planned.
///
/// # Errors
/// Where the engine cannot be reached or started.
pub fn run(args: EvacuateArgs, config: Option<&Path>, hands: Hands) -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let opened = engine::open(config, hands).await?;
        let outcome = evacuate(&args, opened.link()).await;
        opened.close().await;
        outcome
    })
}

async fn evacuate(args: &EvacuateArgs, link: Arc<dyn Link>) -> Result<ExitCode> {
    let host = HostId::from(args.host.as_str());
    let json = args.report == Some(Report::Json);
    engine::wait_for_fleet(&*link).await;
    let tried = link.send(person(), Command::TryEvacuate { host: host.clone() }).await;
    let view = match tried {
        Ok(Reply::Proposed { view, .. }) => view,
        Ok(other) => bail!("the engine answered {other:?} to a question for a plan"),
        Err(refusal) => {
            if json {
                say!("{}", json!({ "host": args.host, "planned": false, "reason": refusal.to_string() }));
            } else {
                note!("foreshift: {refusal}");
            }
            return Ok(ExitCode::from(2));
        }
    };
    if args.dry_run {
        if !json {
            say_part!("{}", plan_text(&view));
        } else {
            say!("{}", json!({ "host": args.host, "planned": true, "dry_run": true, "plan": view }));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if view.moves.is_empty() {
        if json {
            say!("{}", report(&args.host, &view, &[]));
        } else {
            say!("nothing to move: {} holds no workload", args.host);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes && !std::io::stdin().is_terminal() {
        bail!("not a terminal: pass --yes to go on, or --dry-run to look");
    }
    // What is shown is what is approved: this very proposal, by its hash.
    let Reply::Proposed { proposal: Some(id), view } =
        link.send(person(), Command::Evacuate { host }).await?
    else {
        bail!("the engine made no proposal");
    };
    if !json {
        say_part!("{}", plan_text(&view));
    }
    if !args.yes && !confirmed(&view)? {
        let reason = "not confirmed on the command line".to_string();
        link.send(person(), Command::Reject { proposal: id, reason }).await?;
        say!("nothing was done");
        return Ok(ExitCode::from(2));
    }
    let approve = Command::Approve { proposal: id, plan: view.plan.clone(), reason: String::new() };
    link.send(person(), approve).await?;
    let ended = watch(&*link, id, view.moves.len(), args, json).await?;
    let well = ended.len() == view.moves.len() && ended.iter().all(|m| m.phase == Phase::Done);
    if json {
        say!("{}", report(&args.host, &view, &ended));
    } else {
        for m in &ended {
            let why = match m.end_reason() {
                "" => String::new(),
                why => format!(": {why}"),
            };
            say!("{}  {}  {} → {}  {}{why}", m.id, m.workload, m.source, m.destination, m.phase.word());
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn confirmed(view: &ProposalView) -> Result<bool> {
    say_part!("type the plan's first four letters ({}) to approve: ", &view.plan[..4]);
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim() == &view.plan[..4])
}

/// Follows the migrations of a proposal to their ends.
async fn watch(
    link: &dyn Link,
    id: ProposalId,
    moves: usize,
    args: &EvacuateArgs,
    quiet: bool,
) -> Result<Vec<MigrationView>> {
    let mut snapshots = link.snapshots();
    let mut told = BTreeSet::new();
    let of = |snapshot: &Snapshot| -> Vec<MigrationView> {
        snapshot.migrations.iter().filter(|m| m.proposal == id).cloned().collect()
    };
    let follow = async {
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let mine = of(&snapshot);
            if !quiet {
                for m in &mine {
                    let line = format!("{}  {}  {}  {}", m.id, m.workload, m.phase.word(), m.waiting);
                    if told.insert(line.clone()) {
                        say!("{line}");
                    }
                }
            }
            if mine.len() >= moves && mine.iter().all(|m| m.phase.is_end()) {
                return mine;
            }
            if snapshots.changed().await.is_err() {
                return mine;
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(args.timeout), follow).await {
        Ok(ended) => Ok(ended),
        Err(_) => {
            note!("foreshift: not done within {} s; the journal has what is needed to go on", args.timeout);
            let snapshot = link.snapshots().borrow().clone();
            Ok(of(&snapshot))
        }
    }
}

fn report(host: &str, view: &ProposalView, ended: &[MigrationView]) -> serde_json::Value {
    let count = |phase: Phase| ended.iter().filter(|m| m.phase == phase).count();
    let done = count(Phase::Done);
    let back = count(Phase::RolledBack) + count(Phase::Aborted);
    json!({
        "host": host,
        "planned": true,
        "dry_run": false,
        "plan": view.plan,
        "moves": view.moves.len(),
        "migrations": {
            "completed": done,
            "rolled_back": back,
            "failed": view.moves.len() - done - back,
        },
        "details": ended.iter().map(|m| json!({
            "id": m.id.to_string(),
            "workload": m.workload,
            "source": m.source,
            "destination": m.destination,
            "phase": m.phase,
            "waiting": m.waiting,
            "why": m.end_reason(),
            "seconds": m.ended.map(|e| (e - m.started).as_seconds()),
            "steps": m.steps.iter().map(|s| json!({ "name": s.name, "state": s.state, "evidence": s.evidence })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn plan_text(view: &ProposalView) -> String {
    let mut out = format!("{}   plan {}…{}\n", view.title, &view.plan[..4], &view.plan[62..]);
    for m in &view.moves {
        out.push_str(&format!(
            "  {}  {} → {}  {}  about {}, blackout {}  {}\n",
            m.workload, m.source, m.destination, m.data, m.duration, m.blackout, m.because
        ));
        out.push_str(&format!("      way back: {}\n", m.way_back));
        for command in &m.commands {
            out.push_str(&format!("      $ {command}\n"));
        }
    }
    out.push_str(&format!("  canary: {}\n  way back: {}\n", view.canary_carries, view.way_back));
    for risk in &view.risks {
        out.push_str(&format!("  risk: {risk}\n"));
    }
    for (candidate, reason) in &view.rejected {
        out.push_str(&format!("  not {candidate}: {reason}\n"));
    }
    out
}
