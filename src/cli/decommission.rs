//! `foreshift decommission`: says that an empty host or partition is out of service for good, or takes that back,
//! through the engine that runs on this configuration, or one of its own where none does.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::engine::{self, person};
use super::read_only::Hands;
use crate::protocol::{Command, Reply};

/// Arguments of `foreshift decommission`.
#[derive(Args, Debug)]
pub struct DecommissionArgs {
    /// The host or partition.
    pub subject: String,
    /// Take it into service again.
    #[arg(long)]
    pub undo: bool,
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, conflicts_with = "undo")]
    pub reason: String,
}

/// Runs it. Exit status 0 where it was done, 2 where it was refused.
///
/// # Errors
/// Where the engine cannot be reached or started.
pub fn run(args: DecommissionArgs, config: Option<&Path>, hands: Hands) -> Result<ExitCode> {
    let subject = args.subject;
    let command = match args.undo {
        true => Command::Recommission { subject },
        false => Command::Decommission { subject, reason: args.reason },
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let opened = engine::open(config, hands).await?;
        let link = opened.link();
        engine::wait_for_fleet(&*link).await;
        let answer = link.send(person(), command).await;
        opened.close().await;
        match answer {
            Ok(Reply::Done { said }) => {
                say!("{said}");
                Ok(ExitCode::SUCCESS)
            }
            Ok(other) => bail!("the engine answered {other:?} where it should say that it is done"),
            Err(refusal) => {
                note!("foreshift: {refusal}");
                Ok(ExitCode::from(2))
            }
        }
    })
}
