//! `foreshift train`: the shipped models, or models of your own fleet's history, which run in shadow where
//! they are better than what speaks now on hosts that neither has seen.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::backtest::inputs::{self, Labels};
use super::backtest::{self, Sources};
use super::train::{STEPS, Train, data_of, train_history, train_shipped, write_shipped};
use super::train_course::{self, Course};
use super::train_rows::{MOST_ROWS, Past, Rows, gather};
use super::{place, settings, train_own};
use crate::config::Config;
use crate::eval::backtest::Truth;
use crate::eval::backtest::error::written;
use crate::fleet::{ApplicationId, Clock, Span, SystemClock, Timestamp};
use crate::predict::failure::{Incident, Opened};
use crate::predict::train::failure::{HeadFile, Untrained, file_name};
use crate::predict::train::{Progress, Registry, Trained, Verdict, compare};
use crate::telemetry::Source;

/// Models of failure speak on this grid alone.
const GRID: Span = Span::seconds(30);

/// Runs it.
///
/// # Errors
/// Where the history cannot be read, or there is too little of it; the error says what is missing.
pub fn run(args: &Train, config: Option<&Path>) -> Result<ExitCode> {
    if args.shipped {
        let mut shown = Shown::default();
        let files = train_shipped(args.episodes, args.seed, &mut |p| shown.show(&p))?;
        let folder = args.out.clone().unwrap_or_else(|| PathBuf::from("assets/models"));
        write_shipped(&files, &folder)?;
        say!("{} models written to {}", files.len(), folder.display());
        return Ok(ExitCode::SUCCESS);
    }
    let Some((_, config)) = place::load(config)? else {
        bail!("training needs a configuration that names the time series: pass --config FILE");
    };
    if config.telemetry.step != GRID {
        bail!(
            "telemetry.step is {}: models of failure count steps of 30 s and would not speak on another grid; set \
             it to 30s to train",
            config.telemetry.step
        );
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(of_history(args, &config))
}

/// What is learnt from.
pub(super) struct Lesson<'a> {
    pub(super) config: &'a Config,
    pub(super) source: Arc<dyn Source>,
    pub(super) history: Arc<dyn Source>,
    pub(super) recorded: Labels,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) seed: u64,
    /// Learn of this application's partitions alone.
    pub(super) application: Option<ApplicationId>,
    /// Most rows, which bound the memory.
    pub(super) most_rows: i64,
}

/// What came of it.
pub(super) struct Learnt {
    name: String,
    rows: Rows,
    failures: usize,
    champion: Opened,
    trained: Trained,
    judged: Vec<Judged>,
    /// What came of the courses; `None` for an application.
    course: Option<Course>,
    /// The windows that are wanted.
    windows: Vec<Span>,
    notes: Vec<String>,
}

impl Learnt {
    /// Whether a window's new model is better on held-back hosts.
    pub(super) fn better(&self) -> bool {
        self.judged.iter().any(Judged::promoted)
    }

    /// One line a window, also of those that could not be learnt.
    pub(super) fn words(&self) -> String {
        let untrained = self.trained.untrained.iter().map(Untrained::words);
        let course = self.course.as_ref().map(|course| course.words.clone());
        self.judged.iter().map(Judged::words).chain(untrained).chain(course).collect::<Vec<_>>().join("; ")
    }

    /// Writes a version: where a window's new model is better, with the old ones of the others; else the
    /// new ones as they are.
    pub(super) fn keep(&self, registry: &Registry) -> Result<u32> {
        let better: Vec<Span> = self.judged.iter().filter(|j| j.promoted()).map(|j| j.within).collect();
        let course = self.course.as_ref().and_then(|course| course.file.clone());
        let course = course.or_else(|| train_course::kept(&self.champion).filter(|_| self.course.is_some()));
        if better.is_empty() {
            let files: Vec<HeadFile> = self.trained.files.iter().cloned().chain(course).collect();
            return Ok(registry.add(&files)?);
        }
        let is_better = |f: &&HeadFile| f.card.within().is_some_and(|w| better.contains(&w));
        let mut files: Vec<HeadFile> = self.trained.files.iter().filter(is_better).cloned().collect();
        for (onnx, card) in self.champion.files.iter().zip(&self.champion.cards) {
            let goes_on = |w: &Span| self.windows.contains(w) && !better.contains(w);
            if let Some(within) = card.within().filter(goes_on) {
                files.push(HeadFile { name: file_name(within), onnx: onnx.clone(), card: card.clone() });
            }
        }
        files.sort_by_key(|f| f.card.within_seconds);
        files.extend(course);
        Ok(registry.add(&files)?)
    }
}

/// Reads the history, trains, and compares with what speaks now on hosts that neither has seen.
///
/// # Errors
/// The history cannot be read, or there is too little of it.
pub(super) async fn learn(lesson: Lesson<'_>, progress: &mut dyn FnMut(Progress)) -> Result<Learnt> {
    let Lesson { config, source, history, recorded, from, to, seed, application, most_rows } = lesson;
    let mut notes = Vec::new();
    let topologies = backtest::discovered(config, &mut notes).await?;
    let fleet = crate::predict::failure::open(config.predict.model_dir.as_deref())
        .context("the models that speak now cannot be read, and training compares with them")?;
    let own = match &application {
        Some(application) => place::registry_of(&config.engine.data_dir, application).in_use(),
        None => None,
    };
    let champion = match &own {
        Some(folder) => crate::predict::failure::open(Some(folder))
            .context("the application's model cannot be read, and training compares with it")?,
        None => fleet.clone(),
    };
    let mut inventory = settings::inventory(config);
    inventory.discovered.extend(topologies);
    inventory.rebuild(&[], &HashMap::new());
    let topology = inventory.topology().clone();
    let name = source.name();
    let past = Past {
        source,
        assess: settings::assess(config),
        windows: settings::engine(config).windows,
        inventory,
        from,
        until: to,
        spec: champion.model.spec.clone(),
        most_rows,
        // Of an application's partitions alone the fleet's autoencoder speaks.
        window: if application.is_none() { STEPS } else { 0 },
    };
    let rows = gather(past, progress).await?;
    if rows.times.is_empty() {
        bail!("{name} holds too little between {} and {} to learn from", written(from), written(to));
    }
    let incidents = inputs::resolve(&recorded, &topology, &*history, (from, to), &mut notes).await?;
    let failures = incidents.iter().filter(|i| i.outcome == crate::predict::Outcome::Failed).count();
    let truth = Truth::new(incidents, to);
    let (rows, failures) = match &application {
        Some(application) => {
            let rows = train_own::only(rows, application, &topology, &truth)?;
            let own = |i: &&Incident| i.partitions.iter().any(|p| rows.partitions.contains(p));
            let failures = truth.failures().filter(own).count();
            (rows, failures)
        }
        None => (rows, failures),
    };
    let windows = config.predict.windows.clone();
    let (spec, data) = (&champion.model.spec, data_of(&rows, &truth, (&name, from, to)));
    let mut trained = train_history(&rows, &truth, spec, &data, (&windows, seed), progress)?;
    let course = match &application {
        Some(application) => {
            train_own::sign(&mut trained, application, &fleet.model, (&rows, &truth), seed);
            None
        }
        None => Some(train_course::learn(&rows, &truth, &champion, &data, seed, progress)),
    };
    let judged = judge(&rows, &truth, &champion, &trained, seed);
    Ok(Learnt { name, rows, failures, champion, trained, judged, course, windows, notes })
}

async fn of_history(args: &Train, config: &Config) -> Result<ExitCode> {
    let mut shown = Shown::default();
    let Sources { source, history, ends } = backtest::sources(config)?;
    let now = SystemClock.now();
    let (from, to) = inputs::span(&args.from, args.to.as_deref(), ends.unwrap_or(now), now)?;
    let mut notes = Vec::new();
    let recorded = Labels::load(config, args.failures.as_deref(), &mut notes).await?;
    let application = args.app.as_deref().map(ApplicationId::from);
    let lesson = Lesson {
        config,
        source,
        history,
        recorded,
        from,
        to,
        seed: args.seed,
        application: application.clone(),
        most_rows: MOST_ROWS,
    };
    let learnt = learn(lesson, &mut |p| shown.show(&p)).await?;
    notes.extend(learnt.notes.iter().cloned());
    let folder = args.out.clone().unwrap_or_else(|| place::models_dir(&config.engine.data_dir));
    let registry = match &application {
        Some(application) => Registry::of_application(&folder, application),
        None => Registry::new(&folder, "all"),
    };
    let version = learnt.keep(&registry)?;
    let (in_use, in_shadow) = (learnt.better() && args.promote, learnt.better() && !args.promote);
    if in_use {
        registry.take_over(version, now, "better on hosts held back (foreshift train --promote)")?;
    } else if in_shadow {
        registry.challenge(version, now)?;
    }
    shown.end();
    let Learnt { name, rows, failures, judged, course, trained: Trained { untrained, .. }, .. } = &learnt;
    let summary = json!({
        "task": "train",
        "application": application,
        "source": name,
        "from": written(from),
        "to": written(to),
        "partitions": rows.partitions.len(),
        "failures": failures,
        "rows": rows.times.len(),
        "row_every_s": rows.every.as_seconds(),
        "points": rows.points,
        "version": version,
        "in_use": in_use,
        "in_shadow": in_shadow,
        "windows": judged.iter().map(Judged::json).collect::<Vec<_>>(),
        "autoencoder": course.as_ref().map(|course| &course.words),
        "untrained": untrained.iter().map(untrained_json).collect::<Vec<_>>(),
        "notes": notes,
    });
    if args.json {
        say!("{summary}");
        return Ok(ExitCode::SUCCESS);
    }
    let (whose, option) = match &application {
        Some(application) => (format!(" of {application}"), format!(" --app {application}")),
        None => (String::new(), String::new()),
    };
    say!(
        "trained on {} partitions{whose} and {failures} recorded failures: {} rows, {} apart, from {} to {}",
        rows.partitions.len(),
        rows.times.len(),
        rows.every,
        written(from),
        written(to)
    );
    judged.iter().for_each(|j| say!("  {}", j.words()));
    course.iter().for_each(|course| say!("  {}", course.words));
    untrained.iter().for_each(|u| say!("  {}", u.words()));
    notes.iter().for_each(|n| say!("  {n}"));
    if in_use {
        say!(
            "version {version}{whose} speaks; a running engine follows, `foreshift models{option} revert` takes it back"
        );
    } else if in_shadow {
        say!(
            "version {version}{whose} runs in shadow: the engine puts it into use once it has proved better; \
             `foreshift models{option} list` says how things stand, `foreshift models{option} promote {version}` \
             does it now"
        );
    } else {
        say!("version {version}{whose} is kept in {} and not in use", folder.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn untrained_json(window: &Untrained) -> serde_json::Value {
    json!({ "within_s": window.within.as_seconds(), "why": window.why })
}

/// One window's new model against what speaks now.
struct Judged {
    within: Span,
    /// `None` = nothing speaks for this window now.
    verdict: Option<Verdict>,
    /// Why nobody should go by it ([`Card::worthless`](crate::predict::train::Card::worthless)).
    worthless: Option<String>,
}

impl Judged {
    fn promoted(&self) -> bool {
        self.worthless.is_none() && self.verdict.as_ref().is_none_or(|v| v.promote)
    }

    fn words(&self) -> String {
        let outcome = if self.promoted() { "better" } else { "not better" };
        format!("within {}: {outcome} on held-back hosts: {}", self.within.as_window(), self.why())
    }

    fn why(&self) -> &str {
        match (&self.verdict, &self.worthless) {
            (Some(verdict), _) => &verdict.why,
            (None, Some(worthless)) => worthless,
            (None, None) => "nothing spoke for this window",
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "within_s": self.within.as_seconds(),
            "better": self.promoted(),
            "champion": self.verdict.as_ref().map(|v| v.champion),
            "challenger": self.verdict.as_ref().map(|v| v.challenger),
            "why": self.why(),
        })
    }
}

/// Compares on the hosts that the new model was not trained on.
fn judge(rows: &Rows, truth: &Truth, champion: &Opened, trained: &Trained, seed: u64) -> Vec<Judged> {
    let heads = trained.files.iter().filter_map(|f| Some((f.card.within()?, f)));
    heads
        .map(|(within, file)| {
            let held = train_own::held_back(rows, truth, file, seed);
            let verdict = held
                .and_then(|(held, truths)| compare(&champion.model, &trained.model, &held, &truths, within));
            Judged { within, verdict, worthless: file.card.worthless() }
        })
        .collect()
}

/// Progress on standard error: a line that is written over on a terminal, else one a step.
#[derive(Default)]
struct Shown {
    last: String,
}

impl Shown {
    fn show(&mut self, progress: &Progress) {
        let line = format!("{:>3.0} %  {}", progress.share * 100.0, progress.what);
        if line == self.last {
            return;
        }
        if std::io::stderr().is_terminal() {
            note_part!("\r\x1b[K{line}");
        } else if !self.last.ends_with(&progress.what) {
            note!("{line}");
        }
        self.last = line;
    }

    /// Leaves a clean line behind.
    fn end(&self) {
        if std::io::stderr().is_terminal() {
            note_part!("\r\x1b[K");
        }
    }
}
