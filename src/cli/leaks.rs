//! `foreshift leaks`: what earlier migrations left in the systems and no running one knows, found by name
//! alone, also where the journal is lost; and its removal. It needs the journal to itself, so that nothing
//! begins meanwhile.

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::{place, systems};
use crate::drivers::{Answer, Artifact, Retry};
use crate::migrate::runner::Options;
use crate::migrate::{Authority, Runner};
use crate::protocol::Mode;
use crate::state::{Leadership, Single, Store};

/// Lists or removes what was left behind.
#[derive(Args, Debug)]
pub struct LeaksArgs {
    /// Remove what is found, after a yes.
    #[arg(long)]
    pub remove: bool,
    /// Do not ask.
    #[arg(long, requires = "remove")]
    pub yes: bool,
    /// Print one JSON object to standard output and nothing else.
    #[arg(long)]
    pub json: bool,
}

/// How long one artifact may take to go, where it has to be let go by somebody first.
const PATIENCE: Duration = Duration::from_secs(20);

/// One thing that was left.
struct Leak {
    class: String,
    artifact: Artifact,
    /// What became of it, and whether it is gone.
    outcome: Option<(bool, String)>,
}

/// Runs it. Exit status 0 where nothing is left, 1 where something is or a system cannot be asked.
///
/// # Errors
/// Where there is no configuration, or an engine has the journal.
pub fn run(args: &LeaksArgs, config: Option<&Path>) -> Result<ExitCode> {
    let Some((_, config)) = place::load(config)? else {
        bail!("no configuration: name one with --config; leaks are looked for in its [drivers]");
    };
    let systems = systems::open(&config)?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let store = place::open_state(&config.engine.data_dir)
            .context("leaks are told apart from what runs by the journal, which has to stand still")?;
        let store: Arc<dyn Store> = Arc::new(store);
        let epoch = Single::new(Arc::clone(&store)).campaign("foreshift leaks").await?;
        let authority = Authority::of(Mode::Advise).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
        let movers = systems.movers.into_iter().collect();
        let runner = Runner::new(store, epoch, movers, systems.routers, Options::default(), &authority);
        leaks(args, &runner).await
    })
}

async fn leaks(args: &LeaksArgs, runner: &Runner) -> Result<ExitCode> {
    let (mut leaks, mut silent) = (Vec::new(), Vec::new());
    for found in runner.leaks().await? {
        match found.leaks {
            Ok(artifacts) => leaks.extend(artifacts.into_iter().map(|artifact| Leak {
                class: found.class.clone(),
                artifact,
                outcome: None,
            })),
            Err(error) => silent.push((found.class, error.to_string())),
        }
    }
    if args.remove && !leaks.is_empty() && (args.yes || confirmed(&leaks)?) {
        remove(runner, &mut leaks).await;
    }
    show(args, &leaks, &silent)?;
    let clean = silent.is_empty() && leaks.iter().all(|l| l.outcome.as_ref().is_some_and(|(gone, _)| *gone));
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Removes each; what waits for another to go first is asked again after the others.
async fn remove(runner: &Runner, leaks: &mut [Leak]) {
    let start = Instant::now();
    // Who reads goes before what is read from.
    leaks.sort_by_key(|l| (order(&l.artifact.kind), l.artifact.name.clone()));
    loop {
        let mut waits = false;
        for leak in leaks.iter_mut().filter(|l| !matches!(l.outcome, Some((true, _)))) {
            let outcome = match runner.reap(&leak.class, &leak.artifact).await {
                Ok(Answer::Done(evidence)) => (true, evidence.summary),
                Ok(Answer::Working { waiting_for }) => {
                    waits = true;
                    (false, format!("waits for {waiting_for}"))
                }
                Err(error) => {
                    waits |= error.retry != Retry::Permanent;
                    (false, error.to_string())
                }
            };
            leak.outcome = Some(outcome);
        }
        if !waits || start.elapsed() > PATIENCE {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn order(kind: &str) -> usize {
    // What holds everybody up ends first; a copy goes only where its owner may be written to.
    [Artifact::FENCE, "subscription", "replication_slot", "publication", "digest"]
        .iter()
        .position(|k| *k == kind)
        .unwrap_or(9)
}

fn confirmed(leaks: &[Leak]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("{} artifacts would be removed: say --yes where nobody can be asked", leaks.len());
    }
    for leak in leaks {
        say!("{}", line(leak));
    }
    say_part!("remove these {}? [y/N] ", leaks.len());
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "yes"))
}

fn line(leak: &Leak) -> String {
    let Artifact { kind, name, partition } = &leak.artifact;
    let holds = if kind == Artifact::FENCE { ": it keeps everybody from writing there" } else { "" };
    format!("{}  {kind} {name} on {partition}{holds}", leak.class)
}

fn show(args: &LeaksArgs, leaks: &[Leak], silent: &[(String, String)]) -> Result<()> {
    let out = &mut super::out::Out;
    if args.json {
        let leaks: Vec<_> = leaks
            .iter()
            .map(|l| {
                let (gone, said) = l.outcome.clone().unwrap_or((false, String::new()));
                json!({ "class": l.class, "artifact": l.artifact, "removed": gone, "said": said })
            })
            .collect();
        let silent: Vec<_> =
            silent.iter().map(|(class, why)| json!({ "class": class, "why": why })).collect();
        writeln!(out, "{}", json!({ "leaks": leaks, "silent": silent }))?;
        return Ok(());
    }
    for leak in leaks {
        match &leak.outcome {
            None => writeln!(out, "{}", line(leak))?,
            Some((true, said)) => writeln!(out, "{}: removed: {said}", line(leak))?,
            Some((false, said)) => writeln!(out, "{}: left: {said}", line(leak))?,
        }
    }
    for (class, why) in silent {
        writeln!(out, "{class}: cannot be asked: {why}")?;
    }
    let removed = leaks.iter().filter(|l| matches!(l.outcome, Some((true, _)))).count();
    let partitions: BTreeSet<_> = leaks.iter().map(|l| &l.artifact.partition).collect();
    match (leaks.len(), removed) {
        (0, _) => writeln!(out, "nothing was left behind"),
        (n, 0) => {
            writeln!(out, "{n} artifacts on {} partitions that no running migration knows", partitions.len())
        }
        (n, removed) => writeln!(out, "{removed} of {n} removed"),
    }?;
    Ok(())
}
