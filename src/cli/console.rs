//! The console with an engine in it, and the engine without a terminal.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::logging::{self, LogTo};
use super::{RunArgs, coming, demo, engine, place, settings};
use crate::config::{self, ModeSetting};
use crate::protocol::{Actor, Link, Mode, Role};
use crate::tui::theme::GlyphSet;
use crate::tui::{self, ConsoleOptions, Engine, Exit, Mouse};

/// `foreshift` without a command: the console, on the demo where there is no configuration; or with
/// `--headless` none, and then a configuration there must be.
///
/// # Errors
/// Where a part cannot be started or the terminal cannot be used; without a terminal also where there is no
/// configuration.
pub fn run(args: &RunArgs, named: Option<&Path>) -> Result<ExitCode> {
    let Some((_, mut config)) = place::load(named)? else {
        if args.headless {
            bail!(
                "--headless runs an engine and there is no configuration: looked for {}; pass --config FILE \
                 (config.example.toml explains every key), or `foreshift demo --headless` for the simulated fleet",
                place::looked_for()
            );
        }
        return demo::run(demo::DemoArgs::default(), args);
    };
    if args.auto {
        config.engine.mode = ModeSetting::Auto;
    }
    if args.read_only {
        config.engine.mode = ModeSetting::ReadOnly;
    }
    let log_to = if args.headless { LogTo::JsonLines } else { LogTo::Console };
    logging::start_at(log_to, &config.engine.log);
    settings::threads(&config);
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    runtime.block_on(async {
        if args.headless {
            let running = engine::start(config).await?;
            let outcome = until_told().await;
            running.close().await;
            return outcome;
        }
        let console = config.console.clone();
        let first = coming::before(&settings::engine(&config));
        let start = async {
            let running = engine::start(config).await?;
            Ok((running.link(), running))
        };
        let (theme, shutdown) = (args.theme.as_deref(), CancellationToken::new());
        let (shown, running) = coming::show(first, &console, theme, shutdown, start).await?;
        let outcome = match shown {
            // The person's connection broke; automatic mode, and what moves, go on without it.
            Ok(Exit::Hangup) if goes_on(&*running.link()) => until_told().await,
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(error),
        };
        running.close().await;
        outcome
    })
}

/// Whether an engine without a terminal has something left to do.
fn goes_on(link: &dyn Link) -> bool {
    let snapshot = link.snapshots().borrow().clone();
    snapshot.mode == Mode::Auto || snapshot.migrations.iter().any(|m| !m.phase.is_end())
}

/// Waits for SIGTERM or SIGINT.
async fn until_told() -> Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping at a safe point"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping at a safe point"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the console over `link` until the person leaves or the terminal is gone.
///
/// # Errors
/// Where there is no terminal, or theme or keys make no sense.
pub async fn show(
    link: Arc<dyn Link>,
    settings: &config::Console,
    theme: Option<&str>,
    engine: Engine,
) -> Result<Exit> {
    show_until(link, settings, theme, engine, CancellationToken::new()).await
}

/// The same, or until `shutdown` says so.
///
/// # Errors
/// Where there is no terminal, or theme or keys make no sense.
pub async fn show_until(
    link: Arc<dyn Link>,
    settings: &config::Console,
    theme: Option<&str>,
    engine: Engine,
    shutdown: CancellationToken,
) -> Result<Exit> {
    let user = std::env::var("USER").unwrap_or_else(|_| "operator".into());
    let actor = Actor { name: user, role: Role::Admin };
    let options = ConsoleOptions { shutdown, ..options(settings, theme, engine) };
    Ok(tui::run(link, options, actor).await?)
}

/// The configuration's words for the console's options.
pub(super) fn options(settings: &config::Console, theme: Option<&str>, engine: Engine) -> ConsoleOptions {
    let chosen = theme.unwrap_or(&settings.theme);
    let file = Path::new(chosen);
    let (name, folder) = match (file.extension(), file.file_stem()) {
        (Some(extension), Some(stem)) if extension == "toml" => {
            let folder = file.parent().map(Path::to_path_buf);
            (stem.to_string_lossy().into_owned(), folder)
        }
        _ => (chosen.to_string(), Some("themes".into())),
    };
    let name = if name == "terminal" { "base16".to_string() } else { name };
    ConsoleOptions {
        theme: Some(name),
        themes: folder.filter(|f| f.is_dir()),
        keys: settings.keys.iter().map(|(action, keys)| (action.clone(), keys.all().to_vec())).collect(),
        glyphs: match settings.glyphs {
            config::Glyphs::Auto => None,
            config::Glyphs::Braille | config::Glyphs::Block => Some(GlyphSet::Unicode),
            config::Glyphs::Ascii => Some(GlyphSet::Ascii),
        },
        mouse: if settings.mouse { Mouse::On } else { Mouse::Off },
        engine,
        ..ConsoleOptions::default()
    }
}
