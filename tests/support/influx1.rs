//! A real InfluxDB 1.x (Debian's `influxdb`) on free ports in a temporary folder.

#![allow(dead_code, unreachable_pub)]

use std::process::Command;
use std::time::Duration;

use crate::support::{Server, free_ports, loopback, need_program, wait_until_async};

/// The server; stopped when dropped.
pub struct Influx1 {
    /// Its process.
    pub server: Server,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    folder: tempfile::TempDir,
    ports: Vec<u16>,
}

impl Influx1 {
    /// Starts one; `None` where the program is absent.
    pub async fn start() -> Option<Self> {
        let program = need_program("influxd")?;
        let folder = tempfile::tempdir().expect("a folder");
        let ports = free_ports(2);
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{}\"\n[meta]\ndir = \"{}\"\n[data]\ndir = \"{}\"\n\
             wal-dir = \"{}\"\nquery-log-enabled = false\n[http]\nbind-address = \"127.0.0.1:{}\"\nlog-enabled = false\n\
             [monitor]\nstore-enabled = false\n",
            ports[1],
            path("meta"),
            path("data"),
            path("wal"),
            ports[0]
        );
        std::fs::write(folder.path().join("influxdb.conf"), config).expect("its configuration");
        let server = run(&program, &folder, ports[0]);
        let started = Self { server, url: format!("http://127.0.0.1:{}", ports[0]), folder, ports };
        started.ready().await;
        Some(started)
    }

    /// Starts it again on the same ports and data after `server.kill()` or `server.stop()`.
    pub async fn start_again(&mut self) {
        let program = need_program("influxd").expect("it was there before");
        self.server = run(&program, &self.folder, self.ports[0]);
        self.ready().await;
    }

    /// Runs a statement.
    pub async fn query(&self, database: &str, statement: &str) -> serde_json::Value {
        let response = client()
            .post(format!("{}/query", self.url))
            .query(&[("q", statement), ("db", database), ("epoch", "ms")])
            .send()
            .await
            .expect("an answer");
        response.json().await.expect("JSON")
    }

    /// Writes line protocol, times in milliseconds.
    pub async fn write(&self, database: &str, lines: String) {
        let response = client()
            .post(format!("{}/write", self.url))
            .query(&[("db", database), ("precision", "ms")])
            .body(lines)
            .send()
            .await
            .expect("an answer");
        assert!(response.status().is_success(), "{}", response.text().await.unwrap_or_default());
    }

    async fn ready(&self) {
        let ping = format!("{}/ping", self.url);
        wait_until_async("InfluxDB 1.x answers", Duration::from_secs(20), || async {
            client().get(&ping).send().await.is_ok_and(|r| r.status().is_success())
        })
        .await;
    }
}

fn run(program: &std::path::Path, folder: &tempfile::TempDir, port: u16) -> Server {
    let mut command = Command::new(program);
    command.arg("-config").arg(folder.path().join("influxdb.conf")).env("HOME", folder.path());
    Server::start_listening("influxdb", command, folder.path(), loopback(port), Duration::from_secs(20))
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client")
}
