//! `foreshift models`: the versions that were trained here, which one speaks, which runs in shadow, and the way back.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::place;
use crate::eval::backtest::error::written;
use crate::fleet::{ApplicationId, Clock, SystemClock};
use crate::predict::train::card::{FLEETS_AUPRC, FLEETS_BRIER};
use crate::predict::train::standing::{SHIPPED, name};
use crate::predict::train::{Card, Registry, applications};

/// Chapters that a list shows.
const SHOWN: usize = 10;

/// Arguments of `foreshift models`.
#[derive(Args, Debug)]
pub struct ModelsArgs {
    /// Data directory of the engine; default: the configuration's.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The versions of one application's model, instead of the fleet's.
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub act: Act,
}

/// What to do with the versions.
#[derive(Subcommand, Debug)]
pub enum Act {
    /// Print the versions that were trained, which one is in use (*) and which in shadow (~), and why.
    List {
        /// One JSON object on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Put a version into use without a trial in shadow; one that is no better than the base rate is refused.
    /// A running engine follows within a cycle.
    Promote {
        /// Its number.
        number: u32,
    },
    /// Let a version run in shadow, to take over once it has proved better.
    Shadow {
        /// Its number.
        number: u32,
    },
    /// Take the last promotion back; before the first one the shipped models speak. A running engine
    /// follows within a cycle.
    Revert,
}

/// Runs it.
///
/// # Errors
/// A version that is not there or does not load, with the file that is wrong.
pub fn run(args: &ModelsArgs, config: Option<&Path>) -> Result<ExitCode> {
    let dir = match &args.data_dir {
        Some(dir) => dir.clone(),
        None => place::load(config)?.map_or_else(place::default_data_dir, |(_, c)| c.engine.data_dir),
    };
    let application = args.app.as_deref().map(ApplicationId::from);
    let registry = match &application {
        Some(application) => place::registry_of(&dir, application),
        None => place::registry(&dir),
    };
    let whose = application.as_ref().map_or_else(String::new, |a| format!(" of {a}"));
    let (before, versions) = (before(application.as_ref()), registry.versions());
    let now = SystemClock.now();
    match args.act {
        Act::List { json: true } => {
            let mut object = as_json(&registry)?;
            if application.is_none() {
                let folder = place::models_dir(&dir);
                let mut all = Vec::new();
                for application in applications(&folder) {
                    let mut one = as_json(&Registry::of_application(&folder, &application))?;
                    one["application"] = json!(application);
                    all.push(one);
                }
                object["applications"] = all.into();
            } else {
                object["application"] = json!(application);
            }
            say!("{object}");
        }
        Act::List { json: false } => {
            list(&registry, &before)?;
            let folder = place::models_dir(&dir);
            for application in applications(&folder).iter().filter(|_| application.is_none()) {
                say!("{application}:");
                list(&Registry::of_application(&folder, application), &self::before(Some(application)))?;
            }
        }
        Act::Promote { number } => {
            if !versions.contains(&number) {
                bail!("there is no version {number}{whose}; `foreshift models list` shows them");
            }
            registry.take_over(number, now, "put into use by hand (foreshift models promote)")?;
            say!("version {number}{whose} speaks; a running engine follows within a cycle");
        }
        Act::Shadow { number } => {
            if !versions.contains(&number) {
                bail!("there is no version {number}{whose}; `foreshift models list` shows them");
            }
            registry.challenge(number, now)?;
            say!("version {number}{whose} runs in shadow; a running engine follows within a cycle");
        }
        Act::Revert => {
            if registry.current().is_none() {
                bail!("no version{whose} is in use: {before} speak already");
            }
            match registry.go_back(now, "taken back by hand (foreshift models revert)")? {
                SHIPPED => say!("{before} speak; a running engine follows within a cycle"),
                version => {
                    say!("version {version}{whose} speaks; a running engine follows within a cycle")
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What speaks before the first version.
fn before(application: Option<&ApplicationId>) -> String {
    application.map_or_else(|| "the shipped models".into(), |a| format!("the fleet's models for {a}"))
}

fn as_json(registry: &Registry) -> Result<serde_json::Value> {
    let version = |v: &u32| {
        let cards = registry.cards(*v);
        json!({
            "version": v,
            "in_use": registry.current() == Some(*v),
            "error": cards.as_ref().err().map(ToString::to_string),
            "cards": cards.unwrap_or_default(),
        })
    };
    let versions: Vec<_> = registry.versions().iter().map(version).collect();
    let standing = registry.standing()?;
    Ok(json!({
        "versions": versions,
        "shipped_speak": registry.in_use().is_none(),
        "shadow": standing.shadow,
        "past": standing.past,
    }))
}

fn list(registry: &Registry, before: &str) -> Result<()> {
    let standing = registry.standing()?;
    let in_shadow = standing.shadow.map(|s| s.version);
    let named = |version: u32| if version == SHIPPED { before.to_string() } else { name(version) };
    for version in &registry.versions() {
        let sign = match () {
            () if registry.current() == Some(*version) => "*",
            () if in_shadow == Some(*version) => "~",
            () => " ",
        };
        match registry.cards(*version) {
            Ok(cards) => cards.iter().for_each(|c| say!("{sign} {version:>4}  {}", line(c))),
            Err(error) => say!("{sign} {version:>4}  cannot be used: {error}"),
        }
    }
    if registry.in_use().is_none() {
        say!("* {before} speak");
    }
    if let Some(shadow) = standing.shadow {
        let (who, since) = (named(shadow.version), written(shadow.since));
        say!("~ {who} in shadow since {since}, as {}", shadow.seat.word());
    }
    for chapter in standing.past.iter().rev().take(SHOWN) {
        let (at, who) = (written(chapter.at), named(chapter.version));
        say!("  {at}  {who} {}: {}", chapter.what, chapter.why);
    }
    Ok(())
}

fn line(card: &Card) -> String {
    let quality = card.quality.map_or_else(String::new, |q| {
        format!(
            "; held back: average precision {:.3}, Brier {:.5}, calibration error {:.5}",
            q.auprc, q.brier, q.ece
        )
    });
    let fleets = card.measures.get(FLEETS_AUPRC).zip(card.measures.get(FLEETS_BRIER));
    let fleets = fleets.map_or_else(String::new, |(auprc, brier)| {
        format!("; the fleet's model on the same rows {auprc:.3}, {brier:.5}")
    });
    let data = &card.data;
    format!(
        "{} [{}], {} of {} partitions failed, of {} until {}{quality}{fleets}",
        card.title,
        card.hash.get(..8).unwrap_or(&card.hash),
        data.failures,
        data.partitions,
        data.source,
        written(data.until)
    )
}
