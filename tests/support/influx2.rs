//! A real InfluxDB 2.x: the program that `FORESHIFT_TEST_INFLUXD` names, started in a temporary
//! folder and set up over its API, or a running one at `FORESHIFT_TEST_INFLUXDB_URL` with
//! `FORESHIFT_TEST_INFLUXDB_TOKEN` and `FORESHIFT_TEST_INFLUXDB_ORG`.

#![allow(dead_code, unreachable_pub)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::{Server, free_port, loopback, wait_until_async};

/// The server; stopped when dropped, where we started it.
pub struct Influx2 {
    /// Its process; `None` where it runs without us.
    pub server: Option<Server>,
    /// `http://HOST:PORT`.
    pub url: String,
    /// The organisation.
    pub org: String,
    /// A token that may do everything.
    pub token: String,
    program: Option<PathBuf>,
    folder: tempfile::TempDir,
    port: u16,
}

impl Influx2 {
    /// Starts one or finds the running one; `None`, with a word, where there is neither. This is the
    /// one server whose absence is no failure in CI: Debian has no package of it.
    pub async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        if let Ok(url) = std::env::var("FORESHIFT_TEST_INFLUXDB_URL") {
            let word = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
            let token = word("FORESHIFT_TEST_INFLUXDB_TOKEN");
            let org = word("FORESHIFT_TEST_INFLUXDB_ORG");
            return Some(Self { server: None, url, org, token, program: None, folder, port: 0 });
        }
        let Some(program) = std::env::var_os("FORESHIFT_TEST_INFLUXD").map(PathBuf::from) else {
            println!("skipped: needs FORESHIFT_TEST_INFLUXD (a program) or FORESHIFT_TEST_INFLUXDB_URL");
            return None;
        };
        let port = free_port();
        let server = run(&program, &folder, port);
        let started = Self {
            server: Some(server),
            url: format!("http://127.0.0.1:{port}"),
            org: "foreshift".into(),
            token: "a-token-for-tests".into(),
            program: Some(program),
            folder,
            port,
        };
        started.ready().await;
        started.set_up().await;
        Some(started)
    }

    /// Starts it again on the same port and data.
    pub async fn start_again(&mut self) {
        let program = self.program.clone().expect("a program of ours");
        self.server = Some(run(&program, &self.folder, self.port));
        self.ready().await;
    }

    /// A bucket of its own for a test, kept for so many days (0 = for ever).
    pub async fn bucket(&self, days: i64) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let orgs: serde_json::Value =
            self.send(client().get(format!("{}/api/v2/orgs", self.url)).query(&[("org", &self.org)])).await;
        let rules = if days == 0 {
            serde_json::json!([])
        } else {
            serde_json::json!([{"type": "expire", "everySeconds": days * 86_400}])
        };
        let body = serde_json::json!({"orgID": orgs["orgs"][0]["id"], "name": name, "retentionRules": rules});
        self.send(client().post(format!("{}/api/v2/buckets", self.url)).json(&body)).await;
        name
    }

    /// A token that may read one bucket, and write to another where that is named; nothing else.
    pub async fn token_for(&self, read: &str, write: Option<&str>) -> String {
        let mut permissions = Vec::new();
        let mut org = serde_json::Value::Null;
        for (action, name) in [("read", Some(read)), ("write", write)] {
            let Some(name) = name else { continue };
            let query = [("org", self.org.as_str()), ("name", name)];
            let found = self.send(client().get(format!("{}/api/v2/buckets", self.url)).query(&query)).await;
            let bucket = &found["buckets"][0];
            org = bucket["orgID"].clone();
            permissions.push(serde_json::json!({
                "action": action, "resource": {"type": "buckets", "id": bucket["id"], "orgID": org}
            }));
        }
        let body = serde_json::json!({"orgID": org, "permissions": permissions});
        let made = self.send(client().post(format!("{}/api/v2/authorizations", self.url)).json(&body)).await;
        made["token"].as_str().expect("a token").to_string()
    }

    /// Writes line protocol, times in milliseconds.
    pub async fn write(&self, bucket: &str, lines: String) {
        self.send(
            client()
                .post(format!("{}/api/v2/write", self.url))
                .query(&[("org", self.org.as_str()), ("bucket", bucket), ("precision", "ms")])
                .body(lines),
        )
        .await;
    }

    /// The answer to a Flux query as text.
    pub async fn query(&self, flux: &str) -> String {
        let response = client()
            .post(format!("{}/api/v2/query", self.url))
            .query(&[("org", &self.org)])
            .header("Authorization", format!("Token {}", self.token))
            .header("Content-Type", "application/vnd.flux")
            .body(flux.to_string())
            .send()
            .await
            .expect("an answer");
        response.text().await.expect("text")
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> serde_json::Value {
        let request = request.header("Authorization", format!("Token {}", self.token));
        let response = request.send().await.expect("an answer");
        let status = response.status();
        let body = response.text().await.expect("a body");
        assert!(status.is_success(), "{status}: {body}");
        serde_json::from_str(&body).unwrap_or_default()
    }

    async fn ready(&self) {
        let health = format!("{}/health", self.url);
        wait_until_async("InfluxDB 2.x answers", Duration::from_secs(60), || async {
            client().get(&health).send().await.is_ok_and(|r| r.status().is_success())
        })
        .await;
    }

    async fn set_up(&self) {
        let body = serde_json::json!({
            "username": "tests", "password": "password-for-tests", "org": self.org, "bucket": "first",
            "token": self.token, "retentionPeriodSeconds": 0
        });
        self.send(client().post(format!("{}/api/v2/setup", self.url)).json(&body)).await;
    }
}

fn run(program: &std::path::Path, folder: &tempfile::TempDir, port: u16) -> Server {
    let path = |name: &str| folder.path().join(name);
    let mut command = Command::new(program);
    command
        .arg("run")
        .arg("--bolt-path")
        .arg(path("influxd.bolt"))
        .arg("--engine-path")
        .arg(path("engine"))
        .arg("--sqlite-path")
        .arg(path("influxd.sqlite"))
        .arg("--http-bind-address")
        .arg(format!("127.0.0.1:{port}"))
        .arg("--reporting-disabled")
        .env("HOME", folder.path());
    Server::start_listening("influxd", command, folder.path(), loopback(port), Duration::from_secs(60))
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().expect("a client")
}
