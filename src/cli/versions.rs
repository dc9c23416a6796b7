//! `foreshift models`: the versions that were trained here, which one speaks, which runs in shadow, and the way back.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::place;
use crate::eval::backtest::error::written;
use crate::fleet::{Clock, SystemClock};
use crate::predict::train::Card;
use crate::predict::train::standing::{SHIPPED, name};

/// Chapters that a list shows.
const SHOWN: usize = 10;

/// Arguments of `foreshift models`.
#[derive(Args, Debug)]
pub struct ModelsArgs {
    /// Data directory of the engine; default: the configuration's.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
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
    /// Put a version into use, whatever its figures; a running engine follows within a cycle.
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
    let registry = place::registry(&dir);
    let versions = registry.versions();
    let now = SystemClock.now();
    match args.act {
        Act::List { json: true } => {
            let version = |v: &u32| {
                let cards = registry.cards(*v);
                json!({
                    "version": v,
                    "in_use": registry.current() == Some(*v),
                    "error": cards.as_ref().err().map(ToString::to_string),
                    "cards": cards.unwrap_or_default(),
                })
            };
            let versions: Vec<_> = versions.iter().map(version).collect();
            let standing = registry.standing()?;
            println!(
                "{}",
                json!({
                    "versions": versions,
                    "shipped_speak": registry.in_use().is_none(),
                    "shadow": standing.shadow,
                    "past": standing.past,
                })
            );
        }
        Act::List { json: false } => {
            let standing = registry.standing()?;
            let in_shadow = standing.shadow.map(|s| s.version);
            for version in &versions {
                let sign = match () {
                    () if registry.current() == Some(*version) => "*",
                    () if in_shadow == Some(*version) => "~",
                    () => " ",
                };
                match registry.cards(*version) {
                    Ok(cards) => cards.iter().for_each(|c| println!("{sign} {version:>4}  {}", line(c))),
                    Err(error) => println!("{sign} {version:>4}  cannot be used: {error}"),
                }
            }
            if registry.in_use().is_none() {
                println!("* the shipped models speak");
            }
            if let Some(shadow) = standing.shadow {
                let (who, since) = (name(shadow.version), written(shadow.since));
                println!("~ {who} in shadow since {since}, as {}", shadow.seat.word());
            }
            for chapter in standing.past.iter().rev().take(SHOWN) {
                let (at, who) = (written(chapter.at), name(chapter.version));
                println!("  {at}  {who} {}: {}", chapter.what, chapter.why);
            }
        }
        Act::Promote { number } => {
            if !versions.contains(&number) {
                bail!("there is no version {number}; `foreshift models list` shows them");
            }
            registry.take_over(number, now, "put into use by hand (foreshift models promote)")?;
            println!("version {number} speaks; a running engine follows within a cycle");
        }
        Act::Shadow { number } => {
            if !versions.contains(&number) {
                bail!("there is no version {number}; `foreshift models list` shows them");
            }
            registry.challenge(number, now)?;
            println!("version {number} runs in shadow; a running engine follows within a cycle");
        }
        Act::Revert => {
            if registry.current().is_none() {
                bail!("no version is in use: the shipped models speak already");
            }
            match registry.go_back(now, "taken back by hand (foreshift models revert)")? {
                SHIPPED => println!("the shipped models speak; a running engine follows within a cycle"),
                version => println!("version {version} speaks; a running engine follows within a cycle"),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(card: &Card) -> String {
    let quality = card.quality.map_or_else(String::new, |q| {
        format!(
            "; held back: average precision {:.3}, Brier {:.5}, calibration error {:.5}",
            q.auprc, q.brier, q.ece
        )
    });
    let data = &card.data;
    format!(
        "{} [{}], {} failures among {} partitions of {} until {}{quality}",
        card.title,
        card.hash.get(..8).unwrap_or(&card.hash),
        data.failures,
        data.partitions,
        data.source,
        written(data.until)
    )
}
