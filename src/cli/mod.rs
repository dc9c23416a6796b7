//! The command line: one file a subcommand.

// A reader that leaves makes these panic; `say!` and `note!` do not.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use read_only::{Effect, Hands, effect};

#[macro_use]
mod out;

pub mod agent;
pub mod attach;
pub mod backtest;
pub mod bench;
mod bench_networks;
pub mod check;
pub mod check_model;
pub mod coming;
pub mod console;
pub mod decommission;
pub mod demo;
pub mod engine;
pub mod evacuate;
pub mod eval;
pub mod failures;
pub mod journal;
pub mod leaks;
pub mod logging;
pub mod models;
pub mod moving;
mod numbers;
pub mod place;
pub mod read_only;
pub mod settings;
pub mod simulate;
pub mod systems;
mod teaching;
pub mod train;
pub mod train_background;
mod train_course;
mod train_own;
mod train_rows;
pub mod train_run;
pub mod versions;
pub mod why;

/// Watches every partition of a fleet, predicts which will fail, and moves the work away before it
/// does. Without a command it opens the console; without a configuration, on a living demo fleet.
#[derive(Parser, Debug)]
#[command(name = "foreshift", version, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    /// Configuration file; without it, foreshift.toml here or in ~/.config/foreshift, else the demo.
    #[arg(long, short, global = true, env = "FORESHIFT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How the engine runs.
    #[command(flatten)]
    pub run: RunArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How the engine runs; for the console and for `--headless`.
#[derive(Args, Debug, Clone, Default)]
pub struct RunArgs {
    /// Act alone within the limits of the configuration.
    #[arg(long, global = true, conflicts_with = "read_only")]
    pub auto: bool,
    /// Run without a terminal: JSON lines on standard output, a clean stop on SIGTERM; but for
    /// `demo` it needs a configuration.
    #[arg(long, global = true)]
    pub headless: bool,
    /// Change nothing, ever; commands that change something are refused.
    #[arg(long, global = true)]
    pub read_only: bool,
    /// Theme: a shipped one or a file.
    #[arg(long, global = true, value_name = "NAME")]
    pub theme: Option<String>,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Collect on this host and send it to the engine or to InfluxDB.
    Agent(agent::AgentCommand),
    /// A console on a running engine.
    Attach(attach::AttachArgs),
    /// What the engine would have said over your own history, against what happened.
    Backtest(backtest::BacktestArgs),
    /// Time a cycle on this machine.
    Bench(bench::Bench),
    /// Validate the configuration and try every connection.
    Check(check::CheckArgs),
    /// Say that an empty host or partition is out of service for good, or take that back.
    Decommission(decommission::DecommissionArgs),
    /// The simulated fleet under the real engine.
    Demo(demo::DemoArgs),
    /// Measure predictions on public data.
    Eval(eval::EvalCommand),
    /// Empty a host: plan, show, and after a yes perform what the console does by key.
    Evacuate(evacuate::EvacuateArgs),
    /// The failure history: add, import, list, correct, export.
    Failures(failures::FailuresArgs),
    /// The journal of everything that was done: verify its chain, show it.
    Journal(journal::JournalArgs),
    /// What earlier migrations left in the systems: list, remove.
    Leaks(leaks::LeaksArgs),
    /// Models that were trained here: list, put into use, take back.
    Models(versions::ModelsArgs),
    /// The migration machine under faults, crashes and leader changes, by seed.
    Simulate(simulate::SimulateArgs),
    /// Train models, the shipped ones or on your own history.
    Train(train::Train),
    /// The one constraint that keeps a workload or migration where it is.
    Why(why::WhyArgs),
    /// Load and try a person's own ONNX model, in a process of its own.
    #[command(hide = true)]
    CheckModel(check_model::CheckModel),
}

/// Runs what was asked for and says how it ended. Errors go to standard error, in words.
pub fn run(cli: Cli) -> ExitCode {
    let config = cli.config.as_deref();
    let hands = cli.run.hands();
    if let (Hands::Tied, Effect::Changes(why)) = (hands, effect(cli.command.as_ref())) {
        note!("foreshift: --read-only changes nothing, and {why}; nothing was done");
        return ExitCode::from(2);
    }
    match cli.command {
        None | Some(Command::Demo(_) | Command::Attach(_)) => {}
        Some(Command::Backtest(_) | Command::Simulate(_)) => logging::start(logging::LogTo::ErrorsAlone),
        Some(_) => logging::start(logging::LogTo::StandardError),
    }
    let outcome = match cli.command {
        Some(Command::Agent(args)) => place::load(config)
            .map(|found| found.map(|(_, c)| c).unwrap_or_default())
            .and_then(|config| agent::run(&args, config))
            .map(|()| ExitCode::SUCCESS),
        Some(Command::Attach(args)) => attach::run(args, &cli.run),
        Some(Command::Backtest(args)) => backtest::run(&args, config),
        Some(Command::Bench(args)) => bench::run(&args).map_err(Into::into).map(|report| {
            say!("{report}");
            ExitCode::SUCCESS
        }),
        Some(Command::Eval(args)) => eval::run(&args).map(|report| {
            say!("{report}");
            ExitCode::SUCCESS
        }),
        Some(Command::Check(args)) => check::run(&args, config),
        Some(Command::Decommission(args)) => decommission::run(args, config, hands),
        Some(Command::Demo(args)) => demo::run(args, &cli.run),
        Some(Command::Evacuate(args)) => evacuate::run(args, config, hands),
        Some(Command::Failures(args)) => failures::run(args, config),
        Some(Command::Journal(mut args)) => place::load(config).and_then(|found| {
            let dir = found.map_or_else(place::default_data_dir, |(_, c)| c.engine.data_dir);
            args.store.get_or_insert_with(|| place::state_file(&dir));
            Ok(journal::run(&args, &mut out::Out)?)
        }),
        Some(Command::Leaks(args)) => leaks::run(&args, config),
        Some(Command::Models(args)) => versions::run(&args, config),
        Some(Command::Simulate(args)) => simulate::run(&args, &mut out::Out).map_err(Into::into),
        Some(Command::Train(args)) => train_run::run(&args, config),
        Some(Command::Why(args)) => why::run(&args, config, hands),
        Some(Command::CheckModel(args)) => check_model::run(&args).map_err(Into::into).and_then(|found| {
            say!("{}", serde_json::to_string(&found)?);
            Ok(ExitCode::SUCCESS)
        }),
        None => console::run(&cli.run, config),
    };
    if let Some(error) = out::failed() {
        note!("foreshift: standard output cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    match outcome {
        Ok(code) => code,
        Err(error) => {
            note!("foreshift: {error:#}");
            ExitCode::FAILURE
        }
    }
}
