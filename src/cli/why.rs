//! `foreshift why`: the one constraint that keeps a workload or migration where it is.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::engine;
use super::read_only::Hands;
use crate::protocol::{Actor, Command, Reply, Role};

/// Arguments of `foreshift why`.
#[derive(Args, Debug)]
pub struct WhyArgs {
    /// Name of a workload, or a migration (`M-12`).
    pub subject: String,
}

/// Runs it.
///
/// # Errors
/// Where the engine cannot be asked, or there is nothing of that name.
pub fn run(args: &WhyArgs, config: Option<&Path>, hands: Hands) -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let opened = engine::open(config, hands).await?;
        let link = opened.link();
        engine::wait_for_fleet(&*link).await;
        let actor = Actor { name: "command line".into(), role: Role::Viewer };
        let answer = link.send(actor, Command::Why { subject: args.subject.clone() }).await;
        opened.close().await;
        match answer? {
            Reply::Why { sentences } => sentences.iter().for_each(|s| say!("{s}")),
            other => bail!("the engine answered {other:?} to a question for a reason"),
        }
        Ok(ExitCode::SUCCESS)
    })
}
