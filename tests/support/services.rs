//! Real processes that can be started on two "hosts" (addresses of the loopback), behind a real HAProxy.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{Server, free_port, listens_at, loopback, need_program, wait_until};

/// Answers its host's name; `one` in the folder means that two must never run.
const SERVER: &str = r#"
import fcntl, http.server, os, pathlib, signal, sys, threading
host, port, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
if (folder / f"broken-{host}").exists():
    sys.exit("this host is broken")
if (folder / "one").exists():
    lock = open(folder / "lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        (folder / "two").write_text(host)
        sys.exit("another one runs")
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(host)))
        self.end_headers()
        self.wfile.write(host.encode())
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 64
server = Server((host, port), Answer)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
(folder / f"started-{host}").open("a").write("x")
server.serve_forever()
server.server_close()
"#;

/// `control start|stop|status HOST`: what an init script does.
const CONTROL: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 4
pid=$(cat "pid-$2" 2>/dev/null)
case $1 in
start)
    [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && exit 0
    setsid python3 server.py "$2" PORT "$PWD" >"log-$2" 2>&1 </dev/null &
    echo $! >"pid-$2" ;;
stop)
    [ -n "$pid" ] && kill -TERM "$pid" 2>/dev/null
    exit 0 ;;
status)
    [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && exit 0
    exit 3 ;;
esac
"#;

/// `remote HOST systemctl VERB [OPTION] UNIT`: a host that is reached by another program, with the words of
/// systemd (which does not run in a container) over the same processes.
const REMOTE: &str = r#"#!/bin/sh
host=$1 verb=$3
cd "$(dirname "$0")" || exit 255
[ -e "gone-$host" ] && { echo "$host: no route" >&2; exit 255; }
case $verb in
is-active)
    if ./control status "$host"; then echo active; else echo inactive; exit 3; fi ;;
enable) : >"enabled-$host" ;;
disable) rm -f "enabled-$host" ;;
*) ./control "$verb" "$host" ;;
esac
"#;

/// The hosts.
pub const HOSTS: [&str; 2] = ["127.0.0.11", "127.0.0.12"];

/// The service `api` on two hosts, behind HAProxy, which sends everything to the first.
pub struct Services {
    /// Where clients connect.
    pub front: SocketAddr,
    /// HAProxy's runtime socket.
    pub socket: PathBuf,
    /// The service's port on each host.
    pub port: u16,
    folder: tempfile::TempDir,
    _haproxy: Server,
}

impl Services {
    /// Starts HAProxy, and the service on the first host; `None` where a program is absent.
    pub fn start() -> Option<Self> {
        let haproxy = need_program("haproxy")?;
        need_program("python3")?;
        let folder = tempfile::tempdir().expect("a folder");
        let (port, front) = (free_port(), loopback(free_port()));
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a program");
        };
        write("server.py", SERVER);
        write("control", &CONTROL.replace("PORT", &port.to_string()));
        write("remote", REMOTE);
        let socket = folder.path().join("haproxy.sock");
        let config = folder.path().join("haproxy.cfg");
        let text = format!(
            "global\n  stats socket {} mode 600 level admin\n\
             defaults\n  mode http\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\n\
             frontend in\n  bind {front}\n  default_backend api\n\
             backend api\n  balance roundrobin\n  http-reuse never\n\
             \x20 server {}_web {}:{port} weight 100\n  server {}_web {}:{port} weight 0\n",
            socket.display(),
            HOSTS[0],
            HOSTS[0],
            HOSTS[1],
            HOSTS[1],
        );
        std::fs::write(&config, text).expect("a configuration");
        let mut command = Command::new(haproxy);
        command.arg("-db").arg("-f").arg(&config);
        let haproxy =
            Server::start_listening("haproxy", command, folder.path(), front, Duration::from_secs(20));
        // Clients are let in a moment before the socket has its name.
        wait_until("its runtime socket answers", Duration::from_secs(20), || listens_at(&socket));
        Some(Self { front, socket, port, folder, _haproxy: haproxy })
    }

    /// Where programs, marks and logs are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves or takes away a mark that servers and hosts look at.
    pub fn mark(&self, name: &str, there: bool) {
        let path = self.folder.path().join(name);
        match there {
            true => std::fs::write(path, "").expect("a mark"),
            false => drop(std::fs::remove_file(path)),
        }
    }

    /// Whether such a mark is there.
    pub fn marked(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }

    /// Runs `control ORDER HOST`: whether its exit status was 0.
    pub fn control(&self, order: &str, host: &str) -> bool {
        let program = self.folder.path().join("control");
        Command::new(program).args([order, host]).status().expect("a program").success()
    }

    /// On which hosts it runs.
    pub fn running(&self) -> Vec<&'static str> {
        HOSTS.into_iter().filter(|host| self.control("status", host)).collect()
    }

    /// Sections of a configuration that know the services and the router.
    pub fn sections(&self, more: &str) -> String {
        let control = self.folder.path().join("control").display().to_string();
        let command = |order: &str| format!("{order} = [{control:?}, \"{order}\", \"{{host}}\"]\n");
        format!(
            "[drivers.web]\nclass = \"service\"\nrouter = \"edge\"\nhosts = {HOSTS:?}\n{more}\n\
             [drivers.web.services.api]\n{}{}{}health = \"http://{{host}}:{}/\"\n\
             [drivers.edge]\nclass = \"haproxy\"\nsockets = [{:?}]\n",
            command("start"),
            command("stop"),
            command("status"),
            self.port,
            self.socket.display().to_string(),
        )
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        for host in HOSTS {
            self.control("stop", host);
        }
    }
}

/// What a client saw.
#[derive(Debug, Default)]
pub struct Served {
    /// Answers by host.
    pub by: BTreeMap<String, u64>,
    /// Requests without an answer.
    pub failed: u64,
    /// The longest time between two answers.
    pub gap: Duration,
}

/// A client that asks through HAProxy, one request after the other.
pub struct Client {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Served>,
}

impl Client {
    /// Starts asking.
    pub fn start(front: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = std::thread::spawn(move || {
            let mut served = Served::default();
            let mut last = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                match ask(front) {
                    Some(host) => {
                        *served.by.entry(host).or_default() += 1;
                        served.gap = served.gap.max(last.elapsed());
                        last = Instant::now();
                    }
                    None => served.failed += 1,
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            served
        });
        Self { stop, task }
    }

    /// What it saw.
    pub fn finish(self) -> Served {
        self.stop.store(true, Ordering::Relaxed);
        self.task.join().expect("a client")
    }
}

/// The name of the host that answers; `None` where none does.
pub fn ask(front: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(front).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_string())
}
