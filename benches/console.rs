//! The console's figures, on a real pseudo-terminal, as one JSON object:
//!
//! - `first_frame_ms`: from starting the program to the first whole picture: the demo, and an engine
//!   whose InfluxDB takes the connection and never answers. Target: under 50 ms.
//! - `key_ms`: from a key press to the first byte for the terminal, at 200×60, with 10,000 partitions
//!   in the real engine, whose source hangs, while its cycles run. Target: p99 under 16 ms.
//! - `idle`: bytes written, and how often the process woke up, while nothing changes. Target: 0 bytes.
//!   The age of the silent data changes once a minute: it is measured between two such changes, and
//!   `bytes_of_a_change` says what one costs.
//! - `inside_ms`: update, draw and encode alone, without terminal and engine.

#[path = "../tests/support/console.rs"]
mod console;
#[path = "../tests/support/pty.rs"]
mod pty;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use console::{Console, large};
use foreshift::alert::Notifier;
use foreshift::cli::moving::{self, Ground};
use foreshift::cli::settings;
use foreshift::config::Config;
use foreshift::engine::brain::Brain;
use foreshift::engine::inventory::Inventory;
use foreshift::engine::observe::PullOptions;
use foreshift::engine::{Core, EngineOptions, Live, Parts, Surroundings};
use foreshift::fleet::{Clock, PartitionId, Span, SystemClock, Timestamp};
use foreshift::protocol::{Mode, ModelStatus};
use foreshift::state::{Leadership, MemoryStore, Single, Store};
use foreshift::telemetry::{CANONICAL, Ingest, PullReport, Source, SourceError};
use foreshift::tui::terminal::FrugalBackend;
use foreshift::tui::{ConsoleOptions, Engine};
use pty::{MODERN, Pty};
use serde_json::{Value, json};

const PARTITIONS: usize = 10_000;
const SIZE: (u16, u16) = (200, 60);
const CHILD: &str = "FORESHIFT_BENCH_CONSOLE";
const KEYS: usize = 600;

fn main() {
    if std::env::var(CHILD).is_ok() {
        return fleet_whose_source_hangs();
    }
    let inside = inside();
    let first_demo = first_frames(&["demo"]);
    let first_hanging = {
        let (folder, config, _listener) = hanging_influxdb();
        let config = config.display().to_string();
        let figures = first_frames(&["--config", &config]);
        drop(folder);
        figures
    };
    let (keys, idle) = over_the_engine();
    let report = json!({
        "partitions": PARTITIONS,
        "size": format!("{}x{}", SIZE.0, SIZE.1),
        "first_frame_ms": { "demo": first_demo, "influxdb_hangs": first_hanging },
        "key_ms": keys,
        "idle": idle,
        "inside_ms": inside,
    });
    println!("{report:#}");
}

fn quantiles(mut times: Vec<Duration>) -> Value {
    times.sort();
    let at = |q: usize| times.get((times.len() * q / 100).min(times.len() - 1));
    let ms = |q| at(q).map(|t| (t.as_secs_f64() * 1e5).round() / 100.0);
    json!({ "p50": ms(50), "p99": ms(99), "max": ms(100), "n": times.len() })
}

/// From the start of the program to the last byte of its first picture.
fn first_frames(arguments: &[&str]) -> Value {
    let mut times = Vec::new();
    for _ in 0..15 {
        let home = tempfile::tempdir().expect("a folder");
        let env: Vec<(&str, &str)> =
            MODERN.iter().copied().chain([("HOME", home.path().to_str().expect("a path"))]).collect();
        let mut pty = Pty::spawn(Path::new(env!("CARGO_BIN_EXE_foreshift")), arguments, &env, SIZE);
        let end = Instant::now() + Duration::from_secs(20);
        // The footer comes last.
        while !pty.raw.lock().expect("its bytes").windows(4).any(|w| w == b"help") {
            assert!(Instant::now() < end, "no picture came: {}", pty.text());
            std::thread::sleep(Duration::from_micros(200));
        }
        times.push(*pty.last.lock().expect("a time") - pty.began);
        pty.keys("Q");
        pty.ends();
    }
    quantiles(times)
}

/// A configuration whose InfluxDB takes connections and says nothing.
fn hanging_influxdb() -> (tempfile::TempDir, std::path::PathBuf, std::net::TcpListener) {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let engine = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its own");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let data = folder.path().join("data");
    let text = format!(
        "[engine]\nlisten = \"{engine}\"\ndata_dir = {data:?}\n\
         [telemetry]\nsource = \"influxdb1\"\nurl = \"{url}\"\ndatabase = \"telegraf\"\n"
    );
    let config = folder.path().join("foreshift.toml");
    std::fs::write(&config, text).expect("a configuration");
    (folder, config, listener)
}

/// Answers the first question and no other.
struct Hanging {
    answered: AtomicBool,
}

#[async_trait::async_trait]
impl Source for Hanging {
    fn name(&self) -> String {
        "influx 10.0.0.1:8086/telegraf".to_string()
    }

    async fn pull(
        &self,
        _: Timestamp,
        until: Timestamp,
        into: &mut dyn Ingest,
    ) -> Result<PullReport, SourceError> {
        if self.answered.swap(true, Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let mut points = 0;
        for p in 0..PARTITIONS {
            let id = PartitionId::from(format!("h{:05}/p{}", p / 2, p % 2));
            for (m, metric) in CANONICAL.iter().take(4).enumerate() {
                let series = into.series(&id, metric.name);
                for back in 0..30 {
                    let value = 10.0 + ((p * 31 + m * 7 + back * 13) % 17) as f32 * 0.1;
                    into.push(series, until - Span::seconds(30 * back as i64), value);
                    points += 1;
                }
            }
        }
        Ok(PullReport { points, newest: Some(until), ..PullReport::default() })
    }

    async fn check(&self) -> Result<String, SourceError> {
        Ok("hangs".to_string())
    }
}

/// The program that is measured: the console over the real engine with a large fleet.
fn fleet_whose_source_hangs() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut config = Config::default();
        config.engine.stale_after = Span::seconds(30);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let now = clock.now();
        let options = EngineOptions { mode: Mode::Advise, ..settings::engine(&config) };
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let epoch = Single::new(store.clone()).campaign("bench").await.expect("alone");
        let ground = Ground {
            store: store.clone(),
            epoch,
            movers: HashMap::new(),
            routers: BTreeMap::new(),
            clock: clock.clone(),
            driven: foreshift::migrate::runner::Driven::InTicks,
        };
        let parts = Parts {
            brain: Brain::new(options.windows, settings::assess(&config), settings::hysteresis(&config), now),
            plan: settings::plans(&config, &HashMap::new()),
            runner: moving::runner(&config, options.mode, ground).await.expect("a runner"),
            store,
            movers: HashMap::new(),
            inventory: Inventory::default(),
            source_name: "influx 10.0.0.1:8086/telegraf".to_string(),
            models: ModelStatus::default(),
            options: options.clone(),
        };
        let core = Core::start(parts, now).await.expect("an engine");
        let step = options.windows.step;
        let around = Surroundings {
            pupil: None,
            shelf: None,
            clock,
            every: options.interval.to_std(),
            source: Arc::new(Hanging { answered: AtomicBool::new(false) }),
            history: None,
            pull: PullOptions {
                interval: Span::seconds(5),
                deadline: Span::seconds(5),
                step,
                reach: Span(step.0 * options.windows.len as i64),
            },
            sink: None,
            movers: HashMap::new(),
            notifier: Notifier::start(Vec::new()),
            intake: None,
        };
        let live = Live::start(core, around);
        let shown = ConsoleOptions { engine: Engine::Embedded, ..ConsoleOptions::default() };
        foreshift::tui::run(Arc::new(live.link.clone()), shown, console::operator())
            .await
            .expect("a console");
        live.stop().await;
    });
}

fn over_the_engine() -> (Value, Value) {
    let this = std::env::current_exe().expect("this program");
    let env: Vec<_> = MODERN.iter().copied().chain([(CHILD, "1")]).collect();
    let mut pty = Pty::spawn(&this, &[], &env, SIZE);
    let patience = Duration::from_secs(120);
    pty.within(patience, "ten thousand partitions", |text| text.contains("10000") || text.contains("10,000"));
    pty.within(patience, "that the source hangs", |text| text.contains("did not answer"));
    // Before that the first screen has no row that a key could go to.
    pty.within(patience, "that nothing is known any more", |text| text.contains("unknown 10"));
    let mut times = Vec::new();
    let mut lost = 0;
    for (to, keys) in [("1", ["j", "k"]), ("3", ["j", "k"]), ("3", ["\x1b[6~", "\x1b[5~"]), ("3", ["s", "o"])]
    {
        pty.keys(to);
        std::thread::sleep(Duration::from_millis(500));
        for i in 0..KEYS / 4 {
            let before = pty.bytes.load(Ordering::SeqCst);
            let pressed = Instant::now();
            pty.keys(keys[i % 2]);
            let end = pressed + Duration::from_millis(500);
            while pty.bytes.load(Ordering::SeqCst) == before && Instant::now() < end {
                std::thread::sleep(Duration::from_micros(50));
            }
            if pty.bytes.load(Ordering::SeqCst) == before {
                lost += 1;
            } else {
                times.push(Instant::now() - pressed);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let mut keys = quantiles(times);
    keys["unanswered"] = json!(lost);
    // Back on the first screen, when every age is in minutes.
    pty.keys("1");
    while pty.last.lock().expect("a time").elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let began = Instant::now();
    let (before, last) = (pty.bytes.load(Ordering::SeqCst), *pty.last.lock().expect("a time"));
    while *pty.last.lock().expect("a time") == last && began.elapsed() < Duration::from_secs(90) {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(500));
    let change = pty.bytes.load(Ordering::SeqCst) - before;
    let mut idle = idle(&pty, Duration::from_secs(45));
    idle["bytes_of_a_change"] = json!(change);
    pty.keys("Q");
    pty.ends();
    (keys, idle)
}

/// What the process does in `span` while nobody touches a key.
fn idle(pty: &Pty, span: Duration) -> Value {
    let process = pty.child.process_id().expect("a process");
    let (bytes, switches) = (pty.bytes.load(Ordering::SeqCst), switches(process));
    let known = pty.raw.lock().expect("its bytes").len();
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < span {
        longest = longest.max(pty.last.lock().expect("a time").elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    let seconds = began.elapsed().as_secs_f64();
    json!({
        "seconds": seconds.round(),
        "bytes": pty.bytes.load(Ordering::SeqCst) - bytes,
        "written": String::from_utf8_lossy(&pty.raw.lock().expect("its bytes")[known..]),
        "longest_silence_s": longest.as_secs_f64().round(),
        "console_threads_wakeups_per_s": {
            "console": rate(&switches, &self::switches(process), seconds, |name| name.starts_with("console-")),
            "all_with_engine": rate(&switches, &self::switches(process), seconds, |_| true),
        },
    })
}

/// Voluntary context switches by thread name.
fn switches(process: u32) -> HashMap<String, (String, u64)> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return HashMap::new() };
    threads
        .filter_map(|thread| {
            let thread = thread.ok()?;
            let name = std::fs::read_to_string(thread.path().join("comm")).ok()?.trim().to_string();
            let status = std::fs::read_to_string(thread.path().join("status")).ok()?;
            let line = status.lines().find(|l| l.starts_with("voluntary_ctxt_switches"))?;
            let count = line.split_whitespace().nth(1)?.parse().ok()?;
            Some((thread.file_name().to_string_lossy().into_owned(), (name, count)))
        })
        .collect()
}

fn rate(
    before: &HashMap<String, (String, u64)>,
    after: &HashMap<String, (String, u64)>,
    seconds: f64,
    of: impl Fn(&str) -> bool,
) -> f64 {
    let total: u64 = after
        .iter()
        .filter(|(_, (name, _))| of(name))
        .map(|(id, (_, n))| n - before.get(id).map_or(0, |(_, n)| *n))
        .sum();
    (total as f64 / seconds * 10.0).round() / 10.0
}

/// Update, draw and encode, without a terminal.
fn inside() -> Value {
    let snapshot = large(PARTITIONS);
    let mut report = serde_json::Map::new();
    for (name, to, keys) in [
        ("pulse", "", ["j", "k"]),
        ("table", "3", ["j", "k"]),
        ("page", "3", ["<pgdn>", "<pgup>"]),
        ("sort", "3", ["s", "o"]),
    ] {
        let mut c = Console::new(snapshot.clone(), SIZE);
        let mut backend = FrugalBackend::new();
        c.run(to);
        backend.frame(&c.picture());
        let times = (0..400)
            .map(|turn| {
                let began = Instant::now();
                c.run(keys[turn % 2]);
                std::hint::black_box(backend.frame(&c.picture()).len());
                began.elapsed()
            })
            .collect();
        report.insert(name.to_string(), quantiles(times));
    }
    Value::Object(report)
}
