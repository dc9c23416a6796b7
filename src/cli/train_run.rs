//! `foreshift train`: the shipped models, or models of your own fleet's history.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};

use super::train::{Train, train_history, train_shipped, write_shipped};
use super::{engine, place};
use crate::config::quantity;
use crate::engine::failures::Failures;
use crate::engine::history;
use crate::fleet::{Clock, PartitionId, Span, SystemClock, Timestamp, Topology};
use crate::predict::Subject;
use crate::predict::failure::{Event, Outcome};
use crate::predict::train::{History, Progress, Registry, Sampling};
use crate::state::RedbStore;
use crate::telemetry::CANONICAL;

/// Spacing of the history that is trained on.
const STEP: Span = Span::minutes(5);
/// Read at once.
const PART: Span = Span::hours(6);

/// Runs it.
///
/// # Errors
/// Where the history cannot be read, or there is too little of it; the error says what is missing.
pub fn run(args: &Train, config: Option<&Path>) -> Result<ExitCode> {
    let mut shown = Shown::default();
    if args.shipped {
        let files = train_shipped(args.episodes, args.seed, &mut |p| shown.show(&p))?;
        let folder = args.out.clone().unwrap_or_else(|| PathBuf::from("assets/models"));
        write_shipped(&files, &folder)?;
        println!("{} models written to {}", files.len(), folder.display());
        return Ok(ExitCode::SUCCESS);
    }
    let Some((_, config)) = place::load(config)? else {
        bail!("training needs a configuration that names the time series: pass --config FILE");
    };
    let span = quantity::parse_span(&args.from)
        .filter(|s| s.0 > 0)
        .ok_or_else(|| anyhow!("--from {:?}: expected a span of time, for example 30d", args.from))?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let until = clock.now().floor(STEP);
        let start = until - span;
        let series = engine::series(&config, clock)?;
        let histories = read(&*series.history, start, until).await?;
        let store = RedbStore::open(&place::state_file(&config.engine.data_dir))?;
        let failures = Failures::load(&store).await?;
        let topology = Topology::default();
        let events: Vec<Event> = failures
            .records()
            .iter()
            .filter_map(|f| {
                let past = f.as_past(&topology);
                let partition = match past.subject {
                    Subject::Partition(partition) => partition,
                    Subject::Host(host) => PartitionId::of(&host, ""),
                    Subject::Workload(_) => return None,
                };
                Some(Event { partition, at: past.at, outcome: outcome(past.outcome) })
            })
            .collect();
        let sampling = Sampling { start, step: STEP, from: 48, every: 1, window: 0, window_every: 1 };
        let source = series.source.name();
        let trained =
            train_history(&histories, &events, &sampling, &source, args.seed, &mut |p| shown.show(&p))?;
        let folder = args.out.clone().unwrap_or_else(|| place::models_dir(&config.engine.data_dir));
        let registry = Registry::new(&folder, args.app.as_deref().unwrap_or("all"));
        let version = registry.add(&trained.files)?;
        println!(
            "version {version} trained on {} partitions and {} recorded failures; it is in {}",
            histories.len(),
            events.len(),
            folder.display()
        );
        Ok(ExitCode::SUCCESS)
    })
}

/// What became of it, in the words of training.
fn outcome(past: crate::predict::Outcome) -> Outcome {
    match past {
        crate::predict::Outcome::Failed => Outcome::Failed,
        crate::predict::Outcome::Survived => Outcome::Survived,
        crate::predict::Outcome::MitigatedUnknown => Outcome::MitigatedUnknown,
    }
}

/// The canonical metrics of every partition between `start` and `until`, on one grid.
async fn read(
    source: &dyn crate::telemetry::Source,
    start: Timestamp,
    until: Timestamp,
) -> Result<Vec<History>> {
    let slots = usize::try_from((until - start).0 / STEP.0)?;
    let mut all: BTreeMap<PartitionId, Vec<Vec<f32>>> = BTreeMap::new();
    let mut from = start;
    while from < until {
        let end = (from + PART).min(until);
        if let Some(windows) = history::part(source, STEP, from, end).await {
            let offset = (windows.tail() - start).0.div_euclid(STEP.0);
            let mut row = vec![f32::NAN; windows.config().len];
            for (p, id) in (0u32..).zip(windows.partitions()) {
                let metrics =
                    all.entry(id.clone()).or_insert_with(|| vec![vec![f32::NAN; slots]; CANONICAL.len()]);
                for (m, column) in (0u16..).zip(metrics.iter_mut()) {
                    windows.copy_row(
                        crate::telemetry::PartitionIx(p),
                        crate::telemetry::MetricIx(m),
                        &mut row,
                    );
                    for (i, value) in row.iter().enumerate().filter(|(_, v)| !v.is_nan()) {
                        if let Some(cell) =
                            usize::try_from(offset + i as i64).ok().and_then(|at| column.get_mut(at))
                        {
                            *cell = *value;
                        }
                    }
                }
            }
        }
        from = end;
    }
    if all.is_empty() {
        bail!("{} holds nothing between the two points in time", source.name());
    }
    Ok(all
        .into_iter()
        .map(|(partition, metrics)| History { partition, kind: String::new(), metrics })
        .collect())
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
            eprint!("\r\x1b[K{line}");
        } else if !self.last.ends_with(&progress.what) {
            eprintln!("{line}");
        }
        self.last = line;
    }
}
