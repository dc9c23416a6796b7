//! The agent against this machine's own kernel files and a real InfluxDB 1.x, and a receiver of our
//! own that can be away.

#[path = "support/influx1.rs"]
mod influx1;
#[path = "support/program.rs"]
mod program;
mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use foreshift::agent::{Roots, Summary, run};
use foreshift::config::{AgentSink, Config, TelemetrySource};
use foreshift::fleet::{Span, SystemClock};
use foreshift::protocol::{AgentMessage, AgentState};
use foreshift::telemetry::Source;
use foreshift::telemetry::influx::{Credentials, InfluxOptions, InfluxSource, Place, ReadOptions, Timeouts};
use foreshift::telemetry::{Windows, WindowsConfig};
use influx1::Influx1;
use support::{Server, loopback, wait_until, wait_until_async};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(20);

fn config(spool: &Path) -> Config {
    let mut config = Config::default();
    config.agent.host = "this".into();
    config.agent.spool_dir = spool.join("spool");
    config.agent.collect_every = Span::millis(200);
    config.agent.send_every = Span::millis(500);
    config.agent.labels = [("rack".to_string(), "r1".to_string())].into();
    config
}

/// The agent in a task, and the word that stops it.
struct Running {
    stop: mpsc::Sender<()>,
    task: JoinHandle<Summary>,
}

fn start(config: &Config) -> Running {
    let (stop, stopped) = mpsc::channel(2);
    let config = config.clone();
    let task = tokio::spawn(async move {
        run(&config, Roots::default(), &SystemClock, stopped).await.expect("the agent starts")
    });
    Running { stop, task }
}

impl Running {
    async fn stop(self) -> Summary {
        self.stop.send(()).await.expect("it listens");
        tokio::time::timeout(SOON, self.task).await.expect("it stops").expect("it does not panic")
    }
}

/// An engine's ear: keeps what it is sent, or refuses.
#[derive(Clone, Default)]
struct Ear {
    heard: Arc<Mutex<Vec<AgentMessage>>>,
}

impl Ear {
    fn messages(&self) -> Vec<AgentMessage> {
        self.heard.lock().unwrap().clone()
    }

    async fn listen(&self, port: u16) -> JoinHandle<()> {
        async fn take(State(ear): State<Ear>, Json(message): Json<AgentMessage>) -> StatusCode {
            ear.heard.lock().unwrap().push(message);
            StatusCode::OK
        }
        let router = Router::new().route("/api/v1/agent", post(take)).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind(loopback(port)).await.expect("the port");
        tokio::spawn(async move { axum::serve(listener, router).await.expect("served") })
    }
}

#[tokio::test]
async fn what_it_collects_here_arrives_in_a_real_influxdb_that_was_away() {
    let Some(mut server) = Influx1::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.agent.send_to = AgentSink::Influxdb;
    config.telemetry.source = TelemetrySource::Influxdb1;
    config.telemetry.url = server.url.clone();
    config.telemetry.database = "agents".into();
    let agent = start(&config);
    let count = async |server: &Influx1| {
        let rows = server.query("agents", "SELECT count(\"mem.used\") FROM foreshift_agent").await;
        rows["results"][0]["series"][0]["values"][0][1].as_i64().unwrap_or(0)
    };
    wait_until_async("readings arrive", SOON, async || count(&server).await > 3).await;

    server.server.kill();
    let waiting = || std::fs::read_dir(folder.path().join("spool")).map_or(0, Iterator::count);
    wait_until_async("messages wait on disk", SOON, async || waiting() > 4).await;
    server.start_again().await;
    let before = count(&server).await;
    wait_until_async("what waited arrives", SOON, async || count(&server).await > before + 8).await;
    let summary = agent.stop().await;
    assert_eq!((summary.dropped, summary.waiting), (0, 0));
    let distinct = i64::try_from(summary.collections).unwrap();
    let arrived = count(&server).await;
    assert_eq!(arrived, distinct, "every reading is there, none twice");

    let options = InfluxOptions {
        url: server.url.clone(),
        place: Place::Database { database: "agents".into(), retention_policy: String::new() },
        credentials: Credentials::None,
        timeouts: Timeouts::default(),
    };
    let read = ReadOptions { every: Span::seconds(1), ..ReadOptions::default() };
    let source = InfluxSource::new(&options, read).unwrap();
    let now = foreshift::fleet::Clock::now(&SystemClock) + Span::seconds(1);
    let mut windows = Windows::new(WindowsConfig::default(), now);
    source.pull(now - Span::minutes(5), now, &mut windows).await.unwrap();
    let this = windows.partition(&"this".into()).expect("the source finds the agent's host");
    let memory = windows.latest(this, windows.metric("mem.used").unwrap(), 20).unwrap();
    assert!((0.0..100.0).contains(&memory), "{memory}");
    assert_eq!(windows.labels()[&foreshift::fleet::HostId::from("this")]["rack"], "r1");
}

#[tokio::test]
async fn every_message_is_taken_once_over_an_absence_and_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let port = support::free_port();
    let mut config = config(folder.path());
    config.agent.engines = vec![format!("http://127.0.0.1:{port}")];
    let ear = Ear::default();

    let agent = start(&config);
    let waiting = || std::fs::read_dir(folder.path().join("spool")).map_or(0, Iterator::count);
    wait_until_async("messages wait on disk", SOON, async || waiting() > 3).await;
    let first = agent.stop().await;
    assert!(first.waiting >= 3, "nobody took them: {first:?}");

    let server = ear.listen(port).await;
    let agent = start(&config);
    wait_until_async("all arrive", SOON, async || ear.messages().len() > first.waiting + 2).await;
    let second = agent.stop().await;
    server.abort();
    assert_eq!((second.waiting, second.dropped), (0, 0));
    let messages = ear.messages();
    let sequences: Vec<u64> = messages.iter().map(|m| m.sequence).collect();
    assert!(
        sequences.windows(2).all(|w| w[1] == w[0] + 1),
        "in order, none missing, none twice: {sequences:?}"
    );
    let readings: usize =
        messages.iter().map(|m| m.readings.iter().filter(|r| r.partition.is_empty()).count()).sum();
    assert_eq!(readings as u64, first.collections + second.collections);
    assert!(messages.iter().all(|m| m.host.as_str() == "this" && m.labels["rack"] == "r1"));
}

#[tokio::test]
async fn on_the_way_down_it_says_so_runs_the_hook_and_says_the_last_word() {
    let folder = tempfile::tempdir().unwrap();
    let port = support::free_port();
    let mut config = config(folder.path());
    config.agent.engines = vec![format!("http://127.0.0.1:{port}")];
    let mark = folder.path().join("unloaded");
    let hook = format!("sleep 1; echo $FORESHIFT_HOST > {}", mark.display());
    config.agent.unload_hook = ["sh", "-c", &hook].map(String::from).to_vec();
    let ear = Ear::default();
    let server = ear.listen(port).await;
    let agent = start(&config);
    wait_until_async("it runs", SOON, async || !ear.messages().is_empty()).await;
    agent.stop().await;
    server.abort();
    let mut states: Vec<AgentState> = ear.messages().iter().map(|m| m.state).collect();
    states.dedup();
    assert_eq!(states, [AgentState::Running, AgentState::PreparingForShutdown, AgentState::Stopping]);
    assert_eq!(std::fs::read_to_string(mark).unwrap(), "this\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_ends_cleanly_on_sigterm_and_what_nobody_took_stays_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (port, spool) = (support::free_port(), folder.path().join("spool"));
    let config = folder.path().join("foreshift.toml");
    let text = format!(
        "[agent]\nhost = \"this\"\nspool_dir = {spool:?}\ncollect_every = \"200ms\"\n\
         send_every = \"500ms\"\nengines = [\"http://127.0.0.1:{port}\"]\n"
    );
    std::fs::write(&config, text).unwrap();
    let start = || {
        let mut command = program::bare(&["agent", "--config"]);
        command.arg(&config).env("HOME", folder.path()).current_dir(folder.path());
        Server::start("agent", command, folder.path())
    };
    let waiting = || std::fs::read_dir(&spool).map_or(0, Iterator::count);

    let mut agent = start();
    wait_until("messages wait on disk", SOON, || waiting() > 3);
    let status = agent.stop("TERM", Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{}", agent.log_tail());
    let kept = waiting();
    assert!(kept > 3, "{kept} messages are left on disk");

    let ear = Ear::default();
    let server = ear.listen(port).await;
    let mut agent = start();
    wait_until_async("all that was kept arrives", SOON, async || ear.messages().len() > kept).await;
    let status = agent.stop("TERM", Duration::from_secs(10));
    server.abort();
    assert_eq!(status.code(), Some(0), "{}", agent.log_tail());
    let sequences: Vec<u64> = ear.messages().iter().map(|m| m.sequence).collect();
    assert!(sequences.windows(2).all(|w| w[1] == w[0] + 1), "none is missing, none twice: {sequences:?}");
    assert_eq!(ear.messages().last().map(|m| m.state), Some(AgentState::Stopping));
}
