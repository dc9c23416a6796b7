//! `foreshift agent`: the collector that runs on every host.

use std::path::PathBuf;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::agent::{AgentError, Collectors, Roots, Summary, run as run_agent};
use crate::config::{AgentSink, Config};
use crate::fleet::{Clock, HostId, SystemClock};

/// What the command takes; each stands over the same key of section `[agent]`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AgentCommand {
    /// Send to these engines (agent.engines).
    #[arg(long = "engine", value_name = "URL")]
    pub engines: Vec<String>,
    /// This host's name (agent.host).
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Where messages wait while nobody takes them (agent.spool_dir).
    #[arg(long, value_name = "DIR")]
    pub spool: Option<PathBuf>,
    /// Collect for one interval, print it as JSON, send nothing.
    #[arg(long)]
    pub once: bool,
    /// Where the kernel's process files are.
    #[arg(long, value_name = "DIR", default_value = "/proc", hide = true)]
    pub proc: PathBuf,
    /// Where the kernel's device files are.
    #[arg(long, value_name = "DIR", default_value = "/sys", hide = true)]
    pub sys: PathBuf,
}

impl AgentCommand {
    fn apply(&self, config: &mut Config) {
        if !self.engines.is_empty() {
            config.agent.send_to = AgentSink::Engine;
            config.agent.engines.clone_from(&self.engines);
        }
        if let Some(host) = &self.host {
            config.agent.host = HostId::from(host.as_str());
        }
        if let Some(spool) = &self.spool {
            config.agent.spool_dir.clone_from(spool);
        }
    }

    fn roots(&self) -> Roots {
        Roots { proc: self.proc.clone(), sys: self.sys.clone() }
    }
}

/// Runs the agent until SIGTERM or SIGINT, on a runtime of one thread of its own; call it outside
/// any other runtime.
///
/// # Errors
/// What keeps it from starting.
pub fn run(command: &AgentCommand, mut config: Config) -> anyhow::Result<()> {
    command.apply(&mut config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if command.once {
            say!("{}", once(&config, command.roots()).await?);
            return Ok(());
        }
        let (say, stop) = mpsc::channel(2);
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                let _ = say.send(()).await;
            }
        });
        let done = run_agent(&config, command.roots(), &SystemClock, stop).await?;
        let Summary { collections, messages, dropped, waiting } = done;
        tracing::info!(collections, messages, dropped, waiting, "the agent stopped");
        Ok(())
    })
}

/// Two collections, one interval apart, because rates need a past.
async fn once(config: &Config, roots: Roots) -> Result<String, AgentError> {
    #[derive(Serialize)]
    struct Once<'a> {
        readings: &'a [crate::protocol::AgentReading],
        partitions: &'a [crate::protocol::PartitionBeat],
    }
    let every = config.agent.collect_every;
    let mut collectors = Collectors::start(&config.agent, roots).await?;
    collectors.collect(SystemClock.now(), 0.0);
    tokio::time::sleep(every.to_std()).await;
    let collected = collectors.collect(SystemClock.now(), every.as_seconds());
    let once = Once { readings: &collected.readings, partitions: &collected.beats };
    Ok(serde_json::to_string_pretty(&once).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_stands_over_the_file() {
        let mut config = Config::default();
        config.agent.send_to = AgentSink::Influxdb;
        let command =
            AgentCommand { engines: vec!["http://e:1".into()], host: Some("h".into()), ..Default::default() };
        command.apply(&mut config);
        assert_eq!(config.agent.engines, ["http://e:1"]);
        assert_eq!(config.agent.send_to, AgentSink::Engine);
        assert_eq!(config.agent.host.as_str(), "h");
    }
}
