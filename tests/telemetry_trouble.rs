//! A real InfluxDB 1.x behind a line that becomes slow and then answers nonsense: it is said with
//! the age of the data, nothing looks healthier by it, and the gap is filled at the end.

#[path = "support/influx1.rs"]
mod influx1;
#[path = "support/program.rs"]
mod program;
mod support;
#[path = "support/telegraf.rs"]
mod telegraf;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use foreshift::fleet::{Clock, PredictionState, Span, SystemClock};
use foreshift::protocol::Snapshot;
use influx1::Influx1;
use program::Program;
use support::wait_until_async;

const LONG: Duration = Duration::from_secs(60);
const THROUGH: u8 = 0;
/// Every piece of an answer comes later than an answer may take.
const SLOW: u8 = 1;
/// `200 OK`, and then a page of something else.
const NONSENSE: u8 = 2;

/// A line to a server, in one of three moods.
struct Line {
    url: String,
    mood: Arc<AtomicU8>,
}

impl Line {
    fn to(server: &str) -> Self {
        let server = server.trim_start_matches("http://").to_string();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let mood = Arc::new(AtomicU8::new(THROUGH));
        let moody = mood.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, mood) = (server.clone(), moody.clone());
                std::thread::spawn(move || carry(client, &server, &mood));
            }
        });
        Self { url, mood }
    }

    fn become_(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }
}

/// Carries bytes both ways until one side ends.
fn carry(client: TcpStream, server: &str, mood: &AtomicU8) -> Option<()> {
    let server = TcpStream::connect(server).ok()?;
    let (mut up, mut into) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut up, &mut into);
        let _ = into.shutdown(Shutdown::Both);
    });
    let (mut server, mut client) = (server, client);
    let mut piece = [0u8; 16_384];
    loop {
        let n = server.read(&mut piece).ok().filter(|n| *n > 0);
        let Some(n) = n else {
            let _ = client.shutdown(Shutdown::Both);
            return None;
        };
        match mood.load(Ordering::SeqCst) {
            SLOW => {
                std::thread::sleep(Duration::from_secs(4));
                client.write_all(&piece[..n]).ok()?;
            }
            NONSENSE => {
                let page = "<html>It works!</html>\n";
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
                client
                    .write_all(format!("{head}Content-Length: {}\r\n\r\n{page}", page.len()).as_bytes())
                    .ok()?;
                let _ = client.shutdown(Shutdown::Both);
                return None;
            }
            _ => client.write_all(&piece[..n]).ok()?,
        }
    }
}

/// Telegraf goes on, whatever our line does.
async fn feed(server: &Influx1, seconds: i64) {
    let now = SystemClock.now().millis() / 1000;
    server.write("telegraf", telegraf::lines(4, now - seconds, now)).await;
}

fn all(snapshot: &Snapshot, unknown: bool) -> bool {
    snapshot.partitions.len() == 4
        && snapshot.partitions.iter().all(|p| (p.prediction == PredictionState::Unknown) == unknown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_and_a_senseless_server_are_named_nothing_looks_healthier_and_the_gap_is_filled() {
    let Some(server) = Influx1::start().await else { return };
    server.query("", "CREATE DATABASE telegraf").await;
    feed(&server, 1_800).await;
    let line = Line::to(&server.url);
    let program = Program::new(
        "interval = \"1s\"\nstale_after = \"20s\"",
        &format!(
            "[telemetry]\nsource = \"influxdb1\"\nurl = \"{}\"\ndatabase = \"telegraf\"\nstep = \"10s\"\ntimeout = \"2s\"",
            line.url
        ),
    );
    let _engine = program.engine(&[]);
    wait_until_async("all are judged", LONG, || async {
        feed(&server, 30).await;
        all(&program.snapshot().await, false)
    })
    .await;

    for (mood, words) in [(SLOW, "does not answer"), (NONSENSE, "nonsense")] {
        line.become_(mood);
        wait_until_async("it is said what is wrong", LONG, || async {
            feed(&server, 30).await;
            let failing = program.snapshot().await.data.failing;
            failing.is_some_and(|(reason, _)| reason.contains(words))
        })
        .await;
        wait_until_async("all are unknown", LONG, || async {
            feed(&server, 30).await;
            all(&program.snapshot().await, true)
        })
        .await;
        // And stay so, cycle after cycle, with no number that could be taken for health.
        let since = program.snapshot().await.at;
        wait_until_async("five more cycles have passed", LONG, || async {
            feed(&server, 30).await;
            let snapshot = program.snapshot().await;
            assert!(all(&snapshot, true) && snapshot.partitions.iter().all(|p| p.health.is_none()));
            snapshot.at - since > Span::seconds(5)
        })
        .await;
        let (before, newest) = {
            let data = program.snapshot().await.data;
            (data.taken, data.newest.expect("data came before"))
        };
        line.become_(THROUGH);
        wait_until_async("all are judged again", LONG, || async {
            feed(&server, 30).await;
            all(&program.snapshot().await, false)
        })
        .await;
        let after = program.snapshot().await.data;
        assert!(after.failing.is_none(), "{after:?}");
        // Every step of the gap came, for four hosts and at least the five usual metrics of each.
        let steps = (after.newest.expect("data") - newest).0 / 10_000;
        assert!(after.taken - before >= steps.unsigned_abs() * 4 * 5, "{before} {newest:?} {after:?}");
    }
}
