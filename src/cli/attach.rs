//! `foreshift attach`: a console on an engine that runs elsewhere, many at a time.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;

use super::read_only::{Hands, Tied};
use crate::protocol::Link;
use crate::protocol::client::RemoteLink;
use crate::tui::Engine;

/// Arguments of `foreshift attach`.
#[derive(Args, Debug)]
pub struct AttachArgs {
    /// Address of the engine.
    #[arg(default_value = "http://127.0.0.1:7117", value_name = "URL", value_parser = address)]
    pub url: String,
    /// File that holds the token, where the engine wants one; or FORESHIFT_TOKEN.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print one snapshot as JSON and end.
    #[arg(long)]
    pub once: bool,
}

/// The address of an engine.
fn address(text: &str) -> Result<String, String> {
    let url =
        reqwest::Url::parse(text).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
    url.map(|_| text.to_string()).ok_or_else(|| {
        format!("{text:?} is no address of an engine: expected one like http://127.0.0.1:7117")
    })
}

/// The token from its file or the environment.
fn token(file: Option<&PathBuf>) -> Result<Option<String>> {
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the token file {} cannot be read", path.display()))?;
        return Ok(Some(text.trim().to_string()));
    }
    Ok(token_of_environment())
}

/// The token that the environment names.
pub(super) fn token_of_environment() -> Option<String> {
    std::env::var("FORESHIFT_TOKEN").ok().filter(|t| !t.is_empty())
}

/// Runs it.
///
/// # Errors
/// Where the engine cannot be reached or the terminal cannot be used.
pub fn run(args: AttachArgs, run: &super::RunArgs) -> Result<ExitCode> {
    let token = token(args.token_file.as_ref())?;
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    runtime.block_on(async {
        let link = RemoteLink::connect(&args.url, token).await?;
        if args.once {
            let snapshot = link.snapshots().borrow().clone();
            say!("{}", serde_json::to_string(&*snapshot)?);
            return Ok(ExitCode::SUCCESS);
        }
        let console = crate::config::Config::default().console;
        let link: Arc<dyn Link> = Arc::new(link);
        let link = match run.hands() {
            Hands::Free => link,
            Hands::Tied => Arc::new(Tied::new(link)),
        };
        super::console::show(link, &console, run.theme.as_deref(), Engine::Remote).await?;
        Ok(ExitCode::SUCCESS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_told_what_one_looks_like() {
        for text in ["", "ftp://x", "127.0.0.1:7117", "engine", "http://"] {
            assert!(address(text).is_err_and(|said| said.contains("http://127.0.0.1:7117")), "{text}");
        }
        assert_eq!(address("https://engine.example/"), Ok("https://engine.example/".to_string()));
    }
}
