//! Pull and parse of a Flux answer of a million points, against the time that `curl` takes to download
//! the same answer from the same server in the same run. The answer has the shape of the recorded ones
//! (`tests/fixtures/flux/good/query-cpu-mean.http`) and is served from memory.
//!
//! `cargo bench --bench flux_pull`; prints one JSON object. The figure to keep: `ratio` ≤ 1.5.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use foreshift::fleet::{Span, Timestamp};
use foreshift::telemetry::influx::{
    Credentials, InfluxOptions, InfluxSource, Place, ReadOptions, Secret, Timeouts,
};
use foreshift::telemetry::{Source, Windows, WindowsConfig};

const START: i64 = 1_700_000_000_000;
const HOSTS: usize = 500;
const STEPS: i64 = 1000;
const FIELDS: [&str; 2] = ["usage_idle", "usage_iowait"];
const ROUNDS: usize = 9;

fn main() {
    let answer = Arc::new(answer());
    let url = serve(answer.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut ours, mut theirs, mut points) = (Vec::new(), Vec::new(), 0);
    for round in 0..=ROUNDS {
        let by_curl = curl(&url);
        let begin = Instant::now();
        let taken = runtime.block_on(pull(&url));
        let by_us = begin.elapsed().as_secs_f64();
        // The first round warms up.
        if round > 0 {
            ours.push(by_us);
            theirs.push(by_curl);
            points = taken;
        }
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    println!(
        "{}",
        serde_json::json!({
            "points": points, "answer_mb": answer.len() as f64 / 1e6,
            "pull_and_parse_s": ours, "curl_s": theirs, "ratio": ours / theirs,
            "points_per_s": points as f64 / ours,
        })
    );
}

async fn pull(url: &str) -> u64 {
    let options = InfluxOptions {
        url: url.into(),
        place: Place::Bucket { org: "o".into(), bucket: "b".into() },
        credentials: Credentials::Token(Secret::new("t")),
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
fn curl(url: &str) -> f64 {
    let out = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "-o", "/dev/null", "-w", "%{time_total}", "-X", "POST"])
        .args(["-d", "r._measurement == \\\"cpu\\\"", &format!("{url}/api/v2/query")])
        .output()
        .expect("the program curl");
    String::from_utf8_lossy(&out.stdout).trim().parse().expect("a time")
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
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let value = (noise >> 11) as f64 / (1u64 << 53) as f64 * 100.0;
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

/// Serves the answer to the query about `cpu`, nothing to the others.
fn serve(answer: Arc<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // As InfluxDB's own server does; otherwise small answers wait for acknowledgements.
            let _ = client.set_nodelay(true);
            let answer = answer.clone();
            std::thread::spawn(move || while talk(&client, &answer).is_some() {});
        }
    });
    url
}

fn talk(mut client: &TcpStream, answer: &[u8]) -> Option<()> {
    let mut request = Vec::new();
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
            break;
        }
    }
    let head =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/csv; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(head).ok()?;
    let about_cpu = String::from_utf8_lossy(&request).contains("_measurement == \\\"cpu\\\"");
    client.write_all(if about_cpu { answer } else { b"0\r\n\r\n" }).ok()
}
