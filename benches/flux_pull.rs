//! Pull and parse of a Flux answer of a million points, against the time that `curl` takes to download
//! the same answer from the same server in the same run: the same query byte for byte, neither packed.
//!
//! Two servers. `memory`: an answer of the shape of the recorded ones
//! (`tests/fixtures/flux/good/query-cpu-mean.http`), served from memory as fast as it is taken.
//! `influxdb`: a real InfluxDB 2.x with the same points, where there is one (`FORESHIFT_TEST_INFLUXD`
//! or `FORESHIFT_TEST_INFLUXDB_URL`). Ours is a whole pull: the queries for the other measurements,
//! whose answers are empty, are part of it.
//!
//! `cargo bench --bench flux_pull`; prints one JSON object. The figure to keep: `ratio` ≤ 1.5.

#[path = "../tests/support/influx2.rs"]
mod influx2;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use foreshift::fleet::{Span, Timestamp};
use foreshift::telemetry::influx::{
    Credentials, InfluxOptions, InfluxSource, Place, ReadOptions, Secret, Timeouts,
};
use foreshift::telemetry::{Source, Windows, WindowsConfig};
use influx2::Influx2;
use tokio::runtime::Runtime;

const START: i64 = 1_700_000_000_000;
const HOSTS: usize = 500;
const STEPS: i64 = 1000;
const FIELDS: [&str; 2] = ["usage_idle", "usage_iowait"];
const ROUNDS: usize = 9;
/// A real server takes seconds for an answer.
const ROUNDS_OF_A_SERVER: usize = 3;

/// Where an answer comes from.
struct Place1M {
    url: String,
    org: String,
    bucket: String,
    token: String,
}

fn main() {
    // As the program: several threads.
    let runtime = Runtime::new().expect("a runtime");
    let answer = Arc::new(answer());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let url = serve(answer.clone(), asked.clone());
    let words = |word: &str| word.to_string();
    let memory = Place1M { url, org: words("o"), bucket: words("b"), token: words("t") };
    let from_memory = measure(&runtime, &memory, &asked, ROUNDS);
    let server = runtime.block_on(filled());
    let from_server = server.map(|(_server, place)| {
        let recorder = serve(Arc::default(), asked.clone());
        let same = Place1M {
            url: recorder,
            org: place.org.clone(),
            bucket: place.bucket.clone(),
            token: words("t"),
        };
        // What we would ask of the real one, for curl.
        runtime.block_on(pull(&same));
        measure(&runtime, &place, &asked, ROUNDS_OF_A_SERVER)
    });
    println!(
        "{}",
        serde_json::json!({
            "answer_mb": answer.len() as f64 / 1e6, "memory": from_memory, "influxdb": from_server,
        })
    );
}

/// Ours and curl's in turn, each first every second time; the first round warms up.
fn measure(runtime: &Runtime, place: &Place1M, asked: &Mutex<Vec<u8>>, rounds: usize) -> serde_json::Value {
    let (mut ours, mut theirs, mut points) = (Vec::new(), Vec::new(), 0);
    // The server notes the query down again while curl asks it.
    let noted = || asked.lock().expect("a query").clone();
    for round in 0..=rounds {
        let mut pulled = || {
            let begin = Instant::now();
            points = runtime.block_on(pull(place));
            begin.elapsed().as_secs_f64()
        };
        let (by_us, by_curl) = if round % 2 == 0 {
            let by_us = pulled();
            (by_us, curl(place, &noted()))
        } else {
            let by_curl = curl(place, &noted());
            (pulled(), by_curl)
        };
        if round > 0 {
            ours.push(by_us);
            theirs.push(by_curl);
        }
    }
    let mut ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    let ratio = median(&mut ratios);
    serde_json::json!({
        "points": points, "pull_and_parse_s": ours, "curl_s": theirs, "ratio": ratio,
        "ratio_min": ratios[0], "ratio_max": ratios[ratios.len() - 1], "points_per_s": points as f64 / ours,
    })
}

async fn pull(place: &Place1M) -> u64 {
    let options = InfluxOptions {
        url: place.url.clone(),
        place: Place::Bucket { org: place.org.clone(), bucket: place.bucket.clone() },
        credentials: Credentials::Token(Secret::new(&place.token)),
        timeouts: Timeouts::default(),
    };
    let source = InfluxSource::new(&options, ReadOptions::default()).expect("a source");
    let (since, until) = (Timestamp(START), Timestamp(START) + Span::seconds(10 * STEPS));
    let config = WindowsConfig { len: 400, ..WindowsConfig::default() };
    let mut windows = Windows::new(config, until);
    let report = source.pull(since, until, &mut windows).await.expect("an answer");
    assert_eq!(windows.counters().taken, report.points);
    report.points
}

/// The time of the transfer alone, as curl itself measures it: its start-up does not count.
fn curl(place: &Place1M, query: &[u8]) -> f64 {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(query).expect("a query");
    let out = Command::new("curl")
        .args(["-sS", "--fail", "--noproxy", "*", "-o", "/dev/null", "-w", "%{time_total}", "-X", "POST"])
        .args(["-H", "Content-Type: application/json", "-H", "Accept: application/csv"])
        .args(["-H", &format!("Authorization: Token {}", place.token)])
        .args(["--data-binary", &format!("@{}", file.path().display())])
        .arg(format!("{}/api/v2/query?org={}", place.url, place.org))
        .output()
        .expect("the program curl");
    assert!(out.status.success(), "curl: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().parse().expect("a time")
}

/// A real server with the same points, where there is one.
async fn filled() -> Option<(Influx2, Place1M)> {
    let server = Influx2::start().await?;
    let bucket = server.bucket(0).await;
    let mut noise = 1;
    for steps in (0..STEPS).collect::<Vec<_>>().chunks(20) {
        let mut lines = String::new();
        for step in steps {
            for host in 0..HOSTS {
                let (idle, wait, at) = (value(&mut noise), value(&mut noise), START + step * 10_000);
                let _ = writeln!(
                    lines,
                    "cpu,cpu=cpu-total,host=web-{host},rack=r{},site=fra usage_idle={idle},usage_iowait={wait} {at}",
                    host % 40
                );
            }
        }
        server.write(&bucket, lines).await;
    }
    let place =
        Place1M { url: server.url.clone(), org: server.org.clone(), bucket, token: server.token.clone() };
    Some((server, place))
}

/// A percentage with as many digits as there are.
fn value(noise: &mut u64) -> f64 {
    *noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*noise >> 11) as f64 / (1u64 << 53) as f64 * 100.0
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The body, in the chunks that the server sends.
fn answer() -> Vec<u8> {
    let mut csv = String::from(
        "#datatype,string,long,dateTime:RFC3339,double,string,string,string,string\r\n\
         #group,false,false,false,false,true,true,true,true\r\n#default,_result,,,,,,,\r\n\
         ,result,table,_time,_value,_field,host,rack,site\r\n",
    );
    let mut table = 0;
    let mut noise = 0x9E37_79B9_7F4A_7C15u64;
    for field in FIELDS {
        for host in 0..HOSTS {
            for step in 0..STEPS {
                let value = value(&mut noise);
                let at = jiff::Timestamp::from_millisecond(START + step * 10_000).expect("a time");
                let _ = write!(csv, ",,{table},{at},{value},{field},web-{host},r{},fra\r\n", host % 40);
            }
            table += 1;
        }
    }
    let mut chunked = Vec::with_capacity(csv.len() + csv.len() / 1000);
    for piece in csv.as_bytes().chunks(32 << 10) {
        let _ = write!(chunked, "{:x}\r\n", piece.len());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    chunked
}

/// Serves the answer to the query about `cpu`, which it notes down, and nothing to the others.
fn serve(answer: Arc<Vec<u8>>, asked: Arc<Mutex<Vec<u8>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // As InfluxDB's own server does; otherwise small answers wait for acknowledgements.
            let _ = client.set_nodelay(true);
            let (answer, asked) = (answer.clone(), asked.clone());
            std::thread::spawn(move || while talk(&client, &answer, &asked).is_some() {});
        }
    });
    url
}

fn talk(mut client: &TcpStream, answer: &[u8], asked: &Mutex<Vec<u8>>) -> Option<()> {
    let mut request = Vec::new();
    let body;
    let mut piece = [0u8; 8192];
    loop {
        let n = client.read(&mut piece).ok().filter(|n| *n > 0)?;
        request.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&request);
        let Some(head) = text.find("\r\n\r\n") else { continue };
        let length = text[..head]
            .to_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok())
            .unwrap_or(0);
        if request.len() >= head + 4 + length {
            body = request[head + 4..].to_vec();
            break;
        }
    }
    let head =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/csv; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(head).ok()?;
    let about_cpu = String::from_utf8_lossy(&body).contains("_measurement == \\\"cpu\\\"");
    if about_cpu {
        *asked.lock().ok()? = body;
    }
    client.write_all(if about_cpu && !answer.is_empty() { answer } else { b"0\r\n\r\n" }).ok()
}
