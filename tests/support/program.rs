//! The program itself, with a configuration, a data directory and a port of its own.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use foreshift::fleet::ProposalId;
use foreshift::protocol::Snapshot;
use serde_json::{Value, json};

use crate::support::{Server, free_port, loopback};

/// A folder with `foreshift.toml`, whose engine listens on a port of its own.
pub struct Program {
    /// Where the engine listens.
    pub port: u16,
    /// The configuration.
    pub config: PathBuf,
    folder: tempfile::TempDir,
}

impl Program {
    /// `engine` are further lines of `[engine]`; `rest` are all other sections.
    ///
    /// # Panics
    /// Where the folder cannot be written to.
    pub fn new(engine: &str, rest: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (port, config) = (free_port(), folder.path().join("foreshift.toml"));
        let data = folder.path().join("data").display().to_string();
        let text =
            format!("[engine]\nlisten = \"127.0.0.1:{port}\"\ndata_dir = {data:?}\n{engine}\n{rest}\n");
        std::fs::write(&config, text).expect("a configuration");
        Self { port, config, folder }
    }

    /// The program with its configuration, and nothing of who runs the test.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare(arguments);
        command.current_dir(self.folder.path()).env("HOME", self.folder.path());
        command.arg("--config").arg(&self.config);
        command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program")
    }

    /// Waits until the engine knows the systems, then lets it plan to empty the host, and approves exactly
    /// that plan.
    ///
    /// # Panics
    /// Where nothing is planned within `patience`, or the approval is refused.
    pub async fn begin(&self, host: &str, patience: Duration) -> ProposalId {
        let start = Instant::now();
        let reply = loop {
            let (status, reply) = self.ask(json!({ "command": "evacuate", "host": host })).await;
            if status == 200 {
                break reply;
            }
            assert!(start.elapsed() < patience, "the evacuation is not planned: {reply}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let plan = &reply["view"]["plan"];
        let approve = json!({ "command": "approve", "proposal": reply["proposal"], "plan": plan });
        let (status, said) = self.ask(approve).await;
        assert_eq!(status, 200, "{said}");
        serde_json::from_value(reply["proposal"].clone()).expect("a proposal's number")
    }

    /// Runs it to its end with `--report json`: whether it went well, and the one object it printed.
    ///
    /// # Panics
    /// Where standard output is anything but one JSON object.
    pub fn report(&self, arguments: &[&str]) -> (bool, Value) {
        let output = self.command(arguments).args(["--report", "json"]).output().expect("the program");
        let text = String::from_utf8_lossy(&output.stdout);
        let value = serde_json::from_str(&text).unwrap_or_else(|e| {
            panic!("{e}: {text:?}, standard error: {}", String::from_utf8_lossy(&output.stderr))
        });
        (output.status.success(), value)
    }

    /// Starts an engine without a terminal, and waits until it listens.
    pub fn engine(&self, arguments: &[&str]) -> Server {
        let mut command = self.command(&["--headless"]);
        command.args(arguments);
        let deadline = Duration::from_secs(60);
        Server::start_listening("foreshift", command, self.folder.path(), loopback(self.port), deadline)
    }

    /// What the running engine shows; `None` where it does not answer.
    pub async fn try_snapshot(&self) -> Option<Snapshot> {
        let url = format!("http://127.0.0.1:{}/api/v1/snapshot", self.port);
        client().get(url).send().await.ok()?.json().await.ok()
    }

    /// The same.
    ///
    /// # Panics
    /// Where it does not answer.
    pub async fn snapshot(&self) -> Snapshot {
        self.try_snapshot().await.expect("an engine that answers")
    }

    /// Asks the running engine for something: status and answer.
    ///
    /// # Panics
    /// Where it does not answer.
    pub async fn ask(&self, command: Value) -> (u16, Value) {
        let url = format!("http://127.0.0.1:{}/api/v1/command", self.port);
        let body = json!({ "actor": "test", "command": command });
        let response = client().post(url).json(&body).send().await.expect("an engine that answers");
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }
}

/// The program without a configuration.
pub fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreshift"));
    command
        .args(arguments)
        .env_remove("FORESHIFT_CONFIG")
        .env_remove("FORESHIFT_TOKEN")
        .env_remove("RUST_LOG");
    command
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client")
}
