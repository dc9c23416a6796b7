//! Real answers of an InfluxDB 2.x: recorded by standing between the client and the server, served
//! again byte for byte. One file an answer, named by what was asked.

#![allow(dead_code, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A server of one answer a connection; stopped when dropped.
pub struct Between {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Between {
    /// Answers each request with what `answer` gives for its name and its bytes; with nothing it
    /// holds its tongue for as long as the client waits.
    pub fn start(answer: impl Fn(&str, &[u8]) -> Option<Vec<u8>> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = stopped.clone();
        let thread = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                serve(client, &answer);
            }
        });
        Self { url, stopped, thread: Some(thread) }
    }

    /// Serves the files of a folder.
    pub fn replay(folder: &Path) -> Self {
        let folder = folder.to_path_buf();
        Self::start(move |name, _| Some(recorded(&folder, name)))
    }

    /// Passes everything on to `upstream` and keeps the answers in a folder.
    pub fn record(upstream: &str, folder: &Path) -> Self {
        let upstream = upstream.trim_start_matches("http://").to_string();
        let folder = folder.to_path_buf();
        Self::start(move |name, request| {
            let mut server = TcpStream::connect(&upstream).expect("the server");
            server.write_all(request).expect("written");
            let mut answer = Vec::new();
            server.read_to_end(&mut answer).expect("an answer");
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join(format!("{name}.http")), &answer).expect("kept");
            Some(answer)
        })
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The recorded answer of that name.
///
/// # Panics
/// Where there is none.
pub fn recorded(folder: &Path, name: &str) -> Vec<u8> {
    let file: PathBuf = folder.join(format!("{name}.http"));
    std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn serve(mut client: TcpStream, answer: &impl Fn(&str, &[u8]) -> Option<Vec<u8>>) {
    let _ = client.set_read_timeout(Some(Duration::from_secs(10)));
    let Some(request) = read_request(&mut client) else { return };
    match answer(&name_of(&request), &request) {
        Some(bytes) => {
            let _ = client.write_all(&bytes);
        }
        None => {
            let _ = client.read(&mut [0u8; 1]);
        }
    }
}

/// The request, asking for an end of the connection behind the answer.
fn read_request(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    let mut piece = [0u8; 4096];
    loop {
        let n = client.read(&mut piece).ok().filter(|n| *n > 0)?;
        request.extend_from_slice(&piece[..n]);
        let Some(head) = request.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
        let length =
            text.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        if request.len() >= head + 4 + length.unwrap_or(0) {
            let first = request.windows(2).position(|w| w == b"\r\n")? + 2;
            request.splice(first..first, b"Connection: close\r\n".iter().copied());
            return Some(request);
        }
    }
}

/// `api_v2_buckets`, or for a query what it is about: `query-diskio-last`.
fn name_of(request: &[u8]) -> String {
    let text = String::from_utf8_lossy(request);
    let path = text.split_ascii_whitespace().nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default().trim_matches('/').replace('/', "_");
    if path != "api_v2_query" {
        return path;
    }
    let about = |before: &str| {
        let rest = &text[text.find(before)? + before.len()..];
        Some(rest[..rest.find(['\\', ',', '"'])?].to_string())
    };
    match about("aggregateWindow(every: 10000ms, fn: ") {
        Some(function) => {
            format!("query-{}-{function}", about("r._measurement == \\\"").unwrap_or_default())
        }
        None if text.contains("schema.tagValues") => "query-hosts".into(),
        None => "query-newest".into(),
    }
}
